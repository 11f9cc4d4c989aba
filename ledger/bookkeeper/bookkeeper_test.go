package bookkeeper

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/ledger/kv"
	"github.com/heddle-ledger/heddle/protos/ledgerstore"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func openDB(t testing.TB, fsys vfs.FS) *kv.Database {
	t.Helper()
	db, err := kv.Open(kv.Config{Dir: "/db", FS: fsys})
	must(t, err)
	t.Cleanup(func() { db.Close() })
	return db
}

func openStore(t testing.TB, db *kv.Database, id string) *Store {
	t.Helper()
	s, err := Open(db, id)
	must(t, err)
	return s
}

func keyAndHash(key, hash string) *ledgerstore.KeyAndHash {
	return &ledgerstore.KeyAndHash{Key: key, Hash: []byte(hash)}
}

// due lists what expires in a block, in the order of the lists.
func due(t testing.TB, s *Store, block uint64) []string {
	t.Helper()
	var out []string
	must(t, s.Due(block, func(k Key, keys *ledgerstore.PvtdataKeys) error {
		for ns, colls := range keys.GetMap() {
			for coll, list := range colls.GetMap() {
				for _, e := range list.GetList() {
					out = append(out, fmt.Sprintf("%d %s %s %s=%s", k.Committing, ns, coll, e.Hash, e.Key))
				}
			}
		}
		return nil
	}))
	return out
}

// TestMerge: what reconciliation adds comes behind what an entry has, so that the
// last of two for one hash is the one that knows the key (LEDGER §9.1, §16).
func TestMerge(t *testing.T) {
	t.Parallel()
	s := openStore(t, openDB(t, vfs.NewMem()), "ch")
	k := Key{Expiring: 300, Committing: 5}
	c := &Changes{}
	c.Add(k, "cc", "coll", keyAndHash("", "h1"), keyAndHash("k2", "h2"))
	must(t, s.Write(c))
	for _, late := range []string{"k1", "k3"} {
		c = &Changes{Merge: true}
		c.Add(k, "cc", "coll", keyAndHash(late, "h"+late[1:]))
		must(t, s.Write(c))
	}
	want := []string{"5 cc coll h1=", "5 cc coll h2=k2", "5 cc coll h1=k1", "5 cc coll h3=k3"}
	if d := cmp.Diff(want, due(t, s, 300)); d != "" {
		t.Error(d)
	}
	// A replayed block writes its entry anew.
	c = &Changes{}
	c.Add(k, "cc", "coll", keyAndHash("k1", "h1"))
	must(t, s.Write(c))
	if d := cmp.Diff([]string{"5 cc coll h1=k1"}, due(t, s, 300)); d != "" {
		t.Error(d)
	}
}

// TestDue: an entry is due in its block only, also where numbers grow a byte or
// end in the byte that ends a range; DropUpTo drops what is past and nothing else.
func TestDue(t *testing.T) {
	t.Parallel()
	db := openDB(t, vfs.NewMem())
	s := openStore(t, db, "ch")
	blocks := []uint64{1, 2, 254, 255, 256, 257, 511, 65279, 65280, 65535, 65536, 1 << 40, 1<<64 - 2}
	c := &Changes{}
	for _, b := range blocks {
		for _, committing := range []uint64{0, 255, b - 1} {
			c.Add(Key{b, committing}, "cc", "coll", keyAndHash("k", fmt.Sprint(b)))
		}
	}
	must(t, s.Write(c))
	for i, b := range blocks {
		if got := due(t, s, b); len(got) != 3 {
			t.Errorf("block %d: %v", b, got)
		}
		if i > 0 && blocks[i-1] != b-1 {
			if got := due(t, s, b-1); got != nil {
				t.Errorf("block %d: %v", b-1, got)
			}
		}
	}
	must(t, s.Finish([]Key{{2, 0}, {2, 255}, {2, 1}}))
	must(t, s.DropUpTo(255))
	for _, b := range blocks {
		if got := due(t, s, b); (len(got) > 0) != (b > 255) {
			t.Errorf("block %d after dropping: %v", b, got)
		}
	}
	if got := due(t, openStore(t, db, "ch2"), 256); got != nil {
		t.Errorf("another channel: %v", got)
	}
	wrong := errors.New("visitor")
	if err := s.Due(256, func(Key, *ledgerstore.PvtdataKeys) error { return wrong }); !errors.Is(err, wrong) {
		t.Errorf("got %v", err)
	}
}

// TestHints: namespaces with zero bytes, of collections, and of channels whose
// names look alike.
func TestHints(t *testing.T) {
	t.Parallel()
	db := openDB(t, vfs.NewMem())
	spaces := []string{"cc", "cc$$hcoll", "a\x00b", "", "ünïcode", "\xff"}
	s := openStore(t, db, "ch")
	must(t, s.Write(&Changes{Hints: spaces[:3]}))
	must(t, s.Write(&Changes{Hints: spaces[3:]}))
	for _, s := range []*Store{s, openStore(t, db, "ch")} {
		for _, ns := range spaces {
			if !s.MetadataUsed(ns) {
				t.Errorf("%q is forgotten", ns)
			}
		}
		if s.MetadataUsed("c") || s.MetadataUsed("cc2") || s.MetadataUsed("a") {
			t.Error("a namespace that looks alike counts")
		}
	}
	for _, id := range []string{"ch/1", "c", "ch\x00"} {
		if openStore(t, db, id).MetadataUsed("cc") {
			t.Errorf("channel %q has it", id)
		}
	}
	if got := due(t, s, 0); got != nil {
		t.Errorf("hints are taken for a schedule: %v", got)
	}
}

// TestDurable: Write is durable on return; what is added is with the next Sync.
func TestDurable(t *testing.T) {
	t.Parallel()
	fsys := vfs.NewMem()
	s := openStore(t, openDB(t, fsys), "ch")
	add := func(expiring uint64, write func(*Changes) error) {
		c := &Changes{Hints: []string{fmt.Sprint("ns", expiring)}}
		c.Add(Key{expiring, 1}, "cc", "coll", keyAndHash("k", "h"))
		must(t, write(c))
	}
	known := func(expiring uint64) bool {
		after := openStore(t, openDB(t, fsys.Crash(vfs.LoseUnsynced, 0)), "ch")
		hint := after.MetadataUsed(fmt.Sprint("ns", expiring))
		if entry := len(due(t, after, expiring)) == 1; entry != hint {
			t.Errorf("block %d: entry %v, hint %v", expiring, entry, hint)
		}
		return hint
	}
	add(10, s.Write)
	add(11, s.Add)
	if !known(10) || known(11) {
		t.Error("before the sync")
	}
	must(t, s.Sync())
	if !known(11) {
		t.Error("after the sync")
	}
	must(t, s.Sync())
}

// TestDamage: an entry that does not decode is an error, not nothing.
func TestDamage(t *testing.T) {
	t.Parallel()
	s := openStore(t, openDB(t, vfs.NewMem()), "ch")
	c := &Changes{}
	c.Add(Key{9, 1}, "cc", "coll", keyAndHash("k", "h"))
	must(t, s.Write(c))
	none := func(Key, *ledgerstore.PvtdataKeys) error { return nil }
	must(t, s.schedule.Put(Key{10, 1}.append(nil), []byte("\xffno message"), false))
	if err := s.Due(10, none); err == nil {
		t.Error("no error for a value that is none")
	}
	must(t, s.schedule.Put(append(expiringAt(11), 9), nil, false))
	if err := s.Due(11, none); err == nil {
		t.Error("no error for a key that is none")
	}
	c = &Changes{Merge: true}
	c.Add(Key{10, 1}, "cc", "coll", keyAndHash("k", "h"))
	if err := s.Write(c); err == nil {
		t.Error("merged with what does not decode")
	}
}

func FuzzEntries(f *testing.F) {
	f.Add(uint64(7), uint64(3), []byte{1, 3}, []byte("\x0a\x04\x0a\x02cc"))
	f.Fuzz(func(t *testing.T, expiring, committing uint64, junkKey, value []byte) {
		k := Key{expiring, committing}
		key := k.append(nil)
		if got, err := committingOf(key, expiringAt(expiring)); err != nil || got != committing {
			t.Errorf("%v: %d, %v", k, got, err)
		}
		if n, err := committingOf(append(expiringAt(expiring), junkKey...), expiringAt(expiring)); err == nil && len(junkKey) == 0 {
			t.Errorf("%d from nothing", n)
		}
		if keys, err := decode(value); err == nil {
			addKeys(keys, "cc", "coll", []*ledgerstore.KeyAndHash{keyAndHash("k", "h")})
		}
	})
}
