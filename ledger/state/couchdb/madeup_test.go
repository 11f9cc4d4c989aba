package couchdb

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/heddle-ledger/heddle/ledger/state"
	"github.com/heddle-ledger/heddle/ledger/state/couchdb/couchtest"
)

// TestNamespacesThatCannotBe: a made-up transaction may read what no database can
// be named after. There is nothing there, which is no error: that would stop the
// peer at the transaction's block.
func TestNamespacesThatCannotBe(t *testing.T) {
	db := openFake(t, couchtest.New())
	for _, ns := range []string{"a/b", "ü", "\xff", "cc$$hc/d", "x y", "a\x00b"} {
		if db.CheckKey(ns, "k") == nil {
			t.Errorf("%q can be", ns)
		}
		if v, err := db.Get(ns, "k"); v != nil || err != nil {
			t.Errorf("%q: %v, %v", ns, v, err)
		}
		if v, err := db.GetMany(ns, []string{"k", "l"}); len(v) != 2 || v[0] != nil || err != nil {
			t.Errorf("%q: %v, %v", ns, v, err)
		}
		lookups := []state.Lookup{{Namespace: ns, Key: "k"}, {Namespace: "cc", Key: "k"}}
		if err := db.Versions(lookups); err != nil || lookups[0].Found {
			t.Errorf("%q: %v, %v", ns, lookups, err)
		}
		it, err := db.Range(ns, "", "", 0)
		if got := results(t, it, err); got != "" || it.Bookmark() != "" {
			t.Errorf("%q: %s", ns, got)
		}
		it.Close()
	}
	for _, ns := range []string{"", "cc", "My-Chain_Code.1", "cc$$hcoll", "cc$$pColl", strings.Repeat("n", 400), strings.Repeat("N", 64) + "$$h" + strings.Repeat("C", 300)} {
		if err := db.CheckKey(ns, "k"); err != nil {
			t.Errorf("%q: %v", ns, err)
		}
	}
}

// TestRangesThatNobodyCanHaveRead: the same for ranges over hashes, where the
// documents' identifiers count, and for bounds that are no UTF-8.
func TestRangesThatNobodyCanHaveRead(t *testing.T) {
	db := openFake(t, couchtest.New(), func(c *Config) { c.InternalQueryLimit = 2 })
	b := state.NewBatch()
	var ids []string
	for i := range 5 {
		key := strings.Repeat(string(rune('a'+i)), 32)
		b.Put("cc$$hc1", state.Write{Key: key, Value: []byte("h"), Version: state.Version{Block: 1}})
		b.Put("cc", state.Write{Key: "\U0010ffff" + key, Value: []byte("v"), Version: state.Version{Block: 1}})
		ids = append(ids, base64.StdEncoding.EncodeToString([]byte(key)))
	}
	slices.Sort(ids)
	if err := db.Apply(b, &state.Version{Block: 1}, false); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		ns, start, end string
		want           int
	}{
		{"cc$$hc1", "", "", 5},
		{"cc$$hc1", ids[1], ids[3], 2},
		{"cc", "\xff\xfe", "", 5},
		{"cc", "", "\xff", 0},
		{"cc", "\xff", "\xff", 0},
	} {
		it, err := db.Range(tc.ns, tc.start, tc.end, 0)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for ; ; n++ {
			kv, err := it.Next()
			if err != nil {
				t.Fatal(err)
			}
			if kv == nil {
				break
			}
			if tc.ns != "cc" && !strings.Contains(fmt.Sprint(ids), kv.Key) {
				t.Errorf("key %q", kv.Key)
			}
		}
		if n != tc.want {
			t.Errorf("%s [%q, %q): %d results, want %d", tc.ns, tc.start, tc.end, n, tc.want)
		}
	}
}

// TestKeysThatCannotBe: identifiers that CouchDB or the savepoint has taken, and
// the hash of nothing, which is kept like any other.
func TestKeysThatCannotBe(t *testing.T) {
	db := openFake(t, couchtest.New())
	for _, k := range []struct {
		ns, key string
		ok      bool
	}{
		{"cc", "_k", false},
		{"cc", "", false},
		{"", savepointID, false},
		{"cc", savepointID, true},
		{"cc$$hc", "", true},
		{"cc$$hc", "_k", true},
		{"cc$$pc", "_k", false},
	} {
		if err := db.CheckKey(k.ns, k.key); (err == nil) != k.ok {
			t.Errorf("[%s] of [%s]: %v", k.key, k.ns, err)
		}
	}
	b := state.NewBatch()
	b.Put("cc$$hc", state.Write{Value: []byte("h"), Version: state.Version{Block: 1, Tx: 2}})
	if err := db.Apply(b, &state.Version{Block: 1}, false); err != nil {
		t.Fatal(err)
	}
	lookups := []state.Lookup{{Namespace: "cc$$hc"}}
	v, err := db.Get("cc$$hc", "")
	if err := errors.Join(err, db.Versions(lookups)); err != nil || v == nil || string(v.Value) != "h" || !lookups[0].Found || lookups[0].Version != (state.Version{Block: 1, Tx: 2}) {
		t.Errorf("got %v, %v, %v", v, lookups, err)
	}
}
