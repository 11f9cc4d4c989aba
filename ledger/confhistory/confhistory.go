// Package confhistory remembers which collections a chaincode had after which
// block (LEDGER §7).
//
// A Store owns one channel's part of the config history database and starts no
// goroutine. It is imported by the ledger room.
package confhistory

import (
	"bytes"
	"fmt"

	"github.com/heddle-ledger/heddle/ledger/kv"
)

// Store is one channel's config history. It is safe for concurrent use.
type Store struct{ store *kv.Store }

// Open returns the config history of a channel.
func Open(db *kv.Database, channelID string) *Store { return &Store{store: db.Store(channelID)} }

// Entry is a chaincode's marshalled CollectionConfigPackage after a block.
type Entry struct {
	Chaincode   string
	Collections []byte
}

// Record writes the packages in force after a block. They must be durable
// before the block's state is (LEDGER §15.3 c), so they are on return.
func (s *Store) Record(block uint64, entries []Entry) error {
	batch := s.store.NewBatch()
	for _, e := range entries {
		batch.Put(entryKey(e.Chaincode, block), e.Collections)
	}
	if err := s.store.Write(batch, true); err != nil {
		return fmt.Errorf("write config history: %w", err)
	}
	return nil
}

// Below returns the package of a chaincode that was in force before a block,
// which must not be 0, and the block that set it; nil if there was none.
func (s *Store) Below(block uint64, chaincode string) (collections []byte, at uint64, err error) {
	prefix := prefixOf(chaincode)
	it := s.store.Scan(entryKey(chaincode, block-1), entryKey(chaincode, 0))
	defer it.Close()
	for it.Next() {
		if at, ok := blockOf(it.Key(), prefix); ok {
			return bytes.Clone(it.Value()), at, nil
		}
	}
	// The upper bound leaves out block 0, which deploys nothing.
	return nil, 0, it.Err()
}

// At returns the package that a block set for a chaincode, nil if it set none.
func (s *Store) At(block uint64, chaincode string) ([]byte, error) {
	return s.store.Get(entryKey(chaincode, block))
}
