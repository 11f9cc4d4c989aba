package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"google.golang.org/grpc"

	"github.com/heddle-ledger/heddle/internal/rpc"
)

// OrdererFlags are the flags that say how to reach the ordering service.
type OrdererFlags struct {
	Endpoint         string
	TLS              bool
	ClientAuth       bool
	CAFile           string
	KeyFile          string
	CertFile         string
	HostnameOverride string
	ConnTimeout      time.Duration
	TimeShift        time.Duration
}

// Register adds the flags to a command group.
func (o *OrdererFlags) Register(fs *pflag.FlagSet) {
	fs.StringVarP(&o.Endpoint, "orderer", "o", "", "Ordering service endpoint")
	fs.BoolVar(&o.TLS, "tls", false, "Use TLS when communicating with the orderer endpoint")
	fs.BoolVar(&o.ClientAuth, "clientauth", false, "Use mutual TLS when communicating with the orderer endpoint")
	fs.StringVar(&o.CAFile, "cafile", "", "Path to file containing PEM-encoded trusted certificate(s) for the ordering endpoint")
	fs.StringVar(&o.KeyFile, "keyfile", "", "Path to file containing PEM-encoded private key to use for mutual TLS communication with the orderer endpoint")
	fs.StringVar(&o.CertFile, "certfile", "", "Path to file containing PEM-encoded X509 public key to use for mutual TLS communication with the orderer endpoint")
	fs.StringVar(&o.HostnameOverride, "ordererTLSHostnameOverride", "", "The hostname override to use when validating the TLS connection to the orderer.")
	fs.DurationVar(&o.ConnTimeout, "connTimeout", rpc.DefaultDialTimeout, "Timeout for client to connect")
	fs.DurationVar(&o.TimeShift, "tlsHandshakeTimeShift", 0, "The amount of time to shift backwards for certificate expiration checks during TLS handshakes with the orderer endpoint")
}

// Valid tells whether the endpoint has the form host:port.
func (o *OrdererFlags) Valid() bool { return len(strings.Split(o.Endpoint, ":")) == 2 }

// CheckEndpoint refuses an endpoint that is not of the form host:port.
func (o *OrdererFlags) CheckEndpoint() error {
	if !o.Valid() {
		return fmt.Errorf("ordering service endpoint %s is not valid or missing", o.Endpoint)
	}
	return nil
}

// Conn is a connection to a node.
type Conn struct {
	*grpc.ClientConn
	Address string
	// CertHash is SHA-256 of the client's TLS certificate, nil if it uses none.
	CertHash []byte
}

// loader reads the TLS files of one kind of connection.
type loader struct {
	kind   string // PeerClient or OrdererClient, in error texts
	prefix string // peer or orderer
	err    error
}

func (l *loader) read(key, path string) []byte {
	if l.err != nil {
		return nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		l.err = fmt.Errorf("failed to load config for %s: unable to load %s.tls.%s.file: %w", l.kind, l.prefix, key, err)
	}
	return text
}

// resolve makes a file name of an orderer flag absolute: it is relative to the
// directory of core.yaml (CHAINCODE §9.2).
func (e *Env) resolve(path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(e.Core.Directory, path)
}

// DialOrderer connects to the ordering service.
func (e *Env) DialOrderer(ctx context.Context, o *OrdererFlags) (*Conn, error) {
	c := rpc.ClientConfig{
		TLS: o.TLS, ServerName: o.HostnameOverride, TimeShift: o.TimeShift, Timeout: o.ConnTimeout, Log: e.Logging.Root(),
	}
	l := loader{kind: "OrdererClient", prefix: "orderer"}
	if o.TLS {
		c.Roots = [][]byte{l.read("rootcert", e.resolve(o.CAFile))}
	}
	if o.ClientAuth {
		c.Key = l.read("clientKey", e.resolve(o.KeyFile))
		c.Certificate = l.read("clientCert", e.resolve(o.CertFile))
	}
	if l.err != nil {
		return nil, l.err
	}
	return dial(ctx, "orderer", o.Endpoint, c)
}

// PeerTarget is a peer to talk to.
type PeerTarget struct {
	Address string
	// RootFile is the file of the TLS root, relative to the working directory.
	// Empty: that of the configuration.
	RootFile string
}

// DialPeer connects to a peer; service is "endorser", "deliver" or "admin" and
// appears in error texts. The zero target is the peer of the configuration.
func (e *Env) DialPeer(ctx context.Context, service string, t PeerTarget) (*Conn, error) {
	p := e.Core.Peer
	if t.Address == "" {
		t.Address = p.Address
	}
	c, err := e.peerClient(t)
	if err != nil {
		return nil, err
	}
	return dial(ctx, service, t.Address, c)
}

func (e *Env) peerClient(t PeerTarget) (rpc.ClientConfig, error) {
	p := e.Core.Peer
	c := rpc.ClientConfig{
		TLS: p.TLS.Enabled, ServerName: p.TLS.ServerHostOverride, TimeShift: p.TLS.HandshakeTimeShift,
		Timeout: p.ClientConnTimeout, Log: e.Logging.Root(),
	}
	if !c.TLS {
		return c, nil
	}
	root := t.RootFile
	if root == "" {
		root = p.TLS.RootCert
	}
	l := loader{kind: "PeerClient", prefix: "peer"}
	c.Roots = [][]byte{l.read("rootcert", root)}
	if p.TLS.ClientAuthRequired {
		c.Key = l.read("clientKey", p.TLS.ClientKey)
		c.Certificate = l.read("clientCert", p.TLS.ClientCert)
	}
	return c, l.err
}

func dial(ctx context.Context, service, address string, c rpc.ClientConfig) (*Conn, error) {
	hash, err := c.CertHash()
	if err != nil {
		return nil, fmt.Errorf("failed to create new connection: %w", err)
	}
	conn, err := rpc.Dial(ctx, address, c)
	if err != nil {
		return nil, fmt.Errorf("%s client failed to connect to %s: failed to create new connection: %w", service, address, err)
	}
	return &Conn{ClientConn: conn, Address: address, CertHash: hash}, nil
}
