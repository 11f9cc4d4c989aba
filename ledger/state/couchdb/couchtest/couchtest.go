// Package couchtest has CouchDB servers for tests: a Fake in memory, written
// from LEDGER §5 and the recorded trace, and the starter of a real one that is
// run by Node.
//
// A Fake owns its databases and starts no goroutine; servers are ended by the
// test's clean-up. Tests only may import it.
package couchtest

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Fake is a CouchDB server. Its zero value is not ready; use New. The exported
// fields are set before it is used.
type Fake struct {
	Version            string // "3.3.3" by default
	Username, Password string // wanted from clients, if set
	// Inline makes documents come as JSON with their attachments inside, even
	// if parts are asked for.
	Inline bool
	// Gzip makes attachments come compressed in answers of parts.
	Gzip bool
	// NoFullCommit makes _ensure_full_commit unknown, as later servers have it.
	NoFullCommit bool
	// Pending is how many changes each index lacks, as it says.
	Pending int
	// Intercept sees each request first; if it returns true it has answered it.
	Intercept func(w http.ResponseWriter, r *http.Request) bool

	mu  sync.Mutex // guards dbs
	dbs map[string]*store
}

// New returns a server without databases.
func New() *Fake { return &Fake{Version: "3.3.3", dbs: map[string]*store{}} }

// Server starts a Fake for a test and returns its address.
func Server(t testing.TB) string { return Start(t, New()) }

// Start starts a server for a test and returns its address.
func Start(t testing.TB, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// Databases lists the databases, sorted.
func (f *Fake) Databases() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Sorted(maps.Keys(f.dbs))
}

// Documents returns the documents of a database by identifier, attachments
// included.
func (f *Fake) Documents(db string) map[string]map[string]any {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := map[string]map[string]any{}
	s := f.dbs[db]
	if s == nil {
		return nil
	}
	for id, d := range s.docs {
		if !d.deleted {
			out[id] = d.members(id, bodies)
		}
	}
	return out
}

// Drop deletes a database, as an administrator might.
func (f *Fake) Drop(db string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.dbs, db)
}

// Put writes a document whatever its revision, as an administrator might; the
// database is created if need be.
func (f *Fake) Put(db, id string, members map[string]any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.dbs[db]
	if s == nil {
		s = newStore()
		f.dbs[db] = s
	}
	now := s.docs[id]
	if now == nil {
		now = &doc{}
	}
	d := &doc{body: maps.Clone(members), number: now.number + 1}
	for _, name := range []string{"_id", "_rev", "_attachments"} {
		delete(d.body, name)
	}
	s.store(id, d)
}

// Clone returns a server with the same documents and no settings.
func (f *Fake) Clone() *Fake {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := New()
	for name, s := range f.dbs {
		// Documents are replaced, never changed.
		out.dbs[name] = &store{docs: maps.Clone(s.docs), ids: slices.Clone(s.ids), security: s.security, indexes: slices.Clone(s.indexes)}
	}
	return out
}
