package kv

import (
	"errors"
	"fmt"

	"github.com/syndtr/goleveldb/leveldb"
)

// EntryError names the entry of a database that cannot be read or makes no
// sense: what an operator needs to know of damage on the disk.
type EntryError struct {
	Dir string // of the database
	Key []byte // with the database name before it (LEDGER §2.1)
	Err error
}

// maxShownKey bounds the bytes of a key in a message.
const maxShownKey = 256

func (e *EntryError) Error() string {
	return fmt.Sprintf("database %s, entry %q: %v", e.Dir, e.Key[:min(len(e.Key), maxShownKey)], e.Err)
}

func (e *EntryError) Unwrap() error { return e.Err }

// EntryError is the error for an entry whose key or value its reader cannot make
// sense of; nil if err is nil.
func (s *Store) EntryError(key []byte, err error) error {
	return entryError(s.db.dir, s.prefix, key, err)
}

// EntryError is Store.EntryError.
func (s *Snapshot) EntryError(key []byte, err error) error {
	return entryError(s.dir, s.prefix, key, err)
}

// EntryError is Store.EntryError for the entry where the iterator stands.
func (i *Iterator) EntryError(err error) error { return entryError(i.dir, nil, i.it.Key(), err) }

func entryError(dir string, prefix, key []byte, err error) error {
	if err == nil {
		return nil
	}
	return &EntryError{Dir: dir, Key: physical(nil, prefix, key), Err: err}
}

// readError is entryError for what goleveldb could not read.
func readError(dir string, prefix, key []byte, err error) error {
	if err == nil || isClosed(err) {
		return err
	}
	return entryError(dir, prefix, key, err)
}

// isClosed tells an error that is no damage.
func isClosed(err error) bool {
	return errors.Is(err, leveldb.ErrClosed) || errors.Is(err, leveldb.ErrSnapshotReleased)
}
