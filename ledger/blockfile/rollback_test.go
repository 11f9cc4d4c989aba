package blockfile

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heddle-ledger/heddle/internal/failpoint"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/ledger/kv"
)

// smallFilesDir is a closed directory with the vectors' blocks in several files.
func smallFilesDir(t testing.TB, blocks int) *vfs.Mem {
	t.Helper()
	fsys := vfs.NewMem()
	p, s := openBF(t, testConfig(t, fsys))
	appendAll(t, s, vectorBlocks(t)[:blocks])
	must(t, p.Close())
	return fsys
}

func rollback(t testing.TB, fsys vfs.FS, target uint64) error {
	t.Helper()
	plan, err := PlanRollback(testConfig(t, fsys), "bf", target)
	if err != nil {
		return err
	}
	return plan.Run()
}

// content is what a directory holds: index entries and block files.
func content(t testing.TB, fsys vfs.FS) (index, files map[string]string) {
	t.Helper()
	p, _ := openBF(t, testConfig(t, fsys))
	index, files = dumpIndex(t, p), dumpFiles(t, fsys, bfDir)
	must(t, p.Close())
	maps.DeleteFunc(files, func(name, _ string) bool { return !strings.HasPrefix(name, filePrefix) })
	return index, files
}

// TestRollbackToEveryBlock leaves what a chain that never was longer has, and
// grows again to what it was.
func TestRollbackToEveryBlock(t *testing.T) {
	blocks := vectorBlocks(t)
	wantIndex, wantFiles := content(t, smallFilesDir(t, len(blocks)))
	for target := range uint64(len(blocks) - 1) {
		t.Run(fmt.Sprint(target), func(t *testing.T) {
			fsys := smallFilesDir(t, len(blocks))
			must(t, rollback(t, fsys, target))
			index, files := content(t, fsys)
			shortIndex, shortFiles := content(t, smallFilesDir(t, int(target)+1))
			dropEmptyLast(shortFiles)
			if d := cmp.Diff(shortIndex, index); d != "" {
				t.Error("index (-never longer +rolled back):\n", d)
			}
			if d := cmp.Diff(shortFiles, files); d != "" {
				t.Error("files (-never longer +rolled back):\n", d)
			}
			p, s := openBF(t, testConfig(t, fsys))
			appendAll(t, s, blocks[target+1:])
			must(t, p.Close())
			index, files = content(t, fsys)
			if !maps.Equal(index, wantIndex) || !maps.Equal(files, wantFiles) {
				t.Error("the chain did not grow to what it was")
			}
		})
	}
}

func dropEmptyLast(files map[string]string) {
	names := slices.Sorted(maps.Keys(files))
	if last := names[len(names)-1]; len(names) > 1 && files[last] == "" {
		delete(files, last)
	}
}

// TestRollbackWithoutIndex: an index that is gone or behind does not matter.
func TestRollbackWithoutIndex(t *testing.T) {
	want, _ := content(t, smallFilesDir(t, 4))
	for name, damage := range map[string]func(*vfs.Mem){
		"gone": func(f *vfs.Mem) { must(t, f.RemoveAll("/d/index")) },
		"behind": func(f *vfs.Mem) {
			editIndex(t, f, func(s *kv.Store, b *kv.Batch) { b.Put([]byte(keyIndexed), []byte{2}) })
		},
		"no entry of block 7": func(f *vfs.Mem) {
			editIndex(t, f, func(s *kv.Store, b *kv.Batch) { b.Delete(numberKey(nil, 7)) })
		},
		"wrong entry of block 7": func(f *vfs.Mem) {
			editIndex(t, f, func(s *kv.Store, b *kv.Batch) { b.Put(numberKey(nil, 7), []byte{0, 0, 0}) })
		},
		"no last block": func(f *vfs.Mem) {
			editIndex(t, f, func(s *kv.Store, b *kv.Batch) { b.Put([]byte(keyIndexed), []byte{}) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			fsys := smallFilesDir(t, 9)
			damage(fsys)
			must(t, rollback(t, fsys, 3))
			got, _ := content(t, fsys)
			if name == "behind" { // entries that the index did not own up to stay, as in the reference
				maps.DeleteFunc(got, func(k, _ string) bool { _, ok := want[k]; return !ok })
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestRollbackGroups removes more blocks than go into one batch.
func TestRollbackGroups(t *testing.T) {
	chain := newChainMaker(2, 100)
	var blocks []*protoutil.Block
	for range 35 {
		blocks = append(blocks, chain.block())
	}
	made := func(n int) *vfs.Mem {
		fsys := vfs.NewMem()
		p, s := openBF(t, testConfig(t, fsys))
		for _, b := range blocks[:n] {
			must(t, s.Append(b))
		}
		must(t, p.Close())
		return fsys
	}
	want, _ := content(t, made(4))
	fsys := made(35)
	must(t, rollback(t, fsys, 3))
	got, _ := content(t, fsys)
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// TestFilesGoFromTheTop: whenever reset or rollback ends, also with the machine, the
// files are numbered without gap and the channel opens (LEDGER §18.1, §18.2).
func TestFilesGoFromTheTop(t *testing.T) {
	for name, run := range map[string]func(Config) error{
		"reset": Reset,
		"rollback": func(cfg Config) error {
			plan, err := PlanRollback(cfg, "bf", 1)
			if err != nil {
				return err
			}
			return plan.Run()
		},
	} {
		t.Run(name, func(t *testing.T) {
			fsys := smallFilesDir(t, 9)
			removed := 0
			cfg := testConfig(t, fsys)
			cfg.Points = &failpoint.Points{}
			cfg.Points.Arm(PointAfterRemove, func(n int) error {
				removed = n
				for _, mode := range []vfs.CrashMode{vfs.LoseUnsynced, vfs.KeepUnsynced} {
					left := fsys.Crash(mode, 0)
					nums := get[[]int](t)(newFiles(left, bfDir).list())
					for i, num := range nums {
						if i != num {
							t.Errorf("after %d files: %v are left", n, nums)
						}
					}
					p, s := openBF(t, testConfig(t, left))
					if h := s.Height(); h == 0 || h == 9 {
						t.Errorf("after %d files: height %d", n, h)
					}
					must(t, p.Close())
				}
				return nil
			})
			must(t, run(cfg))
			if removed < 3 {
				t.Errorf("%d files removed", removed)
			}
		})
	}
}

// TestPreResetHeightGrowsOnly: a height is overwritten by a larger one only, however
// little smaller it is (LEDGER §18.3); what is no height, by any.
func TestPreResetHeightGrowsOnly(t *testing.T) {
	fsys := vfs.NewMem()
	must(t, fsys.MkdirAll(bfDir, 0o755))
	for i, c := range []struct {
		record uint64
		left   string
	}{{7, "7"}, {6, "7"}, {7, "7"}, {8, "8"}, {7, "8"}, {11, "11"}, {9, "11"}} {
		must(t, recordPreResetHeight(fsys, bfDir, c.record))
		if raw, err := vfs.ReadFile(fsys, bfDir+"/__preResetHeight"); string(raw) != c.left {
			t.Errorf("step %d, record %d: %q, %v", i, c.record, raw, err)
		}
	}
	must(t, vfs.WriteFile(fsys, bfDir+"/__preResetHeight", []byte("1x"), 0o640))
	must(t, recordPreResetHeight(fsys, bfDir, 3))
	if h := get[map[string]uint64](t)(PreResetHeights(fsys, "/d")); h["bf"] != 3 {
		t.Errorf("heights %v", h)
	}
}

// TestTakenBackOverDamage passes damage behind the target and refuses it before.
func TestTakenBackOverDamage(t *testing.T) {
	damaged := func(file int, at int64) *vfs.Mem {
		fsys := smallFilesDir(t, 9)
		f := newFiles(fsys, bfDir)
		raw, err := vfs.ReadFile(fsys, f.path(file))
		must(t, err)
		copy(raw[at:], "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")
		must(t, vfs.WriteFile(fsys, f.path(file), raw, 0o660))
		return fsys
	}
	t.Run("behind", func(t *testing.T) {
		fsys := damaged(3, 0)
		must(t, rollback(t, fsys, 1))
		want, _ := content(t, smallFilesDir(t, 2))
		got, _ := content(t, fsys)
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
		if h, _ := PreResetHeights(fsys, "/d"); h["bf"] != 9 {
			t.Errorf("recorded heights %v", h)
		}
	})
	t.Run("at the target", func(t *testing.T) {
		fsys := damaged(0, 0)
		var damage *DamageError
		if err := rollback(t, fsys, 0); !errors.As(err, &damage) {
			t.Errorf("rollback: %v", err)
		}
		if err := Reset(testConfig(t, fsys)); !errors.As(err, &damage) {
			t.Errorf("reset: %v", err)
		}
	})
	t.Run("no first file", func(t *testing.T) {
		fsys := smallFilesDir(t, 9)
		must(t, fsys.Remove(newFiles(fsys, bfDir).path(0)))
		var damage *DamageError
		if err := Reset(testConfig(t, fsys)); !errors.As(err, &damage) {
			t.Errorf("reset: %v", err)
		}
	})
}

// TestResetOfSmallFiles leaves one file with one block, of a channel without
// files only a height.
func TestResetOfSmallFiles(t *testing.T) {
	fsys := smallFilesDir(t, 9)
	must(t, fsys.MkdirAll("/d/chains/none", 0o755))
	for range 2 {
		must(t, Reset(testConfig(t, fsys)))
	}
	heights := get[map[string]uint64](t)(PreResetHeights(fsys, "/d"))
	if d := cmp.Diff(map[string]uint64{"bf": 9, "none": 1}, heights); d != "" {
		t.Error(d)
	}
	index, files := content(t, fsys)
	wantIndex, wantFiles := content(t, smallFilesDir(t, 1))
	if !maps.Equal(index, wantIndex) || !maps.Equal(files, wantFiles) {
		t.Errorf("files %v", slices.Sorted(maps.Keys(files)))
	}
}

// TestResetOfDamagedGenesis: what cannot be read is not taken for nothing.
func TestResetOfDamagedGenesis(t *testing.T) {
	fsys := vfs.NewMem()
	cfg := testConfig(t, fsys)
	cfg.MaxFileSize = 0 // one file
	p, s := openBF(t, cfg)
	appendAll(t, s, vectorBlocks(t))
	must(t, p.Close())
	const file = "/d/chains/bf/blockfile_000000"
	raw, err := vfs.ReadFile(fsys, file)
	must(t, err)
	raw[0] ^= 0x55
	must(t, vfs.WriteFile(fsys, file, raw, 0o640))
	_, planned := PlanRollback(testConfig(t, fsys), "bf", 3)
	for _, err := range []error{planned, Reset(testConfig(t, fsys))} {
		var damage *DamageError
		if !errors.As(err, &damage) || damage.Offset != 0 || !strings.Contains(err.Error(), "block [0] expected; a later block follows at offset ") {
			t.Errorf("got %v", err)
		}
	}
	if left, err := vfs.ReadFile(fsys, file); err != nil || !bytes.Equal(left, raw) {
		t.Errorf("the file was changed, %v", err)
	}
}

// TestDropDir removes what an earlier call has left.
func TestDropDir(t *testing.T) {
	fsys := vfs.NewMem()
	for range 2 {
		must(t, fsys.MkdirAll("/x/db/sub", 0o755))
		must(t, fsys.MkdirAll("/x/db.dropped", 0o755))
		for _, f := range []string{"/x/db/a", "/x/db/sub/b", "/x/db.dropped/c", "/x/dbz"} {
			must(t, vfs.WriteFile(fsys, f, []byte("1"), 0o644))
		}
		must(t, vfs.DropDir(fsys, "/x/db"))
		must(t, vfs.DropDir(fsys, "/x/db"))
		left, err := fsys.ReadDir("/x")
		must(t, err)
		if len(left) != 1 || left[0].Name() != "dbz" {
			t.Errorf("left: %v", left)
		}
	}
}
