package couchdb

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/heddle-ledger/heddle/ledger/state"
)

// DB is the state of one channel. CouchDB itself holds everything; this holds
// what is cached of it and what open snapshots need.
type DB struct {
	p       *Provider
	channel string
	revs    *cache[revision]
	values  *cache[*state.Value] // of the lifecycle namespace
	views   *views
	gate    state.Gate // between batches and the snapshots that query

	mu        sync.Mutex           // guards what follows
	databases map[string]*database // by name
	left      *state.Version       // where the savepoint was left, if leftKnown is set
	leftKnown bool
}

func newDB(p *Provider, channel string) *DB {
	d := &DB{
		p: p, channel: channel, revs: newRevisions(maxRevisions), values: newValues(maxLifecycle), views: newViews(&p.layered),
		databases: map[string]*database{},
	}
	d.revs.share = func() int { return maxAllRevisions / max(1, int(p.channels.Load())) }
	return d
}

// space is the database of a namespace, which is created if need be (LEDGER
// §5.2).
func (d *DB) space(ctx context.Context, ns string) (*database, error) {
	name, err := namespaceDB(d.channel, ns)
	if err != nil {
		return nil, err
	}
	return d.ensured(ctx, name)
}

// metadata is the database that holds the savepoint.
func (d *DB) metadata(ctx context.Context) (*database, error) {
	name, err := metadataDB(d.channel)
	if err != nil {
		return nil, err
	}
	return d.ensured(ctx, name)
}

func (d *DB) ensured(ctx context.Context, name string) (*database, error) {
	d.mu.Lock()
	db := d.databases[name]
	if db == nil {
		db = d.p.database(name)
		d.databases[name] = db
	}
	d.mu.Unlock()
	return db, db.ensure(ctx, d.p.cfg.MaxRetries)
}

// patience is how long a snapshot that begins to query waits for a batch that
// waits for other snapshots. It is needed only if somebody holds two of them.
const patience = 10 * time.Second

// Snapshot implements state.DB.
func (d *DB) Snapshot() (state.Snapshot, error) { return d.snapshot(false) }

// NestedSnapshot implements state.Nester.
func (d *DB) NestedSnapshot() (state.Snapshot, error) { return d.snapshot(true) }

func (d *DB) snapshot(nested bool) (state.Snapshot, error) {
	s := &snapshot{db: d, nested: nested}
	if err := d.views.enter(s); err != nil {
		return nil, err
	}
	return s, nil
}

// Address implements state.Remote.
func (d *DB) Address() string { return d.p.c.base.Host }

// HeldSnapshot implements state.Holder.
func (d *DB) HeldSnapshot(nested bool) (state.Snapshot, error) {
	d.enterGate(nested)
	s := &snapshot{db: d, nested: nested, pinned: true}
	if err := d.views.enter(s); err != nil {
		d.gate.Leave()
		return nil, err
	}
	return s, nil
}

// enterGate keeps batches out until gate.Leave.
func (d *DB) enterGate(nested bool) {
	if nested {
		d.gate.EnterNested()
	} else {
		d.gate.EnterWithin(patience)
	}
}

// Savepoint implements state.DB.
func (d *DB) Savepoint() (*state.Version, error) {
	ctx := context.Background()
	db, err := d.metadata(ctx)
	if err != nil {
		return nil, err
	}
	v, _, err := db.readSavepoint(ctx)
	if err == nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		if !d.leftKnown {
			d.left, d.leftKnown = v, true
		}
	}
	return v, err
}

// checkSavepoint refuses to go on with a database that is not as it was left:
// while the server was away it may have been put back to an earlier state, or
// another peer may use it. next is what is about to be written, and may have been
// when the answer got lost.
func (d *DB) checkSavepoint(now *state.Version, next state.Version) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.leftKnown || now != nil && *now == next || now == nil && d.left == nil || now != nil && d.left != nil && *now == *d.left {
		return nil
	}
	return fmt.Errorf("the savepoint of the state database is at %s, but this peer left it at %s: the database was put back, or somebody else writes to it", printVersion(now), printVersion(d.left))
}

func printVersion(v *state.Version) string {
	if v == nil {
		return "<nil>"
	}
	return v.String()
}

// leave notes where a batch has left the savepoint.
func (d *DB) leave(v state.Version) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left, d.leftKnown = &v, true
}

// Reshapes implements state.Reshaper: JSON objects are kept as documents (LEDGER
// §5.3).
func (*DB) Reshapes(value []byte) bool { return startsObject(value) }

// CheckWrite implements state.DB.
func (*DB) CheckWrite(key string, value []byte) error { return checkWrite(key, value) }

// CheckKey implements state.KeyChecker.
func (d *DB) CheckKey(ns, key string) error { return Rules{d.channel}.CheckKey(ns, key) }

// Rules are what a channel's state in CouchDB can hold (LEDGER §5.4), for who has
// none at hand.
type Rules struct{ Channel string }

// CheckWrite is that of state.DB.
func (Rules) CheckWrite(key string, value []byte) error { return checkWrite(key, value) }

// CheckKey is that of state.KeyChecker: a database must be able to have the
// namespace's name (LEDGER §5.2), and a document the key's.
func (r Rules) CheckKey(ns, key string) error {
	if _, err := namespaceDB(r.Channel, ns); err != nil {
		return err
	}
	if foreign(ns, documentID(ns, key)) {
		return fmt.Errorf("key [%s] can not be kept in CouchDB", key)
	}
	return nil
}

// Get implements state.Reader.
func (d *DB) Get(ns, key string) (*state.Value, error) {
	ctx := context.Background()
	db, err := d.space(ctx, ns)
	if err != nil {
		return nil, empty(err)
	}
	id := documentID(ns, key)
	if foreign(ns, id) {
		return nil, nil
	}
	if ns == lifecycleNamespace {
		return d.lifecycle(ctx, db, id)
	}
	return db.value(ctx, id)
}

// value reads one value, nil if it is absent.
func (d *database) value(ctx context.Context, id string) (*state.Value, error) {
	doc, err := d.get(ctx, id)
	if err != nil || doc == nil {
		return nil, err
	}
	return &doc.value, nil
}

// lifecycle reads one value that is likely to be cached.
func (d *DB) lifecycle(ctx context.Context, db *database, id string) (*state.Value, error) {
	key := docKey{db, id}
	v, ok := d.values.get(key)
	if !ok {
		token := d.values.reading()
		var err error
		if v, err = db.value(ctx, id); err != nil {
			return nil, err
		}
		d.values.learn(token, key, v)
	}
	if v == nil {
		return nil, nil
	}
	c := *v
	return &c, nil
}

// GetMany implements state.Reader.
func (d *DB) GetMany(ns string, keys []string) ([]*state.Value, error) {
	out := make([]*state.Value, len(keys))
	if len(keys) == 1 {
		var err error
		out[0], err = d.Get(ns, keys[0])
		return out, err
	}
	ctx := context.Background()
	db, err := d.space(ctx, ns)
	if err != nil {
		return out, empty(err)
	}
	docs, err := d.documents(ctx, db, ns, keys)
	if err != nil {
		return nil, err
	}
	for i, doc := range docs {
		if doc != nil {
			out[i] = &doc.value
		}
	}
	return out, nil
}

// documents reads documents by their keys, nil where they are absent.
func (d *DB) documents(ctx context.Context, db *database, ns string, keys []string) ([]*document, error) {
	out := make([]*document, len(keys))
	var ids []string
	var places []int
	for i, key := range keys {
		if id := documentID(ns, key); !foreign(ns, id) {
			ids, places = append(ids, id), append(places, i)
		}
	}
	work := d.p.parallel()
	size := db.whole.groupOf(d.p.cfg.MaxBatchUpdateSize)
	for from := 0; from < len(ids); from += size {
		to := min(from+size, len(ids))
		work.Go(func() error {
			docs, err := db.readMany(ctx, ids[from:to])
			for i, doc := range docs {
				out[places[from+i]] = doc
			}
			return err
		})
	}
	return out, work.Wait()
}

// Versions implements state.Reader: what is not cached is asked for in groups,
// and kept for the batch that is likely to follow (LEDGER §5.6).
func (d *DB) Versions(lookups []state.Lookup) error {
	missing := map[string][]int{} // by namespace
	for i := range lookups {
		l := &lookups[i]
		missing[l.Namespace] = append(missing[l.Namespace], i)
	}
	ctx := context.Background()
	work := d.p.parallel()
	for ns, places := range missing {
		work.group.Go(func() error {
			ids := make([]string, len(places))
			for k, i := range places {
				ids[k] = documentID(ns, lookups[i].Key)
			}
			revs, err := d.revisions(ctx, ns, ids)
			if err != nil {
				return err
			}
			for k, i := range places {
				lookups[i].Version, lookups[i].Found = revs[k].version, revs[k].found
			}
			return nil
		})
	}
	return work.Wait()
}

// revisions returns what is known of documents, asking the server for what is
// not cached.
func (d *DB) revisions(ctx context.Context, ns string, ids []string) ([]revision, error) {
	out := make([]revision, len(ids))
	db, err := d.space(ctx, ns)
	if err != nil {
		return out, empty(err)
	}
	var missing []string
	var places []int
	for i, id := range ids {
		if foreign(ns, id) {
			continue
		}
		r, ok := d.revs.get(docKey{db, id})
		if !ok {
			missing, places = append(missing, id), append(places, i)
			continue
		}
		out[i] = r
	}
	token := d.revs.reading()
	work := d.p.parallel()
	size := db.light.groupOf(d.p.cfg.MaxBatchUpdateSize)
	for from := 0; from < len(missing); from += size {
		to := min(from+size, len(missing))
		work.Go(func() error {
			got, err := db.readVersions(ctx, missing[from:to])
			for i, r := range got {
				out[places[from+i]] = r
				d.revs.learn(token, docKey{db, missing[from+i]}, r)
			}
			return err
		})
	}
	return out, work.Wait()
}
