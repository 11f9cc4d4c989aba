package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/ledger/blockfile"
	sets "github.com/heddle-ledger/heddle/ledger/rwset"
	"github.com/heddle-ledger/heddle/ledger/state"
	"github.com/heddle-ledger/heddle/ledger/state/leveldb"
)

// farState is a state database on a server, the way to which can be cut.
type farState struct {
	state.Provider

	mu    sync.Mutex // guards what follows
	fails func(call string) error
}

// set says what becomes of calls from now on; nil lets all of them pass.
func (p *farState) set(fails func(call string) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fails = fails
}

func (p *farState) fail(call string) error {
	p.mu.Lock()
	fails := p.fails
	p.mu.Unlock()
	if fails == nil {
		return nil
	}
	return fails(call)
}

func (p *farState) Open(id string) (state.DB, error) {
	if err := p.fail("open"); err != nil {
		return nil, err
	}
	db, err := p.Provider.Open(id)
	return &farDB{db, p}, err
}

type farDB struct {
	state.DB
	p *farState
}

func (*farDB) Address() string { return "couch:5984" }

func (d *farDB) Get(ns, key string) (*state.Value, error) {
	if err := d.p.fail("get"); err != nil {
		return nil, err
	}
	return d.DB.Get(ns, key)
}

func (d *farDB) GetMany(ns string, keys []string) ([]*state.Value, error) {
	if err := d.p.fail("get many"); err != nil {
		return nil, err
	}
	return d.DB.GetMany(ns, keys)
}

func (d *farDB) Versions(lookups []state.Lookup) error {
	if err := d.p.fail("versions"); err != nil {
		return err
	}
	return d.DB.Versions(lookups)
}

func (d *farDB) Range(ns, start, end string, limit int32) (state.Iterator, error) {
	if err := d.p.fail("range"); err != nil {
		return nil, err
	}
	it, err := d.DB.Range(ns, start, end, limit)
	return &farIterator{it, d.p}, err
}

type farIterator struct {
	state.Iterator
	p *farState
}

func (i *farIterator) Next() (*state.KV, error) {
	if err := i.p.fail("next"); err != nil {
		return nil, err
	}
	return i.Iterator.Next()
}

func (d *farDB) Apply(b *state.Batch, savepoint *state.Version, sync bool) error {
	if err := d.p.fail("apply"); err != nil {
		return err
	}
	if err := d.DB.Apply(b, savepoint, sync); err != nil {
		return err
	}
	return d.p.fail("applied") // the answer gets lost
}

func (d *farDB) Savepoint() (*state.Version, error) {
	if err := d.p.fail("savepoint"); err != nil {
		return nil, err
	}
	return d.DB.Savepoint()
}

func (d *farDB) Snapshot() (state.Snapshot, error) {
	if err := d.p.fail("snapshot"); err != nil {
		return nil, err
	}
	s, err := d.DB.Snapshot()
	return &farSnapshot{s, d.p}, err
}

type farSnapshot struct {
	state.Snapshot
	p *farState
}

func (s *farSnapshot) Get(ns, key string) (*state.Value, error) {
	if err := s.p.fail("read"); err != nil {
		return nil, err
	}
	return s.Snapshot.Get(ns, key)
}

var (
	errAway     = &state.UnreachableError{Err: errors.New("no route")}
	errAnswered = &state.UnreachableError{Answered: true, Err: errors.New("out of order")}
	errRefused  = errors.New("unauthorized")
)

// always fails some calls.
func always(err error, calls ...string) func(string) error {
	return func(call string) error {
		for _, c := range calls {
			if c == call {
				return err
			}
		}
		return nil
	}
}

// until fails calls up to a moment.
func until(end time.Time, err error, calls ...string) func(string) error {
	fails := always(err, calls...)
	return func(call string) error {
		if time.Now().Before(end) {
			return fails(call)
		}
		return nil
	}
}

// farLedger is a channel with a state that is far away, and what is logged of it.
type farLedger struct {
	*Ledger
	t     *testing.T
	p     *Provider
	cfg   Config
	state *farState
	log   *bytes.Buffer
}

func newFarLedger(t *testing.T) *farLedger {
	t.Helper()
	t.Cleanup(func() { time.Sleep(2 * time.Second) }) // goleveldb's goroutines end by and by
	fs := vfs.NewMem()
	f := &farLedger{t: t, state: &farState{}, log: &bytes.Buffer{}}
	logging, err := flog.New(f.log, "%{message}", "warning")
	must(t, err)
	f.cfg = Config{Dir: testDir, FS: fs, History: true, manual: true, Log: logging.Root(), OpenState: func() (state.Provider, error) {
		p, err := leveldb.OpenProvider(leveldb.Config{Dir: path.Join(testDir, dirState), FS: fs})
		f.state.Provider = p
		return f.state, err
	}}
	f.p = openProvider(t, f.cfg)
	f.Ledger, err = f.p.Create(genesisOf("ch"))
	must(t, err)
	f.commit(t.Context(), func(r *sets.Builder) { r.Write("cc", "a", []byte("1")) })
	return f
}

// next is the next block, with one transaction.
func (f *farLedger) next(fill func(*sets.Builder)) *protoutil.Block {
	f.t.Helper()
	last, err := f.blocks.BlockByNumber(f.blocks.Height() - 1)
	must(f.t, err)
	r := sets.NewBuilder()
	fill(r)
	b, _ := blockOf(f.t, last, r)
	return b
}

func (f *farLedger) commit(ctx context.Context, fill func(*sets.Builder)) {
	f.t.Helper()
	must(f.t, f.CommitContext(ctx, f.next(fill), nil))
}

// everything reads and writes in all ways that a commit knows.
func everything(r *sets.Builder) {
	r.Read("cc", "a", &state.Version{Block: 1})
	q := r.OpenRange("cc", "", "z")
	q.Add("a", state.Version{Block: 1})
	q.End()
	r.WriteMetadata("cc", "a", map[string][]byte{"m": []byte("v")})
	r.Write("cc", "b", []byte("2"))
	r.Write(lifecycleNamespace, "cc", []byte("v1"))
}

// TestBlocksWaitForTheState: whatever fails while the database is away, the block
// goes on when it is back, and nobody sees it before its state.
func TestBlocksWaitForTheState(t *testing.T) {
	for _, call := range []string{"versions", "range", "next", "get", "apply", "applied"} {
		t.Run(call, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFarLedger(t)
				begun := time.Now()
				f.state.set(until(begun.Add(25*time.Second), errAway, call))
				b := f.next(everything)
				done := make(chan error)
				go func() { done <- f.CommitContext(t.Context(), b, nil) }()
				time.Sleep(20 * time.Second)
				f.notShown(b)
				if err := <-done; err != nil || time.Since(begun) > 32*time.Second {
					t.Errorf("%v after %s", err, time.Since(begun))
				}
				if f.Height() != 3 || b.Flags()[0] != 0 {
					t.Errorf("height %d, flags %v", f.Height(), b.Flags())
				}
				v, err := f.Ledger.state.Get("cc", "b")
				if err != nil || string(v.Value) != "2" {
					t.Errorf("got %v, %v", v, err)
				}
				f.checkLog(call)
				must(t, f.p.Close())
			})
		})
	}
}

// checkLog: a line for each attempt, and one for the end.
func (f *farLedger) checkLog(call string) {
	f.t.Helper()
	lines := strings.Split(strings.TrimSpace(f.log.String()), "\n")
	var want []string
	for i, pause := range []string{"500ms", "1s", "2s", "4s", "8s", "16s"} {
		want = append(want, fmt.Sprintf("[ch] The state database at couch:5984 is out of reach while committing block [2]. Attempt %d has failed and is repeated in %s: no route", i+1, pause))
	}
	want = append(want, "[ch] The state database at couch:5984 is there again after 31.5s; goes on committing block [2]")
	if got := strings.Join(lines, "\n"); got != strings.Join(want, "\n") {
		f.t.Errorf("%s: logged\n%s", call, got)
	}
}

// notShown: questions are answered meanwhile, and without the block.
func (f *farLedger) notShown(b *protoutil.Block) {
	t := f.t
	t.Helper()
	begun := time.Now()
	none := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, blockfile.ErrNotFound) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if h, info := f.Height(), f.Info(); h != 2 || info.Height != 2 || bytes.Equal(info.CurrentBlockHash, protoutil.BlockHash(b.Proto().Header)) {
		t.Errorf("height %d, %v", h, info)
	}
	last, err := f.BlockByNumber(^uint64(0))
	if err != nil || last.Header.Number != 1 {
		t.Errorf("last block %v, %v", last.GetHeader(), err)
	}
	_, err = f.BlockByNumber(2)
	none("block", err)
	_, err = f.RawBlock(2)
	none("raw block", err)
	_, err = f.BlockByHash(protoutil.BlockHash(b.Proto().Header))
	none("block by hash", err)
	_, err = f.BlockByTxID("tx-2-0")
	none("block by transaction", err)
	_, err = f.TransactionByID("tx-2-0")
	none("transaction", err)
	_, err = f.ValidationCode("tx-2-0")
	none("code", err)
	for name, ask := range map[string]func() error{
		"block":       func() error { _, err := f.BlockByNumber(1); return err },
		"transaction": func() error { _, err := f.TransactionByID("tx-1-0"); return err },
		"code":        func() error { _, err := f.ValidationCode("tx-1-0"); return err },
	} {
		if err := ask(); err != nil {
			t.Errorf("older %s: %v", name, err)
		}
	}
	if waited := time.Since(begun); waited != 0 {
		t.Errorf("the answers took %s", waited)
	}
}

// TestWaitingEnds with the context, and when the ledger is closed; the block is
// there after the next start.
func TestWaitingEnds(t *testing.T) {
	for name, call := range map[string]string{"before the block": "versions", "after the block": "apply"} {
		for _, closed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, closed=%v", name, closed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := newFarLedger(t)
					f.state.set(always(errAway, call))
					b := f.next(everything)
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					done := make(chan error)
					go func() { done <- f.CommitContext(ctx, b, nil) }()
					time.Sleep(time.Hour)
					begun := time.Now()
					want := context.Canceled
					if closed {
						want = ErrClosed
						go f.p.Close()
					} else {
						cancel()
					}
					err := <-done
					var failed *FailedError
					if !errors.Is(err, want) || errors.As(err, &failed) != (call == "apply") || time.Since(begun) != 0 {
						t.Errorf("%v after %s", err, time.Since(begun))
					}
					must(t, f.p.Close())
					f.state.set(nil)
					f.reopen(t.Context(), call == "apply")
				})
			})
		}
	}
}

// reopen opens the channel again, which has the block or has not.
func (f *farLedger) reopen(ctx context.Context, has bool) {
	f.t.Helper()
	p := openProvider(f.t, f.cfg)
	l, err := p.OpenContext(ctx, "ch")
	must(f.t, err)
	v, err := l.state.Get("cc", "b")
	if want := uint64(2); has && l.Height() != want+1 || !has && l.Height() != want || (v != nil) != has || err != nil {
		f.t.Errorf("height %d, %v, %v", l.Height(), v, err)
	}
	must(f.t, p.Close())
}

// TestNobodyWaitsInVain: not for what does not heal, and not if nobody could end
// it.
func TestNobodyWaitsInVain(t *testing.T) {
	for _, call := range []string{"versions", "get", "apply"} {
		for name, c := range map[string]struct {
			ctx context.Context
			err error
		}{
			"refused":   {t.Context(), errRefused},
			"no end":    {context.Background(), errAway},
			"as before": {context.Background(), errRefused},
		} {
			t.Run(call+" "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := newFarLedger(t)
					f.state.set(always(c.err, call))
					begun := time.Now()
					err := f.CommitContext(c.ctx, f.next(everything), nil)
					var failed *FailedError
					if !errors.Is(err, c.err) || errors.As(err, &failed) != (call == "apply") || time.Since(begun) != 0 {
						t.Errorf("%v after %s", err, time.Since(begun))
					}
					must(t, f.p.Close())
				})
			})
		}
	}
}

// TestHealingIsNotForever: when the database comes back only to refuse, that
// counts.
func TestHealingIsNotForever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarLedger(t)
		n := 0
		f.state.set(func(call string) error {
			if call != "apply" {
				return nil
			}
			if n++; n < 4 {
				return errAway
			}
			return errRefused
		})
		var failed *FailedError
		if err := f.CommitContext(t.Context(), f.next(everything), nil); !errors.As(err, &failed) || !errors.Is(err, errRefused) {
			t.Error(err)
		}
		must(t, f.p.Close())
	})
}

// TestOpeningWaits for a server that is not there, but only briefly for a database
// that fails, since the other channels wait meanwhile.
func TestOpeningWaits(t *testing.T) {
	for _, call := range []string{"open", "savepoint", "get", "apply"} {
		t.Run(call, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFarLedger(t)
				f.commit(t.Context(), everything)
				f.commit(t.Context(), func(r *sets.Builder) { r.WriteMetadata("cc", "a", map[string][]byte{"m": []byte("w")}) })
				must(t, f.p.Close())
				must(t, vfs.DropDir(f.cfg.FS, path.Join(testDir, dirState)))
				p := openProvider(t, f.cfg)
				failing := time.Now()
				f.state.set(always(errAnswered, call))
				if _, err := p.OpenContext(t.Context(), "ch"); !errors.Is(err, errAnswered) || time.Since(failing) > briefly+2*time.Second {
					t.Errorf("%v after %s", err, time.Since(failing))
				}
				f.state.set(always(errAway, call))
				if _, err := p.Open("ch"); !errors.Is(err, errAway) {
					t.Error(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				begun := time.Now()
				if _, err := p.OpenContext(ctx, "ch"); !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != time.Hour {
					t.Errorf("%v after %s", err, time.Since(begun))
				}
				f.state.set(until(time.Now().Add(20*time.Second), errAway, call))
				l, err := p.OpenContext(t.Context(), "ch")
				if err != nil || l.Height() != 4 {
					t.Fatal(err)
				}
				must(t, l.ReplayDifference())
				must(t, p.Close())
			})
		})
	}
}

// TestStateViewWaits, and shows a later state if it can not show the first one any
// more.
func TestStateViewWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarLedger(t)
		f.state.set(until(time.Now().Add(5*time.Second), errAway, "snapshot"))
		v, err := f.NewStateView(t.Context(), 7)
		must(t, err)
		if !strings.Contains(f.log.String(), "while validating block [7]. Attempt 1") {
			t.Error(f.log.String())
		}
		f.state.set(until(time.Now().Add(25*time.Second), errAway, "read", "snapshot"))
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				if got, err := v.GetState("cc", "a"); err != nil || string(got) != "1" {
					t.Errorf("%s, %v", got, err)
				}
				if _, err := v.GetStateMetadata("cc", "a"); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		stale := true
		f.state.set(func(call string) error {
			stale = stale && call != "snapshot"
			if call == "read" && stale {
				return fmt.Errorf("%w, and by too much", state.ErrStale)
			}
			return nil
		})
		f.commit(t.Context(), func(r *sets.Builder) { r.Write("cc", "a", []byte("3")) })
		if got, err := v.GetState("cc", "a"); err != nil || string(got) != "3" {
			t.Errorf("%s, %v", got, err)
		}
		f.state.set(always(errRefused, "read"))
		if _, err := v.GetState("cc", "a"); !errors.Is(err, errRefused) {
			t.Error(err)
		}
		f.state.set(always(errAway, "read", "snapshot"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := f.NewStateView(ctx, 8); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		f.state.set(nil)
		v.Done()
		if _, err := v.GetState("cc", "a"); !errors.Is(err, ErrDone) {
			t.Error(err)
		}
		must(t, f.p.Close())
	})
}

// TestLocalStatesWaitForNobody: what is in this process has no server.
func TestLocalStatesWaitForNobody(t *testing.T) {
	p := openProvider(t, Config{Dir: testDir, FS: vfs.NewMem()})
	l, err := p.Create(genesisOf("ch"))
	must(t, err)
	if _, wrapped := l.latest.(enduring); wrapped {
		t.Error("reads of commits are wrapped")
	}
	done := l.begin(work{ctx: t.Context()})
	if l.work != nil {
		t.Error("work is noted")
	}
	done()
	var block *common.Block
	if block, err = l.BlockByNumber(0); err != nil || block == nil {
		t.Error(err)
	}
}

// TestConfigurationIsWaitedFor like the rest of the opening.
func TestConfigurationIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarLedger(t)
		f.state.set(until(time.Now().Add(20*time.Second), errAway, "get"))
		if _, err := f.ChannelConfig(t.Context()); err != nil {
			t.Error(err)
		}
		if !strings.Contains(f.log.String(), "while opening the channel. Attempt 5") {
			t.Error(f.log.String())
		}
		begun := time.Now()
		f.state.set(always(errAnswered, "get"))
		if _, err := f.ChannelConfig(t.Context()); !errors.Is(err, errAnswered) || time.Since(begun) != 31500*time.Millisecond {
			t.Errorf("%v after %s", err, time.Since(begun))
		}
		must(t, f.p.Close())
	})
}
