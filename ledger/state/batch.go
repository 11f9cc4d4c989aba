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
		s.sorted = s.byKey()
	}
	return s.sorted
}

// byKey sorts places, which are smaller than writes.
func (s *Space) byKey() []Write {
	places := make([]int32, len(s.writes))
	for i := range places {
		places[i] = int32(i)
	}
	compare := func(a, b int32) int { return strings.Compare(s.writes[a].Key, s.writes[b].Key) }
	if slices.IsSortedFunc(places, compare) {
		return s.writes
	}
	slices.SortFunc(places, compare)
	out := make([]Write, len(places))
	for i, at := range places {
		out[i] = s.writes[at]
	}
	return out
}

// InRange returns the pending writes of [start, end), sorted, leaving the order
// of the space alone. Empty bounds are open.
func (s *Space) InRange(start, end string) []Write {
	var out []Write
	if s == nil {
		return nil
	}
	for i := range s.writes {
		k := s.writes[i].Key
		if k < start || end != "" && k >= end {
			continue
		}
		out = append(out, s.writes[i])
	}
	slices.SortFunc(out, func(a, b Write) int { return strings.Compare(a.Key, b.Key) })
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
