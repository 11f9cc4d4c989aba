package ledger

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"

	"github.com/heddle-ledger/heddle/internal/failpoint"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/vfs"
	sets "github.com/heddle-ledger/heddle/ledger/rwset"
)

// blockOf makes the next block, of one transaction per set; their private parts
// are returned too.
func blockOf(t testing.TB, prev *common.Block, records ...*sets.Builder) (*protoutil.Block, *PrivateData) {
	t.Helper()
	n := prev.Header.Number + 1
	b := protoutil.NewBlock(n, protoutil.BlockHash(prev.Header))
	private := &PrivateData{Sets: map[uint64]*rwset.TxPvtReadWriteSet{}}
	for i, r := range records {
		public, err := r.Public()
		if err != nil {
			t.Fatal(err)
		}
		b.Data.Data = append(b.Data.Data, benchEnvelope(fmt.Sprintf("tx-%d-%d", n, i), protoutil.Marshal(public)))
		set, err := r.Private()
		if err != nil {
			t.Fatal(err)
		}
		if set != nil {
			private.Sets[uint64(i)] = set
		}
	}
	b.Header.DataHash = protoutil.DataHash(b.Data.Data)
	v := protoutil.ParseBlock(b)
	v.SetFlags(make([]byte, len(records)))
	return v, private
}

// before and after are what the two states of besideLedger look like.
const (
	before = "k1=old,k2=old, range [k1=old k2=old], private old/old, metadata , of private , history old"
	after  = "k1=new,, range [k1=new k3=new], private new/new, metadata 1, of private 1, history old new"
)

// besideLedger has one block beyond the deployment; the next one changes all
// that it wrote, and sets metadata in its namespace for the first time.
func besideLedger(t testing.TB, points *failpoint.Points) (p *Provider, l *Ledger, commit func() error) {
	t.Helper()
	p = openProvider(t, Config{Dir: testDir, FS: vfs.NewMem(), History: true, Points: points, manual: true})
	l, err := p.Create(genesisOf("ch"))
	if err != nil {
		t.Fatal(err)
	}
	deploy, first, second := sets.NewBuilder(), sets.NewBuilder(), sets.NewBuilder()
	deployed(deploy, "org1")
	first.Write("mycc", "k1", []byte("old"))
	first.Write("mycc", "k2", []byte("old"))
	first.WritePrivate("mycc", "coll", "p", []byte("old"))
	second.Write("mycc", "k1", []byte("new"))
	second.Write("mycc", "k2", nil)
	second.Write("mycc", "k3", []byte("new"))
	second.WriteMetadata("mycc", "k1", map[string][]byte{"m": []byte("1")})
	second.WritePrivate("mycc", "coll", "p", []byte("new"))
	second.WritePrivateMetadata("mycc", "coll", "p", map[string][]byte{"m": []byte("1")})
	prev, err := l.BlockByNumber(0)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []*sets.Builder{deploy, first} {
		b, private := blockOf(t, prev, r)
		if err := l.CommitWithPrivateData(b, private); err != nil {
			t.Fatal(err)
		}
		prev = b.Proto()
	}
	return p, l, func() error {
		b, private := blockOf(t, prev, second)
		return l.CommitWithPrivateData(b, private)
	}
}

// looks reads the state of besideLedger in every way there is.
func looks(t testing.TB, q *QueryExecutor, h *HistoryExecutor) string {
	t.Helper()
	fail := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	many, err := q.GetStateMultiple("mycc", []string{"k1", "k2"})
	fail(err)
	one, err := q.GetState("mycc", "k1")
	fail(err)
	if string(one) != string(many[0]) {
		t.Errorf("k1 is %s and %s", one, many[0])
	}
	it, err := q.GetStateRange("mycc", "k", "l")
	fail(err)
	var rows []string
	for {
		kv, err := it.Next()
		fail(err)
		if kv == nil {
			break
		}
		rows = append(rows, kv.Key+"="+string(kv.Value))
	}
	it.Close()
	plain, err := q.GetPrivateData("mycc", "coll", "p")
	fail(err)
	plains, err := q.GetPrivateDataMultiple("mycc", "coll", []string{"p"})
	fail(err)
	hash, err := q.GetPrivateDataHash("mycc", "coll", "p")
	fail(err)
	if string(hash) != sha(string(plain)) {
		t.Errorf("the hash is not that of %s", plain)
	}
	metadata, err := q.GetStateMetadata("mycc", "k1")
	fail(err)
	private, err := q.GetPrivateDataMetadata("mycc", "coll", "p")
	fail(err)
	values := ""
	past, err := h.GetHistoryForKey("mycc", "k1")
	fail(err)
	for {
		m, err := past.Next()
		fail(err)
		if m == nil {
			break
		}
		values += " " + string(m.Value)
	}
	past.Close()
	first := ""
	for i, v := range many {
		if v != nil {
			first += fmt.Sprintf("k%d=%s", i+1, v)
		}
		first += ","
	}
	return fmt.Sprintf("%s range %v, private %s/%s, metadata %s, of private %s, history%s", first, rows, plain, plains[0], metadata["m"], private["m"], values)
}

// reading is a simulation, and a query beside it, that begin at one moment.
type reading struct {
	history   *HistoryExecutor
	simulator *Simulator
	query     *QueryExecutor
}

func newReading(t testing.TB, l *Ledger) *reading {
	t.Helper()
	r := &reading{}
	var err error
	if r.history, err = l.NewHistoryExecutor(l.Height()); err != nil {
		t.Fatal(err)
	}
	if r.simulator, err = l.NewSimulator("tx"); err != nil {
		t.Fatal(err)
	}
	if r.query, err = l.NewQueryExecutor(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.done)
	return r
}

func (r *reading) done() {
	r.history.Done()
	r.simulator.Done()
	r.query.Done()
}

func (r *reading) expect(t testing.TB, when string, want ...string) {
	t.Helper()
	for _, q := range []*QueryExecutor{&r.simulator.QueryExecutor, r.query} {
		got := looks(t, q, r.history)
		ok := false
		for _, w := range want {
			ok = ok || got == w
		}
		if !ok {
			t.Errorf("%s: got %s", when, got)
		}
	}
}

// TestSimulationBesideCommit holds a commit at every point that it passes. What
// began before it sees the state before it, to the end; what begins meanwhile
// waits for nothing and sees the one state or the other, whole (LEDGER §11.1).
func TestSimulationBesideCommit(t *testing.T) {
	points := &failpoint.Points{}
	_, l, commit := besideLedger(t, points)
	newReading(t, l).expect(t, "at first", before)
	must(t, commit())
	newReading(t, l).expect(t, "in the end", after)
	// Between state and history a simulation sees the one without the other.
	between := after[:len(after)-len(" new")]
	for _, point := range points.Seen() {
		t.Run(point.Name, func(t *testing.T) {
			points := &failpoint.Points{}
			_, l, commit := besideLedger(t, points)
			old := newReading(t, l)
			reached, release := make(chan struct{}), make(chan struct{})
			var once atomic.Bool
			points.Arm(point.Name, func(int) error {
				if once.CompareAndSwap(false, true) {
					close(reached)
					<-release
				}
				return nil
			})
			done := make(chan error, 1)
			go func() { done <- commit() }()
			select {
			case <-reached:
			case err := <-done: // not passed by this block
				must(t, err)
				t.Skip("not on the way of this block")
			}
			old.expect(t, "held", before)
			meanwhile := newReading(t, l)
			meanwhile.expect(t, "begun while held", before, between)
			view := looks(t, meanwhile.query, meanwhile.history)
			if _, err := meanwhile.simulator.Results(); err != nil {
				t.Error(err)
			}
			close(release)
			must(t, <-done)
			old.expect(t, "afterwards", before)
			meanwhile.expect(t, "begun while held, afterwards", view)
			newReading(t, l).expect(t, "begun afterwards", after)
		})
	}
}

// TestAnswersWaitForAllStores: while a commit is between block file and state,
// nobody learns of its block; whoever does later finds its state (LEDGER §3.10,
// §19). A question for what the block does not concern is held back, too.
func TestAnswersWaitForAllStores(t *testing.T) {
	for _, point := range []string{PointAfterBlock, PointAfterPrivate, PointAfterBookkeeping, PointAfterState, PointAfterPurge, PointAfterHistory} {
		t.Run(point, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { answersWait(t, point) })
		})
	}
}

func answersWait(t *testing.T, point string) {
	points := &failpoint.Points{}
	p, l, commit := besideLedger(t, points)
	release := make(chan struct{})
	points.Arm(point, func(int) error { <-release; return nil })
	go func() {
		if err := commit(); err != nil {
			t.Error(err)
		}
	}()
	synctest.Wait() // the commit is held
	it := l.Iterator(3)
	questions := map[string]func() error{
		"info":         func() error { l.Info(); return nil },
		"next block":   func() error { _, err := it.Next(t.Context()); return err },
		"last block":   func() error { _, err := l.BlockByNumber(3); return err },
		"older block":  func() error { _, err := l.BlockByNumber(1); return err },
		"raw block":    func() error { _, err := l.RawBlock(3); return err },
		"block by tx":  func() error { _, err := l.BlockByTxID("tx-3-0"); return err },
		"transaction":  func() error { _, err := l.TransactionByID("tx-3-0"); return err },
		"code":         func() error { _, err := l.ValidationCode("tx-3-0"); return err },
		"wait":         func() error { return l.WaitHeight(context.Background(), 4) },
		"block by key": func() error { _, err := l.BlockByHash(l.blocks.Info().CurrentBlockHash); return err },
	}
	var answered atomic.Int32
	for name, ask := range questions {
		go func() {
			if err := ask(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			r := newReading(t, l)
			r.expect(t, name, after)
			r.done()
			answered.Add(1)
		}()
	}
	synctest.Wait()
	if n := answered.Load(); n != 0 {
		t.Errorf("%d answers were given while the commit was held", n)
	}
	if l.Height() != 3 {
		t.Errorf("height %d", l.Height())
	}
	close(release)
	synctest.Wait()
	if n := answered.Load(); int(n) != len(questions) {
		t.Errorf("%d of %d answers", n, len(questions))
	}
	it.Close()
	must(t, p.Close())
	time.Sleep(2 * time.Second) // goleveldb's goroutines end by and by
}

// TestNothingRunsAfterClose: the bubble of a test ends only when every goroutine
// in it has.
func TestNothingRunsAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		genesis := genesisOf("ch")
		p := openProvider(t, Config{Dir: testDir, FS: vfs.NewMem(), History: true, PurgeInterval: 1})
		l, err := p.Create(genesis)
		must(t, err)
		r := newReading(t, l)
		it := l.Iterator(9)
		go func() { _, _ = it.Next(context.Background()) }()
		go func() { _ = l.WaitHeight(context.Background(), 9) }()
		b := stampBlock(t, genesis)
		l.Expect(b)
		must(t, l.Commit(b))
		r.done()
		it.Close()
		must(t, p.Close())
		time.Sleep(2 * time.Second) // goleveldb's goroutines end by and by
	})
}
