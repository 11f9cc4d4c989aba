package ledger

import (
	"fmt"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/ledger/kv"
)

// historyDB is one channel's history: which transactions wrote which keys
// (LEDGER §6).
type historyDB struct {
	store *kv.Store

	// The committer's, kept from block to block.
	batch *kv.Batch
	key   []byte
}

var historySavepoint = []byte{0}

func newHistoryDB(db *kv.Database, id string) *historyDB {
	s := db.Store(id)
	return &historyDB{store: s, batch: s.NewBatch()}
}

func appendHistoryPrefix(dst []byte, ns, key string) []byte {
	dst = append(append(dst, ns...), 0)
	return append(append(dst, key...), 0)
}

// next is the first block that the history does not have.
func (h *historyDB) next() (uint64, error) {
	raw, err := h.store.Get(historySavepoint)
	if err != nil || raw == nil {
		return 0, err
	}
	sp, _, err := kv.ReadHeight(raw)
	if err != nil {
		return 0, fmt.Errorf("history savepoint: %w", err)
	}
	return sp.Block + 1, nil
}

// commit adds a block's writes and the savepoint, whose second part is the
// number of transactions, in one batch. It is rebuilt from the blocks after a
// crash and therefore not synced.
func (h *historyDB) commit(b *protoutil.Block, flags []byte) error {
	h.batch.Reset()
	err := publicWrites(b, flags, func(tx uint64, ns, key string) {
		h.key = appendHistoryPrefix(h.key[:0], ns, key)
		h.key = kv.AppendHeight(h.key, kv.Height{Block: b.Number(), Tx: tx})
		h.batch.Put(h.key, nil)
	})
	if err != nil {
		return err
	}
	h.batch.Put(historySavepoint, kv.AppendHeight(nil, kv.Height{Block: b.Number(), Tx: uint64(b.Len())}))
	if err := h.store.Write(h.batch, false); err != nil {
		return fmt.Errorf("write history: %w", err)
	}
	return nil
}

// heights walks over the heights recorded for a key, in order. Entries of other
// keys that only look alike are passed over as far as the form tells.
func (h *historyDB) heights(ns, key string) *heightIterator {
	prefix := appendHistoryPrefix(nil, ns, key)
	return &heightIterator{it: h.store.Scan(prefix, append(prefix[:len(prefix):len(prefix)], 0xff)), skip: len(prefix)}
}

type heightIterator struct {
	it   *kv.Iterator
	skip int
}

// Next returns the next height; ok is false at the end.
func (i *heightIterator) Next() (h kv.Height, ok bool, err error) {
	for i.it.Next() {
		h, rest, err := kv.ReadHeight(i.it.Key()[i.skip:])
		if err == nil && len(rest) == 0 {
			return h, true, nil
		}
	}
	return kv.Height{}, false, i.it.Err()
}

// Close ends the walk.
func (i *heightIterator) Close() { i.it.Close() }
