package ledger

import (
	"errors"
	"fmt"

	"github.com/heddle-ledger/heddle/ledger/blockfile"
)

// Errors with the reference's texts (LEDGER §2.3, §3.10, §6.2, §11.1).
var (
	ErrLedgerExists  = errors.New("LedgerID already exists")
	ErrLedgerUnknown = errors.New("LedgerID does not exist")
	ErrNotFound      = blockfile.ErrNotFound // "Entry not found in index"
	ErrHistoryOff    = errors.New("history database not enabled")
	ErrDone          = errors.New("this instance should not be used after calling Done()")
	ErrResultsTaken  = errors.New("this function should only be called once on a transaction simulator instance")
	ErrByHash        = errors.New("retrieving private data metadata by keyhash is not supported in simulation. This function is only available for query as yet")
)

// ErrClosed is returned once a ledger has been closed.
var ErrClosed = errors.New("ledger is closed")

// BlockStoreError stops the process: the block files of a channel, or their
// index, cannot be opened (LEDGER §2.3).
type BlockStoreError struct{ Err error }

func (e *BlockStoreError) Error() string { return "open block store: " + e.Err.Error() }

func (e *BlockStoreError) Unwrap() error { return e.Err }

// UnsupportedTxError refuses a combination of reads and writes in one
// transaction (LEDGER §11.6).
type UnsupportedTxError struct {
	TxID, Reason string
}

func (e *UnsupportedTxError) Error() string {
	return fmt.Sprintf("txid [%s]: %s", e.TxID, e.Reason)
}

// The reasons of UnsupportedTxError.
const (
	reasonPrivateQuery      = "Queries on pvt data is supported only in a read-only transaction"
	reasonAfterPrivateQuery = "Transaction has already performed queries on pvt data. Writes are not allowed"
	reasonPagedQuery        = "Paginated queries are supported only in a read-only transaction"
	reasonAfterPagedQuery   = "Transaction has already performed a paginated query. Writes are not allowed"
)

// CollectionError says that a collection is not known (LEDGER §11.5).
type CollectionError struct {
	Chaincode  string
	Collection string // empty if the chaincode has no collections at all
}

func (e *CollectionError) Error() string {
	if e.Collection == "" {
		return fmt.Sprintf("collection config not defined for chaincode [%s], pass the collection configuration upon chaincode definition/instantiation", e.Chaincode)
	}
	return fmt.Sprintf("collection [%s] not defined in the collection config for chaincode [%s]", e.Collection, e.Chaincode)
}

// PrivateDataUnavailableError is returned when this peer does not have the
// version of a private value that the public hash belongs to.
type PrivateDataUnavailableError struct {
	HashVersion, DataVersion string
}

func (e *PrivateDataUnavailableError) Error() string {
	return fmt.Sprintf("private data matching public hash version is not available. Public hash version = %s, Private data version = %s", e.HashVersion, e.DataVersion)
}
