package kv

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/internal/vfs/errorfs"
)

const tortureBatches = 150

// tortureConfig makes journals and tables change often.
func tortureConfig(fsys vfs.FS) Config {
	return Config{Dir: "/db", FS: fsys, WriteBuffer: 8 << 10, TableSize: 8 << 10}
}

func isSynced(i int) bool { return i%7 == 0 }

// writeAll writes batches from the first missing one on, and closes and opens
// the database once in the middle. It returns the last one written and the last
// one that a sync covers, -1 for none, and the error that ended it.
func writeAll(cfg Config, from int) (written, synced int, db *Database, err error) {
	written, synced = from-1, -1
	if db, err = Open(cfg); err != nil {
		return written, synced, nil, err
	}
	value := make([]byte, 250)
	for i := from; i < tortureBatches; i++ {
		if i == tortureBatches/2 {
			if err := db.Close(); err != nil {
				return written, synced, nil, err
			}
			if db, err = Open(cfg); err != nil {
				return written, synced, nil, err
			}
		}
		s := db.Store("x")
		b := s.NewBatch()
		for k := range 3 {
			b.Put(fmt.Appendf(nil, "%d-%06d", k, i), value)
		}
		if err := s.Write(b, isSynced(i)); err != nil {
			return written, synced, db, err
		}
		written = i
		if isSynced(i) {
			synced = i
		}
	}
	return written, synced, db, nil
}

// TestEveryFailingOperation lets each operation on files fail once, the disk
// being well before and after. A write that failed is the last: the database
// takes no other, as it cannot know what is on the disk. Nothing that was synced
// is lost whatever becomes of the machine then, and what is left is a beginning
// of what was written.
func TestEveryFailingOperation(t *testing.T) {
	closesUnderSenders(t)
	t.Parallel()
	faults := map[errorfs.Op][]error{
		errorfs.OpWrite: {
			&errorfs.ShortWrite{N: 0, Err: syscall.EIO}, &errorfs.ShortWrite{N: 5, Err: syscall.ENOSPC},
			&errorfs.ShortWrite{N: 1 << 20, Err: syscall.EIO},
		},
		errorfs.OpSync: {syscall.EIO},
	}
	ops := countOps(t)
	stride := 7
	if testing.Short() {
		stride = 71
	}
	met := map[errorfs.Op]int{}
	for n := 1; n <= ops; n += stride {
		var count atomic.Int64
		var hit errorfs.Op
		base := vfs.NewMem()
		cfg := tortureConfig(errorfs.New(base, func(op errorfs.Op, _ string) error {
			if count.Add(1) != int64(n) {
				return nil
			}
			hit = op
			if list := faults[op]; list != nil {
				return list[n/stride%len(list)]
			}
			return syscall.EIO
		}))
		written, synced, db, err := writeAll(cfg, 0)
		met[hit]++
		what := fmt.Sprintf("operation %d, %s, at batch %d (%v)", n, hit, written+1, err)
		if err != nil {
			checkFailure(t, what, db, err)
		}
		for mode := vfs.LoseUnsynced; mode <= vfs.GarbageUnsynced; mode++ {
			checkLeft(t, fmt.Sprintf("%s, mode %d", what, mode), base.Crash(mode, uint64(n)), written, synced, err != nil)
		}
		if db != nil {
			db.Close() // what a database that failed says then does not matter
		}
	}
	t.Logf("%d operations, one in %d: %v", ops, stride, met)
}

func countOps(t *testing.T) int {
	var count atomic.Int64
	_, _, db, err := writeAll(tortureConfig(errorfs.New(vfs.NewMem(), func(errorfs.Op, string) error {
		count.Add(1)
		return nil
	})), 0)
	must(t, err)
	must(t, db.Close())
	return int(count.Load())
}

// checkFailure: the error says which file or database it was, and the database
// does not go on.
func checkFailure(t *testing.T, what string, db *Database, err error) {
	t.Helper()
	if !strings.Contains(err.Error(), "/db") {
		t.Errorf("%s: the error names no file", what)
	}
	// goleveldb does not wrap all of its errors.
	if !strings.Contains(err.Error(), syscall.EIO.Error()) && !strings.Contains(err.Error(), syscall.ENOSPC.Error()) {
		t.Errorf("%s: some other error", what)
	}
	if db == nil {
		return
	}
	var failed *FailedError
	if err := db.Store("x").Put([]byte("more"), nil, true); !errors.As(err, &failed) || failed.Dir != "/db" {
		t.Errorf("%s: a later write: %v", what, err)
	}
	if _, err := db.Store("x").Get([]byte("0-000000")); err != nil {
		t.Errorf("%s: a later read: %v", what, err)
	}
}

func checkLeft(t *testing.T, what string, after *vfs.Mem, written, synced int, failed bool) {
	t.Helper()
	db, err := Open(tortureConfig(after))
	if err != nil {
		t.Errorf("%s: open: %v", what, err)
		return
	}
	n := 0
	it := db.Store("x").Scan(nil, nil)
	for it.Next() {
		if want := fmt.Sprintf("0-%06d", n); string(it.Key()) == want {
			n++
		} else if n > 0 && it.Key()[0] == '0' {
			t.Errorf("%s: %s where %s is expected", what, it.Key(), want)
		}
	}
	it.Close()
	// The batch that failed may be there or not.
	if n-1 < synced || n-1 > written && !(failed && n-1 == written+1) {
		t.Errorf("%s: %d batches left, %d written, synced up to %d", what, n, written+1, synced+1)
	}
	for k := range 3 {
		if has, err := db.Store("x").Has(fmt.Appendf(nil, "%d-%06d", k, n-1)); err != nil || n > 0 && !has {
			t.Errorf("%s: batch %d is torn apart, %v", what, n-1, err)
		}
		if has, err := db.Store("x").Has(fmt.Appendf(nil, "%d-%06d", k, n)); err != nil || has {
			t.Errorf("%s: batch %d is torn apart, %v", what, n, err)
		}
	}
	must(t, db.Close())
	// It goes on, and a second crash loses no more than it may.
	if _, _, db, err = writeAll(tortureConfig(after), n); err != nil {
		t.Errorf("%s: going on: %v", what, err)
		return
	}
	must(t, db.Close())
}

// TestSyncIsNotTriedAgain: a sync that failed once would report success the next
// time, without anything on the disk.
func TestSyncIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	base := vfs.NewMem()
	fail := false
	db := openDB(t, Config{Dir: "/db", FS: errorfs.New(base, func(op errorfs.Op, name string) error {
		if fail && op == errorfs.OpSync && strings.HasSuffix(name, ".log") {
			fail = false
			return syscall.EIO
		}
		return nil
	})})
	s := db.Store("x")
	must(t, s.Put([]byte("a"), nil, true))
	fail = true
	err := s.Put([]byte("b"), nil, true)
	var at *fs.PathError
	if !errors.As(err, &at) || !strings.HasPrefix(at.Path, "/db/") {
		t.Errorf("the file is not named: %v", err)
	}
	var failed *FailedError
	if err := s.Put([]byte("c"), nil, true); !errors.As(err, &failed) {
		t.Errorf("the next write: %v", err)
	}
	if err := s.Sync(); !errors.As(err, &failed) {
		t.Errorf("the next sync: %v", err)
	}
	after := openDB(t, Config{Dir: "/db", FS: base.Crash(vfs.LoseUnsynced, 0)}).Store("x")
	for key, want := range map[string]bool{"a": true, "b": false, "c": false} {
		if has, err := after.Has([]byte(key)); err != nil || has != want {
			t.Errorf("%s: %v, %v", key, has, err)
		}
	}
}

// TestFullDisk: whatever room is left, what is not refused is there.
func TestFullDisk(t *testing.T) {
	closesUnderSenders(t)
	t.Parallel()
	for room := int64(100); room < 200_000; room = room*5/4 + 17 {
		base := vfs.NewMem()
		disk := errorfs.NewDisk(base, room)
		written, synced, db, err := writeAll(tortureConfig(disk), 0)
		if err == nil {
			if disk.WasFull() {
				t.Errorf("%d bytes: nobody noticed", room)
			}
			must(t, db.Close())
			continue
		}
		if !strings.Contains(err.Error(), syscall.ENOSPC.Error()) {
			t.Errorf("%d bytes: %v", room, err)
		}
		if db != nil {
			db.Close()
		}
		for mode := vfs.LoseUnsynced; mode <= vfs.GarbageUnsynced; mode++ {
			checkLeft(t, fmt.Sprintf("%d bytes, mode %d", room, mode), base.Crash(mode, uint64(room)), written, synced, true)
		}
	}
}
