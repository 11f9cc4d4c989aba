package consensustest

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-protos-go-apiv2/common"

	"github.com/heddle-ledger/heddle/orderer/consensus"
)

// Run checks an engine. open is called inside a testing/synctest bubble and
// returns a fresh engine whose chains become ready by themselves.
func Run(t *testing.T, open func(t *testing.T) consensus.Consenter) {
	for name, test := range map[string]func(*testing.T, *bench){
		"count":          testCount,
		"timeout":        testTimeout,
		"config":         testConfig,
		"stale":          testStale,
		"stop":           testStop,
		"caller leaves":  testCallerLeaves,
		"failing writes": testFailingWrites,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				test(t, &bench{t: t, consenter: open(t), support: NewSupport(3, time.Second)})
			})
		})
	}
}

type bench struct {
	t         *testing.T
	consenter consensus.Consenter
	support   *Support
	chain     consensus.Chain
	stop      context.CancelFunc
	done      chan error
}

func (b *bench) start() {
	b.t.Helper()
	var err error
	if b.chain, err = b.consenter.NewChain(b.support, &common.Metadata{}); err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.t.Context())
	b.stop, b.done = cancel, make(chan error, 1)
	go func() { b.done <- b.chain.Run(ctx) }()
	if err := b.chain.WaitReady(ctx); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) end() {
	b.t.Helper()
	b.stop()
	if err := <-b.done; err != nil {
		b.t.Errorf("Run: %s", err)
	}
}

func (b *bench) order(names ...string) {
	b.t.Helper()
	for _, n := range names {
		if err := b.chain.Order(b.t.Context(), NewMessage(n, common.HeaderType_MESSAGE), 0); err != nil {
			b.t.Errorf("Order %s: %s", n, err)
		}
	}
}

func (b *bench) configure(name string, seq uint64) {
	b.t.Helper()
	if err := b.chain.Configure(b.t.Context(), NewMessage(name, common.HeaderType_CONFIG), seq); err != nil {
		b.t.Errorf("Configure %s: %s", name, err)
	}
}

// expect compares the messages of all blocks; those of a config block come after
// a word.
func (b *bench) expect(want ...[]string) {
	b.t.Helper()
	synctest.Wait()
	var got [][]string
	for _, block := range b.support.Blocks() {
		if block.Config {
			block.Messages = append([]string{"config:"}, block.Messages...)
		}
		got = append(got, block.Messages)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		b.t.Errorf("blocks (-want +got):\n%s", diff)
	}
}

func testCount(t *testing.T, b *bench) {
	b.start()
	defer b.end()
	b.order("1", "2", "3", "4")
	b.expect([]string{"1", "2", "3"})
}

// testTimeout: the timer begins with the first pending message, and a cut that
// leaves a message pending does not start it anew.
func testTimeout(t *testing.T, b *bench) {
	b.start()
	defer b.end()
	begin := time.Now()
	b.order("1")
	time.Sleep(600 * time.Millisecond)
	b.support.SetPreferredMaxBytes(NewMessage("2", common.HeaderType_MESSAGE).Size())
	b.order("2") // cuts 1 and is pending itself
	b.expect([]string{"1"})
	time.Sleep(600 * time.Millisecond)
	b.expect([]string{"1"}, []string{"2"})
	if at := b.support.Blocks()[1].At.Sub(begin); at != time.Second {
		t.Errorf("second block after %s, want 1s", at)
	}
	time.Sleep(5 * time.Second)
	b.expect([]string{"1"}, []string{"2"})
}

// testConfig: pending messages are cut first, the config message has a block of
// its own, and the timer is off afterwards.
func testConfig(t *testing.T, b *bench) {
	b.start()
	defer b.end()
	b.order("1", "2")
	b.configure("c", 0)
	b.configure("d", 1)
	b.expect([]string{"1", "2"}, []string{"config:", "c"}, []string{"config:", "d"})
	time.Sleep(5 * time.Second)
	b.expect([]string{"1", "2"}, []string{"config:", "c"}, []string{"config:", "d"})
}

func testStale(t *testing.T, b *bench) {
	b.start()
	defer b.end()
	b.support.SetSequence(1)
	b.support.Invalidate("bad", "bad config")
	b.order("good", "bad")
	b.configure("bad config", 0)
	b.configure("c", 0)
	time.Sleep(2 * time.Second)
	b.expect([]string{"good"}, []string{"config:", "c again"})
}

func testStop(t *testing.T, b *bench) {
	b.start()
	select {
	case <-b.chain.Errored():
		t.Error("the chain is errored while it runs")
	default:
	}
	b.end()
	<-b.chain.Errored()
	if err := b.chain.Order(t.Context(), NewMessage("late", common.HeaderType_MESSAGE), 0); err == nil {
		t.Error("a stopped chain takes a message")
	}
	b.expect()
}

func testCallerLeaves(t *testing.T, b *bench) {
	b.start()
	defer b.end()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	// Both outcomes are right; it must not hang.
	if err := b.chain.Order(ctx, NewMessage("1", common.HeaderType_MESSAGE), 0); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("Order: %s", err)
	}
}

func testFailingWrites(t *testing.T, b *bench) {
	b.support.FailWrites()
	b.start()
	defer b.stop()
	b.order("1", "2", "3")
	if err := <-b.done; err == nil {
		t.Error("Run goes on although nothing can be written")
	}
	<-b.chain.Errored()
}
