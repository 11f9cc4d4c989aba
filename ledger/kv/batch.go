package kv

import (
	"errors"
	"fmt"
	"path"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/opt"
)

// Batch collects changes that Write applies together or not at all. Keys and
// values are copied, so callers may reuse their buffers. It may be reset and
// used again, which keeps its memory.
type Batch struct {
	ops    leveldb.Batch
	prefix []byte
	key    []byte // scratch for physical keys
	size   int
}

// NewBatch returns an empty batch for this store.
func (s *Store) NewBatch() *Batch { return &Batch{prefix: s.prefix} }

// Put sets a key.
func (b *Batch) Put(key, value []byte) {
	b.key = physical(b.key[:0], b.prefix, key)
	b.ops.Put(b.key, value)
	b.size += len(b.key) + len(value)
}

// Delete removes a key; it need not exist.
func (b *Batch) Delete(key []byte) {
	b.key = physical(b.key[:0], b.prefix, key)
	b.ops.Delete(b.key)
	b.size += len(b.key)
}

// Size is the number of bytes in keys and values.
func (b *Batch) Size() int { return b.size }

// Reset empties the batch.
func (b *Batch) Reset() {
	b.ops.Reset()
	b.size = 0
}

// Write applies a batch. An empty batch writes nothing (LEDGER §2.1). With
// sync the batch is durable on return; without, it survives the end of the
// process but maybe not of the machine. Unsynced batches that are lost are
// always the last ones. After an error it is open whether the batch is there;
// the database takes no more until it is opened again (FailedError).
func (s *Store) Write(b *Batch, sync bool) error {
	if b.ops.Len() == 0 {
		return nil
	}
	if err := s.db.write(&b.ops, sync); err != nil {
		return fmt.Errorf("write batch to leveldb: %w", err)
	}
	return nil
}

// Sync makes everything written so far durable.
func (s *Store) Sync() error {
	// goleveldb has no call for it: a synced write carries all earlier ones in
	// the journal. A delete of a key that never exists leaves no trace.
	var b leveldb.Batch
	b.Delete(append(append([]byte{}, s.prefix...), 0xff, 0xff, 0xff, 0xff, 's', 'y', 'n', 'c'))
	if err := s.db.write(&b, true); err != nil {
		return fmt.Errorf("sync leveldb: %w", err)
	}
	return nil
}

func (d *Database) write(b *leveldb.Batch, sync bool) error {
	if err := d.failure.check(); err != nil {
		return err
	}
	if err := d.point("before-write"); err != nil {
		return err
	}
	err := d.ldb.Write(b, &opt.WriteOptions{Sync: sync, NoWriteMerge: true})
	if errors.Is(err, leveldb.ErrClosed) {
		return err
	}
	if err != nil {
		return d.failure.note(err)
	}
	if sync {
		return d.point("after-sync")
	}
	return d.point("after-write")
}

// point is a crash point of this database.
func (d *Database) point(name string) error {
	if d.points == nil {
		return nil
	}
	return d.points.Hit("kv/" + path.Base(d.dir) + "/" + name)
}
