package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/grpc/codes"

	"github.com/heddle-ledger/heddle/internal/protoutil"
)

// buildChaincode builds a chaincode of testdata into the directory of the
// commands.
func buildChaincode(t *testing.T, name string) {
	t.Helper()
	out, err := exec.Command("go", "build", "-o", filepath.Join(bin, name), "./testdata/"+name).CombinedOutput()
	if err != nil {
		t.Fatalf("build chaincode %s: %v\n%s", name, err, out)
	}
}

// startChaincode starts a chaincode by hand, as in development mode, and waits
// until the peer has registered it.
func startChaincode(t *testing.T, n *network, peer *daemon, name, id string) *daemon {
	t.Helper()
	registered := "Got REGISTER for chaincodeID = " + id + ","
	before := strings.Count(peer.log.String(), registered)
	d := start(t, n.dir, environment("CORE_CHAINCODE_ID_NAME="+id, "CORE_PEER_TLS_ENABLED=false"), name, "-peer.address", address(n.chain[0]))
	eventually(t, registered, func() bool { return strings.Count(peer.log.String(), registered) > before })
	return d
}

// development is a network without TLS, with one peer in development mode.
func development(t *testing.T, channels ...string) (*network, *daemon) {
	n := newNetwork(t, options{noTLS: true})
	n.startOrderer()
	d := start(t, n.dir, n.peerEnv(0, "CORE_PEER_NETWORKID=heddle", "FABRIC_LOGGING_SPEC=info:chaincode=debug",
		"CORE_VM_ENDPOINT=unix:///var/run/docker.sock"), "peer", "node", "start", "--peer-chaincodedev")
	d.waitFor("Started peer with ID=")
	a := n.admin(0)
	for _, c := range channels {
		n.channelTx("TwoOrgs", c)
		a.peer(n.ordered("channel", "create", "-c", c, "-f", c+".tx")...)
		a.peer("channel", "join", "-b", c+".block")
	}
	return n, d
}

// instantiated waits until a deployment is committed.
func instantiated(t *testing.T, u user, channel, name, version string) {
	t.Helper()
	want := "Name: " + name + ", Version: " + version + ","
	eventually(t, want, func() bool {
		return strings.Contains(u.peer("chaincode", "list", "--instantiated", "-C", channel).stdout, want)
	})
}

// eventually asks until the answer is yes.
func eventually(t *testing.T, what string, ask func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if ask() {
			return
		}
	}
	t.Fatalf("waited in vain: %s", what)
}

// TestChaincodeTranscript replays `peer chaincode` with the chaincode of the
// recording, which runs beside the peer in development mode.
func TestChaincodeTranscript(t *testing.T) {
	buildChaincode(t, "vec")
	n, peer := development(t, "ch1", "ch2")
	writeFile(t, n.path("gopath/src/example.com/vec/main.go"), readFile(t, "testdata/vec_chaincode.go.txt"))
	if err := os.CopyFS(n.path("pkgs"), os.DirFS("testdata/packages")); err != nil {
		t.Fatal(err)
	}
	copyFile(t, "testdata/coll.json", n.path("coll.json"))
	copyFile(t, "testdata/coll.json", n.path("coll3.json"))
	writeFile(t, n.path("coll2.json"), strings.Replace(readFile(t, "testdata/coll.json"), `"blockToLive":10`, `"blockToLive":11`, 1))
	r := &chaincodeReplay{n: n, admin: n.user(0, "Admin", "GOPATH="+n.path("gopath"), "GO111MODULE=off"), peer: peer, running: map[string]*daemon{}}
	r.norm.places = strings.NewReplacer("37950", port(n.orderer), "37951", port(n.peers[0]), "../pkgs/", "pkgs/",
		"$FS", n.path("peer1"), "Path: /src/nodecc", "Path: nodecc") // the package was made again after the recording
	for i, s := range readTranscript(t, "testdata/chaincode_cli.txt") {
		t.Run(strconv.Itoa(i)+" "+s.line(), func(t *testing.T) { r.replay(t, s) })
	}
}

// chaincodeReplay is the surroundings of the recorded calls.
type chaincodeReplay struct {
	n       *network
	admin   user
	peer    *daemon
	norm    normalizer
	running map[string]*daemon // chaincodes by name:version
}

// ensure starts chaincodes that are not running.
func (r *chaincodeReplay) ensure(ids ...string) {
	for _, id := range ids {
		if d := r.running[id]; d == nil || d.ended() {
			r.running[id] = startChaincode(r.n.t, r.n, r.peer, "vec", id)
		}
	}
}

// excluded tells why a step is not replayed: private data, and answers that
// hold binary block hashes.
func excluded(s *step) string {
	line := s.line() + strings.Join(s.stdout, "\n") + strings.Join(s.stderr, "\n")
	for word, why := range map[string]string{
		`"priv`: "private data", `"qscc"`: "block hashes",
	} {
		if strings.Contains(line, word) {
			return why
		}
	}
	return ""
}

func (r *chaincodeReplay) replay(t *testing.T, s *step) {
	if why := excluded(s); why != "" {
		t.Skip(why)
	}
	args := strings.Fields(r.norm.places.Replace(strings.Join(s.args[1:], " ")))
	verb := args[1]
	deploys := verb == "instantiate" || verb == "upgrade"
	if deploys {
		r.ensure("vec:1.0", "callee:1.0")
	}
	// The recorder started the new version, and restarted it when it had
	// ended, after it had seen that Docker cannot.
	d := r.running["vec:2.0"]
	if strings.Contains(strings.Join(s.stderr, "\n"), "docker.sock") {
		r.withoutChaincode(t, s, args)
		return
	}
	if verb == "upgrade" || d != nil && d.ended() {
		r.ensure("vec:2.0")
	}
	got := r.admin.try(args...)
	compare(t, r.norm, s, got)
	if deploys && got.code == 0 && !strings.Contains(s.line(), "coll2.json") { // not valid
		instantiated(t, r.admin, flag(args, "-C"), flag(args, "-n"), flag(args, "-v"))
	}
}

// withoutChaincode replays a step for which the chaincode does not run: the peer
// tries to start it, in vain. It may take a moment until the peer knows.
func (r *chaincodeReplay) withoutChaincode(t *testing.T, s *step, args []string) {
	if d := r.running["vec:2.0"]; d != nil {
		d.kill()
	}
	var got result
	eventually(t, "end of the chaincode", func() bool {
		got = r.admin.try(args...)
		return !strings.Contains(got.stderr, "stream terminated")
	})
	compare(t, r.norm, s, got)
}

// flag returns the value of a flag.
func flag(args []string, name string) string {
	for i, a := range args[:len(args)-1] {
		if a == name {
			return args[i+1]
		}
	}
	return ""
}

// TestChaincodeTranscript2 replays the recorded calls with wrong parameters,
// events and text escapes. Output of both kinds was merged.
func TestChaincodeTranscript2(t *testing.T) {
	buildChaincode(t, "old")
	n, peer := development(t, "ch1")
	writeFile(t, n.path("gopath/src/example.com/mycc/main.go"), readFile(t, "testdata/old/main.go"))
	a := n.user(0, "Admin", "GOPATH="+n.path("gopath"), "GO111MODULE=off")
	a.peer("chaincode", "install", "-n", "old", "-v", "1.0", "-p", "example.com/mycc")
	startChaincode(t, n, peer, "old", "old:1.0")
	a.peer("chaincode", "instantiate", "-C", "ch1", "-n", "old", "-v", "1.0", "-c", `{"Args":["init"]}`, "-o", n.ordererAddress())
	instantiated(t, a, "ch1", "old", "1.0")
	norm := normalizer{places: strings.NewReplacer("47350", port(n.orderer), "47351", port(n.peers[0]))}
	for i, s := range readTranscript(t, "testdata/chaincode_cli2.txt") {
		t.Run(strconv.Itoa(i)+" "+s.line(), func(t *testing.T) {
			r := a.try(strings.Fields(norm.places.Replace(strings.Join(s.args[1:], " ")))...)
			if s.rc == "2" { // the reference crashed
				if r.code != 1 || !strings.Contains(r.stderr, "Error: ") {
					t.Errorf("exit code %d, %s", r.code, r.stderr)
				}
				return
			}
			// A limit of 1 ms may pass before the streams stand already.
			r.stdout, r.stderr = "", r.stdout+strings.Replace(r.stderr, "waiting for connection to deliver on", "waiting for txid on", 1)
			compare(t, norm, s, r)
		})
	}
}

// TestBadChaincodes sends a peer in development mode what no shim sends.
func TestBadChaincodes(t *testing.T) {
	n, _ := development(t)
	conn := n.dial(address(n.chain[0]), "")
	const cannot = "error handling message, ending stream: [t] Fabric side handler cannot handle message"
	register := func(payload []byte) *peer.ChaincodeMessage {
		return &peer.ChaincodeMessage{Type: peer.ChaincodeMessage_REGISTER, Payload: payload, Txid: "t"}
	}
	// The peer may learn late that a stream has ended: a name for each.
	id := func(name string) []byte { return protoutil.Marshal(&peer.ChaincodeID{Name: name + ":1.0"}) }
	state := &peer.ChaincodeMessage{Type: peer.ChaincodeMessage_GET_STATE, Txid: "t", ChannelId: "ch1", Payload: garbage}
	for _, tc := range []struct {
		name    string
		send    []*peer.ChaincodeMessage
		answers []peer.ChaincodeMessage_Type
		end     string // prefix of the error that ends the stream; empty: it stays open
	}{
		{"state before register", []*peer.ChaincodeMessage{state}, nil, cannot + " (GET_STATE) while in created state"},
		{"register twice", []*peer.ChaincodeMessage{register(id("twice")), register(id("twice"))}, []peer.ChaincodeMessage_Type{
			peer.ChaincodeMessage_REGISTERED, peer.ChaincodeMessage_READY,
		}, cannot + " (REGISTER) while in ready state"},
		{"unknown transaction", []*peer.ChaincodeMessage{register(id("tx")), state}, []peer.ChaincodeMessage_Type{
			peer.ChaincodeMessage_REGISTERED, peer.ChaincodeMessage_READY, peer.ChaincodeMessage_ERROR,
		}, ""},
		{"unknown type", []*peer.ChaincodeMessage{register(id("type")), {Type: 99, Txid: "t"}}, []peer.ChaincodeMessage_Type{
			peer.ChaincodeMessage_REGISTERED, peer.ChaincodeMessage_READY,
		}, cannot + " (99) while in ready state"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(context10(t))
			defer cancel()
			stream, err := peer.NewChaincodeSupportClient(conn).Register(ctx)
			if err != nil {
				t.Fatal(err)
			}
			answers := tc.answers
			for i, m := range tc.send {
				if err := stream.Send(m); err != nil {
					t.Fatal(err)
				}
				// An end of the stream may overtake answers: read them first.
				for last := i == len(tc.send)-1; len(answers) > 0 && (last || len(answers) > len(tc.answers)-2); answers = answers[1:] {
					if m, err := stream.Recv(); err != nil || m.Type != answers[0] {
						t.Fatalf("%v, %v, want %s", m, err, answers[0])
					}
				}
			}
			if tc.end != "" {
				_, err := stream.Recv()
				expect(t, "end", err, codes.Unknown, tc.end)
			}
		})
	}
	// Garbage instead of an id is ignored, and the stream may still register.
	stream, err := peer.NewChaincodeSupportClient(conn).Register(context10(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []*peer.ChaincodeMessage{register(garbage), register(id("late"))} {
		if err := stream.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	if m, err := stream.Recv(); err != nil || m.Type != peer.ChaincodeMessage_REGISTERED {
		t.Errorf("%v, %v", m, err)
	}
}
