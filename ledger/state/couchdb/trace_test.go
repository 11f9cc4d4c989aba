package couchdb

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/heddle-ledger/heddle/ledger/state"
	"github.com/heddle-ledger/heddle/ledger/state/couchdb/couchtest"
)

// trace is what the reference's ledger asked a CouchDB stand-in for.
type trace struct {
	FinalDocuments map[string]map[string]map[string]any `json:"final_documents"`
	Steps          []struct {
		Step     string
		Requests []struct {
			Method, Path string
			Query        map[string]string
			Headers      map[string]string
			Body         json.RawMessage `json:"body_json"`
		}
	}
}

// recorder notes requests, each in one line.
type recorder struct {
	h  http.Handler
	mu sync.Mutex // guards lines
	// lines are the requests since they were last taken.
	lines []string
}

func (r *recorder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		panic(err)
	}
	req.Body = io.NopCloser(bytes.NewReader(body))
	query := map[string]string{}
	for name, values := range req.URL.Query() {
		query[name] = values[0]
	}
	headers := map[string]string{}
	for _, name := range []string{"Accept", "Content-Type", "If-Match", "Authorization"} {
		if v := req.Header.Get(name); v != "" {
			headers[name] = v
		}
	}
	r.mu.Lock()
	r.lines = append(r.lines, line(req.Method, req.URL.Path, query, headers, body))
	r.mu.Unlock()
	r.h.ServeHTTP(w, req)
}

func (r *recorder) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.lines
	r.lines = nil
	slices.Sort(out)
	return out
}

var (
	revisions  = regexp.MustCompile(`"(\d+)-(x|[0-9a-f]{32})"`)
	configData = regexp.MustCompile(`"data":"[^"]{200,}"|"data":"[^"]* chars[^"]*"`)
	twice      = `,"_id","~version","_id","~version"]`
)

// line is a request in a form that can be compared: members sorted, revisions by
// number, the value of the channel's configuration, which the trace has not
// whole, left out.
func line(method, path string, query, headers map[string]string, body []byte) string {
	if _, ok := headers["Authorization"]; ok {
		headers["Authorization"] = "Basic"
	}
	if m := headers["If-Match"]; m != "" {
		headers["If-Match"], _, _ = strings.Cut(m, "-")
	}
	if path == "" {
		path = "/"
	}
	if query == nil {
		query = map[string]string{}
	}
	var v any
	if len(body) > 0 {
		dec := json.NewDecoder(bytes.NewReader(body))
		dec.UseNumber()
		if err := dec.Decode(&v); err != nil {
			v = string(body)
		}
	}
	sortLists(v)
	text, _ := json.Marshal([]any{query, headers, v})
	text = revisions.ReplaceAll(text, []byte(`"$1-x"`))
	text = configData.ReplaceAll(text, []byte(`"data":"..."`))
	// 1.4 appends these two members to a query's fields twice.
	text = bytes.ReplaceAll(text, []byte(twice), []byte(`,"_id","~version"]`))
	return method + " " + path + " " + string(text)
}

// sortLists puts documents and keys of bulk requests in order.
func sortLists(v any) {
	m, ok := v.(map[string]any)
	if !ok {
		return
	}
	for _, name := range []string{"keys", "docs"} {
		if list, ok := m[name].([]any); ok {
			slices.SortFunc(list, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
		}
	}
}

// wanted are the reference's requests of one step, less those that we leave out
// on purpose: some that begin with a given text, each once.
func (tr *trace) wanted(t *testing.T, step int, without ...string) []string {
	t.Helper()
	var out []string
	for _, r := range tr.Steps[step].Requests {
		out = append(out, line(r.Method, r.Path, r.Query, r.Headers, r.Body))
	}
	for _, w := range without {
		i := slices.IndexFunc(out, func(l string) bool { return strings.HasPrefix(l, w) })
		if i < 0 {
			t.Fatalf("step %d has no request %s", step, w)
		}
		out = slices.Delete(out, i, i+1)
	}
	slices.Sort(out)
	return out
}

// standIn answers what the stand-in of the trace answered otherwise than a
// CouchDB would: it finds all documents, always with the same bookmark, and knows
// an index before it was made.
func standIn(f *couchtest.Fake) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		reply := func(v any) bool {
			w.Header().Set("Content-Type", "application/json")
			json.NewEncoder(w).Encode(v)
			return true
		}
		switch {
		case strings.HasSuffix(r.URL.Path, "/_find"):
			var docs []any
			for _, id := range []string{"json1", "json2"} {
				docs = append(docs, f.Documents("couch$ch_$my$c$c")[id])
			}
			body, _ := io.ReadAll(r.Body)
			if bytes.Contains(body, []byte(`"limit":1`)) {
				docs = docs[:1]
			}
			return reply(map[string]any{"docs": docs, "bookmark": "BOOKMARK"})
		case strings.HasSuffix(r.URL.Path, "/_index") && r.Method == http.MethodGet:
			return reply(map[string]any{"indexes": []index{{"_design/indexOwnerDoc", "indexOwner"}}})
		case strings.Contains(r.URL.Path, "/_view/"):
			return reply(map[string]any{})
		}
		return false
	}
}

func TestTrace(t *testing.T) {
	raw, err := os.ReadFile("testdata/couchdb_http_trace.json")
	if err != nil {
		t.Fatal(err)
	}
	tr := &trace{}
	if err := json.Unmarshal(raw, tr); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) { replayTrace(t, tr) })
}

// tracer makes what the recorded ledger did, step by step.
type tracer struct {
	t    *testing.T
	tr   *trace
	rec  *recorder
	p    *Provider
	db   *DB
	step int
}

func (c *tracer) open() {
	cfg := testConfig(c.t, "couch:5984")
	cfg.Username, cfg.Password, cfg.WarmIndexesAfterNBlocks = "admin", "adminpw", 2
	var err error
	if c.p, err = openProvider(context.Background(), cfg, direct{c.rec}); err != nil {
		c.t.Fatal(err)
	}
}

func (c *tracer) openChannel() {
	db, err := c.p.Open("couch.ch")
	if err != nil {
		c.t.Fatal(err)
	}
	c.db = db.(*DB)
}

// ends compares the requests of a step. The cache goes, as that of the reference
// does after each block.
func (c *tracer) ends(without ...string) {
	c.t.Helper()
	synctest.Wait() // for the warming of indexes
	if diff := cmp.Diff(c.tr.wanted(c.t, c.step, without...), c.rec.take()); diff != "" {
		c.t.Errorf("step %d, %s: %s", c.step, c.tr.Steps[c.step].Step, diff)
	}
	c.step++
	c.db.forget()
}

func (d *DB) forget() {
	if d != nil {
		d.revs.clear()
		d.values.clear()
	}
}

func (c *tracer) apply(block uint64, changes func(b *state.Batch)) {
	c.t.Helper()
	b := state.NewBatch()
	changes(b)
	if err := c.db.Apply(b, &state.Version{Block: block}, false); err != nil {
		c.t.Fatal(err)
	}
}

func (c *tracer) get(ns string, keys ...string) (out []string) {
	c.t.Helper()
	for _, key := range keys {
		v, err := c.db.Get(ns, key)
		if err != nil {
			c.t.Fatal(err)
		}
		if v == nil {
			v = &state.Value{}
		}
		out = append(out, string(v.Value))
	}
	return out
}

func (c *tracer) results(it state.Iterator, err error) (out []string, bookmark string) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
	for {
		kv, err := it.Next()
		if err != nil {
			c.t.Fatal(err)
		}
		if kv == nil {
			return out, it.Bookmark()
		}
		out = append(out, kv.Key+"="+string(kv.Value.Value))
	}
}

func replayTrace(t *testing.T, tr *trace) {
	f := couchtest.New()
	f.Username, f.Password = "admin", "adminpw"
	f.Intercept = standIn(f)
	c := &tracer{t: t, tr: tr, rec: &recorder{h: f}}
	c.open()
	c.ends()
	c.openChannel()
	c.apply(0, func(b *state.Batch) {
		b.Put("", state.Write{Key: "resourcesconfigtx.CHANNEL_CONFIG_KEY", Value: bytes.Repeat([]byte{1}, 15163)})
	})
	// 1.4 opens the metadata database a second time, for the empty namespace.
	c.ends("GET /couch$ch_ ", "PUT /couch$ch_/_security ")
	traceBlocks(c)
	traceQueries(c)
	if err := c.p.Close(); err != nil {
		t.Fatal(err)
	}
	c.open()
	c.openChannel()
	c.ends()
	definition := `{"index":{"fields":["owner"]},"ddoc":"indexOwnerDoc","name":"indexOwner","type":"json"}`
	if err := c.db.CreateIndexes("MyCC", map[string][]byte{"indexOwner.json": []byte(definition)}); err != nil {
		t.Error(err)
	}
	if sp, err := c.db.Savepoint(); err != nil || sp.String() != "{BlockNum: 3, TxNum: 0}" {
		t.Errorf("savepoint %v, %v", sp, err)
	}
	c.ends()
	if err := c.p.Close(); err != nil {
		t.Fatal(err)
	}
	compareDocuments(t, tr, f)
}

// param is a metadata write of one entry, marshalled.
const param = "\x12\x1d\x12\x1b\x0a\x14VALIDATION_PARAMETER\x12\x03pol"

func traceBlocks(c *tracer) {
	collections, err := base64.StdEncoding.DecodeString("CiUKIwoFY29sbEESGgoYEgwSCggBEgIIABICCAEaCAgCEgRvcmcx")
	if err != nil {
		c.t.Fatal(err)
	}
	at := func(block uint64) state.Version { return state.Version{Block: block} }
	c.get("lscc", "MyCC")
	c.apply(1, func(b *state.Batch) {
		b.Put("lscc", state.Write{Key: "MyCC", Value: []byte("\x0a\x04MyCC\x12\x011\x1a\x04escc\"\x04vscc:\x0chash-of-MyCC"), Version: at(1)})
		b.Put("lscc", state.Write{Key: "MyCC~collection", Value: collections, Version: at(1)})
	})
	c.ends()
	c.get("lscc", "MyCC", "MyCC~collection")
	if err := c.db.Versions([]state.Lookup{{Namespace: "lscc", Key: "MyCC"}, {Namespace: "lscc", Key: "MyCC~collection"}}); err != nil {
		c.t.Fatal(err)
	}
	c.apply(2, func(b *state.Batch) {
		put := func(ns, key, value, metadata string) {
			b.Put(ns, state.Write{Key: key, Value: []byte(value), Metadata: []byte(metadata), Version: at(2)})
		}
		put("MyCC", "bin", "\x00\x01\x02", "")
		put("MyCC", "json1", `{"owner":"tom","size":12345678901234567890,"nested":{"b":1,"a":2}}`, "")
		put("MyCC", "json2", ` {"owner" : "ann"}`, param[2:])
		put("MyCC", "nullval", "null", "")
		put("MyCC", "a/b+c d", "x", "")
		put("MyCC", "arr", "[1,2]", "")
		put("MyCC$$pcollA", "p1", "pv", "")
		put("MyCC$$hcollA", "\xf6\x45\x51\xfc\xd6\xf0\x78\x23\xcb\x87\x97\x1c\xfb\x91\x44\x64\x25\xda\x18\x28\x6b\x3a\xb1\xef\x93\x5e\x0c\xbd\x7a\x69\xf6\x8a",
			"\x07\x17\x03\x1b\x93\x5f\x13\x1e\x7a\x49\x74\xff\x41\xf4\x51\x1b\xbd\x63\x0b\x61\xdd\x1a\x81\x3d\x47\xa2\x14\x10\x6b\x9e\xc1\x4b", "")
	})
	c.ends()
	got := c.get("MyCC", "json1", "json2", "bin", "arr", "nullval", "missing")
	want := []string{`{"nested":{"a":2,"b":1},"owner":"tom","size":12345678901234567000}`, `{"owner":"ann"}`, "\x00\x01\x02", "[1,2]", "null", ""}
	if diff := cmp.Diff(want, got); diff != "" {
		c.t.Error(diff)
	}
	c.ends()
	var lookups []state.Lookup
	for _, key := range []string{"arr", "bin", "json1", "json2", "missing", "nullval"} {
		lookups = append(lookups, state.Lookup{Namespace: "MyCC", Key: key})
	}
	if err := c.db.Versions(lookups); err != nil {
		c.t.Fatal(err)
	}
	c.get("MyCC", "json1")
	c.apply(3, func(b *state.Batch) {
		b.Put("MyCC", state.Write{Key: "json1", Value: []byte(`{"owner":"jim"}`), Version: at(3)})
		b.Put("MyCC", state.Write{Key: "bin", Delete: true, Version: at(3)})
		b.Put("MyCC", state.Write{Key: "neverexisted", Delete: true, Version: at(3)})
	})
	c.ends()
}

func traceQueries(c *tracer) {
	got, _ := c.results(c.db.Range("MyCC", "a", "json3", 0))
	if diff := cmp.Diff([]string{"a/b+c d=x", "arr=[1,2]", `json1={"owner":"jim"}`, `json2={"owner":"ann"}`}, got); diff != "" {
		c.t.Error(diff)
	}
	// 1.4 asks once more from the end key.
	last := fmt.Sprintf(`GET /couch$ch_$my$c$c/_all_docs [{"attachments":"true","endkey":%q,"include_docs":"true","inclusive_end":"false","limit":"3","startkey":%[1]q}`, `"json3"`)
	c.ends(last)
	const owned = `{"selector":{"owner":"tom"},"fields":["owner"],"limit":10,"sort":[{"owner":"asc"}],"use_index":["_design/indexOwnerDoc","indexOwner"]}`
	got, _ = c.results(c.db.Query("MyCC", state.Query{Text: owned}))
	if len(got) != 4 {
		c.t.Errorf("results %v", got)
	}
	// We stop at the same bookmark, the recorded query at its caller's limit.
	again := `POST /couch$ch_$my$c$c/_find [{},{"Accept":"application/json","Authorization":"Basic","Content-Type":"application/json"},{"bookmark":"BOOKMARK"`
	c.ends(again, again)
	got, bookmark := c.results(c.db.Range("MyCC", "", "", 3))
	if len(got) != 3 || bookmark != "json2" {
		c.t.Errorf("page %v, bookmark %s", got, bookmark)
	}
	c.ends()
	_, bookmark = c.results(c.db.Query("MyCC", state.Query{Text: `{"selector":{}}`, Paged: true, Limit: 1, Bookmark: "B0"}))
	if bookmark != "BOOKMARK" {
		c.t.Errorf("bookmark %s", bookmark)
	}
	c.ends()
}

func compareDocuments(t *testing.T, tr *trace, f *couchtest.Fake) {
	t.Helper()
	got := map[string]map[string]map[string]any{}
	for _, db := range f.Databases() {
		got[db] = f.Documents(db)
	}
	if diff := cmp.Diff(comparable(t, tr.FinalDocuments), comparable(t, got)); diff != "" {
		t.Error(diff)
	}
}

// comparable leaves out what differs between servers: revisions and particulars
// of attachments, and documents of indexes, which the stand-in does not keep.
func comparable(t *testing.T, dbs map[string]map[string]map[string]any) map[string]map[string]string {
	t.Helper()
	out := map[string]map[string]string{}
	for db, docs := range dbs {
		out[db] = map[string]string{}
		for id, members := range docs {
			if strings.HasPrefix(id, "_design/") {
				continue
			}
			delete(members, "_rev")
			if atts, ok := members["_attachments"].(map[string]any); ok {
				for _, a := range atts {
					for _, name := range []string{"length", "digest", "revpos"} {
						delete(a.(map[string]any), name)
					}
				}
			}
			text, err := json.Marshal(members)
			if err != nil {
				t.Fatal(err)
			}
			out[db][id] = string(configData.ReplaceAll(text, []byte(`"data":"..."`)))
		}
	}
	return out
}
