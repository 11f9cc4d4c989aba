package confhistory

import (
	"fmt"
	"math"
	"testing"

	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/ledger/kv"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func openDB(t testing.TB) *kv.Database {
	t.Helper()
	db, err := kv.Open(kv.Config{Dir: "/db", FS: vfs.NewMem()})
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	return db
}

// TestLookAlikes: names that begin like another's, hold its suffix or look like a
// block number do not answer for each other.
func TestLookAlikes(t *testing.T) {
	t.Parallel()
	names := []string{
		"cc", "cc2", "c", "cc~collection", "cc~collectioncc", "cc\x00", "cc~collection\xff\xff\xff\xff\xff\xff\xff\xf0", "", "lscc", "ünïcode",
	}
	s := Open(openDB(t), "ch")
	for i, name := range names {
		for _, block := range []uint64{uint64(i + 1), 300, math.MaxUint64 - 1} {
			must(t, s.Record(block, []Entry{{Chaincode: name, Collections: fmt.Append(nil, name, block)}}))
		}
	}
	for i, name := range names {
		for _, tc := range []struct{ below, want uint64 }{
			{uint64(i + 1), 0}, {uint64(i + 2), uint64(i + 1)}, {300, uint64(i + 1)}, {301, 300}, {math.MaxUint64, math.MaxUint64 - 1},
		} {
			raw, at, err := s.Below(tc.below, name)
			if err != nil || at != tc.want || tc.want > 0 && string(raw) != fmt.Sprint(name, tc.want) || tc.want == 0 && raw != nil {
				t.Errorf("%q below %d: block %d, %q, %v; want block %d", name, tc.below, at, raw, err, tc.want)
			}
		}
		if raw, err := s.At(300, name); err != nil || string(raw) != fmt.Sprint(name, 300) {
			t.Errorf("%q at 300: %q, %v", name, raw, err)
		}
		if raw, err := s.At(299, name); err != nil || raw != nil {
			t.Errorf("%q at 299: %q, %v", name, raw, err)
		}
	}
}

// TestSeveral: one block may set several packages, and one again when it is
// replayed; other channels know nothing of it.
func TestSeveral(t *testing.T) {
	t.Parallel()
	db := openDB(t)
	s := Open(db, "ch")
	for range 2 {
		must(t, s.Record(7, []Entry{{"a", []byte("1")}, {"b", []byte("2")}}))
	}
	must(t, s.Record(8, nil))
	for name, want := range map[string]string{"a": "1", "b": "2"} {
		if raw, at, err := s.Below(9, name); err != nil || at != 7 || string(raw) != want {
			t.Errorf("%s: %q of block %d, %v", name, raw, at, err)
		}
	}
	for _, id := range []string{"ch2", "c", "ch\x00"} {
		if raw, _, err := Open(db, id).Below(9, "a"); err != nil || raw != nil {
			t.Errorf("channel %q: %q, %v", id, raw, err)
		}
	}
}

// TestDurable: an entry is on the disk when Record returns.
func TestDurable(t *testing.T) {
	t.Parallel()
	fsys := vfs.NewMem()
	db, err := kv.Open(kv.Config{Dir: "/db", FS: fsys})
	must(t, err)
	must(t, Open(db, "ch").Record(5, []Entry{{"cc", []byte("pkg")}}))
	after := fsys.Crash(vfs.LoseUnsynced, 0)
	must(t, db.Close())
	db, err = kv.Open(kv.Config{Dir: "/db", FS: after})
	must(t, err)
	defer db.Close()
	if raw, err := Open(db, "ch").At(5, "cc"); err != nil || string(raw) != "pkg" {
		t.Errorf("%q, %v", raw, err)
	}
}

// FuzzKeys: a key leads back to its block, and to no other chaincode's.
func FuzzKeys(f *testing.F) {
	f.Add("cc", "cc~collection", uint64(7))
	f.Fuzz(func(t *testing.T, a, b string, block uint64) {
		key := entryKey(a, block)
		if got, ok := blockOf(key, prefixOf(a)); !ok || got != block {
			t.Errorf("%q %d: %d, %v", a, block, got, ok)
		}
		other := prefixOf(b)
		if a == b || len(key) < len(other) || string(key[:len(other)]) != string(other) {
			return
		}
		if got, ok := blockOf(key, other); ok && len(a) != len(b) {
			t.Errorf("an entry of %q is taken for one of %q, block %d", a, b, got)
		}
	})
}
