package ledger

import (
	"fmt"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"

	"github.com/heddle-ledger/heddle/internal/vfs"
)

// TestStoresBehind opens the recorded chain with a state of one moment and a
// history of another, both older than the blocks: they are brought level, each
// from where it is (LEDGER §17.3).
func TestStoresBehind(t *testing.T) {
	script := readScript(t)
	fs := vfs.NewMem()
	p := openProvider(t, vectorConfig(t, fs))
	after := map[int]*vfs.Mem{} // by block
	create(t, p, script.blocks[0])
	l := openLedger(t, p, "vecch")
	after[0] = fs.Crash(vfs.KeepUnsynced, 0)
	for i := range script.steps {
		st := &script.steps[i]
		switch {
		case st.Block == nil && l.Height() < 11:
			reconcile(t, l, st)
		case st.Block != nil && *st.Block > 0:
			must(t, script.commit(t, l, st))
		}
		must(t, l.private.Work(t.Context()))
		if st.Block != nil {
			after[int(*st.Block)] = fs.Crash(vfs.KeepUnsynced, 0)
		}
	}
	must(t, p.Close())
	want := dump(t, fs)
	// A state of 3 to 5 cannot be found beside what was reconciled after block 5:
	// that is not forgotten before the state has it (LEDGER §15.3 e).
	for _, state := range []int{-1, 0, 1, 2, 6, 7, 8, 9, 10} {
		for _, history := range []int{-1, 0, 1, 5, 9, 10} {
			if testing.Short() && (state+history)%3 != 0 {
				continue
			}
			t.Run(fmt.Sprintf("state %d, history %d", state, history), func(t *testing.T) {
				fs := fs.Crash(vfs.KeepUnsynced, 0)
				// What the state goes with: it is rebuilt along with it (LEDGER §17.5).
				for _, dir := range []string{dirState, dirBookkeeper, dirConfHistory} {
					goBack(t, fs, after[state], dir)
				}
				goBack(t, fs, after[history], dirHistory)
				p := openProvider(t, vectorConfig(t, fs))
				l := openLedger(t, p, "vecch")
				must(t, l.private.Work(t.Context()))
				if l.Height() != 11 || l.ReplayDifference() != nil {
					t.Errorf("height %d, %v", l.Height(), l.ReplayDifference())
				}
				must(t, p.Close())
				compareDumps(t, want, dump(t, fs))
			})
		}
	}
}

// goBack puts a database into the state it had in another directory; nil means
// that there was none.
func goBack(t *testing.T, fs, before *vfs.Mem, dir string) {
	t.Helper()
	must(t, fs.RemoveAll(testDir+"/"+dir))
	if before != nil {
		copyTree(t, before.Crash(vfs.KeepUnsynced, 0), fs, testDir+"/"+dir)
	}
}

// TestStoresAhead: a state or history that knows blocks which the block store
// does not have keeps its channel out, with the reference's text; the others run
// (LEDGER §17.3). A history that is not enabled is not looked at. A private store
// ahead is in order (§17.4).
func TestStoresAhead(t *testing.T) {
	text := func(name string, height int) string {
		return fmt.Sprintf("the %[1]s database [height=%[2]d] is ahead of the block store [height=10]. This is possible when the %[1]s database is not dropped after a ledger reset/rollback. The %[1]s database can safely be dropped and will be rebuilt up to block store height upon the next peer start.", name, height)
	}
	for _, tc := range []struct {
		name      string
		dirs      []string
		noHistory bool
		want      string
	}{
		{"state", []string{dirState}, false, text("state", 11)},
		{"history", []string{dirHistory}, false, text("history", 11)},
		{"both", []string{dirState, dirHistory}, false, text("state", 11)},
		{"history, not enabled", []string{dirHistory}, true, ""},
		{"private store", []string{dirPrivate}, false, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fs := untar(t, "ledger_root_after_block9.tar.gz")
			for _, dir := range tc.dirs {
				copyTree(t, untar(t, "ledger_root_after_block10.tar.gz"), fs, testDir+"/"+dir)
			}
			cfg := vectorConfig(t, fs)
			cfg.History = !tc.noHistory
			p := openProvider(t, cfg)
			other := genesisOf("another")
			create(t, p, other)
			l, err := p.Open("vecch")
			if tc.want != "" {
				if err == nil || err.Error() != tc.want || IsFatal(err) {
					t.Errorf("got %v", err)
				}
			} else if err != nil {
				t.Error(err)
			} else if l.Height() != 10 {
				t.Errorf("height %d", l.Height())
			}
			a := openLedger(t, p, "another")
			must(t, a.Commit(stampBlock(t, other)))
		})
	}
}

// TestGrowsWithPrivateStoreAhead: while the block store catches up nothing is
// missing, and the blocks take their private data from the private store,
// whatever is given with them (LEDGER §15.1, §17.4). Commit hashes go on where
// they were: the block file becomes what it was (§13.1, §13.4).
func TestGrowsWithPrivateStoreAhead(t *testing.T) {
	script := readScript(t)
	whole := vfs.NewMem()
	runScript(t, script, whole, nil, nil)
	want := dump(t, whole)
	file, err := vfs.ReadFile(whole, blockFile)
	must(t, err)
	for name, tc := range map[string]struct {
		takeBack func(Config) error
		last     uint64
	}{
		"rollback": {func(c Config) error { return Rollback(c, "vecch", 2) }, 2},
		"reset":    {Reset, 0},
	} {
		t.Run(name, func(t *testing.T) {
			fs := whole.Crash(vfs.KeepUnsynced, 0)
			must(t, tc.takeBack(vectorConfig(t, fs)))
			p := openProvider(t, vectorConfig(t, fs))
			growBesidePrivateStore(t, fs, openLedger(t, p, "vecch"), script, tc.last)
			must(t, p.Close())
			compareDumps(t, want, dump(t, fs))
			again, err := vfs.ReadFile(fs, blockFile)
			must(t, err)
			if string(again) != string(file) {
				t.Error("the block file is another one")
			}
		})
	}
}

func growBesidePrivateStore(t *testing.T, fs *vfs.Mem, l *Ledger, script *chainScript, last uint64) {
	t.Helper()
	private := dump(t, fs.Crash(vfs.KeepUnsynced, 0))["pvtdataStore"]
	for i := range script.steps {
		st := &script.steps[i]
		if st.Block == nil || *st.Block <= last {
			continue
		}
		if !l.PrivateDataExists(*st.Block) || l.PrivateDataExists(11) {
			t.Errorf("block %d: the private store has it: %t, and 11: %t", *st.Block, l.PrivateDataExists(*st.Block), l.PrivateDataExists(11))
		}
		if missing, err := l.MissingPrivateData(10); err != nil || len(missing) != 0 {
			t.Errorf("missing before block %d: %v, %v", *st.Block, missing, err)
		}
		b, _ := script.given(t, st)
		must(t, l.CommitWithPrivateData(b, &PrivateData{
			Sets:    map[uint64]*rwset.TxPvtReadWriteSet{0: {}},
			Missing: map[uint64][]MissingCollection{0: {{Namespace: "x", Collection: "y", Eligible: true}}},
		}))
		if now := dump(t, fs.Crash(vfs.KeepUnsynced, 0))["pvtdataStore"]; *st.Block != 6 {
			compareDumps(t, map[string]map[string]string{"pvtdataStore": private}, map[string]map[string]string{"pvtdataStore": now})
		}
		must(t, l.private.Work(t.Context())) // block 6 makes this peer eligible again
	}
}

// TestPrivateStoreBehind: private data that are gone cannot be had from the
// blocks. The reference opens such a channel and cannot commit to it any more;
// here it is left out at once (LEDGER §15.3 a). An empty private store is one
// that is younger than the chain (§17.2).
func TestPrivateStoreBehind(t *testing.T) {
	fs := untar(t, "ledger_root_after_block10.tar.gz")
	copyTree(t, untar(t, "ledger_root_after_block9.tar.gz"), fs, testDir+"/"+dirPrivate)
	before := dump(t, fs)
	p := openProvider(t, vectorConfig(t, fs))
	_, err := p.Open("vecch")
	if err == nil || IsFatal(err) || err.Error() != "private data store [height=10] is behind the block store [height=11]: the private data store is not empty" {
		t.Errorf("got %v", err)
	}
	must(t, p.Close())
	compareDumps(t, before, dump(t, fs))

	must(t, fs.RemoveAll(testDir+"/"+dirPrivate))
	l := openLedger(t, openProvider(t, vectorConfig(t, fs)), "vecch")
	if l.private.NextBlock() != 11 || l.PrivateDataExists(11) || !l.PrivateDataExists(10) {
		t.Errorf("private store at %d", l.private.NextBlock())
	}
	if sets, err := l.PrivateDataOf(3, nil); err != nil || len(sets) != 0 {
		t.Errorf("got %v, %v", sets, err)
	}
}
