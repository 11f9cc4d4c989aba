package ledger

import (
	"context"
	"fmt"

	"github.com/heddle-ledger/heddle/ledger/bookkeeper"
	"github.com/heddle-ledger/heddle/ledger/confhistory"
	"github.com/heddle-ledger/heddle/ledger/history"
	"github.com/heddle-ledger/heddle/ledger/mvcc"
	"github.com/heddle-ledger/heddle/ledger/state"
)

// newLedger opens a channel's stores and brings them level (LEDGER §17). With an
// error it may return what it had opened so far, to be discarded.
func (p *Provider) newLedger(ctx context.Context, id string) (*Ledger, error) {
	blocks, err := p.blocks.OpenContext(ctx, id)
	if ctx.Err() != nil {
		return nil, fmt.Errorf("opening of channel [%s] interrupted: %w", id, context.Cause(ctx))
	}
	if err != nil {
		return nil, &BlockStoreError{err}
	}
	l := &Ledger{
		id: id, log: p.cfg.Log.Named("kvledger"), points: p.cfg.Points,
		metrics: p.metrics.forChannel(id), membership: p.cfg.Membership,
		blocks: blocks, btl: map[mvcc.Collection]uint64{}, wake: make(chan struct{}), halted: make(chan struct{}), indexes: p.indexes,
		progress: p.cfg.Progress, lateBlocks: p.cfg.maxLateBlocks,
	}
	return l, l.open(ctx, p, id)
}

// open opens the stores beside the blocks and brings them level.
func (l *Ledger) open(ctx context.Context, p *Provider, id string) error {
	defer l.begin(work{ctx: ctx, doing: openingChannel, brief: true})()
	err := l.endure(func() (err error) {
		l.state, err = p.state.Open(id)
		return err
	})
	if err != nil {
		return err
	}
	p.indexes.add(l)
	if l.books, err = bookkeeper.Open(p.sides.bookkeeper, id); err != nil {
		return err
	}
	l.latest = l.enduringState()
	l.validator = l.validatorOn(l.latest)
	l.conf = confhistory.Open(p.sides.conf, id)
	if p.cfg.History {
		l.history = history.Open(p.sides.history, id)
	}
	if l.private, err = p.sides.private.Open(id, l.blockToLive); err != nil {
		return err
	}
	if err := l.levelPrivate(); err != nil {
		return err
	}
	l.herald = newHerald(l.private)
	if err := l.recover(ctx); err != nil {
		return err
	}
	l.height = l.blocks.Height()
	if l.height > 0 {
		last, err := l.blocks.BlockByNumber(l.height - 1)
		if err != nil {
			return err
		}
		if l.commitHash, err = lastCommitHash(last); err != nil {
			return err
		}
	}
	l.blocks.Publish()
	return nil
}

// recover brings state and history level with the blocks, decides on a block that
// may not have been written completely, and finishes what a crash cut short
// beside the state.
func (l *Ledger) recover(ctx context.Context) error {
	if err := l.level(ctx); err != nil {
		return err
	}
	if held := l.blocks.Held(); held != nil {
		if err := l.decideHeld(ctx, held); err != nil {
			return err
		}
		if err := l.level(ctx); err != nil {
			return err
		}
	}
	height := l.blocks.Height()
	if height == 0 {
		return nil
	}
	if err := l.books.DropUpTo(height - 1); err != nil {
		return err
	}
	return l.endure(l.finishOld)
}

// level replays into state and history the blocks that they do not have. The
// codes in the blocks are final; nothing is judged again.
func (l *Ledger) level(ctx context.Context) error {
	r := &replay{l: l, late: lateState{written: l.enduringState(), most: l.lateBlocks}}
	if db, ok := l.state.(state.Reshaper); ok {
		r.late.reshapes, r.late.flush = db.Reshapes, r.flush
	}
	var err error
	if r.state, err = l.stateNext(); err != nil {
		return err
	}
	l.rebuilt = r.state == 0
	if l.history != nil {
		if r.history, err = l.history.Next(); err != nil {
			return err
		}
	}
	if err := l.acceptKnown(ctx, max(r.state, r.history)); err != nil {
		return err
	}
	r.height = l.blocks.Height()
	if l.history == nil {
		r.history = r.height
	}
	if r.state > r.height {
		return aheadError("state", r.state, r.height)
	}
	if r.history > r.height {
		return aheadError("history", r.history, r.height)
	}
	return r.run(ctx)
}

// stateNext is the first block that the state does not have.
func (l *Ledger) stateNext() (uint64, error) {
	var sp *state.Version
	err := l.endure(func() (err error) {
		sp, err = l.state.Savepoint()
		return err
	})
	if err != nil {
		return 0, err
	}
	if sp == nil {
		return 0, l.checkLeftovers()
	}
	return sp.Block + 1, l.checkSpaces(sp.Block)
}

// checkSpaces refuses a state database of which a part is gone that the history
// knows to have been there: simulations would find nothing in it, and no error
// either. Namespaces of private data are not in the history.
func (l *Ledger) checkSpaces(savepoint uint64) error {
	db, ok := l.state.(state.Spaces)
	if !ok || l.history == nil {
		return nil
	}
	next, err := l.history.Next()
	if err != nil || next > savepoint+1 { // it is ahead: what the replay makes is not missed
		return err
	}
	spaces, err := l.history.Namespaces()
	if err != nil {
		return err
	}
	for _, ns := range spaces {
		var missing string
		err := l.endure(func() (err error) {
			missing, err = db.MissingSpace(ns)
			return err
		})
		if err != nil {
			return err
		}
		if missing != "" {
			return fmt.Errorf("the state database was dropped in part only: it has a savepoint, but database [%s] is gone, which blocks wrote to. Drop all databases of the channel, or use peer node rebuild-dbs", missing)
		}
	}
	return nil
}

// checkLeftovers refuses a state database that was dropped in part after a reset or
// rollback: later blocks would find values of a future that is gone.
func (l *Ledger) checkLeftovers() error {
	db, ok := l.state.(state.Leftovers)
	if !ok {
		return nil
	}
	var found string
	height := l.blocks.Height()
	if l.blocks.Held() != nil {
		height++ // if it is not to be had, it had no effect either
	}
	err := l.endure(func() (err error) {
		found, err = db.WrittenFrom(height)
		return err
	})
	if err != nil || found == "" {
		return err
	}
	return fmt.Errorf("the state database was dropped in part only: it has no savepoint, but %s is of a block that the block store [height=%d] does not have. Drop all databases of the channel, or use peer node rebuild-dbs", found, height)
}

// aheadError is the reference's text for a database that knows blocks which the
// block store does not have (LEDGER §17.3).
func aheadError(name string, height, blocks uint64) error {
	return fmt.Errorf("the %s database [height=%d] is ahead of the block store [height=%d]. This is possible when the %s database is not dropped after a ledger reset/rollback. The %s database can safely be dropped and will be rebuilt up to block store height upon the next peer start.",
		name, height, blocks, name, name)
}
