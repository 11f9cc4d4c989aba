package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"os"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/heddle-ledger/heddle/internal/csp"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/testnet"
	"github.com/heddle-ledger/heddle/internal/txbuild"
	"github.com/heddle-ledger/heddle/msp/x509msp"
)

// client talks gRPC to the nodes of a network, as an SDK does.
type client struct {
	*testnet.Client
	t *testing.T
}

// client connects a user to all nodes.
func (n *network) client(i int, name string) *client {
	n.t.Helper()
	c := &testnet.Client{
		Signer:  loadSigner(n.t, n.userDir(i, name)+"/msp", []string{"Org1MSP", "Org2MSP"}[i]),
		Orderer: n.dial(n.ordererAddress(), n.ordererCA()),
	}
	for p := range n.peers {
		c.Peers = append(c.Peers, n.dial(n.peerAddress(p), n.peerDir(p)+"/tls/ca.crt"))
	}
	return &client{c, n.t}
}

// as is the same client with another identity.
func (c *client) as(s txbuild.Signer) *client { return &client{c.As(s), c.t} }

func loadSigner(t *testing.T, dir, mspID string) txbuild.Signer {
	t.Helper()
	l, err := x509msp.LoadLocal(x509msp.LocalConfig{
		Dir: dir, MSPID: mspID, Log: flog.Nop(),
		BCCSP: csp.Config{Default: "SW", SW: &csp.SWConfig{Hash: "SHA2", Security: 256}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return l.SigningIdentity()
}

func (n *network) dial(address, ca string) *grpc.ClientConn {
	n.t.Helper()
	creds := insecure.NewCredentials()
	if !n.noTLS {
		roots := x509.NewCertPool()
		pem, err := os.ReadFile(ca)
		if err != nil || !roots.AppendCertsFromPEM(pem) {
			n.t.Fatalf("read %s: %v", ca, err)
		}
		creds = credentials.NewTLS(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12})
	}
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(creds),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(200<<20), grpc.MaxCallSendMsgSize(200<<20)))
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { conn.Close() })
	return conn
}

// proposal makes an unsigned proposal.
func (c *client) proposal(channel, chaincode string, args ...string) *txbuild.Proposal {
	c.t.Helper()
	p, err := c.Proposal(channel, chaincode, testnet.Args(args...)...)
	if err != nil {
		c.t.Fatal(err)
	}
	return p
}

// invoke has a transaction of the sample chaincode endorsed by both peers and
// ordered.
func (c *client) invoke(ctx context.Context, args ...string) (string, error) {
	return c.Invoke(ctx, []int{0, 1}, "mychannel", "asset", testnet.Args(args...)...)
}
