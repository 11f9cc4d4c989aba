package runtimetest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/heddle-ledger/heddle/chaincode/packaging"
	"github.com/heddle-ledger/heddle/chaincode/runtime"
	"github.com/heddle-ledger/heddle/chaincode/stream"
	"github.com/heddle-ledger/heddle/chaincode/stream/streamtest"
	"github.com/heddle-ledger/heddle/chaincode/support"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/protoutil"
)

// Channel is the one channel of a Peer.
const Channel = "ch1"

// Peer is the chaincode side of a peer with one channel in memory, served on a
// TCP port.
type Peer struct {
	*support.Support
	State    *streamtest.State
	packages map[string]*packaging.Package
	defs     map[string]*support.Definition
	txs      atomic.Int64
}

// PeerOptions say how a Peer differs from the usual one.
type PeerOptions struct {
	TLS            bool
	Runtime        support.Runtime
	StartupTimeout time.Duration
	DevMode        bool
	Log            *flog.Logger
}

// StartPeer starts a Peer that ends with the test.
func StartPeer(t testing.TB, o PeerOptions) *Peer {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Peer{State: streamtest.NewState(), packages: map[string]*packaging.Package{}, defs: map[string]*support.Definition{}}
	cfg := support.Config{
		PeerAddress: lis.Addr().String(), DevMode: o.DevMode, StartupTimeout: max(o.StartupTimeout, 5*time.Minute),
		Environment: runtime.Environment{LogLevel: "info", ShimLogLevel: "warning", LocalMSPID: "Org1MSP", BuildLevel: "1.4.12"},
		Lifecycle:   p, Packages: p, Access: p, Channels: p, Runtime: o.Runtime, Log: o.Log,
	}
	var opts []grpc.ServerOption
	if o.TLS {
		if cfg.TLS, err = support.NewAuthority(cfg.PeerAddress); err != nil {
			t.Fatal(err)
		}
		opts = append(opts, grpc.Creds(credentials.NewTLS(serverTLS(t, cfg.TLS))))
	}
	p.Support = support.New(cfg)
	server := grpc.NewServer(opts...)
	peer.RegisterChaincodeSupportServer(server, p)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{}, 2)
	go func() { server.Serve(lis); done <- struct{}{} }() //nolint:errcheck // ends by Stop
	go func() { p.Run(ctx); done <- struct{}{} }()        //nolint:errcheck // ends by cancel
	t.Cleanup(func() {
		cancel()
		server.Stop()
		<-done
		<-done
	})
	return p
}

func serverTLS(t testing.TB, a *support.Authority) *tls.Config {
	cert, key, ca := a.ServerTLS()
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	return &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots, MinVersion: tls.VersionTLS12}
}

// Install installs and defines a chaincode.
func (p *Peer) Install(t testing.TB, name, version string, code []byte) *support.Definition {
	t.Helper()
	d := &support.Definition{Name: name, Version: version, Path: Path, Type: peer.ChaincodeSpec_GOLANG}
	cds, err := proto.Marshal(packaging.BuildCDS(d.Type, &peer.ChaincodeID{Name: name, Version: version, Path: d.Path}, nil, code))
	if err != nil {
		t.Fatal(err)
	}
	if p.packages[d.CName()], err = packaging.Parse(cds); err != nil {
		t.Fatal(err)
	}
	p.defs[name] = d
	p.State.Put("lscc", name, []byte(version))
	return d
}

// Tx starts a transaction.
func (p *Peer) Tx() *support.TxParams {
	id := strconv.FormatInt(p.txs.Add(1), 10)
	proposal := &peer.Proposal{
		Header: protoutil.Marshal(&common.Header{
			ChannelHeader:   protoutil.Marshal(&common.ChannelHeader{Type: int32(common.HeaderType_ENDORSER_TRANSACTION), ChannelId: Channel, TxId: id, Timestamp: timestamppb.Now()}),
			SignatureHeader: protoutil.Marshal(&common.SignatureHeader{Creator: []byte("creator"), Nonce: []byte("nonce")}),
		}),
		Payload: protoutil.Marshal(&peer.ChaincodeProposalPayload{Input: []byte("input")}),
	}
	return &support.TxParams{
		ChannelID: Channel, TxID: id, Proposal: proposal, SignedProposal: &peer.SignedProposal{ProposalBytes: protoutil.Marshal(proposal), Signature: []byte("signature")},
		Simulator: p.State.Simulate(id), History: p.State,
	}
}

// Init runs the Init of an installed chaincode and commits.
func (p *Peer) Init(ctx context.Context, name string, args ...string) (*peer.Response, error) {
	tx := p.Tx()
	resp, _, err := p.ExecuteInit(ctx, tx, p.defs[name], Args(args...))
	p.State.Commit(tx.Simulator.(*streamtest.Simulator))
	return resp, err
}

// Invoke runs a transaction and commits it.
func (p *Peer) Invoke(ctx context.Context, name string, args ...string) (*peer.Response, error) {
	tx := p.Tx()
	resp, _, err := p.Execute(ctx, tx, name, p.defs[name].Version, Args(args...))
	p.State.Commit(tx.Simulator.(*streamtest.Simulator))
	return resp, err
}

// Args makes the input of a call.
func Args(args ...string) *peer.ChaincodeInput {
	in := &peer.ChaincodeInput{}
	for _, a := range args {
		in.Args = append(in.Args, []byte(a))
	}
	return in
}

// ContainerInfo implements support.Lifecycle.
func (p *Peer) ContainerInfo(name string, _ stream.Simulator) (*support.Definition, error) {
	if d := p.defs[name]; d != nil {
		return d, nil
	}
	return nil, fmt.Errorf("could not get chaincode code: chaincode %s not found", name)
}

// Callee implements support.Lifecycle.
func (p *Peer) Callee(_, name string, sim stream.Simulator) (*support.Definition, error) {
	if raw, err := sim.GetState("lscc", name); err != nil || raw == nil {
		return nil, errors.Join(err, fmt.Errorf("chaincode %s not found", name))
	}
	return p.defs[name], nil
}

// Load implements support.Packages.
func (p *Peer) Load(name, version string) (*packaging.Package, error) {
	if pkg := p.packages[name+":"+version]; pkg != nil {
		return pkg, nil
	}
	return nil, errors.New("no such package")
}

// CheckACL implements support.Access: everything is allowed.
func (p *Peer) CheckACL(string, string, *peer.SignedProposal) error { return nil }

// Simulator implements support.Channels: there is no other channel.
func (p *Peer) Simulator(channelID, _ string, _ stream.Simulator) (stream.Simulator, stream.HistoryReader, func(), error) {
	return nil, nil, nil, fmt.Errorf("failed to find ledger for channel: %s", channelID)
}

// KeyLevelEndorsement implements support.Channels.
func (p *Peer) KeyLevelEndorsement(string) error { return nil }
