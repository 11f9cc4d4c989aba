// Package testnet runs an orderer and peers in one process, connected through
// memory, with production timers. Inside a testing/synctest bubble their time is
// virtual: hours pass in milliseconds, and the bubble shows that no goroutine
// outlives the nodes.
//
// Limits: no chaincode processes (see StartChaincode), no sockets; files are real
// and belong to the test. A Net owns the nodes it started; they end with Stop, at
// the latest with the test. Only tests import it.
package testnet

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/chanconfig/profile"
	"github.com/heddle-ledger/heddle/internal/config"
	"github.com/heddle-ledger/heddle/internal/csp"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/rpc"
	"github.com/heddle-ledger/heddle/internal/testpki"
	"github.com/heddle-ledger/heddle/msp"
	"github.com/heddle-ledger/heddle/msp/x509msp"
	orderernode "github.com/heddle-ledger/heddle/orderer/node"
	peernode "github.com/heddle-ledger/heddle/peer/node"
)

// SystemChannel is the system channel of every Net.
const SystemChannel = "sys"

// OrdererAddress is where the orderer listens.
const OrdererAddress = "orderer:7050"

// Options of a network; zero values select what is named.
type Options struct {
	Peers        int           // each of an organisation of its own; 1
	BatchTimeout time.Duration // 2 s
	BatchCount   uint32        // messages of a block; 10
	NoTLS        bool          // chaincodes can only connect by themselves to a peer without TLS
	LogSpec      string        // of all nodes; info
}

// Net is a network of one orderer and peers.
type Net struct {
	t       *testing.T
	dir     string
	options Options
	Fabric  *Fabric
	Ord     *testpki.Org
	Orgs    []*testpki.Org
	Admins  []*testpki.Identity // of the organisations
	log     *logs
}

// New makes key material and the genesis block; no node runs yet. What the nodes
// log is shown if the test fails.
func New(t *testing.T, o Options) *Net {
	t.Helper()
	o.Peers = max(o.Peers, 1)
	if o.BatchTimeout == 0 {
		o.BatchTimeout = 2 * time.Second
	}
	if o.BatchCount == 0 {
		o.BatchCount = 10
	}
	n := &Net{t: t, dir: t.TempDir(), options: o, Fabric: &Fabric{}, Ord: testpki.NewOrg(t, "OrdererMSP"), log: &logs{}}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(n.log.String())
		}
	})
	t.Setenv("FABRIC_CFG_PATH", sampleConfig(t))
	n.node(n.Ord, "orderer", n.Ord.Orderer("orderer"))
	for i := range o.Peers {
		org := testpki.NewOrg(t, fmt.Sprintf("Org%dMSP", i+1))
		n.Orgs, n.Admins = append(n.Orgs, org), append(n.Admins, org.Admin("admin"))
		n.node(org, peerName(i), org.Peer(peerName(i)))
	}
	group, err := profile.Encoder{}.ChannelGroup(n.genesisProfile())
	n.check(err)
	block, err := profile.GenesisBlock(SystemChannel, group, time.Now())
	n.check(err)
	raw, err := proto.Marshal(block)
	n.check(err)
	n.check(os.WriteFile(n.path("genesis.block"), raw, 0o600))
	return n
}

func (n *Net) check(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

func (n *Net) path(parts ...string) string {
	return filepath.Join(append([]string{n.dir}, parts...)...)
}

func peerName(i int) string { return fmt.Sprintf("peer%d", i) }

// PeerAddress is where a peer listens.
func PeerAddress(i int) string { return peerName(i) + ":7051" }

// sampleConfig finds the shipped configuration files above the test's directory.
func sampleConfig(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if s := filepath.Join(dir, "sampleconfig"); exists(s) {
			return s
		}
	}
	t.Fatal("no sampleconfig")
	return ""
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// node writes the MSP and TLS files of a node.
func (n *Net) node(org *testpki.Org, name string, id *testpki.Identity) {
	n.t.Helper()
	dir := n.path(name)
	org.WriteMSP(filepath.Join(dir, "msp"), id)
	org.WriteMSP(n.path("verify", org.MSPID), nil)
	_, err := csp.KeyStore{Dir: filepath.Join(dir, "msp/keystore")}.Store(id.Key) // under the name of the key
	n.check(err)
	tls := org.TLS(name, name)
	for file, content := range map[string][]byte{"server.crt": tls.CertPEM(), "server.key": tls.KeyPEM(), "ca.crt": org.TLSCA.PEM()} {
		n.check(os.WriteFile(filepath.Join(dir, file), content, 0o600))
	}
}

func rules(id string) map[string]*profile.Policy {
	rule := func(role string) *profile.Policy {
		return &profile.Policy{Type: "Signature", Rule: fmt.Sprintf("OR('%s.%s')", id, role)}
	}
	return map[string]*profile.Policy{"Readers": rule("member"), "Writers": rule("member"), "Admins": rule("admin")}
}

func implicit() map[string]*profile.Policy {
	rule := func(r string) *profile.Policy { return &profile.Policy{Type: "ImplicitMeta", Rule: r} }
	return map[string]*profile.Policy{
		"Readers": rule("ANY Readers"), "Writers": rule("ANY Writers"), "Admins": rule("MAJORITY Admins"),
		"BlockValidation": rule("ANY Writers"),
	}
}

func (n *Net) organisation(o *testpki.Org) *profile.Organization {
	return &profile.Organization{
		Name: o.MSPID, ID: o.MSPID, MSPDir: n.path("verify", o.MSPID), MSPType: "bccsp",
		Policies: rules(o.MSPID), AdminPrincipal: "Role.ADMIN",
	}
}

func (n *Net) organisations() []*profile.Organization {
	var out []*profile.Organization
	for _, o := range n.Orgs {
		out = append(out, n.organisation(o))
	}
	return out
}

func (n *Net) genesisProfile() *profile.Profile {
	return &profile.Profile{
		Capabilities: map[string]bool{"V1_4_3": true}, Policies: implicit(),
		Orderer: &profile.Orderer{
			OrdererType: "solo", Addresses: []string{OrdererAddress}, BatchTimeout: n.options.BatchTimeout,
			BatchSize:     profile.BatchSize{MaxMessageCount: n.options.BatchCount, AbsoluteMaxBytes: 10 << 20, PreferredMaxBytes: 2 << 20},
			Organizations: []*profile.Organization{n.organisation(n.Ord)},
			Capabilities:  map[string]bool{"V1_4_2": true}, Policies: implicit(),
		},
		Consortiums: map[string]*profile.Consortium{"SampleConsortium": {Organizations: n.organisations()}},
	}
}

// ChannelProfile describes a channel of all organisations.
func (n *Net) ChannelProfile() *profile.Profile {
	return &profile.Profile{
		Consortium: "SampleConsortium", Capabilities: map[string]bool{"V1_4_3": true}, Policies: implicit(),
		Application: &profile.Application{
			Organizations: n.organisations(), Capabilities: map[string]bool{"V1_4_2": true}, Policies: implicit(),
		},
	}
}

// Node is a running node.
type Node struct {
	t      *testing.T
	name   string
	cancel context.CancelFunc
	done   chan struct{}
	err    error // set before done is closed
}

// storesClose is the virtual time that the stores of a node take to end their
// goroutines.
const storesClose = 2 * time.Second

func (n *Net) run(name string, run func(context.Context) error) *Node {
	ctx, cancel := context.WithCancel(context.WithoutCancel(n.t.Context()))
	node := &Node{t: n.t, name: name, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(node.done)
		node.err = run(ctx)
	}()
	n.t.Cleanup(node.Stop)
	return node
}

// Stop ends the node and waits until everything of it has ended. It may be
// called again.
func (n *Node) Stop() {
	n.t.Helper()
	n.cancel()
	<-n.done
	if n.err != nil {
		n.t.Errorf("%s: %v", n.name, n.err)
		n.err = nil
	}
	time.Sleep(storesClose)
}

func (n *Net) logging() *flog.Logging {
	l, err := flog.New(n.log, "", n.options.LogSpec)
	n.check(err)
	return l
}

// StartOrderer starts the orderer on its files.
func (n *Net) StartOrderer() *Node {
	n.t.Helper()
	c, err := config.LoadOrderer(func(string) {})
	n.check(err)
	dir := n.path("orderer")
	g := &c.General
	g.ListenAddress, g.ListenPort = "orderer", 7050
	g.TLS.Enabled, g.TLS.Certificate, g.TLS.PrivateKey = !n.options.NoTLS, dir+"/server.crt", dir+"/server.key"
	g.TLS.RootCAs = []string{dir + "/ca.crt"}
	g.GenesisMethod, g.GenesisFile = "file", n.path("genesis.block")
	g.LocalMSPID, g.LocalMSPDir = n.Ord.MSPID, dir+"/msp"
	g.BCCSP.SW.FileKeyStore.KeyStore = dir + "/msp/keystore"
	c.FileLedger.Location = n.path("orderer", "data")
	c.Operations.ListenAddress = "orderer:8443"
	node, err := orderernode.New(orderernode.Config{Orderer: c, Logging: n.logging()}, orderernode.WithListen(n.Fabric.Listen))
	n.check(err)
	return n.run("orderer", node.Run)
}

// StartPeer starts a peer in development mode on its files.
func (n *Net) StartPeer(i int, change ...func(*config.Core)) *Node {
	n.t.Helper()
	c, err := config.LoadCore()
	n.check(err)
	name, dir := peerName(i), n.path(peerName(i))
	p := &c.Peer
	p.ID, p.Address, p.ListenAddress, p.ChaincodeListenAddress = name, PeerAddress(i), PeerAddress(i), chaincodeAddress(i)
	p.TLS.Enabled, p.TLS.Cert, p.TLS.Key, p.TLS.RootCert = !n.options.NoTLS, dir+"/server.crt", dir+"/server.key", dir+"/ca.crt"
	p.LocalMSPID, p.MSPConfigPath, p.FileSystemPath = n.Orgs[i].MSPID, dir+"/msp", filepath.Join(dir, "data")
	p.Delivery.StaticLeader = true
	c.Operations.ListenAddress = name + ":9443"
	c.VM.Endpoint = ""
	if p.BCCSP.SW != nil {
		p.BCCSP.SW.KeyStore = dir + "/msp/keystore"
	}
	for _, f := range change {
		f(c)
	}
	signatures := msp.NewSignatureCache(1 << 20)
	local, err := x509msp.LoadLocal(x509msp.LocalConfig{
		Dir: p.MSPConfigPath, MSPID: p.LocalMSPID, BCCSP: p.BCCSP, Signatures: signatures, Log: flog.Nop(),
	})
	n.check(err)
	node, err := peernode.New(context.Background(), peernode.Config{Core: c, Logging: n.logging(), Local: local, Signatures: signatures, DevMode: true},
		peernode.WithListen(n.Fabric.Listen), peernode.WithDialer(n.Fabric.Dial))
	n.check(err)
	return n.run(name, node.Run)
}

func chaincodeAddress(i int) string { return peerName(i) + ":7052" }

// Client connects the administrator of an organisation to all nodes.
func (n *Net) Client(i int) *Client {
	n.t.Helper()
	c := &Client{Signer: n.Admins[i], Orderer: n.connect(OrdererAddress, n.Ord)}
	for p, org := range n.Orgs {
		c.Peers = append(c.Peers, n.connect(PeerAddress(p), org))
	}
	return c
}

func (n *Net) connect(address string, org *testpki.Org) *grpc.ClientConn {
	n.t.Helper()
	conn, err := rpc.NewClient(address, rpc.ClientConfig{
		TLS: !n.options.NoTLS, Roots: [][]byte{org.TLSCA.PEM()}, Dialer: n.Fabric.Dial, Log: flog.Nop(),
	})
	n.check(err)
	n.t.Cleanup(func() { conn.Close() })
	return conn
}

// logs collects what all nodes log.
type logs struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := strings.Split(l.text.String(), "\n")
	return strings.Join(lines[max(0, len(lines)-150):], "\n")
}
