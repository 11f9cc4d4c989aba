package ledger

import (
	"sync"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/ledger/pvtstore"
)

// Expect announces a block that is verified to be a coming one and will be
// committed when the blocks before it are. The private store must know of a
// block, durably, before the block file does (LEDGER §15.3 a); of a block
// without private data there is nothing to know but its number, so blocks
// announced early share one sync of the disk, which is over before their turn
// comes. Announcing is optional. It does not wait.
func (l *Ledger) Expect(b *protoutil.Block) {
	if !mentionsPrivateData(b) {
		l.herald.announce(b.Number())
	}
}

// mentionsPrivateData tells whether any transaction of a block, valid or not,
// names private data that could be stored or missing.
func mentionsPrivateData(b *protoutil.Block) bool {
	for i := range b.Len() {
		set, err := b.Tx(i).RWSet()
		if err != nil {
			continue
		}
		for k := range set.Namespaces {
			for _, c := range set.Namespaces[k].Collections {
				if len(c.PvtHash) > 0 {
					return true
				}
			}
		}
	}
	return false
}

// herald lets the private store cover announced blocks, from a goroutine that
// lives while there are any.
type herald struct {
	store *pvtstore.Store

	mu      sync.Mutex // guards what follows
	next    uint64     // behind the last announced block
	running bool
	stopped bool
	err     error      // why the last run ended early
	moved   *sync.Cond // signalled when a run has moved the store or ended
}

func newHerald(store *pvtstore.Store) *herald {
	h := &herald{store: store, next: store.NextBlock()}
	h.moved = sync.NewCond(&h.mu)
	return h
}

// announce takes a block if it follows the blocks known already.
func (h *herald) announce(n uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.running {
		h.next = h.store.NextBlock() // others may have moved it, or the last run failed
	}
	if n != h.next || h.stopped {
		return
	}
	h.next++
	if !h.running {
		h.running, h.err = true, nil
		go h.run()
	}
}

func (h *herald) run() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.err == nil && h.store.NextBlock() < h.next {
		last := h.next - 1
		h.mu.Unlock()
		err := h.store.Cover(last)
		h.mu.Lock()
		h.err = err
		h.moved.Broadcast()
	}
	h.running = false
	h.moved.Broadcast()
}

// await waits until a block is covered, if it was announced. A failure is
// reported for the blocks that it left uncovered.
func (h *herald) await(n uint64) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.running && h.store.NextBlock() <= n {
		h.moved.Wait()
	}
	if h.store.NextBlock() > n || n >= h.next {
		return nil
	}
	return h.err
}

// stop waits for a run under way; there will be no other.
func (h *herald) stop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stopped = true
	for h.running {
		h.moved.Wait()
	}
}
