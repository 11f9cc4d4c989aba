package ledger

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"testing"

	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/ledger/state"
	"github.com/heddle-ledger/heddle/ledger/state/leveldb"
)

// fickleState is a state database whose snapshots can be overtaken.
type fickleState struct {
	state.Provider
	overtaken bool
	taken     []string // snapshots, by kind
}

func (p *fickleState) Open(id string) (state.DB, error) {
	db, err := p.Provider.Open(id)
	return &fickleDB{db, p, id}, err
}

type fickleDB struct {
	state.DB
	p  *fickleState
	id string
}

func (d *fickleDB) take(kind string) (state.Snapshot, error) {
	d.p.taken = append(d.p.taken, d.id+" "+kind)
	s, err := d.DB.Snapshot()
	return &fickleSnapshot{s, d.p, strings.HasPrefix(kind, "held")}, err
}

func (d *fickleDB) Snapshot() (state.Snapshot, error)       { return d.take("free") }
func (d *fickleDB) NestedSnapshot() (state.Snapshot, error) { return d.take("nested") }
func (d *fickleDB) HeldSnapshot(nested bool) (state.Snapshot, error) {
	return d.take(fmt.Sprintf("held, nested=%v", nested))
}

type fickleSnapshot struct {
	state.Snapshot
	p    *fickleState
	held bool
}

func (s *fickleSnapshot) fail() error {
	if s.p.overtaken && !s.held {
		return fmt.Errorf("%w, and by too much", state.ErrStale)
	}
	return nil
}

func (s *fickleSnapshot) Get(ns, key string) (*state.Value, error) {
	if err := s.fail(); err != nil {
		return nil, err
	}
	return s.Snapshot.Get(ns, key)
}

func (s *fickleSnapshot) GetMany(ns string, keys []string) ([]*state.Value, error) {
	if err := s.fail(); err != nil {
		return nil, err
	}
	return s.Snapshot.GetMany(ns, keys)
}

func (s *fickleSnapshot) Range(ns, start, end string, limit int32) (state.Iterator, error) {
	it, err := s.Snapshot.Range(ns, start, end, limit)
	return &fickleIterator{it, s}, err
}

func (s *fickleSnapshot) Query(string, state.Query) (state.Iterator, error) {
	if err := s.fail(); err != nil {
		return nil, err
	}
	return nil, state.ErrQuery
}

type fickleIterator struct {
	state.Iterator
	s *fickleSnapshot
}

func (i *fickleIterator) Next() (*state.KV, error) {
	if err := i.s.fail(); err != nil {
		return nil, err
	}
	return i.Iterator.Next()
}

// TestMovedSimulators: whatever is overtaken, on whatever channel, the transaction
// is; and all simulators of one that is held are.
func TestMovedSimulators(t *testing.T) {
	fs, st := vfs.NewMem(), &fickleState{}
	p := openProvider(t, Config{Dir: testDir, FS: fs, OpenState: func() (state.Provider, error) {
		p, err := leveldb.OpenProvider(leveldb.Config{Dir: path.Join(testDir, dirState), FS: fs})
		st.Provider = p
		return st, err
	}})
	one, err := p.Create(genesisOf("one"))
	must(t, err)
	two, err := p.Create(genesisOf("two"))
	must(t, err)
	for name, read := range map[string]func(s *Simulator) error{
		"key":  func(s *Simulator) error { _, err := s.GetState("cc", "k"); return err },
		"keys": func(s *Simulator) error { _, err := s.GetStateMultiple("cc", []string{"k", "l"}); return err },
		"range": func(s *Simulator) error {
			it, err := s.GetStateRange("cc", "", "")
			if err == nil {
				_, err = it.Next()
			}
			return err
		},
		"query":        func(s *Simulator) error { _, err := s.ExecuteQuery("cc", "{}"); return err },
		"private data": func(s *Simulator) error { _, err := s.GetPrivateData("cc", "coll", "k"); return err },
	} {
		for _, held := range []bool{false, true} {
			for _, elsewhere := range []bool{false, true} {
				st.taken, st.overtaken = nil, false
				open, want := one.NewSimulator, "one free, two nested, one nested"
				if held {
					open, want = one.NewHeldSimulator, "one held, nested=false, two held, nested=true, one held, nested=true"
				}
				s, err := open("tx")
				must(t, err)
				nested, err := s.Nested(two, "tx")
				must(t, err)
				deeper, err := nested.Nested(one, "tx")
				must(t, err)
				if got := strings.Join(st.taken, ", "); got != want {
					t.Errorf("took %s", got)
				}
				if err := read(deeper); errors.Is(err, state.ErrStale) || s.Moved() {
					t.Errorf("%s: %v", name, err)
				}
				st.overtaken = true
				reader := s
				if elsewhere {
					reader = deeper
				}
				err = read(reader)
				if errors.Is(err, state.ErrStale) == held || s.Moved() == held || nested.Moved() == held {
					t.Errorf("%s, held=%v: %v, moved %v", name, held, err, s.Moved())
				}
				for _, s := range []*Simulator{deeper, nested, s} {
					s.Done()
				}
			}
		}
	}
}
