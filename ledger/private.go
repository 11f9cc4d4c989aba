package ledger

import (
	"fmt"

	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"

	"github.com/heddle-ledger/heddle/ledger/mvcc"
	"github.com/heddle-ledger/heddle/ledger/pvtstore"
)

type (
	// MissingCollection is a private write set that the caller could not get.
	MissingCollection = pvtstore.MissingCollection
	// CollectionFilter names the collections wanted of each namespace; nil
	// means all of them.
	CollectionFilter = pvtstore.CollectionFilter
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
		return nil
	}
	if l.prepared { // by an attempt that failed
		if err := l.private.Abandon(); err != nil {
			return err
		}
		l.prepared = false
	}
	if c.private.isEmpty() {
		if err := l.points.Hit(PointBeforePrepare); err != nil {
			return err
		}
		l.prepared = true
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
	return <-c.marker
}

// preparePrivate makes the block's private data durable.
func (c *commit) preparePrivate() error {
	l := c.l
	if c.covered || l.prepared {
		return nil
	}
	if err := l.points.Hit(PointBeforePrepare); err != nil {
		return err
	}
	l.prepared = true
	return l.private.Prepare(c.number, c.private.Sets, c.private.Missing, true)
}

func (c *commit) commitPrivate() error {
	if c.covered {
		return nil
	}
	c.l.prepared = false
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

// levelPrivate lets an empty private store begin where the block files end: the
// chain is older than private data (LEDGER §17.2). One that is behind for any
// other reason has lost data and is refused.
func (l *Ledger) levelPrivate() error {
	next, height := l.private.NextBlock(), l.blocks.Height()
	if next >= height {
		return nil
	}
	if err := l.private.Skip(height); err != nil {
		return fmt.Errorf("private data store [height=%d] is behind the block store [height=%d]: %w", next, height, err)
	}
	return nil
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
