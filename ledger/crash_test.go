package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"strings"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"

	"github.com/heddle-ledger/heddle/internal/failpoint"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/ledger/blockfile"
	"github.com/heddle-ledger/heddle/ledger/kv"
)

// chainScript is the recorded chain of one channel with its reconciliations, as
// a peer would take it in: every action can be repeated until it succeeds.
type chainScript struct {
	blocks []*common.Block
	steps  []step
	ahead  uint64 // announce so many blocks before they are committed
}

func readScript(t testing.TB) *chainScript {
	s := &chainScript{blocks: allBlocks(t, "ledger_root.tar.gz", "vecch")}
	var steps []step
	readVector(t, "chain_steps.json.gz", &steps)
	for _, st := range steps {
		if st.Block != nil || st.Supplied.Set != "" {
			s.steps = append(s.steps, st)
		}
	}
	return s
}

// run does what is left to do and returns the first error. done counts the
// reconciliations that succeeded.
func (s *chainScript) run(t testing.TB, p *Provider, done map[int]bool) error {
	exists, err := p.Exists("vecch")
	if err != nil {
		return err
	}
	if !exists {
		if _, err := p.Create(s.blocks[0]); err != nil {
			return err
		}
	}
	l, err := p.Open("vecch")
	if err != nil {
		return err
	}
	for i := range s.steps {
		if err := l.private.Work(t.Context()); err != nil { // else a matter of timing
			return err
		}
		st := &s.steps[i]
		if st.Block == nil {
			if done[i] {
				continue
			}
			_, err := l.CommitReconciled([]ReconciledData{{
				Block: st.Supplied.Block,
				Sets:  map[uint64]*rwset.TxPvtReadWriteSet{st.Supplied.Tx: privateSet(t, st.Supplied.Set)},
			}})
			if err != nil {
				return err
			}
			done[i] = true
			continue
		}
		if *st.Block < l.Height() {
			continue
		}
		if err := s.announce(l, *st.Block); err != nil {
			return err
		}
		if err := s.commit(t, l, st); err != nil {
			return err
		}
	}
	return l.private.Work(t.Context())
}

// announce tells the ledger of coming blocks, as far as none names private data,
// and waits for the disk, which a peer does not.
func (s *chainScript) announce(l *Ledger, n uint64) error {
	for k := n; k < min(n+s.ahead, uint64(len(s.blocks))); k++ {
		l.Expect(protoutil.ParseBlock(s.blocks[k]))
		if err := l.herald.await(k); err != nil {
			return err
		}
	}
	return nil
}

func (s *chainScript) commit(t testing.TB, l *Ledger, st *step) error {
	b, private := s.given(t, st)
	return l.CommitWithPrivateData(b, private)
}

var errCrash = errors.New("crash")

// TestCrashAnywhere stops the chain at every crash point it passes, loses, tears
// or keeps what was not synced, opens the ledger again and finishes the chain:
// the stores must be those of a run that never crashed.
func TestCrashAnywhere(t *testing.T) {
	t.Run("in turn", func(t *testing.T) { crashAnywhere(t, readScript(t)) })
	t.Run("announced", func(t *testing.T) {
		s := readScript(t)
		s.ahead = 3
		crashAnywhere(t, s)
	})
}

func crashAnywhere(t *testing.T, script *chainScript) {
	points := &failpoint.Points{}
	whole := vfs.NewMem()
	runScript(t, script, whole, points, nil)
	want := dump(t, whole)
	modes := map[string]vfs.CrashMode{"lose": vfs.LoseUnsynced, "keep": vfs.KeepUnsynced, "tear": vfs.TearUnsynced}
	skipped := func(mode string, hit int) bool { // what says least, to save time
		return script.ahead > 0 && mode != "lose" || mode == "keep" && hit%2 == 0 || mode == "tear" && hit%2 == 1
	}
	for _, seen := range points.Seen() {
		for hit := 1; hit <= seen.Hits; hit++ {
			// The stores test their own points; here a sample of them is enough.
			own := strings.HasPrefix(seen.Name, "ledger/")
			if hit%4 != 1 && (testing.Short() || !own || script.ahead > 0) {
				continue
			}
			for name, mode := range modes {
				if skipped(name, hit) {
					continue
				}
				t.Run(fmt.Sprintf("%s/%d/%s", seen.Name, hit, name), func(t *testing.T) {
					fs := vfs.NewMem()
					armed := &failpoint.Points{}
					armed.Arm(seen.Name, func(n int) error {
						if n >= hit {
							return errCrash
						}
						return nil
					})
					done := map[int]bool{}
					dead := runScript(t, script, fs, armed, done)
					if dead == nil {
						t.Fatal("the crash point was not passed")
					}
					after := fs.Crash(mode, uint64(hit))
					dead.Close() // what it writes now is lost on the dead disk
					referenceCanGoOn(t, after)
					if runScript(t, script, after, nil, done) != nil {
						t.Fatal("crashed without a crash point")
					}
					compareDumps(t, want, dump(t, after))
				})
			}
		}
	}
}

// runScript runs the script on a directory. The provider of a run that crashed
// is returned open, as a dead process leaves it.
func runScript(t *testing.T, s *chainScript, fs *vfs.Mem, points *failpoint.Points, done map[int]bool) *Provider {
	t.Helper()
	if done == nil {
		done = map[int]bool{}
	}
	cfg := vectorConfig(t, fs)
	cfg.Points = points
	p, err := OpenProvider(cfg)
	if err == nil {
		err = s.run(t, p, done)
	}
	switch {
	case errors.Is(err, errCrash):
		return p
	case err != nil:
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	return nil
}

// referenceCanGoOn checks, on a directory as a crash left it, what a 1.4 peer
// needs that opens it instead of us (LEDGER §15.3 a): its private store may be
// ahead of the block file but not behind it, or it could neither replay nor go
// on.
func referenceCanGoOn(t *testing.T, crashed *vfs.Mem) {
	t.Helper()
	fs := crashed.Crash(vfs.KeepUnsynced, 0) // a copy to look into
	blocks, err := blockfile.OpenProvider(blockfile.Config{Dir: path.Join(testDir, dirChains), FS: fs})
	must(t, err)
	defer blocks.Close()
	chain, err := blocks.Open("vecch")
	must(t, err)
	db, err := kv.Open(kv.Config{Dir: path.Join(testDir, dirPrivate), FS: fs})
	must(t, err)
	defer db.Close()
	last, err := db.Store("vecch").Get([]byte{1})
	must(t, err)
	pending, err := db.Store("vecch").Has([]byte{0})
	must(t, err)
	covered := uint64(0)
	if last != nil {
		n, _ := binary.Uvarint(last)
		covered = n + 1
	}
	if pending {
		covered++
	}
	if covered < chain.Height() {
		t.Errorf("the block file holds %d blocks, the private store covers %d", chain.Height(), covered)
	}
}
