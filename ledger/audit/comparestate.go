package audit

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/heddle-ledger/heddle/internal/progress"
	"github.com/heddle-ledger/heddle/ledger/state"
	"github.com/heddle-ledger/heddle/ledger/state/couchdb"
	"github.com/heddle-ledger/heddle/ledger/state/leveldb"
)

// stateAt is where one of the states to be compared is: one of the two is set.
type stateAt struct {
	files *leveldb.View
	couch *couchdb.View
}

func (x *comparer) stateAt(i int) (s stateAt, err error) {
	if server := x.o.Servers[i]; server != nil {
		s.couch, err = server.Channel(x.r.ID)
		return s, err
	}
	d := []*Dir{x.a, x.b}[i]
	db, err := d.database(dbState)
	if err != nil {
		return s, fmt.Errorf("state of %s: %w; if it is in CouchDB, name the server; after reset, rollback and rebuild-dbs the next start of the peer builds it", d.Path, err)
	}
	s.files = leveldb.OpenView(db, x.r.ID)
	return s, nil
}

func (s stateAt) savepoint(ctx context.Context) (*state.Version, error) {
	if s.couch != nil {
		return s.couch.Savepoint(ctx)
	}
	return s.files.Savepoint()
}

// state compares the states key by key, but for private data, of which each
// organisation has its own.
func (x *comparer) state(ctx context.Context) error {
	if x.a.Kind != Peer || x.b.Kind != Peer {
		x.r.Notes = append(x.r.Notes, "state not compared: an orderer has none")
		return nil
	}
	var states [2]stateAt
	var heights [2]uint64
	for i, d := range []*Dir{x.a, x.b} {
		var err error
		if states[i], err = x.stateAt(i); err != nil {
			return err
		}
		if heights[i], err = next(states[i].savepoint(ctx)); err != nil {
			return fmt.Errorf("state of %s: %w", d.Path, err)
		}
	}
	if heights[0] != heights[1] {
		x.r.Notes = append(x.r.Notes, fmt.Sprintf("state not compared: the states are of heights %d and %d", heights[0], heights[1]))
		x.r.Same = x.r.Same && x.o.Common
		return nil
	}
	private := uint64(0)
	differ := func(d stateDifference) bool {
		if strings.Contains(d.ns, "$$p") {
			private++
			return true
		}
		x.r.StateDifference = &Difference{Field: fmt.Sprintf("key %q of namespace %q", d.key, d.ns), A: d.first(), B: d.second()}
		x.r.Same = false
		return false
	}
	var err error
	if states[0].couch == nil && states[1].couch == nil {
		a, b := states[0].files.Walk(), states[1].files.Walk()
		defer a.Close()
		defer b.Close()
		x.r.StateKeys, err = mergeStates(a, b, differ)
	} else {
		x.r.StateKeys, err = x.mergeHeld(ctx, states, differ)
	}
	if private > 0 {
		x.r.Notes = append(x.r.Notes, fmt.Sprintf("%d keys of private data differ: each organisation has its own", private))
	}
	return err
}

// mergeHeld compares states of which one or both are in CouchDB.
func (x *comparer) mergeHeld(ctx context.Context, states [2]stateAt, differ func(stateDifference) bool) (uint64, error) {
	x.spaces.note("", neverWritten)
	var sides [2]held
	for i, s := range states {
		if s.couch != nil {
			sides[i] = &heldInCouch{view: s.couch}
			continue
		}
		files, err := newHeldInFiles(ctx, s.files)
		if err != nil {
			return 0, err
		}
		for ns := range files.counts {
			x.spaces.note(ns, neverWritten)
		}
		sides[i] = files
	}
	spaces := slices.Sorted(maps.Keys(x.spaces))
	var total uint64
	for _, side := range sides {
		n := uint64(0)
		for _, ns := range spaces {
			if c, inCouch := side.(*heldInCouch); inCouch {
				if _, err := c.add(ctx, ns); err != nil {
					return 0, err
				}
			}
			keys, err := side.count(ctx, ns)
			if err != nil {
				return 0, err
			}
			n += keys
		}
		total = max(total, n)
	}
	show := progress.NewOf(x.o.Progress, x.r.ID+": comparing the state", "key", 0, total)
	defer show.Done()
	m := &heldMerge{a: sides[0], b: sides[1], differ: differ, show: show}
	for _, ns := range spaces {
		if err := m.namespace(ctx, ns); err != nil || m.stopped {
			return m.keys, err
		}
	}
	return m.keys, nil
}
