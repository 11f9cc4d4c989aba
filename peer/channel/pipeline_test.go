package channel

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset/kvrwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/orderer"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/chaincode/packaging"
	"github.com/heddle-ledger/heddle/internal/chanconfig"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/metrics"
	"github.com/heddle-ledger/heddle/internal/policy"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/testnet/testchain"
	"github.com/heddle-ledger/heddle/internal/testpki"
	"github.com/heddle-ledger/heddle/msp"
	"github.com/heddle-ledger/heddle/peer/validation"
)

// memLedger is a ledger in memory as the pipeline uses it.
type memLedger struct{ *testchain.Ledger }

func (l memLedger) State(context.Context, uint64) (validation.State, func(), error) {
	return l.Ledger, func() {}, nil
}

func (l memLedger) Commit(_ context.Context, b *protoutil.Block) error { return l.Ledger.Commit(b) }

// memConfig is a configuration without a registry.
type memConfig struct {
	mu     sync.Mutex // guards what follows
	bundle *chanconfig.Bundle
	rules  *validation.ChannelConfig
}

func newMemConfig(t testing.TB, genesis *common.Block) *memConfig {
	t.Helper()
	b, err := chanconfig.BundleFromBlock(genesis, chanconfig.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c := &memConfig{}
	c.set(b)
	return c
}

func (c *memConfig) set(b *chanconfig.Bundle) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bundle = b
	c.rules = validation.ConfigOf(b, func(string) (msp.Deserializer, bool) { return nil, false })
}

func (c *memConfig) current() *validation.ChannelConfig {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rules
}

func (c *memConfig) verify(b *protoutil.Block) error {
	c.mu.Lock()
	bundle := c.bundle
	c.mu.Unlock()
	n := b.Number()
	return chanconfig.VerifyParsedBlock(bundle, "ch", &n, b)
}

func (c *memConfig) apply(b *protoutil.Block) error {
	env, err := committedConfig(b)
	if err != nil || env == nil {
		return err
	}
	next, err := chanconfig.NewBundle("ch", env.Config, chanconfig.Options{})
	if err == nil {
		c.set(next)
	}
	return err
}

// rig is a pipeline over a ledger in memory.
type rig struct {
	*pipeline
	mem *testchain.Ledger
	max int // most blocks seen in flight at a commit
}

func newRig(t testing.TB, genesis *common.Block, ahead, pool int, log *flog.Logger) *rig {
	t.Helper()
	l, err := testchain.NewLedger(genesis)
	if err != nil {
		t.Fatal(err)
	}
	v, err := validation.New(validation.Config{ChannelID: "ch", Pool: validation.NewPool(pool), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{mem: l, pipeline: &pipeline{
		inbox: newInbox(1), validator: v, ledger: memLedger{l}, config: newMemConfig(t, genesis),
		committed: func(*protoutil.Block) {}, flight: newFlight(1, ahead), log: log,
		metrics: newMetrics(metrics.Disabled()).of("ch"),
	}}
	l.Life = 3
	l.OnCommit = func(*protoutil.Block) error {
		time.Sleep(time.Millisecond) // virtual: everything else goes as far as it can
		r.flight.mu.Lock()
		r.max = max(r.max, len(r.flight.scans))
		r.flight.mu.Unlock()
		return nil
	}
	return r
}

// feed runs the pipeline over the blocks until the ledger has the height.
func (r *rig) feed(t testing.TB, blocks []*common.Block, height uint64) error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- r.run(ctx) }()
	for _, b := range blocks {
		if err := r.inbox.put(ctx, proto.CloneOf(b), nil, true); err != nil {
			t.Fatal(err)
		}
	}
	reached := make(chan error, 1)
	go func() { reached <- r.flight.wait(ctx, height) }()
	select {
	case err := <-done:
		return err
	case <-reached:
		cancel()
		return <-done
	}
}

func flagsOf(l *testchain.Ledger) []string {
	var out []string
	for _, b := range l.Blocks[1:] {
		out = append(out, fmt.Sprintf("%d: %v", b.Number(), b.Flags()))
	}
	return out
}

// generator makes random chains in which blocks depend on each other in every way
// there is.
type generator struct {
	t      testing.TB
	rnd    *rand.Rand
	net    *testchain.Net
	bundle *chanconfig.Bundle
	chain  []*common.Block
	last   uint64 // config block
	txs    [][]byte
	nonces [][]byte
	hashed bool           // with private data
	major  map[string]int // version by chaincode
}

func newGenerator(t testing.TB, seed uint64) *generator {
	t.Helper()
	g := &generator{t: t, rnd: rand.New(rand.NewPCG(seed, 1)), net: testchain.New(t), major: map[string]int{"mycc": 1, "other": 1, "bad": 1, "badplugin": 1}}
	g.chain = []*common.Block{g.net.Genesis("ch")}
	b, err := chanconfig.BundleFromBlock(g.chain[0], chanconfig.Options{})
	if err != nil {
		t.Fatal(err)
	}
	g.bundle = b
	g.add(g.deploy("deploy", "mycc", g.anybody(), collections("mycc")), g.deploy("deploy", "other", g.anybody(), collections("other")))
	return g
}

// collections is the write that gives a chaincode the collection coll.
func collections(chaincode string) *kvrwset.KVWrite {
	return &kvrwset.KVWrite{Key: chaincode + "~collection", Value: protoutil.Marshal(&peer.CollectionConfigPackage{
		Config: []*peer.CollectionConfig{{Payload: &peer.CollectionConfig_StaticCollectionConfig{
			StaticCollectionConfig: &peer.StaticCollectionConfig{Name: "coll"},
		}}},
	})}
}

func (g *generator) add(envelopes ...[]byte) {
	n := uint64(len(g.chain))
	g.chain = append(g.chain, g.net.Block(n, g.chain[n-1].Header, g.last, envelopes...))
	g.txs = append(g.txs, envelopes...)
}

func (g *generator) anybody() []byte {
	return protoutil.Marshal(policy.SignedByAnyMember([]string{"Org1MSP", "Org2MSP"}))
}

func (g *generator) onePolicy() []byte {
	return [][]byte{
		protoutil.Marshal(policy.SignedByMSPMember("Org1MSP")), protoutil.Marshal(policy.SignedByMSPMember("Org2MSP")), g.anybody(), nil,
	}[g.rnd.IntN(4)]
}

func (g *generator) deploy(function, name string, pol []byte, extra ...*kvrwset.KVWrite) []byte {
	return g.net.Deploy("ch", function, &packaging.ChaincodeData{
		Name: name, Version: fmt.Sprintf("%d.0", g.major[name]), Escc: "escc", Vscc: "vscc", Policy: pol,
		InstantiationPolicy: protoutil.Marshal(policy.SignedByAnyAdmin([]string{"Org1MSP", "Org2MSP"})),
	}, extra...)
}

// recent is one of the latest transactions.
func (g *generator) recent() []byte {
	latest := g.txs[max(0, len(g.txs)-8):]
	return latest[g.rnd.IntN(len(latest))]
}

// tx is a random transaction on few keys.
func (g *generator) tx() []byte {
	if g.rnd.IntN(15) == 0 {
		return g.recent() // again
	}
	key := fmt.Sprintf("k%d", g.rnd.IntN(4))
	kv, h := &kvrwset.KVRWSet{}, &kvrwset.HashedRWSet{}
	kind := g.rnd.IntN(6)
	if g.hashed && g.rnd.IntN(3) == 0 {
		kind = 6 + g.rnd.IntN(2)
	}
	switch kind {
	case 0, 1, 2:
		kv.Writes = []*kvrwset.KVWrite{{Key: key, Value: []byte("v")}}
	case 3:
		kv.Writes = []*kvrwset.KVWrite{{Key: key, IsDelete: true}}
	case 4:
		kv.MetadataWrites = []*kvrwset.KVMetadataWrite{testchain.Parameter(key, g.onePolicy())}
	case 5:
		kv.Writes = []*kvrwset.KVWrite{{Key: key, Value: []byte("v")}}
		kv.MetadataWrites = []*kvrwset.KVMetadataWrite{testchain.Parameter(key, g.onePolicy())}
	case 6:
		h.HashedWrites = []*kvrwset.KVWriteHash{{KeyHash: []byte(key), ValueHash: []byte("h"), IsDelete: g.rnd.IntN(3) == 0}}
	case 7:
		m := testchain.Parameter(key, g.onePolicy())
		h.MetadataWrites = []*kvrwset.KVMetadataWriteHash{{KeyHash: []byte(key), Entries: m.Entries}}
	}
	name := []string{"mycc", "other"}[g.rnd.IntN(2)]
	version := g.major[name]
	if g.rnd.IntN(20) == 0 {
		version--
	}
	t := testchain.Tx{
		Channel: "ch", Chaincode: name, Version: fmt.Sprintf("%d.0", version),
		Endorsers: [][]*testpki.Identity{{g.net.Peer1}, {g.net.Peer2}, {g.net.Peer1, g.net.Peer2}, {}}[g.rnd.IntN(4)],
		Set:       []*rwset.NsReadWriteSet{testchain.Namespace(name, kv, testchain.Collection("coll", h))},
	}
	switch {
	case len(g.nonces) > 0 && g.rnd.IntN(12) == 0:
		t.Nonce = g.nonces[len(g.nonces)-1] // another transaction with a known id
	case g.rnd.IntN(3) == 0:
		t.Nonce = []byte(fmt.Sprint("nonce", g.rnd.Uint64()))
		g.nonces = append(g.nonces, t.Nonce)
	}
	return g.net.Tx(t)
}

func (g *generator) block() {
	switch g.rnd.IntN(14) {
	case 0:
		g.config()
		return
	case 1:
		cc := []string{"mycc", "other"}[g.rnd.IntN(2)]
		g.major[cc]++
		up := g.deploy("upgrade", cc, g.anybody(), collections(cc))
		g.add(g.tx(), up, g.tx())
		return
	}
	var envelopes [][]byte
	for range 1 + g.rnd.IntN(6) {
		envelopes = append(envelopes, g.tx())
	}
	g.add(envelopes...)
}

// config changes the batch timeout or the application capability.
func (g *generator) config() {
	env := g.net.ConfigUpdate(g.bundle, func(c *common.Config) {
		if g.rnd.IntN(2) == 0 {
			c.ChannelGroup.Groups["Orderer"].Values["BatchTimeout"].Value = protoutil.Marshal(
				&orderer.BatchTimeout{Timeout: fmt.Sprintf("%dms", 1000+len(g.chain))})
			return
		}
		name := []string{"V1_1", "V1_2", "V1_3", "V1_4_2"}[g.rnd.IntN(4)]
		caps := &common.Capabilities{Capabilities: map[string]*common.Capability{name: {}, "V1_1_RESOURCETREE_EXPERIMENTAL": {}}}
		if g.bundle.Sequence()%2 == 0 { // never the same twice in a row
			delete(caps.Capabilities, "V1_1_RESOURCETREE_EXPERIMENTAL")
		}
		c.ChannelGroup.Groups["Orderer"].Values["BatchTimeout"].Value = protoutil.Marshal(
			&orderer.BatchTimeout{Timeout: fmt.Sprintf("%dms", 1000+len(g.chain))})
		c.ChannelGroup.Groups["Application"].Values["Capabilities"].Value = protoutil.Marshal(caps)
	}, g.net.Admin1, g.net.Admin2, g.net.OrdererAdm)
	_, cfg, err := chanconfig.ConfigOfEnvelope(envelopeOf(g.t, env))
	if err == nil {
		g.bundle, err = chanconfig.NewBundle("ch", cfg.Config, chanconfig.Options{})
	}
	if err != nil {
		g.t.Fatal(err)
	}
	g.last = uint64(len(g.chain))
	g.add(env)
	g.txs = g.txs[:len(g.txs)-1] // a config transaction is fatal the second time
}

func envelopeOf(t testing.TB, raw []byte) *common.Envelope {
	t.Helper()
	env := &common.Envelope{}
	if err := proto.Unmarshal(raw, env); err != nil {
		t.Fatal(err)
	}
	return env
}

// TestPipelinedEqualsSerial compares the verdicts of a pipeline that runs ahead
// as far as it may with those of strictly serial processing, on random chains.
func TestPipelinedEqualsSerial(t *testing.T) {
	seeds, length := 12, 60
	if testing.Short() {
		seeds = 2
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			g := newGenerator(t, uint64(seed))
			g.hashed = seed%2 == 0
			for len(g.chain) < length {
				g.block()
			}
			var want []string
			for _, shape := range []struct{ ahead, pool int }{{1, 1}, {8, 1}, {8, 4}, {3, 2}} {
				synctest.Test(t, func(t *testing.T) {
					r := newRig(t, g.chain[0], shape.ahead, shape.pool, flog.Nop())
					if err := r.feed(t, g.chain[1:], uint64(length)); err != nil {
						t.Fatal(err)
					}
					if got := flagsOf(r.mem); want == nil {
						want = got
					} else if d := cmp.Diff(want, got); d != "" {
						t.Errorf("%+v: %s", shape, d)
					}
					if shape.ahead > 1 && r.max < 2 {
						t.Errorf("%+v: never more than %d block in flight", shape, r.max)
					}
				})
			}
			checkVariety(t, want)
		})
	}
}

// checkVariety makes sure that a random chain is worth something.
func checkVariety(t *testing.T, flags []string) {
	t.Helper()
	all := strings.Join(flags, " ")
	for _, code := range []string{" 9", " 10", " 17"} {
		if !strings.Contains(all, code) && !strings.Contains(all, strings.Replace(code, " ", "[", 1)) {
			t.Logf("no transaction with code%s", code)
		}
	}
	if n := strings.Count(all, " 0") + strings.Count(all, "[0"); n < 20 {
		t.Errorf("only %d valid transactions", n)
	}
}

// TestPendingChanges has pairs of blocks of which the second one depends on the
// first in a way that random chains seldom hit.
func TestPendingChanges(t *testing.T) {
	g := newGenerator(t, 4)
	org2 := protoutil.Marshal(policy.SignedByMSPMember("Org2MSP"))
	kv := func(name string, kv *kvrwset.KVRWSet, h *kvrwset.HashedRWSet) []byte {
		g.t.Helper()
		tx := testchain.Tx{Channel: "ch", Chaincode: "mycc", Version: "2.0", Set: []*rwset.NsReadWriteSet{
			testchain.Namespace("mycc", kv, testchain.Collection("coll", h)),
		}}
		if name == "org2" {
			tx.Endorsers = []*testpki.Identity{g.net.Peer2}
		}
		return g.net.Tx(tx)
	}
	g.major["mycc"] = 2
	g.add(g.deploy("upgrade", "mycc", g.anybody(), collections("mycc")))
	put := &kvrwset.KVRWSet{Writes: []*kvrwset.KVWrite{{Key: "k", Value: []byte("v")}}}
	param := &kvrwset.KVRWSet{MetadataWrites: []*kvrwset.KVMetadataWrite{testchain.Parameter("k", org2)}}
	del := &kvrwset.KVRWSet{Writes: []*kvrwset.KVWrite{{Key: "k", IsDelete: true}}}
	hput := &kvrwset.HashedRWSet{HashedWrites: []*kvrwset.KVWriteHash{{KeyHash: []byte("h"), ValueHash: []byte("v")}}}
	hparam := &kvrwset.HashedRWSet{HashedWrites: hput.HashedWrites, MetadataWrites: []*kvrwset.KVMetadataWriteHash{{
		KeyHash: []byte("h"), Entries: testchain.Parameter("h", org2).Entries,
	}}}
	none, hnone := &kvrwset.KVRWSet{}, &kvrwset.HashedRWSet{}
	for _, e := range [][]byte{
		kv("", put, hnone), kv("", param, hnone), // 3, 4
		kv("", put, hnone), kv("org2", del, hnone), // 5: refused, 6
		kv("", put, hnone),   // 7: accepted, the policy is gone
		kv("", none, hparam), // 8
		kv("", none, hput),   // 9: refused
		kv("", put, hnone),   // 10
		kv("", put, hnone),   // 11
		kv("", put, hnone),   // 12: purges what 8 wrote
		kv("", none, hput),   // 13: accepted
	} {
		g.add(e)
	}
	want := map[uint64]byte{5: 10, 9: 10}
	for _, ahead := range []int{1, 8} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, g.chain[0], ahead, 2, flog.Nop())
			if err := r.feed(t, g.chain[1:], uint64(len(g.chain))); err != nil {
				t.Fatal(err)
			}
			for _, b := range r.mem.Blocks[2:] {
				if b.Flags()[0] != want[b.Number()] {
					t.Errorf("ahead %d: block %d has flags %v", ahead, b.Number(), b.Flags())
				}
			}
		})
	}
}

type source struct{ rejected chan error }

func (s *source) Reject(err error) { s.rejected <- err }

func TestBadBlockIsRejected(t *testing.T) {
	g := newGenerator(t, 1)
	for len(g.chain) < 5 {
		g.add(g.tx())
	}
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, g.chain[0], 8, 2, flog.Nop())
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		done := make(chan error, 1)
		go func() { done <- r.run(ctx) }()
		src := &source{rejected: make(chan error, 1)}
		bad := proto.CloneOf(g.chain[2])
		bad.Data.Data = bad.Data.Data[:0:0]
		for _, b := range []*common.Block{g.chain[1], bad, g.chain[3], g.chain[4]} {
			if err := r.inbox.put(ctx, proto.CloneOf(b), src, true); err != nil {
				t.Fatal(err)
			}
		}
		if err := <-src.rejected; err == nil {
			t.Error("no reason given")
		}
		if n := r.inbox.next(); n != 2 {
			t.Errorf("block %d is wanted next", n)
		}
		for _, b := range g.chain[2:] {
			if err := r.inbox.put(ctx, proto.CloneOf(b), src, true); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.flight.wait(ctx, 5); err != nil {
			t.Fatal(err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestFatalErrorKeepsEarlierBlocks(t *testing.T) {
	g := newGenerator(t, 2)
	g.add(g.tx())
	g.add(g.deploy("deploy", "badplugin", g.anybody()))
	cc := &packaging.ChaincodeData{
		Name: "bad", Version: "1.0", Escc: "escc", Vscc: "nosuch", Policy: g.anybody(),
		InstantiationPolicy: protoutil.Marshal(policy.SignedByAnyAdmin([]string{"Org1MSP"})),
	}
	g.add(g.net.Deploy("ch", "deploy", cc))
	g.add(g.tx())
	g.add(g.net.Tx(testchain.Tx{Channel: "ch", Chaincode: "bad"}))
	g.add(g.tx())
	for _, ahead := range []int{1, 8} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, g.chain[0], ahead, 2, flog.Nop())
			err := r.feed(t, g.chain[1:], uint64(len(g.chain)))
			var f *validation.FatalError
			if !errors.As(err, &f) || !f.Execution || f.Error() != "plugin with name nosuch couldn't be used: plugin with name nosuch wasn't found" {
				t.Errorf("got %v", err)
			}
			if h := r.mem.Height(); h != 6 {
				t.Errorf("height %d", h)
			}
		})
	}
}

func TestCommitErrorStops(t *testing.T) {
	g := newGenerator(t, 3)
	for len(g.chain) < 8 {
		g.add(g.tx())
	}
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, g.chain[0], 8, 2, flog.Nop())
		broken := errors.New("disk is gone")
		r.mem.OnCommit = func(b *protoutil.Block) error {
			if b.Number() == 4 {
				return broken
			}
			return nil
		}
		if err := r.feed(t, g.chain[1:], 8); !errors.Is(err, broken) || r.mem.Height() != 4 {
			t.Errorf("height %d, %v", r.mem.Height(), err)
		}
	})
}
