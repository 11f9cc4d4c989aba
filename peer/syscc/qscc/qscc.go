// Package qscc is the query system chaincode: blocks and transactions of the
// channels of this peer (CHAINCODE §8.2).
//
// It owns no state and starts no goroutine; it is safe for concurrent use.
// peer/node puts it into the table of system chaincodes.
package qscc

import (
	"context"
	"fmt"
	"math"
	"strconv"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/chaincode/support"
	"github.com/heddle-ledger/heddle/peer/syscc"
)

// Access checks the caller; *acl.Checker is one.
type Access interface {
	CheckACL(resource, channelID string, sp *peer.SignedProposal) error
}

// Ledger is what can be asked; *ledger.Ledger and
// ledger.Committed are. An absent entry is the
// error "Entry not found in index".
type Ledger interface {
	Info() *common.BlockchainInfo
	RawBlock(n uint64) ([]byte, error)
	BlockByHash(hash []byte) (*common.Block, error)
	BlockByTxID(txID string) (*common.Block, error)
	TransactionByID(txID string) (*peer.ProcessedTransaction, error)
}

// Config is what a QSCC needs.
type Config struct {
	// Ledger finds the ledger of a joined channel. Within a simulation, of
	// whatever channel, its answers must not wait for a commit: the commit may
	// wait for the simulation.
	Ledger func(channelID string, simulating bool) (Ledger, bool)
	Access Access
}

// QSCC is the query system chaincode of a peer.
type QSCC struct{ cfg Config }

// New returns a QSCC.
func New(cfg Config) *QSCC { return &QSCC{cfg: cfg} }

// Invoke runs one function.
func (q *QSCC) Invoke(_ context.Context, inv *support.Invocation) *peer.Response {
	payload, err := q.invoke(inv)
	if err != nil {
		return syscc.Fail(err)
	}
	return syscc.OK(payload)
}

const getChainInfo = "GetChainInfo"

func (q *QSCC) invoke(inv *support.Invocation) ([]byte, error) {
	if len(inv.Args) < 2 {
		return nil, fmt.Errorf("Incorrect number of arguments, %d", len(inv.Args))
	}
	function, channelID := string(inv.Args[0]), string(inv.Args[1])
	if function != getChainInfo && len(inv.Args) < 3 {
		return nil, fmt.Errorf("missing 3rd argument for %s", function)
	}
	l, ok := q.cfg.Ledger(channelID, inv.Simulator != nil)
	if !ok {
		return nil, fmt.Errorf("Invalid chain ID, %s", channelID)
	}
	if inv.SignedProposal == nil {
		return nil, fmt.Errorf("Failed getting signed proposal from stub, %s: no signed proposal", channelID)
	}
	if err := q.cfg.Access.CheckACL("qscc/"+function, channelID, inv.SignedProposal); err != nil {
		return nil, fmt.Errorf("access denied for [%s][%s]: [%w]", function, channelID, err)
	}
	if function == getChainInfo {
		return proto.Marshal(l.Info())
	}
	return query(l, function, inv.Args[2])
}

// query runs the functions that have a parameter.
func query(l Ledger, function string, arg []byte) ([]byte, error) {
	switch function {
	case "GetBlockByNumber":
		return blockByNumber(l, string(arg))
	case "GetBlockByHash":
		b, err := l.BlockByHash(arg)
		if err != nil {
			return nil, fmt.Errorf("Failed to get block hash %s, error %w", arg, err)
		}
		return proto.Marshal(b)
	case "GetTransactionByID":
		tx, err := l.TransactionByID(string(arg))
		if err != nil {
			return nil, fmt.Errorf("Failed to get transaction with id %s, error %w", arg, err)
		}
		return proto.Marshal(tx)
	case "GetBlockByTxID":
		b, err := l.BlockByTxID(string(arg))
		if err != nil {
			return nil, fmt.Errorf("Failed to get block for txID %s, error %w", arg, err)
		}
		return proto.Marshal(b)
	}
	// Not reached as long as the access check knows the same functions.
	return nil, fmt.Errorf("Requested function %s not found.", function)
}

// blockByNumber gives a block by its number as decimal text; the highest number
// means the newest block.
func blockByNumber(l Ledger, text string) ([]byte, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("Failed to parse block number with error %w", err)
	}
	at := n
	if n == math.MaxUint64 {
		at = l.Info().GetHeight() - 1
	}
	raw, err := l.RawBlock(at)
	if err != nil {
		return nil, fmt.Errorf("Failed to get block number %d, error %w", n, err)
	}
	return raw, nil
}
