package kv

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heddle-ledger/heddle/internal/vfs"
)

// contents reads all files of a directory.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		raw, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out[e.Name()] = string(raw)
	}
	return out
}

// TestReadOnly opens a database with tables, a journal and a torn batch, with and
// without its lock file, and finds not a byte changed.
func TestReadOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "db")
	db, err := Open(Config{Dir: dir, WriteBuffer: 16 << 10})
	if err != nil {
		t.Fatal(err)
	}
	s := db.Store("ch")
	for i := range 1000 {
		if err := s.Put(fmt.Appendf(nil, "key%04d", i), make([]byte, 100), false); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	logs, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil || len(logs) == 0 {
		t.Fatal(logs, err)
	}
	f, err := os.OpenFile(logs[len(logs)-1], os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("torn batch"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	for _, lock := range []bool{true, false} {
		if !lock {
			if err := os.Remove(filepath.Join(dir, "LOCK")); err != nil {
				t.Fatal(err)
			}
		}
		before := contents(t, dir)
		db, err := Open(Config{Dir: dir, ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		if lock {
			if _, err := Open(Config{Dir: dir}); err == nil {
				t.Error("a writer got in")
			}
		}
		s := db.Store("ch")
		n, it := 0, s.Scan(nil, nil)
		for it.Next() {
			n++
		}
		if err := it.Err(); err != nil || n != 1000 {
			t.Errorf("%d keys, %v", n, err)
		}
		it.Close()
		if db.JournalCut() != int64(len("torn batch")) {
			t.Errorf("%d bytes cut", db.JournalCut())
		}
		if err := s.Put([]byte("a"), nil, true); err == nil {
			t.Error("it writes")
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
		if lock { // the refused writer has appended nothing either
			delete(before, "LOG")
		}
		after := contents(t, dir)
		if lock {
			delete(after, "LOG")
		}
		if d := cmp.Diff(before, after); d != "" {
			t.Error(d)
		}
	}
}

func TestReadOnlyRefuses(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{dir, filepath.Join(dir, "absent")} {
		if _, err := Open(Config{Dir: name, ReadOnly: true}); !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	}
	if left := contents(t, dir); len(left) != 0 {
		t.Errorf("made %v", left)
	}
	if err := os.WriteFile(filepath.Join(dir, "foreign"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Dir: dir, ReadOnly: true}); !errors.Is(err, ErrNotDatabase) {
		t.Error(err)
	}
	held, err := Open(Config{Dir: filepath.Join(dir, "held")})
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	_, err = Open(Config{Dir: filepath.Join(dir, "held"), ReadOnly: true})
	if err == nil || err.Error() != "Error opening leveldb: resource temporarily unavailable" {
		t.Error(err)
	}
}

func TestReadOnlyInMemory(t *testing.T) {
	mem := vfs.NewMem()
	db, err := Open(Config{Dir: "/db", FS: mem})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Raw().Put([]byte("k"), []byte("v"), true); err != nil {
		t.Fatal(err)
	}
	db.Close()
	if db, err = Open(Config{Dir: "/db", FS: mem, ReadOnly: true}); err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if v, err := db.Raw().Get([]byte("k")); err != nil || string(v) != "v" {
		t.Errorf("%q, %v", v, err)
	}
}
