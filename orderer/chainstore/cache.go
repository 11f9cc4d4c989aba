package chainstore

import (
	"container/list"
	"sync"

	"github.com/heddle-ledger/heddle/internal/deliver"
)

// cacheBytes bounds the blocks of all chains that are kept in memory.
const cacheBytes = 16 << 20

// sized is a block with the memory that it takes, encoded form included.
type sized struct {
	block *deliver.Block
	bytes int
}

type cacheKey struct {
	chain  *Chain
	number uint64
}

// cacheEntry is a block of the cache; it is there before it is read, so that
// those who want it at the same time read it once and share it.
type cacheEntry struct {
	key  cacheKey
	load sync.Once // sets what follows, with the cache's mu held
	sized
	err error
}

// blockCache keeps the blocks used last, up to a number of bytes, but always the
// very last one. Readers of a chain at the same place share blocks and their
// encoded form, whether they wait at the tip or catch up.
type blockCache struct {
	limit int

	mu    sync.Mutex // guards what follows; not held while blocks are read
	bytes int
	order list.List // of *cacheEntry, used last in front
	byKey map[cacheKey]*list.Element
}

func newBlockCache(limit int) *blockCache {
	return &blockCache{limit: limit, byKey: make(map[cacheKey]*list.Element)}
}

// get returns a block, with load unless it is in the cache.
func (c *blockCache) get(key cacheKey, load func() (sized, error)) (*deliver.Block, error) {
	element := c.element(key)
	e, _ := element.Value.(*cacheEntry)
	e.load.Do(func() {
		b, err := load()
		c.loaded(element, b, err)
	})
	return e.block, e.err
}

// add puts in a block that has just been made.
func (c *blockCache) add(key cacheKey, b sized) {
	_, _ = c.get(key, func() (sized, error) { return b, nil })
}

func (c *blockCache) element(key cacheKey) *list.Element {
	c.mu.Lock()
	defer c.mu.Unlock()
	element, ok := c.byKey[key]
	if ok {
		c.order.MoveToFront(element)
		return element
	}
	element = c.order.PushFront(&cacheEntry{key: key})
	c.byKey[key] = element
	return element
}

// loaded completes an entry with what was read, and makes room for it.
func (c *blockCache) loaded(element *list.Element, b sized, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, _ := element.Value.(*cacheEntry)
	present := c.byKey[e.key] == element // or it was evicted in the meantime
	if err != nil && present {
		c.drop(element)
	}
	e.sized, e.err = b, err
	if err != nil || !present {
		return
	}
	c.bytes += e.bytes
	for back := c.order.Back(); c.bytes > c.limit && back != c.order.Front(); back = c.order.Back() {
		c.drop(back)
	}
}

// drop takes an entry out. One that is still being read counts no bytes.
func (c *blockCache) drop(element *list.Element) {
	e, _ := c.order.Remove(element).(*cacheEntry)
	delete(c.byKey, e.key)
	c.bytes -= e.bytes
}
