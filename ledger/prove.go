package ledger

import (
	"bytes"
	"context"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/ledger/state"
)

// acceptKnown takes in the block that the block store holds if state or history,
// of which next is the first block that neither has, know it: then it was durable
// before they did.
func (l *Ledger) acceptKnown(ctx context.Context, next uint64) error {
	if held := l.blocks.Held(); held == nil || next <= held.GetHeader().GetNumber() {
		return nil
	}
	return l.blocks.Accept(ctx)
}

// decideHeld takes in the block that the block store holds, or has it cut off:
// the machine went down while it was written, and its end is not what it was to
// be. Stores are level with the blocks before it. A block that is cut off was not
// acknowledged, and comes again.
func (l *Ledger) decideHeld(ctx context.Context, held *common.Block) error {
	ok, err := l.isTrue(held)
	if err != nil {
		return &ReplayError{Channel: l.id, Err: err}
	}
	if ok {
		return l.blocks.Accept(ctx)
	}
	l.log.Warningf("[%s] Block [%d] was not written completely before the machine went down; it has to be fetched again", l.id, held.GetHeader().GetNumber())
	return l.blocks.Reject()
}

// isTrue tells whether the codes and the commit hash of a block are those that
// it was committed with. The commit hash tells, which is over the codes and their
// outcome (LEDGER §13.2); where there is none, as in a genesis block, little can be
// known. If blocks before differ from what they lead to, nothing can. Nor can it if
// the outcome takes values of a state that was built anew, and that state may have
// others: then the block may have been acknowledged, and it stays (adr/0009).
func (l *Ledger) isTrue(b *common.Block) (bool, error) {
	block := protoutil.ParseBlock(b)
	flags := block.Flags()
	if len(flags) != block.Len() {
		return false, nil
	}
	if block.Number() == 0 {
		return len(bytes.Trim(flags, "\x00")) == 0, nil // all valid
	}
	stored, err := lastCommitHash(b)
	if err != nil {
		return false, nil //nolint:nilerr // it does not decode
	}
	before, err := l.blocks.BlockByNumber(block.Number() - 1)
	if err != nil {
		return false, err
	}
	previous := storedHash(before)
	switch {
	case l.differs != nil, block.Number() > 1 && previous == nil:
		return true, nil
	case stored == nil:
		return false, nil
	}
	var failed error // of the state, which says nothing about the block
	doubtful := false
	v := l.validatorOn(lookUp(func(ns, key string) (*state.Value, error) {
		value, err := l.enduringState().Get(ns, key)
		if err == nil && l.rebuilt && !doubtful {
			doubtful, err = l.doubtful(ns)
		}
		if err != nil {
			failed = err
		}
		return value, err
	}))
	// Metadata do not enter the hash: what is asked for are the values of keys of
	// which nothing but the metadata are written.
	v.MetadataUsed = func(string) bool { return false }
	result, err := v.Replay(block, flags)
	switch {
	case failed != nil:
		return false, failed
	case err != nil:
		return false, nil //nolint:nilerr // so it can not have been committed
	}
	return doubtful || bytes.Equal(result.Updates.CommitHash(result.Flags, previous), stored), nil
}

// doubtful tells whether a namespace may have other values in a state that was
// built anew than in the one before, although all blocks gave their commit hashes:
// these know neither what has expired nor how CouchDB spells a value.
func (l *Ledger) doubtful(ns string) (bool, error) {
	if _, ok := l.state.(state.Reshaper); ok {
		return true, nil
	}
	chaincode, coll, kind := state.SplitNamespace(ns)
	if kind == 0 {
		return false, nil
	}
	raw, err := l.committedCollections(chaincode)
	if err != nil || raw == nil {
		return true, err
	}
	c, ok := l.deployedCollection(chaincode, raw, coll)
	return !ok || c.GetBlockToLive() > 0, nil
}
