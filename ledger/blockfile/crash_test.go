package blockfile

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heddle-ledger/heddle/internal/failpoint"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/internal/vfs/errorfs"
)

const crashBlocks = 20

// crashConfig makes small files, so that the change of file is crashed too.
func crashConfig(fsys vfs.FS, points *failpoint.Points) Config {
	return Config{Dir: "/d", FS: fsys, MaxFileSize: 4000, Points: points}
}

// smallDisk makes the index keep small buffers.
func smallDisk() *vfs.Mem {
	fsys := vfs.NewMem()
	fsys.SetMaxBuffer(64 << 10)
	return fsys
}

func crashChain() []*protoutil.Block {
	maker := newChainMaker(3, 200)
	out := make([]*protoutil.Block, crashBlocks)
	for i := range out {
		out[i] = maker.block()
	}
	return out
}

// commitFrom appends the blocks that the store does not have.
func commitFrom(s *Store, blocks []*protoutil.Block) error {
	for _, b := range blocks[s.Height():] {
		if err := s.Append(b); err != nil {
			return err
		}
	}
	return nil
}

var errCrash = errors.New("crash")

// Every crash point is crashed at each of its hits, with unsynced data lost,
// kept or torn. The store opens again without losing an acknowledged block, and
// the finished chain is the same byte for byte.
func TestCrashPoints(t *testing.T) {
	t.Parallel()
	blocks := crashChain()
	fsys, points := smallDisk(), &failpoint.Points{}
	p, s := openBF(t, crashConfig(fsys, points))
	must(t, commitFrom(s, blocks))
	wantFiles, wantIndex := dumpFiles(t, fsys, bfDir), dumpIndex(t, p)
	if len(wantFiles) < 4 {
		t.Fatalf("%d files only", len(wantFiles))
	}
	for _, seen := range points.Seen() {
		if !strings.HasPrefix(seen.Name, "blockfile/") {
			continue // of the index; it is let fail at each operation on files
		}
		for hit := 1; hit <= seen.Hits; hit++ {
			for mode := vfs.LoseUnsynced; mode <= vfs.GarbageUnsynced; mode++ {
				name := fmt.Sprintf("%s-%d-%d", seen.Name, hit, mode)
				gotFiles, gotIndex, err := crashOnce(t, blocks, seen.Name, hit, mode)
				if err != nil {
					t.Errorf("%s: %v", name, err)
					continue
				}
				if d := cmp.Diff(wantFiles, gotFiles); d != "" {
					t.Errorf("%s: files:\n%s", name, d)
				}
				if d := cmp.Diff(wantIndex, gotIndex); d != "" {
					t.Errorf("%s: index:\n%s", name, d)
				}
			}
		}
	}
}

func crashOnce(t *testing.T, blocks []*protoutil.Block, point string, hit int, mode vfs.CrashMode) (files, index map[string]string, err error) {
	fsys, points := smallDisk(), &failpoint.Points{}
	points.Arm(point, func(n int) error {
		if n == hit {
			return errCrash
		}
		return nil
	})
	_, s := openBF(t, crashConfig(fsys, points))
	if err := commitFrom(s, blocks); !errors.Is(err, errCrash) {
		return nil, nil, fmt.Errorf("crash expected, got %w", err)
	}
	acknowledged := s.Height()
	if err := s.Append(blocks[acknowledged]); err == nil || !strings.Contains(err.Error(), "failed earlier") {
		return nil, nil, fmt.Errorf("append after failure: %w", err)
	}
	after := fsys.Crash(mode, uint64(hit))
	p, err := OpenProvider(crashConfig(after, nil))
	if err != nil {
		return nil, nil, err
	}
	defer p.Close()
	if s, err = p.Open("bf"); err != nil {
		return nil, nil, err
	}
	if s.Height() < acknowledged || s.Height() > acknowledged+1 {
		return nil, nil, fmt.Errorf("height %d, acknowledged %d", s.Height(), acknowledged)
	}
	if err := commitFrom(s, blocks); err != nil {
		return nil, nil, err
	}
	return dumpFiles(t, after, bfDir), dumpIndex(t, p), nil
}

// What is on disk after losing all unsynced data opens at any moment, also when
// the crash comes between file operations rather than at a named point.
func TestCrashAnytime(t *testing.T) {
	t.Parallel()
	blocks := crashChain()
	fsys := smallDisk()
	_, s := openBF(t, crashConfig(fsys, nil))
	for i, b := range blocks {
		must(t, s.Append(b))
		for seed := range uint64(3) {
			mode := []vfs.CrashMode{vfs.LoseUnsynced, vfs.TearUnsynced, vfs.TearUnsynced}[seed]
			after := fsys.Crash(mode, seed)
			p, err := OpenProvider(crashConfig(after, nil))
			must(t, err)
			s, err := p.Open("bf")
			must(t, err)
			if s.Height() != uint64(i)+1 {
				t.Errorf("height %d after block %d", s.Height(), i)
			}
			for n := range s.Height() {
				same(t, blocks[n].Proto(), get2(t, s, n))
			}
			must(t, p.Close())
		}
	}
}

// A full disk leaves no trace, and the block can be appended later.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	blocks := crashChain()
	base := smallDisk()
	full := false
	fsys := errorfs.New(base, func(op errorfs.Op, name string) error {
		if full && op == errorfs.OpWrite && strings.Contains(name, filePrefix) {
			return syscall.ENOSPC
		}
		return nil
	})
	_, s := openBF(t, crashConfig(fsys, nil))
	for _, b := range blocks {
		full = true
		if err := s.Append(b); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("append on a full disk: %v", err)
		}
		full = false
		must(t, s.Append(b))
	}
	ref := smallDisk()
	_, s = openBF(t, crashConfig(ref, nil))
	must(t, commitFrom(s, blocks))
	if d := cmp.Diff(dumpFiles(t, ref, bfDir), dumpFiles(t, base, bfDir)); d != "" {
		t.Error(d)
	}
}

// After a failed sync nothing is certain: the store refuses until it is opened
// again.
func TestFailuresStopTheStore(t *testing.T) {
	t.Parallel()
	blocks := crashChain()
	for name, fails := range map[string]func(op errorfs.Op, name string) bool{
		"sync of the block file": func(op errorfs.Op, name string) bool {
			return op == errorfs.OpSync && strings.Contains(name, filePrefix)
		},
		"write to the index": func(op errorfs.Op, name string) bool {
			return op == errorfs.OpWrite && strings.Contains(name, "/index/")
		},
		"write and truncate": func(op errorfs.Op, name string) bool {
			return (op == errorfs.OpWrite || op == errorfs.OpTruncate) && strings.Contains(name, filePrefix)
		},
		"creation of a file": func(op errorfs.Op, name string) bool {
			return op == errorfs.OpOpen && strings.HasSuffix(name, "1")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base := smallDisk()
			on := false
			fsys := errorfs.New(base, func(op errorfs.Op, name string) error {
				if on && fails(op, name) {
					return os.ErrPermission
				}
				return nil
			})
			p, s := openBF(t, crashConfig(fsys, nil))
			must(t, commitFrom(s, blocks[:2]))
			on = true
			if err := commitFrom(s, blocks[:8]); err == nil {
				t.Fatal("no failure")
			}
			on = false
			reached := s.Height()
			if err := commitFrom(s, blocks[:8]); err == nil || !strings.Contains(err.Error(), "failed earlier") {
				t.Errorf("append after failure: %v", err)
			}
			p.Close()
			_, s = openBF(t, crashConfig(base, nil))
			if s.Height() < reached {
				t.Errorf("height %d, was %d", s.Height(), reached)
			}
			must(t, commitFrom(s, blocks))
		})
	}
}
