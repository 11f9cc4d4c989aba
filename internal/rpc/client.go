package rpc

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/heddle-ledger/heddle/internal/flog"
)

// DefaultDialTimeout limits Dial.
const DefaultDialTimeout = 3 * time.Second

// ClientConfig configures a connection. Certificates and keys are PEM texts.
type ClientConfig struct {
	TLS         bool
	Roots       [][]byte // certificate authorities of the server; no others are trusted
	Certificate []byte   // own certificate and key, both or neither
	Key         []byte
	ServerName  string        // overrides the host of the address
	TimeShift   time.Duration // moves the clock by which the server's certificate is judged back
	KeepAlive   ClientKeepAlive
	Timeout     time.Duration // of Dial, default DefaultDialTimeout
	Dialer      func(ctx context.Context, address string) (net.Conn, error)
	Log         *flog.Logger
}

// ClientKeepAlive holds a client's keepalive settings; zero values select the
// defaults of the reference.
type ClientKeepAlive struct {
	Interval time.Duration // default 60 s
	Timeout  time.Duration // default 20 s
}

// CertHash is SHA-256 of the DER form of the client's own certificate, nil if
// the connection presents none.
func (c ClientConfig) CertHash() ([]byte, error) {
	if !c.TLS || len(c.Certificate) == 0 {
		return nil, nil
	}
	pair, err := tls.X509KeyPair(c.Certificate, c.Key)
	if err != nil {
		return nil, fmt.Errorf("client key pair: %w", err)
	}
	sum := sha256.Sum256(pair.Certificate[0])
	return sum[:], nil
}

func (c ClientConfig) credentials() (credentials.TransportCredentials, error) {
	if !c.TLS {
		return insecure.NewCredentials(), nil
	}
	roots, err := certPool(c.Roots)
	if err != nil {
		return nil, fmt.Errorf("error adding root certificate: %w", err)
	}
	conf := &tls.Config{
		RootCAs: roots, MinVersion: tls.VersionTLS12, ServerName: c.ServerName, CipherSuites: cipherSuites(),
	}
	if len(c.Certificate) > 0 {
		pair, err := tls.X509KeyPair(c.Certificate, c.Key)
		if err != nil {
			return nil, fmt.Errorf("failed to load client certificate: %w", err)
		}
		// Present it whatever authorities the server names: it may only want
		// to see which certificate the client binds its messages to.
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	if c.TimeShift > 0 {
		conf.Time = func() time.Time { return time.Now().Add(-c.TimeShift) }
	}
	creds := credentials.NewTLS(conf)
	if c.Log == nil {
		return creds, nil
	}
	return &loggedClientCredentials{TransportCredentials: creds, log: c.Log.Named("comm.tls")}, nil
}

// NewClient makes a connection that dials in the background when it is first
// used.
func NewClient(address string, c ClientConfig) (*grpc.ClientConn, error) {
	creds, err := c.credentials()
	if err != nil {
		return nil, err
	}
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessageSize), grpc.MaxCallSendMsgSize(MaxMessageSize)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time:                orDefault(c.KeepAlive.Interval, time.Minute),
			Timeout:             orDefault(c.KeepAlive.Timeout, 20*time.Second),
			PermitWithoutStream: true,
		}),
		grpc.WithInitialWindowSize(1 << 20), grpc.WithInitialConnWindowSize(1 << 21),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: time.Second, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 10 * time.Second}}),
		grpc.WithNoProxy(), grpc.WithDisableServiceConfig(),
	}
	if c.Dialer != nil {
		opts = append(opts, grpc.WithContextDialer(c.Dialer))
	}
	return grpc.NewClient("passthrough:///"+address, opts...)
}

// Dial connects and waits until the connection is ready; without TLS, until the
// TCP connection stands, so that a plaintext client of a TLS server finds out
// when it calls. A refused or unresolvable address fails at once; a TLS failure
// or a silent server fails when the timeout has passed (SURFACE §1.5, connect
// errors).
func Dial(ctx context.Context, address string, c ClientConfig) (*grpc.ClientConn, error) {
	ctx, cancel := context.WithTimeout(ctx, orDefault(c.Timeout, DefaultDialTimeout))
	defer cancel()
	dialed := make(chan error, 1)
	dial := c.Dialer
	if dial == nil {
		var d net.Dialer
		dial = func(ctx context.Context, a string) (net.Conn, error) { return d.DialContext(ctx, "tcp", a) }
	}
	c.Dialer = func(ctx context.Context, a string) (net.Conn, error) {
		conn, err := dial(ctx, a)
		if err != nil || !c.TLS {
			select {
			case dialed <- err:
			default:
			}
		}
		return conn, err
	}
	conn, err := NewClient(address, c)
	if err != nil {
		return nil, err
	}
	if err := waitReady(ctx, conn, dialed); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

func waitReady(ctx context.Context, conn *grpc.ClientConn, dialed <-chan error) error {
	changed := make(chan struct{})
	watch, stop := context.WithCancel(ctx)
	defer stop()
	conn.Connect()
	go func() {
		defer close(changed)
		for s := conn.GetState(); s != connectivity.Ready; s = conn.GetState() {
			if !conn.WaitForStateChange(watch, s) {
				return
			}
			if conn.GetState() == connectivity.Idle {
				conn.Connect()
			}
		}
	}()
	select {
	case err := <-dialed:
		stop()
		<-changed
		if err == nil {
			return nil
		}
		return fmt.Errorf("connection error: desc = \"transport: error while dialing: %w\"", err)
	case <-changed:
		if conn.GetState() == connectivity.Ready {
			return nil
		}
		return ctx.Err()
	}
}
