package kv

import (
	"fmt"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/iterator"
	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/util"
)

var rangeAll = util.Range{}

// Snapshot is the store as it was at one moment. It must be released; until
// then it keeps old versions of changed keys on disk.
type Snapshot struct {
	snap   *leveldb.Snapshot
	dir    string
	prefix []byte
}

// Snapshot takes a snapshot.
func (s *Store) Snapshot() (*Snapshot, error) {
	snap, err := s.db.ldb.GetSnapshot()
	if err != nil {
		return nil, err
	}
	return &Snapshot{snap: snap, dir: s.db.dir, prefix: s.prefix}, nil
}

// Get is Store.Get at the moment of the snapshot.
func (s *Snapshot) Get(key []byte) ([]byte, error) {
	v, err := get(s.snap, s.prefix, key)
	return v, readError(s.dir, s.prefix, key, err)
}

// Scan is Store.Scan at the moment of the snapshot.
func (s *Snapshot) Scan(start, end []byte) *Iterator {
	return span{dir: s.dir, prefix: s.prefix, start: start, end: end}.over(s.snap)
}

// Release gives the snapshot up. It may be called more than once.
func (s *Snapshot) Release() { s.snap.Release() }

// Iterator walks a range of keys in order. It starts before the first one, sees
// the range as it was when it was made, and must be closed.
type Iterator struct {
	it     iterator.Iterator
	dir    string
	from   []byte // the physical key where it begins
	sought []byte // scratch
	prefix int
}

// Scan walks the keys from start (inclusive) to end (exclusive). A nil or empty
// start is the first key; a nil end is the end of the store (LEDGER §2.1).
func (s *Store) Scan(start, end []byte) *Iterator {
	return span{dir: s.db.dir, prefix: s.prefix, start: start, end: end}.over(s.db.ldb)
}

// Walk is Scan for many keys that nobody will ask for soon: they do not take the
// place of others in the cache.
func (s *Store) Walk(start, end []byte) *Iterator {
	return span{dir: s.db.dir, prefix: s.prefix, start: start, end: end, once: true}.over(s.db.ldb)
}

type scanner interface {
	NewIterator(slice *util.Range, ro *opt.ReadOptions) iterator.Iterator
}

// span describes an iterator.
type span struct {
	dir                string
	prefix, start, end []byte
	once               bool // the blocks read are not worth a place in the cache
}

func (w span) over(src scanner) *Iterator {
	r := &util.Range{Start: physical(nil, w.prefix, w.start)}
	switch {
	case w.end != nil:
		r.Limit = physical(nil, w.prefix, w.end)
	case len(w.prefix) > 0:
		r.Limit = append([]byte{}, w.prefix...)
		r.Limit[len(w.prefix)-1] = 1 // name 01: the end of name 00 …
	}
	it := src.NewIterator(r, &opt.ReadOptions{DontFillCache: w.once})
	return &Iterator{it: it, dir: w.dir, from: r.Start, prefix: len(w.prefix)}
}

// Next moves to the next key and tells whether there is one.
func (i *Iterator) Next() bool { return i.it.Next() }

// Seek moves to the first key at or after the given one, a logical key.
func (i *Iterator) Seek(key []byte) bool {
	i.sought = physical(i.sought[:0], i.from[:i.prefix], key)
	return i.it.Seek(i.sought)
}

// Key is the logical key, valid until the next move.
func (i *Iterator) Key() []byte { return i.it.Key()[i.prefix:] }

// Value is the value, valid until the next move.
func (i *Iterator) Value() []byte { return i.it.Value() }

// Err is the error that ended the walk, if any.
func (i *Iterator) Err() error {
	err := i.it.Error()
	if err == nil || isClosed(err) {
		return err
	}
	return fmt.Errorf("database %s, scan from %q: %w", i.dir, i.from[:min(len(i.from), maxShownKey)], err)
}

// Close releases the iterator.
func (i *Iterator) Close() { i.it.Release() }
