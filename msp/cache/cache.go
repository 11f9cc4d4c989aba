// Package cache is a map bounded in bytes, for results that cost much to make and are asked for often.
//
// It is split into shards, each with its own lock, so that a hit takes a read lock, one map look-up and no
// allocation. What is evicted is chosen by second chance. It starts no goroutine and is safe for
// concurrent use. msp and the orderer's message filters import it.
package cache

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
)

const (
	shards = 16
	// entryOverhead is what an entry costs beside its key and value: itself, its map and ring slots.
	entryOverhead = 128
)

// Cache maps byte strings to values.
type Cache[V any] struct {
	seed   maphash.Seed
	shards [shards]shard[V]
}

type shard[V any] struct {
	// mu guards all of the shard. used of an entry may be set under a read lock.
	mu      sync.RWMutex
	entries map[uint64]*entry[V]
	ring    []*entry[V]
	hand    int
	bytes   int
	max     int
}

type entry[V any] struct {
	hash  uint64
	key   string
	value V
	cost  int
	used  atomic.Bool
}

// New returns a cache that holds at most about maxBytes.
func New[V any](maxBytes int) *Cache[V] {
	c := &Cache[V]{seed: maphash.MakeSeed()}
	for i := range c.shards {
		c.shards[i].entries = make(map[uint64]*entry[V])
		c.shards[i].max = maxBytes / shards
	}
	return c
}

// Get returns the value of key.
func (c *Cache[V]) Get(key []byte) (value V, ok bool) {
	hash := maphash.Bytes(c.seed, key)
	s := &c.shards[hash%shards]
	s.mu.RLock()
	e := s.entries[hash]
	// Two keys with one hash share a place: whoever came last has it.
	if e == nil || e.key != string(key) {
		s.mu.RUnlock()
		return value, false
	}
	value = e.value
	if !e.used.Load() { // a store to a shared line costs more than a load
		e.used.Store(true)
	}
	s.mu.RUnlock()
	return value, true
}

// Put sets the value of key. cost is what the value holds in bytes. A value too big for the cache is
// not kept.
func (c *Cache[V]) Put(key []byte, value V, cost int) {
	cost += len(key) + entryOverhead
	hash := maphash.Bytes(c.seed, key)
	s := &c.shards[hash%shards]
	if cost > s.max {
		return
	}
	e := &entry[V]{hash: hash, key: string(key), value: value, cost: cost}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.entries[hash]; old != nil {
		s.bytes -= old.cost
		s.entries[hash] = e
		for i, r := range s.ring {
			if r == old {
				s.ring[i] = e
				break
			}
		}
	} else {
		s.entries[hash] = e
		s.ring = append(s.ring, e)
	}
	s.bytes += cost
	s.evict(e)
}

// evict takes entries out until the shard fits, but never keep.
func (s *shard[V]) evict(keep *entry[V]) {
	for s.bytes > s.max && len(s.ring) > 1 {
		if s.hand >= len(s.ring) {
			s.hand = 0
		}
		e := s.ring[s.hand]
		if e == keep || e.used.Swap(false) {
			s.hand++
			continue
		}
		last := len(s.ring) - 1
		s.ring[s.hand] = s.ring[last]
		s.ring[last] = nil
		s.ring = s.ring[:last]
		delete(s.entries, e.hash)
		s.bytes -= e.cost
	}
}

// Bytes is what the cache holds at the moment.
func (c *Cache[V]) Bytes() int {
	total := 0
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.RLock()
		total += s.bytes
		s.mu.RUnlock()
	}
	return total
}

// Len is the number of entries.
func (c *Cache[V]) Len() int {
	total := 0
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.RLock()
		total += len(s.ring)
		s.mu.RUnlock()
	}
	return total
}
