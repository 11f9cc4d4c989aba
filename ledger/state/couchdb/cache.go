package couchdb

import "sync"

// docKey names a document.
type docKey struct {
	db *database
	id string
}

// cache holds what is known of documents. It has two generations: the older one
// is dropped when the younger one has half of the room, so an entry that is used
// stays.
type cache[V any] struct {
	weigh func(V) int // bytes
	room  int
	share func() int // of what all channels have room for together; nil: no less than room

	mu         sync.Mutex // guards what follows
	young, old map[docKey]V
	size       int // of young, in bytes
	// stamp is odd while a batch is being written, and moves when one begins or
	// ends: what was read meanwhile may be out of date.
	stamp uint64
}

func newCache[V any](room int, weigh func(V) int) *cache[V] {
	return &cache[V]{young: map[docKey]V{}, room: room, weigh: weigh}
}

func (c *cache[V]) get(k docKey) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v, ok := c.young[k]; ok {
		return v, true
	}
	v, ok := c.old[k]
	if ok {
		c.put(k, v)
	}
	return v, ok
}

// reading returns a token for learn, before documents are read.
func (c *cache[V]) reading() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stamp
}

// learn takes over what was read, unless a batch was written in the meantime.
func (c *cache[V]) learn(token uint64, k docKey, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if token == c.stamp && token%2 == 0 {
		c.put(k, v)
	}
}

// writing tells that a batch begins, or ends.
func (c *cache[V]) writing() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stamp++
}

// set takes over what a batch wrote.
func (c *cache[V]) set(k docKey, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.put(k, v)
}

// put needs c.mu.
func (c *cache[V]) put(k docKey, v V) {
	if before, ok := c.young[k]; ok {
		c.size -= c.weight(k, before)
	}
	c.young[k] = v
	c.size += c.weight(k, v)
	if c.size > c.limit()/2 {
		c.old, c.young, c.size = c.young, map[docKey]V{}, 0
	}
}

func (c *cache[V]) limit() int {
	if c.share == nil {
		return c.room
	}
	return min(c.room, c.share())
}

func (c *cache[V]) weight(k docKey, v V) int { return len(k.id) + c.weigh(v) + entryOverhead }

// drop forgets an entry.
func (c *cache[V]) drop(k docKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v, ok := c.young[k]; ok {
		c.size -= c.weight(k, v)
		delete(c.young, k)
	}
	delete(c.old, k)
}

func (c *cache[V]) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.young, c.old, c.size = map[docKey]V{}, nil, 0
}
