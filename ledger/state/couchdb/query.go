package couchdb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/heddle-ledger/heddle/ledger/state"
)

// Query implements state.Reader (LEDGER §5.8).
func (d *DB) Query(ns string, q state.Query) (state.Iterator, error) {
	query, err := parseQuery(q.Text)
	if err != nil {
		return nil, err
	}
	db, err := d.space(context.Background(), ns)
	if err != nil {
		return nil, err
	}
	it := &queryIterator{
		db: db, ns: ns, query: query, bookmark: q.Bookmark, pageSize: d.p.cfg.InternalQueryLimit,
		limited: q.Paged && q.Limit > 0, left: int(q.Limit), more: true,
	}
	return it, it.fill()
}

// parseQuery takes a query apart, as far as it has to be changed. Numbers stay as
// they are written.
func parseQuery(text string) (map[string]json.RawMessage, error) {
	var query map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &query); err != nil {
		return nil, fmt.Errorf("query is not a JSON object: %w", err)
	}
	if query == nil {
		return nil, errors.New("query is not a JSON object")
	}
	raw, ok := query["fields"]
	if !ok {
		return query, nil
	}
	var fields []json.RawMessage
	if json.Unmarshal(raw, &fields) != nil || fields == nil {
		return nil, errors.New("fields definition must be an array")
	}
	for _, name := range []string{memberID, memberVersion} {
		quoted := json.RawMessage(`"` + name + `"`)
		if !slices.ContainsFunc(fields, func(f json.RawMessage) bool { return string(f) == string(quoted) }) {
			fields = append(fields, quoted)
		}
	}
	var err error
	query["fields"], err = json.Marshal(fields)
	return query, err
}

// queryIterator walks over the results of a rich query. Pages are fetched when
// they are needed; the first one when the query begins.
type queryIterator struct {
	db       *database
	ns       string
	query    map[string]json.RawMessage
	pageSize int

	rows     []state.KV // read, but not given out
	bookmark string     // CouchDB's, after rows
	more     bool
	limited  bool
	left     int // results that may still be fetched, if limited
	closed   bool
}

// fill fetches pages until there is a result or the query ends.
func (i *queryIterator) fill() error {
	for len(i.rows) == 0 && i.more && !i.closed && (!i.limited || i.left > 0) {
		if err := i.fetch(); err != nil {
			return err
		}
	}
	return nil
}

// found is the answer to _find. The documents are parts of the answer.
type found struct {
	docs              [][]byte
	bookmark, warning string
}

func decodeFound(body []byte) (*found, error) {
	f := &found{}
	var docs []byte
	err := members(body, func(name string, value []byte) (err error) {
		switch name {
		case "docs":
			docs = value
		case "bookmark":
			f.bookmark, err = unquote(value)
		case "warning":
			if value[0] == '"' { // or a list, or null
				f.warning, err = unquote(value)
			}
		}
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case docs == nil || string(docs) == "null":
		return nil, errors.New("there are no documents")
	}
	return f, elements(docs, func(value []byte) error {
		f.docs = append(f.docs, value)
		return nil
	})
}

func (i *queryIterator) fetch() error {
	limit := i.pageSize
	if i.limited {
		limit = min(limit, i.left)
	}
	answer, err := i.db.find(context.Background(), i.query, limit, i.bookmark)
	for errors.Is(err, errTooLarge) && limit > 1 {
		limit /= 2
		answer, err = i.db.find(context.Background(), i.query, limit, i.bookmark)
	}
	if err != nil {
		return err
	}
	docs := answer.docs
	if len(docs) > limit {
		return fmt.Errorf("database [%s]: malformed answer to _find: more documents than asked for", i.db.name)
	}
	for _, raw := range docs {
		kv, err := i.result(raw)
		if err != nil {
			return err
		}
		if kv != nil {
			i.rows = append(i.rows, *kv)
		}
	}
	i.left -= len(docs)
	// The same bookmark again would bring the same documents for ever.
	i.more = len(docs) == limit && answer.bookmark != "" && answer.bookmark != i.bookmark
	i.bookmark = answer.bookmark // also after nothing: chaincodes may answer with it
	return nil
}

// result is a document as a result; nil if it is none of a key.
func (i *queryIterator) result(raw []byte) (*state.KV, error) {
	if !startsObject(raw) {
		return nil, fmt.Errorf("database [%s]: malformed answer to _find: a document that is none", i.db.name)
	}
	quoted, err := member(raw, memberID)
	if err != nil {
		return nil, fmt.Errorf("database [%s]: malformed answer to _find: %w", i.db.name, err)
	}
	id, err := unquote(quoted)
	if err != nil {
		return nil, fmt.Errorf("database [%s]: malformed answer to _find: a document without identifier", i.db.name)
	}
	if foreign(i.ns, id) {
		return nil, nil
	}
	doc, err := i.db.complete(context.Background(), id, raw)
	if err != nil || doc == nil {
		return nil, err
	}
	return &state.KV{Key: id, Value: doc.value}, nil
}

func (d *database) find(ctx context.Context, query map[string]json.RawMessage, limit int, bookmark string) (*found, error) {
	query["limit"] = fmt.Appendf(nil, "%d", limit)
	if bookmark != "" {
		quoted, err := json.Marshal(bookmark)
		if err != nil {
			return nil, err
		}
		query["bookmark"] = quoted
	}
	body, err := json.Marshal(query)
	if err != nil {
		return nil, err
	}
	a, err := d.c.call(ctx, request{
		function: "QueryDocuments", database: d.name, method: http.MethodPost,
		path: []string{"_find"}, body: body, max: d.c.maxAnswer,
	})
	if err != nil {
		return nil, err
	}
	answer, err := decodeFound(a.body)
	if err != nil {
		return nil, fmt.Errorf("database [%s]: malformed answer to _find: %w", d.name, err)
	}
	if answer.warning != "" {
		d.c.log.Debugf("[%s] CouchDB warns of a query: %.500q", d.name, answer.warning)
	}
	return answer, nil
}

// Next implements state.Iterator.
func (i *queryIterator) Next() (*state.KV, error) {
	if i.closed {
		return nil, nil
	}
	if err := i.fill(); err != nil || len(i.rows) == 0 {
		return nil, err
	}
	kv := i.rows[0]
	i.rows = i.rows[1:]
	return &kv, nil
}

// Bookmark implements state.Iterator: CouchDB's, which stands after the pages
// that were fetched.
func (i *queryIterator) Bookmark() string {
	i.closed = true
	return i.bookmark
}

// Close implements state.Iterator.
func (i *queryIterator) Close() { i.closed = true }
