package validation

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset/kvrwset"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/testnet/testchain"
	"github.com/heddle-ledger/heddle/peer/validation/vscc"
)

// TestPoolOrder makes every call wait for an earlier one; a pool that did not
// keep its promise would hang.
func TestPoolOrder(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1, 2, 5} {
		pool := NewPool(size)
		var both sync.WaitGroup
		for range 3 { // several blocks share the pool
			both.Go(func() {
				done := make([]chan struct{}, 200)
				for i := range done {
					done[i] = make(chan struct{})
				}
				err := pool.Run(t.Context(), len(done), 3, func(i int) {
					if i > 0 {
						<-done[rand.IntN(i)]
					}
					close(done[i])
				})
				if err != nil {
					t.Error(err)
				}
				for i := range done {
					<-done[i]
				}
			})
		}
		both.Wait()
	}
}

func TestPoolEndsWithContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	err := NewPool(1).Run(ctx, 100, 1, func(i int) {
		if calls++; i == 5 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || calls == 100 {
		t.Errorf("%d calls, %v", calls, err)
	}
}

// keyLevelBlock is a block full of key-level policy changes and writes of few
// keys, half of them not endorsed, and some too broken to get to the plugin.
func keyLevelBlock(net *testchain.Net, genesis *common.Block, seed uint64) *common.Block {
	rnd := rand.New(rand.NewPCG(seed, 2))
	var envelopes [][]byte
	for range 40 {
		key := fmt.Sprintf("k%d", rnd.IntN(5))
		kv := &kvrwset.KVRWSet{Writes: []*kvrwset.KVWrite{{Key: key, Value: []byte("v")}}}
		if rnd.IntN(3) == 0 {
			kv = &kvrwset.KVRWSet{MetadataWrites: []*kvrwset.KVMetadataWrite{testchain.Parameter(key, nil)}}
		}
		tx := testchain.Tx{Channel: "ch", Chaincode: "mycc", Set: []*rwset.NsReadWriteSet{testchain.Namespace("mycc", kv)}}
		switch rnd.IntN(6) {
		case 0:
			tx.Creator = net.Orderer // fails as an endorser, too
			tx.Endorsers = nil
		case 1:
			tx.Version = "0.9" // expired before the plugin is asked
		case 2:
			tx.Chaincode = "unknown" // no definition
		}
		raw := net.Tx(tx)
		if rnd.IntN(8) == 0 {
			raw[len(raw)-1] ^= 1 // bad signature
		}
		envelopes = append(envelopes, raw)
	}
	return net.Block(2, genesis.Header, 0, envelopes...)
}

// TestVerdictsDoNotDependOnTiming judges blocks full of dependencies with pools
// of every size.
func TestVerdictsDoNotDependOnTiming(t *testing.T) {
	t.Parallel()
	net := testchain.New(t)
	genesis, ledger := deployed(t, net)
	config := ConfigOf(bundleOf(t, genesis), noOtherChannel)
	for seed := range uint64(6) {
		var want []string
		for _, size := range []int{1, 2, 8} {
			b := keyLevelBlock(net, genesis, seed)
			// The block must be the same every time but for its random signatures.
			if _, err := judge(t, newValidator(t, "ch", size), b, View{Config: config, State: ledger, Index: ledger}); err != nil {
				t.Fatal(err)
			}
			if want == nil {
				want = codes(b)
			} else if d := cmp.Diff(want, codes(b)); d != "" {
				t.Errorf("seed %d, pool of %d: %s", seed, size, d)
			}
		}
	}
}

func TestDuplicatesOfPendingBlocks(t *testing.T) {
	t.Parallel()
	net := testchain.New(t)
	genesis, ledger := deployed(t, net)
	config := ConfigOf(bundleOf(t, genesis), noOtherChannel)
	v := newValidator(t, "ch", 2)
	envelopes := puts(net, 3)
	first, err := v.Scan(t.Context(), protoutil.ParseBlock(net.Block(2, genesis.Header, 0, envelopes...)))
	if err != nil {
		t.Fatal(err)
	}
	b := net.Block(3, genesis.Header, 0, envelopes[1], puts(net, 1)[0])
	if _, err := judge(t, v, b, View{Config: config, State: ledger, Index: ledger, Pending: []*Scan{first}}); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"9 DUPLICATE_TXID", "0 VALID"}, codes(b)); d != "" {
		t.Error(d)
	}
}

type brokenState struct{ *testchain.Ledger }

var errDisk = errors.New("disk is gone")

func (brokenState) GetState(string, string) ([]byte, error) { return nil, errDisk }
func (brokenState) HasTx(string) (bool, error)              { return false, errDisk }

// TestReadFailuresAreFatal tells execution failures from others and reports the
// lowest transaction.
func TestReadFailuresAreFatal(t *testing.T) {
	t.Parallel()
	net := testchain.New(t)
	genesis, ledger := deployed(t, net)
	config := ConfigOf(bundleOf(t, genesis), noOtherChannel)
	for _, tc := range []struct {
		name      string
		view      View
		execution bool
	}{
		{"state", View{Config: config, State: brokenState{ledger}, Index: ledger}, true},
		{"index", View{Config: config, State: ledger, Index: brokenState{ledger}}, false},
	} {
		b := net.Block(2, genesis.Header, 0, append([][]byte{{}}, puts(net, 3)...)...)
		_, err := judge(t, newValidator(t, "ch", 4), b, tc.view)
		var f *FatalError
		if !errors.As(err, &f) || f.Execution != tc.execution || f.Tx != 1 || !errors.Is(err, errDisk) {
			t.Errorf("%s: %v", tc.name, err)
		}
		if len(protoutil.ParseBlock(b).Flags()) != 0 {
			t.Errorf("%s: flags were written", tc.name)
		}
	}
}

type plugin struct{ err error }

func (p plugin) Validate(*vscc.Call) error { return p.err }

func TestPluginTable(t *testing.T) {
	t.Parallel()
	net := testchain.New(t)
	genesis, ledger := deployed(t, net)
	config := ConfigOf(bundleOf(t, genesis), noOtherChannel)
	for _, tc := range []struct {
		err   error
		codes []string
		fatal string
	}{
		{nil, []string{"0 VALID"}, ""},
		{errors.New("no"), []string{"10 ENDORSEMENT_POLICY_FAILURE"}, ""},
		{fmt.Errorf("wrapped: %w", &vscc.ExecutionError{Err: errDisk}), nil, errDisk.Error()},
	} {
		v, err := New(Config{ChannelID: "ch", Plugins: map[string]func() Plugin{"vscc": func() Plugin { return plugin{tc.err} }}})
		if err != nil {
			t.Fatal(err)
		}
		b := net.Block(2, genesis.Header, 0, puts(net, 1)...)
		_, err = judge(t, v, b, View{Config: config, State: ledger, Index: ledger})
		if fmt.Sprint(err) != tc.fatal && (err != nil || tc.fatal != "") {
			t.Errorf("got error %v, want %s", err, tc.fatal)
		}
		if d := cmp.Diff(tc.codes, codes(b)); d != "" {
			t.Error(d)
		}
	}
	if _, err := New(Config{Plugins: map[string]func() Plugin{"vscc": nil}}); err == nil {
		t.Error("a plugin without implementation is accepted")
	}
}

func TestCachesAreBounded(t *testing.T) {
	t.Parallel()
	var c bounded[int]
	for i := range 100_000 {
		c.put(fmt.Sprint(i), i, 100)
		if c.bytes > cacheBytes {
			t.Fatalf("%d bytes", c.bytes)
		}
	}
	if v, ok := c.get("99999"); !ok || v != 99999 {
		t.Error("the newest entry is gone")
	}
	c.put("x", 1, 2*cacheBytes) // alone it is kept
	if _, ok := c.get("x"); !ok || len(c.m) != 1 {
		t.Error("a large entry")
	}
}

// FuzzJudge takes arbitrary envelope bytes through validation in a block with a
// good transaction, under the oldest and the newest rules.
func FuzzJudge(f *testing.F) {
	bundle, ledger := seeded(f)
	var good []byte
	for i, r := range recordedBlocks(f) {
		for _, tx := range r.Txs {
			f.Add(tx.Envelope)
		}
		if i == 0 {
			good = r.Txs[0].Envelope
		}
	}
	newest := ConfigOf(bundle, noOtherChannel)
	oldest := ConfigOf(bundle, noOtherChannel)
	oldest.Rules = vscc.Rules{}
	f.Fuzz(func(t *testing.T, envelope []byte) {
		for _, config := range []*ChannelConfig{newest, oldest} {
			b := protoutil.NewBlock(3, nil)
			b.Data.Data = [][]byte{envelope, good}
			_, err := judge(t, newValidator(t, "standalone", 2), b, View{Config: config, State: ledger, Index: ledger})
			var fatal *FatalError
			if err != nil && !errors.As(err, &fatal) {
				t.Fatal(err)
			}
			if flags := protoutil.ParseBlock(b).Flags(); err == nil && len(flags) != 2 {
				t.Fatalf("flags %v", flags)
			}
		}
	})
}
