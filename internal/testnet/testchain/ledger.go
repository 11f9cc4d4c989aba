package testchain

import (
	"fmt"
	"sync"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset/kvrwset"

	"github.com/heddle-ledger/heddle/internal/protoutil"
)

// Ledger is a ledger in memory that applies the writes of valid transactions as
// LEDGER §12.3 says, without MVCC. It is safe for concurrent use, and what it
// shows is always the newest state.
type Ledger struct {
	mu     sync.RWMutex // guards what follows
	height uint64
	txids  map[string]bool
	state  map[stateKey]*entry
	Blocks []*protoutil.Block

	// Life is after how many blocks the keys of all collections are purged; 0
	// means never (LEDGER §14).
	Life uint64
	// OnCommit, if set, is called before a block is applied.
	OnCommit func(b *protoutil.Block) error
}

type stateKey struct{ ns, coll, key string }

type entry struct {
	block    uint64 // that wrote it
	value    []byte
	metadata map[string][]byte
}

// NewLedger makes a ledger with the blocks, all of whose transactions are valid
// if their flags do not say otherwise.
func NewLedger(blocks ...*common.Block) (*Ledger, error) {
	l := &Ledger{txids: map[string]bool{}, state: map[stateKey]*entry{}}
	for _, b := range blocks {
		if err := l.Commit(protoutil.ParseBlock(b)); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// Height is the number of blocks.
func (l *Ledger) Height() uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.height
}

// HasTx tells whether a block has a transaction with that id.
func (l *Ledger) HasTx(id string) (bool, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.txids[id], nil
}

// Commit applies the next block.
func (l *Ledger) Commit(b *protoutil.Block) error {
	if l.OnCommit != nil {
		if err := l.OnCommit(b); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if b.Number() != l.height {
		return fmt.Errorf("expected block %d, got %d", l.height, b.Number())
	}
	flags := b.Flags()
	for i := range b.Len() {
		if id := b.Tx(i).ID(); id != "" {
			l.txids[id] = true
		}
		if len(flags) > 0 && flags[i] != 0 {
			continue
		}
		if set, err := b.Tx(i).RWSet(); err == nil {
			l.apply(set)
		}
	}
	l.purge()
	l.height++
	l.Blocks = append(l.Blocks, b)
	return nil
}

func (l *Ledger) purge() {
	if l.Life == 0 {
		return
	}
	for k, e := range l.state {
		if k.coll != "" && e.block+l.Life+1 <= l.height {
			delete(l.state, k)
		}
	}
}

func (l *Ledger) apply(set *protoutil.TxRWSet) {
	for i := range set.Namespaces {
		ns := &set.Namespaces[i]
		for _, w := range ns.KV.GetWrites() {
			l.write(stateKey{ns.Namespace, "", w.Key}, w.Value, w.IsDelete || len(w.Value) == 0)
		}
		for _, w := range ns.KV.GetMetadataWrites() {
			l.setMetadata(stateKey{ns.Namespace, "", w.Key}, w.Entries)
		}
		for _, c := range ns.Collections {
			for _, w := range c.Hashed.GetHashedWrites() {
				l.write(stateKey{ns.Namespace, c.Name, string(w.KeyHash)}, w.ValueHash, w.IsDelete || len(w.ValueHash) == 0)
			}
			for _, w := range c.Hashed.GetMetadataWrites() {
				l.setMetadata(stateKey{ns.Namespace, c.Name, string(w.KeyHash)}, w.Entries)
			}
		}
	}
}

func (l *Ledger) write(k stateKey, value []byte, remove bool) {
	if remove {
		delete(l.state, k)
		return
	}
	e := &entry{block: l.height, value: value}
	if old := l.state[k]; old != nil {
		e.metadata = old.metadata
	}
	l.state[k] = e
}

func (l *Ledger) setMetadata(k stateKey, entries []*kvrwset.KVMetadataEntry) {
	old := l.state[k]
	if old == nil {
		return
	}
	e := &entry{block: l.height, value: old.value, metadata: map[string][]byte{}}
	for _, m := range entries {
		e.metadata[m.Name] = m.Value
	}
	l.state[k] = e
}

func (l *Ledger) get(k stateKey) entry {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if e := l.state[k]; e != nil {
		return *e
	}
	return entry{}
}

// GetState reads a public key.
func (l *Ledger) GetState(ns, key string) ([]byte, error) {
	return l.get(stateKey{ns, "", key}).value, nil
}

// GetStateMetadata reads a public key's metadata.
func (l *Ledger) GetStateMetadata(ns, key string) (map[string][]byte, error) {
	return l.get(stateKey{ns, "", key}).metadata, nil
}

// GetPrivateDataMetadataByHash reads the metadata of a collection's key.
func (l *Ledger) GetPrivateDataMetadataByHash(ns, coll string, keyHash []byte) (map[string][]byte, error) {
	return l.get(stateKey{ns, coll, string(keyHash)}).metadata, nil
}
