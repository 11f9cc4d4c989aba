package audit

import (
	"fmt"
	"strings"

	"github.com/heddle-ledger/heddle/ledger/state/leveldb"
)

// state compares the states key by key, but for private data, of which each
// organisation has its own.
func (x *comparer) state() error {
	if x.a.Kind != Peer || x.b.Kind != Peer {
		x.r.Notes = append(x.r.Notes, "state not compared: an orderer has none")
		return nil
	}
	var views [2]*leveldb.View
	var heights [2]uint64
	for i, d := range []*Dir{x.a, x.b} {
		db, err := d.database(dbState)
		if err != nil {
			return fmt.Errorf("state of %s: %w", d.Path, err)
		}
		views[i] = leveldb.OpenView(db, x.r.ID)
		if heights[i], err = next(views[i].Savepoint()); err != nil {
			return fmt.Errorf("state of %s: %w", d.Path, err)
		}
	}
	if heights[0] != heights[1] {
		x.r.Notes = append(x.r.Notes, fmt.Sprintf("state not compared: the states are of heights %d and %d", heights[0], heights[1]))
		x.r.Same = x.r.Same && x.o.Common
		return nil
	}
	a, b := views[0].Walk(), views[1].Walk()
	defer a.Close()
	defer b.Close()
	private := uint64(0)
	keys, err := mergeStates(a, b, func(d stateDifference) bool {
		if strings.Contains(d.ns, "$$p") {
			private++
			return true
		}
		x.r.StateDifference = &Difference{Field: fmt.Sprintf("key %q of namespace %q", d.key, d.ns), A: describeValue(d.a), B: describeValue(d.b)}
		x.r.Same = false
		return false
	})
	x.r.StateKeys = keys
	if private > 0 {
		x.r.Notes = append(x.r.Notes, fmt.Sprintf("%d keys of private data differ: each organisation has its own", private))
	}
	return err
}
