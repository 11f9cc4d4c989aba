package couchdb

import (
	"sync"

	"github.com/heddle-ledger/heddle/ledger/state"
)

// revision is what is known of a document without its value. One that is absent
// has no revision: a new document needs none, also over a deleted one.
type revision struct {
	found   bool
	version state.Version
	rev     string
}

// written is what is known of a document that was just written.
func written(w *state.Write, rev string) revision {
	if w.Delete {
		return revision{}
	}
	return revision{found: true, version: w.Version, rev: rev}
}

// docKey names a document.
type docKey struct {
	db *database
	id string
}

// maxRevisions bounds the cached revisions of a channel, in bytes.
const maxRevisions = 32 << 20

// revisionOverhead is what an entry takes besides its strings, about.
const revisionOverhead = 120

// revisionCache holds versions and revisions of documents that were looked up or
// written lately. It has two generations: the older one is dropped when the
// younger one has half of the room, so an entry that is used stays.
type revisionCache struct {
	mu         sync.Mutex // guards what follows
	young, old map[docKey]revision
	size       int // of young, in bytes
	room       int
	// stamp is odd while a batch is being written, and moves when one begins or
	// ends: what was read meanwhile may be out of date.
	stamp uint64
}

func newRevisionCache(room int) *revisionCache {
	return &revisionCache{young: map[docKey]revision{}, room: room}
}

func (c *revisionCache) get(k docKey) (revision, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r, ok := c.young[k]; ok {
		return r, true
	}
	r, ok := c.old[k]
	if ok {
		c.put(k, r)
	}
	return r, ok
}

// reading returns a token for learn, before documents are read.
func (c *revisionCache) reading() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stamp
}

// learn takes over what was read, unless a batch was written in the meantime.
func (c *revisionCache) learn(token uint64, k docKey, r revision) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if token == c.stamp && token%2 == 0 {
		c.put(k, r)
	}
}

// writing tells that a batch begins, or ends.
func (c *revisionCache) writing() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stamp++
}

// set takes over what a batch wrote.
func (c *revisionCache) set(k docKey, r revision) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.put(k, r)
}

// put needs c.mu.
func (c *revisionCache) put(k docKey, r revision) {
	if _, ok := c.young[k]; !ok {
		c.size += len(k.id) + len(r.rev) + revisionOverhead
	}
	c.young[k] = r
	if c.size > c.room/2 {
		c.old, c.young, c.size = c.young, map[docKey]revision{}, 0
	}
}

func (c *revisionCache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.young, c.old, c.size = map[docKey]revision{}, nil, 0
}
