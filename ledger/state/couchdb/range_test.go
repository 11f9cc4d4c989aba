package couchdb

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heddle-ledger/heddle/ledger/state"
	"github.com/heddle-ledger/heddle/ledger/state/couchdb/couchtest"
)

// TestRangesAroundIndexes: design documents lie between upper-case and
// lower-case letters, and are neither results nor bookmarks.
func TestRangesAroundIndexes(t *testing.T) {
	f := couchtest.New()
	var asked []string
	f.Intercept = func(_ http.ResponseWriter, r *http.Request) bool {
		if q := r.URL.Query(); strings.HasSuffix(r.URL.Path, "_all_docs") && q.Has("limit") {
			asked = append(asked, q.Get("limit")+" "+q.Get("startkey")+" "+q.Get("endkey"))
		}
		return false
	}
	db := openFake(t, f, func(c *Config) { c.InternalQueryLimit, c.AutoWarmIndexes = 3, false })
	all := []string{"A", "B", "C", "^", "`", "a", "b"}
	var pairs []string
	for _, k := range all {
		pairs = append(pairs, k, "v")
	}
	mustWrite(t, db, 1, pairs...)
	files := map[string][]byte{}
	for i := range 20 {
		files[fmt.Sprint(i)] = fmt.Appendf(nil, `{"index":{"fields":["f%d"]},"ddoc":"d%d","name":"n"}`, i, i)
	}
	if err := db.CreateIndexes("cc", files); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		start, end string
		limit      int32
		want       []string
		bookmark   string
	}{
		{"", "", 0, all, ""},
		{"C", "b", 0, []string{"C", "^", "`", "a"}, "b"},
		{"", "_", 0, []string{"A", "B", "C", "^"}, "_"},
		{"_design/d7", "a", 0, []string{"`"}, "a"},
		{"_", "_zz", 0, nil, "_zz"},
		{"", "", 4, []string{"A", "B", "C", "^"}, "`"},
		{"", "", 3, []string{"A", "B", "C"}, "^"},
		{"", "", 5, []string{"A", "B", "C", "^", "`"}, "a"},
		{"B", "_e", 3, []string{"B", "C", "^"}, "_e"},
		{"", "a", 7, []string{"A", "B", "C", "^", "`"}, "a"},
		{"b", "", 1, []string{"b"}, ""},
		{"c", "", 0, nil, ""},
		{"b", "a", 0, nil, "a"},
	} {
		asked = nil
		it, err := db.Range("cc", c.start, c.end, c.limit)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for kv, err := it.Next(); kv != nil; kv, err = it.Next() {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, kv.Key)
		}
		if diff := cmp.Diff(c.want, got); diff != "" || it.Bookmark() != c.bookmark {
			t.Errorf("[%s, %s) %d: bookmark %s, %s; asked %q", c.start, c.end, c.limit, it.Bookmark(), diff, asked)
		}
		if len(asked) > 4 || slices.ContainsFunc(asked, func(a string) bool { return strings.Contains(a, ` "_design`) }) {
			t.Errorf("[%s, %s) %d: asked %q", c.start, c.end, c.limit, asked)
		}
	}
}

// TestRangeOfTheEmptyNamespace leaves out the savepoint, which is kept beside it.
func TestRangeOfTheEmptyNamespace(t *testing.T) {
	db := openFake(t, couchtest.New())
	b := state.NewBatch()
	for _, k := range []string{"a", "statedb", "statedb_savepoint2", "z"} {
		b.Put("", state.Write{Key: k, Value: []byte("v")})
	}
	if err := db.Apply(b, &state.Version{}, false); err != nil {
		t.Fatal(err)
	}
	it, err := db.Range("", "", "", 0)
	if got := results(t, it, err); got != "a=v statedb=v statedb_savepoint2=v z=v" {
		t.Error(got)
	}
	if v, err := db.Get("", savepointID); v != nil || err != nil {
		t.Errorf("%+v, %v", v, err)
	}
	b = state.NewBatch()
	b.Put("", state.Write{Key: savepointID, Value: []byte("v")})
	if err := db.Apply(b, nil, false); err == nil {
		t.Error("a key has overwritten the savepoint")
	}
}
