package blockfile

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/internal/vfs/errorfs"
)

// attempt opens the store and appends what it does not have, trying a block that
// fails twice more, as a caller might that hopes for better luck. It opens the
// store anew once on its way. It returns the number of blocks acknowledged.
func attempt(fsys vfs.FS, blocks []*protoutil.Block) (height uint64, err error) {
	for _, end := range []int{len(blocks) / 2, len(blocks)} {
		p, err := OpenProvider(crashConfig(fsys, nil))
		if err != nil {
			return height, err
		}
		s, err := p.Open("bf")
		if err != nil {
			return height, errors.Join(err, p.Close())
		}
		for s.Height() < uint64(end) {
			for range 3 {
				if err = s.Append(blocks[s.Height()]); err == nil {
					break
				}
			}
			if height = s.Height(); err != nil {
				p.Close() // says again that it failed
				return height, err
			}
		}
		height = s.Height()
		if err := p.Close(); err != nil {
			return height, err
		}
	}
	return height, nil
}

// TestEveryFailingOperation lets each operation on files fail once. No block that
// was acknowledged is lost, the error names the file, and the finished chain is
// that of a run without faults, byte for byte.
func TestEveryFailingOperation(t *testing.T) {
	t.Parallel()
	blocks := crashChain()
	whole := smallDisk()
	var count atomic.Int64
	_, err := attempt(errorfs.New(whole, func(errorfs.Op, string) error {
		count.Add(1)
		return nil
	}), blocks)
	must(t, err)
	wantFiles, wantIndex := leftBehind(t, whole)
	faults := map[errorfs.Op][]error{
		errorfs.OpWrite: {
			&errorfs.ShortWrite{N: 0, Err: syscall.EIO}, &errorfs.ShortWrite{N: 700, Err: syscall.ENOSPC},
			&errorfs.ShortWrite{N: 1 << 20, Err: syscall.EIO},
		},
	}
	ops, stride := int(count.Load()), 5
	if testing.Short() {
		stride = 29
	}
	failed := 0
	for n := 1; n <= ops; n += stride {
		var count atomic.Int64
		var hit errorfs.Op
		base := smallDisk()
		height, err := attempt(errorfs.New(base, func(op errorfs.Op, _ string) error {
			if count.Add(1) != int64(n) {
				return nil
			}
			hit = op
			if list := faults[op]; list != nil {
				return list[n/stride%len(list)]
			}
			return syscall.EIO
		}), blocks)
		what := fmt.Sprintf("operation %d, %s (%v)", n, hit, err)
		if err != nil {
			failed++
			if !strings.Contains(err.Error(), "/d") {
				t.Errorf("%s: the error names no file", what)
			}
		}
		for mode := vfs.LoseUnsynced; mode <= vfs.GarbageUnsynced; mode++ {
			after := base.Crash(mode, uint64(n))
			// After the death of the process alone the machine may go down next.
			if mode == vfs.KeepUnsynced {
				p, s := openBF(t, crashConfig(after, nil))
				if s.Height() < height {
					t.Errorf("%s: %d blocks of %d", what, s.Height(), height)
				}
				height = s.Height()
				must(t, p.Close())
				after = after.Crash(vfs.LoseUnsynced, 0)
			}
			p, err := OpenProvider(crashConfig(after, nil))
			must(t, err)
			s, err := p.Open("bf")
			if err != nil {
				t.Errorf("%s, mode %d: %v", what, mode, err)
				continue
			}
			if mode == vfs.LoseUnsynced && s.Height() < height || s.Height() > uint64(len(blocks)) {
				t.Errorf("%s, mode %d: %d blocks of %d", what, mode, s.Height(), height)
			}
			must(t, commitFrom(s, blocks))
			must(t, p.Close())
			gotFiles, gotIndex := leftBehind(t, after)
			if d := cmp.Diff(wantFiles, gotFiles); d != "" {
				t.Errorf("%s, mode %d: files:\n%s", what, mode, d)
			}
			if d := cmp.Diff(wantIndex, gotIndex); d != "" {
				t.Errorf("%s, mode %d: index:\n%s", what, mode, d)
			}
		}
	}
	t.Logf("%d operations, one in %d, %d runs failed", ops, stride, failed)
}

// leftBehind reads the files and the index of a directory that nobody has open.
func leftBehind(t *testing.T, fsys *vfs.Mem) (files, index map[string]string) {
	t.Helper()
	p, err := OpenProvider(crashConfig(fsys, nil))
	must(t, err)
	defer p.Close()
	return dumpFiles(t, fsys, bfDir), dumpIndex(t, p)
}

// TestRestartAfterFailedSync: a sync of the block file fails, the process ends and
// is started again, and finds the block, which is in the page cache only. Once it
// has built on the block, a crash of the machine must not take it.
func TestRestartAfterFailedSync(t *testing.T) {
	t.Parallel()
	blocks := crashChain()
	base := smallDisk()
	fail := false
	_, s := openBF(t, crashConfig(errorfs.New(base, func(op errorfs.Op, name string) error {
		if fail && op == errorfs.OpSync && strings.Contains(name, filePrefix) {
			return syscall.EIO
		}
		return nil
	}), nil))
	must(t, commitFrom(s, blocks[:3]))
	fail = true
	if err := commitFrom(s, blocks[:4]); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	restarted := base.Crash(vfs.KeepUnsynced, 0)
	p, s := openBF(t, crashConfig(restarted, nil))
	if s.Height() != 4 {
		t.Fatalf("height %d", s.Height())
	}
	must(t, commitFrom(s, blocks[:6]))
	after := restarted.Crash(vfs.LoseUnsynced, 0)
	must(t, p.Close())
	_, s = openBF(t, crashConfig(after, nil))
	if s.Height() != 6 {
		t.Errorf("height %d", s.Height())
	}
	for n := range s.Height() {
		same(t, blocks[n].Proto(), get2(t, s, n))
	}
}
