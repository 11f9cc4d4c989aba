package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
)

// network is a scratch directory with key material, channel transactions and
// the ports of one orderer and two peers.
type network struct {
	t       *testing.T
	dir     string
	cfg     string // directory of the shipped configuration
	noTLS   bool
	orderer int // ports
	peers   [2]int
	chain   [2]int // chaincode ports

	settings [2][]string // of the peers, as environment
}

// options of a network.
type options struct {
	noTLS        bool
	batchTimeout string // 200ms
}

func newNetwork(t *testing.T, o options) *network {
	t.Helper()
	p := freePorts(t, 5)
	n := &network{
		t: t, dir: t.TempDir(), noTLS: o.noTLS,
		orderer: p[0], peers: [2]int{p[1], p[2]}, chain: [2]int{p[3], p[4]},
	}
	// A copy: nodes make what is missing in their MSP directories.
	n.cfg = n.path("config")
	if err := os.CopyFS(n.cfg, os.DirFS("../../sampleconfig")); err != nil {
		t.Fatal(err)
	}
	if o.batchTimeout == "" {
		o.batchTimeout = "200ms"
	}
	copyFile(t, "testdata/crypto-config.yaml", n.path("crypto-config.yaml"))
	n.do("cryptogen", "generate", "--config", "crypto-config.yaml", "--output", "crypto")
	text := strings.NewReplacer("__ORDERER__", port(n.orderer), "__BATCHTIMEOUT__", o.batchTimeout,
		"__PEER1__", port(n.peers[0]), "__PEER2__", port(n.peers[1])).Replace(readFile(t, "testdata/configtx.yaml"))
	writeFile(t, n.path("configtx.yaml"), text)
	n.do("configtxgen", "-configPath", ".", "-profile", "Genesis", "-channelID", "sys", "-outputBlock", "genesis.block")
	n.channelTx("TwoOrgs", "mychannel")
	return n
}

// channelTx writes the creation transaction of a channel.
func (n *network) channelTx(profile, channel string) {
	n.t.Helper()
	n.do("configtxgen", "-configPath", ".", "-profile", profile, "-channelID", channel, "-outputCreateChannelTx", channel+".tx")
}

// anchorTx writes an update of the anchor peers.
func (n *network) anchorTx(channel, org, file string) {
	n.t.Helper()
	n.do("configtxgen", "-configPath", ".", "-profile", "TwoOrgs", "-channelID", channel, "-outputAnchorPeersUpdate", file, "-asOrg", org)
}

func (n *network) path(parts ...string) string {
	return filepath.Join(append([]string{n.dir}, parts...)...)
}

// do runs a tool that must succeed.
func (n *network) do(name string, args ...string) string {
	n.t.Helper()
	r := execute(n.t, n.dir, environment("FABRIC_CFG_PATH="+n.dir), name, args...)
	if r.code != 0 {
		n.t.Fatalf("%s %s: exit code %d\n%s%s", name, strings.Join(args, " "), r.code, r.stdout, r.stderr)
	}
	return r.stdout
}

func (n *network) ordererAddress() string   { return address(n.orderer) }
func (n *network) peerAddress(i int) string { return address(n.peers[i]) }

func address(p int) string { return "127.0.0.1:" + port(p) }

func port(p int) string { return strconv.Itoa(p) }

// ordererDir and peerDir are the node directories of cryptogen.
func (n *network) ordererDir() string {
	return n.path("crypto/ordererOrganizations/example.com/orderers/orderer.example.com")
}

func (n *network) orgDir(i int) string {
	return n.path(fmt.Sprintf("crypto/peerOrganizations/org%d.example.com", i+1))
}

func (n *network) peerDir(i int) string {
	return filepath.Join(n.orgDir(i), fmt.Sprintf("peers/peer0.org%d.example.com", i+1))
}

func (n *network) userDir(i int, name string) string {
	return filepath.Join(n.orgDir(i), fmt.Sprintf("users/%s@org%d.example.com", name, i+1))
}

// ordererCA is the TLS root of the orderer.
func (n *network) ordererCA() string { return filepath.Join(n.ordererDir(), "tls/ca.crt") }

// ordererEnv is the environment of the orderer.
func (n *network) ordererEnv(extra ...string) []string {
	dir := n.ordererDir()
	env := environment(
		"FABRIC_CFG_PATH="+n.cfg,
		"ORDERER_GENERAL_LISTENADDRESS=127.0.0.1",
		"ORDERER_GENERAL_LISTENPORT="+port(n.orderer),
		"ORDERER_GENERAL_GENESISMETHOD=file",
		"ORDERER_GENERAL_GENESISFILE="+n.path("genesis.block"),
		"ORDERER_GENERAL_LOCALMSPID=OrdererMSP",
		"ORDERER_GENERAL_LOCALMSPDIR="+dir+"/msp",
		"ORDERER_FILELEDGER_LOCATION="+n.path("orderer"),
		"ORDERER_OPERATIONS_LISTENADDRESS=127.0.0.1:0",
	)
	if !n.noTLS {
		env = append(env, "ORDERER_GENERAL_TLS_ENABLED=true", "ORDERER_GENERAL_TLS_CERTIFICATE="+dir+"/tls/server.crt",
			"ORDERER_GENERAL_TLS_PRIVATEKEY="+dir+"/tls/server.key", "ORDERER_GENERAL_TLS_ROOTCAS=["+dir+"/tls/ca.crt]")
	}
	return append(env, extra...)
}

// startOrderer starts the orderer and waits until it serves.
func (n *network) startOrderer(extra ...string) *daemon {
	n.t.Helper()
	d := start(n.t, n.dir, n.ordererEnv(extra...), "orderer")
	d.waitFor("Beginning to serve requests")
	return d
}

// peerEnv is the environment of a peer daemon.
func (n *network) peerEnv(i int, extra ...string) []string {
	dir := n.peerDir(i)
	env := environment(
		"FABRIC_CFG_PATH="+n.cfg,
		fmt.Sprintf("CORE_PEER_ID=peer0.org%d.example.com", i+1),
		"CORE_PEER_ADDRESS="+n.peerAddress(i),
		"CORE_PEER_LISTENADDRESS="+n.peerAddress(i),
		"CORE_PEER_CHAINCODELISTENADDRESS="+address(n.chain[i]),
		"CORE_PEER_GOSSIP_BOOTSTRAP="+n.peerAddress(i),
		"CORE_PEER_GOSSIP_USELEADERELECTION=false",
		"CORE_PEER_GOSSIP_ORGLEADER=true",
		fmt.Sprintf("CORE_PEER_LOCALMSPID=Org%dMSP", i+1),
		"CORE_PEER_MSPCONFIGPATH="+dir+"/msp",
		"CORE_PEER_FILESYSTEMPATH="+n.path(fmt.Sprintf("peer%d", i+1)),
		"CORE_OPERATIONS_LISTENADDRESS=127.0.0.1:0",
	)
	if !n.noTLS {
		env = append(env, "CORE_PEER_TLS_ENABLED=true", "CORE_PEER_TLS_CERT_FILE="+dir+"/tls/server.crt",
			"CORE_PEER_TLS_KEY_FILE="+dir+"/tls/server.key", "CORE_PEER_TLS_ROOTCERT_FILE="+dir+"/tls/ca.crt")
	}
	return append(append(env, n.settings[i]...), extra...)
}

// startPeer starts a peer and waits until it serves.
func (n *network) startPeer(i int, extra ...string) *daemon {
	n.t.Helper()
	d := start(n.t, n.dir, n.peerEnv(i, extra...), "peer", "node", "start")
	d.waitFor("Started peer with ID=")
	return d
}

// user is somebody with an identity and a peer to talk to.
type user struct {
	n   *network
	env []string
}

// user returns a user of an organisation.
func (n *network) user(i int, name string, extra ...string) user {
	env := environment(
		"FABRIC_CFG_PATH="+n.cfg,
		"CORE_PEER_ADDRESS="+n.peerAddress(i),
		fmt.Sprintf("CORE_PEER_LOCALMSPID=Org%dMSP", i+1),
		"CORE_PEER_MSPCONFIGPATH="+n.userDir(i, name)+"/msp",
	)
	if !n.noTLS {
		env = append(env, "CORE_PEER_TLS_ENABLED=true", "CORE_PEER_TLS_ROOTCERT_FILE="+n.peerDir(i)+"/tls/ca.crt")
	}
	return user{n, append(env, extra...)}
}

func (n *network) admin(i int) user { return n.user(i, "Admin") }

// try runs `peer` with the user's environment.
func (u user) try(args ...string) result {
	u.n.t.Helper()
	return execute(u.n.t, u.n.dir, u.env, "peer", args...)
}

// peer runs `peer`, which must succeed.
func (u user) peer(args ...string) result {
	u.n.t.Helper()
	r := u.try(args...)
	if r.code != 0 {
		u.n.t.Fatalf("peer %s: exit code %d\n%s%s", strings.Join(args, " "), r.code, r.stdout, r.stderr)
	}
	return r
}

// ordered adds the flags for the orderer.
func (n *network) ordered(args ...string) []string {
	args = append(args, "-o", n.ordererAddress())
	if !n.noTLS {
		args = append(args, "--tls", "--cafile", n.ordererCA())
	}
	return args
}

// nextPort is where the search for free ports goes on; networks of parallel
// tests must not meet.
var nextPort atomic.Int64

// freePorts returns ports below the range from which the system takes those of
// outgoing connections, so that nobody takes them while a daemon restarts.
func freePorts(t *testing.T, count int) []int {
	t.Helper()
	var ports []int
	for try := 0; len(ports) < count && try < 20000; try++ {
		p := 10000 + (os.Getpid()*97+int(nextPort.Add(1)))%20000
		l, err := net.Listen("tcp", address(p))
		if err != nil {
			continue
		}
		l.Close()
		ports = append(ports, p)
	}
	if len(ports) < count {
		t.Fatal("no free ports")
	}
	return ports
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func copyFile(t *testing.T, from, to string) { t.Helper(); writeFile(t, to, readFile(t, from)) }
