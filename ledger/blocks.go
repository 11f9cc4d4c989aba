package ledger

import (
	"context"
	"errors"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/ledger/blockfile"
)

// BlockIterator walks blocks that are committed in all stores and waits for new
// ones (LEDGER §3.11).
type BlockIterator = blockfile.Iterator

// ID is the channel's id.
func (l *Ledger) ID() string { return l.id }

// Height is the number of blocks that are committed in all stores.
func (l *Ledger) Height() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.height
}

// Info describes the end of the chain.
func (l *Ledger) Info() *common.BlockchainInfo {
	info := l.blocks.Info()
	if !l.settle(info.Height) {
		return l.Committed().Info()
	}
	return info
}

// WaitHeight waits until the ledger has at least h blocks.
func (l *Ledger) WaitHeight(ctx context.Context, h uint64) error {
	for {
		l.mu.Lock()
		height, stopped, wake := l.height, l.stopped, l.wake
		l.mu.Unlock()
		if height >= h {
			return nil
		}
		if stopped != nil {
			return stopped
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// settle holds an answer back that already shows a block whose commit is still
// under way, so that a client that saw block N can rely on state N (LEDGER
// §3.10). It never waits for a commit that begins later. It returns false if the
// commit is held up, which may take long: then the block must not be shown.
func (l *Ledger) settle(h uint64) bool {
	for {
		l.mu.Lock()
		height, stopped, heldUp, wake := l.height, l.stopped, l.heldUp, l.wake
		l.mu.Unlock()
		switch {
		case height >= h, stopped != nil: // the answer is durable and may as well go out
			return true
		case heldUp > 0:
			return false
		}
		<-wake
	}
}

// settled passes an answer on once the blocks it may show are committed, or gives
// the one without a block that is held up.
func settled[T any](l *Ledger, v T, err error, without func() (T, error)) (T, error) {
	if err == nil && !l.settle(l.blocks.Height()) {
		return without()
	}
	return v, err
}

// BlockByNumber returns a block; 2^64-1 means the last one. Blocks returned
// must not be changed.
func (l *Ledger) BlockByNumber(n uint64) (*common.Block, error) {
	b, err := l.blocks.BlockByNumber(n)
	return settled(l, b, err, func() (*common.Block, error) { return l.Committed().blockByNumber(n) })
}

// RawBlock is BlockByNumber in marshalled form.
func (l *Ledger) RawBlock(n uint64) ([]byte, error) {
	b, err := l.blocks.RawBlock(n)
	return settled(l, b, err, func() ([]byte, error) { return l.Committed().RawBlock(n) })
}

// BlockByHash returns the block with the given header hash.
func (l *Ledger) BlockByHash(hash []byte) (*common.Block, error) {
	b, err := l.blocks.BlockByHash(hash)
	return settled(l, b, err, func() (*common.Block, error) { return l.Committed().BlockByHash(hash) })
}

// BlockByTxID returns the block with the first transaction of that id.
func (l *Ledger) BlockByTxID(txid string) (*common.Block, error) {
	b, err := l.blocks.BlockByTxID(txid)
	return settled(l, b, err, func() (*common.Block, error) { return l.Committed().BlockByTxID(txid) })
}

// TransactionByID returns the first transaction of that id and its final code.
func (l *Ledger) TransactionByID(txid string) (*peer.ProcessedTransaction, error) {
	tx, err := l.transactionByID(txid)
	return settled(l, tx, err, func() (*peer.ProcessedTransaction, error) { return l.Committed().TransactionByID(txid) })
}

func (l *Ledger) transactionByID(txid string) (*peer.ProcessedTransaction, error) {
	env, err := l.blocks.TxByID(txid)
	if err != nil {
		return nil, err
	}
	code, err := l.blocks.ValidationCode(txid)
	if err != nil {
		return nil, err
	}
	return &peer.ProcessedTransaction{TransactionEnvelope: env, ValidationCode: int32(code)}, nil
}

// ValidationCode returns the final code of the first transaction of that id.
func (l *Ledger) ValidationCode(txid string) (peer.TxValidationCode, error) {
	code, err := l.blocks.ValidationCode(txid)
	return settled(l, code, err, func() (peer.TxValidationCode, error) {
		tx, err := l.Committed().TransactionByID(txid)
		return peer.TxValidationCode(tx.GetValidationCode()), err
	})
}

// HasTx tells whether a transaction of that id is in the chain, valid or not.
// It does not wait for a commit under way.
func (l *Ledger) HasTx(txid string) (bool, error) { return l.blocks.HasTx(txid) }

// Iterator returns an iterator that begins with block from, which need not
// exist yet.
func (l *Ledger) Iterator(from uint64) *BlockIterator { return l.blocks.Iterator(from) }

// IsFatal tells an error for which the whole process has to stop from one that
// concerns a single channel (LEDGER §2.3).
func IsFatal(err error) bool {
	var replay *ReplayError
	if errors.As(err, &replay) {
		return false
	}
	var damage *blockfile.DamageError
	var blocks *BlockStoreError
	var construction *ConstructionError
	return errors.As(err, &damage) || errors.As(err, &blocks) || errors.As(err, &construction)
}
