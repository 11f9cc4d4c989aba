package rpc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/heddle-ledger/heddle/internal/flog"
)

// cipherSuites are the TLS 1.2 suites of the reference (SURFACE §2.2).
func cipherSuites() []uint16 {
	return []uint16{
		tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_RSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_RSA_WITH_AES_256_GCM_SHA384,
	}
}

// TLSConfig is the TLS part of a server's configuration. Certificates and keys
// are PEM text, not file names.
type TLSConfig struct {
	Enabled     bool
	Certificate []byte
	Key         []byte
	// ClientAuth requires a client certificate under ClientRoots. Without it
	// one is still asked for, and accepted unverified.
	ClientAuth  bool
	ClientRoots [][]byte
	// TimeShift moves the clock by which peer certificates are judged back.
	TimeShift time.Duration
}

// certPool collects the certificates of several PEM texts. Texts without any
// certificate are an error.
func certPool(pems [][]byte) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	for _, p := range pems {
		if err := addPEM(pool, p); err != nil {
			return nil, err
		}
	}
	return pool, nil
}

func addPEM(pool *x509.CertPool, text []byte) error {
	found := false
	for rest := text; ; {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			break
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return fmt.Errorf("parse certificate: %w", err)
		}
		pool.AddCert(cert)
		found = true
	}
	if !found {
		return errors.New("no PEM certificate found")
	}
	return nil
}

// serverTLS holds the TLS settings of a running server. The configuration is
// replaced whole when the client roots change.
type serverTLS struct {
	base    *tls.Config
	current atomic.Pointer[tls.Config]
}

func newServerTLS(c TLSConfig) (*serverTLS, error) {
	pair, err := tls.X509KeyPair(c.Certificate, c.Key)
	if err != nil {
		return nil, err
	}
	base := &tls.Config{
		Certificates:           []tls.Certificate{pair},
		MinVersion:             tls.VersionTLS12,
		MaxVersion:             tls.VersionTLS12,
		CipherSuites:           cipherSuites(),
		SessionTicketsDisabled: true,
		NextProtos:             []string{"h2"},
		ClientAuth:             tls.RequestClientCert,
	}
	if c.ClientAuth {
		base.ClientAuth = tls.RequireAndVerifyClientCert
	}
	if c.TimeShift > 0 {
		base.Time = func() time.Time { return time.Now().Add(-c.TimeShift) }
	}
	s := &serverTLS{base: base}
	if err := s.setClientRoots(c.ClientRoots); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *serverTLS) setClientRoots(roots [][]byte) error {
	pool, err := certPool(roots)
	if err != nil {
		return fmt.Errorf("client root certificates: %w", err)
	}
	conf := s.base.Clone()
	conf.ClientCAs = pool
	s.current.Store(conf)
	return nil
}

func (s *serverTLS) credentials(c ServerConfig) credentials.TransportCredentials {
	conf := s.base.Clone()
	conf.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return s.current.Load(), nil }
	return &loggedCredentials{
		TransportCredentials: credentials.NewTLS(conf), name: c.Name, log: c.Log.Named("core.comm"),
	}
}

// loggedCredentials reports failed handshakes of clients, which the gRPC library
// keeps to itself.
type loggedCredentials struct {
	credentials.TransportCredentials
	name string
	log  *flog.Logger
}

func (l *loggedCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	begin := time.Now()
	c, info, err := l.TransportCredentials.ServerHandshake(conn)
	if err != nil {
		l.log.Errorw(fmt.Sprintf("Server TLS handshake failed in %s with error %s", time.Since(begin), err),
			"server", l.name, "remote address", conn.RemoteAddr().String())
	}
	return c, info, err
}

func (l *loggedCredentials) Clone() credentials.TransportCredentials {
	return &loggedCredentials{TransportCredentials: l.TransportCredentials.Clone(), name: l.name, log: l.log}
}

// loggedClientCredentials reports failed handshakes with servers and remembers
// the last failure for Dial.
type loggedClientCredentials struct {
	credentials.TransportCredentials
	log *flog.Logger
}

func (l *loggedClientCredentials) ClientHandshake(ctx context.Context, host string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	begin := time.Now()
	c, info, err := l.TransportCredentials.ClientHandshake(ctx, host, conn)
	if err != nil {
		l.log.Errorw(fmt.Sprintf("Client TLS handshake failed after %s with error: %s", time.Since(begin), err),
			"remote address", conn.RemoteAddr().String())
	}
	return c, info, err
}

func (l *loggedClientCredentials) Clone() credentials.TransportCredentials {
	return &loggedClientCredentials{TransportCredentials: l.TransportCredentials.Clone(), log: l.log}
}
