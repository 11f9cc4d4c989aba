package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/orderer"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/heddle-ledger/heddle/internal/csp"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/txbuild"
	"github.com/heddle-ledger/heddle/msp/x509msp"
)

// client talks gRPC to the nodes of a network, as an SDK does.
type client struct {
	t       *testing.T
	signer  txbuild.Signer
	peers   [2]*grpc.ClientConn
	orderer *grpc.ClientConn
}

// client connects a user to all nodes.
func (n *network) client(i int, name string) *client {
	n.t.Helper()
	c := &client{t: n.t, signer: loadSigner(n.t, n.userDir(i, name)+"/msp", []string{"Org1MSP", "Org2MSP"}[i])}
	c.orderer = n.dial(n.ordererAddress(), n.ordererCA())
	for p := range c.peers {
		c.peers[p] = n.dial(n.peerAddress(p), n.peerDir(p)+"/tls/ca.crt")
	}
	return c
}

// as is the same client with another identity.
func (c *client) as(s txbuild.Signer) *client {
	other := *c
	other.signer = s
	return &other
}

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
	input := &peer.ChaincodeInput{}
	for _, a := range args {
		input.Args = append(input.Args, []byte(a))
	}
	p, err := txbuild.NewProposal(txbuild.ProposalSpec{
		Type: common.HeaderType_ENDORSER_TRANSACTION, ChannelID: channel,
		Spec: &peer.ChaincodeSpec{Type: peer.ChaincodeSpec_GOLANG, ChaincodeId: &peer.ChaincodeID{Name: chaincode}, Input: input},
	}, c.signer.Serialize())
	if err != nil {
		c.t.Fatal(err)
	}
	return p
}

// endorse asks peers to endorse a proposal.
func (c *client) endorse(ctx context.Context, p *txbuild.Proposal, peers ...int) ([]*peer.ProposalResponse, error) {
	signed, err := txbuild.SignProposal(p.Proposal, c.signer)
	if err != nil {
		return nil, err
	}
	var out []*peer.ProposalResponse
	for _, i := range peers {
		r, err := peer.NewEndorserClient(c.peers[i]).ProcessProposal(ctx, signed)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// broadcast sends envelopes on one stream and returns the last answer.
func (c *client) broadcast(ctx context.Context, envelopes ...*common.Envelope) (*orderer.BroadcastResponse, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := orderer.NewAtomicBroadcastClient(c.orderer).Broadcast(ctx)
	if err != nil {
		return nil, err
	}
	var last *orderer.BroadcastResponse
	for _, env := range envelopes {
		if err := stream.Send(env); err != nil {
			return nil, err
		}
		if last, err = stream.Recv(); err != nil {
			return nil, err
		}
	}
	return last, nil
}

// invoke endorses, assembles and orders a transaction; it returns its id once
// the orderer has accepted it.
func (c *client) invoke(ctx context.Context, channel, chaincode string, args ...string) (string, error) {
	p := c.proposal(channel, chaincode, args...)
	responses, err := c.endorse(ctx, p, 0, 1)
	if err != nil {
		return "", err
	}
	env, err := txbuild.Transaction(p.Proposal, c.signer, responses...)
	if err != nil {
		return "", err
	}
	r, err := c.broadcast(ctx, env)
	if err != nil {
		return "", err
	}
	if r.Status != common.Status_SUCCESS {
		return "", errors.New(r.Status.String() + ": " + r.Info)
	}
	return p.TxID, nil
}

// seek is a signed request for the blocks from start to stop.
func (c *client) seek(channel string, info *orderer.SeekInfo) *common.Envelope {
	c.t.Helper()
	env, err := txbuild.SignedEnvelope(txbuild.EnvelopeSpec{
		Type: int32(common.HeaderType_DELIVER_SEEK_INFO), ChannelID: channel, Data: protoutil.Marshal(info),
	}, c.signer)
	if err != nil {
		c.t.Fatal(err)
	}
	return env
}

func from(n uint64) *orderer.SeekPosition {
	return &orderer.SeekPosition{Type: &orderer.SeekPosition_Specified{Specified: &orderer.SeekSpecified{Number: n}}}
}

// blocks fetches the blocks of a channel from a peer, from 0 to its newest.
func (c *client) blocks(ctx context.Context, i int, channel string) ([]*common.Block, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := peer.NewDeliverClient(c.peers[i]).Deliver(ctx)
	if err != nil {
		return nil, err
	}
	newest := &orderer.SeekPosition{Type: &orderer.SeekPosition_Newest{Newest: &orderer.SeekNewest{}}}
	if err := stream.Send(c.seek(channel, &orderer.SeekInfo{Start: from(0), Stop: newest})); err != nil {
		return nil, err
	}
	var out []*common.Block
	for {
		r, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		if r.GetBlock() == nil {
			if r.GetStatus() != common.Status_SUCCESS {
				return nil, errors.New(r.GetStatus().String())
			}
			return out, nil
		}
		out = append(out, r.GetBlock())
	}
}
