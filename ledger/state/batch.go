package state

import (
	"slices"
	"strings"
)

// Write is one change of a key.
type Write struct {
	Key      string
	Value    []byte
	Metadata []byte
	Version  Version
	Delete   bool
}

// Space holds the pending writes of one namespace: at most one per key, the
// last one put.
type Space struct {
	Namespace string
	writes    []Write
	index     map[string]int32
	places    []int32 // in writes, by key; the last ones put are left out
	sorted    []Write // writes by key; nil if that is not known
}

// NewSpace returns a namespace without writes, with room for n keys.
func NewSpace(ns string, n int) *Space {
	return &Space{Namespace: ns, index: make(map[string]int32, n), writes: make([]Write, 0, n)}
}

// Get returns the pending write of a key, nil if there is none. It is valid
// until the next Put.
func (s *Space) Get(key string) *Write {
	if s == nil {
		return nil
	}
	if i, ok := s.index[key]; ok {
		return &s.writes[i]
	}
	return nil
}

// Put adds a write, replacing the pending one of the same key.
func (s *Space) Put(w Write) {
	s.sorted = nil
	if i, ok := s.index[w.Key]; ok {
		s.writes[i] = w
		return
	}
	s.index[w.Key] = int32(len(s.writes))
	s.writes = append(s.writes, w)
}

// Len is the number of pending writes.
func (s *Space) Len() int {
	if s == nil {
		return 0
	}
	return len(s.writes)
}

// Sorted returns the writes by key. The slice belongs to the space and is valid
// until the next Put.
func (s *Space) Sorted() []Write {
	if s.Len() == 0 {
		return nil
	}
	if s.sorted == nil {
		s.order()
		s.sorted = make([]Write, len(s.places))
		for i, at := range s.places {
			s.sorted[i] = s.writes[at]
		}
	}
	return s.sorted
}

// order brings all places in order. It sorts places because writes are large.
func (s *Space) order() {
	known := len(s.places)
	for i := known; i < len(s.writes); i++ {
		s.places = append(s.places, int32(i))
	}
	before, added := s.places[:known], s.places[known:]
	slices.SortFunc(added, s.compare)
	if known == 0 || len(added) == 0 || s.compare(before[known-1], added[0]) < 0 {
		return
	}
	merged := make([]int32, 0, cap(s.places))
	for len(before) > 0 && len(added) > 0 {
		if s.compare(before[0], added[0]) < 0 {
			merged, before = append(merged, before[0]), before[1:]
		} else {
			merged, added = append(merged, added[0]), added[1:]
		}
	}
	s.places = append(append(merged, before...), added...)
}

func (s *Space) compare(a, b int32) int { return strings.Compare(s.writes[a].Key, s.writes[b].Key) }

// maxUnordered is the number of writes that InRange looks at one by one.
const maxUnordered = 64

// InRange returns the pending writes of [start, end), sorted. Empty bounds are
// open.
func (s *Space) InRange(start, end string) []Write {
	if s == nil {
		return nil
	}
	if len(s.writes)-len(s.places) > maxUnordered {
		s.order()
	}
	var out []Write
	first, _ := slices.BinarySearchFunc(s.places, start, func(at int32, key string) int { return strings.Compare(s.writes[at].Key, key) })
	for _, at := range s.places[first:] {
		if end != "" && s.writes[at].Key >= end {
			break
		}
		out = append(out, s.writes[at])
	}
	known := len(out)
	for i := len(s.places); i < len(s.writes); i++ {
		if k := s.writes[i].Key; k >= start && (end == "" || k < end) {
			out = append(out, s.writes[i])
		}
	}
	if len(out) > known {
		slices.SortFunc(out, func(a, b Write) int { return strings.Compare(a.Key, b.Key) })
	}
	return out
}

// Batch is a set of writes over namespaces.
type Batch struct {
	spaces map[string]*Space
}

// NewBatch returns an empty batch.
func NewBatch() *Batch { return &Batch{spaces: map[string]*Space{}} }

// Space returns the pending writes of a namespace, nil if there are none.
func (b *Batch) Space(ns string) *Space {
	if b == nil {
		return nil
	}
	return b.spaces[ns]
}

// Ensure returns the pending writes of a namespace, creating them with room for
// n keys.
func (b *Batch) Ensure(ns string, n int) *Space {
	s := b.spaces[ns]
	if s == nil {
		s = NewSpace(ns, n)
		b.spaces[ns] = s
	}
	return s
}

// Join adds the writes of a space, which the batch takes over if it has none of
// that namespace; else they replace those of the same keys.
func (b *Batch) Join(s *Space) {
	old := b.spaces[s.Namespace]
	if old == nil {
		b.spaces[s.Namespace] = s
		return
	}
	for i := range s.writes {
		old.Put(s.writes[i])
	}
}

// Put adds a write to a namespace.
func (b *Batch) Put(ns string, w Write) { b.Ensure(ns, 0).Put(w) }

// Spaces returns the namespaces with pending writes in byte order.
func (b *Batch) Spaces() []*Space {
	if b == nil {
		return nil
	}
	out := make([]*Space, 0, len(b.spaces))
	for _, s := range b.spaces {
		if len(s.writes) > 0 {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b *Space) int { return strings.Compare(a.Namespace, b.Namespace) })
	return out
}

// Len is the number of pending writes in all namespaces.
func (b *Batch) Len() int {
	n := 0
	for _, s := range b.spaces {
		n += len(s.writes)
	}
	return n
}
