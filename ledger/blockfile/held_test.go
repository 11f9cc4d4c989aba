package blockfile

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heddle-ledger/heddle/internal/vfs"
)

// TestHeld: the last block waits for a decision if the index does not know it, as
// after a crash of the machine, at every start anew until there is one.
func TestHeld(t *testing.T) {
	t.Parallel()
	blocks := crashChain()
	for last := 1; last < len(blocks); last++ {
		// The block is in the file, the index has not heard of it.
		fsys := smallDisk()
		p, s := openBF(t, crashConfig(fsys, nil))
		must(t, commitFrom(s, blocks[:last]))
		must(t, p.Close())
		before := fsys.Crash(vfs.LoseUnsynced, 0)
		p, s = openBF(t, crashConfig(fsys, nil))
		must(t, commitFrom(s, blocks[:last+1]))
		crashed := fsys.Crash(vfs.LoseUnsynced, 0)
		must(t, p.Close())

		cfg := crashConfig(crashed, nil)
		cfg.HoldLast = true
		for _, decide := range []func(*Store) error{
			func(*Store) error { return nil }, // the process ends before
			func(s *Store) error { return s.Accept(context.Background()) },
			(*Store).Reject,
		} {
			cfg.FS = crashed.Crash(vfs.KeepUnsynced, 0)
			for i := range 2 {
				p, s := openBF(t, cfg)
				held := s.Held()
				if i == 0 || held != nil {
					same(t, blocks[last].Proto(), held)
					if s.Height() != uint64(last) {
						t.Fatalf("height %d of %d", s.Height(), last)
					}
					if err := s.Append(blocks[last]); !errors.Is(err, errHeld) {
						t.Errorf("append: %v", err)
					}
				}
				must(t, decide(s))
				must(t, decide(s))
				if s.Held() == nil {
					must(t, commitFrom(s, blocks))
				}
				must(t, p.Close())
			}
		}
		// Cut off, and with nothing after it, the directory is that of before.
		cfg.FS = crashed.Crash(vfs.KeepUnsynced, 0)
		p, s = openBF(t, cfg)
		must(t, s.Reject())
		must(t, p.Close())
		p, _ = openBF(t, crashConfig(before, nil))
		must(t, p.Close())
		wantFiles, wantIndex := leftBehind(t, before)
		gotFiles, gotIndex := leftBehind(t, cfg.FS.(*vfs.Mem))
		for name := range gotFiles { // one that was begun for the block may stay
			if gotFiles[name] == "" {
				delete(gotFiles, name)
				delete(gotIndex, "626600626c6b4d6772496e666f") // its checkpoint
				delete(wantIndex, "626600626c6b4d6772496e666f")
			}
		}
		if d := cmp.Diff(wantFiles, gotFiles); d != "" {
			t.Errorf("files:\n%s", d)
		}
		if d := cmp.Diff(wantIndex, gotIndex); d != "" {
			t.Errorf("index:\n%s", d)
		}
	}
}
