package events

import (
	"container/list"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/deliver"
	"github.com/heddle-ledger/heddle/internal/protoutil"
)

// cachedBlock is a block with its filtered form, made when first asked for.
type cachedBlock struct {
	block    *deliver.Block
	filtered func() ([]byte, error)
	size     int
}

// newStored wraps the bytes of a block as read from the ledger.
func newStored(number uint64, raw []byte) *cachedBlock {
	b := deliver.NewRawBlock(number, raw)
	return &cachedBlock{
		block: b,
		size:  len(raw),
		filtered: sync.OnceValues(func() ([]byte, error) {
			full, err := b.Proto()
			if err != nil {
				return nil, err
			}
			return encodeFiltered(protoutil.ParseBlock(full))
		}),
	}
}

// newCommitted wraps a block that has just been committed and is decoded
// already.
func newCommitted(view *protoutil.Block) *cachedBlock {
	return &cachedBlock{
		block:    deliver.NewBlock(view.Proto()),
		size:     proto.Size(view.Proto()),
		filtered: sync.OnceValues(func() ([]byte, error) { return encodeFiltered(view) }),
	}
}

type blockKey struct {
	channelID string
	number    uint64
}

type cacheEntry struct {
	key   blockKey
	block *cachedBlock
}

// blockCache keeps the blocks used last, up to a number of bytes.
type blockCache struct {
	limit int

	mu    sync.Mutex // guards all below; held for map operations only
	used  int
	order *list.List // of cacheEntry, used last in front
	byKey map[blockKey]*list.Element
}

// overhead is what a cached block costs beyond the bytes of the block, as a
// multiple: the encoded and the decoded form exist side by side.
const overhead = 3

func newBlockCache(limit int) *blockCache {
	return &blockCache{limit: limit, order: list.New(), byKey: map[blockKey]*list.Element{}}
}

func (c *blockCache) get(channelID string, number uint64) (*cachedBlock, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byKey[blockKey{channelID, number}]
	if !ok {
		return nil, false
	}
	c.order.MoveToFront(e)
	entry, _ := e.Value.(cacheEntry)
	return entry.block, true
}

// add keeps b unless the block is there already, and returns the one kept, so
// that concurrent readers share it. A block beyond the limit is not kept.
func (c *blockCache) add(channelID string, number uint64, b *cachedBlock) *cachedBlock {
	key := blockKey{channelID, number}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.byKey[key]; ok {
		entry, _ := e.Value.(cacheEntry)
		return entry.block
	}
	cost := b.size * overhead
	if cost > c.limit {
		return b
	}
	c.byKey[key] = c.order.PushFront(cacheEntry{key, b})
	c.used += cost
	for c.used > c.limit {
		last := c.order.Back()
		entry, _ := c.order.Remove(last).(cacheEntry)
		delete(c.byKey, entry.key)
		c.used -= entry.block.size * overhead
	}
	return b
}
