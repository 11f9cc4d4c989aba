package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const policy = "AND('Org1MSP.member','Org2MSP.member')"

// running is a network with a channel, two peers and the sample chaincode.
type running struct {
	*network
	orderer *daemon
	peers   [2]*daemon
}

// TestNetwork takes a network with TLS and two organisations from its genesis to
// committed transactions, feeds it bad inputs, and kills its nodes under load.
func TestNetwork(t *testing.T) {
	r := &running{network: newNetwork(t, options{})}
	r.deploy()
	t.Run("transactions", r.transactions)
	t.Run("restart without genesis file", r.restart)
	t.Run("bad inputs", r.badInputs)
	t.Run("crashes", r.crashes)
	t.Run("rebuild", r.rebuild)
	t.Run("ledgers of stopped nodes", r.offline)
}

// deploy makes the channel and deploys the sample chaincode, as the demo does.
func (r *running) deploy() {
	r.t.Helper()
	r.orderer = r.startOrderer()
	for i := range r.peers {
		r.peers[i] = r.startPeer(i)
	}
	source, err := filepath.Abs("../../examples/asset")
	if err != nil {
		r.t.Fatal(err)
	}
	r.admin(0).peer(r.ordered("channel", "create", "-c", "mychannel", "-f", "mychannel.tx")...)
	for i := range r.peers {
		a := r.admin(i)
		a.peer("channel", "join", "-b", "mychannel.block")
		org := []string{"Org1MSP", "Org2MSP"}[i]
		r.anchorTx("mychannel", org, org+".tx")
		a.peer(r.ordered("channel", "update", "-c", "mychannel", "-f", org+".tx")...)
		a.peer("chaincode", "install", "-n", "asset", "-v", "1.0", "-p", source)
	}
	r.admin(0).peer(r.ordered("chaincode", "instantiate", "-C", "mychannel", "-n", "asset", "-v", "1.0", "-c", `{"Args":[]}`, "-P", policy)...)
	for i := range r.peers {
		instantiated(r.t, r.admin(i), "mychannel", "asset", "1.0")
	}
}

// both adds the flags for both peers.
func (r *running) both(args ...string) []string {
	for i := range r.peers {
		args = append(args, "--peerAddresses", r.peerAddress(i), "--tlsRootCertFiles", r.peerDir(i)+"/tls/ca.crt")
	}
	return r.ordered(args...)
}

func (r *running) invoke(args string, flags ...string) result {
	r.t.Helper()
	return r.user(0, "User1").peer(r.both(append([]string{"chaincode", "invoke", "-C", "mychannel", "-n", "asset", "-c", args}, flags...)...)...)
}

func (r *running) query(i int, args string) string {
	r.t.Helper()
	return strings.TrimSpace(r.user(i, "User1").peer("chaincode", "query", "-C", "mychannel", "-n", "asset", "-c", args).stdout)
}

// transactions are judged by the endorsement policy and seen by both peers.
func (r *running) transactions(t *testing.T) {
	out := r.invoke(`{"Args":["create","car1","alice","100"]}`, "--waitForEvent")
	for i := range r.peers {
		if want := "committed with status (VALID) at " + r.peerAddress(i); !strings.Contains(out.stderr, want) {
			t.Errorf("no %q in\n%s", want, out.stderr)
		}
		if got, want := r.query(i, `{"Args":["read","car1"]}`), `{"id":"car1","owner":"alice","value":100}`; got != want {
			t.Errorf("peer %d: %s, want %s", i, got, want)
		}
	}
	// One endorsement does not satisfy the policy.
	alone := r.user(0, "User1").peer(r.ordered("chaincode", "invoke", "-C", "mychannel", "-n", "asset", "-c",
		`{"Args":["create","car2","bob","1"]}`, "--waitForEvent")...)
	if !strings.Contains(alone.stderr, "committed with status (ENDORSEMENT_POLICY_FAILURE) at") {
		t.Errorf("one endorsement:\n%s", alone.stderr)
	}
	if got := r.user(0, "User1").try("chaincode", "query", "-C", "mychannel", "-n", "asset", "-c", `{"Args":["read","car2"]}`); got.code != 1 ||
		!strings.Contains(got.stderr, `status:500 message:"asset car2 does not exist"`) {
		t.Errorf("exit code %d, %s", got.code, got.stderr)
	}
	if got := r.query(1, `{"Args":["list"]}`); got != `["car1","deployment"]` {
		t.Errorf("list: %s", got)
	}
}

// restart stops all nodes as an operator does and starts them again; the
// genesis file is not needed any more.
func (r *running) restart(t *testing.T) {
	before := r.info(0)
	r.peers[0].stop()
	r.peers[1].stop()
	r.orderer.stop()
	if err := os.Remove(r.path("genesis.block")); err != nil {
		t.Fatal(err)
	}
	r.orderer = r.startOrderer()
	r.peers = [2]*daemon{r.startPeer(0), r.startPeer(1)}
	if after := r.info(0); after != before {
		t.Errorf("after restart %s, before %s", after, before)
	}
	r.invoke(`{"Args":["transfer","car1","carol"]}`, "--waitForEvent")
	if got := r.query(1, `{"Args":["byOwner","carol"]}`); got != `["car1"]` {
		t.Errorf("assets of carol: %s", got)
	}
}

// info is the state of the chain of a peer.
func (r *running) info(i int) string {
	r.t.Helper()
	return strings.TrimSpace(r.admin(i).peer("channel", "getinfo", "-c", "mychannel").stdout)
}
