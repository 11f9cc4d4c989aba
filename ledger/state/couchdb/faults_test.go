package couchdb

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heddle-ledger/heddle/ledger/state"
	"github.com/heddle-ledger/heddle/ledger/state/couchdb/couchtest"
)

// transport is a server as a function.
type transport func(r *http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func reply(r *http.Request, status int, contentType string, body []byte) *http.Response {
	return &http.Response{
		StatusCode: status, Header: http.Header{"Content-Type": {contentType}},
		Body: io.NopCloser(bytes.NewReader(body)), Request: r,
	}
}

// openOver opens a channel over a server that behaves until it is told not to.
func openOver(t testing.TB, f *couchtest.Fake, cfg Config, behave *transport) *DB {
	t.Helper()
	p, err := openProvider(context.Background(), cfg, transport(func(r *http.Request) (*http.Response, error) {
		if *behave != nil {
			return (*behave)(r)
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
	return db.(*DB)
}

func TestRepetitions(t *testing.T) {
	for name, c := range map[string]struct {
		fail   transport
		times  int
		want   string
		waited time.Duration
	}{
		"comes back": {func(r *http.Request) (*http.Response, error) {
			return reply(r, 503, "application/json", []byte(`{"error":"busy","reason":"try again"}`)), nil
		}, 3, "", 875 * time.Millisecond},
		"stays away": {func(r *http.Request) (*http.Response, error) {
			return reply(r, 500, "application/json", []byte(`{"error":"broken","reason":"no reason"}`)), nil
		}, 4, "error handling CouchDB request. Error:broken,  Status Code:500,  Reason:no reason", 875 * time.Millisecond},
		"not JSON": {func(r *http.Request) (*http.Response, error) {
			return reply(r, 502, "text/html", []byte("<html>\nBad Gateway")), nil
		}, 4, `error handling CouchDB request. Error:answer is not JSON,  Status Code:502,  Reason:"<html>\nBad Gateway"`, 875 * time.Millisecond},
		"refuses": {func(r *http.Request) (*http.Response, error) {
			return reply(r, 401, "application/json", []byte(`{"error":"unauthorized","reason":"no"}`)), nil
		}, 1, "error handling CouchDB request. Error:unauthorized,  Status Code:401,  Reason:no", 0},
		"redirects": {func(r *http.Request) (*http.Response, error) {
			resp := reply(r, 302, "text/plain", nil)
			resp.Header.Set("Location", "http://elsewhere/")
			return resp, nil
		}, 1, "error handling CouchDB request. Error:Found,  Status Code:302,  Reason:", 0},
		"no connection": {func(*http.Request) (*http.Response, error) {
			return nil, errors.New("connection refused")
		}, 4, `http error calling couchdb: Get "http://couch:5984/ch_cc/k?attachments=true": connection refused`, 875 * time.Millisecond},
		"half an answer": {func(r *http.Request) (*http.Response, error) {
			resp := reply(r, 200, "application/json", nil)
			resp.Body = io.NopCloser(io.MultiReader(strings.NewReader(`{"_id":`), failing{io.ErrUnexpectedEOF}))
			return resp, nil
		}, 2, "", 375 * time.Millisecond},
		"silence": {func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		}, 4, "context deadline exceeded", 4*time.Second + 875*time.Millisecond},
		"too much": {func(r *http.Request) (*http.Response, error) {
			resp := reply(r, 200, "application/json", nil)
			resp.Body = io.NopCloser(io.LimitReader(zeros{}, 1<<40))
			return resp, nil
		}, 1, "the answer of CouchDB is too large: more than 1000 bytes", 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := couchtest.New()
				var behave transport
				cfg := testConfig(t, "couch:5984")
				cfg.RequestTimeout, cfg.AutoWarmIndexes = time.Second, false
				db := openOver(t, f, cfg, &behave)
				mustWrite(t, db, 1, "k", "v")
				left := c.times
				behave = func(r *http.Request) (*http.Response, error) {
					if left > 0 {
						left--
						return c.fail(r)
					}
					return direct{f}.RoundTrip(r)
				}
				db.p.c.maxAnswer = 1000
				begun := time.Now()
				v, err := db.Get("cc", "k")
				if got := time.Since(begun); got != c.waited {
					t.Errorf("took %s", got)
				}
				if left != 0 {
					t.Errorf("%d attempts too few", left)
				}
				if c.want == "" && (err != nil || string(v.Value) != "v") || c.want != "" && !strings.Contains(text(err), c.want) {
					t.Errorf("%+v, %v", v, err)
				}
				behave = nil
				db.p.Close()
			})
		})
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestCloseEndsWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var behave transport
		cfg := testConfig(t, "couch:5984")
		cfg.MaxRetries = 60
		db := openOver(t, couchtest.New(), cfg, &behave)
		behave = func(*http.Request) (*http.Response, error) { return nil, errors.New("down") }
		done := make(chan error)
		go func() {
			_, err := db.Savepoint()
			done <- err
		}()
		time.Sleep(time.Hour)
		db.p.Close()
		if err := <-done; !errors.Is(err, errClosed) {
			t.Error(err)
		}
	})
}

func TestStart(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Config, *couchtest.Fake)
		want   string
	}{
		"fine":           {func(*Config, *couchtest.Fake) {}, ""},
		"version 2":      {func(_ *Config, f *couchtest.Fake) { f.Version = "2.1.1" }, ""},
		"version 10":     {func(_ *Config, f *couchtest.Fake) { f.Version = "10.0.0-rc" }, ""},
		"version 1":      {func(_ *Config, f *couchtest.Fake) { f.Version = "1.6.1" }, "CouchDB must be at least version 2.0.0. Detected version 1.6.1"},
		"no version":     {func(_ *Config, f *couchtest.Fake) { f.Version = "" }, "CouchDB must be at least version 2.0.0. Detected version "},
		"retries":        {func(c *Config, _ *couchtest.Fake) { c.MaxRetries = -1 }, "number of retries must be zero or greater"},
		"retries, start": {func(c *Config, _ *couchtest.Fake) { c.MaxRetriesOnStartup = -1 }, "number of retries must be zero or greater"},
		"URL":            {func(c *Config, _ *couchtest.Fake) { c.Address = "http://" + c.Address + "/" }, ""},
		"path":           {func(c *Config, _ *couchtest.Fake) { c.Address += "/couch" }, "address of CouchDB must be"},
		"scheme":         {func(c *Config, _ *couchtest.Fake) { c.Address = "ftp://x:1" }, "address of CouchDB must be"},
		"user in URL":    {func(c *Config, _ *couchtest.Fake) { c.Address = "http://u:secret@x:1" }, "is [http://u:xxxxx@x:1]"},
		"no address":     {func(c *Config, _ *couchtest.Fake) { c.Address = "" }, "address of CouchDB must be"},
		"bad root":       {func(c *Config, _ *couchtest.Fake) { c.RootCAs = [][]byte{[]byte("x")} }, "no certificate in PEM form"},
		"wrong password": {func(c *Config, f *couchtest.Fake) { c.Username, c.Password, f.Username = "u", "p", "other" }, "Status Code:401"},
	} {
		t.Run(name, func(t *testing.T) {
			f := couchtest.New()
			cfg := testConfig(t, couchtest.Start(t, f))
			c.change(&cfg, f)
			p, err := OpenProvider(t.Context(), cfg)
			if err == nil {
				defer p.Close()
			}
			if (err == nil) != (c.want == "") || !strings.Contains(text(err), c.want) {
				t.Errorf("%v", err)
			}
			if err == nil && fmt.Sprint(f.Databases()) != "[_replicator _users]" {
				t.Errorf("databases %v", f.Databases())
			}
		})
	}
}

func TestStartWaitsForTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := couchtest.New()
		down := 5
		cfg := testConfig(t, "couch:5984")
		cfg.MaxRetriesOnStartup, cfg.CreateGlobalChangesDB = 12, true
		begun := time.Now()
		p, err := openProvider(t.Context(), cfg, transport(func(r *http.Request) (*http.Response, error) {
			if down--; down >= 0 {
				return nil, errors.New("connection refused")
			}
			return direct{f}.RoundTrip(r)
		}))
		if err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(begun); waited != 31*firstWait {
			t.Errorf("waited %s", waited)
		}
		if got := fmt.Sprint(f.Databases()); got != "[_global_changes _replicator _users]" {
			t.Errorf("databases %s", got)
		}
		p.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = openProvider(ctx, cfg, transport(func(*http.Request) (*http.Response, error) { return nil, errors.New("down") }))
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}

func TestHTTPS(t *testing.T) {
	f := couchtest.New()
	s := httptest.NewUnstartedServer(f)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	s.StartTLS()
	defer s.Close()
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	cfg := testConfig(t, s.URL)
	cfg.RootCAs = [][]byte{root}
	p := openAt(t, cfg)
	defer p.Close()
	if err := p.HealthCheck(t.Context()); err != nil {
		t.Error(err)
	}
	cfg.RootCAs = nil
	if _, err := OpenProvider(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate of nobody is believed: %v", err)
	}
}

func TestHealthCheck(t *testing.T) {
	f := couchtest.New()
	s := httptest.NewServer(f)
	p := openAt(t, testConfig(t, strings.TrimPrefix(s.URL, "http://")))
	defer p.Close()
	if err := p.HealthCheck(t.Context()); err != nil {
		t.Error(err)
	}
	s.Close()
	want := `failed to connect to couch db [http error calling couchdb: Head "` + s.URL + `": dial tcp `
	if err := p.HealthCheck(t.Context()); !strings.HasPrefix(text(err), want) || !strings.HasSuffix(text(err), "connection refused]") {
		t.Error(err)
	}
}

// TestRefusedDocuments: somebody else wrote to documents of a batch.
func TestRefusedDocuments(t *testing.T) {
	f := couchtest.New()
	db := openFake(t, f)
	mustWrite(t, db, 1, "a", "1", "b", "1", "c", "1", "d", "1")
	lookups := []state.Lookup{{Namespace: "cc", Key: "a"}, {Namespace: "cc", Key: "b"}, {Namespace: "cc", Key: "new"}}
	if err := db.Versions(lookups); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"a", "b", "c", "new", "gone"} {
		f.Put("ch_cc", id, map[string]any{"by": "an administrator", "~version": "9:9"})
	}
	mustWrite(t, db, 2, "a", "2", "b", "", "c", "", "new", `{"n":2}`, "gone", "", "absent", "")
	for key, want := range map[string]string{"a": "2", "b": "", "c": "", "d": "1", "new": `{"n":2}`, "gone": ""} {
		expect(t, db, key, want)
	}
	mustWrite(t, db, 3, "a", "3", "new", "", "b", "3") // with the revisions of the single writes
	for key, want := range map[string]string{"a": "3", "b": "3", "new": ""} {
		expect(t, db, key, want)
	}
}

// TestLongKeys do not fit into the first line of a request.
func TestLongKeys(t *testing.T) {
	f := couchtest.New()
	f.Intercept = func(w http.ResponseWriter, r *http.Request) bool {
		if len(r.URL.EscapedPath()) > 8000 {
			w.WriteHeader(http.StatusRequestURITooLong)
			return true
		}
		return false
	}
	db := openFake(t, f)
	long := strings.Repeat("é", 5000)
	mustWrite(t, db, 1, long, "1", long+"2", `{"n":1}`)
	expect(t, db, long, "1")
	expect(t, db, long+"2", `{"n":1}`)
	expect(t, db, long+"3", "")
	f.Put("ch_cc", long, map[string]any{"~version": "9:9"}) // so that they are written singly
	f.Put("ch_cc", long+"2", map[string]any{"~version": "9:9"})
	mustWrite(t, db, 2, long, "2", long+"2", "")
	expect(t, db, long, "2")
	expect(t, db, long+"2", "")
}

// TestSingleWritesConflict: the document changes again between the look at its
// revision and the write.
func TestSingleWritesConflict(t *testing.T) {
	f := couchtest.New()
	races := 0
	f.Intercept = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/ch_cc/a" && r.Method == http.MethodPut && races > 0 {
			races--
			f.Put("ch_cc", "a", map[string]any{"race": races, "~version": "9:9"})
		}
		return false
	}
	db := openFake(t, f)
	mustWrite(t, db, 1, "a", "1")
	f.Put("ch_cc", "a", map[string]any{"~version": "9:9"})
	races = 3
	mustWrite(t, db, 2, "a", "2")
	expect(t, db, "a", "2")
	f.Put("ch_cc", "a", map[string]any{"~version": "9:9"})
	races = 100
	err := writes(t, db, 3, "a", "3")
	if want := "error saving document ID: a. Error: conflict,  Reason: Document update conflict."; !strings.Contains(text(err), want) {
		t.Error(err)
	}
}

// TestDatabaseGoneIsNamed when a batch is applied.
func TestDatabaseGoneIsNamed(t *testing.T) {
	for _, name := range []string{"ch_cc", "ch_"} {
		f := couchtest.New()
		db := openFake(t, f)
		mustWrite(t, db, 1, "a", "1")
		f.Drop(name)
		err := writes(t, db, 2, "b", "2")
		if want := "database [" + name + "]: "; !strings.Contains(text(err), want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestFullCommitThatFails(t *testing.T) {
	f := couchtest.New()
	body, status := `{"ok":false}`, 201
	f.Intercept = func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/_ensure_full_commit") {
			w.WriteHeader(status)
			io.WriteString(w, body)
			return true
		}
		return false
	}
	db := openFake(t, f)
	if err := writes(t, db, 1, "a", "1"); text(err) != "apply state batch: failed to perform full commit" {
		t.Error(err)
	}
	for _, c := range []struct {
		status int
		body   string
		fine   bool
	}{
		{410, `{"error":"gone","reason":"no more"}`, true},
		{404, `{"error":"not_found","reason":"missing"}`, true},
		{405, ``, true},
		{404, `{"error":"not_found","reason":"Database does not exist."}`, false},
		{403, `{"error":"forbidden","reason":"no"}`, false},
		{201, `[]`, false},
	} {
		status, body = c.status, c.body
		if err := writes(t, db, 1, "a", "1"); (err == nil) != c.fine {
			t.Errorf("%d %s: %v", c.status, c.body, err)
		}
	}
}

// TestDatabaseThatIsGone is not the same as documents that are absent.
func TestDatabaseThatIsGone(t *testing.T) {
	db := openFake(t, couchtest.New())
	mustWrite(t, db, 1, "a", "1")
	if err := db.p.database("ch_cc").drop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if v, err := db.Get("cc", "a"); err == nil {
		t.Errorf("%+v", v)
	}
	if err := db.Versions([]state.Lookup{{Namespace: "cc", Key: "b"}}); err == nil {
		t.Error("versions of a database that is gone")
	}
	if err := writes(t, db, 2, "b", "1"); err == nil {
		t.Error("a write to a database that is gone")
	}
}

// openHostile opens a channel over a server that answers everything in one way.
func openHostile(t testing.TB, status int, contentType string, body []byte) *DB {
	t.Helper()
	var behave transport
	cfg := Config{Address: "couch:1", InternalQueryLimit: 2, MaxBatchUpdateSize: 2, AutoWarmIndexes: true}
	db := openOver(t, couchtest.New(), cfg, &behave)
	mustWrite(t, db, 1, "k", "v")
	db.p.Close()
	db.revs.clear()
	behave = func(r *http.Request) (*http.Response, error) { return reply(r, status, contentType, body), nil }
	db.p.c.maxAnswer = 1 << 20
	return db
}

// useAll makes every kind of request, and returns the errors.
func useAll(db *DB) map[string]error {
	errs := map[string]error{}
	keep := func(name string, it state.Iterator, err error) {
		for n := 0; err == nil && n < 100; n++ {
			var kv *state.KV
			if kv, err = it.Next(); kv == nil {
				break
			}
		}
		errs[name] = err
	}
	_, errs["get"] = db.Get("cc", "k")
	_, errs["get of a long key"] = db.Get("cc", strings.Repeat("k", 5000))
	_, errs["get many"] = db.GetMany("cc", []string{"k", "l", "m"})
	errs["versions"] = db.Versions([]state.Lookup{{Namespace: "cc", Key: "k"}, {Namespace: "cc", Key: "l"}})
	_, errs["savepoint"] = db.Savepoint()
	it, err := db.Range("cc", "a", "z", 0)
	keep("range", it, err)
	it, err = db.Query("cc", state.Query{Text: `{"selector":{}}`})
	keep("query", it, err)
	b := state.NewBatch()
	b.Put("cc", state.Write{Key: "k", Value: []byte("v")})
	errs["apply"] = db.Apply(b, &state.Version{Block: 2}, false)
	errs["warm"] = db.p.database("ch_cc").warmAll(context.Background())
	errs["index"] = db.p.database("ch_cc").createIndex(context.Background(), []byte("{}"))
	errs["drop"] = db.p.DropChannels(context.Background(), []string{"ch"})
	errs["connect"] = db.p.connect(context.Background())
	return errs
}

func TestHostileAnswers(t *testing.T) {
	for _, body := range []string{
		``, `null`, `[]`, `{}`, `{"rows":null}`, `{"rows":[]}`, `{"rows":[{}]}`, `{"rows":[{"key":"k"},{"key":"l"},{"key":"z"}]}`, `"x"`, `{"rows":{`, `<html>`,
		`{"rows":[{"id":"k","key":"k","doc":{"_rev":1}}]}`, `{"rows":[{"id":"k","key":"k","doc":[]}]}`, `{"docs":[{}]}`, `{"docs":[1]}`,
		`[{"id":"k"}]`, `[{"id":"other","rev":"1-x"}]`, `{"BlockNum":"x","TxNum":0,"_rev":"1-x"}`,
		`{"rows":[{"id":"z","key":"z","doc":{"~version":"1:1"}},{"id":"a","key":"a","doc":{"~version":"1:1"}},{"id":"a","key":"a","doc":{"~version":"1:1"}}]}`,
	} {
		for name, err := range useAll(openHostile(t, 200, "application/json", []byte(body))) {
			quiet := (name == "warm" || name == "index") && json.Valid([]byte(body)) || name == "drop" && (body == "null" || body == "[]") ||
				body == `{"rows":[]}` && name == "range"
			if err == nil && !quiet {
				t.Errorf("%s is a fine answer to %s", body, name)
			}
		}
	}
	for _, body := range []string{
		"", "--b", "--b--", "--b\r\n\r\n{}\r\n--b--", "--b\r\n\r\n{}", "--b\r\nContent-Encoding: gzip\r\n\r\nno\r\n--b--",
		"--b\r\n\r\n" + `{"~version":"1:1","_attachments":{"valueBytes":{"follows":true}}}` + "\r\n--b--",
	} {
		db := openHostile(t, 200, "multipart/related; boundary=b", []byte(body))
		if v, err := db.Get("cc", "k"); err == nil {
			t.Errorf("%q gives %+v", body, v)
		}
	}
}

// TestLargeAnswers are asked for in parts.
func TestLargeAnswers(t *testing.T) {
	db := openFake(t, couchtest.New(), func(c *Config) { c.InternalQueryLimit = 100 })
	big := strings.Repeat("x", 1000)
	var pairs []string
	for i := range 20 {
		pairs = append(pairs, fmt.Sprintf("k%02d", i), fmt.Sprintf(`{"v":%q}`, big))
	}
	mustWrite(t, db, 1, pairs...)
	db.revs.clear()
	db.p.c.maxAnswer = 5000
	it, err := db.Range("cc", "", "", 0)
	if got := strings.Count(results(t, it, err), "="); got != 20 {
		t.Errorf("range: %d results", got)
	}
	it, err = db.Query("cc", state.Query{Text: anyDocument})
	if got := strings.Count(results(t, it, err), "="); got != 20 {
		t.Errorf("query: %d results", got)
	}
	var keys []string
	var lookups []state.Lookup
	for i := range 20 {
		keys = append(keys, fmt.Sprintf("k%02d", i))
		lookups = append(lookups, state.Lookup{Namespace: "cc", Key: keys[i]})
	}
	many, err := db.GetMany("cc", keys)
	if err != nil || many[19] == nil {
		t.Error(err)
	}
	if err := db.Versions(lookups); err != nil || !lookups[19].Found {
		t.Error(err)
	}
}

// script is a short chain; each block may be applied again.
func script(block uint64) *state.Batch {
	b := state.NewBatch()
	for i := range 7 {
		w := state.Write{
			Key: fmt.Sprintf("k%d", (int(block)*3+i)%10), Value: fmt.Appendf(nil, `{"b":%d}`, block), Delete: (int(block)+i)%4 == 0,
			Version: state.Version{Block: block, Tx: uint64(i)},
		}
		if i%2 == 0 {
			w.Value = fmt.Appendf(nil, "block %d", block)
		}
		b.Put([]string{"cc", "other", "cc$$hcoll"}[i%3], w)
	}
	return b
}

const scriptBlocks = 4

// TestStopAtEveryRequest: the peer, or the server, stops at the n-th request,
// which is lost or is answered in vain; afterwards blocks are applied again from
// the savepoint on.
func TestStopAtEveryRequest(t *testing.T) {
	want := crash(t, 1<<60, false)
	for _, done := range []bool{false, true} {
		n := int64(1)
		for ; ; n++ {
			got := crash(t, n, done)
			if got == nil {
				break
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("stopped at request %d, done %v: %s", n, done, diff)
			}
		}
		if n < 30 {
			t.Errorf("only %d requests", n)
		}
	}
}

// crash returns the documents at the end, nil if the script ended before the n-th
// request.
func crash(t *testing.T, n int64, done bool) map[string]map[string]string {
	t.Helper()
	f := couchtest.New()
	var count atomic.Int64
	stopped := errors.New("stopped")
	cfg := Config{Address: "couch:1", InternalQueryLimit: 2, MaxBatchUpdateSize: 2}
	p, err := openProvider(context.Background(), cfg, transport(func(r *http.Request) (*http.Response, error) {
		at := count.Add(1)
		if at > n || at == n && !done {
			return nil, stopped
		}
		resp, err := direct{f}.RoundTrip(r)
		if at == n {
			return nil, stopped
		}
		return resp, err
	}))
	if err == nil {
		err = applyScript(p)
		p.Close()
	}
	if n < 1<<60 {
		if err == nil {
			return nil
		}
		if !errors.Is(err, stopped) {
			t.Fatal(err)
		}
		p, err = openProvider(context.Background(), cfg, direct{f})
		if err == nil {
			err = applyScript(p)
			p.Close()
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]map[string]map[string]any{}
	for _, db := range f.Databases() {
		all[db] = f.Documents(db)
	}
	return comparable(t, all)
}

// applyScript goes on after the savepoint.
func applyScript(p *Provider) error {
	db, err := p.Open("ch")
	if err != nil {
		return err
	}
	sp, err := db.Savepoint()
	if err != nil {
		return err
	}
	next := uint64(0)
	if sp != nil {
		next = sp.Block + 1
	}
	for ; next < scriptBlocks; next++ {
		if err := db.Apply(script(next), &state.Version{Block: next}, true); err != nil {
			return err
		}
	}
	return nil
}

// TestHeavyDocuments are asked for in smaller groups once their weight is known,
// or guessed, so that not too much comes at once.
func TestHeavyDocuments(t *testing.T) {
	const heavy, n = maxGroupBytes / 8, 20
	f := couchtest.New()
	var mu sync.Mutex
	most := map[string]int{} // documents in an answer, by method
	note := func(r *http.Request, body []byte) {
		var told struct {
			Rows []struct{ Doc map[string]any }
		}
		if !strings.HasSuffix(r.URL.Path, "cc/_all_docs") || json.Unmarshal(body, &told) != nil {
			return
		}
		here := 0
		for _, row := range told.Rows {
			if row.Doc != nil {
				here++
			}
		}
		mu.Lock()
		defer mu.Unlock()
		key := r.Method + " " + r.URL.Query().Get("attachments")
		most[key] = max(most[key], here)
	}
	behave := transport(func(r *http.Request) (*http.Response, error) {
		resp, err := direct{f}.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(resp.Body)
		note(r, body)
		resp.Body = io.NopCloser(bytes.NewReader(body))
		return resp, err
	})
	cfg := Config{Address: "couch:1"}
	db := openOver(t, f, cfg, &behave)
	defer db.p.Close()
	pairs := func(size int) (out []string) {
		for i := range n {
			out = append(out, fmt.Sprintf("k%02d", i), strings.Repeat("x", size))
		}
		return out
	}
	mustWrite(t, db, 1, pairs(heavy)...)
	s := mustSnapshot(t, db)
	mustWrite(t, db, 2, pairs(heavy)...) // what it replaces must be about as large
	s.Release()
	it, err := db.Range("cc", "", "", 0)
	if got := strings.Count(results(t, it, err), "="); got != n {
		t.Errorf("%d results", got)
	}
	if most["POST true"] > 8 || most["GET true"] > 9 {
		t.Errorf("most documents in an answer: %v", most)
	}
	lookups := []state.Lookup{}
	for i := range n {
		lookups = append(lookups, state.Lookup{Namespace: "cc", Key: fmt.Sprintf("k%02d", i)})
	}
	db.revs.clear()
	must(t, db.Versions(lookups)) // without their attachments they are light
	if most["POST "] != n {
		t.Errorf("most documents in an answer: %v", most)
	}
	mustWrite(t, db, 3, pairs(10)...)
	clear(most)
	for range 40 { // light ones count by and by
		it, err := db.Range("cc", "", "", 0)
		results(t, it, err)
	}
	if most["GET true"] != n {
		t.Errorf("most documents in an answer: %v", most)
	}
}
