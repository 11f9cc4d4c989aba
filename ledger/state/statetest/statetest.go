// Package statetest is the conformance suite of state databases: every
// implementation of state.Provider passes Run (LEDGER §4, §11.1). It is
// imported by tests only.
package statetest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heddle-ledger/heddle/ledger/state"
)

// Open returns a provider over one database, which keeps its content when the
// provider is closed and opened again. Closing is left to the suite.
type Open func(t *testing.T) state.Provider

// Run runs the suite; newDB gives each test an empty database. Tests may be left
// out by name, for servers that are not quite what they stand for.
func Run(t *testing.T, newDB func(t *testing.T) Open, except ...string) {
	tests := map[string]func(*testing.T, Open){
		"absent":       absent,
		"put and get":  putAndGet,
		"delete":       deletes,
		"versions":     versions,
		"ranges":       ranges,
		"pages":        pages,
		"snapshots":    snapshots,
		"savepoint":    savepoint,
		"channels":     channels,
		"keeps":        keeps,
		"large values": largeValues,

		"keys":               keys,
		"more keys":          moreKeys,
		"namespaces":         namespaces,
		"metadata":           metadata,
		"JSON values":        jsonValues,
		"repeated":           repeated,
		"versions follow":    versionsFollow,
		"old snapshots":      oldSnapshots,
		"second snapshot":    secondSnapshot,
		"scans of snapshots": scansOfSnapshots,
		"bookmarks":          bookmarks,
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if slices.Contains(except, name) {
				t.Skip("left out")
			}
			test(t, newDB(t))
		})
	}
}

func open(t *testing.T, o Open, channel string) state.DB {
	t.Helper()
	p := o(t)
	t.Cleanup(func() { p.Close() })
	db, err := p.Open(channel)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func put(ns, key, value string, block, tx uint64) func(*state.Batch) {
	return func(b *state.Batch) {
		b.Put(ns, state.Write{Key: key, Value: []byte(value), Version: state.Version{Block: block, Tx: tx}})
	}
}

func apply(t *testing.T, db state.DB, block uint64, changes ...func(*state.Batch)) {
	t.Helper()
	b := state.NewBatch()
	for _, c := range changes {
		c(b)
	}
	if err := db.Apply(b, &state.Version{Block: block}, false); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, r state.Reader, ns, key string) string {
	t.Helper()
	v, err := r.Get(ns, key)
	if err != nil {
		t.Fatal(err)
	}
	if v == nil {
		return "absent"
	}
	return fmt.Sprintf("%s@%d:%d", v.Value, v.Version.Block, v.Version.Tx)
}

func expect(t *testing.T, r state.Reader, ns, key, want string) {
	t.Helper()
	if got := get(t, r, ns, key); got != want {
		t.Errorf("[%s:%s]: got %s, want %s", ns, key, got, want)
	}
}

func absent(t *testing.T, o Open) {
	db := open(t, o, "ch")
	expect(t, db, "cc", "k", "absent")
	if sp, err := db.Savepoint(); sp != nil || err != nil {
		t.Errorf("savepoint %v, %v", sp, err)
	}
	if got := scan(t, db, "cc", "", ""); len(got) != 0 {
		t.Errorf("found %v", got)
	}
}

func putAndGet(t *testing.T, o Open) {
	db := open(t, o, "ch")
	apply(t, db, 1, put("cc", "k", "v", 1, 2), put("cc2", "k", "other", 1, 3), func(b *state.Batch) {
		b.Put("cc", state.Write{Key: "m", Value: []byte("v"), Metadata: []byte("\x12\x03\x0a\x01a"), Version: state.Version{Block: 1}})
	})
	expect(t, db, "cc", "k", "v@1:2")
	expect(t, db, "cc2", "k", "other@1:3")
	v, err := db.Get("cc", "m")
	if err != nil || string(v.Metadata) != "\x12\x03\x0a\x01a" {
		t.Errorf("metadata %q, %v", v.Metadata, err)
	}
	many, err := db.GetMany("cc", []string{"m", "none", "k"})
	if err != nil || len(many) != 3 || many[1] != nil || string(many[2].Value) != "v" {
		t.Errorf("many: %v, %v", many, err)
	}
	apply(t, db, 2, put("cc", "k", "new", 2, 0))
	expect(t, db, "cc", "k", "new@2:0")
}

func deletes(t *testing.T, o Open) {
	db := open(t, o, "ch")
	apply(t, db, 1, put("cc", "a", "1", 1, 0), put("cc", "b", "2", 1, 0))
	apply(t, db, 2, func(b *state.Batch) {
		b.Put("cc", state.Write{Key: "a", Delete: true, Version: state.Version{Block: 2}})
		b.Put("cc", state.Write{Key: "never-there", Delete: true, Version: state.Version{Block: 2}})
	})
	expect(t, db, "cc", "a", "absent")
	expect(t, db, "cc", "b", "2@1:0")
	apply(t, db, 3, put("cc", "a", "again", 3, 1))
	expect(t, db, "cc", "a", "again@3:1")
}

func versions(t *testing.T, o Open) {
	db := open(t, o, "ch")
	var lookups []state.Lookup
	b := state.NewBatch()
	for i := range 600 {
		key := fmt.Sprintf("k%03d", i)
		lookups = append(lookups, state.Lookup{Namespace: "cc", Key: key})
		if i%3 != 0 {
			b.Put("cc", state.Write{Key: key, Value: []byte("v"), Version: state.Version{Block: 4, Tx: uint64(i)}})
		}
	}
	if err := db.Apply(b, nil, false); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1, 2, 600} {
		part := append([]state.Lookup(nil), lookups[:n]...)
		if err := db.Versions(part); err != nil {
			t.Fatal(err)
		}
		for i, l := range part {
			if l.Found != (i%3 != 0) || l.Found && l.Version != (state.Version{Block: 4, Tx: uint64(i)}) {
				t.Fatalf("look-up %d of %d: %+v", i, n, l)
			}
		}
	}
}

func scan(t *testing.T, r state.Reader, ns, start, end string) []string {
	t.Helper()
	it, err := r.Range(ns, start, end, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer it.Close()
	return drain(t, it)
}

func drain(t *testing.T, it state.Iterator) []string {
	t.Helper()
	var out []string
	for {
		kv, err := it.Next()
		if err != nil {
			t.Fatal(err)
		}
		if kv == nil {
			break
		}
		out = append(out, kv.Key)
	}
	if kv, err := it.Next(); kv != nil || err != nil {
		t.Errorf("after the end: %v, %v", kv, err)
	}
	return out
}

func ranges(t *testing.T, o Open) {
	db := open(t, o, "ch")
	apply(t, db, 1, put("cb", "z", "x", 1, 0), put("cc", "b", "1", 1, 0), put("cc", "a", "1", 1, 0),
		put("cc", "c", "1", 1, 0), put("cc", "ca", "1", 1, 0), put("cc", "é", "1", 1, 0), put("cd", "a", "x", 1, 0))
	for _, c := range []struct {
		start, end string
		want       []string
	}{
		{"", "", []string{"a", "b", "c", "ca", "é"}},
		{"b", "", []string{"b", "c", "ca", "é"}},
		{"", "c", []string{"a", "b"}},
		{"aa", "ca", []string{"b", "c"}},
		{"c", "c", nil},
		{"d", "a", nil},
		{"é", "", []string{"é"}},
	} {
		if diff := cmp.Diff(c.want, scan(t, db, "cc", c.start, c.end)); diff != "" {
			t.Errorf("[%s, %s): %s", c.start, c.end, diff)
		}
	}
}

func pages(t *testing.T, o Open) {
	db := open(t, o, "ch")
	var changes []func(*state.Batch)
	for i := range 7 {
		changes = append(changes, put("cc", fmt.Sprintf("k%d", i), "v", 1, 0))
	}
	apply(t, db, 1, changes...)
	var got [][]string
	for start := ""; ; {
		it, err := db.Range("cc", start, "k6", 3)
		if err != nil {
			t.Fatal(err)
		}
		page := drain(t, it)
		got = append(got, page)
		start = it.Bookmark()
		it.Close()
		if len(page) < 3 || start == "" {
			break
		}
	}
	flat := fmt.Sprint(got)
	if flat != "[[k0 k1 k2] [k3 k4 k5]]" && flat != "[[k0 k1 k2] [k3 k4 k5] []]" {
		t.Errorf("pages %v", flat)
	}
}

func snapshots(t *testing.T, o Open) {
	db := open(t, o, "ch")
	apply(t, db, 1, put("cc", "a", "1", 1, 0), put("cc", "b", "1", 1, 0))
	snap, err := db.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	applied := make(chan struct{})
	go func() { // a database without true snapshots makes the commit wait
		defer close(applied)
		b := state.NewBatch()
		put("cc", "a", "2", 2, 0)(b)
		put("cc", "c", "2", 2, 0)(b)
		if err := db.Apply(b, &state.Version{Block: 2}, false); err != nil {
			t.Error(err)
		}
	}()
	expect(t, snap, "cc", "a", "1@1:0")
	expect(t, snap, "cc", "c", "absent")
	if diff := cmp.Diff([]string{"a", "b"}, scan(t, snap, "cc", "", "")); diff != "" {
		t.Error(diff)
	}
	snap.Release()
	<-applied
	expect(t, db, "cc", "a", "2@2:0")
	expect(t, db, "cc", "c", "2@2:0")
}

func savepoint(t *testing.T, o Open) {
	db := open(t, o, "ch")
	b := state.NewBatch()
	want := state.Version{Block: 9, Tx: 1<<64 - 1}
	if err := db.Apply(b, &want, true); err != nil {
		t.Fatal(err)
	}
	apply := func(sp *state.Version) {
		b := state.NewBatch()
		put("cc", "a", "1", 1, 0)(b)
		if err := db.Apply(b, sp, false); err != nil {
			t.Fatal(err)
		}
	}
	apply(nil)
	if got, err := db.Savepoint(); err != nil || got == nil || *got != want {
		t.Errorf("savepoint %v, %v", got, err)
	}
	apply(&state.Version{Block: 10, Tx: 3})
	if got, err := db.Savepoint(); err != nil || got == nil || *got != (state.Version{Block: 10, Tx: 3}) {
		t.Errorf("savepoint %v, %v", got, err)
	}
}

func channels(t *testing.T, o Open) {
	p := o(t)
	t.Cleanup(func() { p.Close() })
	one, err := p.Open("ch")
	if err != nil {
		t.Fatal(err)
	}
	two, err := p.Open("ch.two")
	if err != nil {
		t.Fatal(err)
	}
	apply(t, one, 1, put("cc", "a", "1", 1, 0))
	apply(t, two, 1, put("cc", "a", "2", 1, 0), put("cc", "b", "2", 1, 0))
	expect(t, one, "cc", "a", "1@1:0")
	expect(t, two, "cc", "a", "2@1:0")
	expect(t, one, "cc", "b", "absent")
}

func keeps(t *testing.T, o Open) {
	p := o(t)
	db, err := p.Open("ch")
	if err != nil {
		t.Fatal(err)
	}
	apply(t, db, 5, put("cc", "a", "1", 5, 1))
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	db = open(t, o, "ch")
	expect(t, db, "cc", "a", "1@5:1")
	if sp, err := db.Savepoint(); err != nil || sp == nil || sp.Block != 5 {
		t.Errorf("savepoint %v, %v", sp, err)
	}
}

func largeValues(t *testing.T, o Open) {
	db := open(t, o, "ch")
	big := make([]byte, 1<<20)
	for i := range big {
		big[i] = byte(i * 7)
	}
	apply(t, db, 1, func(b *state.Batch) {
		b.Put("cc", state.Write{Key: "big", Value: big, Version: state.Version{Block: 1}})
	})
	v, err := db.Get("cc", "big")
	if err != nil || v == nil || string(v.Value) != string(big) {
		t.Errorf("big value lost: %v", err)
	}
}
