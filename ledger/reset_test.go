package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/internal/vfs/errorfs"
	"github.com/heddle-ledger/heddle/ledger/blockfile"
)

// takenBack is a reset or rollback with its vector.
type takenBack struct {
	name, vector, files, dump string
	run                       func(Config) error
	heights                   map[string]uint64
	after                     map[string]uint64 // heights of the channels after it
}

var takenBackCases = []takenBack{
	{
		name: "reset", vector: "after_reset.json.gz",
		files: "files_left_by_reset_before_reopen", dump: "dump_after_reopen",
		run:     Reset,
		heights: map[string]uint64{"vecch": 11, "vecch.two": 3},
		after:   map[string]uint64{"vecch": 1, "vecch.two": 1},
	},
	{
		name: "rollback", vector: "after_rollback_vecch_5.json.gz",
		files: "files_left_by_rollback_before_reopen", dump: "dump_after_reopen_without_ns_cc2",
		run:     func(c Config) error { return Rollback(c, "vecch", 5) },
		heights: map[string]uint64{"vecch": 11},
		after:   map[string]uint64{"vecch": 6, "vecch.two": 3},
	},
}

func (c *takenBack) vectors(t *testing.T) (files []string, want map[string]map[string]string) {
	t.Helper()
	var v map[string]json.RawMessage
	readVector(t, c.vector, &v)
	must(t, json.Unmarshal(v[c.files], &files))
	var raw map[string][]entry
	must(t, json.Unmarshal(v[c.dump], &raw))
	want = map[string]map[string]string{}
	for db, entries := range raw {
		want[db] = map[string]string{}
		for _, e := range entries {
			want[db][e.Key] = e.Value
		}
	}
	return files, want
}

// withoutCC2 leaves out the namespace that the vector of the rollback leaves
// out, of channel vecch.
func withoutCC2(t *testing.T, d map[string]map[string]string) map[string]map[string]string {
	t.Helper()
	for _, db := range []string{"stateLeveldb", "historyLeveldb"} {
		for key := range d[db] {
			if strings.HasPrefix(string(unhex(t, key)), "vecch\x00cc2\x00") {
				delete(d[db], key)
			}
		}
	}
	return d
}

// left lists the files of a directory in the form of the vectors: those of
// databases by the database only, as their names differ from run to run.
func left(t *testing.T, fsys vfs.FS, dir string) []string {
	t.Helper()
	entries, err := fsys.ReadDir(dir)
	must(t, err)
	var out []string
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		if e.IsDir() {
			out = append(out, left(t, fsys, name)...)
			continue
		}
		out = append(out, database("."+strings.TrimPrefix(name, "/root")))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func database(file string) string {
	if strings.Contains(file, "/chains/chains/") {
		return file
	}
	return path.Dir(file)
}

// reopen opens all channels and closes them again.
func reopen(t *testing.T, fsys vfs.FS) (heights, recorded map[string]uint64) {
	t.Helper()
	p, err := OpenProvider(vectorConfig(t, fsys))
	must(t, err)
	ids, err := p.List()
	must(t, err)
	heights = map[string]uint64{}
	for _, id := range ids {
		l, err := p.Open(id)
		if err != nil {
			t.Errorf("open %s: %v", id, err)
			continue
		}
		heights[id] = l.Height()
	}
	recorded, err = p.PreResetHeights()
	must(t, err)
	must(t, p.Close())
	return heights, recorded
}

// TestTakenBackVectors takes the recorded directory back and expects the files
// and, after the next opening, the databases that the reference had.
func TestTakenBackVectors(t *testing.T) {
	for _, tc := range takenBackCases {
		t.Run(tc.name, func(t *testing.T) {
			files, want := tc.vectors(t)
			fsys := untar(t, "ledger_root.tar.gz")
			must(t, tc.run(vectorConfig(t, fsys)))
			for i := range files {
				files[i] = database(files[i])
			}
			if d := cmp.Diff(slices.Compact(files), left(t, fsys, "/root")); d != "" {
				t.Error("files left (-want +got):\n", d)
			}
			heights, recorded := reopen(t, fsys)
			if d := cmp.Diff(tc.after, heights); d != "" {
				t.Error(d)
			}
			if d := cmp.Diff(tc.heights, recorded); d != "" {
				t.Error(d)
			}
			got := dump(t, fsys)
			if tc.name == "rollback" {
				withoutCC2(t, got)
			}
			compareDumps(t, want, got)
		})
	}
}

// TestGenesisBackup: the body of record 0, which is the file less its prefix.
func TestGenesisBackup(t *testing.T) {
	fsys := untar(t, "ledger_root.tar.gz")
	must(t, Reset(vectorConfig(t, fsys)))
	backup, err := vfs.ReadFile(fsys, path.Join(path.Dir(blockFile), "__backupGenesisBlockBytes"))
	must(t, err)
	record, err := vfs.ReadFile(fsys, blockFile)
	must(t, err)
	if prefix := len(record) - len(backup); prefix != 2 || string(record[prefix:]) != string(backup) {
		t.Errorf("backup of %d bytes, record of %d", len(backup), len(record))
	}
}

// TestGrowsAgain resets a channel, takes its blocks in again and expects the
// databases that it had.
func TestGrowsAgain(t *testing.T) {
	script := readScript(t)
	fsys := vfs.NewMem()
	runScript(t, script, fsys, nil, nil)
	want := dump(t, fsys)
	for _, tc := range takenBackCases {
		t.Run(tc.name, func(t *testing.T) {
			fsys := fsys.Crash(vfs.KeepUnsynced, 0)
			must(t, tc.run(vectorConfig(t, fsys)))
			// Reconciliations were private data's; the private store has kept them.
			done := map[int]bool{}
			for i := range script.steps {
				done[i] = true
			}
			runScript(t, script, fsys, nil, done)
			compareDumps(t, want, dump(t, fsys))
		})
	}
}

// TestRollbackRefusals are the reference's texts; nothing may be changed.
func TestRollbackRefusals(t *testing.T) {
	fsys := untar(t, "ledger_root.tar.gz")
	for _, tc := range []struct {
		id     string
		target uint64
		want   string
	}{
		{"x", 3, "ledgerID [x] does not exist"},
		{"", 3, "ledgerID [] does not exist"},
		{"../index", 3, "ledgerID [../index] does not exist"},
		{"vecch", 10, "target block number [10] should be less than the biggest block number [10]"},
		{"vecch", 11, "target block number [11] should be less than the biggest block number [10]"},
	} {
		if err := Rollback(vectorConfig(t, fsys), tc.id, tc.target); err == nil || err.Error() != tc.want {
			t.Errorf("%s %d: got %v", tc.id, tc.target, err)
		}
	}
	heights, recorded := reopen(t, fsys)
	if heights["vecch"] != 11 || len(recorded) != 0 {
		t.Errorf("heights %v, recorded %v", heights, recorded)
	}
	compareDumps(t, finalDump(t), dump(t, fsys))
}

// TestLocked: a peer, or another command, has the directory.
func TestLocked(t *testing.T) {
	fsys := untar(t, "ledger_root.tar.gz")
	p := openProvider(t, vectorConfig(t, fsys))
	want := "as another peer node command is executing, wait for that command to complete its execution or terminate it before retrying: lock is already acquired on file /root/ledgersData/fileLock"
	for _, tc := range takenBackCases {
		if err := tc.run(vectorConfig(t, fsys)); err == nil || err.Error() != want {
			t.Errorf("%s: got %v", tc.name, err)
		}
	}
	must(t, p.Close())
	must(t, Reset(vectorConfig(t, fsys)))
}

// TestNothingToReset is a directory without channels, and one whose only channel
// has no block yet.
func TestNothingToReset(t *testing.T) {
	fsys := vfs.NewMem()
	must(t, Reset(vectorConfig(t, fsys)))
	if err := Rollback(vectorConfig(t, fsys), "x", 3); err == nil || err.Error() != "ledgerID [x] does not exist" {
		t.Errorf("got %v", err)
	}
	p := openProvider(t, vectorConfig(t, fsys))
	must(t, p.list.Put([]byte(keyUnderConstruction), []byte("new"), true))
	if _, err := p.blocks.Open("new"); err != nil {
		t.Fatal(err)
	}
	must(t, p.Close())
	must(t, Reset(vectorConfig(t, fsys)))
	if _, recorded := reopen(t, fsys); len(recorded) != 0 {
		t.Errorf("recorded %v", recorded)
	}
}

// TestPreResetHeights: the larger height stays, and the records go when they
// have been reached.
func TestPreResetHeights(t *testing.T) {
	fsys := untar(t, "ledger_root.tar.gz")
	for _, target := range []uint64{8, 5, 0} {
		must(t, Rollback(vectorConfig(t, fsys), "vecch", target))
	}
	must(t, Reset(vectorConfig(t, fsys)))
	p := openProvider(t, vectorConfig(t, fsys))
	heights, err := p.PreResetHeights()
	must(t, err)
	if d := cmp.Diff(map[string]uint64{"vecch": 11, "vecch.two": 3}, heights); d != "" {
		t.Error(d)
	}
	must(t, p.ClearPreResetHeights(heights))
	must(t, p.ClearPreResetHeights(heights))
	if heights, err = p.PreResetHeights(); err != nil || len(heights) != 0 {
		t.Errorf("got %v, %v", heights, err)
	}
	must(t, vfs.WriteFile(fsys, path.Join(path.Dir(blockFile), "__preResetHeight"), nil, 0o640))
	if _, err = p.PreResetHeights(); err == nil || !strings.Contains(err.Error(), "vecch/__preResetHeight") {
		t.Errorf("unreadable height: %v", err)
	}
}

// TestTakenBackKilledAnywhere stops a reset and a rollback at every operation on
// files. What is left must open, with the blocks it should at least have and the
// heights recorded if blocks are gone; and a repetition must lead to the result
// of a run that was not stopped.
func TestTakenBackKilledAnywhere(t *testing.T) {
	for _, tc := range takenBackCases {
		t.Run(tc.name, func(t *testing.T) {
			start := untar(t, "ledger_root.tar.gz")
			start.SetMaxBuffer(64 << 10)
			ops, _ := tc.stopAt(t, start, 0)
			whole := start.Crash(vfs.KeepUnsynced, 0)
			must(t, tc.run(vectorConfig(t, whole)))
			reopen(t, whole)
			want := dump(t, whole)
			step := 11 // the story is crashed while it is reset, too
			switch {
			case *tortureFull:
				step = 1
			case testing.Short():
				step = 53
			}
			for n := 1; n <= ops; n += step {
				for name, mode := range map[string]vfs.CrashMode{"lose": vfs.LoseUnsynced, "keep": vfs.KeepUnsynced} {
					t.Run(fmt.Sprintf("%d/%s", n, name), func(t *testing.T) {
						_, stopped := tc.stopAt(t, start, n)
						tc.checkOpens(t, stopped.Crash(mode, uint64(n)))
						again := stopped.Crash(mode, uint64(n))
						if err := tc.run(vectorConfig(t, again)); err != nil && !strings.HasPrefix(err.Error(), "target block number [5] should be less than the biggest block number [5]") {
							t.Fatal("repetition: ", err)
						}
						if _, recorded := reopen(t, again); !cmp.Equal(recorded, tc.heights) {
							t.Errorf("recorded heights %v", recorded)
						}
						compareDumps(t, want, dump(t, again))
					})
				}
			}
			t.Logf("%d operations", ops)
		})
	}
}

// stopAt runs on a copy of a directory and lets every operation from the nth on
// fail, as for a dead process; 0 means none. It returns the number of
// operations and what is left.
func (c *takenBack) stopAt(t *testing.T, start *vfs.Mem, n int) (int, *vfs.Mem) {
	t.Helper()
	fsys := start.Crash(vfs.KeepUnsynced, 0)
	var count atomic.Int64 // a rebuild works in several goroutines
	failing := errorfs.New(fsys, func(op errorfs.Op, _ string) error {
		if op.Changes() && op != errorfs.OpOpen {
			count.Add(1)
		}
		if n > 0 && count.Load() >= int64(n) {
			return errCrash
		}
		return nil
	})
	err := c.run(vectorConfig(t, failing))
	if n == 0 {
		must(t, err)
	} else if !errors.Is(err, errCrash) {
		t.Logf("the end of the run was not seen: %v", err)
	}
	return int(count.Load()), fsys
}

func (c *takenBack) checkOpens(t *testing.T, fsys *vfs.Mem) {
	t.Helper()
	heights, recorded := reopen(t, fsys)
	for id, before := range map[string]uint64{"vecch": 11, "vecch.two": 3} {
		h := heights[id]
		if h < c.after[id] || h > before {
			t.Errorf("channel %s has height %d", id, h)
		}
		if h < before && recorded[id] != before {
			t.Errorf("channel %s has height %d of %d, recorded is %d", id, h, before, recorded[id])
		}
	}
}

// TestRollbackOfDamage: block files that have lost blocks are refused at open
// and taken back by a rollback, also to the last block that is whole.
func TestRollbackOfDamage(t *testing.T) {
	for _, target := range []uint64{9, 4} {
		fsys := untar(t, "ledger_root.tar.gz")
		raw, err := vfs.ReadFile(fsys, blockFile)
		must(t, err)
		must(t, vfs.WriteFile(fsys, blockFile, raw[:len(raw)-9], 0o660))
		p := openProvider(t, vectorConfig(t, fsys))
		var damage *blockfile.DamageError
		if _, err := p.Open("vecch"); !errors.As(err, &damage) {
			t.Fatal("a file that is too short was opened: ", err)
		}
		must(t, p.Close())
		must(t, Rollback(vectorConfig(t, fsys), "vecch", target))
		heights, recorded := reopen(t, fsys)
		if heights["vecch"] != target+1 || recorded["vecch"] != 11 || heights["vecch.two"] != 3 {
			t.Errorf("to block %d: heights %v, recorded %v", target, heights, recorded)
		}
	}
}
