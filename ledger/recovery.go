package ledger

import (
	"fmt"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/ledger/mvcc"
)

// newLedger opens a channel's stores and brings them level (LEDGER §17).
func (p *Provider) newLedger(id string) (*Ledger, error) {
	blocks, err := p.blocks.Open(id)
	if err != nil {
		return nil, err
	}
	l := &Ledger{
		id: id, log: p.cfg.Log.Named("kvledger"), points: p.cfg.Points,
		metrics: p.metrics.forChannel(id), membership: p.cfg.Membership,
		blocks: blocks, btl: map[mvcc.Collection]uint64{}, wake: make(chan struct{}),
	}
	if l.state, err = p.state.Open(id); err != nil {
		return nil, err
	}
	if l.books, err = openBooks(p.sides.bookkeeper, id); err != nil {
		return nil, err
	}
	l.validator = mvcc.Validator{State: l.state, MetadataUsed: l.metadataUsed, CheckWrite: l.state.CheckWrite}
	if h := blocks.Height(); h > 0 {
		last, err := blocks.BlockByNumber(h - 1)
		if err != nil {
			return nil, err
		}
		if l.commitHash, err = lastCommitHash(last); err != nil {
			return nil, err
		}
	}
	if err := l.recover(); err != nil {
		return nil, err
	}
	l.side = &side{}
	l.height = blocks.Height()
	blocks.Publish()
	return l, nil
}

func (l *Ledger) recover() error {
	height := l.blocks.Height()
	sp, err := l.state.Savepoint()
	if err != nil {
		return err
	}
	next := uint64(0)
	if sp != nil {
		next = sp.Block + 1
	}
	if next > height {
		return aheadError("state", next, height)
	}
	for ; next < height; next++ {
		b, err := l.blocks.BlockByNumber(next)
		if err != nil {
			return err
		}
		c := &commit{l: l, block: protoutil.ParseBlock(b), number: next, replay: true}
		if err := c.judge(); err != nil {
			return err
		}
		if err := c.writeState(); err != nil {
			return err
		}
	}
	return nil
}

// aheadError is the reference's text for a database that knows blocks which the
// block store does not have (LEDGER §17.3).
func aheadError(name string, height, blocks uint64) error {
	return fmt.Errorf("the %s database [height=%d] is ahead of the block store [height=%d]. This is possible when the %s database is not dropped after a ledger reset/rollback. The %s database can safely be dropped and will be rebuilt up to block store height upon the next peer start.",
		name, height, blocks, name, name)
}
