package couchdb

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/heddle-ledger/heddle/ledger/state"
)

// Viewer looks at the databases of a server and changes nothing: it sends no
// request that creates, writes or indexes. Its errors name the server's address,
// the cause and the remedy.
type Viewer struct{ p *Provider }

// OpenViewer connects to the server and checks its version. MaxRetries counts,
// MaxRetriesOnStartup does not: nobody waits for a server that is down.
func OpenViewer(ctx context.Context, cfg Config) (*Viewer, error) {
	return openViewer(ctx, cfg, nil)
}

func openViewer(ctx context.Context, cfg Config, transport http.RoundTripper) (*Viewer, error) {
	p, _, err := newProvider(ctx, cfg, transport)
	if err != nil {
		return nil, err
	}
	p.c.readOnly = true
	v := &Viewer{p}
	if err := p.greet(ctx, cfg.MaxRetries); err != nil {
		return nil, errors.Join(v.explain(err), p.Close())
	}
	return v, nil
}

// Close ends the connections.
func (v *Viewer) Close() error { return v.p.Close() }

// Address is the server's, without user and password.
func (v *Viewer) Address() string { return v.p.c.base.String() }

// explain says of an error where it happened and what is to be done.
func (v *Viewer) explain(err error) error {
	var refusal *serverError
	var untrusted *tls.CertificateVerificationError
	const settings = "ledger.state.couchDBConfig."
	at := v.Address()
	switch {
	case err == nil, errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &untrusted):
		return fmt.Errorf("CouchDB at %s: its certificate is not trusted: %w. Set %stls.rootCert.file to the certificate of its authority", at, err, settings)
	case errors.As(err, &refusal) && (refusal.status == http.StatusUnauthorized || refusal.status == http.StatusForbidden):
		who := "whoever has no user name and password"
		if c := v.p.c; c.user != "" && c.pass != "" {
			who = fmt.Sprintf("user [%s] with the password given", c.user)
		}
		return fmt.Errorf("CouchDB at %s refuses %s: %w. Set %susername and password to those of an administrator of the server", at, who, err, settings)
	case errors.Is(err, errTransport):
		return fmt.Errorf("CouchDB at %s cannot be reached: %w. Start it, or set %scouchDBAddress to where it is", at, err, settings)
	case errors.As(err, &refusal) && refusal.foreign:
		return fmt.Errorf("at %s something answers that is not CouchDB: %w. Set %scouchDBAddress to where CouchDB is", at, err, settings)
	case refused(err, http.StatusNotFound):
		return fmt.Errorf("CouchDB at %s: a database went away while it was read: %w. Let nobody change the server, and repeat", at, err)
	}
	return fmt.Errorf("CouchDB at %s: %w", at, err)
}

// fromServer tells an error of the server, or of the way to it, from one of what
// it holds.
func fromServer(err error) bool {
	var refusal *serverError
	var away *state.UnreachableError
	return errors.As(err, &refusal) || errors.As(err, &away) || errors.Is(err, errTransport) || errors.Is(err, context.Canceled)
}

// View is the state of one channel as it lies on the server.
type View struct {
	v       *Viewer
	channel string
	// MetadataDB is the database that has the savepoint.
	MetadataDB string
}

// Channel looks at a channel. The error is that it can have no databases.
func (v *Viewer) Channel(id string) (*View, error) {
	name, err := metadataDB(id)
	if err != nil {
		return nil, err
	}
	return &View{v: v, channel: id, MetadataDB: name}, nil
}

// Server is whose view it is.
func (w *View) Server() *Viewer { return w.v }

// URL is where a database lies.
func (w *View) URL(database string) string { return w.v.Address() + "/" + database }

// SavepointID is the document of the metadata database that has the savepoint.
const SavepointID = savepointID

// DocumentError says that a document does not decode.
type DocumentError struct {
	Database, ID string
	Err          error
}

func (e *DocumentError) Error() string {
	return fmt.Sprintf("document [%s] of database [%s]: %v", e.ID, e.Database, e.Err)
}

func (e *DocumentError) Unwrap() error { return e.Err }

// Savepoint is the last block that the state has; nil if there is none. Of one
// that does not decode, the error is a *DocumentError.
func (w *View) Savepoint(ctx context.Context) (*state.Version, error) {
	a, err := w.v.p.database(w.MetadataDB).fetch(ctx, savepointID)
	switch {
	case refused(err, http.StatusNotFound): // the database is absent
		return nil, nil
	case err != nil:
		return nil, w.v.explain(err)
	case a == nil:
		return nil, nil
	}
	sp, _, err := decodeSavepoint(a.body)
	if err != nil {
		return nil, &DocumentError{w.MetadataDB, savepointID, err}
	}
	return sp, nil
}

// Count is the number of keys in a database; found is false if there is no such
// database.
func (w *View) Count(ctx context.Context, database string) (keys uint64, found bool, err error) {
	keys, found, err = w.v.p.database(database).count(ctx, database == w.MetadataDB)
	return keys, found, w.v.explain(err)
}

// count leaves out design documents, and the savepoint of a metadata database.
func (d *database) count(ctx context.Context, metadata bool) (keys uint64, found bool, err error) {
	a, err := d.c.call(ctx, request{function: "GetDatabaseInfo", database: d.name, method: http.MethodGet})
	if refused(err, http.StatusNotFound) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	var told struct {
		Documents uint64 `json:"doc_count"`
	}
	if err := json.Unmarshal(a.body, &told); err != nil {
		return 0, false, fmt.Errorf("database [%s]: malformed answer about it: %w", d.name, err)
	}
	designs, err := d.designs(ctx)
	if err != nil {
		return 0, false, err
	}
	others := uint64(len(designs))
	if metadata {
		rows, err := d.rows(ctx, []string{savepointID}, false)
		if err != nil {
			return 0, false, err
		}
		if !rows[0].absent() {
			others++
		}
	}
	return told.Documents - min(others, told.Documents), true, nil
}

// designs lists the design documents.
func (d *database) designs(ctx context.Context) ([]string, error) {
	a, err := d.c.call(ctx, request{
		function: "ReadDocRange", database: d.name, method: http.MethodGet, path: []string{"_all_docs"},
		query: url.Values{"startkey": {strconv.Quote(designPrefix)}, "endkey": {strconv.Quote("_design0")}}, max: d.c.maxAnswer,
	})
	if err != nil {
		return nil, err
	}
	rows, err := d.decodeRows(a.body)
	if err != nil {
		return nil, err
	}
	var out []string
	for i := range rows {
		if id := rows[i].ID; strings.HasPrefix(id, designPrefix) {
			out = append(out, id)
		}
	}
	return out, nil
}

// Others lists the databases that have the name of one of the channel's but are
// not among those that are known; those that may as well be another channel's are
// left out. listed is false if the server does not show its list to this user.
func (w *View) Others(ctx context.Context, known func(database string) bool) (names []string, listed bool, err error) {
	p := w.v.p
	all, err := p.c.allDatabases(ctx)
	var refusal *serverError
	if errors.As(err, &refusal) && !refusal.passing() {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, w.v.explain(err)
	}
	c := &census{p: p, names: all, channels: []string{w.channel}}
	for _, name := range all {
		if known(name) {
			continue
		}
		mine, err := c.belongs(ctx, name)
		switch {
		case err != nil && fromServer(err):
			return nil, false, w.v.explain(err)
		case err == nil && mine:
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, true, nil
}

// IndexLag is an index that has not seen all documents yet.
type IndexLag struct {
	Design, Name string
	Changes      uint64 // that it lacks
}

// IndexLag lists the indexes of a database that are behind. CouchDB brings them up
// to date when they are asked next; looking at them does not.
func (w *View) IndexLag(ctx context.Context, database string) ([]IndexLag, error) {
	d := w.v.p.database(database)
	list, err := d.indexes(ctx)
	if err != nil {
		return nil, w.unlessRefused(err)
	}
	var out []IndexLag
	for _, i := range list {
		a, err := d.c.call(ctx, request{
			function: "DesignInfo", database: d.name, method: http.MethodGet,
			path: []string{"_design", strings.TrimPrefix(i.Design, designPrefix), "_info"},
		})
		if err != nil {
			if err := w.unlessRefused(err); err != nil {
				return nil, err
			}
			continue
		}
		var told struct {
			Index struct {
				Pending struct{ Total uint64 } `json:"updates_pending"`
			} `json:"view_index"`
		}
		if json.Unmarshal(a.body, &told) == nil && told.Index.Pending.Total > 0 {
			out = append(out, IndexLag{strings.TrimPrefix(i.Design, designPrefix), i.Name, told.Index.Pending.Total})
		}
	}
	return out, nil
}

// unlessRefused passes over what a server does not know or does not show.
func (w *View) unlessRefused(err error) error {
	var refusal *serverError
	if errors.As(err, &refusal) && !refusal.passing() || !fromServer(err) {
		return nil
	}
	return w.v.explain(err)
}
