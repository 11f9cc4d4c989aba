package couchdb

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"

	"github.com/heddle-ledger/heddle/ledger/state"
)

// Space is one namespace of a View.
type Space struct {
	Database string
	ns       string
	view     *View
	db       *database
}

// Space looks at a namespace; nil if there can be no database of its name, in
// which it has no keys.
func (w *View) Space(ns string) *Space {
	name, err := namespaceDB(w.channel, ns)
	if err != nil {
		return nil
	}
	return &Space{Database: name, ns: ns, view: w, db: w.v.p.database(name)}
}

// Stored is a key as its document holds it.
type Stored struct {
	ID  string // of the document
	Key string
	// Err says why the document does not decode; Key is the identifier then if that
	// is what does not.
	Err   error
	Value state.Value
	// Attached tells that the value is the attachment, not the members.
	Attached bool
	// Beside names members and attachments that no peer writes beside an attachment
	// or a value.
	Beside []string
}

// ID is the identifier of the document that has a key.
func (s *Space) ID(key string) string { return documentID(s.ns, key) }

// errAttachment is why a document with an attachment may not be whole.
var errAttachment = errors.New("the attachment does not come with the document")

// stored decodes one row; ok is false if it has no document.
func (s *Space) stored(ctx context.Context, r *row) (out Stored, ok bool, err error) {
	if r.absent() {
		return out, false, nil
	}
	out = Stored{ID: r.ID}
	out.Key, out.Err = documentKey(s.ns, r.ID)
	doc, err := decodeDocument(r.Doc, nil)
	switch {
	case err != nil:
		out.Err = err
		return out, true, nil
	case doc.deleted:
		return out, false, nil
	}
	if doc.stub {
		if doc, err = s.whole(ctx, r.ID); err != nil {
			if fromServer(err) {
				return out, false, s.view.v.explain(err)
			}
			out.Err = err
			return out, true, nil
		}
		if doc == nil {
			return out, false, nil
		}
	}
	out.Value = doc.value
	if out.Attached, out.Beside, err = besides(r.Doc); err != nil {
		out.Err = err
	}
	return out, true, nil
}

// whole reads a document singly.
func (s *Space) whole(ctx context.Context, id string) (*document, error) {
	if len(id) > maxIDInPath {
		return nil, errAttachment
	}
	return s.db.get(ctx, id)
}

// documentKey is the key whose document has an identifier.
func documentKey(ns, id string) (string, error) {
	if !hashed(ns) {
		return id, nil
	}
	if id == emptyHashID {
		return "", nil
	}
	key, err := base64.StdEncoding.DecodeString(id)
	if err != nil || documentID(ns, string(key)) != id {
		return id, errors.New("the identifier is no hash in base64")
	}
	return string(key), nil
}

// besides tells whether the value of a document is an attachment, and what there
// is that no peer has written.
func besides(text []byte) (attached bool, beside []string, err error) {
	var names []string
	err = members(text, func(name string, value []byte) error {
		switch name {
		case memberID, memberRev, memberVersion, memberDeleted:
		case memberAttachments:
			if !startsObject(value) {
				return fmt.Errorf("%s is no object", memberAttachments)
			}
			return members(value, func(name string, _ []byte) error {
				if name == attachmentName {
					attached = true
				} else {
					beside = append(beside, "attachment "+strconv.Quote(name))
				}
				return nil
			})
		default:
			names = append(names, "member "+strconv.Quote(name))
		}
		return nil
	})
	if attached {
		beside = append(beside, names...)
	}
	slices.Sort(beside)
	return attached, beside, err
}

// Walk goes through the documents of a namespace, page by page, in the order of
// their identifiers.
type Walk struct {
	s    *Space
	next string
	more bool
}

// Walk begins before the first document.
func (s *Space) Walk() *Walk { return &Walk{s: s, more: true} }

// Next returns the next page, which is bounded in number and, about, in bytes;
// none at the end.
func (w *Walk) Next(ctx context.Context) ([]Stored, error) {
	s := w.s
	for w.more {
		w.next = beyondForeign(w.next)
		rows, next, more, err := s.db.stretch(ctx, w.next, "", s.db.whole.groupOf(s.view.v.p.cfg.InternalQueryLimit)+1)
		if err != nil {
			return nil, s.view.v.explain(err)
		}
		w.next, w.more = next, more
		var out []Stored
		for i := range rows {
			if foreign(s.ns, rows[i].ID) || s.Database == s.view.MetadataDB && rows[i].ID == savepointID {
				continue
			}
			got, ok, err := s.stored(ctx, &rows[i])
			if err != nil {
				return nil, err
			}
			if ok {
				out = append(out, got)
			}
		}
		if len(out) > 0 {
			return out, nil
		}
	}
	return nil, nil
}

// Values looks up keys; nil where there is no document.
func (s *Space) Values(ctx context.Context, keys []string) ([]*Stored, error) {
	out := make([]*Stored, len(keys))
	var ids []string
	var places []int
	for i, key := range keys {
		if id := documentID(s.ns, key); !foreign(s.ns, id) {
			ids, places = append(ids, id), append(places, i)
		}
	}
	for from := 0; from < len(ids); {
		to := min(from+s.db.whole.groupOf(s.view.v.p.cfg.MaxBatchUpdateSize), len(ids))
		rows, err := s.db.rows(ctx, ids[from:to], true)
		if err != nil {
			return nil, s.view.v.explain(err)
		}
		for i := range rows {
			rows[i].ID = ids[from+i]
			got, ok, err := s.stored(ctx, &rows[i])
			if err != nil {
				return nil, err
			}
			if ok {
				out[places[from+i]] = &got
			}
		}
		from = to
	}
	return out, nil
}

// SameValue tells whether two values are the same to CouchDB, which gives JSON
// objects back in another form than they were written in (LEDGER §5.3).
func SameValue(a, b []byte) bool {
	if string(a) == string(b) {
		return true
	}
	x, ok := object(a)
	if !ok {
		return false
	}
	y, ok := object(b)
	return ok && reflect.DeepEqual(x, y)
}

func object(value []byte) (map[string]any, bool) {
	var members map[string]any
	return members, startsObject(value) && json.Unmarshal(value, &members) == nil && members != nil
}
