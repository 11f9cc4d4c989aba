package couchdb

import (
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/heddle-ledger/heddle/internal/metrics"
	"github.com/heddle-ledger/heddle/ledger/state"
	"github.com/heddle-ledger/heddle/ledger/state/couchdb/couchtest"
)

var _ interface {
	state.DB
	state.IndexCreator
	state.Nester
} = (*DB)(nil)

func TestIndexes(t *testing.T) {
	f := couchtest.New()
	db := openFake(t, f)
	files := map[string][]byte{
		"one.json": []byte(`{"index":{"fields":["a"]},"ddoc":"one","name":"a","type":"json"}`),
		"two.json": []byte(`{"index":{"fields":[{"b":"desc"}]},"name":"b","type":"json"}`),
		"bad.json": []byte(`{`),
	}
	for range 2 { // again is fine
		if err := db.CreateIndexes("MyCC$$pcollA", files); err != nil {
			t.Fatal(err)
		}
	}
	list, err := db.p.database("ch_$my$c$c$$pcoll$a").indexes(t.Context())
	if err != nil || len(list) != 2 || list[0] != (index{"_design/one", "a"}) {
		t.Errorf("%v, %v", list, err)
	}
	if err := db.CreateIndexes("no such name", files); err == nil {
		t.Error("an index in no database")
	}
	if err := db.CreateIndexes("cc", nil); err != nil || strings.Contains(strings.Join(f.Databases(), " "), "ch_cc") {
		t.Errorf("databases %v, %v", f.Databases(), err)
	}
}

func TestWarming(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := couchtest.New()
		var warmed, broken atomic.Int64
		f.Intercept = func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, "/_view/") {
				return false
			}
			warmed.Add(1)
			if r.URL.Path != "/ch_cc/_design/one/_view/a" || r.URL.RawQuery != "stale=update_after" {
				t.Errorf("%s", r.URL)
			}
			if broken.Load() > 0 {
				w.WriteHeader(http.StatusForbidden)
				return true
			}
			return false
		}
		db := openFake(t, f, func(c *Config) { c.WarmIndexesAfterNBlocks = 3 })
		err := db.CreateIndexes("cc", map[string][]byte{"a": []byte(`{"index":{"fields":["a"]},"ddoc":"one","name":"a","type":"json"}`)})
		if err != nil {
			t.Fatal(err)
		}
		var got []int64
		for block := range uint64(7) {
			mustWrite(t, db, block, "a", "1")
			synctest.Wait()
			got = append(got, warmed.Load())
			broken.Add(1) // is logged only
		}
		if diff := cmp.Diff([]int64{0, 0, 1, 1, 1, 2, 2}, got); diff != "" {
			t.Error(diff)
		}
		db.p.Close()
	})
}

// observed counts observations by their labels.
type observed struct {
	metrics.Provider
	mu    *sync.Mutex // guards seen
	seen  map[string]int
	under []string
	opts  metrics.HistogramOpts
}

func (o *observed) NewHistogram(opts metrics.HistogramOpts) metrics.Histogram {
	o.opts = opts
	return o
}

func (o *observed) With(labels ...string) metrics.Histogram {
	return &observed{mu: o.mu, seen: o.seen, under: labels}
}

func (o *observed) Observe(float64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.seen[strings.Join(o.under, " ")]++
}

func TestMetric(t *testing.T) {
	o := &observed{Provider: metrics.Disabled(), mu: &sync.Mutex{}, seen: map[string]int{}}
	db := openFake(t, couchtest.New(), func(c *Config) { c.Metrics, c.AutoWarmIndexes = o, false })
	if o.opts.Namespace+"_"+o.opts.Name != "couchdb_processing_time" || o.opts.Buckets != nil {
		t.Errorf("%+v", o.opts)
	}
	mustWrite(t, db, 1, "a", "1")
	expect(t, db, "b", "")
	for labels, want := range map[string]int{
		"database  function_name VerifyCouchConfig result 200":                  1,
		"database _users function_name GetDatabaseInfo result 404":              1,
		"database ch_cc function_name CreateDatabaseIfNotExist result 201":      1,
		"database ch_cc function_name BatchRetrieveDocumentMetadata result 200": 1,
		"database ch_cc function_name BatchUpdateDocuments result 201":          1,
		"database ch_cc function_name EnsureFullCommit result 201":              1,
		"database ch_ function_name SaveDoc result 201":                         1,
		"database ch_cc function_name ReadDoc result 404":                       1,
	} {
		if o.seen[labels] != want {
			t.Errorf("%s: %d times", labels, o.seen[labels])
		}
	}
}
