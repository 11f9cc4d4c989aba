package ledger

import (
	"errors"

	"github.com/heddle-ledger/heddle/ledger/bookkeeper"
	"github.com/heddle-ledger/heddle/ledger/state"
)

// Bounds of what a replay holds back: the bytes of the blocks, and their number.
const (
	maxLateBytes  = 4 << 20
	maxLateBlocks = 512
)

// fullBatch is the number of writes from which a block's batch is not joined
// with the next one's.
const fullBatch = 500

// lateState holds back the batches of replayed blocks, so that what must be
// durable before them is synced once for many, and so that small blocks share a
// batch.
type lateState struct {
	written state.Reader // the state without them
	// reshapes tells of which values written gives back another form, which then
	// is the one that a commit finds; nil: of none. Flush writes what is held back.
	reshapes func(value []byte) bool
	flush    func() error
	most     int // blocks
	blocks   []lateBlock
	bytes    int
}

type lateBlock struct {
	batch     *state.Batch
	savepoint state.Version
	commit    *commit
}

// add takes over the batch of a block, whose updates are complete.
func (s *lateState) add(c *commit) {
	s.blocks = append(s.blocks, lateBlock{
		batch: c.result.Updates.Batch(), commit: c,
		savepoint: state.Version{Block: c.number, Tx: uint64(c.block.Len()) - 1},
	})
	for i := range c.block.Len() {
		s.bytes += len(c.block.Tx(i).Bytes())
	}
}

func (s *lateState) full() bool { return s.bytes >= maxLateBytes || len(s.blocks) >= s.most }

// get is the value of a key as of the last block.
func (s *lateState) get(ns, key string) (*state.Value, error) {
	for i := len(s.blocks) - 1; i >= 0; i-- {
		w := s.blocks[i].batch.Space(ns).Get(key)
		switch {
		case w == nil:
		case w.Delete:
			return nil, nil
		case s.reshapes != nil && s.reshapes(w.Value):
			if err := s.flush(); err != nil {
				return nil, err
			}
			return s.written.Get(ns, key)
		default:
			return &state.Value{Value: w.Value, Metadata: w.Metadata, Version: w.Version}, nil
		}
	}
	return s.written.Get(ns, key)
}

// processed are the schedule entries that the blocks have processed.
func (s *lateState) processed() []bookkeeper.Key {
	var out []bookkeeper.Key
	for i := range s.blocks {
		out = append(out, s.blocks[i].commit.books.Processed...)
	}
	return out
}

// batches visits what is held back in batches of one or more blocks. Nothing is
// left to be had by get.
func (s *lateState) batches(visit func(b *state.Batch, savepoint state.Version, last bool) error) error {
	blocks := s.blocks
	for i := 0; i < len(blocks); {
		b := blocks[i].batch
		for i++; i < len(blocks) && b.Len() < fullBatch; i++ {
			for _, space := range blocks[i].batch.Spaces() {
				b.Join(space)
			}
		}
		if err := visit(b, blocks[i-1].savepoint, i == len(blocks)); err != nil {
			return err
		}
	}
	return nil
}

// clear forgets what has been written.
func (s *lateState) clear() {
	for i := range s.blocks {
		s.blocks[i].commit.deployed()
	}
	clear(s.blocks)
	s.blocks, s.bytes = s.blocks[:0], 0
}

// lookUp is a state of which only keys are asked for that are known, as a replay
// does.
type lookUp func(ns, key string) (*state.Value, error)

var (
	errNeedsState = errors.New("the state is needed")
	errSingleKeys = errors.New("a replay asks for single keys only")
)

// noState is the state for who can do without.
func noState(string, string) (*state.Value, error) { return nil, errNeedsState }

// Get implements state.Reader.
func (f lookUp) Get(ns, key string) (*state.Value, error) { return f(ns, key) }

// GetMany implements state.Reader.
func (lookUp) GetMany(string, []string) ([]*state.Value, error) { return nil, errSingleKeys }

// Versions implements state.Reader.
func (f lookUp) Versions(lookups []state.Lookup) error {
	for i := range lookups {
		l := &lookups[i]
		v, err := f(l.Namespace, l.Key)
		if err != nil {
			return err
		}
		if v != nil {
			l.Version, l.Found = v.Version, true
		}
	}
	return nil
}

// Range implements state.Reader.
func (lookUp) Range(string, string, string, int32) (state.Iterator, error) {
	return nil, errSingleKeys
}

// Query implements state.Reader.
func (lookUp) Query(string, state.Query) (state.Iterator, error) { return nil, errSingleKeys }
