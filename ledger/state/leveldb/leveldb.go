// Package leveldb keeps the world state in goleveldb, in the format of the
// reference's stateLeveldb directory (LEDGER §4).
//
// A Provider owns the database directory; it starts no goroutines of its own
// except short-lived ones inside a bulk look-up. It may be imported by the
// ledger room and by peer/node.
package leveldb

import (
	"fmt"
	"runtime"
	"sync"
	"unsafe"

	"github.com/heddle-ledger/heddle/internal/failpoint"
	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/ledger/kv"
	"github.com/heddle-ledger/heddle/ledger/state"
)

// Config describes the database.
type Config struct {
	Dir string // stateLeveldb
	FS  vfs.FS // nil means the machine's file system
	// Points are crash points of tests.
	Points *failpoint.Points
}

// Sizes in bytes. The write buffer holds some hundred blocks' worth of small
// writes, the block cache the hot part of the tables; up to a million keys have
// one level of sorted tables, so that a search asks few of them. With fewer fresh
// tables a state of a million keys is merged so often that each write costs a fifth
// more than in a small one; with more, each range asks more of them.
const (
	writeBuffer = 8 << 20
	freshTables = 12
	sortedSize  = 160 << 20
	tableSize   = 8 << 20
	blockCache  = 64 << 20
	bloomBits   = 10
)

// Provider opens the states of all channels in one directory.
type Provider struct {
	db       *kv.Database
	versions *versions
}

// OpenProvider opens or creates the directory.
func OpenProvider(cfg Config) (*Provider, error) {
	db, err := kv.Open(kv.Config{
		Dir: cfg.Dir, FS: cfg.FS, WriteBuffer: writeBuffer, FreshTables: freshTables, SortedSize: sortedSize, TableSize: tableSize,
		BlockCache: blockCache, BloomBits: bloomBits, Points: cfg.Points,
	})
	if err != nil {
		return nil, err
	}
	return &Provider{db: db, versions: newVersions(versionBytes)}, nil
}

// Open returns the state of a channel.
func (p *Provider) Open(channelID string) (state.DB, error) {
	s := p.db.Store(channelID)
	return &DB{
		reader: reader{src: storeSource{s}}, store: s,
		channel: channelID, cached: p.versions, batch: s.NewBatch(),
	}, nil
}

// Close closes the directory.
func (p *Provider) Close() error {
	p.versions.forget()
	return p.db.Close()
}

// savepointKey holds the height of the last applied block (LEDGER §4.1).
var savepointKey = []byte{0}

// DB is the state of one channel.
type DB struct {
	reader
	store   *kv.Store
	channel string
	cached  *versions

	// Apply is called by one goroutine at a time, so these need no lock.
	batch *kv.Batch
	key   []byte
	value []byte
}

// maxKeptBatch bounds the memory that a channel's batch keeps between blocks.
const maxKeptBatch = 4 << 20

// Snapshot implements state.DB.
func (d *DB) Snapshot() (state.Snapshot, error) {
	s, err := d.store.Snapshot()
	if err != nil {
		return nil, fmt.Errorf("snapshot of state: %w", err)
	}
	return &snapshot{reader: reader{src: snapSource{s}}, snap: s}, nil
}

// Apply implements state.DB: one leveldb batch, savepoint included (LEDGER
// §4.6).
func (d *DB) Apply(b *state.Batch, savepoint *state.Version, sync bool) error {
	d.batch.Reset()
	for _, space := range b.Spaces() {
		writes := space.Sorted()
		for i := range writes {
			w := &writes[i]
			d.key = appendKey(d.key[:0], space.Namespace, w.Key)
			if w.Delete {
				d.batch.Delete(d.key)
				continue
			}
			d.value = appendValue(d.value[:0], w.Version, w.Value, w.Metadata)
			d.batch.Put(d.key, d.value)
		}
	}
	if savepoint != nil {
		d.batch.Put(savepointKey, kv.AppendHeight(nil, kv.Height(*savepoint)))
	}
	err := d.store.Write(d.batch, sync)
	if d.batch.Size() > maxKeptBatch {
		d.batch, d.value = d.store.NewBatch(), nil
	}
	if err != nil {
		d.cached.forget()
		return fmt.Errorf("apply state batch: %w", err)
	}
	d.cached.apply(d.channel, b)
	return nil
}

// Versions implements state.Reader.
func (d *DB) Versions(lookups []state.Lookup) error {
	places, epoch := d.cached.lookUp(d.channel, lookups)
	if len(places) == 0 {
		return nil
	}
	rest := make([]state.Lookup, len(places))
	for i, at := range places {
		rest[i] = lookups[at]
	}
	if err := d.reader.Versions(rest); err != nil {
		return err
	}
	for i, at := range places {
		lookups[at] = rest[i]
	}
	d.cached.note(d.channel, rest, epoch)
	return nil
}

// Savepoint implements state.DB.
func (d *DB) Savepoint() (*state.Version, error) {
	raw, err := d.store.Get(savepointKey)
	if err != nil || raw == nil {
		return nil, err
	}
	h, _, err := kv.ReadHeight(raw)
	if err != nil {
		return nil, d.store.EntryError(savepointKey, fmt.Errorf("savepoint: %w", err))
	}
	v := state.Version(h)
	return &v, nil
}

// CheckWrite implements state.DB: anything goes.
func (*DB) CheckWrite(string, []byte) error { return nil }

type snapshot struct {
	reader
	snap *kv.Snapshot
}

// Release implements state.Snapshot.
func (s *snapshot) Release() { s.snap.Release() }

// source is what a store and a snapshot have in common.
type source interface {
	Get(key []byte) ([]byte, error)
	Scan(start, end []byte) *kv.Iterator
	EntryError(key []byte, err error) error
}

type storeSource struct{ *kv.Store }

type snapSource struct{ *kv.Snapshot }

type reader struct {
	src source
}

// Get implements state.Reader.
func (r reader) Get(ns, key string) (*state.Value, error) {
	var buf [128]byte
	full := appendKey(buf[:0], ns, key)
	raw, err := r.src.Get(full)
	if err != nil || raw == nil {
		return nil, err
	}
	v, err := decodeValue(raw)
	if err != nil {
		return nil, r.src.EntryError(full, err)
	}
	return &v, nil
}

// GetMany implements state.Reader.
func (r reader) GetMany(ns string, keys []string) ([]*state.Value, error) {
	out := make([]*state.Value, len(keys))
	for i, k := range keys {
		v, err := r.Get(ns, k)
		if err != nil {
			return nil, err
		}
		out[i] = v
	}
	return out, nil
}

// parallelFrom is the number of look-ups from which they are spread over the
// processors.
const parallelFrom = 128

// Versions implements state.Reader.
func (r reader) Versions(lookups []state.Lookup) error {
	workers := min(runtime.GOMAXPROCS(0), len(lookups)/(parallelFrom/2))
	if workers < 2 {
		return r.versions(lookups)
	}
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for i := range workers {
		part := lookups[i*len(lookups)/workers : (i+1)*len(lookups)/workers]
		wg.Go(func() { errs[i] = r.versions(part) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (r reader) versions(lookups []state.Lookup) error {
	var buf []byte
	for i := range lookups {
		l := &lookups[i]
		buf = appendKey(buf[:0], l.Namespace, l.Key)
		raw, err := r.src.Get(buf)
		if err != nil {
			return err
		}
		if raw == nil {
			continue
		}
		v, err := decodeVersion(raw)
		if err != nil {
			return r.src.EntryError(buf, err)
		}
		l.Version, l.Found = v, true
	}
	return nil
}

// Range implements state.Reader.
func (r reader) Range(ns, start, end string, limit int32) (state.Iterator, error) {
	if end != "" && start >= end {
		return &iterator{}, nil
	}
	from := appendKey(nil, ns, start)
	var to []byte
	if end == "" {
		to = append([]byte(ns), 1)
	} else {
		to = appendKey(nil, ns, end)
	}
	return &iterator{it: r.src.Scan(from, to), skip: len(ns) + 1, left: limit, paged: limit > 0}, nil
}

// VersionScan implements state.VersionScanner.
func (r reader) VersionScan(ns string) state.VersionScan {
	it := r.src.Scan(appendKey(nil, ns, ""), append([]byte(ns), 1))
	return &versionScan{it: it, ns: ns}
}

type versionScan struct {
	it     *kv.Iterator
	ns     string
	key    []byte // scratch
	sought bool   // the iterator stands on the next key, if there is one
	more   bool
}

// Seek implements state.VersionScan.
func (s *versionScan) Seek(start string) {
	s.key = appendKey(s.key[:0], s.ns, start)
	s.sought, s.more = true, s.it.Seek(s.key)
}

// Next implements state.VersionScan.
func (s *versionScan) Next() (key string, v state.Version, ok bool, err error) {
	if s.sought {
		s.sought, ok = false, s.more
	} else {
		ok = s.it.Next()
	}
	if !ok {
		return "", v, false, s.it.Err()
	}
	raw := s.it.Key()[len(s.ns)+1:]
	key = unsafe.String(unsafe.SliceData(raw), len(raw)) // as long as the iterator stands
	if v, err = decodeVersion(s.it.Value()); err != nil {
		return "", v, false, fmt.Errorf("state value of [%s:%q]: %w", s.ns, key, err)
	}
	return key, v, true, nil
}

// Close implements state.VersionScan.
func (s *versionScan) Close() { s.it.Close() }

// Query implements state.Reader; leveldb knows no rich queries.
func (reader) Query(_ string, q state.Query) (state.Iterator, error) {
	if q.Paged {
		return nil, state.ErrQueryPaged
	}
	return nil, state.ErrQuery
}

// iterator walks a range; the zero value is at its end.
type iterator struct {
	it       *kv.Iterator
	skip     int
	paged    bool
	left     int32
	bookmark string
}

// Next implements state.Iterator.
func (i *iterator) Next() (*state.KV, error) {
	if i.it == nil {
		return nil, nil
	}
	if i.paged && i.left == 0 {
		i.Bookmark()
		return nil, nil
	}
	i.left--
	if !i.it.Next() {
		err := i.it.Err()
		i.Close()
		return nil, err
	}
	key := string(i.it.Key()[i.skip:])
	v, err := decodeValue(append([]byte(nil), i.it.Value()...))
	if err != nil {
		return nil, i.it.EntryError(err)
	}
	return &state.KV{Key: key, Value: v}, nil
}

// Bookmark implements state.Iterator: the key after the last one read.
func (i *iterator) Bookmark() string {
	if i.it != nil {
		if i.it.Next() {
			i.bookmark = string(i.it.Key()[i.skip:])
		}
		i.Close()
	}
	return i.bookmark
}

// Close implements state.Iterator.
func (i *iterator) Close() {
	if i.it != nil {
		i.it.Close()
		i.it = nil
	}
}
