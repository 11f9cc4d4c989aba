package kv

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heddle-ledger/heddle/internal/vfs"
)

func openDB(t testing.TB, cfg Config) *Database {
	t.Helper()
	db, err := Open(cfg)
	must(t, err)
	t.Cleanup(func() { db.Close() })
	return db
}

func walk(t testing.TB, it *Iterator) []string {
	t.Helper()
	defer it.Close()
	var out []string
	for it.Next() {
		out = append(out, string(it.Key())+"="+string(it.Value()))
	}
	must(t, it.Err())
	return out
}

func fill(t testing.TB, s *Store, keys ...string) {
	t.Helper()
	b := s.NewBatch()
	for _, k := range keys {
		b.Put([]byte(k), []byte("v"+k))
	}
	must(t, s.Write(b, true))
}

// Stores of one database see their own keys only, whatever their names.
func TestStoresAreApart(t *testing.T) {
	t.Parallel()
	db := openDB(t, Config{Dir: "/db", FS: vfs.NewMem()})
	names := []string{"ch", "ch1", "ch.x", "c"}
	for _, n := range names {
		fill(t, db.Store(n), "a", "b\x00", "\xff\xff", "")
		must(t, db.Store(n).Put([]byte("own"), []byte(n), false))
	}
	for _, n := range names {
		s := db.Store(n)
		want := []string{"=v", "a=va", "b\x00=vb\x00", "own=" + n, "\xff\xff=v\xff\xff"}
		if d := cmp.Diff(want, walk(t, s.Scan(nil, nil))); d != "" {
			t.Errorf("%s: %s", n, d)
		}
		if d := cmp.Diff(want[1:3], walk(t, s.Scan([]byte("a"), []byte("own")))); d != "" {
			t.Errorf("%s: %s", n, d)
		}
		if v, err := s.Get([]byte("own")); err != nil || string(v) != n {
			t.Errorf("%s: %q, %v", n, v, err)
		}
	}
	if got := walk(t, db.Raw().Scan([]byte("ch\x00own"), []byte("ch\x00owo"))); len(got) != 1 || got[0] != "ch\x00own=ch" {
		t.Errorf("physical key: %q", got)
	}
}

func TestGetAbsentAndEmpty(t *testing.T) {
	t.Parallel()
	s := openDB(t, Config{Dir: "/db", FS: vfs.NewMem(), BloomBits: 10}).Store("x")
	must(t, s.Put([]byte("empty"), nil, true))
	if v, err := s.Get([]byte("empty")); v == nil || len(v) != 0 || err != nil {
		t.Errorf("empty value: %v, %v", v, err)
	}
	if v, err := s.Get([]byte("absent")); v != nil || err != nil {
		t.Errorf("absent: %v, %v", v, err)
	}
	for key, want := range map[string]bool{"empty": true, "absent": false} {
		if has, err := s.Has([]byte(key)); has != want || err != nil {
			t.Errorf("Has(%s) = %v, %v", key, has, err)
		}
	}
	must(t, s.Delete([]byte("empty"), true))
	if has, err := s.Has([]byte("empty")); has || err != nil {
		t.Errorf("deleted: %v, %v", has, err)
	}
}

func TestSnapshot(t *testing.T) {
	t.Parallel()
	s := openDB(t, Config{Dir: "/db", FS: vfs.NewMem()}).Store("x")
	fill(t, s, "a", "b")
	snap, err := s.Snapshot()
	must(t, err)
	defer snap.Release()
	must(t, s.Put([]byte("a"), []byte("new"), false))
	must(t, s.Delete([]byte("b"), false))
	must(t, s.Put([]byte("c"), nil, false))
	if d := cmp.Diff([]string{"a=va", "b=vb"}, walk(t, snap.Scan(nil, nil))); d != "" {
		t.Error(d)
	}
	if v, err := snap.Get([]byte("a")); err != nil || string(v) != "va" {
		t.Errorf("snapshot: %q, %v", v, err)
	}
	if v, err := snap.Get([]byte("c")); err != nil || v != nil {
		t.Errorf("snapshot: %q, %v", v, err)
	}
	snap.Release()
}

func TestIteratorMoves(t *testing.T) {
	t.Parallel()
	s := openDB(t, Config{Dir: "/db", FS: vfs.NewMem()}).Store("x")
	fill(t, s, "a", "b", "c")
	it := s.Scan(nil, nil)
	defer it.Close()
	if !it.Seek([]byte("aa")) || string(it.Key()) != "b" || !it.Next() || string(it.Key()) != "c" || it.Next() {
		t.Errorf("sought %q", it.Key())
	}
}

func TestBatch(t *testing.T) {
	t.Parallel()
	db := openDB(t, Config{Dir: "/db", FS: vfs.NewMem()})
	s := db.Store("x")
	b := s.NewBatch()
	must(t, s.Write(b, true)) // an empty batch writes nothing
	key := []byte("k0")
	for i := range 3 {
		key[1] = byte('0' + i)
		b.Put(key, key)
	}
	b.Delete([]byte("k1"))
	if b.ops.Len() != 4 || b.Size() != 4*4+3*2 {
		t.Errorf("%d changes, %d bytes", b.ops.Len(), b.Size())
	}
	must(t, s.Write(b, false))
	if d := cmp.Diff([]string{"k0=k0", "k2=k2"}, walk(t, s.Scan(nil, nil))); d != "" {
		t.Error(d)
	}
	b.Reset()
	if b.ops.Len() != 0 || b.Size() != 0 {
		t.Error("reset batch is not empty")
	}
	must(t, s.Sync())
	if d := cmp.Diff([]string{"k0=k0", "k2=k2"}, walk(t, s.Scan(nil, nil))); d != "" {
		t.Error(d)
	}
}

// A directory with other files is refused; one that is empty or was cut short
// while being created is taken.
func TestDirectoryRule(t *testing.T) {
	t.Parallel()
	fsys := vfs.NewMem()
	must(t, fsys.MkdirAll("/other", 0o755))
	must(t, vfs.WriteFile(fsys, "/other/notes.txt", []byte("x"), 0o644))
	if _, err := Open(Config{Dir: "/other", FS: fsys}); !errors.Is(err, ErrNotDatabase) {
		t.Errorf("foreign directory: %v", err)
	}
	must(t, fsys.MkdirAll("/empty", 0o755))
	openDB(t, Config{Dir: "/empty", FS: fsys})
	must(t, fsys.MkdirAll("/half", 0o755))
	must(t, vfs.WriteFile(fsys, "/half/LOCK", nil, 0o644))
	openDB(t, Config{Dir: "/half", FS: fsys})
}

func TestLock(t *testing.T) {
	t.Parallel()
	for _, cfg := range []Config{{Dir: "/db", FS: vfs.NewMem()}, {Dir: filepath.Join(t.TempDir(), "db")}} {
		db := openDB(t, cfg)
		_, err := Open(cfg)
		if err == nil || err.Error() != "Error opening leveldb: resource temporarily unavailable" && !strings.HasSuffix(err.Error(), "resource temporarily unavailable") {
			t.Errorf("locked: %v", err)
		}
		if !errors.Is(err, vfs.ErrLocked) && !errors.Is(err, syscall.EAGAIN) {
			t.Errorf("locked: %v", err)
		}
		must(t, db.Close())
		openDB(t, cfg)
	}
}

func TestClosed(t *testing.T) {
	t.Parallel()
	db := openDB(t, Config{Dir: "/db", FS: vfs.NewMem()})
	s := db.Store("x")
	must(t, db.Close())
	for name, err := range map[string]error{
		"put":      s.Put(nil, nil, true),
		"get":      func() error { _, err := s.Get(nil); return err }(),
		"has":      func() error { _, err := s.Has(nil); return err }(),
		"snapshot": func() error { _, err := s.Snapshot(); return err }(),
		"sync":     s.Sync(),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// After a crash the synced batches are there; of the others those that are lost
// are the last ones. Small write buffers make journals and tables change while
// it goes on.
func TestCrash(t *testing.T) {
	t.Parallel()
	fsys := vfs.NewMem()
	cfg := Config{Dir: "/db", FS: fsys, WriteBuffer: 16 << 10, TableSize: 16 << 10}
	s := openDB(t, cfg).Store("x")
	value := make([]byte, 300)
	for i := range 600 {
		b := s.NewBatch()
		for k := range 3 {
			b.Put(fmt.Appendf(nil, "%d-%06d", k, i), value)
		}
		sync := i%37 == 0
		must(t, s.Write(b, sync))
		if i%25 != 0 && !sync {
			continue
		}
		for seed, mode := range []vfs.CrashMode{vfs.LoseUnsynced, vfs.KeepUnsynced, vfs.TearUnsynced} {
			checkPrefix(t, cfg, fsys.Crash(mode, uint64(seed+i)), i, mode, i/37*37)
		}
	}
}

func checkPrefix(t *testing.T, cfg Config, fsys *vfs.Mem, last int, mode vfs.CrashMode, synced int) {
	t.Helper()
	cfg.FS = fsys
	db, err := Open(cfg)
	must(t, err)
	defer db.Close()
	counts := [3]int{}
	it := db.Store("x").Scan(nil, nil)
	for it.Next() {
		k := it.Key()[0] - '0'
		if want := fmt.Sprintf("%d-%06d", k, counts[k]); want != string(it.Key()) {
			t.Fatalf("key %s where %s is expected", it.Key(), want)
		}
		counts[k]++
	}
	must(t, it.Err())
	it.Close()
	if counts[0] != counts[1] || counts[1] != counts[2] {
		t.Errorf("batch torn apart: %v", counts)
	}
	if counts[0] <= synced || mode == vfs.KeepUnsynced && counts[0] != last+1 {
		t.Errorf("mode %d: %d batches of %d, synced up to %d", mode, counts[0], last+1, synced)
	}
}

// A hole in a journal, as a crash of the machine can leave it, ends the journal:
// nothing behind it is taken.
func TestHoleInJournal(t *testing.T) {
	t.Parallel()
	fsys := vfs.NewMem()
	s := openDB(t, Config{Dir: "/db", FS: fsys}).Store("x")
	for i := range 400 {
		b := s.NewBatch()
		b.Put(fmt.Appendf(nil, "0-%06d", i), bytes.Repeat([]byte{'v'}, 200+i%3*20000))
		b.Put(fmt.Appendf(nil, "1-%06d", i), nil)
		b.Put(fmt.Appendf(nil, "2-%06d", i), nil)
		must(t, s.Write(b, false))
	}
	journal := ""
	entries, err := fsys.ReadDir("/db")
	must(t, err)
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".log") {
			journal = "/db/" + e.Name()
		}
	}
	data, err := vfs.ReadFile(fsys, journal)
	must(t, err)
	for hole := 5000; hole+4096 < len(data); hole += 4096*31 + 123 {
		after := fsys.Crash(vfs.KeepUnsynced, 0)
		damaged := append([]byte{}, data...)
		clear(damaged[hole : hole+4096])
		must(t, vfs.WriteFile(after, journal, damaged, 0o660))
		checkPrefix(t, Config{Dir: "/db"}, after, 399, vfs.TearUnsynced, -1)
		if hole/journalBlock == (len(data)-1)/journalBlock {
			continue // perhaps nothing that could be told from an interrupted write
		}
		kept, err := vfs.ReadFile(after, journal+".damaged")
		if must(t, err); !bytes.Equal(kept, damaged) {
			t.Fatalf("hole at %d: %d bytes set aside of %d", hole, len(kept), len(damaged))
		}
	}
	// An interrupted write is no damage.
	after := fsys.Crash(vfs.KeepUnsynced, 0)
	must(t, vfs.WriteFile(after, journal, append(data[:len(data)-100:len(data)-100], make([]byte, 100)...), 0o660))
	must(t, openDB(t, Config{Dir: "/db", FS: after}).Close())
	if _, err := after.Stat(journal + ".damaged"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("set aside: %v", err)
	}
}

// A journal that can not be set aside is not cut.
func TestDamagedJournalStays(t *testing.T) {
	t.Parallel()
	fsys := vfs.NewMem()
	s := openDB(t, Config{Dir: "/db", FS: fsys}).Store("x")
	for range 3 {
		must(t, s.Put([]byte("k"), make([]byte, 100), true))
	}
	after := fsys.Crash(vfs.KeepUnsynced, 0)
	stor, err := openStorage(after, "/db")
	must(t, err)
	last, _, err := lastJournal(after, "/db", stor)
	must(t, err)
	must(t, stor.Close())
	name := "/db/" + fileName(last)
	data, err := vfs.ReadFile(after, name)
	must(t, err)
	data[journalHeader+20] ^= 1
	must(t, vfs.WriteFile(after, name, data, 0o660))
	must(t, after.MkdirAll(name+".damaged", 0o755)) // stands in the way
	if _, err := Open(Config{Dir: "/db", FS: after}); err == nil || !strings.Contains(err.Error(), "set damaged journal aside") {
		t.Fatal(err)
	}
	if now, err := vfs.ReadFile(after, name); err != nil || !bytes.Equal(now, data) {
		t.Fatalf("the journal was changed: %v", err)
	}
}

// An undamaged journal, of any length, is left as it is.
func TestJournalEnd(t *testing.T) {
	t.Parallel()
	fsys := vfs.NewMem()
	db := openDB(t, Config{Dir: "/db", FS: fsys})
	s := db.Store("x")
	for i := range 300 {
		must(t, s.Put([]byte{byte(i), byte(i >> 8)}, make([]byte, i*i%7000), false))
		after := fsys.Crash(vfs.KeepUnsynced, 0)
		stor, err := openStorage(after, "/db")
		must(t, err)
		if cut, _, err := cutJournal(after, "/db", stor); cut != 0 || err != nil {
			t.Fatalf("batch %d: %d bytes cut, %v", i, cut, err)
		}
		must(t, stor.Close())
	}
}

func FuzzReadJournal(f *testing.F) {
	f.Add([]byte{})
	f.Add(make([]byte, journalBlock+8))
	f.Fuzz(func(t *testing.T, b []byte) {
		tail, err := readJournal(bytes.NewReader(b))
		if err != nil || tail.size != int64(len(b)) || tail.end > tail.size || tail.end < 0 || tail.intact && tail.cut() == 0 {
			t.Errorf("%+v, %v", tail, err)
		}
	})
}

func TestParseName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{"000001.log": true, "MANIFEST-000004": true, "000002.ldb": true, "000002.sst": true, "000003.tmp": true, "CURRENT": false, "LOG": false, "x.log": false, "000002.txt": false} {
		if _, ok := parseName(name); ok != want {
			t.Errorf("%s: %v", name, ok)
		}
	}
}

func BenchmarkBatch(b *testing.B) {
	s := openDB(b, Config{Dir: b.TempDir()}).Store("bench")
	batch := s.NewBatch()
	value := make([]byte, 100)
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		batch.Reset()
		for i := range 500 {
			batch.Put(fmt.Appendf(nil, "key-%d-%d", i*7919%500, n), value)
		}
		must(b, s.Write(batch, false))
	}
}

func BenchmarkGet(b *testing.B) {
	s := openDB(b, Config{Dir: b.TempDir(), BloomBits: 10}).Store("bench")
	for i := range 20000 {
		must(b, s.Put(fmt.Appendf(nil, "key-%d", i), make([]byte, 100), false))
	}
	key := make([]byte, 0, 64)
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		key = fmt.Appendf(key[:0], "key-%d", n%40000) // every other is absent
		if _, err := s.Get(key); err != nil {
			b.Fatal(err)
		}
	}
}
