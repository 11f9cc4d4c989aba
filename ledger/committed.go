package ledger

import (
	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/ledger/blockfile"
)

// Committed answers questions about blocks for who holds a simulator: a block
// whose commit is under way is not there yet, where the Ledger would wait for it
// (LEDGER §3.10), and the commit for the simulator.
type Committed struct{ l *Ledger }

// Committed returns the view for who holds a simulator.
func (l *Ledger) Committed() Committed { return Committed{l} }

// Info describes the end of the chain.
func (c Committed) Info() *common.BlockchainInfo {
	height := c.l.Height()
	info := c.l.blocks.Info()
	if info.GetHeight() <= height || height == 0 {
		return info
	}
	last, err := c.l.blocks.BlockByNumber(height - 1)
	if err != nil {
		return info // the end is known all the same, if not yet in all stores
	}
	return &common.BlockchainInfo{
		Height: height, CurrentBlockHash: protoutil.BlockHash(last.GetHeader()),
		PreviousBlockHash: last.GetHeader().GetPreviousHash(),
	}
}

// blockByNumber returns a block; 2^64-1 means the last one.
func (c Committed) blockByNumber(n uint64) (*common.Block, error) {
	n, err := c.number(n)
	if err != nil {
		return nil, err
	}
	return c.l.blocks.BlockByNumber(n)
}

// number finds out which block is meant.
func (c Committed) number(n uint64) (uint64, error) {
	height := c.l.Height()
	if n == ^uint64(0) {
		n = height - 1
	}
	if n >= height {
		return 0, blockfile.ErrNotFound
	}
	return n, nil
}

// RawBlock returns a block in marshalled form; 2^64-1 means the last one.
func (c Committed) RawBlock(n uint64) ([]byte, error) {
	n, err := c.number(n)
	if err != nil {
		return nil, err
	}
	return c.l.blocks.RawBlock(n)
}

// BlockByHash returns the block with the given header hash.
func (c Committed) BlockByHash(hash []byte) (*common.Block, error) {
	height := c.l.Height()
	return below(height)(c.l.blocks.BlockByHash(hash))
}

// BlockByTxID returns the block with the first transaction of that id.
func (c Committed) BlockByTxID(txid string) (*common.Block, error) {
	height := c.l.Height()
	return below(height)(c.l.blocks.BlockByTxID(txid))
}

// TransactionByID returns the first transaction of that id and its final code.
func (c Committed) TransactionByID(txid string) (*peer.ProcessedTransaction, error) {
	height := c.l.Height()
	tx, err := c.l.transactionByID(txid)
	if err == nil && c.l.blocks.Height() > height {
		_, err = below(height)(c.l.blocks.BlockByTxID(txid))
	}
	if err != nil {
		return nil, err
	}
	return tx, nil
}

// below lets blocks below a height pass.
func below(height uint64) func(b *common.Block, err error) (*common.Block, error) {
	return func(b *common.Block, err error) (*common.Block, error) {
		if err == nil && b.GetHeader().GetNumber() >= height {
			return nil, blockfile.ErrNotFound
		}
		return b, err
	}
}
