package ledger

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/heddle-ledger/heddle/ledger/state"
)

// StateView shows the committed state to who judges a block. Where the state
// database is out of reach it waits. What it shows is the state of one block, or
// of a later one when the first can not be shown any more. It is safe for
// concurrent use and must be ended with Done.
type StateView struct {
	l    *Ledger
	work work
	now  atomic.Pointer[QueryExecutor]

	turn chan struct{} // has an element while one waits for all; guards done
	done bool
}

// NewStateView returns a view for judging a block. The end of ctx ends its
// waiting; reads fail then.
func (l *Ledger) NewStateView(ctx context.Context, block uint64) (*StateView, error) {
	v := &StateView{l: l, turn: make(chan struct{}, 1), work: work{ctx: ctx, doing: "validating", block: block, named: true}}
	err := v.renew()
	if l.passing(err) {
		err = l.await(&v.work, err, v.renew)
	}
	if err != nil {
		return nil, err
	}
	return v, nil
}

// renew looks at the state as it is now.
func (v *StateView) renew() error {
	q, err := v.l.NewQueryExecutor()
	if err != nil {
		return err
	}
	if old := v.now.Swap(q); old != nil {
		old.Done()
	}
	return nil
}

// Done ends the view.
func (v *StateView) Done() {
	v.turn <- struct{}{}
	defer func() { <-v.turn }()
	v.done = true
	v.now.Load().Done()
}

// GetState returns the value of a key, nil if it is absent.
func (v *StateView) GetState(ns, key string) (value []byte, err error) {
	err = v.read(func(q *QueryExecutor) (err error) {
		value, err = q.GetState(ns, key)
		return err
	})
	return value, err
}

// GetStateMetadata returns the metadata of a key, nil if it has none.
func (v *StateView) GetStateMetadata(ns, key string) (metadata map[string][]byte, err error) {
	err = v.read(func(q *QueryExecutor) (err error) {
		metadata, err = q.GetStateMetadata(ns, key)
		return err
	})
	return metadata, err
}

// GetPrivateDataMetadataByHash returns the metadata of a private key of which only
// the hash is known.
func (v *StateView) GetPrivateDataMetadataByHash(ns, coll string, keyHash []byte) (metadata map[string][]byte, err error) {
	err = v.read(func(q *QueryExecutor) (err error) {
		metadata, err = q.GetPrivateDataMetadataByHash(ns, coll, keyHash)
		return err
	})
	return metadata, err
}

func (v *StateView) read(f func(*QueryExecutor) error) error {
	q := v.now.Load()
	err := f(q)
	if err == nil || !v.l.passing(err) && !errors.Is(err, state.ErrStale) && !errors.Is(err, ErrDone) {
		return err
	}
	v.turn <- struct{}{}
	defer func() { <-v.turn }()
	if v.done {
		return ErrDone
	}
	again := func() error {
		err := f(v.now.Load())
		if !errors.Is(err, state.ErrStale) {
			return err
		}
		if err := v.renew(); err != nil {
			return err
		}
		return f(v.now.Load())
	}
	if err = again(); err == nil || !v.l.passing(err) {
		return err
	}
	return v.l.await(&v.work, err, again)
}
