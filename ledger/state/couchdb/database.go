package couchdb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"

	"github.com/heddle-ledger/heddle/internal/flog"
)

// database is one database of the server. Its methods are safe for concurrent
// use.
type database struct {
	c    *client
	name string

	mu    sync.Mutex // serialises the creation; guards ready
	ready bool

	commits atomic.Int64 // since the indexes were last warmed
	light   weight       // of documents without their attachments
	whole   weight       // of documents with them
}

// weight is what a document weighs in an answer, in bytes; about, and 0 if that is
// not known.
type weight struct{ bytes atomic.Int64 }

// maxGroupBytes is about how many bytes of documents are asked for at a time.
const maxGroupBytes = 8 << 20

// groupOf is how many documents to ask for, at most so many, without too much
// coming at once.
func (w *weight) groupOf(most int) int {
	return int(min(int64(most), max(1, maxGroupBytes/max(1, w.bytes.Load()))))
}

// weigh notes how much documents weighed. A few large ones count at once, small
// ones by and by.
func (w *weight) weigh(rows []row) {
	var size, n int64
	for i := range rows {
		if !rows[i].absent() {
			size += int64(len(rows[i].Doc))
			n++
		}
	}
	if n > 0 {
		w.bytes.Store(max(size/n, (3*w.bytes.Load()+size/n)/4))
	}
}

// ensure creates the database unless it is known to be there, and makes the user
// its only administrator and member (LEDGER §5.1).
func (d *database) ensure(ctx context.Context, retries int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ready {
		return nil
	}
	exists, err := d.exists(ctx, retries)
	if err == nil && !exists {
		err = d.create(ctx, retries)
	}
	if err == nil {
		err = d.secure(ctx, retries)
	}
	if err != nil {
		return fmt.Errorf("database [%s]: %w", d.name, err)
	}
	d.ready = true
	return nil
}

// named says of which database an error of the server is; those of requests that
// got no answer have the address.
func (d *database) named(err error) error {
	var refusal *serverError
	if errors.As(err, &refusal) {
		return fmt.Errorf("database [%s]: %w", d.name, err)
	}
	return err
}

func (d *database) exists(ctx context.Context, retries int) (bool, error) {
	_, err := d.c.do(ctx, request{
		function: "GetDatabaseInfo", database: d.name, method: http.MethodGet, retries: retries,
	})
	if refused(err, http.StatusNotFound) {
		return false, nil
	}
	return err == nil, err
}

// create forgives an error if the database is there all the same: somebody else
// may have been faster, or an answer was lost.
func (d *database) create(ctx context.Context, retries int) error {
	_, err := d.c.do(ctx, request{
		function: "CreateDatabaseIfNotExist", database: d.name, method: http.MethodPut, retries: retries,
	})
	if err == nil {
		d.c.log.Infof("Created state database %s", d.name)
		return nil
	}
	if exists, again := d.exists(ctx, retries); again != nil || !exists {
		return errors.Join(err, again)
	}
	return nil
}

// people and security are the body of PUT _security.
type (
	people struct {
		Names []string `json:"names"`
		Roles []string `json:"roles"`
	}
	security struct {
		Admins  people `json:"admins"`
		Members people `json:"members"`
	}
)

func (d *database) secure(ctx context.Context, retries int) error {
	if d.c.user == "" && d.c.pass == "" {
		return nil
	}
	only := people{Names: []string{d.c.user}, Roles: []string{}}
	body, err := json.Marshal(security{Admins: only, Members: only})
	if err != nil {
		return err
	}
	_, err = d.c.do(ctx, request{
		function: "ApplyDatabaseSecurity", database: d.name, method: http.MethodPut,
		path: []string{"_security"}, body: body, retries: retries,
	})
	return err
}

// commitFully asks CouchDB to write everything to disk. Servers that do so
// anyway have no such request any more.
func (d *database) commitFully(ctx context.Context, missing *sync.Once) error {
	a, err := d.c.call(ctx, request{
		function: "EnsureFullCommit", database: d.name, method: http.MethodPost, path: []string{"_ensure_full_commit"},
	})
	if gone(err) {
		missing.Do(func() {
			d.c.log.Debugf("CouchDB does not know _ensure_full_commit; it needs none: %v", flog.ForeignError(err))
		})
		return nil
	}
	if err != nil {
		return fmt.Errorf("database [%s]: %w", d.name, err)
	}
	var told struct{ OK bool }
	if json.Unmarshal(a.body, &told) != nil || !told.OK {
		return errors.New("failed to perform full commit")
	}
	return nil
}

// gone tells whether the server does not know a request, or what it asks for, as
// opposed to the database.
func gone(err error) bool {
	var e *serverError
	if !errors.As(err, &e) || e.foreign {
		return false
	}
	switch e.status {
	case http.StatusGone, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return true
	case http.StatusNotFound:
		return e.reason != "Database does not exist." && e.reason != "no_db_file"
	}
	return false
}

// drop deletes the database; it may be absent.
func (d *database) drop(ctx context.Context) error {
	_, err := d.c.call(ctx, request{function: "DropDatabase", database: d.name, method: http.MethodDelete})
	if refused(err, http.StatusNotFound) {
		return nil
	}
	return err
}

// get reads one document with its attachment, nil if it is absent.
func (d *database) get(ctx context.Context, id string) (*document, error) {
	if len(id) > maxIDInPath {
		docs, err := d.readMany(ctx, []string{id})
		if err != nil {
			return nil, err
		}
		return docs[0], nil
	}
	a, err := d.fetch(ctx, id)
	if err != nil || a == nil {
		return nil, err
	}
	doc, err := a.document()
	if err != nil {
		return nil, fmt.Errorf("database [%s]: document [%s]: %w", d.name, id, err)
	}
	if doc.deleted {
		return nil, nil
	}
	return doc, nil
}

// maxIDInPath is the length in bytes from which an identifier is sent in a body:
// percent-encoded it might be too long for the first line of a request.
const maxIDInPath = 1500

// fetch asks for a document as it is, nil if it is absent.
func (d *database) fetch(ctx context.Context, id string) (*answer, error) {
	a, err := d.c.call(ctx, request{
		function: "ReadDoc", database: d.name, method: http.MethodGet, path: []string{id},
		query: url.Values{"attachments": {"true"}}, max: d.c.maxAnswer,
	})
	if refused(err, http.StatusNotFound) && gone(err) { // the document, not the database
		return nil, nil
	}
	return a, err
}
