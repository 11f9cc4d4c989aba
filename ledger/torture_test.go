package ledger

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
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
	met    map[string]int  // by operation, or point for crash points
	passed map[string]bool // crash points
}

func (c *camera) take(what, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	if c.met == nil {
		c.met, c.passed = map[string]int{}, map[string]bool{}
	}
	c.met[what]++
	if what == "point" {
		c.passed[name] = true
	}
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
const secondEvery = 10

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
	tales := map[string]func(testing.TB) *story{
		"story": tellStory, "recorded chain": tellRecorded, "recorded chain announced": tellAnnounced, "rebuild": tellRebuild,
	}
	passed, told := map[string]bool{}, 0
	for name, tell := range tales {
		t.Run(name, func(t *testing.T) {
			maps.Copy(passed, tell(t).crash(t))
			told++
		})
	}
	for _, name := range crashPoints(t) {
		if told == len(tales) && !passed[name] {
			t.Errorf("no story passes crash point %s", name)
		}
	}
	t.Logf("%d crash points", len(passed))
}

// crash lives through the story and resumes what its crashes leave. It returns the
// crash points passed.
func (st *story) crash(t *testing.T) (passed map[string]bool) {
	c := &camera{fs: smallDisk(), pick: stride(11), thorough: *tortureFull}
	r := st.newRun(t, c.disk())
	r.cfg.Points = c.points()
	crashes, again := 0, 0
	for i := range st.steps {
		must(t, st.steps[i].do(r))
		checkVault(t, fmt.Sprintf("step %d, %s, lived through again", i, st.steps[i].name), st.wants[i], readVault(t, c.fs))
		for _, m := range c.develop() {
			m.what = fmt.Sprintf("step %d, %s, %s", i, st.steps[i].name, m.what)
			crashes++
			again += st.resumeTwice(t, m, i, crashes)
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	must(t, r.stop())
	t.Logf("%d steps, %d moments, %d crashes, %d second crashes; %v", len(st.steps), c.n, crashes, again, c.met)
	return c.passed
}

// resumeTwice resumes, and lets some of those who do crash themselves. It returns
// the number of second crashes.
func (st *story) resumeTwice(t *testing.T, m moment, step, seed int) int {
	t.Helper()
	if seed%secondEvery != 0 {
		st.resume(t, m, step, nil)
		return 0
	}
	second := &camera{fs: m.fs, pick: func(n int) bool { return n%97 == seed*7%97 }}
	st.resume(t, m, step, second)
	photos := second.develop()
	for _, again := range photos {
		again.what = m.what + "; then, at the next start, " + again.what
		st.resume(t, again, step, nil)
	}
	return len(photos)
}

// crashPoints lists all there are: those that the sources name, and those around
// the batches of databases.
func crashPoints(t *testing.T) []string {
	t.Helper()
	var out []string
	name := regexp.MustCompile(`Point[A-Z][A-Za-z]* *= "([a-z/-]+)"`)
	for _, dir := range []string{".", "blockfile", "pvtstore"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		must(t, err)
		for _, f := range files {
			raw, err := os.ReadFile(f)
			must(t, err)
			for _, m := range name.FindAllSubmatch(raw, -1) {
				out = append(out, string(m[1]))
			}
		}
	}
	for _, db := range databases {
		out = append(out, "kv/"+path.Base(db)+"/before-write")
		if db != "historyLeveldb" { // needs no sync
			out = append(out, "kv/"+path.Base(db)+"/after-sync")
		}
	}
	return out
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
