package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/ledger/bookkeeper"
	"github.com/heddle-ledger/heddle/ledger/mvcc"
	"github.com/heddle-ledger/heddle/ledger/state"
)

// Crash points of Commit, in the order in which they are passed; those of the
// stores lie between them.
const (
	PointBeforeSideEffects = "ledger/before-config-history"
	PointBeforePrepare     = "ledger/before-private-prepare"
	PointAfterPrepare      = "ledger/after-private-prepare"
	PointAfterBlock        = "ledger/after-block"
	PointAfterPrivate      = "ledger/after-private-commit"
	PointAfterBookkeeping  = "ledger/after-bookkeeping"
	PointAfterState        = "ledger/after-state"
	PointAfterPurge        = "ledger/after-schedule-purge"
	PointAfterHistory      = "ledger/after-history"
)

// FailedError is returned when stores were left behind the block file, or when it
// is not known whether the block is in it; they are repaired when the ledger is
// opened again, so the process has to stop.
type FailedError struct {
	Channel string
	Block   uint64
	Unknown bool // the block may be stored or not
	Err     error
}

func (e *FailedError) Error() string {
	what := "is stored, but its changes are not"
	if e.Unknown {
		what = "may be stored or not"
	}
	return fmt.Sprintf("channel [%s]: block [%d] %s: %v", e.Channel, e.Block, what, e.Err)
}

func (e *FailedError) Unwrap() error { return e.Err }

// Commit takes the next block, whose transactions carry the codes of earlier
// validation, through all stores (LEDGER §15). It may run while the following
// block is being validated. Private data that the block names are listed as
// missing.
func (l *Ledger) Commit(b *protoutil.Block) error { return l.CommitWithPrivateData(b, nil) }

// CommitWithPrivateData is Commit with the private data that were collected for
// the block. They are ignored if the private store covers the block already.
//
// After an error other than *FailedError nothing of the block is durable but
// config history, which is harmless, and possibly the private store's part,
// which the next attempt finds.
func (l *Ledger) CommitWithPrivateData(b *protoutil.Block, private *PrivateData) error {
	return l.CommitContext(context.Background(), b, private)
}

// CommitContext is CommitWithPrivateData for who can wait for a state database
// that is out of reach: the block goes on when it is there again. The end of ctx
// ends this waiting, and nothing else; its error is in the one returned then.
func (l *Ledger) CommitContext(ctx context.Context, b *protoutil.Block, private *PrivateData) error {
	l.commitMu.Lock()
	defer l.commitMu.Unlock()
	defer l.begin(work{ctx: ctx, doing: "committing", block: b.Number(), named: true})()
	if reason := l.stopReason(); reason != nil {
		return reason
	}
	c := &commit{l: l, block: b, number: b.Number(), private: private, begun: time.Now()}
	if want := l.blocks.Height(); c.number != want {
		return fmt.Errorf("block number should have been %d but was %d", want, c.number)
	}
	defer c.deployed()
	defer l.packages.forget()
	if err := c.decide(); err != nil {
		return err
	}
	if err := c.storeBlock(); err != nil {
		if l.blocks.Height() > c.number || l.blocks.Failed() != nil {
			return c.fail(err)
		}
		setFlags(c.block.Proto(), c.passed) // the next attempt judges anew
		return err
	}
	if err := c.applyState(); err != nil {
		return c.fail(err)
	}
	l.publish(c.number + 1)
	c.report()
	return nil
}

// commit is one block on its way through the stores.
type commit struct {
	l       *Ledger
	block   *protoutil.Block
	number  uint64
	private *PrivateData

	passed  []byte // codes of earlier validation
	result  *mvcc.Result
	covered bool                // the private store knows the block
	books   *bookkeeper.Changes // what goes into the bookkeeper
	replay  bool                // the block is in the block file already
	// indexed is called when the state has the deployments of the block; nil if
	// there are none.
	indexed func()

	begun                      time.Time
	decided, stored, committed time.Time
}

func (c *commit) fail(err error) error {
	failed := &FailedError{Channel: c.l.id, Block: c.number, Unknown: c.l.blocks.Height() <= c.number, Err: err}
	c.l.stop(failed)
	return failed
}

// decide makes everything up to the point where the block becomes durable: codes,
// updates, config history, commit hash (LEDGER §15 steps 1-3).
func (c *commit) decide() error {
	l := c.l
	if err := c.beginPrivate(); err != nil {
		return err
	}
	c.passed = c.block.Flags()
	if err := c.judge(); err != nil {
		return err
	}
	setFlags(c.block.Proto(), c.result.Flags)
	if c.number == 1 || c.number > 1 && l.commitHash != nil {
		l.nextHash = c.result.Updates.CommitHash(c.result.Flags, l.commitHash)
		setMetadata(c.block.Proto(), protoutil.CommitHashSlot, protoutil.Marshal(&common.Metadata{Value: l.nextHash}))
	} else {
		l.nextHash = nil
	}
	c.decided = time.Now()
	return nil
}

func (c *commit) judge() error {
	l := c.l
	var err error
	switch {
	case c.result != nil: // made ahead
	case c.replay:
		c.result, err = l.validator.Replay(c.block, c.block.Flags())
	default:
		c.result, err = l.validator.Validate(c.block, c.block.Flags())
	}
	if err != nil {
		return err
	}
	if err := l.validator.ApplyPrivate(c.result, c.number, c.private.sets()); err != nil {
		return err
	}
	if n := len(c.result.Refused); n > 0 {
		r := &c.result.Refused[0]
		l.log.Warningf("[%s] Block [%d] has [%d] private writes that can not be taken; they count as missing. The first one is to collection [%s:%s]: %s",
			l.id, c.number, n, flog.Foreign(r.Namespace), flog.Foreign(r.Collection), flog.ForeignError(r.Err))
	}
	return c.listen()
}

// listen records what the block does to deployed chaincodes. It is done before
// anything of the block is durable, and again when the block is replayed.
func (c *commit) listen() error {
	changes, err := lifecycleChanges(c.result.Updates, c.l.latest)
	if err != nil || len(changes) == 0 {
		return err
	}
	if err := c.l.points.Hit(PointBeforeSideEffects); err != nil {
		return err
	}
	c.indexed = c.l.indexes.deploy(c.l, changes)
	if err := c.noteEligibility(changes); err != nil {
		return err
	}
	return c.l.recordConfigs(c.number, changes)
}

// deployed tells that what the block deploys is in the state, or will not be.
func (c *commit) deployed() {
	if c.indexed != nil {
		c.indexed()
	}
}

// noteEligibility tells the private store of collections that this peer's
// organisation joins with the block.
func (c *commit) noteEligibility(changes []lifecycleChange) error {
	joined := map[string][]string{}
	for i := range changes {
		colls, err := c.l.newlyEligible(&changes[i])
		if err != nil {
			return err
		}
		if len(colls) > 0 {
			joined[changes[i].chaincode] = colls
		}
	}
	if len(joined) == 0 {
		return nil
	}
	return c.l.private.BecameEligible(c.number, joined)
}

func (c *commit) writeHistory() error {
	if c.l.history == nil {
		return nil
	}
	return c.l.history.Commit(c.block, c.block.Flags())
}

// storeBlock makes the block durable (LEDGER §15 step 4).
func (c *commit) storeBlock() error {
	l := c.l
	if err := c.preparePrivate(); err != nil {
		return err
	}
	if err := l.points.Hit(PointAfterPrepare); err != nil {
		return err
	}
	if err := l.blocks.Write(c.block); err != nil {
		return err
	}
	l.commitHash = l.nextHash
	if err := l.points.Hit(PointAfterBlock); err != nil {
		return err
	}
	if err := c.commitPrivate(); err != nil {
		return err
	}
	c.stored = time.Now()
	return l.points.Hit(PointAfterPrivate)
}

// applyState brings state and history up to the block (LEDGER §15 steps 5 and
// 6).
func (c *commit) applyState() error {
	l := c.l
	historyDone := make(chan error, 1)
	go func() { historyDone <- c.writeHistory() }()
	err := c.writeState()
	if herr := <-historyDone; err == nil {
		err = herr
	}
	c.committed = time.Now()
	if err != nil {
		return err
	}
	return l.points.Hit(PointAfterHistory)
}

func (c *commit) writeState() error {
	l := c.l
	if err := c.planBookkeeping(); err != nil {
		return err
	}
	if err := l.books.Write(c.books); err != nil {
		return err
	}
	if err := l.points.Hit(PointAfterBookkeeping); err != nil {
		return err
	}
	// Processed schedule entries go only once the state is durable (LEDGER
	// §15.3 d).
	savepoint := state.Version{Block: c.number, Tx: uint64(c.block.Len()) - 1}
	batch := c.result.Updates.Batch()
	err := l.endure(func() error { return l.state.Apply(batch, &savepoint, len(c.books.Processed) > 0) })
	if err != nil {
		return err
	}
	if err := l.points.Hit(PointAfterState); err != nil {
		return err
	}
	if err := l.books.Finish(c.books.Processed); err != nil {
		return err
	}
	return l.points.Hit(PointAfterPurge)
}

// report writes the reference's log line and the metrics.
func (c *commit) report() {
	l := c.l
	end := time.Now()
	l.log.Infof("[%s] Committed block [%d] with %d transaction(s) in %dms (state_validation=%dms block_and_pvtdata_commit=%dms state_commit=%dms) commitHash=[%x]",
		l.id, c.number, c.block.Len(), millis(end.Sub(c.begun)), millis(c.decided.Sub(c.begun)),
		millis(c.stored.Sub(c.decided)), millis(c.committed.Sub(c.stored)), l.commitHash)
	l.metrics.processing.Observe(end.Sub(c.begun).Seconds())
	l.metrics.storage.Observe(c.stored.Sub(c.decided).Seconds())
	l.metrics.state.Observe(c.committed.Sub(c.stored).Seconds())
	l.metrics.count(c.block, c.result.Flags)
}
