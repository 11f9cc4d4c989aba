package couchdb

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/ledger/state"
	"github.com/heddle-ledger/heddle/ledger/state/couchdb/couchtest"
	"github.com/heddle-ledger/heddle/ledger/state/statetest"
)

// testConfig has small pages and groups, so that there are several.
func testConfig(t testing.TB, address string) Config {
	return Config{
		Address: address, MaxRetries: 3, MaxRetriesOnStartup: 3, RequestTimeout: time.Minute,
		InternalQueryLimit: 2, MaxBatchUpdateSize: 100, AutoWarmIndexes: true, Log: flog.ForTest(t),
	}
}

func openAt(t testing.TB, cfg Config) *Provider {
	t.Helper()
	p, err := OpenProvider(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// direct hands requests to a handler without a network.
type direct struct{ h http.Handler }

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	w := httptest.NewRecorder()
	d.h.ServeHTTP(w, r)
	resp := w.Result()
	resp.Request = r
	return resp, nil
}

// openFake opens a channel over a fake server without a network.
func openFake(t testing.TB, f http.Handler, change ...func(*Config)) *DB {
	t.Helper()
	cfg := testConfig(t, "couch:5984")
	for _, c := range change {
		c(&cfg)
	}
	p, err := openProvider(context.Background(), cfg, direct{f})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	db, err := p.Open("ch")
	if err != nil {
		t.Fatal(err)
	}
	return db.(*DB)
}

func TestConformance(t *testing.T) {
	for name, prepare := range map[string]func(*couchtest.Fake){
		"parts":      func(*couchtest.Fake) {},
		"inline":     func(f *couchtest.Fake) { f.Inline = true },
		"compressed": func(f *couchtest.Fake) { f.Gzip, f.NoFullCommit = true, true },
	} {
		t.Run(name, func(t *testing.T) {
			newDB := func(t *testing.T) statetest.Open {
				f := couchtest.New()
				prepare(f)
				address := couchtest.Start(t, f)
				return func(t *testing.T) state.Provider { return openAt(t, testConfig(t, address)) }
			}
			statetest.Run(t, newDB)
			statetest.RunQueries(t, newDB)
		})
	}
}

func TestConformanceOfRealServer(t *testing.T) {
	if testing.Short() {
		t.Skip("the CouchDB test server takes seconds to start")
	}
	address := couchtest.Real(t)
	newDB := func(t *testing.T) statetest.Open {
		dropAll(t, address)
		return func(t *testing.T) state.Provider { return openAt(t, testConfig(t, address)) }
	}
	// The server takes a key like 0 for a number, and scans end at U+FFFF.
	statetest.Run(t, newDB, "more keys")
	statetest.RunQueries(t, newDB)
}

// dropAll deletes what an earlier test left in the channels of the suite.
func dropAll(t *testing.T, address string) {
	t.Helper()
	p := openAt(t, testConfig(t, address))
	defer p.Close()
	if err := p.DropChannels(t.Context(), []string{"ch", "ch.two"}); err != nil {
		t.Fatal(err)
	}
}
