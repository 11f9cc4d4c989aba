package ledger

import (
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"

	"github.com/heddle-ledger/heddle/ledger/mvcc"
)

// PrivateData is what the caller collected for a block.
type PrivateData struct {
	Sets    map[uint64]*rwset.TxPvtReadWriteSet // by transaction number
	Missing map[uint64][]MissingCollection
}

func (p *PrivateData) sets() mvcc.PrivateSets {
	if p == nil {
		return nil
	}
	return p.Sets
}

func (p *PrivateData) isEmpty() bool {
	return p == nil || len(p.Sets) == 0 && len(p.Missing) == 0
}

// beginPrivate looks whether the private store has the block already. If there
// is nothing to store but the marker, it is made durable while the versions are
// checked: the store must not be behind the block file (LEDGER §15.3 a).
func (c *commit) beginPrivate() error {
	l := c.l
	if l.private.NextBlock() > c.number {
		c.covered = true
		sets, err := l.private.Read(c.number, nil)
		if err != nil {
			return err
		}
		c.private = &PrivateData{Sets: sets}
		return nil
	}
	if c.replay {
		c.private = nil
		return nil
	}
	if c.private.isEmpty() && l.prepared != c.number+1 {
		if err := l.points.Hit(PointBeforePrepare); err != nil {
			return err
		}
		c.marker = make(chan error, 1)
		go func() { c.marker <- l.private.Prepare(c.number, nil, nil, true) }()
	}
	return nil
}

// awaitMarker waits for what beginPrivate started.
func (c *commit) awaitMarker() error {
	if c.marker == nil {
		return nil
	}
	err := <-c.marker
	if err == nil {
		c.l.prepared = c.number + 1
	}
	return err
}

// preparePrivate makes the block's private data durable, unless they are from
// an earlier attempt.
func (c *commit) preparePrivate() error {
	l := c.l
	if c.covered || l.prepared == c.number+1 {
		return nil
	}
	if err := l.points.Hit(PointBeforePrepare); err != nil {
		return err
	}
	if err := l.private.Prepare(c.number, c.private.Sets, c.private.Missing, true); err != nil {
		return err
	}
	l.prepared = c.number + 1
	return nil
}

func (c *commit) commitPrivate() error {
	if c.covered {
		return nil
	}
	return c.l.private.Commit()
}

// PrivateDataExists tells whether the private store covers a block already, so
// that the caller must not collect (LEDGER §15.1).
func (l *Ledger) PrivateDataExists(n uint64) bool { return l.private.NextBlock() > n }

// PrivateDataOf returns the private write sets of a block by transaction
// number, as far as they are here and have not expired.
func (l *Ledger) PrivateDataOf(block uint64, filter CollectionFilter) (map[uint64]*rwset.TxPvtReadWriteSet, error) {
	return l.private.Read(block, filter)
}

// MissingPrivateData lists the private data that this peer should have and has
// not, of the most recent so many blocks that miss any: by block and
// transaction. It lists nothing while the block store catches up (LEDGER
// §17.4).
func (l *Ledger) MissingPrivateData(blocks int) (map[uint64]map[uint64][]MissingCollection, error) {
	if l.private.NextBlock() > l.blocks.Height() {
		return nil, nil
	}
	return l.private.Missing(blocks)
}

// levelPrivate brings a private store that is behind the block files up to
// them: one older than private data, or one whose last marker a crash lost.
func (l *Ledger) levelPrivate() error {
	next, height := l.private.NextBlock(), l.blocks.Height()
	if next >= height {
		return nil
	}
	if next > 0 {
		l.log.Warningf("[%s] Private data store ends at block [%d], the block files at [%d]: going on from there", l.id, next, height)
	}
	return l.private.Skip(height)
}

// finishOld brings reconciled data into the state that a crash kept out of it
// (LEDGER §16).
func (l *Ledger) finishOld() error {
	blocks, err := l.private.OldBlocks()
	if err != nil || len(blocks) == 0 {
		return err
	}
	data := map[uint64]map[uint64]*rwset.TxPvtReadWriteSet{}
	for _, n := range blocks {
		if n >= l.blocks.Height() {
			continue
		}
		if data[n], err = l.private.Read(n, nil); err != nil {
			return err
		}
	}
	return l.applyOld(data)
}
