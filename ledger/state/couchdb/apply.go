package couchdb

import (
	"context"
	"fmt"

	"github.com/heddle-ledger/heddle/ledger/state"
)

// maxBulkBytes bounds the body of a bulk request in bytes; CouchDB refuses
// bodies of more than 64 MiB unless told otherwise.
const maxBulkBytes = 16 << 20

// Apply implements state.DB. It is not atomic: an interruption leaves documents
// of the batch beside older ones, and a savepoint of before. Repeating the batch
// repairs that (LEDGER §5.6).
//
// What can be done beforehand is done before anybody is kept out: only the
// writing itself has the snapshots wait that query.
func (d *DB) Apply(b *state.Batch, savepoint *state.Version, _ bool) error {
	ctx := context.Background()
	a := &application{d: d, savepoint: savepoint}
	if err := a.prepare(ctx, b); err != nil {
		return fmt.Errorf("apply state batch: %w", err)
	}
	d.gate.Close()
	defer d.gate.Open()
	for !d.views.begin(a.before) {
		if err := a.readBefore(ctx); err != nil {
			return fmt.Errorf("apply state batch: %w", err)
		}
	}
	err := a.writeCached(ctx)
	d.views.end(err)
	if err != nil {
		return err
	}
	if savepoint != nil {
		d.leave(*savepoint)
	}
	for _, s := range a.spaces {
		d.p.warmer.committed(s.db, &d.p.cfg)
	}
	return nil
}

// application is one batch on its way into the database.
type application struct {
	d         *DB
	savepoint *state.Version
	spaces    []*spaceWrites
	before    *layer // nil if no snapshot needs it

	metadata     *database // with a savepoint only
	savepointRev string
}

// spaceWrites are the documents for one database.
type spaceWrites struct {
	ns   string
	db   *database
	docs []outgoing
	revs []string // one per document, empty if it is absent
}

// prepare encodes the documents and finds out their revisions.
func (a *application) prepare(ctx context.Context, b *state.Batch) error {
	spaces := b.Spaces()
	a.spaces = make([]*spaceWrites, len(spaces))
	keep := a.d.views.expects()
	work := a.d.p.parallel()
	for i, space := range spaces {
		a.spaces[i] = &spaceWrites{ns: space.Namespace}
		writes := space.Sorted()
		work.group.Go(func() error { return a.prepareSpace(ctx, a.spaces[i], writes, keep) })
	}
	if a.savepoint != nil {
		work.group.Go(func() (err error) {
			if a.metadata, err = a.d.metadata(ctx); err != nil {
				return err
			}
			var now *state.Version
			if now, a.savepointRev, err = a.metadata.readSavepoint(ctx); err != nil {
				return a.metadata.named(err)
			}
			return a.d.checkSavepoint(now, *a.savepoint)
		})
	}
	if err := work.Wait(); err != nil {
		return err
	}
	if keep {
		return a.readBefore(ctx)
	}
	return nil
}

func (a *application) prepareSpace(ctx context.Context, s *spaceWrites, writes []state.Write, keep bool) error {
	var err error
	if s.db, err = a.d.space(ctx, s.ns); err != nil {
		return err
	}
	s.docs = make([]outgoing, 0, len(writes))
	ids := make([]string, 0, len(writes))
	for i := range writes {
		doc, err := encodeDocument(s.ns, &writes[i])
		if err != nil {
			return err
		}
		if n := len(ids); n > 0 && ids[n-1] == doc.id {
			s.docs[n-1] = doc // keys that are no text may have one document
			continue
		}
		s.docs, ids = append(s.docs, doc), append(ids, doc.id)
	}
	s.revs = make([]string, len(s.docs))
	if keep {
		return nil // readBefore brings the revisions
	}
	revs, err := a.d.revisions(ctx, s.ns, ids)
	if err != nil {
		return s.db.named(err)
	}
	for i := range revs {
		s.revs[i] = revs[i].rev
	}
	return nil
}

// expect takes what is written for about as large as what it replaces, if nothing
// is known of that.
func (s *spaceWrites) expect() {
	size := 0
	for i := range s.docs {
		size += s.docs[i].size()
	}
	if n := len(s.docs); n > 0 {
		s.db.whole.bytes.CompareAndSwap(0, int64(size/n))
	}
}

// readBefore reads what the batch is going to replace.
func (a *application) readBefore(ctx context.Context) error {
	a.before = newLayer()
	for _, s := range a.spaces {
		s.expect()
	}
	read := make([][]*document, len(a.spaces))
	work := a.d.p.parallel()
	for i, s := range a.spaces {
		work.group.Go(func() (err error) {
			keys := make([]string, len(s.docs))
			for k := range s.docs {
				keys[k] = s.docs[k].key
			}
			read[i], err = a.d.documents(ctx, s.db, s.ns, keys)
			return s.db.named(err)
		})
	}
	if err := work.Wait(); err != nil {
		return err
	}
	for i, s := range a.spaces {
		for k, doc := range read[i] {
			if doc == nil {
				s.revs[k] = ""
				a.before.add(s.ns, s.docs[k].key, nil)
				continue
			}
			s.revs[k] = doc.rev
			a.before.add(s.ns, s.docs[k].key, &doc.value)
		}
	}
	return nil
}

// writeCached keeps the caches right while the batch is written.
func (a *application) writeCached(ctx context.Context) error {
	d := a.d
	d.revs.writing()
	defer d.revs.writing()
	d.values.writing()
	defer d.values.writing()
	for _, s := range a.spaces {
		if s.ns != lifecycleNamespace {
			continue
		}
		for i := range s.docs {
			d.values.drop(docKey{s.db, s.docs[i].id})
		}
	}
	err := a.write(ctx)
	if err != nil {
		d.revs.clear()
		d.values.clear()
		return fmt.Errorf("apply state batch: %w", err)
	}
	return nil
}

// write writes the documents, makes sure of them, and then writes the savepoint.
func (a *application) write(ctx context.Context) error {
	work := a.d.p.parallel()
	for _, s := range a.spaces {
		s.groups(a.d.p.cfg.MaxBatchUpdateSize, func(from, to int) {
			work.Go(func() error { return a.writeGroup(ctx, s, from, to) })
		})
	}
	if err := work.Wait(); err != nil {
		return err
	}
	work = a.d.p.parallel()
	for _, s := range a.spaces {
		work.Go(func() error { return s.db.commitFully(ctx, &a.d.p.noCommits) })
	}
	if err := work.Wait(); err != nil {
		return err
	}
	if a.savepoint == nil {
		return nil
	}
	return a.metadata.writeSavepoint(ctx, *a.savepoint, a.savepointRev)
}

// groups cuts the documents into parts that go into one request each.
func (s *spaceWrites) groups(count int, visit func(from, to int)) {
	for from := 0; from < len(s.docs); {
		to, size := from, 0
		for to < len(s.docs) && to-from < count && (to == from || size+s.docs[to].size() <= maxBulkBytes) {
			size += s.docs[to].size()
			to++
		}
		visit(from, to)
		from = to
	}
}

// writeGroup writes a group; documents that are refused are written singly.
func (a *application) writeGroup(ctx context.Context, s *spaceWrites, from, to int) error {
	docs := s.docs[from:to]
	results, err := s.db.bulkWrite(ctx, docs, s.revs[from:to])
	if err != nil {
		return err
	}
	for i := range docs {
		now := written(docs[i].write, results[i].Rev)
		if results[i].Error != "" {
			a.d.p.c.log.Warningf("[%s] CouchDB refuses a document in a bulk update, it is written singly: %s, %s",
				s.db.name, results[i].Error, results[i].Reason)
			if now, err = s.db.saveOne(ctx, &docs[i]); err != nil {
				return err
			}
		}
		a.d.revs.set(docKey{s.db, docs[i].id}, now)
	}
	return nil
}
