package blockfile

import (
	"slices"
	"testing"

	"github.com/heddle-ledger/heddle/internal/vfs"
)

// TestProgressOfRemoval: reset and rollback tell how many blocks are gone, step
// by step and never fewer than before, whether or not there is an index.
func TestProgressOfRemoval(t *testing.T) {
	for _, tc := range []struct {
		name, work string
		total      uint64
		noIndex    bool
		run        func(Config) error
	}{
		{"reset", WorkReset, 39, true, Reset},
		{"rollback", WorkRollback, 34, false, rollBackTo(5)},
		{"rollback without index", WorkRollback, 34, true, rollBackTo(5)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fsys := vfs.NewMem()
			s := storeOf(t, fsys, 40, 300)
			if last := s.currentTip().file; last < 5 {
				t.Fatalf("%d files", last+1)
			}
			fsys = fsys.Crash(vfs.KeepUnsynced, 0)
			if tc.noIndex {
				must(t, fsys.RemoveAll("/d/index"))
			}
			w, told := &watch{}, []uint64{}
			w.during = func(n uint64) { told = append(told, n) }
			must(t, tc.run(Config{Dir: "/d", FS: fsys, Progress: w.begin}))
			if w.Walk != (Walk{Channel: "bf", Work: tc.work, Total: tc.total}) || !w.done || w.last != tc.total {
				t.Errorf("progress %+v", w)
			}
			if !slices.IsSorted(told) || len(told) < 4 || told[0] == 0 || told[0] == tc.total {
				t.Errorf("told %v", told)
			}
		})
	}
}

func rollBackTo(target uint64) func(Config) error {
	return func(cfg Config) error {
		r, err := PlanRollback(cfg, "bf", target)
		if err != nil {
			return err
		}
		return r.Run()
	}
}
