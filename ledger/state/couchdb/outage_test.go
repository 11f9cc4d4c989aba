package couchdb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddle-ledger/heddle/ledger/state"
	"github.com/heddle-ledger/heddle/ledger/state/couchdb/couchtest"
)

// away returns the error if it says that the server may answer later.
func away(err error) *state.UnreachableError {
	var e *state.UnreachableError
	errors.As(err, &e)
	return e
}

// TestWhatPasses: only what may succeed later is told to be worth waiting for,
// and a page of a proxy is no answer of CouchDB.
func TestWhatPasses(t *testing.T) {
	answers := func(status int, body string) transport {
		return func(r *http.Request) (*http.Response, error) {
			return reply(r, status, "application/json", []byte(body)), nil
		}
	}
	const refusal = `{"error":"e","reason":"r"}`
	for name, c := range map[string]struct {
		behave           transport
		passes, answered bool
	}{
		"no connection":  {func(*http.Request) (*http.Response, error) { return nil, errors.New("refused") }, true, false},
		"500":            {answers(500, refusal), true, true},
		"503":            {answers(503, refusal), true, true},
		"proxy":          {answers(502, "<html>"), true, false},
		"proxy, 404":     {answers(404, "default backend - 404"), true, false},
		"too often":      {answers(429, refusal), true, true},
		"too slow":       {answers(408, refusal), true, true},
		"unauthorized":   {answers(401, `{"error":"unauthorized","reason":"no"}`), false, false},
		"forbidden":      {answers(403, refusal), false, false},
		"vanished":       {answers(404, `{"error":"not_found","reason":"Database does not exist."}`), false, false},
		"too large":      {answers(413, refusal), false, false},
		"nonsense":       {answers(200, "<html>"), false, false},
		"other redirect": {answers(302, ""), false, false},
	} {
		t.Run(name, func(t *testing.T) {
			var behave transport
			cfg := testConfig(t, "couch:1")
			cfg.MaxRetries, cfg.AutoWarmIndexes = 0, false
			db := openOver(t, couchtest.New(), cfg, &behave)
			mustWrite(t, db, 1, "k", "v")
			db.revs.clear()
			behave = c.behave
			errs := useAll(db)
			delete(errs, "drop") // these are for commands, which wait for nobody
			delete(errs, "connect")
			delete(errs, "index")
			delete(errs, "warm")
			for call, err := range errs {
				if name == "nonsense" && call == "drop" {
					continue
				}
				e := away(err)
				if err == nil || (e != nil) != c.passes || e != nil && e.Answered != c.answered {
					t.Errorf("%s: %v (%T)", call, err, err)
				}
			}
			behave = nil
			expect(t, db, "k", "v")
			expect(t, db, "absent", "")
			db.p.Close()
		})
	}
}

// TestRowsThatFail are not rows of absent documents.
func TestRowsThatFail(t *testing.T) {
	db := openHostile(t, 200, "application/json", []byte(`{"rows":[{"key":"k","error":"timeout"}]}`))
	lookups := []state.Lookup{{Namespace: "cc", Key: "k"}}
	if err := db.Versions(lookups); away(err) == nil || err.Error() != "database [ch_cc]: document [k]: timeout" {
		t.Error(err)
	}
}

// TestStopEndsWaiting: when the program is to end nothing is repeated, and what is
// under way has a few seconds.
func TestStopEndsWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var behave transport
		life, stop := context.WithCancel(t.Context())
		cfg := testConfig(t, "couch:5984")
		cfg.MaxRetries, cfg.RequestTimeout, cfg.AutoWarmIndexes = 60, 0, false
		f := couchtest.New()
		p, err := openProvider(life, cfg, transport(func(r *http.Request) (*http.Response, error) {
			if behave != nil {
				return behave(r)
			}
			return direct{f}.RoundTrip(r)
		}))
		if err != nil {
			t.Fatal(err)
		}
		db, err := p.Open("ch")
		if err != nil {
			t.Fatal(err)
		}
		mustWrite(t, db.(*DB), 1, "k", "v")
		silent := make(chan error)
		behave = func(r *http.Request) (*http.Response, error) {
			if strings.HasSuffix(r.URL.Path, "silent") {
				<-r.Context().Done()
				return nil, r.Context().Err()
			}
			return nil, errors.New("down")
		}
		down := make(chan error)
		for key, ch := range map[string]chan error{"silent": silent, "k": down} {
			go func() {
				_, err := db.Get("cc", key)
				ch <- err
			}()
		}
		time.Sleep(time.Hour + time.Second)
		begun := time.Now()
		stop()
		if err := <-down; away(err) == nil || time.Since(begun) != 0 {
			t.Errorf("%v after %s", err, time.Since(begun))
		}
		if err := <-silent; away(err) == nil || time.Since(begun) != lastRequests {
			t.Errorf("%v after %s", err, time.Since(begun))
		}
		if _, err := db.Get("cc", "k"); away(err) == nil || time.Since(begun) != lastRequests {
			t.Errorf("%v after %s", err, time.Since(begun))
		}
		p.Close()
	})
}

// TestDatabaseThatWasPutBack: a server that comes back without what was written
// to it is not written to.
func TestDatabaseThatWasPutBack(t *testing.T) {
	f := couchtest.New()
	db := openFake(t, f)
	mustWrite(t, db, 1, "a", "1")
	mustWrite(t, db, 2, "a", "2")
	mustWrite(t, db, 2, "a", "2") // as a commit whose answer got lost
	f.Put("ch_", savepointID, map[string]any{"BlockNum": 1, "TxNum": 0})
	err := writes(t, db, 3, "a", "3")
	want := "apply state batch: the savepoint of the state database is at {BlockNum: 1, TxNum: 0}, but this peer left it at {BlockNum: 2, TxNum: 0}: the database was put back, or somebody else writes to it"
	if text(err) != want || away(err) != nil {
		t.Error(err)
	}
	expect(t, db, "a", "2")
	f.Put("ch_", savepointID, map[string]any{"BlockNum": 2, "TxNum": 0})
	mustWrite(t, db, 3, "a", "3")

	// The first batch after the start is bound to the savepoint that was read.
	again := openFake(t, f)
	if sp, err := again.Savepoint(); err != nil || sp.Block != 3 {
		t.Fatal(sp, err)
	}
	mustWrite(t, db, 4, "a", "4") // another peer on the same server
	if err := writes(t, again, 4, "a", "5"); err != nil {
		t.Errorf("the same block: %v", err)
	}
	if err := writes(t, db, 5, "a", "5"); err != nil {
		t.Errorf("nobody has moved the savepoint: %v", err)
	}
	if err := writes(t, again, 6, "a", "6"); err == nil {
		t.Error("a block is missing")
	}
}

// TestOvertaken: both ways in which a snapshot ends are told as what they are.
func TestOvertaken(t *testing.T) {
	for _, err := range []error{errMoved, errExpired} {
		if !errors.Is(err, state.ErrStale) || away(err) != nil {
			t.Errorf("%v", err)
		}
	}
}

// TestHeldSnapshots keep batches out from the beginning, so a query never comes
// too late.
func TestHeldSnapshots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := couchtest.New()
		hold := holding(f)
		db := openFake(t, f)
		mustWrite(t, db, 1, "a", "1")
		let := hold()
		applied := make(chan struct{}, 2)
		apply := func(block uint64) {
			mustWrite(t, db, block, "a", fmt.Sprint(block))
			applied <- struct{}{}
		}
		go apply(2)
		synctest.Wait()
		snaps := make(chan state.Snapshot)
		for _, nested := range []bool{false, true} {
			go func() {
				s, err := db.HeldSnapshot(nested)
				if err != nil {
					t.Error(err)
				}
				snaps <- s
			}()
		}
		synctest.Wait()
		select {
		case <-snaps:
			t.Error("there is a held snapshot beside a batch")
		default:
		}
		let()
		<-applied
		first, second := <-snaps, <-snaps
		go apply(3)
		for _, s := range []state.Snapshot{first, second} {
			expect(t, s, "a", "2")
			synctest.Wait()
			if got, err := ask(t, s); got != "a=2" || err != nil {
				t.Error(got, err)
			}
			if len(applied) != 0 {
				t.Error("a batch was written beside a held snapshot")
			}
			s.Release()
			s.Release()
		}
		<-applied
		db.p.Close()
	})
}

func TestHeldSnapshotOfHalfABatch(t *testing.T) {
	f := couchtest.New()
	down := false
	f.Intercept = func(w http.ResponseWriter, r *http.Request) bool {
		if down && strings.HasSuffix(r.URL.Path, "/_bulk_docs") {
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
		return false
	}
	db := openFake(t, f, func(c *Config) { c.MaxRetries, c.AutoWarmIndexes = 0, false })
	down = true
	if err := writes(t, db, 1, "a", "1"); away(err) == nil {
		t.Error(err)
	}
	for _, open := range []func() (state.Snapshot, error){
		db.Snapshot, db.NestedSnapshot, func() (state.Snapshot, error) { return db.HeldSnapshot(false) },
	} {
		if _, err := open(); away(err) == nil || errors.Is(err, state.ErrStale) {
			t.Errorf("a snapshot of half a block: %v", err)
		}
	}
	down = false
	mustWrite(t, db, 1, "a", "1") // nobody is inside any more
	expect(t, db, "a", "1")
}

// TestBookmarksAreTheServers, also after a part of a page in which nothing was
// found: chaincodes may pass them on, and all peers must say the same.
func TestBookmarksAreTheServers(t *testing.T) {
	for _, afterNothing := range []string{"", "nil", "as it was"} {
		var behave transport
		f := couchtest.New()
		cfg := testConfig(t, "couch:1") // pages of two
		cfg.AutoWarmIndexes = false
		db := openOver(t, f, cfg, &behave)
		mustWrite(t, db, 1, "a", "1", "b", "1", "c", "1", "d", "1")
		last := ""
		behave = func(r *http.Request) (*http.Response, error) {
			resp, err := direct{f}.RoundTrip(r)
			if err != nil || !strings.HasSuffix(r.URL.Path, "/_find") {
				return resp, err
			}
			var told struct {
				Docs     []json.RawMessage `json:"docs"`
				Bookmark string            `json:"bookmark"`
			}
			if err := json.NewDecoder(resp.Body).Decode(&told); err != nil {
				return nil, err
			}
			if len(told.Docs) == 0 && afterNothing != "as it was" {
				told.Bookmark = afterNothing
			}
			last = told.Bookmark
			body, err := json.Marshal(told)
			return reply(r, 200, "application/json", body), err
		}
		for limit := range int32(6) {
			it, err := db.Query("cc", state.Query{Text: anyDocument, Paged: true, Limit: limit + 1})
			got := results(t, it, err)
			if n := strings.Count(got, "="); n != min(int(limit+1), 4) {
				t.Errorf("limit %d: %s", limit+1, got)
			}
			if bookmark := it.Bookmark(); bookmark != last {
				t.Errorf("limit %d: bookmark %s, the server's is %s", limit+1, bookmark, last)
			}
		}
		db.p.Close()
	}
}

// TestIndexesAndTheServer: one that is away is worth waiting for, one that cannot
// stand a file is not.
func TestIndexesAndTheServer(t *testing.T) {
	const definition = `{"index":{"fields":["a"]},"ddoc":"d","name":"n","type":"json"}`
	for name, c := range map[string]struct {
		fails  func(r *http.Request) bool
		status int // 0: no answer
		want   bool
	}{
		"away":    {func(*http.Request) bool { return true }, 0, true},
		"chokes":  {func(r *http.Request) bool { return r.Method == http.MethodPost }, 0, false},
		"fails":   {func(*http.Request) bool { return true }, 500, false},
		"refuses": {func(*http.Request) bool { return true }, 400, false},
	} {
		var behave transport
		cfg := testConfig(t, "couch:1")
		cfg.MaxRetries, cfg.AutoWarmIndexes = 0, false
		f := couchtest.New()
		db := openOver(t, f, cfg, &behave)
		mustWrite(t, db, 1, "k", "v")
		behave = func(r *http.Request) (*http.Response, error) {
			if !c.fails(r) {
				return direct{f}.RoundTrip(r)
			}
			if c.status == 0 {
				return nil, errors.New("no answer")
			}
			return reply(r, c.status, "application/json", []byte(`{"error":"e","reason":"r"}`)), nil
		}
		err := db.CreateIndexes("cc", map[string][]byte{"i.json": []byte(definition)})
		if (away(err) != nil) != c.want || !c.want && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		db.p.Close()
	}
}

// TestRepetitionsTakeNoRoom: what an interrupted batch replaced is kept aside once,
// however often the batch is written again beside an old snapshot.
func TestRepetitionsTakeNoRoom(t *testing.T) {
	f := couchtest.New()
	down := false
	f.Intercept = func(w http.ResponseWriter, r *http.Request) bool {
		if down && strings.HasSuffix(r.URL.Path, "/_ensure_full_commit") { // after the documents
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
		return false
	}
	db := openFake(t, f, func(c *Config) { c.MaxRetries, c.AutoWarmIndexes = 0, false })
	mustWrite(t, db, 1, "a", "1", "b", "1")
	old := mustSnapshot(t, db)
	down = true
	for range 5 {
		if err := writes(t, db, 2, "a", "2", "c", "2"); away(err) == nil {
			t.Fatal(err)
		}
	}
	if n := len(db.views.layers); n != 1 {
		t.Errorf("%d layers", n)
	}
	check := func() {
		t.Helper()
		if got := scanned(t, old, "", ""); got != "a=1 b=1" {
			t.Error(got)
		}
		expect(t, old, "a", "1")
		expect(t, old, "c", "")
	}
	check()
	if err := writes(t, db, 2, "b", "2"); away(err) == nil { // not the same batch
		t.Fatal(err)
	}
	if n := len(db.views.layers); n != 2 {
		t.Errorf("%d layers", n)
	}
	check()
	down = false
	mustWrite(t, db, 2, "a", "2", "b", "2", "c", "2")
	check()
	mid := mustSnapshot(t, db)
	mustWrite(t, db, 3, "a", "3")
	check()
	if got := scanned(t, mid, "", ""); got != "a=2 b=2 c=2" {
		t.Error(got)
	}
	old.Release()
	mid.Release()
	if len(db.views.layers) != 0 || db.views.size != 0 {
		t.Errorf("%d layers of %d bytes are left", len(db.views.layers), db.views.size)
	}
}
