package ledger

import (
	"fmt"

	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

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

// beginPrivate looks whether the private store has the block already. If the
// block has no private data, all there is to do about it can be done while the
// versions are checked, or has been done since Expect.
func (c *commit) beginPrivate() error {
	l := c.l
	named := mentionsPrivateData(c.block)
	if l.private.NextBlock() > c.number {
		c.covered = true
		if !named {
			return nil
		}
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
	if !named && c.private.isEmpty() {
		if err := l.points.Hit(PointBeforePrepare); err != nil {
			return err
		}
		l.herald.announce(c.number)
	}
	return nil
}

// preparePrivate makes the private store know the block, which it must before
// the block file does (LEDGER §15.3 a).
func (c *commit) preparePrivate() error {
	l := c.l
	if c.covered {
		return nil
	}
	if err := l.herald.await(c.number); err != nil {
		return err
	}
	if l.private.NextBlock() > c.number {
		c.covered = true
		return nil
	}
	if c.private == nil {
		missing, err := c.allMissing()
		if err != nil {
			return err
		}
		c.private = &PrivateData{Missing: missing}
	}
	if err := l.points.Hit(PointBeforePrepare); err != nil {
		return err
	}
	l.prepared = true
	return l.private.Prepare(c.number, c.private.Sets, c.private.Missing, true)
}

// allMissing lists all private data that the transactions name which earlier
// validation let pass, for a caller that collects none: what this peer is
// entitled to can be had later (LEDGER §16).
func (c *commit) allMissing() (map[uint64][]MissingCollection, error) {
	out := map[uint64][]MissingCollection{}
	for i := range c.block.Len() {
		if c.passed[i] != byte(peer.TxValidationCode_VALID) {
			continue
		}
		set, err := c.block.Tx(i).RWSet()
		if err != nil {
			continue
		}
		for k := range set.Namespaces {
			ns := &set.Namespaces[k]
			for _, coll := range ns.Collections {
				if len(coll.PvtHash) == 0 {
					continue
				}
				eligible, err := c.l.eligible(ns.Namespace, coll.Name)
				if err != nil {
					return nil, err
				}
				out[uint64(i)] = append(out[uint64(i)], MissingCollection{Namespace: ns.Namespace, Collection: coll.Name, Eligible: eligible})
			}
		}
	}
	return out, nil
}

// eligible tells whether this peer's organisation is a member of a collection as
// it is deployed before the block.
func (l *Ledger) eligible(chaincode, name string) (bool, error) {
	raw, err := l.committedCollections(chaincode)
	if err != nil || raw == nil {
		return false, err
	}
	c, ok := l.deployedCollection(chaincode, raw, name)
	return ok && l.isMember(name, c.GetMemberOrgsPolicy()), nil
}

func (c *commit) commitPrivate() error {
	if c.covered {
		c.l.private.Settle(c.number)
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
	if l.private.Height() > l.blocks.Height() {
		return nil, nil
	}
	return l.private.Missing(blocks)
}

// levelPrivate lets an empty private store begin where the block files end: the
// chain is older than private data (LEDGER §17.2). One that is behind for any
// other reason has lost data and is refused.
func (l *Ledger) levelPrivate() error {
	next, height := l.private.NextBlock(), l.blocks.Height()
	if l.blocks.Held() != nil {
		height++
	}
	if next >= height {
		return nil
	}
	if err := l.private.Skip(height); err != nil {
		return fmt.Errorf("private data store [height=%d] is behind the block store [height=%d]: %w", next, height, err)
	}
	if height > 1 {
		l.log.Warningf("[%s] The private data store is empty and begins behind block [%d], as for a channel older than private data. If it had any, they are lost here: put back the store from a backup", l.id, height-1)
	}
	return nil
}

// finishOld brings reconciled data into the state that a crash kept out of it
// (LEDGER §16).
func (l *Ledger) finishOld() error {
	blocks, err := l.private.OldBlocks()
	if err != nil || blocks == nil {
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
