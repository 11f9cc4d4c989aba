package vfs_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/internal/vfs/errorfs"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, fsys vfs.FS, name, data string, sync bool) {
	t.Helper()
	f, err := fsys.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	must(t, err)
	_, err = io.WriteString(f, data)
	must(t, err)
	if sync {
		must(t, f.Sync())
	}
	must(t, f.Close())
}

func content(fsys vfs.FS, name string) string {
	b, err := vfs.ReadFile(fsys, name)
	if errors.Is(err, fs.ErrNotExist) {
		return "absent"
	}
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// Both file systems behave alike.
func TestFileSystems(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		fs   vfs.FS
		root string
	}{"mem": {vfs.NewMem(), "/r"}, "os": {vfs.OS(), filepath.ToSlash(t.TempDir()) + "/r"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			exercise(t, tc.fs, tc.root)
			if vfs.IsOS(tc.fs) != (name == "os") {
				t.Error("IsOS")
			}
		})
	}
}

func exercise(t *testing.T, fsys vfs.FS, root string) {
	at := func(name string) string { return path.Join(root, name) }
	must(t, fsys.MkdirAll(at("a/b"), 0o755))
	write(t, fsys, at("a/x"), "one", true)
	write(t, fsys, at("a/x"), "two", false)
	if got := content(fsys, at("a/x")); got != "onetwo" {
		t.Errorf("appended: %q", got)
	}
	must(t, vfs.WriteFile(fsys, at("a/y"), []byte("replaced"), 0o644))
	must(t, vfs.WriteFile(fsys, at("a/y"), []byte("new"), 0o644))
	if got := content(fsys, at("a/y")); got != "new" {
		t.Errorf("replaced: %q", got)
	}
	must(t, fsys.Rename(at("a/y"), at("a/z")))
	entries, err := fsys.ReadDir(at("a"))
	must(t, err)
	var names string
	for _, e := range entries {
		names += e.Name() + " "
	}
	if names != "b x z " {
		t.Errorf("names: %s", names)
	}
	info, err := fsys.Stat(at("a/x"))
	must(t, err)
	if info.Size() != 6 || info.IsDir() || info.Name() != "x" {
		t.Errorf("stat: %v", info)
	}
	if info, err := fsys.Stat(at("a")); err != nil || !info.IsDir() {
		t.Errorf("stat of a directory: %v, %v", info, err)
	}
	handle(t, fsys, at("a/x"))
	must(t, fsys.SyncDir(at("a")))
	must(t, fsys.Remove(at("a/z")))
	for what, err := range map[string]error{
		"open":    func() error { _, err := vfs.Open(fsys, at("a/z")); return err }(),
		"stat":    func() error { _, err := fsys.Stat(at("none")); return err }(),
		"remove":  fsys.Remove(at("a/z")),
		"readdir": func() error { _, err := fsys.ReadDir(at("none")); return err }(),
		"rename":  fsys.Rename(at("none"), at("a/q")),
		"create":  func() error { _, err := fsys.OpenFile(at("none/x"), os.O_CREATE|os.O_WRONLY, 0o644); return err }(),
		"sync":    fsys.SyncDir(at("none")),
	} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := fsys.OpenFile(at("a/x"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644); !errors.Is(err, fs.ErrExist) {
		t.Errorf("exclusive: %v", err)
	}
	if err := fsys.Remove(at("a")); err == nil {
		t.Error("full directory removed")
	}
	lock, err := fsys.Lock(at("LOCK"))
	must(t, err)
	if _, err := fsys.Lock(at("LOCK")); !errors.Is(err, vfs.ErrLocked) {
		t.Errorf("second lock: %v", err)
	}
	must(t, lock.Close())
	must(t, fsys.RemoveAll(at("a")))
	if got := content(fsys, at("a/x")); got != "absent" {
		t.Errorf("after RemoveAll: %q", got)
	}
}

func handle(t *testing.T, fsys vfs.FS, name string) {
	t.Helper()
	f, err := fsys.OpenFile(name, os.O_RDWR, 0)
	must(t, err)
	buf := make([]byte, 4)
	if n, err := f.ReadAt(buf, 3); n != 3 || !errors.Is(err, io.EOF) || string(buf[:n]) != "two" {
		t.Errorf("ReadAt: %q, %v", buf[:n], err)
	}
	if _, err := f.ReadAt(buf, 100); !errors.Is(err, io.EOF) {
		t.Errorf("ReadAt beyond the end: %v", err)
	}
	if pos, err := f.Seek(2, io.SeekStart); pos != 2 || err != nil {
		t.Errorf("seek: %d, %v", pos, err)
	}
	if n, err := f.Read(buf); n != 4 || err != nil || string(buf) != "etwo" {
		t.Errorf("read: %q, %v", buf[:n], err)
	}
	must(t, f.Truncate(2))
	must(t, f.Truncate(4))
	if got := content(fsys, name); got != "on\x00\x00" {
		t.Errorf("truncated: %q", got)
	}
	if _, err := f.Seek(6, io.SeekStart); err != nil {
		t.Error(err)
	}
	_, err = f.Write([]byte("!"))
	must(t, err)
	if got := content(fsys, name); got != "on\x00\x00\x00\x00!" {
		t.Errorf("written behind the end: %q", got)
	}
	must(t, f.Close())
	if _, err := f.Write(nil); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("write after close: %v", err)
	}
}

func TestCrashModes(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	must(t, m.MkdirAll("/d", 0o755))
	write(t, m, "/d/synced", "kept", true)
	write(t, m, "/d/tail", "kept", true)
	write(t, m, "/d/tail", "lost", false)
	write(t, m, "/d/never", "lost", false)
	write(t, m, "/d/old", "old", true)
	must(t, m.SyncDir("/d"))
	must(t, m.Rename("/d/old", "/d/new"))
	must(t, m.Remove("/d/synced"))
	lost, kept := m.Crash(vfs.LoseUnsynced, 0), m.Crash(vfs.KeepUnsynced, 0)
	for name, want := range map[string][2]string{
		"synced": {"kept", "absent"},
		"tail":   {"kept", "keptlost"},
		"never":  {"", "lost"},
		"old":    {"old", "absent"},
		"new":    {"absent", "old"},
	} {
		if got := content(lost, "/d/"+name); got != want[0] {
			t.Errorf("%s, unsynced data lost: %q, want %q", name, got, want[0])
		}
		if got := content(kept, "/d/"+name); got != want[1] {
			t.Errorf("%s, unsynced data kept: %q, want %q", name, got, want[1])
		}
	}
	must(t, m.SyncDir("/d"))
	if got := content(m.Crash(vfs.LoseUnsynced, 0), "/d/new"); got != "old" {
		t.Errorf("rename after sync: %q", got)
	}
	seen := map[string]bool{}
	for seed := range uint64(100) {
		seen[content(m.Crash(vfs.TearUnsynced, seed), "/d/tail")] = true
	}
	if len(seen) != 5 {
		t.Errorf("torn tails: %v", seen)
	}
	write(t, lost, "/d/tail", "more", false)
	if got := content(m, "/d/tail"); got != "keptlost" {
		t.Errorf("the original changed: %q", got)
	}
}

func TestErrorFS(t *testing.T) {
	t.Parallel()
	base := vfs.NewMem()
	must(t, base.MkdirAll("/d", 0o755))
	bad := errors.New("bad")
	var on errorfs.Op
	fsys := errorfs.New(base, func(op errorfs.Op, _ string) error {
		if op == on {
			return bad
		}
		return nil
	})
	f, err := fsys.OpenFile("/d/x", os.O_RDWR|os.O_CREATE, 0o644)
	must(t, err)
	for op, do := range map[errorfs.Op]func() error{
		errorfs.OpOpen:     func() error { _, err := vfs.Open(fsys, "/d/x"); return err },
		errorfs.OpWrite:    func() error { _, err := f.Write([]byte("1234")); return err },
		errorfs.OpSync:     f.Sync,
		errorfs.OpTruncate: func() error { return f.Truncate(0) },
		errorfs.OpSyncDir:  func() error { return fsys.SyncDir("/d") },
		errorfs.OpRename:   func() error { return fsys.Rename("/d/y", "/d/z") },
		errorfs.OpRemove:   func() error { return fsys.Remove("/d/y") },
		errorfs.OpRead:     func() error { _, err := f.ReadAt(make([]byte, 1), 0); return err },
		errorfs.OpSeek:     func() error { _, err := f.Seek(0, io.SeekStart); return err },
		errorfs.OpStat:     func() error { _, err := f.Stat(); return err },
		errorfs.OpReadDir:  func() error { _, err := fsys.ReadDir("/d"); return err },
		errorfs.OpMkdir:    func() error { return fsys.MkdirAll("/d/e", 0o755) },
		errorfs.OpRemoveAll: func() error {
			return fsys.RemoveAll("/d/e")
		},
		errorfs.OpLock: func() error {
			l, err := fsys.Lock("/d/LOCK")
			if err == nil {
				err = l.Close()
			}
			return err
		},
		errorfs.OpClose: func() error {
			g, err := vfs.Open(fsys, "/d/x")
			if err == nil {
				err = g.Close()
			}
			return err
		},
	} {
		on = op
		if err := do(); !errors.Is(err, bad) || !strings.Contains(err.Error(), "/d") {
			t.Errorf("%s: %v", op, err)
		}
		on = ""
		write(t, fsys, "/d/y", "y", false)
		if err := do(); err != nil && !errors.Is(err, io.EOF) {
			t.Errorf("%s without fault: %v", op, err)
		}
	}
}

// A short write leaves what it says.
func TestShortWrite(t *testing.T) {
	t.Parallel()
	base := vfs.NewMem()
	must(t, base.MkdirAll("/d", 0o755))
	fsys := errorfs.New(base, func(op errorfs.Op, _ string) error {
		if op == errorfs.OpWrite {
			return &errorfs.ShortWrite{N: 3, Err: syscall.ENOSPC}
		}
		return nil
	})
	f, err := fsys.OpenFile("/d/x", os.O_WRONLY|os.O_CREATE, 0o644)
	must(t, err)
	n, err := f.Write([]byte("12345"))
	if n != 3 || !errors.Is(err, syscall.ENOSPC) || err.Error() != "write /d/x: no space left on device" {
		t.Errorf("%d, %v", n, err)
	}
	if got := content(base, "/d/x"); got != "123" {
		t.Errorf("left: %q", got)
	}
}

func TestDisk(t *testing.T) {
	t.Parallel()
	base := vfs.NewMem()
	must(t, base.MkdirAll("/d", 0o755))
	disk := errorfs.NewDisk(base, 6)
	write(t, disk, "/d/x", "123", true)
	f, err := disk.OpenFile("/d/x", os.O_WRONLY|os.O_APPEND, 0o644)
	must(t, err)
	if n, err := f.Write([]byte("4567")); n != 2 || !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "/d/x") {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := disk.OpenFile("/d/y", os.O_WRONLY|os.O_CREATE, 0o644); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("creation: %v", err)
	}
	if err := disk.MkdirAll("/e", 0o755); !errors.Is(err, syscall.ENOSPC) || !disk.WasFull() {
		t.Errorf("directory: %v", err)
	}
	disk.AddRoom(1)
	must(t, disk.MkdirAll("/e", 0o755))
	if got := content(base, "/d/x"); got != "12345" {
		t.Errorf("left: %q", got)
	}
}

// A sync that failed has lost what it should have written, whatever later syncs
// say; until the machine goes down it can still be read.
func TestFailedSync(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	must(t, m.MkdirAll("/d", 0o755))
	fail := true
	fsys := errorfs.New(m, func(op errorfs.Op, _ string) error {
		if op == errorfs.OpSync && fail {
			return syscall.EIO
		}
		return nil
	})
	write(t, m, "/d/x", "one", true)
	f, err := fsys.OpenFile("/d/x", os.O_WRONLY|os.O_APPEND, 0o644)
	must(t, err)
	_, err = f.Write([]byte("two"))
	must(t, err)
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Error(err)
	}
	fail = false
	_, err = f.Write([]byte("three"))
	must(t, err)
	must(t, f.Sync())
	if got := content(m, "/d/x"); got != "onetwothree" {
		t.Errorf("before the crash: %q", got)
	}
	for _, mode := range []vfs.CrashMode{vfs.LoseUnsynced, vfs.TearUnsynced, vfs.GarbageUnsynced} {
		if got := content(m.Crash(mode, 1), "/d/x"); got != "one\x00\x00\x00three" {
			t.Errorf("mode %d: %q", mode, got)
		}
	}
	kept := m.Crash(vfs.KeepUnsynced, 1)
	if got := content(kept, "/d/x"); got != "onetwothree" {
		t.Errorf("after the death of the process: %q", got)
	}
	if got := content(kept.Crash(vfs.LoseUnsynced, 1), "/d/x"); got != "one\x00\x00\x00three" {
		t.Errorf("after the death of the process and a crash: %q", got)
	}
	again, err := kept.OpenFile("/d/x", os.O_RDWR, 0)
	must(t, err)
	_, err = again.Seek(2, io.SeekStart)
	must(t, err)
	_, err = again.Write([]byte("etw"))
	must(t, err)
	must(t, again.Sync())
	if got := content(kept.Crash(vfs.LoseUnsynced, 1), "/d/x"); got != "onetw\x00three" {
		t.Errorf("written once more: %q", got)
	}
	must(t, f.Truncate(4))
	_, err = f.Write([]byte("new"))
	must(t, err)
	must(t, f.Sync())
	if got := content(m.Crash(vfs.LoseUnsynced, 1), "/d/x"); got != "one\x00new" {
		t.Errorf("written again: %q", got)
	}
}

func TestGarbage(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	must(t, m.MkdirAll("/d", 0o755))
	write(t, m, "/d/x", "synced", true)
	write(t, m, "/d/x", "12345678", false)
	seen := map[string]bool{}
	for seed := range uint64(50) {
		got := content(m.Crash(vfs.GarbageUnsynced, seed), "/d/x")
		if len(got) != 14 || got[:6] != "synced" {
			t.Errorf("%q", got)
		}
		seen[got] = true
	}
	if len(seen) < 20 {
		t.Errorf("%d kinds of garbage", len(seen))
	}
}

// Copies share memory, and none sees what is done to another.
func TestCopiesAreApart(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	must(t, m.MkdirAll("/d", 0o755))
	write(t, m, "/d/x", "0123456789", true)
	a := m.Crash(vfs.KeepUnsynced, 0)
	b := a.Crash(vfs.KeepUnsynced, 0)
	over := func(fsys vfs.FS, at int64, s string) {
		f, err := fsys.OpenFile("/d/x", os.O_RDWR, 0)
		must(t, err)
		_, err = f.Seek(at, io.SeekStart)
		must(t, err)
		_, err = f.Write([]byte(s))
		must(t, err)
		must(t, f.Close())
	}
	over(m, 2, "mm")
	over(a, 9, "aaa")
	over(b, 10, "bbb")
	over(m, 10, "MMM")
	for got, want := range map[string]string{
		content(m, "/d/x"): "01mm456789MMM", content(a, "/d/x"): "012345678aaa", content(b, "/d/x"): "0123456789bbb",
		content(m.Crash(vfs.LoseUnsynced, 0), "/d/x"): "0123456789",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
