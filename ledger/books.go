package ledger

import (
	"fmt"
	"maps"
	"sync"
	"sync/atomic"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/ledger/kv"
	"github.com/heddle-ledger/heddle/ledger/mvcc"
	"github.com/heddle-ledger/heddle/protos/ledgerstore"
)

// Categories of the bookkeeper's database names, and the prefix of schedule
// entries (LEDGER §9).
const (
	categorySchedule = "/0"
	categoryHints    = "/1"
	prefixSchedule   = '1'
)

// books is one channel's part of the bookkeeper: the expiry schedule of private
// state and the namespaces that ever had metadata.
type books struct {
	schedule, hints *kv.Store

	// known are the hints; the map is replaced, never changed.
	known atomic.Pointer[map[string]bool]

	mu    sync.Mutex // guards empty
	empty bool       // the schedule holds no entries at all
}

func openBooks(db *kv.Database, id string) (*books, error) {
	b := &books{schedule: db.Store(id + categorySchedule), hints: db.Store(id + categoryHints)}
	known := map[string]bool{}
	it := b.hints.Scan(nil, nil)
	for it.Next() {
		known[string(it.Key())] = true
	}
	err := it.Err()
	it.Close()
	if err != nil {
		return nil, fmt.Errorf("read metadata hints: %w", err)
	}
	b.known.Store(&known)
	it = b.schedule.Scan(nil, nil)
	defer it.Close()
	b.empty = !it.Next()
	return b, it.Err()
}

// metadataUsed tells whether a namespace ever had metadata.
func (b *books) metadataUsed(ns string) bool { return (*b.known.Load())[ns] }

func (k scheduleKey) append(dst []byte) []byte {
	return kv.AppendOPV(kv.AppendOPV(append(dst, prefixSchedule), k.expiring), k.committing)
}

func (b *books) isEmpty() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.empty
}

// due visits the entries that expire in a block.
func (b *books) due(block uint64, visit func(scheduleKey, *ledgerstore.PvtdataKeys) error) error {
	if b.isEmpty() {
		return nil
	}
	start := kv.AppendOPV([]byte{prefixSchedule}, block)
	it := b.schedule.Scan(start, append(append([]byte(nil), start...), 0xff))
	defer it.Close()
	for it.Next() {
		committing, _, err := kv.ReadOPV(it.Key()[len(start):])
		if err != nil {
			return fmt.Errorf("schedule entry: %w", err)
		}
		keys := &ledgerstore.PvtdataKeys{}
		if err := unmarshal(it.Value(), keys); err != nil {
			return err
		}
		if err := visit(scheduleKey{block, committing}, keys); err != nil {
			return err
		}
	}
	return it.Err()
}

// write makes a block's additions durable, which they must be before its state
// batch is written (LEDGER §15.3 c).
func (b *books) write(n *bookkeeping) error {
	if err := b.writeSchedule(n); err != nil {
		return err
	}
	if len(n.hints) == 0 {
		return nil
	}
	batch := b.hints.NewBatch()
	known := maps.Clone(*b.known.Load())
	for _, ns := range n.hints {
		batch.Put([]byte(ns), nil)
		known[ns] = true
	}
	if err := b.hints.Write(batch, true); err != nil {
		return fmt.Errorf("write metadata hints: %w", err)
	}
	b.known.Store(&known)
	return nil
}

func (b *books) writeSchedule(n *bookkeeping) error {
	if len(n.additions) == 0 {
		return nil
	}
	batch := b.schedule.NewBatch()
	for k, keys := range n.additions {
		key := k.append(nil)
		if n.merge {
			merged, err := b.behind(key, keys)
			if err != nil {
				return err
			}
			keys = merged
		}
		batch.Put(key, protoutil.Marshal(keys))
	}
	if err := b.schedule.Write(batch, true); err != nil {
		return fmt.Errorf("write expiry schedule: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.empty = false
	return nil
}

// behind puts keys behind those that an entry has already.
func (b *books) behind(key []byte, more *ledgerstore.PvtdataKeys) (*ledgerstore.PvtdataKeys, error) {
	raw, err := b.schedule.Get(key)
	if err != nil || raw == nil {
		return more, err
	}
	keys := &ledgerstore.PvtdataKeys{}
	if err := unmarshal(raw, keys); err != nil {
		return nil, err
	}
	for ns, colls := range more.GetMap() {
		for coll, list := range colls.GetMap() {
			addKeys(keys, mvcc.Collection{Namespace: ns, Name: coll}, list.GetList()...)
		}
	}
	return keys, nil
}

// finish drops the entries that the block processed; its state is durable. It
// may be done late, so it is not synced.
func (b *books) finish(n *bookkeeping) error {
	batch := b.schedule.NewBatch()
	for _, k := range n.processed {
		batch.Delete(k.append(nil))
	}
	return b.schedule.Write(batch, false)
}

// dropUpTo drops the entries that expired up to a block whose state is durable:
// those of which a crash undid the deletion.
func (b *books) dropUpTo(block uint64) error {
	if b.isEmpty() {
		return nil
	}
	it := b.schedule.Scan(nil, append(kv.AppendOPV([]byte{prefixSchedule}, block), 0xff))
	defer it.Close()
	batch := b.schedule.NewBatch()
	for it.Next() {
		batch.Delete(it.Key())
	}
	if err := it.Err(); err != nil {
		return err
	}
	return b.schedule.Write(batch, false)
}
