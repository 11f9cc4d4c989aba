package support_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/chaincode/stream"
	"github.com/heddle-ledger/heddle/chaincode/stream/streamtest"
	"github.com/heddle-ledger/heddle/chaincode/support"
)

func marshal(m proto.Message) []byte {
	b, err := proto.Marshal(m)
	if err != nil {
		panic(err)
	}
	return b
}

func msg(typ peer.ChaincodeMessage_Type, channel, txID string, payload proto.Message) *peer.ChaincodeMessage {
	m := &peer.ChaincodeMessage{Type: typ, ChannelId: channel, Txid: txID}
	if payload != nil {
		m.Payload = marshal(payload)
	}
	return m
}

// The messages of the recorded probe get the recorded ends.
func TestIllegalMessages(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	for typ, want := range map[peer.ChaincodeMessage_Type]string{
		0: "UNDEFINED", peer.ChaincodeMessage_INIT: "INIT", peer.ChaincodeMessage_READY: "READY", peer.ChaincodeMessage_RESPONSE: "RESPONSE",
		peer.ChaincodeMessage_TRANSACTION: "TRANSACTION", peer.ChaincodeMessage_REGISTER: "REGISTER", 23: "23", 24: "24", 99: "99",
	} {
		c := w.connect(t)
		c.ready(t, fmt.Sprintf("cc:%d", typ))
		c.say(msg(typ, "ch1", "t", nil))
		want = "error handling message, ending stream: [t] Fabric side handler cannot handle message (" + want + ") while in ready state"
		if err := <-c.ended; err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	c := w.connect(t)
	c.say(msg(peer.ChaincodeMessage_KEEPALIVE, "", "", nil))
	c.say(&peer.ChaincodeMessage{Type: peer.ChaincodeMessage_REGISTER, Payload: []byte{0xff}})
	c.say(msg(peer.ChaincodeMessage_GET_STATE, "ch1", "0123456789", nil))
	want := "error handling message, ending stream: [01234567] Fabric side handler cannot handle message (GET_STATE) while in created state"
	if err := <-c.ended; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	c = w.connect(t)
	close(c.toPeer)
	if err := <-c.ended; !errors.Is(err, io.EOF) || err.Error() != "EOF" {
		t.Error(err)
	}
}

// Requests without a live transaction.
func TestUnknownTransactions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *support.Config) { c.System = map[string]support.System{"lscc": {}} })
	c := w.connect(t)
	c.ready(t, "cc:1")
	call := func(name string) proto.Message {
		return &peer.ChaincodeSpec{ChaincodeId: &peer.ChaincodeID{Name: name}}
	}
	for _, r := range []struct {
		typ     peer.ChaincodeMessage_Type
		channel string
		payload proto.Message
		want    string
	}{
		{peer.ChaincodeMessage_GET_STATE, "ch1", &peer.GetState{Key: "k"}, "GET_STATE failed: transaction ID: nosuchtx: no ledger context"},
		{peer.ChaincodeMessage_PUT_STATE_METADATA, "ch1", nil, "PUT_STATE_METADATA failed: transaction ID: nosuchtx: no ledger context"},
		{peer.ChaincodeMessage_GET_PRIVATE_DATA_HASH, "ch1", nil, "GET_PRIVATE_DATA_HASH failed: transaction ID: nosuchtx: no ledger context"},
		{peer.ChaincodeMessage_INVOKE_CHAINCODE, "ch1", call("cc"), "INVOKE_CHAINCODE failed: transaction ID: nosuchtx: could not get valid transaction"},
		{peer.ChaincodeMessage_INVOKE_CHAINCODE, "", call("cc"), "INVOKE_CHAINCODE failed: transaction ID: nosuchtx: could not get valid transaction"},
		{peer.ChaincodeMessage_INVOKE_CHAINCODE, "", call("lscc"), "INVOKE_CHAINCODE failed: transaction ID: nosuchtx: failed to get transaction context"},
	} {
		c.say(msg(r.typ, r.channel, "nosuchtx", r.payload))
		got := c.hear()
		if got.Type != peer.ChaincodeMessage_ERROR || string(got.Payload) != r.want || got.Txid != "nosuchtx" || got.ChannelId != r.channel {
			t.Errorf("got %v, want %s", got, r.want)
		}
	}
	c.say(msg(peer.ChaincodeMessage_COMPLETED, "ch1", "nosuchtx", nil)) // ignored
	c.say(msg(peer.ChaincodeMessage_KEEPALIVE, "", "", nil))
	c.say(msg(peer.ChaincodeMessage_GET_STATE, "", "x", nil))
	if got := c.hear(); got.Txid != "x" {
		t.Errorf("got %v", got)
	}
}

func TestRegistration(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	first := w.connect(t)
	first.ready(t, "cc:1")
	second := w.connect(t)
	second.register("cc:1")
	// Nothing is sent; the stream is still in created.
	second.say(msg(peer.ChaincodeMessage_KEEPALIVE, "", "", nil))
	second.say(msg(peer.ChaincodeMessage_COMPLETED, "", "t", nil))
	if err := <-second.ended; err == nil || !strings.HasSuffix(err.Error(), "(COMPLETED) while in created state") {
		t.Error(err)
	}
	// The end of the refused stream leaves the good one registered.
	go func() {
		m := first.hear()
		first.say(&peer.ChaincodeMessage{Type: peer.ChaincodeMessage_COMPLETED, Txid: m.Txid, ChannelId: m.ChannelId, Payload: marshal(&peer.Response{Status: 200})})
	}()
	if resp, _, err := w.Execute(t.Context(), w.tx("ch1", "t1"), "cc", "1", args("x")); err != nil || resp.Status != 200 {
		t.Error(resp, err)
	}
	net := newWorld(t, func(c *support.Config) { c.DevMode = false })
	c := net.connect(t)
	c.register("cc:1")
	c.say(msg(peer.ChaincodeMessage_GET_STATE, "", "t", nil))
	if err := <-c.ended; err == nil || !strings.HasSuffix(err.Error(), "while in created state") {
		t.Errorf("unsolicited registration: %v", err)
	}
}

// script plays one transaction: it answers the n-th message of the peer with
// the n-th of the list and returns what it heard.
func (c *conn) script(list ...*peer.ChaincodeMessage) <-chan []*peer.ChaincodeMessage {
	heard := make(chan []*peer.ChaincodeMessage, 1)
	go func() {
		var got []*peer.ChaincodeMessage
		for _, m := range list {
			got = append(got, c.hear())
			c.say(m)
		}
		heard <- got
	}()
	return heard
}

func completed(txID string) *peer.ChaincodeMessage {
	return msg(peer.ChaincodeMessage_COMPLETED, "ch1", txID, &peer.Response{Status: 200})
}

func TestResults(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	c := w.connect(t)
	c.ready(t, "cc:1")
	for i, r := range []struct {
		result *peer.ChaincodeMessage
		want   string
	}{
		{&peer.ChaincodeMessage{Type: peer.ChaincodeMessage_ERROR, Payload: []byte("boom")}, "transaction returned with failure: boom"},
		{&peer.ChaincodeMessage{Type: peer.ChaincodeMessage_COMPLETED, Payload: []byte{0xff}}, "failed to unmarshal response for transaction TX: "},
		{&peer.ChaincodeMessage{Type: peer.ChaincodeMessage_COMPLETED}, ""},
	} {
		tx := w.tx("ch1", fmt.Sprint("r", i))
		r.result.Txid, r.result.ChannelId = tx.TxID, "ch1"
		c.script(r.result)
		_, _, err := w.Execute(t.Context(), tx, "cc", "1", args("x"))
		if want := strings.ReplaceAll(r.want, "TX", tx.TxID); want == "" && err != nil || want != "" && (err == nil || !strings.HasPrefix(err.Error(), want)) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	tx := w.tx("ch1", "noproposal")
	tx.SignedProposal = nil
	_, _, err := w.Execute(t.Context(), tx, "cc", "1", args("x"))
	if want := "failed to execute transaction noproposal: error sending: failed getting proposal context. Signed proposal is nil"; err == nil || err.Error() != want {
		t.Error(err)
	}
}

func TestOneRequestAtATime(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	c := w.connect(t)
	c.ready(t, "cc:1")
	tx := w.tx("ch1", "t1")
	sim := &slowSimulator{Simulator: tx.Simulator, entered: make(chan struct{}), leave: make(chan struct{})}
	tx.Simulator = sim
	done := make(chan error, 1)
	go func() {
		_, _, err := w.Execute(t.Context(), tx, "cc", "1", args("x"))
		done <- err
	}()
	c.hear()
	get := msg(peer.ChaincodeMessage_GET_STATE, "ch1", "t1", &peer.GetState{Key: "k"})
	c.say(get)
	<-sim.entered
	c.say(proto.CloneOf(get)) // dropped without any reply
	c.say(msg(peer.ChaincodeMessage_GET_STATE, "", "other", nil))
	if m := c.hear(); m.Txid != "other" {
		t.Errorf("got %v", m)
	}
	close(sim.leave)
	if m := c.hear(); m.Type != peer.ChaincodeMessage_RESPONSE || m.Txid != "t1" {
		t.Errorf("got %v", m)
	}
	// A second execution for a live transaction.
	_, _, err := w.Execute(t.Context(), w.tx("ch1", "t1"), "cc", "1", args("x"))
	if want := "failed to execute transaction t1: error sending: txid: t1(ch1) exists"; err == nil || err.Error() != want {
		t.Error(err)
	}
	c.say(completed("t1"))
	if err := <-done; err != nil {
		t.Error(err)
	}
}

type slowSimulator struct {
	stream.Simulator
	entered, leave chan struct{}
}

func (s *slowSimulator) GetState(ns, key string) ([]byte, error) {
	close(s.entered)
	<-s.leave
	return []byte("v"), nil
}

func TestPrivateDataIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.define("ch1", "cc", "1")
	c := w.connect(t)
	c.ready(t, "cc:1")
	say := func(typ peer.ChaincodeMessage_Type, m proto.Message) *peer.ChaincodeMessage {
		return msg(typ, "ch1", "t1", m)
	}
	tx := w.tx("ch1", "t1")
	heard := c.script(
		say(peer.ChaincodeMessage_GET_STATE, &peer.GetState{Key: "k", Collection: "c"}),
		say(peer.ChaincodeMessage_PUT_STATE, &peer.PutState{Key: "k", Collection: "c"}),
		say(peer.ChaincodeMessage_GET_PRIVATE_DATA_HASH, &peer.GetState{Key: "k", Collection: "c"}),
		say(peer.ChaincodeMessage_GET_STATE_BY_RANGE, &peer.GetStateByRange{Collection: "c", Metadata: marshal(&peer.QueryMetadata{PageSize: 1})}),
		completed("t1"),
	)
	if _, _, err := w.Execute(t.Context(), tx, "cc", "1", args("x")); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range (<-heard)[1:] {
		got = append(got, strings.TrimPrefix(string(m.Payload), "GET_STATE"))
	}
	want := []string{
		" failed: transaction ID: t1: collection ch1/cc/c could not be found",
		"PUT_STATE failed: transaction ID: t1: collection [c] not defined in the collection config for chaincode [cc]",
		"GET_PRIVATE_DATA_HASH failed: transaction ID: t1: collection [c] not defined in the collection config for chaincode [cc]",
		"_BY_RANGE failed: transaction ID: t1: collection ch1/cc/c could not be found",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	// The look-ups belong to the read set.
	reads := tx.Simulator.(*streamtest.Simulator).Reads
	if diff := cmp.Diff([]string{"lscc/cc~collection", "lscc/cc", "lscc/cc~collection", "lscc/cc", "lscc/cc~collection", "lscc/cc~collection"}, reads); diff != "" {
		t.Error(diff)
	}
	heard = c.script(
		msg(peer.ChaincodeMessage_DEL_STATE, "ch1", "t2", &peer.DelState{Key: "k", Collection: "c"}),
		completed("t2"),
	)
	if _, _, err := w.ExecuteInit(t.Context(), w.tx("ch1", "t2"), w.defs["ch1/cc"], args("x")); err != nil {
		t.Fatal(err)
	}
	if m := (<-heard)[1]; string(m.Payload) != "DEL_STATE failed: transaction ID: t2: private data APIs are not allowed in chaincode Init()" {
		t.Errorf("got %s", m.Payload)
	}
}

func TestQueryLimit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		limit   int
		batches []int // results per answer
		left    int   // entries the iterator was not asked for
	}{
		{50, []int{50}, 200},
		{100, []int{100}, 150},
		{101, []int{100, 1}, 149},
		{230, []int{100, 100, 30}, 20},
		{250, []int{100, 100, 50}, 0},
		{1000, []int{100, 100, 50}, 0},
	} {
		w := newWorld(t, func(cfg *support.Config) { cfg.TotalQueryLimit = c.limit })
		for i := range 250 {
			w.channels["ch1"].Put("cc", fmt.Sprintf("k%03d", i), []byte("v"))
		}
		cn := w.connect(t)
		cn.ready(t, "cc:1")
		tx := w.tx("ch1", "t1")
		done := make(chan error, 1)
		go func() {
			_, _, err := w.Execute(t.Context(), tx, "cc", "1", args("x"))
			done <- err
		}()
		cn.hear()
		cn.say(msg(peer.ChaincodeMessage_GET_STATE_BY_RANGE, "ch1", "t1", &peer.GetStateByRange{}))
		var got []int
		for {
			resp := &peer.QueryResponse{}
			if err := proto.Unmarshal(cn.hear().Payload, resp); err != nil {
				t.Fatal(err)
			}
			got = append(got, len(resp.Results))
			next := msg(peer.ChaincodeMessage_QUERY_STATE_NEXT, "ch1", "t1", &peer.QueryStateNext{Id: resp.Id})
			cn.say(next)
			if !resp.HasMore {
				break
			}
		}
		if m := cn.hear(); string(m.Payload) != "QUERY_STATE_NEXT failed: transaction ID: t1: query iterator not found" {
			t.Errorf("got %s", m.Payload)
		}
		cn.say(completed("t1"))
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		sim := tx.Simulator.(*streamtest.Simulator)
		if diff := cmp.Diff(c.batches, got); diff != "" || sim.Open != 0 || sim.Unread != c.left {
			t.Errorf("limit %d: %s, %d open, %d unread", c.limit, diff, sim.Open, sim.Unread)
		}
	}
}

func TestExecuteTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *support.Config) { c.ExecuteTimeout = 500 * time.Millisecond; c.KeepAlive = 20 * time.Second })
		c := w.connect(t)
		c.ready(t, "cc:1")
		start := time.Now()
		_, _, err := w.Execute(t.Context(), w.tx("ch1", "t1"), "cc", "1", args("x"))
		if want := "failed to execute transaction t1: error sending: timeout expired while executing transaction"; err == nil || err.Error() != want {
			t.Error(err)
		}
		if took := time.Since(start); took != 30*time.Second {
			t.Errorf("took %v; below a second the limit is 30 s", took)
		}
		c.hear()
		if m := c.hear(); m.Type != peer.ChaincodeMessage_KEEPALIVE {
			t.Errorf("got %v", m)
		}
		// Late messages.
		c.say(completed("t1"))
		c.say(msg(peer.ChaincodeMessage_PUT_STATE, "ch1", "t1", &peer.PutState{Key: "k"}))
		if m := c.hear(); string(m.Payload) != "PUT_STATE failed: transaction ID: t1: no ledger context" {
			t.Errorf("got %v", m)
		}
		c.hangUp()
	})
}

// A chaincode that stops reading blocks nobody longer than the time-out.
func TestChaincodeThatDoesNotRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		c := w.connect(t)
		c.ready(t, "cc:1")
		results := make(chan error, 200)
		for i := range 200 {
			go func() {
				_, _, err := w.Execute(t.Context(), w.tx("ch1", fmt.Sprint(i)), "cc", "1", args("x"))
				results <- err
			}()
		}
		for range 200 {
			if err := <-results; err == nil || !strings.HasSuffix(err.Error(), "timeout expired while executing transaction") {
				t.Error(err)
			}
		}
		c.cut()
		<-c.ended
	})
}

func TestStreamEndFailsExecutions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	c := w.connect(t)
	c.ready(t, "cc:1")
	done := make(chan error, 1)
	go func() {
		_, _, err := w.Execute(t.Context(), w.tx("ch1", "t1"), "cc", "1", args("x"))
		done <- err
	}()
	c.hear()
	c.hangUp()
	if err := <-done; err == nil || err.Error() != "failed to execute transaction t1: error sending: chaincode stream terminated" {
		t.Error(err)
	}
	// It is launched anew next time; in dev mode with this hint for an undefined one.
	_, _, err := w.Execute(t.Context(), w.tx("ch1", "t2"), "cc", "1", args("x"))
	if want := "failed to execute transaction t2: [channel ch1] failed to get chaincode container info for cc:1: could not get chaincode code: chaincode cc not found"; err == nil || err.Error() != want {
		t.Error(err)
	}
}

func TestSystemChaincodes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *support.Config) {
		c.System = map[string]support.System{"lscc": {External: true, CC2CC: true, Run: func(_ context.Context, inv *support.Invocation) *peer.Response {
			inv.SetEvent("e", []byte(inv.Caller))
			_, err := inv.GetState("k")
			if err == nil {
				err = inv.PutState("k", inv.Args[0])
			}
			if err == nil {
				_, err = inv.GetStateByRange("", "")
			}
			if err != nil {
				return &peer.Response{Status: 500, Message: err.Error()}
			}
			return &peer.Response{Status: 200}
		}}, "cscc": {External: true}}
	})
	for name, want := range map[string][2]bool{"lscc": {true, true}, "cscc": {true, true}, "escc": {true, false}, "vscc": {true, false}, "cc": {false, true}} {
		if got := [2]bool{w.IsSystem(name), w.InvokableByProposal(name)}; got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
	tx := w.tx("ch1", "t1")
	resp, event, err := w.Execute(t.Context(), tx, "lscc", "", args("v"))
	if err != nil || resp.Status != 200 || event.ChaincodeId != "lscc" || event.TxId != "t1" {
		t.Error(resp, event, err)
	}
	if got := tx.Simulator.(*streamtest.Simulator).Written(); len(got) != 1 || got[0] != "lscc/k" {
		t.Error(got)
	}
	tx.Simulator, tx.TxID = nil, "t2"
	resp, _, err = w.Execute(t.Context(), tx, "lscc", "", args("v"))
	if err != nil || resp.Message != "GET_STATE failed: transaction ID: t2: no ledger context" {
		t.Error(resp, err)
	}
}
