package couchdb

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"runtime"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/heddle-ledger/heddle/ledger/state"
	"github.com/heddle-ledger/heddle/ledger/state/couchdb/couchtest"
)

// shelf is a server that does next to nothing, so that the client's work is what is
// measured. It has the documents of one batch in database ch_cc.
type shelf struct {
	keys []string          // sorted
	docs map[string][2]row // without and with attachments
	meta []byte            // the savepoint
}

// newShelf takes over the documents of a fake.
func newShelf(b *testing.B, f *couchtest.Fake) *shelf {
	s := &shelf{docs: map[string][2]row{}, meta: []byte(`{"_id":"statedb_savepoint","_rev":"1-x","BlockNum":2,"TxNum":0}`)}
	for i, query := range []string{"", "&attachments=true"} {
		req, err := http.NewRequest(http.MethodGet, "http://couch/ch_cc/_all_docs?include_docs=true"+query, nil)
		if err != nil {
			b.Fatal(err)
		}
		resp, err := direct{f}.RoundTrip(req)
		if err != nil {
			b.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			b.Fatal(err)
		}
		rows, err := member(body, "rows")
		if err != nil {
			b.Fatal(err)
		}
		err = elements(rows, func(text []byte) error {
			r, err := decodeRow(text)
			pair := s.docs[r.ID]
			pair[i] = row{ID: r.ID, Doc: text}
			s.docs[r.ID] = pair
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	s.keys = slices.Sorted(maps.Keys(s.docs))
	return s
}

func (s *shelf) RoundTrip(r *http.Request) (*http.Response, error) {
	var sent []byte
	if r.Body != nil {
		n := int64(0)
		if strings.HasSuffix(r.URL.Path, "/_all_docs") {
			sent, _ = io.ReadAll(r.Body)
		} else {
			n, _ = io.Copy(io.Discard, r.Body)
		}
		if n+int64(len(sent)) != r.ContentLength {
			return nil, errors.New("another length")
		}
	}
	var parts [][]byte
	add := func(text ...string) {
		for _, t := range text {
			parts = append(parts, []byte(t))
		}
	}
	switch r.Method + " " + r.URL.Path {
	case "GET /ch_/" + savepointID:
		parts = append(parts, s.meta)
	case "PUT /ch_/" + savepointID:
		add(`{"ok":true,"rev":"2-x"}`)
	case "POST /ch_cc/_ensure_full_commit":
		add(`{"ok":true}`)
	case "POST /ch_cc/_bulk_docs":
		for i, k := range s.keys { // to whatever group is sent
			add([]string{"[", ","}[min(i, 1)], `{"ok":true,"id":"`, k, `","rev":"2-0123456789abcdef0123456789abcdef"}`)
		}
		add("]")
	case "POST /ch_cc/_all_docs", "GET /ch_cc/_all_docs":
		keys := s.keys
		if sent != nil {
			var told struct{ Keys []string }
			if err := json.Unmarshal(sent, &told); err != nil {
				return nil, err
			}
			keys = told.Keys
		} else {
			from, _ := slices.BinarySearch(keys, strings.Trim(r.URL.Query().Get("startkey"), `"`))
			limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
			keys = keys[from:min(from+limit, len(keys))]
		}
		add(`{"rows":[`)
		for i, k := range keys {
			if i > 0 {
				add(",")
			}
			parts = append(parts, s.docs[k][strings.Count(r.URL.RawQuery, "attachments=true")].Doc)
		}
		add("]}")
	default:
		return nil, fmt.Errorf("nothing is known of %s %s", r.Method, r.URL.Path)
	}
	readers := make([]io.Reader, len(parts))
	for i := range parts {
		readers[i] = bytes.NewReader(parts[i])
	}
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, ContentLength: -1,
		Body: io.NopCloser(io.MultiReader(readers...)), Request: r,
	}, nil
}

// openShelf opens a channel over a shelf with 500 documents.
func openShelf(b *testing.B, value func(i int) []byte) *DB {
	f := couchtest.New()
	var serve http.RoundTripper = direct{f}
	p, err := openProvider(context.Background(), Config{Address: "couch:1", MaxBatchUpdateSize: 1000}, transport(func(r *http.Request) (*http.Response, error) {
		return serve.RoundTrip(r)
	}))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { p.Close() })
	db, err := p.Open("ch")
	if err != nil {
		b.Fatal(err)
	}
	fillBench(b, db.(*DB), 1, value)
	serve = newShelf(b, f)
	return db.(*DB)
}

func largeBytes(int) []byte { return bytes.Repeat([]byte{1}, 100<<10) }

func largeJSON(int) []byte {
	return append(append([]byte(`{"text":"`), bytes.Repeat([]byte("x"), 100<<10)...), `"}`...)
}

var benchValues = map[string]func(int) []byte{"bytes": bytesValue, "JSON": jsonValue, "100kB": largeBytes, "100kB JSON": largeJSON}

// BenchmarkClient is the client's part of the work on 500 documents. The metric peak
// is the largest heap seen above that of before, in MB.
func BenchmarkClient(b *testing.B) {
	apply := func(b *testing.B, db *DB, value func(int) []byte) func() {
		batch := benchBatch(2, value)
		return func() {
			if err := db.Apply(batch, &state.Version{Block: 2}, false); err != nil {
				b.Fatal(err)
			}
		}
	}
	for name, value := range benchValues {
		for task, make := range map[string]func(b *testing.B, db *DB) func(){
			"apply": func(b *testing.B, db *DB) func() { return apply(b, db, value) },
			"apply beside snapshot": func(b *testing.B, db *DB) func() {
				do := apply(b, db, value)
				return func() {
					s, err := db.Snapshot()
					if err != nil {
						b.Fatal(err)
					}
					do()
					s.Release()
				}
			},
			"versions": func(b *testing.B, db *DB) func() {
				lookups := benchLookups()
				return func() {
					db.revs.clear()
					if err := db.Versions(lookups); err != nil || !lookups[7].Found {
						b.Fatal(err)
					}
				}
			},
			"range": func(b *testing.B, db *DB) func() {
				return func() {
					it, err := db.Range("cc", "", "", 0)
					if err != nil {
						b.Fatal(err)
					}
					n := 0
					for kv, err := it.Next(); kv != nil; kv, err = it.Next() {
						if err != nil {
							b.Fatal(err)
						}
						n++
					}
					if n != benchKeys {
						b.Fatal(n)
					}
				}
			},
		} {
			b.Run(task+"/"+name, func(b *testing.B) {
				db := openShelf(b, value)
				do := make(b, db)
				b.ReportAllocs()
				peak := watchHeap(b)
				for b.Loop() {
					do()
				}
				peak()
			})
		}
	}
}

// watchHeap looks at the heap while something runs.
func watchHeap(b *testing.B) (report func()) {
	read := func() uint64 {
		sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}
	runtime.GC()
	before, most := read(), uint64(0)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			most = max(most, read())
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	return func() {
		close(stop)
		<-done
		b.ReportMetric(float64(most-min(most, before))/1e6, "peak-MB")
	}
}
