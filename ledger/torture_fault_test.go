package ledger

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/internal/vfs/errorfs"
)

// fault makes one operation fail, or one and all that follow and change
// something, as on a disk that has been switched to read-only.
type fault struct {
	at   int64 // which operation, from 1
	dead bool

	count atomic.Int64
	hit   atomic.Pointer[string]
}

func (f *fault) inject(op errorfs.Op, name string) error {
	n := f.count.Add(1)
	switch {
	case n == f.at:
		what := string(op) + " " + name
		f.hit.Store(&what)
	case n > f.at && f.dead && f.hit.Load() != nil && op.Changes():
	default:
		return nil
	}
	if f.dead {
		return syscall.EROFS
	}
	if op != errorfs.OpWrite {
		return syscall.EIO
	}
	switch n % 3 { // nothing, a part, or everything was written
	case 0:
		return &errorfs.ShortWrite{N: 0, Err: syscall.EIO}
	case 1:
		return &errorfs.ShortWrite{N: int(n % 97), Err: syscall.ENOSPC}
	default:
		return &errorfs.ShortWrite{N: 1 << 20, Err: syscall.EIO}
	}
}

// suffer lives through the start of a process and one step on a disk that fails,
// trying again as somebody may who hopes for better luck. It returns the first
// error, and whether the step was taken all the same.
func (st *story) suffer(t *testing.T, disk vfs.FS, step int) (first error, taken bool) {
	t.Helper()
	r := st.newRun(t, disk)
	defer r.stop() //nolint:errcheck // says again that it failed
	note := func(err error) error {
		if first == nil {
			first = err
		}
		return err
	}
	if note(r.start()) != nil {
		r.stop() //nolint:errcheck // as above
		if r.start() != nil {
			return first, false
		}
	}
	for range 3 {
		if r.p == nil { // the step stops and starts the process
			if r.start() != nil {
				return first, false
			}
		}
		if note(st.steps[step].do(r)) == nil {
			return first, true
		}
	}
	return first, false
}

// operations counts those on files from the first of a step to its last, if a
// process is started before it.
func (st *story) operations(t *testing.T, step int) (first, last int64) {
	t.Helper()
	f := &fault{at: -1}
	r := st.newRun(t, errorfs.New(st.starts[step].Crash(vfs.KeepUnsynced, 0), f.inject))
	must(t, r.start())
	first = f.count.Load() + 1
	must(t, st.steps[step].do(r))
	last = f.count.Load()
	must(t, r.stop())
	return first, last
}

// TestTortureFault lets operations on files fail: reads and writes, syncs,
// renames, listings, locks. Whatever fails, the error names the file, the process
// never acknowledges what is not safe, and the next one on a sound disk finishes
// the step with the result of a run in which nothing failed.
func TestTortureFault(t *testing.T) {
	st := tellStory(t)
	faults, failed, silent := 0, 0, 0
	met := map[string]int{}
	every := 37
	if *tortureFull {
		every = 1
	} else if testing.Short() {
		every = 397
	}
	for i := 1; i < len(st.steps); i++ {
		// The start of a process is much the same before every step.
		first, last := st.operations(t, i)
		if i%8 == 1 {
			first = 1
		}
		for at := first + int64(i*13%every); at <= last; at += int64(every) {
			f := &fault{at: at, dead: (at+int64(i))%5 == 0}
			base := st.starts[i].Crash(vfs.KeepUnsynced, 0)
			err, taken := st.suffer(t, errorfs.New(base, f.inject), i)
			hit := f.hit.Load()
			if hit == nil {
				continue // what goes on in the background is not always the same
			}
			faults++
			op, _, _ := strings.Cut(*hit, " ")
			met[op]++
			what := fmt.Sprintf("step %d, %s, operation %d, %s fails (dead: %v, taken: %v): %v", i, st.steps[i].name, at, *hit, f.dead, taken, err)
			if err == nil {
				silent++
			} else {
				failed++
				checkFaultError(t, what, err)
			}
			st.afterFault(t, what, base, i, taken, uint64(at))
			if t.Failed() {
				t.FailNow()
			}
		}
	}
	t.Logf("%d faults, %d with an error, %d without; %v", faults, failed, silent, met)
}

func checkFaultError(t *testing.T, what string, err error) {
	t.Helper()
	text := err.Error()
	if !strings.Contains(text, "/root/") {
		t.Errorf("%s: the error names no file", what)
	}
	// goleveldb does not wrap all of its errors.
	for _, no := range []syscall.Errno{syscall.EIO, syscall.ENOSPC, syscall.EROFS} {
		if errors.Is(err, no) || strings.Contains(text, no.Error()) {
			return
		}
	}
	t.Errorf("%s: some other error", what)
}

// afterFault goes on, after the end of the process or of the machine, with what
// is left of the step, or with the next one.
func (st *story) afterFault(t *testing.T, what string, base *vfs.Mem, step int, taken bool, seed uint64) {
	t.Helper()
	modes := []vfs.CrashMode{vfs.CrashMode(seed/2) % (vfs.GarbageUnsynced + 1)}
	if *tortureFull {
		modes = []vfs.CrashMode{vfs.LoseUnsynced, vfs.CrashMode(seed)%vfs.GarbageUnsynced + 1}
	}
	if taken {
		step++
	}
	for _, mode := range modes {
		m := moment{what: what + ", " + crashMode(mode), mode: mode, fs: base.Crash(mode, seed)}
		if step < len(st.steps) {
			st.resume(t, m, step, nil)
		}
	}
}

// TestTortureFullDisk lets the disk fill up at any point of the story.
func TestTortureFullDisk(t *testing.T) {
	st := tellStory(t)
	every := 5
	if *tortureFull {
		every = 1
	} else if testing.Short() {
		every = 29
	}
	full := 0
	for i := 1; i < len(st.steps); i += every {
		for room := int64(20 + i*7); ; room = room*2 + 111 {
			base := st.starts[i].Crash(vfs.KeepUnsynced, 0)
			disk := errorfs.NewDisk(base, room)
			err, taken := st.suffer(t, disk, i)
			if !disk.WasFull() {
				if err != nil {
					t.Fatal(err)
				}
				break
			}
			full++
			what := fmt.Sprintf("step %d, %s, room for %d bytes (taken: %v): %v", i, st.steps[i].name, room, taken, err)
			if err != nil {
				checkFaultError(t, what, err)
			}
			st.afterFault(t, what, base, i, taken, uint64(room))
			if t.Failed() {
				t.FailNow()
			}
		}
	}
	t.Logf("%d full disks", full)
}
