package couchdb

import (
	"fmt"
	"sync"

	"github.com/heddle-ledger/heddle/ledger/state"
)

// snapshot is the state after one batch. Reads of keys and ranges wait for
// nothing. A rich query is answered by CouchDB from what it holds at the time, so
// before the first one the snapshot is moved to the last batch, provided that
// nothing it has read was changed since, and from then on keeps batches out until
// it is released.
type snapshot struct {
	db     *DB
	nested bool

	mu     sync.Mutex // guards what follows, and serialises pin
	pinned bool
	read   map[string]*readSet // by namespace; nil once pinned
	count  int                 // of entries in read

	// Guarded by db.views.mu.
	from    uint64 // number of the first batch that it does not see
	expired bool
}

// readSet is what a snapshot has read of one namespace.
type readSet struct {
	keys   map[string]struct{}
	ranges []span
}

// span is [start, end); an empty end is open.
type span struct{ start, end string }

// maxTracked bounds the reads that are kept in mind for a rich query to come.
const maxTracked = 10000

// errMoved is given for a rich query of a transaction that could not become
// valid any more: what it has read is out of date.
var errMoved = fmt.Errorf("%w; it can not be queried any more, simulate the transaction again", state.ErrStale)

// Release implements state.Snapshot.
func (s *snapshot) Release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.db.views.leave(s)
	if s.pinned {
		s.pinned = false
		s.db.gate.Leave()
	}
	s.read = nil
}

// pin makes the snapshot fit for rich queries.
func (s *snapshot) pin() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pinned {
		return nil
	}
	s.db.enterGate(s.nested)
	if err := s.db.views.advance(s); err != nil {
		s.db.gate.Leave()
		return err
	}
	s.pinned, s.read = true, nil
	return nil
}

// note keeps in mind that keys or a range were read.
func (s *snapshot) note(ns string, keys []string, spans ...span) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pinned || s.count > maxTracked {
		return
	}
	if s.read == nil {
		s.read = map[string]*readSet{}
	}
	set := s.read[ns]
	if set == nil {
		set = &readSet{keys: map[string]struct{}{}}
		s.read[ns] = set
	}
	for _, k := range keys {
		set.keys[k] = struct{}{}
	}
	set.ranges = append(set.ranges, spans...)
	s.count += len(keys) + len(spans)
}

// touched tells whether a batch changed what was read. It needs s.mu.
func (s *snapshot) touched(l *layer) bool {
	if s.count > maxTracked {
		return true
	}
	for ns, set := range s.read {
		space := l.spaces[ns]
		if space == nil {
			continue
		}
		for k := range set.keys {
			if _, ok := space.values[k]; ok {
				return true
			}
		}
		for _, r := range set.ranges {
			if len(space.within(r.start, r.end)) > 0 {
				return true
			}
		}
	}
	return false
}

// Get implements state.Reader.
func (s *snapshot) Get(ns, key string) (*state.Value, error) {
	s.note(ns, []string{key})
	if v, ok, err := s.db.views.before(s, ns, key); ok || err != nil {
		return v, err
	}
	live, err := s.db.Get(ns, key)
	if err != nil {
		return nil, err
	}
	// A batch may have begun in the meantime.
	if v, ok, err := s.db.views.before(s, ns, key); ok || err != nil {
		return v, err
	}
	return live, nil
}

// GetMany implements state.Reader.
func (s *snapshot) GetMany(ns string, keys []string) ([]*state.Value, error) {
	s.note(ns, keys)
	values, err := s.db.GetMany(ns, keys)
	if err != nil {
		return nil, err
	}
	for i, key := range keys {
		v, ok, err := s.db.views.before(s, ns, key)
		if err != nil {
			return nil, err
		}
		if ok {
			values[i] = v
		}
	}
	return values, nil
}

// Versions implements state.Reader.
func (s *snapshot) Versions(lookups []state.Lookup) error {
	if err := s.db.Versions(lookups); err != nil {
		return err
	}
	for i := range lookups {
		l := &lookups[i]
		s.note(l.Namespace, []string{l.Key})
		v, ok, err := s.db.views.before(s, l.Namespace, l.Key)
		if err != nil {
			return err
		}
		if ok {
			l.Found = v != nil
			l.Version = state.Version{}
			if v != nil {
				l.Version = v.Version
			}
		}
	}
	return nil
}

// Range implements state.Reader.
func (s *snapshot) Range(ns, start, end string, limit int32) (state.Iterator, error) {
	return s.db.scan(s, ns, start, end, limit)
}

// review makes of what the database has of [start, end) what the snapshot sees.
func (s *snapshot) review(ns, start, end string, rows []state.KV) ([]state.KV, error) {
	s.note(ns, nil, span{start, end})
	return s.db.views.undo(s, ns, start, end, rows)
}

// hides tells whether the snapshot does not see a key that the database has.
func (s *snapshot) hides(ns, key string) bool {
	v, ok, err := s.db.views.before(s, ns, key)
	return err == nil && ok && v == nil
}

// Query implements state.Reader.
func (s *snapshot) Query(ns string, q state.Query) (state.Iterator, error) {
	if err := s.pin(); err != nil {
		return nil, err
	}
	return s.db.Query(ns, q)
}
