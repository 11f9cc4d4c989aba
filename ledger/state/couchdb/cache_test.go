package couchdb

import (
	"fmt"
	"testing"

	"github.com/heddle-ledger/heddle/ledger/state"
	"github.com/heddle-ledger/heddle/ledger/state/couchdb/couchtest"
)

func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	c := newRevisions(10000)
	db := &database{}
	hot := docKey{db, "hot"}
	c.set(hot, revision{rev: "1-x"})
	for i := range 1000 {
		c.set(docKey{db, fmt.Sprint(i)}, revision{rev: "2-y"})
		if _, ok := c.get(hot); !ok {
			t.Fatalf("an entry that is used was dropped, after %d", i)
		}
		if bytes := (len(c.young) + len(c.old)) * entryOverhead; bytes > 10000 {
			t.Fatalf("%d bytes", bytes)
		}
	}
	if _, ok := c.get(docKey{db, "1"}); ok {
		t.Error("an old entry is left")
	}
	c.drop(hot)
	if _, ok := c.get(hot); ok {
		t.Error("a dropped entry is left")
	}
	for k := range c.young {
		c.drop(k)
	}
	if c.size != 0 {
		t.Errorf("an empty cache has %d bytes", c.size)
	}
}

func TestCacheLearnsNothingOld(t *testing.T) {
	t.Parallel()
	c := newRevisions(10000)
	k := docKey{nil, "k"}
	before := c.reading()
	c.writing()
	during := c.reading()
	c.set(k, revision{rev: "2-new"})
	c.learn(before, k, revision{rev: "1-old"})
	c.learn(during, k, revision{rev: "1-old"})
	c.writing()
	c.learn(before, k, revision{rev: "1-old"})
	c.learn(during, k, revision{rev: "1-old"})
	if r, _ := c.get(k); r.rev != "2-new" {
		t.Error(r.rev)
	}
	c.learn(c.reading(), k, revision{rev: "3"})
	if r, _ := c.get(k); r.rev != "3" {
		t.Error(r.rev)
	}
}

// TestLifecycleValues are cached, but follow batches.
func TestLifecycleValues(t *testing.T) {
	f := couchtest.New()
	rec := &recorder{h: f}
	db := openFake(t, rec, func(c *Config) { c.AutoWarmIndexes = false })
	set := func(block uint64, value string) {
		t.Helper()
		b := state.NewBatch()
		b.Put("lscc", state.Write{Key: "cc", Value: []byte(value), Delete: value == "", Version: state.Version{Block: block}})
		if err := db.Apply(b, &state.Version{Block: block}, false); err != nil {
			t.Fatal(err)
		}
	}
	read := func(r state.Reader) string {
		t.Helper()
		v, err := r.Get("lscc", "cc")
		if err != nil {
			t.Fatal(err)
		}
		if v == nil {
			return ""
		}
		return string(v.Value)
	}
	for block, value := range []string{"one", "two", "", "three"} {
		set(uint64(block), value)
		old := mustSnapshot(t, db)
		rec.take()
		for range 3 {
			if got := read(old); got != value {
				t.Errorf("block %d: %s", block, got)
			}
		}
		if n := len(rec.take()); n != 1 {
			t.Errorf("block %d: %d requests", block, n)
		}
		set(uint64(block), "between")
		if got := read(old); got != value {
			t.Errorf("block %d: the snapshot became %s", block, got)
		}
		if got := read(db); got != "between" {
			t.Errorf("block %d: %s", block, got)
		}
		old.Release()
	}
}

// TestChannelsShareRoom: however many channels there are, what is kept of them
// all is bounded.
func TestChannelsShareRoom(t *testing.T) {
	t.Parallel()
	first := openFake(t, couchtest.New())
	p := first.p
	if first.revs.limit() != maxRevisions || first.views.limit() != maxLayers {
		t.Errorf("one channel: %d and %d bytes", first.revs.limit(), first.views.limit())
	}
	dbs := []*DB{first}
	for i := range 63 {
		db, err := p.Open(fmt.Sprint("ch", i))
		if err != nil {
			t.Fatal(err)
		}
		dbs = append(dbs, db.(*DB))
	}
	for _, db := range dbs {
		mustWrite(t, db, 1, "a", "1")
		old := mustSnapshot(t, db)
		defer old.Release()
		mustWrite(t, db, 2, "a", "2")
		expect(t, old, "a", "1")
	}
	for _, db := range dbs {
		if db.revs.limit()*len(dbs) > maxAllRevisions || db.views.limit()*len(dbs) > maxAllLayers {
			t.Fatalf("%d channels with %d and %d bytes each", len(dbs), db.revs.limit(), db.views.limit())
		}
	}
	for _, db := range dbs[1:] {
		for s := range db.views.open {
			s.Release()
		}
	}
	if first.views.limit() != maxLayers {
		t.Errorf("%d bytes for the last channel with a snapshot", first.views.limit())
	}
}
