package ledger

import (
	"errors"
	"sync/atomic"

	"github.com/heddle-ledger/heddle/ledger/state"
)

// NewSimulator returns a simulator for a transaction over the last committed
// state. It must be ended with Done. Until then some state databases hold up
// commits; who has one must wait for no commit, and ask for a further one, of
// whatever channel, with Nested or NewNestedSimulator.
func (l *Ledger) NewSimulator(txid string) (*Simulator, error) {
	return l.simulator(txid, false, &kin{})
}

// NewHeldSimulator is NewSimulator for a transaction whose simulator has Moved.
// This one does not: commits wait for it where the state database has no
// snapshots that last.
func (l *Ledger) NewHeldSimulator(txid string) (*Simulator, error) {
	return l.simulator(txid, false, &kin{held: true})
}

// NewNestedSimulator is NewSimulator for who holds a simulator or query executor
// of some channel already.
func (l *Ledger) NewNestedSimulator(txid string) (*Simulator, error) {
	return l.simulator(txid, true, &kin{})
}

// Nested returns a simulator of another channel for a call that the transaction
// makes there. It is held if s is, and if it has Moved, s has.
func (s *Simulator) Nested(on *Ledger, txid string) (*Simulator, error) {
	return on.simulator(txid, true, s.kin)
}

// Moved tells whether the simulation, on whatever channel, failed to read because
// the state was overtaken by commits. Then nothing is left of it but to simulate
// the transaction again, with a held simulator; in the reference, where commits
// wait for all simulations, this is what would have happened at first.
func (s *Simulator) Moved() bool { return s.kin.moved.Load() }

// kin is what the simulators of one transaction have in common.
type kin struct {
	held  bool
	moved atomic.Bool
}

func (l *Ledger) simulator(txid string, nested bool, k *kin) (*Simulator, error) {
	snap, err := l.snapshot(nested, k)
	if err != nil {
		return nil, err
	}
	s := newSimulator(txid, snap, l.metadataUsed, l.state.CheckWrite)
	s.kin = k
	return s, nil
}

func (l *Ledger) snapshot(nested bool, k *kin) (state.Snapshot, error) {
	holder, ok := l.state.(state.Holder)
	if ok && k.held {
		return holder.HeldSnapshot(nested)
	}
	take := l.state.Snapshot
	if db, ok := l.state.(state.Nester); ok && nested {
		take = db.NestedSnapshot
	}
	snap, err := take()
	if err != nil || !ok {
		return snap, err
	}
	return &overtakable{snap, k}, nil
}

// overtakable notes whether a snapshot was overtaken.
type overtakable struct {
	state.Snapshot
	kin *kin
}

func (s *overtakable) note(err error) {
	if errors.Is(err, state.ErrStale) {
		s.kin.moved.Store(true)
	}
}

// Get implements state.Reader.
func (s *overtakable) Get(ns, key string) (*state.Value, error) {
	v, err := s.Snapshot.Get(ns, key)
	s.note(err)
	return v, err
}

// GetMany implements state.Reader.
func (s *overtakable) GetMany(ns string, keys []string) ([]*state.Value, error) {
	v, err := s.Snapshot.GetMany(ns, keys)
	s.note(err)
	return v, err
}

// Versions implements state.Reader.
func (s *overtakable) Versions(lookups []state.Lookup) error {
	err := s.Snapshot.Versions(lookups)
	s.note(err)
	return err
}

// Range implements state.Reader.
func (s *overtakable) Range(ns, start, end string, limit int32) (state.Iterator, error) {
	return s.iterator(s.Snapshot.Range(ns, start, end, limit))
}

// Query implements state.Reader.
func (s *overtakable) Query(ns string, q state.Query) (state.Iterator, error) {
	return s.iterator(s.Snapshot.Query(ns, q))
}

func (s *overtakable) iterator(it state.Iterator, err error) (state.Iterator, error) {
	if err != nil {
		s.note(err)
		return nil, err
	}
	return &overtakableIterator{it, s}, nil
}

type overtakableIterator struct {
	state.Iterator
	snap *overtakable
}

// Next implements state.Iterator.
func (i *overtakableIterator) Next() (*state.KV, error) {
	kv, err := i.Iterator.Next()
	i.snap.note(err)
	return kv, err
}
