package couchdb

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heddle-ledger/heddle/ledger/state"
	"github.com/heddle-ledger/heddle/ledger/state/couchdb/couchtest"
)

// TestViewerOnlyReads: a viewer's client refuses whatever may change anything,
// before it is sent.
func TestViewerOnlyReads(t *testing.T) {
	f := couchtest.New()
	must(t, openFake(t, f).Apply(state.NewBatch(), &state.Version{Block: 3}, false))
	v, err := openViewer(t.Context(), testConfig(t, "couch:5984"), direct{f})
	must(t, err)
	defer v.Close()
	f.Intercept = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet {
			t.Errorf("%s %s", r.Method, r.URL)
		}
		return false
	}
	db := v.p.database("ch_")
	doc := outgoing{id: "k", members: []byte(`"_id":"k"`), write: &state.Write{Key: "k"}}
	for name, do := range map[string]func() error{
		"create": func() error { return v.p.database("ch_new").create(t.Context(), 1) },
		"secure": func() error { db.c.user = "u"; return db.secure(t.Context(), 1) },
		"drop":   func() error { return db.drop(t.Context()) },
		"bulk": func() error {
			_, err := db.bulkWrite(t.Context(), []outgoing{doc}, []string{""})
			return err
		},
		"save":      func() error { _, err := db.saveOver(t.Context(), &doc, "1-1"); return err },
		"savepoint": func() error { return db.writeSavepoint(t.Context(), state.Version{}, "") },
		"index":     func() error { return db.createIndex(t.Context(), []byte(`{}`)) },
		"warm":      func() error { return db.warm(t.Context(), index{Design: "_design/d", Name: "n"}) },
		"query": func() error {
			_, err := v.p.c.call(t.Context(), request{database: "ch_", method: http.MethodPost, path: []string{"_find"}})
			return err
		},
	} {
		if err := do(); !errors.Is(err, errReadOnly) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestViewerStubs reads attachments singly where a list does not have them.
func TestViewerStubs(t *testing.T) {
	f := couchtest.New()
	db := openFake(t, f)
	long := strings.Repeat("k", maxIDInPath+1)
	b := state.NewBatch()
	b.Put("cc", state.Write{Key: "bin", Value: []byte("\x00")})
	b.Put("cc", state.Write{Key: long, Value: []byte("\x01")})
	must(t, db.Apply(b, &state.Version{}, false))
	v, err := openViewer(t.Context(), testConfig(t, "couch:5984"), direct{http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "_all_docs") {
			q := r.URL.Query()
			q.Del("attachments")
			r.URL.RawQuery = q.Encode()
		}
		f.ServeHTTP(w, r)
	})})
	must(t, err)
	defer v.Close()
	view, err := v.Channel("ch")
	must(t, err)
	var got []string
	for walk := view.Space("cc").Walk(); ; {
		page, err := walk.Next(t.Context())
		must(t, err)
		if page == nil {
			break
		}
		for _, s := range page {
			if s.Err != nil {
				got = append(got, s.Err.Error())
			} else {
				got = append(got, string(s.Value.Value))
			}
		}
	}
	if d := cmp.Diff([]string{"\x00", errAttachment.Error()}, got); d != "" {
		t.Error(d)
	}
}

func TestSameValue(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{`x`, `x`, true},
		{`x`, `y`, false},
		{`{"a":1,"b":[1.50,{"c":"<"}]}`, ` { "b" : [1.5, {"c": "\u003c"}], "a": 1.0 } `, true},
		{`{"n":12345678901234567890}`, `{"n":12345678901234567000}`, true},
		{`{"a":1,"a":2}`, `{"a":2}`, true},
		{`{"a":1}`, `{"a":"1"}`, false},
		{`{"a":null}`, `{}`, false},
		{`{"a":null}`, `{"b":null}`, false},
		{`{"a":[1,2]}`, `{"a":[2,1]}`, false},
		{`{"a":[1]}`, `{"a":{}}`, false},
		{`{"a":{}}`, `{"a":[]}`, false},
		{`[1, 2]`, `[1,2]`, false}, // no object, so it is kept byte by byte
		{`{"a":1}`, `{"a":1`, false},
		{`null`, `{}`, false},
	} {
		if SameValue([]byte(c.a), []byte(c.b)) != c.same || SameValue([]byte(c.b), []byte(c.a)) != c.same {
			t.Errorf("%s and %s: not %v", c.a, c.b, c.same)
		}
	}
}
