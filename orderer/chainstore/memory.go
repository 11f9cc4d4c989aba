package chainstore

import (
	"bytes"
	"fmt"
	"sync"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"

	"github.com/heddle-ledger/heddle/internal/deliver"
	"github.com/heddle-ledger/heddle/internal/protoutil"
)

// checkNext checks that a block continues a chain of the given height. The texts
// are those of the reference's json and ram ledgers.
func checkNext(b *common.Block, height uint64, tipHash []byte) error {
	if n := b.GetHeader().GetNumber(); n != height {
		return fmt.Errorf("block number should have been %d but was %d", height, n)
	}
	if height > 0 && !bytes.Equal(b.Header.PreviousHash, tipHash) {
		return fmt.Errorf("block should have had previous hash of %x but was %x", tipHash, b.Header.PreviousHash)
	}
	return nil
}

// ramBackends keeps the newest blocks in memory and everything is lost with the
// process.
type ramBackends struct{ history int }

func (r ramBackends) open(string) (backend, error) { return &ramBackend{history: r.history}, nil }
func (r ramBackends) list() ([]string, error)      { return nil, nil }
func (r ramBackends) close() error                 { return nil }

type ramBackend struct {
	history int

	mu     sync.RWMutex // guards what follows
	blocks []*deliver.Block
	next   uint64
	hash   []byte // of the newest block
}

func (r *ramBackend) append(b *common.Block) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := checkNext(b, r.next, r.hash); err != nil {
		return err
	}
	r.blocks = append(r.blocks, deliver.NewBlock(b))
	if len(r.blocks) > r.history {
		r.blocks[0] = nil
		r.blocks = r.blocks[1:]
	}
	r.next++
	r.hash = protoutil.BlockHash(b.Header)
	return nil
}

func (r *ramBackend) inMemory() bool { return true }

func (r *ramBackend) block(number uint64) (sized, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	first := r.next - uint64(len(r.blocks))
	if number < first || number >= r.next {
		return sized{}, deliver.ErrNotFound
	}
	return sized{block: r.blocks[number-first]}, nil
}

func (r *ramBackend) height() uint64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.next
}

func (r *ramBackend) oldest() uint64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.next - uint64(len(r.blocks))
}
