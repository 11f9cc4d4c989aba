package ledger

import (
	"flag"
	"fmt"
	"sync"
	"testing"

	"github.com/heddle-ledger/heddle/internal/failpoint"
	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/internal/vfs/errorfs"
)

var (
	tortureFull = flag.Bool("torture.full", false, "crash and fail everywhere instead of at a sample of places")
	tortureSeed = flag.Uint64("torture.seed", 1, "seed of random operations")
	tortureFor  = flag.Duration("torture.for", 0, "how long to run random operations; 0: a few")
)

// crashMode names a vfs.CrashMode in reports.
func crashMode(m vfs.CrashMode) string {
	return [...]string{"unsynced lost", "unsynced kept", "unsynced torn", "unsynced garbled"}[m]
}

// moment is the disk at one moment of a process's life, as the next process finds
// it if this one ends there.
type moment struct {
	what string
	mode vfs.CrashMode
	fs   *vfs.Mem
}

// camera takes moments of a running process: before each operation that changes
// something on the disk, and at each crash point.
type camera struct {
	fs *vfs.Mem
	// pick tells which of the moments counted so far are wanted.
	pick func(n int) bool
	// thorough is set if each moment is wanted with every crash mode; else the
	// modes take turns.
	thorough bool

	mu     sync.Mutex // guards what follows
	n      int
	photos []moment
	met    map[string]int // by operation or crash point
}

func (c *camera) take(what, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	if c.met == nil {
		c.met = map[string]int{}
	}
	c.met[what]++
	if !c.pick(c.n) {
		return
	}
	mode := vfs.CrashMode(len(c.photos)) % (vfs.GarbageUnsynced + 1)
	modes := []vfs.CrashMode{mode}
	if c.thorough {
		modes = []vfs.CrashMode{vfs.LoseUnsynced, vfs.KeepUnsynced, vfs.TearUnsynced, vfs.GarbageUnsynced}
	}
	for _, mode := range modes {
		c.photos = append(c.photos, moment{
			what: fmt.Sprintf("moment %d, before %s %s, %s", c.n, what, name, crashMode(mode)), mode: mode, fs: c.fs.Crash(mode, uint64(c.n)),
		})
	}
}

// disk is the file system to run on.
func (c *camera) disk() vfs.FS {
	return errorfs.New(c.fs, func(op errorfs.Op, name string) error {
		if op.Changes() {
			c.take(string(op), name)
		}
		return nil
	})
}

func (c *camera) points() *failpoint.Points {
	p := &failpoint.Points{}
	p.Watch(func(name string) { c.take("point", name) })
	return p
}

// develop hands out what was taken so far.
func (c *camera) develop() []moment {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.photos
	c.photos = nil
	return out
}

// secondEvery says which of those who start after a crash crash themselves.
const secondEvery = 20

// stride picks one in so many moments, all in full mode.
func stride(n int) func(int) bool {
	if *tortureFull {
		n = 1
	} else if testing.Short() {
		n *= 10
	}
	return func(i int) bool { return i%n == n-1 }
}

// TestTortureCrash ends the process at its crash points and between its
// operations on files, opens what a crash leaves of the directory and takes the
// rest of the step: the directory must then hold what it holds after the step if
// nobody crashes.
func TestTortureCrash(t *testing.T) {
	for name, tell := range map[string]func(testing.TB) *story{
		"story": tellStory, "recorded chain": tellRecorded, "recorded chain announced": tellAnnounced, "rebuild": tellRebuild,
	} {
		t.Run(name, func(t *testing.T) {
			st := tell(t)
			c := &camera{fs: smallDisk(), pick: stride(9), thorough: *tortureFull}
			r := st.newRun(t, c.disk())
			r.cfg.Points = c.points()
			tries, again := 0, 0
			for i := range st.steps {
				must(t, st.steps[i].do(r))
				if !checkVault(t, fmt.Sprintf("step %d, %s, lived through again", i, st.steps[i].name), st.wants[i], readVault(t, c.fs)) {
					t.FailNow()
				}
				for k, m := range c.develop() {
					m.what = fmt.Sprintf("step %d, %s, %s", i, st.steps[i].name, m.what)
					tries++
					// Some of those who come after crash themselves.
					var second *camera
					if (tries+k)%secondEvery == 0 {
						second = &camera{fs: m.fs, pick: func(n int) bool { return n%41 == (tries*7+k)%41 }}
					}
					st.resume(t, m, i, second)
					if second == nil {
						continue
					}
					for _, m2 := range second.develop() {
						again++
						m2.what = m.what + "; then, at the next start, " + m2.what
						st.resume(t, m2, i, nil)
					}
				}
				if t.Failed() {
					t.FailNow()
				}
			}
			must(t, r.stop())
			t.Logf("%d steps, %d moments, %d crashes, %d second crashes; %v", len(st.steps), c.n, tries, again, c.met)
		})
	}
}

// resume starts a process on what a crash in step i has left, which must succeed,
// takes the step and compares.
func (st *story) resume(t *testing.T, m moment, i int, second *camera) {
	t.Helper()
	st.checkRules(t, m, i)
	var disk vfs.FS = m.fs
	r := st.newRun(t, disk)
	if second != nil {
		r = st.newRun(t, second.disk())
		r.cfg.Points = second.points()
	}
	defer r.stop() //nolint:errcheck // after a failure of the test
	if err := r.start(); err != nil {
		t.Errorf("%s: start: %v", m.what, err)
		return
	}
	if i > 0 && !st.steps[i].shortens {
		got := r.heights()
		for id, h := range st.heights[i-1] {
			if got[id] < h {
				t.Errorf("%s: channel %s had %d blocks and has %d", m.what, id, h, got[id])
			}
		}
	}
	end := i
	if st.toTheEnd {
		end = len(st.steps) - 1
	}
	for k := i; k <= end; k++ {
		if err := st.steps[k].do(r); err != nil {
			t.Errorf("%s: take step %d: %v", m.what, k, err)
			return
		}
	}
	checkVault(t, m.what, st.wants[end], readVault(t, m.fs))
	if err := r.stop(); err != nil {
		t.Errorf("%s: stop: %v", m.what, err)
	}
}
