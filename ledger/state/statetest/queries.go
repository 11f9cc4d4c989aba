package statetest

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heddle-ledger/heddle/ledger/state"
)

// RunQueries runs the suite of rich queries, for databases that know them.
func RunQueries(t *testing.T, newDB func(t *testing.T) Open) {
	tests := map[string]func(*testing.T, state.DB){
		"selects":   selects,
		"sorts":     sorts,
		"fields":    fields,
		"pages":     queryPages,
		"refused":   refusedQueries,
		"snapshots": querySnapshots,
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			db := open(t, newDB(t), "ch")
			marbles(t, db)
			test(t, db)
		})
	}
}

func marbles(t *testing.T, db state.DB) {
	t.Helper()
	b := state.NewBatch()
	for i, owner := range []string{"tom", "ann", "tom", "bob", "tom", "ann", "tom"} {
		put("cc", fmt.Sprintf("m%d", i), fmt.Sprintf(`{"owner":%q,"size":%d,"tags":["x"]}`, owner, i*5), 1, uint64(i))(b)
	}
	put("cc", "raw", "no JSON", 1, 20)(b)
	put("other", "m0", `{"owner":"tom","size":1}`, 1, 21)(b)
	if err := db.Apply(b, &state.Version{Block: 1}, false); err != nil {
		t.Fatal(err)
	}
}

func query(t *testing.T, r state.Reader, q state.Query) []string {
	t.Helper()
	it, err := r.Query("cc", q)
	if err != nil {
		t.Fatal(err)
	}
	defer it.Close()
	return drain(t, it)
}

func selects(t *testing.T, db state.DB) {
	for text, want := range map[string][]string{
		`{"selector":{"owner":"tom"}}`:                                       {"m0", "m2", "m4", "m6"},
		`{"selector":{"owner":"tom"},"limit":1}`:                             {"m0", "m2", "m4", "m6"}, // the limit is overridden
		`{"selector":{"owner":"nobody"}}`:                                    nil,
		`{"selector":{"size":{"$gt":10,"$lte":25}}}`:                         {"m3", "m4", "m5"},
		`{"selector":{"$or":[{"owner":"bob"},{"size":0}]}}`:                  {"m0", "m3"},
		`{"selector":{"$and":[{"owner":{"$in":["ann","bob"]}},{"size":5}]}}`: {"m1"},
		`{"selector":{"owner":{"$regex":"^[ab]"},"size":{"$ne":15}}}`:        {"m1", "m5"},
		`{"selector":{"_id":{"$gt":null},"owner":{"$exists":false}}}`:        {"raw"},
	} {
		if diff := cmp.Diff(want, query(t, db, state.Query{Text: text})); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
	it, err := db.Query("cc", state.Query{Text: `{"selector":{"owner":"bob"}}`})
	if err != nil {
		t.Fatal(err)
	}
	kv, err := it.Next()
	if err != nil || kv == nil || string(kv.Value.Value) != `{"owner":"bob","size":15,"tags":["x"]}` || kv.Version != (state.Version{Block: 1, Tx: 3}) {
		t.Errorf("%+v, %v", kv, err)
	}
	it, err = db.Query("cc", state.Query{Text: `{"selector":{"_id":"raw"}}`})
	if err != nil {
		t.Fatal(err)
	}
	if kv, err = it.Next(); err != nil || kv == nil || string(kv.Value.Value) != "no JSON" {
		t.Errorf("value that is no JSON: %+v, %v", kv, err)
	}
}

func sorts(t *testing.T, db state.DB) {
	creator, ok := db.(state.IndexCreator)
	if !ok {
		t.Skip("no indexes")
	}
	err := creator.CreateIndexes("cc", map[string][]byte{
		"owner.json": []byte(`{"index":{"fields":["size"]},"ddoc":"sizeDoc","name":"size","type":"json"}`),
		"bad.json":   []byte(`{"index":{}}`), // logged, and nothing else
	})
	if err != nil {
		t.Fatal(err)
	}
	got := query(t, db, state.Query{Text: `{"selector":{"size":{"$gt":7}},"sort":[{"size":"desc"}],"use_index":["_design/sizeDoc","size"]}`})
	if diff := cmp.Diff([]string{"m6", "m5", "m4", "m3", "m2"}, got); diff != "" {
		t.Error(diff)
	}
	// An index is no key.
	if got := scan(t, db, "cc", "", "m1"); fmt.Sprint(got) != "[m0]" {
		t.Errorf("range beside an index: %v", got)
	}
}

func fields(t *testing.T, db state.DB) {
	it, err := db.Query("cc", state.Query{Text: `{"selector":{"owner":"bob"},"fields":["size"]}`})
	if err != nil {
		t.Fatal(err)
	}
	kv, err := it.Next()
	if err != nil || kv == nil || kv.Key != "m3" || string(kv.Value.Value) != `{"size":15}` || kv.Version != (state.Version{Block: 1, Tx: 3}) {
		t.Errorf("%+v, %v", kv, err)
	}
}

func queryPages(t *testing.T, db state.DB) {
	var got []string
	bookmark := ""
	for range 5 {
		it, err := db.Query("cc", state.Query{Text: `{"selector":{"owner":{"$in":["tom","ann"]}}}`, Paged: true, Limit: 3, Bookmark: bookmark})
		if err != nil {
			t.Fatal(err)
		}
		page := drain(t, it)
		got = append(got, fmt.Sprint(page))
		bookmark = it.Bookmark()
		it.Close()
		if len(page) < 3 {
			break
		}
	}
	flat := fmt.Sprint(got)
	if flat != "[[m0 m1 m2] [m4 m5 m6] []]" {
		t.Errorf("pages %s", flat)
	}
}

func refusedQueries(t *testing.T, db state.DB) {
	for _, text := range []string{``, `null`, `[]`, `{"selector"`, `{"selector":{},"fields":"owner"}`, `{"selector":{"a":{"$what":1}}}`, `{}`} {
		if it, err := db.Query("cc", state.Query{Text: text}); err == nil {
			t.Errorf("%s: no error, %v", text, drain(t, it))
		}
	}
}

// querySnapshots: a query sees the state of its snapshot, or it is refused.
func querySnapshots(t *testing.T, db state.DB) {
	const toms = `{"selector":{"owner":"tom"}}`
	snap, err := db.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"m0", "m2", "m4", "m6"}, query(t, snap, state.Query{Text: toms})); diff != "" {
		t.Error(diff)
	}
	applied := make(chan struct{})
	go func() {
		defer close(applied)
		b := state.NewBatch()
		put("cc", "m0", `{"owner":"ann"}`, 2, 0)(b)
		put("cc", "m1", `{"owner":"tom"}`, 2, 0)(b)
		if err := db.Apply(b, &state.Version{Block: 2}, false); err != nil {
			t.Error(err)
		}
	}()
	for range 3 {
		if diff := cmp.Diff([]string{"m0", "m2", "m4", "m6"}, query(t, snap, state.Query{Text: toms})); diff != "" {
			t.Error(diff)
		}
		expect(t, snap, "cc", "m1", `{"owner":"ann","size":5,"tags":["x"]}@1:1`)
	}
	snap.Release()
	<-applied
	if diff := cmp.Diff([]string{"m1", "m2", "m4", "m6"}, query(t, db, state.Query{Text: toms})); diff != "" {
		t.Error(diff)
	}
}
