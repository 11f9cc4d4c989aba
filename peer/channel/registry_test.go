package channel

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/orderer"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/chaincode/packaging"
	"github.com/heddle-ledger/heddle/internal/blockpull"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/policy"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/testnet/testchain"
	"github.com/heddle-ledger/heddle/ledger"
	"github.com/heddle-ledger/heddle/peer/validation"
)

// peerDir is the directory of a peer that may be stopped and started.
type peerDir struct {
	t   testing.TB
	dir string
	log *flog.Logger
}

// running is a peer's registry with its ledgers.
type running struct {
	*Registry
	t       testing.TB
	ledgers *ledger.Provider
	cancel  context.CancelFunc
	done    chan error
}

func (p peerDir) start(ahead int) *running {
	p.t.Helper()
	return p.startPulling(ahead, nil)
}

func (p peerDir) startPulling(ahead int, pull *blockpull.Config) *running {
	p.t.Helper()
	ledgers, err := ledger.OpenProvider(ledger.Config{Dir: p.dir, Log: flog.Nop()})
	if err != nil {
		p.t.Fatal(err)
	}
	r := &running{t: p.t, ledgers: ledgers, done: make(chan error, 1), Registry: New(Config{
		Ledgers: ledgers, Pool: validation.NewPool(2), AheadBlocks: ahead, Log: p.log, Pull: pull,
	})}
	if err := r.OpenAll(p.t.Context()); err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	go func() { r.done <- r.Run(ctx) }()
	return r
}

func (r *running) stop() error {
	r.t.Helper()
	r.cancel()
	err := <-r.done
	r.ledgers.Close()
	return err
}

func (r *running) channel(id string) *Channel {
	r.t.Helper()
	c, ok := r.Channel(id)
	if !ok {
		r.t.Fatalf("channel %s is not there", id)
	}
	return c
}

// waitFor waits until the channel has the height, or Run has ended.
func (r *running) waitFor(c *Channel, height uint64) {
	r.t.Helper()
	for {
		changed := c.Changed()
		if c.Height() >= height {
			return
		}
		select {
		case <-changed:
		case err := <-r.done:
			r.t.Fatalf("ended at height %d: %v", c.Height(), err)
		}
	}
}

func (r *running) offer(c *Channel, blocks ...*common.Block) {
	r.t.Helper()
	for _, b := range blocks {
		if err := c.Offer(r.t.Context(), proto.CloneOf(b), nil, true); err != nil {
			r.t.Fatal(err)
		}
	}
}

func storedFlags(t testing.TB, c *Channel) []string {
	t.Helper()
	var out []string
	for n := uint64(1); n < c.Height(); n++ {
		b, err := c.Ledger().BlockByNumber(n)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, fmt.Sprintf("%d: %v", n, protoutil.ParseBlock(b).Flags()))
	}
	return out
}

func newPeerDir(t testing.TB) peerDir { return peerDir{t: t, dir: t.TempDir(), log: flog.Nop()} }

func TestJoinOpenList(t *testing.T) {
	t.Parallel()
	net := testchain.New(t)
	dir := newPeerDir(t)
	r := dir.start(0)
	if err := r.Join(net.Genesis("b")); err != nil {
		t.Fatal(err)
	}
	genesis := net.Genesis("a")
	var joins sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		joins.Go(func() { errs[i] = r.Join(genesis) })
	}
	joins.Wait()
	won := 0
	for _, err := range errs {
		switch {
		case err == nil:
			won++
		case err.Error() != "cannot create ledger from genesis block: LedgerID already exists":
			t.Error(err)
		}
	}
	if won != 1 {
		t.Errorf("%d joins of one channel", won)
	}
	if len(genesis.Metadata.Metadata[2]) > 0 {
		t.Error("the caller's block was changed")
	}
	check := func(r *running) {
		t.Helper()
		if d := cmp.Diff([]string{"a", "b"}, r.List()); d != "" {
			t.Error(d)
		}
		c := r.channel("a")
		b, err := c.ConfigBlock()
		if err != nil || c.Height() != 1 || c.Next() != 1 || b.Header.Number != 0 || string(protoutil.ParseBlock(b).Flags()) != "\x00" {
			t.Errorf("config block %v, height %d, %v", b.GetHeader(), c.Height(), err)
		}
		if c.Bundle().ChannelID() != "a" || c.Bundle().Sequence() != 0 {
			t.Error("wrong bundle")
		}
	}
	check(r)
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	r = dir.start(0)
	check(r)
	if err := r.stop(); err != nil {
		t.Error(err)
	}
}

func TestJoinRefused(t *testing.T) {
	t.Parallel()
	net := testchain.New(t)
	r := newPeerDir(t).start(0)
	defer r.stop()
	change := func(f func(n *testchain.Net, b *common.Block, c *common.Config)) *common.Block {
		n := *net
		b := n.Genesis("ch")
		env := envelopeOf(t, b.Data.Data[0])
		payload := &common.Payload{}
		cfg := &common.ConfigEnvelope{}
		must(t, proto.Unmarshal(env.Payload, payload))
		must(t, proto.Unmarshal(payload.Data, cfg))
		f(&n, b, cfg.Config)
		payload.Data = protoutil.Marshal(cfg)
		env.Payload = protoutil.Marshal(payload)
		b.Data.Data[0] = protoutil.Marshal(env)
		b.Header.DataHash = protoutil.DataHash(b.Data.Data)
		return b
	}
	for _, tc := range []struct {
		block *common.Block
		want  string
	}{
		{
			change(func(_ *testchain.Net, b *common.Block, _ *common.Config) { b.Header.Number = 3 }),
			"cannot create ledger from genesis block: Expected block number=0, received block number=3",
		},
		{change(func(_ *testchain.Net, _ *common.Block, c *common.Config) { delete(c.ChannelGroup.Groups, "Orderer") }), ""},
		{change(func(_ *testchain.Net, _ *common.Block, c *common.Config) {
			c.ChannelGroup.Values["OrdererAddresses"].Value = nil
		}), ErrNoEndpoints.Error()},
		{
			change(func(_ *testchain.Net, _ *common.Block, c *common.Config) {
				delete(c.ChannelGroup.Groups, "Application")
			}),
			"[channel ch] does not have application config so is incompatible",
		},
		{change(func(_ *testchain.Net, _ *common.Block, c *common.Config) {
			c.ChannelGroup.Groups["Application"].Values["Capabilities"].Value = protoutil.Marshal(
				&common.Capabilities{Capabilities: map[string]*common.Capability{"V2_0": {}}})
		}), "Application capability V2_0 is required but not supported"},
		{nil, ""},
		{&common.Block{}, ""},
	} {
		err := r.Join(tc.block)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("got %v, want %s", err, tc.want)
		}
	}
	if len(r.List()) != 0 {
		t.Errorf("joined %v", r.List())
	}
	if err := r.Join(net.Genesis("ch")); err != nil { // none of that stands in the way
		t.Error(err)
	}
	bare := net.Genesis("bare")
	bare.Metadata = nil
	if err := r.Join(bare); err != nil {
		t.Error(err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestConfigBlockTakesEffect(t *testing.T) {
	t.Parallel()
	net := testchain.New(t)
	dir := newPeerDir(t)
	r := dir.start(0)
	genesis := net.Genesis("ch")
	if err := r.Join(genesis); err != nil {
		t.Fatal(err)
	}
	w := r.Watch()
	defer w.Close()
	<-w.C
	if got := w.Take(); len(got) != 1 || got["ch"].Sequence() != 0 {
		t.Errorf("watch starts with %v", got)
	}
	c := r.channel("ch")
	env := net.ConfigUpdate(c.Bundle(), func(cfg *common.Config) {
		cfg.ChannelGroup.Values["OrdererAddresses"].Value = protoutil.Marshal(&common.OrdererAddresses{Addresses: []string{"elsewhere:1"}})
		cfg.ChannelGroup.Groups["Orderer"].Values["BatchTimeout"].Value = protoutil.Marshal(&orderer.BatchTimeout{Timeout: "9s"})
	}, net.Admin1, net.Admin2, net.OrdererAdm)
	r.offer(c, net.Block(1, genesis.Header, 1, env))
	<-w.C
	if got := w.Take(); got["ch"] == nil || got["ch"].Sequence() != 1 || got["ch"] != c.Bundle() {
		t.Errorf("watch shows %v", got)
	}
	eps, err := OrdererEndpoints(c.Bundle())
	if err != nil || len(eps) != 1 || eps[0].Address != "elsewhere:1" || len(eps[0].Roots) == 0 {
		t.Errorf("endpoints %v, %v", eps, err)
	}
	r.waitFor(c, 2)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r = dir.start(0)
	c = r.channel("ch")
	b, err := c.ConfigBlock()
	if err != nil || b.Header.Number != 1 || c.Bundle().Sequence() != 1 {
		t.Errorf("after restart: sequence %d, config block %v, %v", c.Bundle().Sequence(), b.GetHeader(), err)
	}
	if err := r.stop(); err != nil {
		t.Error(err)
	}
}

// TestRestartsInBetween stops and starts a peer all the time while it catches up,
// on the real ledger, and compares with one that works serially without a break.
func TestRestartsInBetween(t *testing.T) {
	t.Parallel()
	g := newGenerator(t, 42)
	g.hashed = true
	const length = 40
	for len(g.chain) < length {
		g.block()
	}
	serial := newPeerDir(t).start(1)
	must(t, serial.Join(g.chain[0]))
	c := serial.channel("ch")
	serial.offer(c, g.chain[1:]...)
	serial.waitFor(c, length)
	want := storedFlags(t, c)
	wantInfo := c.Ledger().Info()
	must(t, serial.stop())

	dir := newPeerDir(t)
	r := dir.start(0)
	must(t, r.Join(g.chain[0]))
	for height := uint64(1); height < length; {
		c = r.channel("ch")
		r.offer(c, g.chain[c.Height():]...)
		r.waitFor(c, min(length, height+1+uint64(g.rnd.IntN(8))))
		must(t, r.stop())
		r = dir.start(0)
		height = r.channel("ch").Height()
	}
	if d := cmp.Diff(want, storedFlags(t, r.channel("ch"))); d != "" {
		t.Error(d)
	}
	if !proto.Equal(wantInfo, r.channel("ch").Ledger().Info()) {
		t.Error("the chains differ")
	}
	must(t, r.stop())
}

// TestExecutionFailureStopsOneChannel: a missing validation plugin stops its
// channel and nothing else.
func TestExecutionFailureStopsOneChannel(t *testing.T) {
	t.Parallel()
	g := newGenerator(t, 7)
	g.add(g.net.Deploy("ch", "deploy", &packaging.ChaincodeData{
		Name: "bad", Version: "1.0", Escc: "escc", Vscc: "nosuch", Policy: g.anybody(),
		InstantiationPolicy: protoutil.Marshal(policy.SignedByAnyAdmin([]string{"Org1MSP"})),
	}))
	g.add(g.net.Tx(testchain.Tx{Channel: "ch", Chaincode: "bad"}))
	log := &logCatcher{}
	dir := peerDir{t: t, dir: t.TempDir(), log: flog.ForTest(log)}
	r := dir.start(0)
	other := g.net.Genesis("other")
	must(t, r.Join(g.chain[0]))
	must(t, r.Join(other))
	c := r.channel("ch")
	r.offer(c, g.chain[1:]...)
	log.wait("Failed executing VSCC due to plugin with name nosuch couldn't be used: plugin with name nosuch wasn't found. Aborting chain processing")
	log.wait("[ch] Validated block [2] in ")
	if c.Height() != 3 {
		t.Errorf("height %d", c.Height())
	}
	o := r.channel("other")
	r.offer(o, g.net.Block(1, other.Header, 0, g.net.Tx(testchain.Tx{Channel: "other", Chaincode: "x"})))
	r.waitFor(o, 2)
	must(t, r.stop())
}

// TestFatalErrorEndsRun: where the reference panics, Run ends with the text.
func TestFatalErrorEndsRun(t *testing.T) {
	t.Parallel()
	net := testchain.New(t)
	r := newPeerDir(t).start(0)
	genesis := net.Genesis("ch")
	must(t, r.Join(genesis))
	c := r.channel("ch")
	wrong := net.Block(1, &common.BlockHeader{Number: 77}, 0, net.Tx(testchain.Tx{Channel: "ch", Chaincode: "x"}))
	r.offer(c, wrong) // signed, but it does not continue the chain
	err := <-r.done
	if err == nil || !strings.HasPrefix(err.Error(), "Cannot commit block to the ledger due to ") || errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	r.ledgers.Close()
}

// logCatcher collects log lines.
type logCatcher struct {
	mu    sync.Mutex // guards what follows
	lines []string
	more  chan struct{}
}

func (*logCatcher) Helper() {}

func (l *logCatcher) Log(args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprint(args...))
	if l.more != nil {
		close(l.more)
		l.more = nil
	}
}

func (l *logCatcher) wait(text string) {
	for {
		l.mu.Lock()
		found := strings.Contains(strings.Join(l.lines, "\n"), text)
		if l.more == nil {
			l.more = make(chan struct{})
		}
		more := l.more
		l.mu.Unlock()
		if found {
			return
		}
		<-more
	}
}
