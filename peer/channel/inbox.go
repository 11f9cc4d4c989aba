package channel

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"google.golang.org/protobuf/proto"
)

// Limits of an inbox. The block that is next in line is always admitted.
const (
	inboxBlocks = 200
	inboxBytes  = 64 << 20
)

// Source is who brought a block, to be told when it turns out to be bad.
type Source interface {
	// Reject must not block.
	Reject(err error)
}

// ErrFull says that a block is too far ahead to be taken now.
var ErrFull = errors.New("the block is too far ahead")

// arrival is a block in the inbox.
type arrival struct {
	block *common.Block
	from  Source // may be nil
	size  int
}

// inbox is the ordering buffer in front of a channel's pipeline: blocks come from
// anywhere in any order and leave in sequence (GOSSIP-DISCOVERY §13.1).
type inbox struct {
	mu      sync.Mutex // guards what follows
	head    uint64     // number of the block that leaves next
	blocks  map[uint64]arrival
	bytes   int
	changed chan struct{} // closed and replaced at every change
}

func newInbox(head uint64) *inbox {
	return &inbox{head: head, blocks: map[uint64]arrival{}, changed: make(chan struct{})}
}

// notify wakes everybody who waits. mu is held.
func (b *inbox) notify() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// next is the lowest number that is not here yet.
func (b *inbox) next() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.head
	for {
		if _, ok := b.blocks[n]; !ok {
			return n
		}
		n++
	}
}

// len is the number of blocks that wait.
func (b *inbox) len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.blocks)
}

// put adds a block. Blocks that have left or are here already are ignored. When
// there is no room it waits, or returns ErrFull if wait is false.
func (b *inbox) put(ctx context.Context, block *common.Block, from Source, wait bool) error {
	if block.GetHeader() == nil {
		return errors.New("block without header")
	}
	n, size := block.Header.Number, proto.Size(block)
	for {
		b.mu.Lock()
		if _, have := b.blocks[n]; have || n < b.head {
			b.mu.Unlock()
			return nil
		}
		if n == b.head || (n-b.head < inboxBlocks && b.bytes+size <= inboxBytes) {
			b.blocks[n] = arrival{block: block, from: from, size: size}
			b.bytes += size
			b.notify()
			b.mu.Unlock()
			return nil
		}
		changed := b.changed
		b.mu.Unlock()
		if !wait {
			return fmt.Errorf("block [%d]: %w", n, ErrFull)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// peek waits for the block that leaves next; it stays until advance or reject.
func (b *inbox) peek(ctx context.Context) (arrival, error) {
	for {
		b.mu.Lock()
		a, ok := b.blocks[b.head]
		changed := b.changed
		b.mu.Unlock()
		if ok {
			return a, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return arrival{}, ctx.Err()
		}
	}
}

// advance lets the block that is next in line go.
func (b *inbox) advance() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.remove(b.head)
	b.head++
	b.notify()
}

// reject drops the block that is next in line, everything else from its source,
// and tells the source.
func (b *inbox) reject(err error) {
	b.mu.Lock()
	from := b.blocks[b.head].from
	b.remove(b.head)
	for n, a := range b.blocks {
		if a.from == from {
			b.remove(n)
		}
	}
	b.notify()
	b.mu.Unlock()
	if from != nil {
		from.Reject(err)
	}
}

// remove drops a block. mu is held.
func (b *inbox) remove(n uint64) {
	b.bytes -= b.blocks[n].size
	delete(b.blocks, n)
}
