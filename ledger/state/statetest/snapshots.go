package statetest

import (
	"fmt"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heddle-ledger/heddle/ledger/state"
)

// dump is everything that a reader tells of some keys of a namespace.
func dump(t *testing.T, r state.Reader, ns string, keys ...string) string {
	t.Helper()
	many, err := r.GetMany(ns, keys)
	if err != nil {
		t.Error(err)
		return ""
	}
	lookups := make([]state.Lookup, len(keys))
	for i, k := range keys {
		lookups[i] = state.Lookup{Namespace: ns, Key: k}
	}
	if err := r.Versions(lookups); err != nil {
		t.Error(err)
		return ""
	}
	out := ""
	for i, k := range keys {
		got := "absent"
		if many[i] != nil {
			got = fmt.Sprintf("%s@%d:%d", many[i].Value, many[i].Version.Block, many[i].Version.Tx)
		}
		if single := get(t, r, ns, k); single != got {
			t.Errorf("[%s:%s]: %s alone, %s among others", ns, k, single, got)
		}
		if l := lookups[i]; l.Found != (many[i] != nil) || l.Found && l.Version != many[i].Version {
			t.Errorf("[%s:%s]: %s, but look-up %+v", ns, k, got, l)
		}
		out += k + "=" + got + " "
	}
	return out + fmt.Sprint(scan(t, r, ns, "", ""))
}

// old snapshots see what they saw at first, however many batches follow. They
// are read while batches are applied, which a database without snapshots of its
// own may hold up until they are released.
func oldSnapshots(t *testing.T, o Open) {
	db := open(t, o, "ch")
	keys := []string{"a", "b", "c", "d", "e"}
	change := func(block uint64) func(*state.Batch) {
		return func(b *state.Batch) {
			for i, k := range keys {
				if int(block)%len(keys) == i {
					continue // unchanged
				}
				b.Put("cc", state.Write{
					Key: k, Value: fmt.Appendf(nil, `{"block":%d}`, block), Delete: (int(block)+i)%3 == 0,
					Version: state.Version{Block: block, Tx: uint64(i)},
				})
			}
		}
	}
	apply(t, db, 1, change(1))
	const last = 8
	var wg sync.WaitGroup
	for block := uint64(2); block <= last; block++ {
		snap, err := db.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		want := dump(t, snap, "cc", keys...)
		applied := make(chan struct{})
		wg.Go(func() {
			defer snap.Release()
			for range 3 {
				if got := dump(t, snap, "cc", keys...); got != want {
					t.Errorf("block %d: %s; was %s", block-1, got, want)
				}
			}
			select {
			case <-applied: // also once the batch is in, if it did not wait
				if got := dump(t, snap, "cc", keys...); got != want {
					t.Errorf("block %d: %s; was %s", block-1, got, want)
				}
			default:
			}
		})
		apply(t, db, block, change(block))
		close(applied)
	}
	wg.Wait()
	if got := scan(t, db, "cc", "", ""); len(got) == 0 {
		t.Error("nothing is left")
	}
}

// secondSnapshot: who holds a snapshot may take another one, although a batch
// waits.
func secondSnapshot(t *testing.T, o Open) {
	db := open(t, o, "ch")
	apply(t, db, 1, put("cc", "a", "1", 1, 0))
	first, err := db.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	expect(t, first, "cc", "a", "1@1:0")
	applied := make(chan struct{})
	go func() {
		defer close(applied)
		b := state.NewBatch()
		put("cc", "a", "2", 2, 0)(b)
		if err := db.Apply(b, &state.Version{Block: 2}, false); err != nil {
			t.Error(err)
		}
	}()
	for range 20 {
		take := db.Snapshot
		if n, ok := db.(state.Nester); ok {
			take = n.NestedSnapshot
		}
		second, err := take()
		if err != nil {
			t.Fatal(err)
		}
		if got := get(t, second, "cc", "a"); got != "1@1:0" && got != "2@2:0" {
			t.Error(got)
		}
		second.Release()
	}
	expect(t, first, "cc", "a", "1@1:0")
	first.Release()
	first.Release() // once is enough, but more does no harm
	<-applied
}

// scansOfSnapshots continue over a batch.
func scansOfSnapshots(t *testing.T, o Open) {
	db := open(t, o, "ch")
	var changes []func(*state.Batch)
	for i := range 9 {
		changes = append(changes, put("cc", fmt.Sprintf("k%d", i), "v", 1, 0))
	}
	apply(t, db, 1, changes...)
	snap, err := db.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	it, err := snap.Range("cc", "", "", 0)
	if err != nil {
		t.Fatal(err)
	}
	if kv, err := it.Next(); err != nil || kv.Key != "k0" {
		t.Errorf("%v, %v", kv, err)
	}
	applied := make(chan struct{})
	go func() {
		defer close(applied)
		b := state.NewBatch()
		for i := range 9 {
			b.Put("cc", state.Write{Key: fmt.Sprintf("k%d", i), Value: []byte("x"), Delete: i%2 == 1, Version: state.Version{Block: 2}})
			put("cc", fmt.Sprintf("k%dx", i), "x", 2, 0)(b)
		}
		if err := db.Apply(b, &state.Version{Block: 2}, false); err != nil {
			t.Error(err)
		}
	}()
	want := []string{"k1", "k2", "k3", "k4", "k5", "k6", "k7", "k8"}
	if diff := cmp.Diff(want, drain(t, it)); diff != "" {
		t.Error(diff)
	}
	it.Close()
	page, err := snap.Range("cc", "k2", "k7", 3)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"k2", "k3", "k4"}, drain(t, page)); diff != "" || page.Bookmark() != "k5" {
		t.Errorf("bookmark %s, %s", page.Bookmark(), diff)
	}
	snap.Release()
	<-applied
	if got := scan(t, db, "cc", "k0", "k2"); fmt.Sprint(got) != "[k0 k0x k1x]" {
		t.Errorf("afterwards: %v", got)
	}
}

// bookmarks tell where to go on also before the end of a page.
func bookmarks(t *testing.T, o Open) {
	db := open(t, o, "ch")
	apply(t, db, 1, put("cc", "a", "1", 1, 0), put("cc", "b", "1", 1, 0), put("cc", "c", "1", 1, 0), put("cc", "d", "1", 1, 0))
	for _, c := range []struct {
		limit int32
		read  int
		want  string
	}{{3, 0, "a"}, {3, 1, "b"}, {3, 2, "c"}, {3, 3, "d"}, {1, 1, "b"}, {0, 2, "c"}} {
		it, err := db.Range("cc", "", "", c.limit)
		if err != nil {
			t.Fatal(err)
		}
		for range c.read {
			if kv, err := it.Next(); kv == nil || err != nil {
				t.Fatal(kv, err)
			}
		}
		if got := it.Bookmark(); got != c.want {
			t.Errorf("limit %d, %d read: bookmark %s", c.limit, c.read, got)
		}
		if kv, err := it.Next(); kv != nil || err != nil {
			t.Errorf("after the bookmark: %v, %v", kv, err)
		}
		it.Close()
	}
}
