package ledger

import (
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/ledger/state"
	"github.com/heddle-ledger/heddle/ledger/state/couchdb"
	"github.com/heddle-ledger/heddle/ledger/state/couchdb/couchtest"
)

// modelRun is a ledger beside its model.
type modelRun struct {
	t         testing.TB
	fs        *vfs.Mem
	cfg       Config
	snapshots bool // executors may stay open while blocks are committed
	keys      []string

	p    *Provider
	l    *Ledger
	m    *model
	held []heldQuery

	ids  int
	pool []*simulatedTx // wait for a block
	used []*simulatedTx // are in one
	raw  []*common.Block
	late map[modelVersion]*rwset.TxPvtReadWriteSet
}

// heldQuery is an executor with the state that it has to show.
type heldQuery struct {
	q     *QueryExecutor
	world modelWorld
}

// modelKind is a state database.
type modelKind struct {
	name    string
	keys    []string
	decodes bool // JSON comes back in a normal form
	open    func(t testing.TB) func() (state.Provider, error)
}

var modelKinds = []modelKind{
	{
		name: "leveldb",
		keys: []string{"a", "b", "ba", "c", "a\x00b", "a\x00", "\x00composite\x00x\x00y\x00", "", "ü", "\U0010ffff", "zz", "a\x01"},
		open: func(testing.TB) func() (state.Provider, error) { return nil },
	},
	{
		name:    "couchdb",
		keys:    couchKeys,
		decodes: true,
		open:    func(t testing.TB) func() (state.Provider, error) { return onCouch(t, couchtest.Server(t)) },
	},
	{
		// The Node server takes the start of a range "\"q\"" for "q", and leaves keys
		// above U+FFFF out of ranges without end.
		name:    "couchdb server",
		keys:    slices.DeleteFunc(slices.Clone(couchKeys), func(k string) bool { return strings.ContainsAny(k, "\"\U0010ffff") }),
		decodes: true,
		open:    func(t testing.TB) func() (state.Provider, error) { return onCouch(t, couchtest.Real(t)) },
	},
}

var couchKeys = []string{"a", "b", "ba", "c", "A/b+c d%", "\x00composite\x00x\x00y\x00", "ü", "\U0010ffff", "zz", `"q"`, "<&>"}

func onCouch(t testing.TB, server string) func() (state.Provider, error) {
	return func() (state.Provider, error) {
		return couchdb.OpenProvider(t.Context(), couchdb.Config{Address: server, InternalQueryLimit: 3, MaxBatchUpdateSize: 4})
	}
}

// modelFailure ends a run.
type modelFailure string

func (r *modelRun) failf(format string, args ...any) {
	panic(modelFailure(fmt.Sprintf(format, args...)))
}

func (r *modelRun) must(err error) {
	if err != nil {
		panic(modelFailure(fmt.Sprintf("%v\n%s", err, debug.Stack())))
	}
}

func newModelRun(t testing.TB, kind modelKind) *modelRun {
	fs := smallDisk()
	r := &modelRun{t: t, fs: fs, keys: kind.keys, late: map[modelVersion]*rwset.TxPvtReadWriteSet{}, cfg: vectorConfig(t, fs)}
	r.cfg.PurgeInterval, r.cfg.maxFileSize, r.cfg.Log = 2, 5000, flog.Nop()
	r.cfg.OpenState = kind.open(t)
	r.snapshots = r.cfg.OpenState == nil
	r.m = &model{lives: map[string]uint64{"collB": 2}, decodes: kind.decodes}
	return r
}

func (r *modelRun) open() {
	var err error
	r.cfg.FS = r.fs
	r.p, err = OpenProvider(r.cfg)
	r.must(err)
	if len(r.m.blocks) == 0 {
		r.l, err = r.p.Create(genesisOf("ch"))
		r.must(err)
		return
	}
	r.l, err = r.p.Open("ch")
	r.must(err)
	r.must(r.l.private.Work(r.t.Context()))
}

func (r *modelRun) close() {
	r.release()
	if r.p != nil {
		r.must(r.p.Close())
	}
	r.p = nil
}

// begin creates the channel and deploys the collections.
func (r *modelRun) begin() {
	r.open()
	r.raw = append(r.raw, genesisOf("ch"))
	r.m.commit([]*modelTx{{config: true}})
	deploy := &storyTeller{peerRun: &peerRun{t: r.t, p: r.p}}
	tx := deploy.deploys("ch", "1", true)
	r.commit([]*simulatedTx{{modelTx: &modelTx{id: tx.id, spaces: map[string]*modelSpace{}}, envelope: tx.envelope}})
	var many []*simulatedTx
	for range 60 { // more than a scan lists singly
		r.ids++
		mtx := &modelTx{id: fmt.Sprintf("%064x", r.ids), spaces: map[string]*modelSpace{}}
		sim, err := r.l.NewSimulator(mtx.id)
		r.must(err)
		key := fmt.Sprintf("m%02d", r.ids)
		r.must(sim.SetState("cc2", key, []byte("x")))
		res, err := sim.Results()
		r.must(err)
		sim.Done()
		mtx.space("cc2").writes[modelKey{"cc2", key}] = "x"
		many = append(many, &simulatedTx{mtx, storyEnvelope("ch", mtx.id, res.Public), nil})
	}
	r.commit(many)
}

// runModel makes operations number 0 to n, leaving out some. Each has a random
// source of its own, so that it does not change much if others are left out. It
// returns what was done and what went wrong, if anything did.
func runModel(t testing.TB, kind modelKind, seed uint64, n int, skip map[int]bool) (done []string, err error) {
	r := newModelRun(t, kind)
	defer func() {
		if x := recover(); x != nil {
			if f, ok := x.(modelFailure); ok {
				err = fmt.Errorf("%s", string(f))
			} else {
				err = fmt.Errorf("panic: %v\n%s", x, debug.Stack())
			}
			if r.p != nil {
				r.release()
				r.p.Close() //nolint:errcheck // there is an error already
			}
		}
	}()
	r.begin()
	total := 0
	for _, op := range modelOps {
		total += op.weight
	}
	for i := range n {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		at := rng.IntN(total)
		for _, op := range modelOps {
			if at -= op.weight; at >= 0 {
				continue
			}
			if !skip[i] && !(op.snapshots && !r.snapshots) && !(op.onDisk && r.cfg.OpenState != nil) {
				done = append(done, fmt.Sprintf("%d: %s (height %d)", i, op.name, len(r.m.blocks)))
				op.do(r, rng)
			}
			break
		}
	}
	r.checkEverything(rand.New(rand.NewPCG(seed, 1<<40)))
	r.close()
	return done, nil
}

// shrink leaves out operations as long as something goes wrong without them.
func shrink(t testing.TB, kind modelKind, seed uint64, n int) (done []string, err error) {
	skip := map[int]bool{}
	tries := 0
	for size := n / 2; size > 0; size /= 2 {
		for from := 0; from < n && tries < 300; from += size {
			tries++
			attempt := map[int]bool{}
			for i := range skip {
				attempt[i] = true
			}
			for i := from; i < min(from+size, n); i++ {
				attempt[i] = true
			}
			if _, failed := runModel(t, kind, seed, n, attempt); failed != nil {
				skip = attempt
			}
		}
	}
	return runModel(t, kind, seed, n, skip)
}

// TestTortureModel makes random operations on a ledger and on its model. A run
// that fails is made shorter and listed; -torture.seed repeats it, -torture.for
// goes on with other seeds for a time.
func TestTortureModel(t *testing.T) {
	for _, kind := range modelKinds {
		t.Run(kind.name, func(t *testing.T) {
			runs, length := 20, 150
			if kind.decodes {
				runs, length = 4, 100
			}
			if kind.name == "couchdb server" || testing.Short() {
				runs, length = 1, 60
			}
			begun := time.Now()
			ops, count := 0, map[string]int{}
			for seed := *tortureSeed; seed < *tortureSeed+uint64(runs) || time.Since(begun) < *tortureFor; seed++ {
				done, err := runModel(t, kind, seed, length, nil)
				if err != nil {
					n := len(done)
					short, serr := shrink(t, kind, seed, length)
					t.Fatalf("seed %d, after %d operations: %v\nmade shorter:\n  %s\n%v", seed, n, err, strings.Join(short, "\n  "), serr)
				}
				ops += len(done)
				for _, d := range done {
					_, name, _ := strings.Cut(d, ": ")
					name, _, _ = strings.Cut(name, " (")
					count[name]++
				}
			}
			t.Logf("%d operations in %v: %v", ops, time.Since(begun).Round(time.Millisecond), count)
		})
	}
}
