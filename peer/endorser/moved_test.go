package endorser_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	ccshim "github.com/hyperledger/fabric-chaincode-go/v2/shim"
	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset/kvrwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/chaincode/packaging"
	ccruntime "github.com/heddle-ledger/heddle/chaincode/runtime"
	"github.com/heddle-ledger/heddle/chaincode/stream"
	"github.com/heddle-ledger/heddle/chaincode/support"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/metrics"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/ledger"
	"github.com/heddle-ledger/heddle/ledger/state"
	"github.com/heddle-ledger/heddle/ledger/state/couchdb"
	"github.com/heddle-ledger/heddle/ledger/state/couchdb/couchtest"
	"github.com/heddle-ledger/heddle/peer/endorser"
)

// TestMovedSimulations are made again, once, whatever became of the first: nothing
// of it is left.
func TestMovedSimulations(t *testing.T) {
	t.Parallel()
	twice := []string{"free, 1 open", "held, 1 open"}
	for name, c := range map[string]struct {
		first      outcome
		simulators []string
		want       string // of the error answer; empty: endorsed
	}{
		"success":       {outcome{status: 200, event: "wrong", private: true}, twice, ""},
		"refusal":       {outcome{status: 404}, twice, ""},
		"failure":       {outcome{status: 500}, twice, ""},
		"error":         {outcome{err: errors.New("stream ended")}, twice, ""},
		"took too long": {outcome{err: fmt.Errorf("failed to execute: %w", timedOut(t))}, twice[:1], "failed to execute: timeout expired while executing transaction"},
		"client left":   {outcome{status: 200, leave: true}, twice[:1], "context canceled"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.moves = true
			w.event = &peer.ChaincodeEvent{EventName: "right"}
			w.state["lscc/cc~collection"] = protoutil.Marshal(&peer.CollectionConfigPackage{})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			x := &turning{fakeExecutor{w}, c.first, cancel}
			w.config.Executor = x
			resp, err := endorser.New(w.config).ProcessProposal(ctx, w.sign(t, "ch", spec("cc", "f")))
			must(t, err)
			if d := cmp.Diff(c.simulators, w.simulators); d != "" || w.open != 0 {
				t.Errorf("%s, %d open", d, w.open)
			}
			if c.want != "" {
				if resp.Response.Status != 500 || resp.Response.Message != c.want || resp.Endorsement != nil {
					t.Errorf("got %v", resp)
				}
				return
			}
			if resp.Endorsement == nil || !proto.Equal(resp.Response, w.response) {
				t.Fatalf("got %v", resp)
			}
			event := &peer.ChaincodeEvent{}
			_, action := actionOf(t, resp.Payload)
			must(t, proto.Unmarshal(action.Events, event))
			if event.EventName != "right" || w.distributed != nil {
				t.Errorf("event %v, private data %v", event, w.distributed)
			}
		})
	}
}

// timedOut is the error of an execution that takes too long.
func timedOut(t *testing.T) error {
	ctx, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	h := host{make(chan struct{})}
	s := &shim{make(chan *peer.ChaincodeMessage), make(chan *peer.ChaincodeMessage, 8), make(chan struct{})}
	defer close(s.ended)
	cc := stream.New(stream.Config{Host: h, Metrics: stream.NewMetrics(metrics.Disabled()), Log: flog.Nop()})
	register := &peer.ChaincodeMessage{Type: peer.ChaincodeMessage_REGISTER, Payload: protoutil.Marshal(&peer.ChaincodeID{Name: "cc:1"})}
	go cc.Serve(s, register) //nolint:errcheck // ends with the shim
	<-h.ready
	_, err := cc.Execute(ctx, &stream.Call{Type: peer.ChaincodeMessage_TRANSACTION, Input: &peer.ChaincodeInput{}})
	if !stream.IsTimeout(err) {
		t.Fatal(err)
	}
	return err
}

// outcome is what becomes of a simulation.
type outcome struct {
	status  int32
	err     error
	event   string
	private bool
	leave   bool
}

// turning is an executor that does something else at first.
type turning struct {
	fakeExecutor
	first outcome
	leave context.CancelFunc
}

func (x *turning) Execute(ctx context.Context, p *support.TxParams, name, version string, in *peer.ChaincodeInput) (*peer.Response, *peer.ChaincodeEvent, error) {
	x.w.private = nil
	if p.Simulator.(*fakeSimulator).held {
		return x.fakeExecutor.Execute(ctx, p, name, version, in)
	}
	if x.first.private {
		x.w.private = &rwset.TxPvtReadWriteSet{NsPvtRwset: []*rwset.NsPvtReadWriteSet{{Namespace: "cc"}}}
	}
	if x.first.leave {
		x.leave()
	}
	return &peer.Response{Status: x.first.status}, &peer.ChaincodeEvent{EventName: x.first.event}, x.first.err
}

// TestQueriesBesideCommits: a chaincode that reads, and queries after the next
// block, gets answers that fit together, on its own channel and on another one.
// No client hears that the state was overtaken, even if the chaincode keeps that to
// itself.
func TestQueriesBesideCommits(t *testing.T) {
	t.Parallel()
	const clients, each = 3, 8
	b := newBank(t)
	ctx, cancel := context.WithCancel(t.Context())
	var commits, calls sync.WaitGroup
	for _, id := range []string{"one", "two"} {
		commits.Go(func() { b.trade(ctx, id) })
	}
	e := endorser.New(b.w.config)
	for range clients {
		for _, f := range []string{"audit", "call", "change"} {
			calls.Go(func() {
				for range each {
					b.check(t, e, f)
				}
			})
		}
	}
	calls.Wait()
	cancel()
	commits.Wait()
	if runs := b.runs(); runs["audit"] != 2*clients*each || runs["call"] != 2*clients*each || runs["change"] != 2*clients*each {
		t.Errorf("%v of %d executions each", runs, clients*each)
	}
}

const (
	accounts = 8
	holding  = 100 // of each account at first
)

// bank has two channels on one CouchDB, and a chaincode that looks at accounts.
type bank struct {
	t        *testing.T
	w        *world
	run      *support.Support
	channels map[string]*ledger.Ledger

	mu    sync.Mutex      // guards what follows
	seen  map[string]bool // "function channel txid"
	count map[string]int  // by function
}

func newBank(t *testing.T) *bank {
	t.Helper()
	b := &bank{t: t, w: newWorld(t), channels: map[string]*ledger.Ledger{}, seen: map[string]bool{}, count: map[string]int{}}
	address := couchtest.Server(t)
	p, err := ledger.OpenProvider(ledger.Config{Dir: filepath.Join(t.TempDir(), "ledgersData"), OpenState: func() (state.Provider, error) {
		return couchdb.OpenProvider(context.Background(), couchdb.Config{Address: address, InternalQueryLimit: 3})
	}})
	must(t, err)
	t.Cleanup(func() { must(t, p.Close()) })
	for _, id := range []string{"one", "two"} {
		genesis := protoutil.NewBlock(0, nil)
		genesis.Data.Data = [][]byte{envelope(id, common.HeaderType_CONFIG, protoutil.Marshal(&common.ConfigEnvelope{Config: &common.Config{}}))}
		b.channels[id], err = p.Create(genesis)
		must(t, err)
		var held [accounts]int
		for i := range held {
			held[i] = holding
		}
		b.commit(id, held[:])
	}
	b.w.config.Ledger = func(id string) (endorser.Ledger, bool) {
		return endorser.OnLedger(b.channels[id]), b.channels[id] != nil
	}
	b.run = support.New(support.Config{Lifecycle: b, Access: b, Channels: b, Packages: b, Runtime: b})
	b.w.config.Executor = b.run
	return b
}

func envelope(channel string, typ common.HeaderType, data []byte) []byte {
	return protoutil.Marshal(&common.Envelope{Payload: protoutil.Marshal(&common.Payload{
		Header: &common.Header{ChannelHeader: protoutil.Marshal(&common.ChannelHeader{Type: int32(typ), ChannelId: channel})},
		Data:   data,
	})})
}

// Start runs the chaincode with the stock shim in this process.
func (b *bank) Start(context.Context, *ccruntime.Spec) (ccruntime.Instance, error) {
	lis := bufconn.Listen(1 << 20)
	server := grpc.NewServer()
	peer.RegisterChaincodeSupportServer(server, b.run)
	go server.Serve(lis) //nolint:errcheck // ends by Stop
	cc, err := grpc.NewClient("passthrough:bufnet", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
	if err != nil {
		return nil, err
	}
	st, err := peer.NewChaincodeSupportClient(cc).Register(context.Background())
	if err != nil {
		return nil, err
	}
	i := &inShim{end: func() { cc.Close(); server.Stop() }, ended: make(chan struct{})}
	go func() { ccshim.StartInProc("bank:7", st, b); close(i.ended) }() //nolint:errcheck // ends with the stream
	b.t.Cleanup(i.Stop)
	return i, nil
}

// inShim is a chaincode in this process.
type inShim struct {
	end   func()
	ended chan struct{}
}

func (i *inShim) Stop() {
	i.end()
	<-i.ended
}

func (i *inShim) Wait(ctx context.Context) (int, error) {
	select {
	case <-i.ended:
		return 0, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func (*inShim) Output() string { return "" }

func (b *bank) Load(name, version string) (*packaging.Package, error) {
	return packaging.Parse(protoutil.Marshal(deploymentSpec(name, version)))
}

// commit writes all accounts of a channel.
func (b *bank) commit(id string, held []int) {
	l := b.channels[id]
	set := &kvrwset.KVRWSet{}
	for i, n := range held {
		set.Writes = append(set.Writes, &kvrwset.KVWrite{Key: account(i), Value: fmt.Appendf(nil, `{"holds":%d}`, n)})
	}
	last, err := l.BlockByNumber(l.Height() - 1)
	must(b.t, err)
	block := protoutil.NewBlock(last.Header.Number+1, protoutil.BlockHash(last.Header))
	block.Data.Data = [][]byte{envelope(id, common.HeaderType_ENDORSER_TRANSACTION, protoutil.Marshal(&peer.Transaction{Actions: []*peer.TransactionAction{{
		Payload: protoutil.Marshal(&peer.ChaincodeActionPayload{Action: &peer.ChaincodeEndorsedAction{
			ProposalResponsePayload: protoutil.Marshal(&peer.ProposalResponsePayload{Extension: protoutil.Marshal(&peer.ChaincodeAction{
				Results: protoutil.Marshal(&rwset.TxReadWriteSet{NsRwset: []*rwset.NsReadWriteSet{{Namespace: "bank", Rwset: protoutil.Marshal(set)}}}),
			})}),
		}}),
	}}}))}
	v := protoutil.ParseBlock(block)
	v.SetFlags([]byte{0})
	if err := l.Commit(v); err != nil {
		b.t.Error(err)
	}
}

func account(i int) string { return fmt.Sprintf("acct%02d", i) }

// trade moves amounts from account to account, block by block.
func (b *bank) trade(ctx context.Context, id string) {
	held := make([]int, accounts)
	for i := range held {
		held[i] = holding
	}
	for n := 0; ctx.Err() == nil; n++ {
		amount := held[n%accounts] / 2
		held[n%accounts] -= amount
		held[(n+3)%accounts] += amount
		b.commit(id, held)
	}
}

// Simulator implements support.Channels as the peer does.
func (b *bank) Simulator(channelID, txID string, caller stream.Simulator) (stream.Simulator, stream.HistoryReader, func(), error) {
	sim, err := caller.(*ledger.Simulator).Nested(b.channels[channelID], txID)
	if err != nil {
		return nil, nil, nil, err
	}
	return sim, nil, sim.Done, nil
}

func (b *bank) KeyLevelEndorsement(string) error                    { return nil }
func (b *bank) CheckACL(string, string, *peer.SignedProposal) error { return nil }
func (b *bank) ContainerInfo(string, stream.Simulator) (*support.Definition, error) {
	return &support.Definition{Name: "bank", Version: "7"}, nil
}

func (b *bank) Callee(_, name string, _ stream.Simulator) (*support.Definition, error) {
	return &support.Definition{Name: name, Version: "7"}, nil
}

// first notes an execution, and tells whether it is the transaction's first one on
// the channel.
func (b *bank) first(stub ccshim.ChaincodeStubInterface, function string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := fmt.Sprintf("%s %s %s", function, stub.GetChannelID(), stub.GetTxID())
	first := !b.seen[at]
	b.seen[at] = true
	b.count[function]++
	return first
}

func (b *bank) runs() map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.count
}

// Init implements ccshim.Chaincode.
func (b *bank) Init(ccshim.ChaincodeStubInterface) *peer.Response { return ccshim.Success(nil) }

// Invoke implements ccshim.Chaincode. It never fails.
func (b *bank) Invoke(stub ccshim.ChaincodeStubInterface) *peer.Response {
	function := stub.GetStringArgs()[0]
	first := b.first(stub, function)
	if function == "call" {
		resp := stub.InvokeChaincode("bank", [][]byte{[]byte("look")}, "two")
		return ccshim.Success(fmt.Appendf(resp.Payload, "%s", resp.Message))
	}
	l := b.channels[stub.GetChannelID()]
	height := l.Height()
	one, err := stub.GetState(account(3))
	if err == nil && first { // then all accounts are overtaken
		err = l.WaitHeight(context.Background(), height+2)
	}
	if err != nil {
		return ccshim.Success([]byte(err.Error()))
	}
	if function == "change" {
		if err := stub.PutState("change", []byte(stub.GetTxID())); err != nil {
			return ccshim.Success([]byte(err.Error()))
		}
	}
	return ccshim.Success([]byte(addUp(stub, string(one))))
}

// addUp is "fine" if the accounts are those of one block, that of the value read.
func addUp(stub ccshim.ChaincodeStubInterface, one string) string {
	it, err := stub.GetQueryResult(`{"selector":{"holds":{"$gte":0}}}`)
	if err != nil {
		return "nothing can be said"
	}
	defer it.Close()
	sum := 0
	for it.HasNext() {
		kv, err := it.Next()
		if err != nil {
			return "nothing can be said"
		}
		var held struct{ Holds int }
		if err := json.Unmarshal(kv.Value, &held); err != nil {
			return err.Error()
		}
		if kv.Key == account(3) && string(kv.Value) != one {
			return fmt.Sprintf("%s was read, %s is found", one, kv.Value)
		}
		sum += held.Holds
	}
	if sum != accounts*holding {
		return fmt.Sprintf("the sum is %d", sum)
	}
	return "fine"
}

// check sends one proposal and looks at what is endorsed.
func (b *bank) check(t *testing.T, e *endorser.Endorser, function string) {
	resp, err := e.ProcessProposal(context.Background(), b.w.sign(t, "one", spec("bank", function)))
	if err != nil || string(resp.GetResponse().GetPayload()) != "fine" || resp.Endorsement == nil {
		t.Errorf("%s: %v, %v", function, resp, err)
		return
	}
	_, action := actionOf(t, resp.Payload)
	set := &rwset.TxReadWriteSet{}
	must(t, proto.Unmarshal(action.Results, set))
	if function == "call" {
		if len(set.NsRwset) != 0 {
			t.Errorf("reads of another channel are recorded: %v", set)
		}
		return
	}
	kv := &kvrwset.KVRWSet{}
	must(t, proto.Unmarshal(set.NsRwset[0].Rwset, kv))
	var versions []string
	for _, r := range kv.Reads {
		versions = append(versions, fmt.Sprint(r.Version.GetBlockNum()))
	}
	if n := len(slices.Compact(versions)); len(kv.Reads) != accounts || n != 1 {
		t.Errorf("%s: reads of %d blocks: %s", function, n, strings.Join(versions, " "))
	}
}
