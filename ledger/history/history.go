// Package history records which transactions wrote which keys (LEDGER §6). The
// values themselves are in the block files.
//
// A Store owns one channel's part of the history database and starts no
// goroutine. It is imported by the ledger room.
package history

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/ledger/kv"
)

// Store is one channel's history. Commit is called by one goroutine at a time;
// everything else may run beside it.
type Store struct {
	store *kv.Store

	// The committer's, kept from block to block.
	batch *kv.Batch
	keys  []byte // of a block, one behind the other
	ends  []int  // of the keys
}

// maxKept bounds the bytes of keys whose memory a channel keeps for the next block.
const maxKept = 1 << 20

// Sizes of the database in bytes. Its keys are as random as those of the state
// and seldom read, so that many fresh tables may come together before they are
// merged.
const (
	writeBuffer = 2 << 20
	freshTables = 16
	sortedSize  = 128 << 20
	tableSize   = 8 << 20
)

// OpenDatabase opens the history database of all channels.
func OpenDatabase(cfg kv.Config) (*kv.Database, error) {
	cfg.WriteBuffer, cfg.FreshTables, cfg.SortedSize, cfg.TableSize = writeBuffer, freshTables, sortedSize, tableSize
	return kv.Open(cfg)
}

// Open returns the history of a channel.
func Open(db *kv.Database, channelID string) *Store {
	s := db.Store(channelID)
	return &Store{store: s, batch: s.NewBatch()}
}

// Next is the first block that the history does not have.
func (s *Store) Next() (uint64, error) {
	raw, err := s.store.Get(savepointKey())
	if err != nil || raw == nil {
		return 0, err
	}
	sp, _, err := kv.ReadHeight(raw)
	if err != nil {
		return 0, s.store.EntryError(savepointKey(), fmt.Errorf("savepoint: %w", err))
	}
	return sp.Block + 1, nil
}

// Commit adds a block's writes, judged by its codes, and the savepoint in one
// batch. It is rebuilt from the blocks after a crash and therefore not synced.
// The keys go in by their order, which spares the database's table in memory many
// cache misses.
func (s *Store) Commit(b *protoutil.Block, codes []byte) error {
	s.batch.Reset()
	s.keys, s.ends = s.keys[:0], s.ends[:0]
	err := publicWrites(b, codes, func(tx uint64, ns, key string) {
		s.keys = appendEntry(s.keys, ns, key, kv.Height{Block: b.Number(), Tx: tx})
		s.ends = append(s.ends, len(s.keys))
	})
	if err != nil {
		return err
	}
	for _, key := range s.sorted() {
		s.batch.Put(key, nil)
	}
	if len(s.keys) > maxKept {
		defer func() { s.batch, s.keys, s.ends = s.store.NewBatch(), nil, nil }()
	}
	s.batch.Put(savepointKey(), kv.AppendHeight(nil, kv.Height{Block: b.Number(), Tx: uint64(b.Len())}))
	if err := s.store.Write(s.batch, false); err != nil {
		return fmt.Errorf("write history: %w", err)
	}
	return nil
}

// sorted returns the collected keys in order.
func (s *Store) sorted() [][]byte {
	out := make([][]byte, len(s.ends))
	begin := 0
	for i, end := range s.ends {
		out[i] = s.keys[begin:end]
		begin = end
	}
	slices.SortFunc(out, bytes.Compare)
	return out
}

// publicWrites visits the public writes of a block's valid endorser
// transactions, deletes included.
func publicWrites(b *protoutil.Block, codes []byte, visit func(tx uint64, ns, key string)) error {
	if len(codes) != b.Len() {
		return fmt.Errorf("block [%d] has %d transactions but %d validation codes", b.Number(), b.Len(), len(codes))
	}
	for i := range b.Len() {
		if codes[i] != byte(peer.TxValidationCode_VALID) {
			continue
		}
		tx := b.Tx(i)
		ch, err := tx.ChannelHeader()
		if err != nil {
			return fmt.Errorf("transaction [%d] of block [%d]: %w", i, b.Number(), err)
		}
		if ch.Type != int32(common.HeaderType_ENDORSER_TRANSACTION) {
			continue
		}
		set, err := tx.RWSet()
		if err != nil {
			return fmt.Errorf("transaction [%d] of block [%d]: %w", i, b.Number(), err)
		}
		for k := range set.Namespaces {
			for _, w := range set.Namespaces[k].KV.GetWrites() {
				visit(uint64(i), set.Namespaces[k].Namespace, w.Key)
			}
		}
	}
	return nil
}

// Heights walks over the heights recorded for a key, oldest first. Entries of
// other keys that only look alike are passed over as far as the form tells; the
// transaction has the last word (LEDGER §6.2).
func (s *Store) Heights(ns, key string) *Heights {
	prefix := appendPrefix(nil, ns, key)
	return &Heights{it: s.store.Scan(prefix, append(prefix[:len(prefix):len(prefix)], 0xff)), skip: len(prefix)}
}

// Heights is a walk over the heights of a key.
type Heights struct {
	it   *kv.Iterator
	skip int
}

// Next returns the next height; ok is false at the end.
func (i *Heights) Next() (h kv.Height, ok bool, err error) {
	for i.it.Next() {
		h, rest, err := kv.ReadHeight(i.it.Key()[i.skip:])
		if err == nil && len(rest) == 0 {
			return h, true, nil
		}
	}
	return kv.Height{}, false, i.it.Err()
}

// Close ends the walk.
func (i *Heights) Close() { i.it.Close() }
