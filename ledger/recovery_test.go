package ledger

import (
	"encoding/hex"
	"errors"
	"maps"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heddle-ledger/heddle/internal/failpoint"
	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/internal/vfs/errorfs"
	"github.com/heddle-ledger/heddle/ledger/kv"
)

const blockFile = testDir + "/chains/chains/vecch/blockfile_000000"

func remove(dirs ...string) func(*testing.T) *vfs.Mem {
	return func(t *testing.T) *vfs.Mem {
		fs := untar(t, "ledger_root.tar.gz")
		for _, d := range dirs {
			must(t, fs.RemoveAll(path.Join(testDir, d)))
		}
		return fs
	}
}

// markPending sets the marker of a prepared private batch.
func markPending(t *testing.T, fs *vfs.Mem) {
	t.Helper()
	db, err := kv.Open(kv.Config{Dir: testDir + "/pvtdataStore", FS: fs})
	must(t, err)
	must(t, db.Store("vecch").Put([]byte{0}, nil, true))
	must(t, db.Close())
}

func copyTree(t *testing.T, from, to *vfs.Mem, name string) {
	t.Helper()
	if info, err := from.Stat(name); err == nil && info.IsDir() {
		must(t, to.RemoveAll(name))
		must(t, to.MkdirAll(name, 0o755))
		entries, err := from.ReadDir(name)
		must(t, err)
		for _, e := range entries {
			copyTree(t, from, to, path.Join(name, e.Name()))
		}
		return
	}
	raw, err := vfs.ReadFile(from, name)
	must(t, err)
	must(t, vfs.WriteFile(to, name, raw, 0o644))
}

// damages are the experiments of recovery.json.
var damages = map[string]func(*testing.T) *vfs.Mem{
	"no_index":   remove("chains/index"),
	"no_state":   remove("stateLeveldb"),
	"no_history": remove("historyLeveldb"),
	"no_state_bookkeeper_configHistory_history": remove("stateLeveldb", "bookkeeper", "configHistory", "historyLeveldb"),
	"no_bookkeeper":    remove("bookkeeper"),
	"no_configHistory": remove("configHistory"),
	"no_pvtdataStore":  remove("pvtdataStore"),
	"partial_record_at_tail": func(t *testing.T) *vfs.Mem {
		fs := untar(t, "ledger_root.tar.gz")
		raw, err := vfs.ReadFile(fs, blockFile)
		must(t, err)
		must(t, vfs.WriteFile(fs, blockFile, append(raw, unhex(t, "ff01616263")...), 0o644))
		return fs
	},
	"crash_after_block_append": func(t *testing.T) *vfs.Mem {
		fs := untar(t, "ledger_root_after_block9.tar.gz")
		copyTree(t, untar(t, "ledger_root_after_block10.tar.gz"), fs, blockFile)
		markPending(t, fs)
		return fs
	},
	"crash_after_pvt_commit": func(t *testing.T) *vfs.Mem {
		fs := untar(t, "ledger_root_after_block9.tar.gz")
		after := untar(t, "ledger_root_after_block10.tar.gz")
		copyTree(t, after, fs, testDir+"/chains")
		copyTree(t, after, fs, testDir+"/pvtdataStore")
		return fs
	},
	"crash_after_prepare_only": func(t *testing.T) *vfs.Mem {
		fs := untar(t, "ledger_root_after_block9.tar.gz")
		markPending(t, fs)
		return fs
	},
}

// TestRecoveryVectors damages directories as the reference's experiments did and
// expects the same result of opening them.
func TestRecoveryVectors(t *testing.T) {
	var vectors struct {
		Experiments []struct {
			Name         string `json:"experiment"`
			ComparedWith string `json:"compared_with"`
			Differences  []struct {
				DB     string `json:"db"`
				Key    string `json:"key_hex"`
				Change string `json:"change"`
			} `json:"differences"`
		} `json:"experiments"`
	}
	readVector(t, "recovery.json.gz", &vectors)
	final, after10 := finalDump(t), dump(t, untar(t, "ledger_root_after_block10.tar.gz"))
	for _, e := range vectors.Experiments {
		t.Run(e.Name, func(t *testing.T) {
			damage := damages[e.Name]
			if damage == nil {
				t.Fatal("no such experiment here")
			}
			fs := damage(t)
			p := openProvider(t, vectorConfig(t, fs))
			ids, err := p.List()
			must(t, err)
			for _, id := range ids {
				must(t, openLedger(t, p, id).private.Work(t.Context()))
			}
			must(t, p.Close())
			want := final
			if strings.HasPrefix(e.ComparedWith, "after block 10") {
				want = after10
			}
			expected := map[string]bool{}
			for _, d := range e.Differences {
				expected[d.DB+" "+d.Key+" "+d.Change] = true
			}
			if diff := cmp.Diff(slices.Sorted(maps.Keys(expected)), differences(t, want, dump(t, fs))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func differences(t *testing.T, want, got map[string]map[string]string) []string {
	t.Helper()
	var out []string
	for _, db := range databases {
		for key, w := range want[db] {
			g, ok := got[db][key]
			switch {
			case !ok:
				out = append(out, db+" "+key+" missing")
			case !sameValue(t, db, key, w, g):
				out = append(out, db+" "+key+" differs")
			}
		}
		for key := range got[db] {
			if _, ok := want[db][key]; !ok {
				out = append(out, db+" "+key+" added")
			}
		}
	}
	slices.Sort(out)
	return out
}

// TestStateAheadOfBlocks is a directory whose block store was reset while the
// state was kept (LEDGER §17.3).
func TestStateAheadOfBlocks(t *testing.T) {
	fs := untar(t, "ledger_root_after_block9.tar.gz")
	copyTree(t, untar(t, "ledger_root_after_block10.tar.gz"), fs, testDir+"/stateLeveldb")
	p := openProvider(t, vectorConfig(t, fs))
	_, err := p.Open("vecch")
	want := "the state database [height=11] is ahead of the block store [height=10]. This is possible when the state database is not dropped after a ledger reset/rollback. The state database can safely be dropped and will be rebuilt up to block store height upon the next peer start."
	if err == nil || err.Error() != want || IsFatal(err) {
		t.Errorf("got %v", err)
	}
}

// TestConstructionFlagOfGrownLedger stops the process (LEDGER §2.3).
func TestConstructionFlagOfGrownLedger(t *testing.T) {
	fs := untar(t, "ledger_root.tar.gz")
	db, err := kv.Open(kv.Config{Dir: testDir + "/ledgerProvider", FS: fs})
	must(t, err)
	must(t, db.Raw().Put([]byte(keyUnderConstruction), []byte("vecch"), true))
	must(t, db.Close())
	_, err = OpenProvider(vectorConfig(t, fs))
	var construction *ConstructionError
	if !errors.As(err, &construction) || !IsFatal(err) ||
		construction.Error() != "data inconsistency: under construction flag is set for ledger [vecch] while the height of the blockchain is [11]" {
		t.Errorf("got %v", err)
	}
}

// TestStoppedInGenesis is the case genesis_stop of repair.json: the process ended
// between the genesis block's append and the private store's Commit. 1.4.12 fails
// at every start; here the join is completed (LEDGER §17.2, §2.3).
func TestStoppedInGenesis(t *testing.T) {
	fs := vfs.NewMem()
	points := &failpoint.Points{}
	points.Arm(PointAfterBlock, func(int) error { return errCrash })
	cfg := vectorConfig(t, fs)
	cfg.Points = points
	genesis := allBlocks(t, "ledger_root.tar.gz", "vecch")[0]
	p := openProvider(t, cfg)
	if _, err := p.Create(genesis); !errors.Is(err, errCrash) {
		t.Fatalf("got %v", err)
	}
	after := fs.Crash(vfs.LoseUnsynced, 0)
	p.Close()
	// As the reference leaves it: the marker, and no last block.
	db, err := kv.Open(kv.Config{Dir: testDir + "/pvtdataStore", FS: after})
	must(t, err)
	must(t, db.Store("vecch").Delete([]byte{1}, true))
	must(t, db.Store("vecch").Put([]byte{0}, nil, true))
	must(t, db.Close())

	p = openProvider(t, vectorConfig(t, after))
	l := openLedger(t, p, "vecch")
	if l.Height() != 1 || l.private.NextBlock() != 1 {
		t.Errorf("height %d, private store %d", l.Height(), l.private.NextBlock())
	}
	must(t, p.Close())
	private := dump(t, after)["pvtdataStore"]
	if got := private[hex.EncodeToString([]byte("vecch\x00\x01"))]; got != "00" || len(private) != 1 {
		t.Errorf("private store: %v", private)
	}
}

// TestLaterFormat: directories of 2.x are refused, not misread (LEDGER §23.1).
func TestLaterFormat(t *testing.T) {
	for dir, key := range map[string]string{
		"ledgerProvider": "f", "stateLeveldb": "_\x00f", "historyLeveldb": "_\x00f", "chains/index": "_\x00f",
	} {
		t.Run(dir, func(t *testing.T) {
			fs := untar(t, "ledger_root.tar.gz")
			db, err := kv.Open(kv.Config{Dir: path.Join(testDir, dir), FS: fs})
			must(t, err)
			must(t, db.Raw().Put([]byte(key), []byte("2.0"), true))
			must(t, db.Close())
			_, err = OpenProvider(vectorConfig(t, fs))
			var format *kv.FormatError
			want := "unexpected format. db info = [leveldb at [" + path.Join(testDir, dir) + "]], data format = [2.0], expected format = []"
			if !errors.As(err, &format) || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestUnusableDirectories: a store that cannot be opened stops the start, and the
// error names it (LEDGER §2.2).
func TestUnusableDirectories(t *testing.T) {
	for _, dir := range append([]string{"fileLock"}, databases...) {
		t.Run(dir, func(t *testing.T) {
			name := path.Join(testDir, dir)
			fs := untar(t, "ledger_root.tar.gz")
			must(t, fs.RemoveAll(name))
			must(t, fs.MkdirAll(name, 0o755))
			must(t, vfs.WriteFile(fs, name+"/000001.ldb", []byte("not a table"), 0o644))
			if _, err := OpenProvider(vectorConfig(t, fs)); !errors.Is(err, kv.ErrNotDatabase) || !strings.Contains(err.Error(), name) {
				t.Errorf("got %v", err)
			}
		})
		t.Run(dir+" read-only", func(t *testing.T) {
			name := path.Join(testDir, dir)
			inner := untar(t, "ledger_root.tar.gz")
			fs := errorfs.New(inner, func(op errorfs.Op, file string) error {
				if op == errorfs.OpWrite && strings.HasPrefix(file, name+"/") {
					return syscall.EROFS
				}
				return nil
			})
			// goleveldb does not wrap all of its errors.
			if _, err := OpenProvider(vectorConfig(t, fs)); err == nil || !strings.Contains(err.Error(), syscall.EROFS.Error()) || !strings.Contains(err.Error(), name) {
				t.Errorf("got %v", err)
			}
		})
	}
}
