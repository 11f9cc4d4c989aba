package ledger

import (
	"sync"

	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/queryresult"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset/kvrwset"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/ledger/blockfile"
	"github.com/heddle-ledger/heddle/ledger/history"
)

// HistoryExecutor answers queries for the past values of keys. It must be ended
// with Done.
type HistoryExecutor struct {
	l     *Ledger
	below uint64 // the block from which on nothing is shown

	mu   sync.Mutex // guards what follows
	done bool
	open map[*historyIterator]struct{}
}

// NewHistoryExecutor returns an executor over the blocks below a height, whatever
// is committed meanwhile. For the history that belongs to a simulation it is the
// ledger's Height from before the simulation began: the reference, where a
// simulation holds up the commit, does not show it later values than those of
// its state. It fails if the history database is not enabled.
func (l *Ledger) NewHistoryExecutor(below uint64) (*HistoryExecutor, error) {
	if l.history == nil {
		return nil, ErrHistoryOff
	}
	return &HistoryExecutor{l: l, below: below, open: map[*historyIterator]struct{}{}}, nil
}

// GetHistoryForKey walks over the values that valid transactions gave a key,
// oldest first. Nothing of it is recorded in a simulation.
func (h *HistoryExecutor) GetHistoryForKey(ns, key string) (HistoryIterator, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.done {
		return nil, ErrDone
	}
	it := &historyIterator{h: h, ns: ns, key: key, heights: h.l.history.Heights(ns, key)}
	h.open[it] = struct{}{}
	return it, nil
}

// Done ends the executor and its iterators. It may be called more than once.
func (h *HistoryExecutor) Done() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.done = true
	for it := range h.open {
		it.heights.Close()
	}
	clear(h.open)
}

type historyIterator struct {
	h       *HistoryExecutor
	ns, key string
	heights *history.Heights
}

// Close ends the iteration. It may be called more than once.
func (it *historyIterator) Close() {
	it.h.mu.Lock()
	defer it.h.mu.Unlock()
	if _, ok := it.h.open[it]; ok {
		it.heights.Close()
		delete(it.h.open, it)
	}
}

// Next returns the next value, or nil at the end. Entries that are not the
// key's, as keys with 00 bytes bring up, are passed over (LEDGER §6.2).
func (it *historyIterator) Next() (*queryresult.KeyModification, error) {
	it.h.mu.Lock()
	defer it.h.mu.Unlock()
	if it.h.done {
		return nil, ErrDone
	}
	if _, ok := it.h.open[it]; !ok {
		return nil, nil
	}
	for {
		at, ok, err := it.heights.Next()
		if err != nil || !ok {
			return nil, err
		}
		if at.Block >= it.h.below {
			continue
		}
		m, err := keyModification(it.h.l.blocks, at.Block, at.Tx, it.ns, it.key)
		if err != nil || m != nil {
			return m, err
		}
	}
}

// keyModification is what a transaction did to a key, nil if it did nothing to
// it.
func keyModification(blocks *blockfile.Store, block, number uint64, ns, key string) (*queryresult.KeyModification, error) {
	raw, err := blocks.TxBytesByBlockTx(block, number)
	if err != nil {
		if isNotFound(err) {
			return nil, nil
		}
		return nil, err
	}
	tx := protoutil.ParseTx(raw)
	set, err := tx.RWSet()
	if err != nil {
		return nil, nil
	}
	w := firstWrite(set, ns, key)
	if w == nil {
		return nil, nil
	}
	ch, err := tx.ChannelHeader()
	if err != nil {
		return nil, err
	}
	m := &queryresult.KeyModification{TxId: ch.TxId, Timestamp: ch.Timestamp, Value: w.Value}
	m.IsDelete = w.IsDelete || len(w.Value) == 0
	return m, nil
}

func firstWrite(set *protoutil.TxRWSet, ns, key string) *kvrwset.KVWrite {
	for i := range set.Namespaces {
		if set.Namespaces[i].Namespace != ns {
			continue
		}
		for _, w := range set.Namespaces[i].KV.GetWrites() {
			if w.Key == key {
				return w
			}
		}
		return nil
	}
	return nil
}
