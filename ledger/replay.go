package ledger

import (
	"bytes"
	"context"
	"fmt"
	"hash"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/ledger/blockfile"
	"github.com/heddle-ledger/heddle/ledger/mvcc"
	"github.com/heddle-ledger/heddle/ledger/state"
)

// maxReported bounds the blocks of which a replay logs that their commit hashes
// differ.
const maxReported = 10

// ReplayError says why a channel's stores could not be brought level with its
// blocks. It concerns that channel only, damage included (LEDGER §2.3, §17.3).
type ReplayError struct {
	Channel string
	Err     error
}

func (e *ReplayError) Error() string {
	return fmt.Sprintf("replay the blocks of channel [%s]: %v", e.Channel, e.Err)
}

func (e *ReplayError) Unwrap() error { return e.Err }

// CommitHashError says that the replay of a block gave another commit hash than
// the block was stored with: the state is not the one that this peer had
// acknowledged, or the hash came with the block and is somebody else's (LEDGER
// §21). The reference does not look; the ledger opens all the same.
type CommitHashError struct {
	Channel          string
	Block            uint64
	Stored, Computed []byte
	More             int // later blocks of which the same is true
}

func (e *CommitHashError) Error() string {
	text := fmt.Sprintf("channel [%s]: block [%d] is stored with commit hash [%x], but its replay gives [%x]", e.Channel, e.Block, e.Stored, e.Computed)
	if e.More > 0 {
		text += fmt.Sprintf("; %d later blocks differ too", e.More)
	}
	return text
}

// ReplayDifference returns a *CommitHashError if the replay at the opening of
// the ledger found that the state is not the one that was acknowledged.
func (l *Ledger) ReplayDifference() error {
	if l.differs == nil {
		return nil
	}
	return l.differs
}

// replay brings state and history level with the block files (LEDGER §17.3).
// Blocks are read ahead and checked against their headers and each other; what
// can be known of a block without its predecessors is worked out on all
// processors.
type replay struct {
	l              *Ledger
	state, history uint64 // the first blocks that they lack
	height         uint64
	previous       []byte // commit hash of the block before; nil if it has none
	late           lateState
	watch          blockfile.Watch
}

// foreseen is what was worked out for a block before its turn.
type foreseen struct {
	stored []byte       // its commit hash; nil if it has none
	result *mvcc.Result // nil if that takes the state
	digest hash.Hash    // of result; nil if it is not needed
}

func (r *replay) run(ctx context.Context) error {
	l := r.l
	from := min(r.state, r.history)
	if from >= r.height {
		return nil
	}
	l.log.Infof("[%s] Replaying blocks up to [%d] into state (from [%d]) and history (from [%d])", l.id, r.height-1, r.state, r.history)
	r.watch = l.progress.Begin(blockfile.Walk{Channel: l.id, Work: workReplay, From: from, Total: r.height})
	defer r.watch.Done()
	if r.state > 1 && r.state < r.height {
		before, err := l.blocks.BlockByNumber(r.state - 1)
		if err != nil {
			return &ReplayError{Channel: l.id, Err: err}
		}
		r.previous = storedHash(before)
	}
	l.latest, l.validator.State = lookUp(r.late.get), lookUp(r.late.get)
	defer func() {
		r.late.clear()
		l.latest = l.enduringState()
		l.validator.State = l.latest
	}()
	err := blockfile.ReadAhead(ctx, l.blocks, from, r.height, r.foresee, r.apply)
	if err == nil {
		err = r.flush()
	}
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("replay of channel [%s] interrupted: %w", l.id, context.Cause(ctx))
	case err != nil:
		return &ReplayError{Channel: l.id, Err: err}
	}
	if l.differs != nil && l.differs.More >= maxReported {
		l.log.Errorf("%s", l.differs)
	}
	return nil
}

// foresee judges a block as far as that takes no state, as it does for most. It
// is called by several goroutines.
func (r *replay) foresee(b *protoutil.Block) foreseen {
	if b.Number() < r.state {
		return foreseen{}
	}
	mentionsPrivateData(b) // decodes everything here, for who asks in turn
	f := foreseen{stored: storedHash(b.Proto())}
	v := r.l.validatorOn(lookUp(noState))
	result, err := v.Replay(b, b.Flags())
	if err != nil { // to be found again in its turn, if it is one
		return f
	}
	f.result = result
	if f.stored != nil {
		f.digest = result.Updates.CommitDigest(result.Flags)
	}
	for _, ns := range result.Updates.Namespaces() {
		result.Updates.Public(ns).Sorted() // for the state's batch
	}
	return f
}

// storedHash is the commit hash of a block, nil if it has none. One that does not
// decode is given as it is: no replay gives it.
func storedHash(b *common.Block) []byte {
	stored, err := lastCommitHash(b)
	if err != nil {
		return b.GetMetadata().GetMetadata()[protoutil.CommitHashSlot]
	}
	return stored
}

// valid tells whether a result that was foreseen is true: blocks before may have
// set the first metadata of a namespace.
func (r *replay) valid(result *mvcc.Result) bool {
	if result == nil {
		return false
	}
	for _, ns := range result.Updates.Namespaces() {
		if r.l.metadataUsed(ns) {
			return false
		}
	}
	for _, c := range result.Updates.Collections() {
		if r.l.metadataUsed(c.Namespace) {
			return false
		}
	}
	return true
}

// apply takes the next block into state and history.
func (r *replay) apply(b *protoutil.Block, f foreseen) error {
	c := &commit{l: r.l, block: b, number: b.Number(), replay: true}
	historyDone := make(chan error, 1)
	if c.number >= r.history {
		go func() { historyDone <- c.writeHistory() }()
	} else {
		historyDone <- nil
	}
	var err error
	if c.number >= r.state {
		if err = r.applyState(c, f); err != nil {
			c.deployed()
		}
	}
	if herr := <-historyDone; err == nil {
		err = herr
	}
	if err == nil {
		err = r.l.points.Hit(PointAfterHistory)
	}
	r.watch.Set(c.number + 1)
	return err
}

func (r *replay) applyState(c *commit, f foreseen) error {
	l := r.l
	defer l.packages.forget()
	if err := c.beginPrivate(); err != nil {
		return err
	}
	if r.valid(f.result) {
		c.result = f.result
	} else {
		f.digest = nil
	}
	if err := c.judge(); err != nil {
		return err
	}
	r.compare(c, f)
	if err := c.planBookkeeping(); err != nil {
		return err
	}
	if err := l.books.Add(c.books); err != nil {
		return err
	}
	r.late.add(c)
	if !r.late.full() {
		return nil
	}
	return r.flush()
}

// compare looks whether the replay gives the commit hash that the block was
// stored with. A hash is checked only if that of the block before, which enters
// it, is there: others came with their blocks (LEDGER §13.1, §21).
func (r *replay) compare(c *commit, f foreseen) {
	previous := r.previous
	r.previous = f.stored
	if c.number == 0 || f.stored == nil || c.number > 1 && previous == nil {
		return
	}
	digest := f.digest
	if digest == nil {
		digest = c.result.Updates.CommitDigest(c.result.Flags)
	}
	digest.Write(previous)
	computed := digest.Sum(nil)
	if bytes.Equal(computed, f.stored) {
		return
	}
	l := r.l
	found := &CommitHashError{Channel: l.id, Block: c.number, Stored: f.stored, Computed: computed}
	if l.differs == nil {
		l.differs = found
	} else if l.differs.More++; l.differs.More >= maxReported {
		return
	}
	l.log.Errorf("%s. The state is not the one that this peer acknowledged, unless the hash came with the block: compare the ledger with another peer's, or roll the channel back to block [%d] and let it fetch the rest again",
		found, c.number-1)
}

// flush writes what is held back: first what the bookkeeper must know, durably,
// before any state that needs it (LEDGER §15.3 c), then the states, last the
// removal of what they have processed (§15.3 d).
func (r *replay) flush() error {
	l := r.l
	if len(r.late.blocks) == 0 {
		return nil
	}
	if err := l.books.Sync(); err != nil {
		return err
	}
	if err := l.points.Hit(PointAfterBookkeeping); err != nil {
		return err
	}
	processed := r.late.processed()
	err := r.late.batches(func(b *state.Batch, savepoint state.Version, last bool) error {
		err := l.endure(func() error { return l.state.Apply(b, &savepoint, last && len(processed) > 0) })
		if err != nil {
			return err
		}
		return l.points.Hit(PointAfterState)
	})
	if err != nil {
		return err
	}
	if err := l.books.Finish(processed); err != nil {
		return err
	}
	r.late.clear()
	return l.points.Hit(PointAfterPurge)
}
