// Package bookkeeper keeps, beside the state, what the state does not tell: when
// private state expires, and which namespaces ever had metadata (LEDGER §9).
//
// A Store owns one channel's part of the bookkeeper database and starts no
// goroutine. It is imported by the ledger room.
package bookkeeper

import (
	"fmt"
	"maps"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/ledger/kv"
	"github.com/heddle-ledger/heddle/protos/ledgerstore"
)

// Store is one channel's bookkeeping. Writers are one at a time; readers may run
// beside them.
type Store struct {
	schedule, hints *kv.Store
	unsynced        bool // Add has added something; the writer's

	// known are the hints; the map is replaced, never changed.
	known atomic.Pointer[map[string]bool]

	mu    sync.Mutex // guards empty
	empty bool       // the schedule holds no entries at all
}

// Open reads the hints of a channel.
func Open(db *kv.Database, channelID string) (*Store, error) {
	s := &Store{schedule: db.Store(channelID + categorySchedule), hints: db.Store(channelID + categoryHints)}
	known := map[string]bool{}
	it := s.hints.Scan(nil, nil)
	for it.Next() {
		known[string(it.Key())] = true
	}
	err := it.Err()
	it.Close()
	if err != nil {
		return nil, fmt.Errorf("read metadata hints: %w", err)
	}
	s.known.Store(&known)
	it = s.schedule.Scan(nil, nil)
	defer it.Close()
	s.empty = !it.Next()
	return s, it.Err()
}

// MetadataUsed tells whether a namespace ever had metadata.
func (s *Store) MetadataUsed(ns string) bool { return (*s.known.Load())[ns] }

func (s *Store) isEmpty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.empty
}

// Due visits the entries that expire in a block.
func (s *Store) Due(block uint64, visit func(Key, *ledgerstore.PvtdataKeys) error) error {
	if s.isEmpty() {
		return nil
	}
	prefix := expiringAt(block)
	it := s.schedule.Scan(prefix, after(prefix))
	defer it.Close()
	for it.Next() {
		committing, err := committingOf(it.Key(), prefix)
		if err != nil {
			return it.EntryError(err)
		}
		keys, err := decode(it.Value())
		if err != nil {
			return it.EntryError(err)
		}
		if err := visit(Key{block, committing}, keys); err != nil {
			return err
		}
	}
	return it.Err()
}

func decode(raw []byte) (*ledgerstore.PvtdataKeys, error) {
	keys := &ledgerstore.PvtdataKeys{}
	if err := proto.Unmarshal(raw, keys); err != nil {
		return nil, fmt.Errorf("error unmarshaling PvtdataKeys: %w", err)
	}
	return keys, nil
}

// Write makes a block's additions durable, which they must be before its state
// batch is written (LEDGER §15.3 c).
func (s *Store) Write(c *Changes) error { return s.write(c, true) }

// Add is Write without durability; Sync gives it to all that was added.
func (s *Store) Add(c *Changes) error {
	s.unsynced = s.unsynced || len(c.additions) > 0 || len(c.Hints) > 0
	return s.write(c, false)
}

// Sync makes what was added durable.
func (s *Store) Sync() error {
	if !s.unsynced {
		return nil
	}
	if err := s.schedule.Sync(); err != nil { // the hints are in the same journal
		return fmt.Errorf("sync bookkeeper: %w", err)
	}
	s.unsynced = false
	return nil
}

func (s *Store) write(c *Changes, sync bool) error {
	if err := s.writeSchedule(c, sync); err != nil {
		return err
	}
	if len(c.Hints) == 0 {
		return nil
	}
	batch := s.hints.NewBatch()
	known := maps.Clone(*s.known.Load())
	for _, ns := range c.Hints {
		batch.Put([]byte(ns), nil)
		known[ns] = true
	}
	if err := s.hints.Write(batch, sync); err != nil {
		return fmt.Errorf("write metadata hints: %w", err)
	}
	s.known.Store(&known)
	return nil
}

func (s *Store) writeSchedule(c *Changes, sync bool) error {
	if len(c.additions) == 0 {
		return nil
	}
	batch := s.schedule.NewBatch()
	for k, keys := range c.additions {
		key := k.append(nil)
		if c.Merge {
			merged, err := s.behind(key, keys)
			if err != nil {
				return err
			}
			keys = merged
		}
		batch.Put(key, protoutil.Marshal(keys))
	}
	if err := s.schedule.Write(batch, sync); err != nil {
		return fmt.Errorf("write expiry schedule: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.empty = false
	return nil
}

// behind puts keys behind those that an entry has already.
func (s *Store) behind(key []byte, more *ledgerstore.PvtdataKeys) (*ledgerstore.PvtdataKeys, error) {
	raw, err := s.schedule.Get(key)
	if err != nil || raw == nil {
		return more, err
	}
	keys, err := decode(raw)
	if err != nil {
		return nil, s.schedule.EntryError(key, err)
	}
	for ns, colls := range more.GetMap() {
		for coll, list := range colls.GetMap() {
			addKeys(keys, ns, coll, list.GetList())
		}
	}
	return keys, nil
}

// Finish drops the entries that blocks processed whose state is durable. It may
// be done late, so it is not synced.
func (s *Store) Finish(processed []Key) error {
	batch := s.schedule.NewBatch()
	for _, k := range processed {
		batch.Delete(k.append(nil))
	}
	return s.schedule.Write(batch, false)
}

// DropUpTo drops the entries that expired up to a block whose state is durable:
// those of which a crash undid the deletion.
func (s *Store) DropUpTo(block uint64) error {
	if s.isEmpty() {
		return nil
	}
	it := s.schedule.Scan(nil, after(expiringAt(block)))
	defer it.Close()
	batch := s.schedule.NewBatch()
	for it.Next() {
		batch.Delete(it.Key())
	}
	if err := it.Err(); err != nil {
		return err
	}
	return s.schedule.Write(batch, false)
}
