package couchdb

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/heddle-ledger/heddle/ledger/state"
)

// views lets snapshots see the state of one block while later blocks are
// written over it. Before a batch is written, the values that it replaces are
// put into a layer; a snapshot reads the database, and then lets the layers of
// all batches that began after it undo what they did. A layer goes when no
// snapshot is left that is older than it.
type views struct {
	mu      sync.Mutex // guards what follows
	changed *sync.Cond // writing ended
	next    uint64     // number of the next batch
	layers  []*layer   // of batches that open snapshots do not see, oldest first
	size    int        // of all layers, in bytes
	open    map[*snapshot]struct{}
	wanted  bool // a snapshot was taken since the last batch
	// writing is set while a batch is written; torn holds its error if it
	// could not be written whole, until a later one is.
	writing bool
	torn    error

	maxSize int
	holders *atomic.Int64 // channels that have layers
}

// Bounds, in bytes, of what is kept aside for snapshots of a channel, and of all
// channels, which have equal shares. Snapshots that would need more are ended.
const (
	maxLayers    = 256 << 20
	maxAllLayers = 512 << 20
)

// limit is what the layers may take.
func (v *views) limit() int { return min(v.maxSize, maxAllLayers/max(1, int(v.holders.Load()))) }

// layer holds what one batch replaced: the value of each key that it wrote, nil
// if the key was absent.
type layer struct {
	number uint64
	spaces map[string]*layerSpace // by namespace
	size   int                    // in bytes
}

type layerSpace struct {
	values map[string]*state.Value
	keys   []string // sorted
}

func newLayer() *layer { return &layer{spaces: map[string]*layerSpace{}} }

func (l *layer) add(ns, key string, v *state.Value) {
	s := l.spaces[ns]
	if s == nil {
		s = &layerSpace{values: map[string]*state.Value{}}
		l.spaces[ns] = s
	}
	if _, ok := s.values[key]; ok {
		return
	}
	s.values[key] = v
	s.keys = append(s.keys, key)
	l.size += len(key) + entryOverhead
	if v != nil {
		l.size += len(v.Value) + len(v.Metadata)
	}
}

func (l *layer) seal() {
	for _, s := range l.spaces {
		slices.Sort(s.keys)
	}
}

// within returns the keys of [start, end); an empty end is open.
func (s *layerSpace) within(start, end string) []string {
	if s == nil {
		return nil
	}
	from, _ := slices.BinarySearch(s.keys, start)
	to := len(s.keys)
	if end != "" {
		to, _ = slices.BinarySearch(s.keys, end)
	}
	return s.keys[from:max(from, to)]
}

func newViews(holders *atomic.Int64) *views {
	v := &views{open: map[*snapshot]struct{}{}, maxSize: maxLayers, holders: holders}
	v.changed = sync.NewCond(&v.mu)
	return v
}

// enter registers a snapshot of the last batch that was written whole.
func (v *views) enter(s *snapshot) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	// A batch under way was prepared for snapshots, or it ends before long: it
	// waits for none once it is being written.
	for v.writing && v.current() == nil {
		v.changed.Wait()
	}
	if v.torn != nil {
		return tornError(v.torn)
	}
	s.from = v.next
	v.wanted = true
	v.open[s] = struct{}{}
	return nil
}

func tornError(err error) error {
	return fmt.Errorf("the state database has a part of a block only, which has to be written again: %w", err)
}

// current is the layer of the batch under way, nil if it has none. It needs
// v.mu.
func (v *views) current() *layer {
	if n := len(v.layers); n > 0 && v.layers[n-1].number == v.next {
		return v.layers[n-1]
	}
	return nil
}

func (v *views) leave(s *snapshot) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, ok := v.open[s]; ok {
		delete(v.open, s)
		v.trim()
	}
}

// trim drops the layers that no open snapshot needs. It needs v.mu.
func (v *views) trim() {
	oldest := v.next
	for s := range v.open {
		oldest = min(oldest, s.from)
	}
	n := 0
	for n < len(v.layers) && v.layers[n].number < oldest {
		v.size -= v.layers[n].size
		n++
	}
	if n > 0 && n == len(v.layers) {
		v.holders.Add(-1)
	}
	v.layers = slices.Delete(v.layers, 0, n)
}

// expects tells whether the next batch needs a layer, so far as is known.
func (v *views) expects() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.wanted || len(v.open) > 0
}

// begin starts the writing of a batch. It returns false if the batch needs a
// layer and brings none.
func (v *views) begin(l *layer) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if l == nil && len(v.open) > 0 {
		return false
	}
	v.writing, v.wanted = true, false
	if l != nil && !v.repeats(l) {
		l.seal()
		l.number = v.next
		if len(v.layers) == 0 {
			v.holders.Add(1)
		}
		v.layers = append(v.layers, l)
		v.size += l.size
		v.expire()
	}
	return true
}

// repeats tells whether a batch is one that was written in part before, and is
// written again. What it replaces now is of no use then: no snapshot was taken
// since, and those from before see what it replaced at first. It needs v.mu.
func (v *views) repeats(l *layer) bool {
	n := len(v.layers)
	if v.torn == nil || n == 0 || v.layers[n-1].number != v.next-1 {
		return false
	}
	last := v.layers[n-1]
	for ns, space := range l.spaces {
		before := last.spaces[ns]
		if before == nil {
			return false
		}
		for _, key := range space.keys {
			if _, ok := before.values[key]; !ok {
				return false
			}
		}
	}
	last.number = v.next // for the next repetition
	return true
}

// expire ends the oldest snapshots while the layers take too much room. It needs
// v.mu.
func (v *views) expire() {
	for v.size > v.limit() && len(v.open) > 0 {
		oldest := v.next
		for s := range v.open {
			oldest = min(oldest, s.from)
		}
		for s := range v.open {
			if s.from == oldest {
				s.expired = true
				delete(v.open, s)
			}
		}
		v.trim()
	}
}

// end closes what begin began; failed tells why the batch is not whole.
func (v *views) end(failed error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.next++
	v.writing, v.torn = false, failed
	v.trim()
	v.changed.Broadcast()
}

var errExpired = fmt.Errorf("%w, and by too much", state.ErrStale)

// before returns what a snapshot has to see of a key instead of what the
// database holds; ok is false if that is the database's own.
func (v *views) before(s *snapshot, ns, key string) (value *state.Value, ok bool, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if s.expired {
		return nil, false, errExpired
	}
	for _, l := range v.layers {
		if l.number < s.from {
			continue
		}
		if space := l.spaces[ns]; space != nil {
			if value, ok := space.values[key]; ok {
				return value, true, nil
			}
		}
	}
	return nil, false, nil
}

// undo replaces, in the results of a scan of [start, end), what batches after a
// snapshot changed.
func (v *views) undo(s *snapshot, ns, start, end string, rows []state.KV) ([]state.KV, error) {
	v.mu.Lock()
	if s.expired {
		v.mu.Unlock()
		return nil, errExpired
	}
	var old map[string]*state.Value
	for _, l := range v.layers {
		if l.number < s.from {
			continue
		}
		space := l.spaces[ns]
		for _, key := range space.within(start, end) {
			if old == nil {
				old = map[string]*state.Value{}
			}
			if _, ok := old[key]; !ok {
				old[key] = space.values[key]
			}
		}
	}
	v.mu.Unlock()
	if old == nil {
		return rows, nil
	}
	out := make([]state.KV, 0, len(rows)+len(old))
	for _, r := range rows {
		if _, ok := old[r.Key]; !ok {
			out = append(out, r)
		}
	}
	for key, value := range old {
		if value != nil {
			out = append(out, state.KV{Key: key, Value: *value})
		}
	}
	slices.SortFunc(out, func(a, b state.KV) int { return strings.Compare(a.Key, b.Key) })
	return out, nil
}

// advance makes a snapshot one of the last batch, if what it has read so far is
// still the same. The gate is closed to batches.
func (v *views) advance(s *snapshot) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if s.expired {
		return errExpired
	}
	if v.torn != nil {
		return tornError(v.torn)
	}
	for _, l := range v.layers {
		if l.number >= s.from && s.touched(l) {
			return errMoved
		}
	}
	s.from = v.next
	v.trim()
	return nil
}
