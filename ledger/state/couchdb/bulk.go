package couchdb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/heddle-ledger/heddle/ledger/state"
)

// row is one row of _all_docs.
type row struct {
	ID, Key, Error string
	Deleted        bool
	Doc            []byte // not decoded; a part of the answer
}

func (r *row) absent() bool {
	return r.Error != "" || r.Deleted || len(r.Doc) == 0 || string(r.Doc) == "null"
}

func decodeRow(text []byte) (r row, err error) {
	err = members(text, func(name string, value []byte) (err error) {
		switch name {
		case "id":
			r.ID, err = unquote(value)
		case "key":
			r.Key, err = unquote(value)
		case "error":
			r.Error, err = unquote(value)
		case "doc":
			r.Doc = value
		case "value":
			r.Deleted, err = decodeDeleted(value)
		}
		return err
	})
	return r, err
}

// decodeDeleted reads the member deleted of a row's value; rows of errors have none.
func decodeDeleted(text []byte) (deleted bool, err error) {
	if string(text) == "null" {
		return false, nil
	}
	err = members(text, func(name string, value []byte) error {
		if name == "deleted" {
			return json.Unmarshal(value, &deleted)
		}
		return nil
	})
	return deleted, err
}

// failed is why nothing is known of a document that was asked for by its
// identifier: nodes of a cluster may not answer in time.
func (d *database) failed(r *row) error {
	if r.Error == "" || r.Error == "not_found" {
		return nil
	}
	err := fmt.Errorf("database [%s]: document [%s]: %s", d.name, r.Key, r.Error)
	return &state.UnreachableError{Answered: true, Err: err}
}

func (d *database) decodeRows(body []byte) ([]row, error) {
	var text []byte
	err := members(body, func(name string, value []byte) error {
		if name == "rows" {
			text = value
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("database [%s]: malformed answer to _all_docs: %w", d.name, err)
	}
	if text == nil || string(text) == "null" {
		return nil, fmt.Errorf("database [%s]: malformed answer to _all_docs: there are no rows", d.name)
	}
	var rows []row
	err = elements(text, func(value []byte) error {
		r, err := decodeRow(value)
		rows = append(rows, r)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("database [%s]: malformed answer to _all_docs: %w", d.name, err)
	}
	return rows, nil
}

// rows asks for documents by their identifiers; there is one row for each, in
// the same order.
func (d *database) rows(ctx context.Context, ids []string, attachments bool) ([]row, error) {
	body, err := json.Marshal(struct {
		Keys []string `json:"keys"`
	}{ids})
	if err != nil {
		return nil, err
	}
	query := url.Values{"include_docs": {"true"}}
	if attachments {
		query.Set("attachments", "true")
	}
	a, err := d.c.call(ctx, request{
		function: "BatchRetrieveDocumentMetadata", database: d.name, method: http.MethodPost,
		path: []string{"_all_docs"}, query: query, body: body, max: d.c.maxAnswer,
	})
	if errors.Is(err, errTooLarge) && len(ids) > 1 {
		return d.rowsInHalves(ctx, ids, attachments)
	}
	if err != nil {
		return nil, fmt.Errorf("database [%s]: %w", d.name, err)
	}
	rows, err := d.decodeRows(a.body)
	if err != nil {
		return nil, err
	}
	if len(rows) != len(ids) {
		return nil, fmt.Errorf("database [%s]: malformed answer to _all_docs: %d rows for %d documents", d.name, len(rows), len(ids))
	}
	for i := range rows {
		if rows[i].Key != ids[i] {
			return nil, fmt.Errorf("database [%s]: malformed answer to _all_docs: row of [%s] where [%s] was expected", d.name, rows[i].Key, ids[i])
		}
		if err := d.failed(&rows[i]); err != nil {
			return nil, err
		}
	}
	if attachments {
		d.whole.weigh(rows)
	} else {
		d.light.weigh(rows)
	}
	return rows, nil
}

func (d *database) rowsInHalves(ctx context.Context, ids []string, attachments bool) ([]row, error) {
	first, err := d.rows(ctx, ids[:len(ids)/2], attachments)
	if err != nil {
		return nil, err
	}
	second, err := d.rows(ctx, ids[len(ids)/2:], attachments)
	return append(first, second...), err
}

// readVersions reads revisions and versions of one group of documents.
func (d *database) readVersions(ctx context.Context, ids []string) ([]revision, error) {
	rows, err := d.rows(ctx, ids, false)
	if err != nil {
		return nil, err
	}
	out := make([]revision, len(rows))
	for i := range rows {
		if rows[i].absent() {
			continue
		}
		v, err := decodeVersioned(rows[i].Doc)
		if err != nil {
			return nil, fmt.Errorf("database [%s]: document [%s]: %w", d.name, ids[i], err)
		}
		out[i] = revision{found: true, version: v.version, rev: v.rev}
	}
	return out, nil
}

// readMany reads one group of documents whole, nil where they are absent.
func (d *database) readMany(ctx context.Context, ids []string) ([]*document, error) {
	rows, err := d.rows(ctx, ids, true)
	if err != nil {
		return nil, err
	}
	out := make([]*document, len(rows))
	for i := range rows {
		if rows[i].absent() {
			continue
		}
		if out[i], err = d.complete(ctx, ids[i], rows[i].Doc); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// complete decodes a document of a list, and reads it singly if its attachment
// did not come along. It returns nil if it is gone by then.
func (d *database) complete(ctx context.Context, id string, raw []byte) (*document, error) {
	doc, err := decodeDocument(raw, nil)
	if err != nil {
		return nil, fmt.Errorf("database [%s]: document [%s]: %w", d.name, id, err)
	}
	switch {
	case doc.deleted:
		return nil, nil
	case doc.stub:
		if len(id) > maxIDInPath {
			return nil, fmt.Errorf("database [%s]: document [%s]: the attachment did not come with the document", d.name, id)
		}
		return d.get(ctx, id)
	}
	return doc, nil
}

// result is what _bulk_docs says of one document.
type result struct {
	ID     string `json:"id"`
	Rev    string `json:"rev"`
	Error  string `json:"error"`
	Reason string `json:"reason"`
}

// bulkWrite writes one group of documents and returns one result for each.
func (d *database) bulkWrite(ctx context.Context, docs []outgoing, revs []string) ([]result, error) {
	size := len(`{"docs":[]}`)
	for i := range docs {
		size += docs[i].size() + len(revs[i]) + len(`{"_rev":"",},`)
	}
	body := append(make([]byte, 0, size), `{"docs":[`...)
	for i := range docs {
		if i > 0 {
			body = append(body, ',')
		}
		body = docs[i].appendTo(body, revs[i])
	}
	body = append(body, "]}"...)
	a, err := d.c.call(ctx, request{
		function: "BatchUpdateDocuments", database: d.name, method: http.MethodPost,
		path: []string{"_bulk_docs"}, body: body, max: d.c.maxAnswer,
	})
	if err != nil {
		return nil, fmt.Errorf("database [%s]: %w", d.name, err)
	}
	var results []result
	if err := json.Unmarshal(a.body, &results); err != nil {
		return nil, fmt.Errorf("database [%s]: malformed answer to _bulk_docs: %w", d.name, err)
	}
	return d.matched(docs, results)
}

// matched puts results in the order of the documents: not all servers keep it.
func (d *database) matched(docs []outgoing, results []result) ([]result, error) {
	byID := make(map[string]result, len(results))
	for _, r := range results {
		byID[r.ID] = r
	}
	out := make([]result, len(docs))
	for i := range docs {
		r, ok := byID[docs[i].id]
		if !ok {
			return nil, fmt.Errorf("database [%s]: malformed answer to _bulk_docs: nothing about document [%s]", d.name, docs[i].id)
		}
		if r.Error == "" && r.Rev == "" {
			return nil, fmt.Errorf("database [%s]: malformed answer to _bulk_docs: no revision of document [%s]", d.name, docs[i].id)
		}
		out[i] = r
	}
	return out, nil
}

// saveOne writes a document that a bulk update refused: over the revision it has
// now, and again if that has changed in the meantime (LEDGER §5.6).
func (d *database) saveOne(ctx context.Context, doc *outgoing) (revision, error) {
	var err error
	for range d.c.retries + 1 {
		var now string
		if now, err = d.revisionOf(ctx, doc.id); err != nil {
			return revision{}, err
		}
		var rev string
		rev, err = d.saveOver(ctx, doc, now)
		if err == nil {
			return written(doc.write, rev), nil
		}
		if !refused(err, http.StatusConflict) {
			break
		}
	}
	return revision{}, saveError(doc.id, err)
}

// saveError has the reference's text (LEDGER §5.6).
func saveError(id string, err error) error {
	var e *serverError
	if errors.As(err, &e) {
		return fmt.Errorf("error saving document ID: %v. Error: %s,  Reason: %s", id, e.code, e.reason)
	}
	return fmt.Errorf("error saving document ID: %v. Error: %w,  Reason: ", id, err)
}

func (d *database) saveOver(ctx context.Context, doc *outgoing, rev string) (string, error) {
	r := request{database: d.name, path: []string{doc.id}, ifMatch: rev}
	if doc.write.Delete && rev == "" {
		return "", nil // it is gone, or never was
	}
	if len(doc.id) > maxIDInPath {
		return d.saveInBulk(ctx, doc, rev)
	}
	if doc.write.Delete {
		r.function, r.method = "DeleteDoc", http.MethodDelete
	} else {
		r.function, r.method, r.body = "SaveDoc", http.MethodPut, doc.appendTo(nil, "")
	}
	a, err := d.c.call(ctx, r)
	if doc.write.Delete && refused(err, http.StatusNotFound) && gone(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	var told result
	if err := json.Unmarshal(a.body, &told); err != nil || told.Rev == "" {
		return "", fmt.Errorf("malformed answer: no revision: %w", err)
	}
	return told.Rev, nil
}

func (d *database) saveInBulk(ctx context.Context, doc *outgoing, rev string) (string, error) {
	results, err := d.bulkWrite(ctx, []outgoing{*doc}, []string{rev})
	if err != nil {
		return "", err
	}
	if r := results[0]; r.Error != "" {
		return "", &serverError{status: http.StatusConflict, code: r.Error, reason: r.Reason}
	}
	return results[0].Rev, nil
}

// revisionOf is the revision of a document, empty if it is absent.
func (d *database) revisionOf(ctx context.Context, id string) (string, error) {
	rows, err := d.rows(ctx, []string{id}, false)
	if err != nil || rows[0].absent() {
		return "", err
	}
	var rev string
	err = members(rows[0].Doc, func(name string, value []byte) (err error) {
		if name == memberRev {
			rev, err = unquote(value)
		}
		return err
	})
	if err != nil {
		return "", fmt.Errorf("database [%s]: document [%s]: %w", d.name, id, err)
	}
	return rev, nil
}

// readSavepoint returns nil, and no revision, if there is none.
func (d *database) readSavepoint(ctx context.Context) (*state.Version, string, error) {
	a, err := d.fetch(ctx, savepointID)
	if err != nil || a == nil {
		return nil, "", err
	}
	return decodeSavepoint(a.body)
}

// decodeSavepoint returns the savepoint and its document's revision.
func decodeSavepoint(text []byte) (*state.Version, string, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		return nil, "", fmt.Errorf("state savepoint: %w", err)
	}
	var sp savepoint
	var rev string
	err := errors.Join(
		json.Unmarshal(members["BlockNum"], &sp.BlockNum),
		json.Unmarshal(members["TxNum"], &sp.TxNum),
		json.Unmarshal(members[memberRev], &rev),
	)
	if err != nil {
		return nil, "", fmt.Errorf("state savepoint: %w", err)
	}
	return &state.Version{Block: uint64(sp.BlockNum), Tx: uint64(sp.TxNum)}, rev, nil
}

// writeSavepoint puts the savepoint over the revision it had.
func (d *database) writeSavepoint(ctx context.Context, v state.Version, rev string) error {
	body, err := json.Marshal(savepoint{number(v.Block), number(v.Tx)})
	if err != nil {
		return err
	}
	for attempt := 0; ; attempt++ {
		_, err = d.c.call(ctx, request{
			function: "SaveDoc", database: d.name, method: http.MethodPut,
			path: []string{savepointID}, body: body, ifMatch: rev,
		})
		if !refused(err, http.StatusConflict) || attempt >= d.c.retries {
			break
		}
		// A repetition after a lost answer finds what it wrote itself.
		if _, rev, err = d.readSavepoint(ctx); err != nil {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("write state savepoint: %w", err)
	}
	return nil
}
