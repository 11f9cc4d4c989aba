package support_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/chaincode/stream/streamtest"
	"github.com/heddle-ledger/heddle/chaincode/support"
)

type recordedMessage struct {
	Dir, Type, Event string
	Payload          []byte
	Proposal         bool
}

type recordedTx struct {
	Stream                     int
	CName, Type, Channel, TxID string
	Args                       []string
	Commit                     bool
	Msgs                       []recordedMessage
}

// Everything a reference peer answered to its chaincodes, private data of
// existing collections left out, is answered the same.
func TestReplayTranscript(t *testing.T) {
	t.Parallel()
	var txs []*recordedTx
	f, err := os.Open("testdata/transcript.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	gz, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.NewDecoder(gz).Decode(&txs); err != nil {
		t.Fatal(err)
	}
	canned := func(_ context.Context, inv *support.Invocation) *peer.Response {
		return cannedResponse(t, txs, inv.TxID)
	}
	w := newWorld(t, func(c *support.Config) {
		c.System = map[string]support.System{
			"lscc": {Run: canned, External: true, CC2CC: true}, "qscc": {Run: canned, External: true, CC2CC: true}, "cscc": {Run: canned, External: true},
		}
	})
	for _, d := range []string{"ch1/vec/1.0", "ch1/callee/1.0", "ch2/callee/1.0"} {
		p := strings.Split(d, "/")
		w.define(p[0], p[1], p[2])
	}
	byKey := map[string]*recordedTx{}
	for _, tx := range txs {
		byKey[tx.CName+tx.Channel+tx.TxID] = tx
	}
	connected := map[string]bool{}
	diffs := make(chan string, 1000)
	for _, tx := range txs {
		if !connected[tx.CName] {
			connected[tx.CName] = true
			c := w.connect(t)
			c.ready(t, tx.CName)
			go c.play(tx.CName, byKey, diffs)
		}
	}
	for _, tx := range txs {
		if tx.isCallee(txs) {
			continue
		}
		name, version, _ := strings.Cut(tx.CName, ":")
		p := w.tx(tx.Channel, tx.TxID)
		var err error
		if tx.Type == "INIT" {
			_, _, err = w.ExecuteInit(t.Context(), p, &support.Definition{Name: name, Version: version}, args(tx.Args...))
		} else {
			_, _, err = w.Execute(t.Context(), p, name, version, args(tx.Args...))
		}
		last := tx.Msgs[len(tx.Msgs)-1]
		if failed := last.Type == "ERROR"; failed != (err != nil) {
			t.Errorf("%v: recorded %s, got %v", tx.Args, last.Type, err)
		}
		sim := p.Simulator.(*streamtest.Simulator)
		if sim.Open != 0 {
			t.Errorf("%v: %d iterators left open", tx.Args, sim.Open)
		}
		if tx.Commit {
			w.channels[tx.Channel].Commit(sim)
		}
	}
	close(diffs)
	for d := range diffs {
		t.Error(d)
	}
}

func (tx *recordedTx) isCallee(all []*recordedTx) bool {
	for _, other := range all {
		if other != tx && other.TxID == tx.TxID && other.CName != tx.CName {
			return strings.HasPrefix(tx.CName, "callee")
		}
	}
	return false
}

// play is the chaincode: it says what the recorded one said, and compares what
// it hears.
func (c *conn) play(cname string, txs map[string]*recordedTx, diffs chan<- string) {
	var tx *recordedTx
	var ids [][2]string // recorded iterator id, ours
	for m := c.hear(); m != nil; m = c.hear() {
		if m.Type == peer.ChaincodeMessage_TRANSACTION || m.Type == peer.ChaincodeMessage_INIT {
			tx = txs[cname+m.ChannelId+m.Txid]
			if tx == nil {
				diffs <- fmt.Sprintf("unexpected %s %s for %s", m.Type, m.Txid, cname)
				return
			}
			tx.Msgs = append([]recordedMessage{}, tx.Msgs...)
		}
		want, rest := tx.Msgs[0], tx.Msgs[1:]
		got := recordedMessage{Dir: "p", Type: m.Type.String(), Payload: m.Payload, Proposal: m.Proposal != nil}
		if a, b := queryID(want.Payload), queryID(got.Payload); a != "" && b != "" {
			ids = append(ids, [2]string{a, b})
			got.Payload = bytes.ReplaceAll(got.Payload, []byte(b), []byte(a))
		}
		if strings.Contains(string(want.Payload), "\x1a\x0b\x08") && len(tx.Args) > 0 && tx.Args[0] == "history" {
			want.Payload, got.Payload = nil, nil // time stamps of the recording
		}
		if diff := cmp.Diff(want, got); diff != "" {
			diffs <- fmt.Sprintf("%s %v: %s", tx.CName, tx.Args, diff)
		}
		say := rest[0]
		if len(rest) > 1 {
			tx.Msgs = rest[1:]
		}
		out := &peer.ChaincodeMessage{
			Type: peer.ChaincodeMessage_Type(peer.ChaincodeMessage_Type_value[say.Type]), Txid: tx.TxID, ChannelId: tx.Channel, Payload: say.Payload,
		}
		if say.Event != "" {
			name := strings.Split(say.Event, `"`)
			out.ChaincodeEvent = &peer.ChaincodeEvent{EventName: name[1], Payload: []byte(name[3])}
		}
		for _, id := range ids {
			out.Payload = bytes.ReplaceAll(out.Payload, []byte(id[0]), []byte(id[1]))
		}
		if len(rest) == 1 {
			tx.Msgs = []recordedMessage{say} // kept for the test's last look
		}
		c.say(out)
	}
}

// queryID returns the id in a QueryResponse; other payloads have none.
func queryID(payload []byte) string {
	resp := &peer.QueryResponse{}
	if proto.Unmarshal(payload, resp) != nil || len(resp.Id) != 36 || strings.Count(resp.Id, "-") != 4 {
		return ""
	}
	return resp.Id
}

// cannedResponse is what the recorded system chaincode answered.
func cannedResponse(t *testing.T, txs []*recordedTx, txID string) *peer.Response {
	for _, tx := range txs {
		if tx.TxID != txID {
			continue
		}
		for _, m := range tx.Msgs {
			msg := &peer.ChaincodeMessage{}
			if m.Type == "RESPONSE" && proto.Unmarshal(m.Payload, msg) == nil && msg.Type == peer.ChaincodeMessage_COMPLETED {
				resp := &peer.Response{}
				if err := proto.Unmarshal(msg.Payload, resp); err != nil {
					t.Error(err)
				}
				return resp
			}
		}
	}
	t.Errorf("no answer recorded for %s", txID)
	return &peer.Response{Status: 500}
}
