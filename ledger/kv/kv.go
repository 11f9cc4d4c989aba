// Package kv is the key-value store under every database of the ledger: one
// goleveldb directory shared by all channels, each of which sees only its own
// keys (LEDGER §2.1, §2.2).
//
// A Database owns the directory, its lock and goleveldb's background
// compaction goroutines, all ended by Close. Everything is safe for concurrent
// use, except that a Batch and an Iterator belong to one goroutine at a time.
// This is the only package that imports goleveldb.
package kv

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"syscall"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/filter"
	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/heddle-ledger/heddle/internal/failpoint"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/vfs"
)

// ErrNotDatabase is returned for a directory that holds files but no leveldb;
// opening it would mix a new database into foreign data (LEDGER §2.2).
var ErrNotDatabase = errors.New("directory is not empty and holds no leveldb")

// ErrClosed is returned by operations on a closed database.
var ErrClosed = leveldb.ErrClosed

// Config describes one database directory.
type Config struct {
	Dir string
	// FS is where the directory lives; nil means the machine's file system.
	FS vfs.FS
	// WriteBuffer is the size in bytes of the table kept in memory before it is
	// written out; 0 selects a default. Readers need not know it.
	WriteBuffer int
	// BlockCache bounds the bytes of table blocks kept for reads; 0 selects a
	// default.
	BlockCache int
	// BloomBits per key make look-ups of absent keys cheap; 0 means no filter.
	BloomBits int
	// Points are crash points of tests: kv/<last part of Dir>/before-write,
	// after-write and after-sync.
	Points *failpoint.Points
	// Log hears of batches that a crash of the machine destroyed; may be nil.
	Log *flog.Logger
	// TableSize is the size of a table written by compaction; 0 selects a default.
	TableSize int
	// FreshTables is how many tables as big as the write buffer come together
	// before they are merged into the sorted ones; 0 selects a default. Many of
	// them make writing random keys cheap, and reading dear: each look-up asks
	// all of them, each iterator merges them.
	FreshTables int
	// SortedSize bounds the bytes of the first level of sorted tables; each
	// deeper one may be ten times as big. 0 selects a default.
	SortedSize int
	// Incompressible tells that compression would not make the values smaller.
	Incompressible bool
	// ReadOnly opens an existing database without changing a byte of it: nothing
	// is repaired, compacted or created, and writes are refused. What the journal
	// holds is replayed in memory. See Database.JournalCut.
	ReadOnly bool
}

// Database is an open directory.
type Database struct {
	ldb  *leveldb.DB
	stor storage.Storage
	dir  string
	cut  int64

	failure failure
	points  *failpoint.Points
}

const (
	defaultWriteBuffer = 4 << 20
	defaultBlockCache  = 8 << 20
	defaultTableSize   = 2 << 20
	defaultFreshTables = 4
	defaultSortedSize  = 100 << 20
)

// Open opens or creates the database of a directory and locks it. The text for
// a locked directory is the reference's: `Error opening leveldb: resource
// temporarily unavailable` (LEDGER §2.4). With ReadOnly, a database that is not
// there is an fs.ErrNotExist.
func Open(cfg Config) (*Database, error) {
	fsys := cfg.FS
	if fsys == nil {
		fsys = vfs.OS()
	}
	if s, ok := fsys.(vfs.Small); ok && s.MaxBuffer() > 0 {
		cfg.WriteBuffer = min(orDefault(cfg.WriteBuffer, defaultWriteBuffer), s.MaxBuffer())
		cfg.BlockCache = min(orDefault(cfg.BlockCache, defaultBlockCache), s.MaxBuffer())
	}
	if cfg.ReadOnly {
		return openReadOnly(cfg, fsys)
	}
	if err := checkDir(fsys, cfg.Dir); err != nil {
		return nil, fmt.Errorf("open database %s: %w", cfg.Dir, err)
	}
	if err := fsys.MkdirAll(cfg.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("create database directory: %w", err)
	}
	stor, err := openStorage(fsys, cfg.Dir)
	if err != nil {
		return nil, openError(cfg.Dir, err)
	}
	if err := dropUnfinished(fsys, cfg.Dir); err != nil {
		stor.Close()
		return nil, fmt.Errorf("remove what is left of an unfinished database %s: %w", cfg.Dir, err)
	}
	cut, aside, err := cutJournal(fsys, cfg.Dir, stor)
	if err != nil {
		stor.Close()
		return nil, fmt.Errorf("check journal of %s: %w", cfg.Dir, err)
	}
	if cut > 0 && cfg.Log != nil {
		cfg.Log.Warnf("Database %s: cut %d bytes of incomplete batches off its journal", cfg.Dir, cut)
	}
	if aside != "" && cfg.Log != nil {
		cfg.Log.Errorf("Database %s: intact batches followed the damage in its journal and are cut off, too. If the machine did not crash they were stored for good; the journal as it was is kept as %s", cfg.Dir, aside)
	}
	d := &Database{stor: stor, dir: cfg.Dir, failure: failure{dir: cfg.Dir}, points: cfg.Points}
	guarded := &guardedStorage{Storage: stor, failure: &d.failure}
	if d.ldb, err = leveldb.Open(&bufferedTables{&orderedStorage{Storage: guarded}}, cfg.options()); err != nil {
		stor.Close()
		return nil, openError(cfg.Dir, err)
	}
	if err := d.checkFormat(); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// openError keeps the reference's text for a directory that is in use, and names
// the directory for all that an operator has to repair.
func openError(dir string, err error) error {
	if errors.Is(err, syscall.EAGAIN) || errors.Is(err, vfs.ErrLocked) {
		return fmt.Errorf("Error opening leveldb: %w", err) //nolint:staticcheck // the reference's text
	}
	return fmt.Errorf("Error opening leveldb: %s: %w", dir, err) //nolint:staticcheck // begins like the reference's
}

// FormatError refuses a database that a later version of the reference wrote:
// its keys mean something else (LEDGER §23.1).
type FormatError struct {
	Dir    string
	Format string // the data's, as recorded
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("unexpected format. db info = [leveldb at [%s]], data format = [%s], expected format = []", e.Dir, e.Format)
}

// checkFormat looks for the format record of later versions.
func (d *Database) checkFormat() error {
	v, err := d.Store("_").Get([]byte("f"))
	if err != nil {
		return fmt.Errorf("read format of %s: %w", d.dir, err)
	}
	if v == nil {
		return nil
	}
	return &FormatError{Dir: d.dir, Format: string(v)}
}

func (cfg Config) options() *opt.Options {
	fresh := orDefault(cfg.FreshTables, defaultFreshTables)
	o := &opt.Options{
		ReadOnly:                     cfg.ReadOnly,
		WriteBuffer:                  orDefault(cfg.WriteBuffer, defaultWriteBuffer),
		BlockCacheCapacity:           orDefault(cfg.BlockCache, defaultBlockCache),
		CompactionTableSize:          orDefault(cfg.TableSize, defaultTableSize),
		CompactionL0Trigger:          fresh,
		WriteL0SlowdownTrigger:       2 * fresh,
		WriteL0PauseTrigger:          3 * fresh,
		DisableSeeksCompaction:       true,
		DisableLargeBatchTransaction: true,
		// goleveldb takes this for the size of the fresh tables, a tenth of that of
		// the first sorted ones.
		CompactionTotalSize:           orDefault(cfg.SortedSize, defaultSortedSize) / levelFactor,
		CompactionTotalSizeMultiplier: levelFactor,
		// With the pool, blocks for the cache may come in a buffer as big as a whole
		// table, and count as that big: a few of them would fill it.
		DisableBufferPool: true,
	}
	if cfg.BloomBits > 0 {
		o.Filter = filter.NewBloomFilter(cfg.BloomBits)
	}
	if cfg.Incompressible {
		o.Compression = opt.NoCompression
	}
	return o
}

// levelFactor is how many times bigger than the level above a level may be.
const levelFactor = 10

func orDefault(v, def int) int {
	if v == 0 {
		return def
	}
	return v
}

// checkDir accepts a directory that is missing, empty, or holds a leveldb.
func checkDir(fsys vfs.FS, dir string) error {
	entries, err := fsys.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || (err == nil && len(entries) == 0) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := fsys.Stat(path.Join(dir, "CURRENT")); errors.Is(err, fs.ErrNotExist) {
		for _, e := range entries {
			// Files of an open that was cut short before CURRENT was written.
			if !isUnfinished(e.Name()) {
				return ErrNotDatabase
			}
		}
	} else if err != nil {
		return err
	}
	return nil
}

// isUnfinished tells the files that there are before CURRENT is: of those that
// begin with its name it is made.
func isUnfinished(name string) bool {
	switch name {
	case "LOCK", "LOG", "LOG.old":
		return true
	}
	return strings.HasPrefix(name, "MANIFEST-") || strings.HasPrefix(name, "CURRENT.")
}

// dropUnfinished removes what the creation of a database has left that was cut
// short before there was a CURRENT, and so before there were data. goleveldb
// would refuse the directory for good. It needs the lock.
func dropUnfinished(fsys vfs.FS, dir string) error {
	entries, err := fsys.ReadDir(dir)
	if err != nil || !allUnfinished(entries) {
		return err
	}
	for _, e := range entries {
		if n := e.Name(); n == "LOCK" || n == "LOG" || n == "LOG.old" {
			continue
		}
		if err := fsys.Remove(path.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// allUnfinished tells a directory that holds no database yet.
func allUnfinished(entries []fs.DirEntry) bool {
	for _, e := range entries {
		if !isUnfinished(e.Name()) {
			return false
		}
	}
	return true
}

// Dir is the directory of the database.
func (d *Database) Dir() string { return d.dir }

// Close ends all use of the database and releases its lock.
func (d *Database) Close() error {
	err := d.ldb.Close()
	if cerr := d.stor.Close(); err == nil {
		err = cerr
	}
	return err
}

// Store is the part of the database that belongs to one database name, usually
// a channel id: physical keys are name, 00, logical key (LEDGER §2.1).
func (d *Database) Store(name string) *Store {
	return &Store{db: d, prefix: append([]byte(name), 0)}
}

// Raw is the database without any prefix, for the ledger list (LEDGER §2.3).
func (d *Database) Raw() *Store { return &Store{db: d} }

// Compact rewrites the whole database into its smallest form. Nobody needs it but
// tests, which damage tables.
func (d *Database) Compact() error { return d.ldb.CompactRange(rangeAll) }

// Store sees the keys of one database name.
type Store struct {
	db     *Database
	prefix []byte // name and 00; empty for a raw store
}

// Get returns the value of a key, or nil if the key is absent. An empty value
// that is present is not nil.
func (s *Store) Get(key []byte) ([]byte, error) {
	v, err := get(s.db.ldb, s.prefix, key)
	return v, readError(s.db.dir, s.prefix, key, err)
}

// Has tells whether a key is present.
func (s *Store) Has(key []byte) (bool, error) {
	var buf [128]byte
	ok, err := s.db.ldb.Has(physical(buf[:0], s.prefix, key), nil)
	return ok, readError(s.db.dir, s.prefix, key, err)
}

// Put writes one key; see Write for sync.
func (s *Store) Put(key, value []byte, sync bool) error {
	b := s.NewBatch()
	b.Put(key, value)
	return s.Write(b, sync)
}

// Delete removes one key; see Write for sync.
func (s *Store) Delete(key []byte, sync bool) error {
	b := s.NewBatch()
	b.Delete(key)
	return s.Write(b, sync)
}

type getter interface {
	Get(key []byte, ro *opt.ReadOptions) ([]byte, error)
}

func get(g getter, prefix, key []byte) ([]byte, error) {
	var buf [128]byte // most keys fit, so that a look-up allocates its value only
	v, err := g.Get(physical(buf[:0], prefix, key), nil)
	switch {
	case errors.Is(err, leveldb.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, err
	case v == nil:
		return []byte{}, nil
	}
	return v, nil
}

func physical(buf, prefix, key []byte) []byte {
	return append(append(buf, prefix...), key...)
}
