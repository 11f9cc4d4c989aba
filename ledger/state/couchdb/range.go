package couchdb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/heddle-ledger/heddle/ledger/state"
)

// page is a part of a range. Next is the key after it, and set unless the range
// ends with the page.
type page struct {
	rows []state.KV
	next string
	more bool
}

// errHashedRange: hashes are kept in base64, which sorts otherwise. No chaincode
// can ask for them; a made-up transaction that says it did is judged by the
// documents as they are.
var errHashedRange = errors.New("the keys of a hashed namespace can not be scanned")

// Range implements state.Reader (LEDGER §5.7).
func (d *DB) Range(ns, start, end string, limit int32) (state.Iterator, error) {
	return d.scan(nil, ns, start, end, limit)
}

// scan scans the state of a snapshot, or the last one if there is none.
func (d *DB) scan(s *snapshot, ns, start, end string, limit int32) (state.Iterator, error) {
	if hashed(ns) && s != nil {
		return nil, errHashedRange
	}
	start, end = validText(start), validText(end)
	db, err := d.space(context.Background(), ns)
	if err != nil {
		return &rangeIterator{closed: true}, empty(err)
	}
	it := &rangeIterator{
		db: db, snap: s, ns: ns, next: start, end: end, more: end == "" || start < end,
		pageSize: d.p.cfg.InternalQueryLimit, limited: limit > 0, left: int(limit),
	}
	return it, it.fill()
}

// rangeIterator walks over a range page by page; the first page is read when the
// scan begins.
type rangeIterator struct {
	db       *database
	snap     *snapshot // nil for the last state
	ns, end  string
	pageSize int

	rows    []state.KV // read, but not given out
	next    string     // where the page after rows begins, if more is set
	more    bool
	limited bool
	left    int // results that the caller may still have, if limited
	closed  bool
}

// fill reads pages until there is a result or the range ends.
func (i *rangeIterator) fill() error {
	for len(i.rows) == 0 && i.more && !i.closed && (!i.limited || i.left > 0) {
		n := i.db.whole.groupOf(i.pageSize)
		if i.limited {
			n = min(n, i.left)
		}
		if err := i.read(n); err != nil {
			return err
		}
	}
	return nil
}

// read reads the next page.
func (i *rangeIterator) read(n int) error {
	p, err := i.db.page(context.Background(), i.ns, i.next, i.end, n)
	if err != nil {
		return err
	}
	i.rows = p.rows
	if i.snap != nil {
		end := i.end
		if p.more {
			end = p.next
		}
		if i.rows, err = i.snap.review(i.ns, i.next, end, p.rows); err != nil {
			return err
		}
	}
	i.next, i.more = p.next, p.more
	return nil
}

// Next implements state.Iterator.
func (i *rangeIterator) Next() (*state.KV, error) {
	if i.closed || i.limited && i.left == 0 {
		return nil, nil
	}
	if err := i.fill(); err != nil {
		return nil, err
	}
	if len(i.rows) == 0 {
		return nil, nil
	}
	kv := i.rows[0]
	i.rows = i.rows[1:]
	i.left--
	return &kv, nil
}

// Bookmark implements state.Iterator: the key after the last one read, or the
// end of the range.
func (i *rangeIterator) Bookmark() string {
	i.closed = true
	// The next key may be one that the snapshot does not see.
	for len(i.rows) == 0 && i.more && i.snap != nil && i.snap.hides(i.ns, i.next) {
		if i.read(1) != nil {
			break // what is known is a place to go on from, too
		}
	}
	switch {
	case len(i.rows) > 0:
		return i.rows[0].Key
	case i.more:
		return i.next
	}
	return i.end
}

// Close implements state.Iterator.
func (i *rangeIterator) Close() { i.closed = true }

// page reads up to n documents of [start, end). One more is asked for, which is
// where the next page begins. Documents that are not ours do not count.
func (d *database) page(ctx context.Context, ns, start, end string, n int) (*page, error) {
	p := &page{next: start, more: true}
	for {
		next := beyondForeign(p.next)
		skipped := next != p.next
		p.next = next
		if end != "" && p.next >= end {
			p.more = false
			return p, nil
		}
		// After a skip it is not known whether there is anything more.
		if len(p.rows) >= n && !skipped {
			return p, nil
		}
		if err := d.extend(ctx, ns, end, n, p); err != nil || !p.more {
			return p, err
		}
	}
}

// beyondForeign skips identifiers that begin with an underscore, which are next
// to each other.
func beyondForeign(start string) string {
	if start != "" && start[0] == '_' {
		return afterUnderscore
	}
	return start
}

// extend makes one request.
func (d *database) extend(ctx context.Context, ns, end string, n int, p *page) error {
	rows, next, more, err := d.stretch(ctx, p.next, end, n-len(p.rows)+1)
	if err != nil {
		return err
	}
	p.next, p.more = next, more
	for i := range rows {
		r := &rows[i]
		if foreign(ns, r.ID) || r.absent() {
			continue
		}
		doc, err := d.complete(ctx, r.ID, r.Doc)
		if err != nil {
			return err
		}
		if doc != nil {
			p.rows = append(p.rows, state.KV{Key: r.ID, Value: doc.value})
		}
	}
	return nil
}

// stretch asks for up to limit documents of [start, end), or fewer if they are too
// large. If so many came, more is set and the last of them is left out: next is
// its identifier.
func (d *database) stretch(ctx context.Context, start, end string, limit int) (rows []row, next string, more bool, err error) {
	rows, err = d.readRange(ctx, docRange{start: start, end: end, limit: limit, attachments: true})
	for errors.Is(err, errTooLarge) && limit > 2 {
		limit = (limit + 1) / 2
		rows, err = d.readRange(ctx, docRange{start: start, end: end, limit: limit, attachments: true})
	}
	if err != nil {
		return nil, "", false, err
	}
	d.whole.weigh(rows)
	if len(rows) > limit {
		return nil, "", false, fmt.Errorf("database [%s]: malformed answer to _all_docs: more rows than asked for", d.name)
	}
	next = start
	if more = len(rows) == limit; more {
		last := rows[limit-1].ID
		if last < start || last == start && limit > 1 {
			return nil, "", false, fmt.Errorf("database [%s]: malformed answer to _all_docs: [%s] after [%s]", d.name, last, start)
		}
		next = last
		rows = rows[:limit-1]
	}
	for i := range rows {
		if rows[i].ID == "" {
			return nil, "", false, fmt.Errorf("database [%s]: malformed answer to _all_docs: a row without identifier", d.name)
		}
	}
	return rows, next, more, nil
}

// docRange is the documents of [start, end), which must not be empty, as far as
// limit goes.
type docRange struct {
	start, end  string // open if empty
	limit       int
	attachments bool // come as well
}

func (d *database) readRange(ctx context.Context, r docRange) ([]row, error) {
	query := url.Values{"include_docs": {"true"}, "inclusive_end": {"false"}, "limit": {strconv.Itoa(r.limit)}}
	if r.attachments {
		query.Set("attachments", "true")
	}
	for name, key := range map[string]string{"startkey": r.start, "endkey": r.end} {
		if key == "" {
			continue
		}
		quoted, err := json.Marshal(key)
		if err != nil {
			return nil, err
		}
		query.Set(name, string(quoted))
	}
	a, err := d.c.call(ctx, request{
		function: "ReadDocRange", database: d.name, method: http.MethodGet,
		path: []string{"_all_docs"}, query: query, max: d.c.maxAnswer,
	})
	if err != nil {
		return nil, fmt.Errorf("database [%s]: %w", d.name, err)
	}
	return d.decodeRows(a.body)
}
