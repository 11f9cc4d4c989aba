package blockfile

import (
	"context"
	"hash/maphash"
	"sync"
	"time"

	"github.com/greatroar/blobloom"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/ledger/kv"
)

// Sizes of the filters over a channel's transaction ids, at two bytes an id: the
// first has room for 64 Ki ids, each further one for four times as many. Together
// they take at most 43 MiB. Up to 22 million ids they are wrong for one new id in
// a hundred; beyond that the last filter takes all, and errs more and more often.
const (
	firstFilter  = 1 << 16 // ids
	filterGrowth = 4
	maxFilters   = 5
)

// txIDs tells of most transaction ids that are new to the chain that they are:
// it is asked twice for each transaction, by validation and by the index, and to
// search the index instead costs more than all its entries.
//
// It consists of Bloom filters. It may take a new id for an old one, never the
// other way round.
type txIDs struct {
	seed maphash.Seed

	// What belongs to the goroutine that collects the ids of an index that has
	// some already; it lives until it has them all, or until close.
	stop context.CancelFunc
	done sync.WaitGroup

	mu       sync.RWMutex       // guards what follows
	filters  []*blobloom.Filter // the last one takes new ids
	room     int                // ids that it still takes
	complete bool               // all ids in the index were admitted
}

func newTxIDs() *txIDs {
	return &txIDs{seed: maphash.MakeSeed(), filters: []*blobloom.Filter{newIDFilter(firstFilter)}, room: firstFilter}
}

// isNew tells whether an id is certainly not in the index.
func (t *txIDs) isNew(id string) bool {
	hash := maphash.String(t.seed, id)
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.complete && !t.known(hash)
}

// admit takes an id in. It tells whether it certainly came for the first time.
func (t *txIDs) admit(id string) bool {
	hash := maphash.String(t.seed, id)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.known(hash) {
		return false
	}
	if t.room == 0 && len(t.filters) < maxFilters {
		t.room = firstFilter
		for range t.filters {
			t.room *= filterGrowth
		}
		t.filters = append(t.filters, newIDFilter(t.room))
	}
	t.filters[len(t.filters)-1].Add(hash)
	t.room = max(t.room-1, 0)
	return t.complete
}

// known needs t.mu.
func (t *txIDs) known(hash uint64) bool {
	for _, f := range t.filters {
		if f.Has(hash) {
			return true
		}
	}
	return false
}

func (t *txIDs) completed() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.complete = true
}

// newIDFilter makes a filter of sixteen bits an id.
func newIDFilter(ids int) *blobloom.Filter { return blobloom.New(16*uint64(ids), probesPerID) }

// probesPerID is the number of bits set for an id.
const probesPerID = 6

// begin looks whether the index has any ids. It is called before anything is
// added to the index.
func (t *txIDs) begin(index *kv.Store) error {
	it := index.Scan(idRange())
	defer it.Close()
	if !it.Next() && it.Err() == nil {
		t.completed()
	}
	return it.Err()
}

func idRange() (start, end []byte) { return []byte{prefixTx}, []byte{prefixTx + 1} }

// collect admits the ids that the index had at the start, in the background, when
// there is room in turn.
func (t *txIDs) collect(index *kv.Store, turn chan struct{}, log *flog.Logger) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.complete {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.stop = cancel
	t.done.Go(func() {
		select {
		case turn <- struct{}{}:
			defer func() { <-turn }()
		case <-ctx.Done():
			return
		}
		if err := t.collectAll(ctx, index); err != nil {
			log.Warnf("Transaction ids will be searched for in the index: %s", err)
		}
	})
}

func (t *txIDs) close() {
	if t.stop != nil {
		t.stop()
		t.done.Wait()
	}
}

// collectAll is in no hurry, and leaves most of the time of its processor to
// others.
func (t *txIDs) collectAll(ctx context.Context, index *kv.Store) error {
	from, end := idRange()
	for {
		begun := time.Now()
		next, err := t.collectChunk(index, from, end)
		if err != nil {
			return err
		}
		if next == nil {
			t.completed()
			return nil
		}
		from = next
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(3 * time.Since(begun)):
		}
	}
}

// chunkOfIDs is how many ids are read from the index at a time.
const chunkOfIDs = 20_000

// collectChunk returns where to go on, nil at the end.
func (t *txIDs) collectChunk(index *kv.Store, start, end []byte) (next []byte, err error) {
	it := index.Walk(start, end)
	defer it.Close()
	for range chunkOfIDs {
		if !it.Next() {
			return nil, it.Err()
		}
		next = append(next[:0], it.Key()...)
		t.admit(string(next[1:]))
	}
	return append(next, 0), nil
}
