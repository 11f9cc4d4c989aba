package ledger

import (
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/ledger/mvcc"
)

type sideStores struct{}

func openSideStores(cfg *Config) (*sideStores, error) { return &sideStores{}, nil }
func (s *sideStores) close() error                    { return nil }

type side struct{}

func (s *side) dueAt(block uint64) ([]due, error) { return nil, nil }

func (b *bookkeeping) write() error  { return nil }
func (b *bookkeeping) purges() bool  { return false }
func (b *bookkeeping) finish() error { return nil }

func (c *commit) beginPrivate() error   { return nil }
func (c *commit) awaitMarker() error    { return nil }
func (c *commit) preparePrivate() error { return nil }
func (c *commit) commitPrivate() error  { return nil }
func (c *commit) listen() error         { return nil }
func (c *commit) writeHistory() error   { return nil }

func (l *Ledger) metadataUsed(ns string) bool { return true }

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

// MissingCollection is a private write set that the caller could not get.
type MissingCollection struct {
	Namespace, Collection string
	Eligible              bool
}

// ReconciledData is private data of an old block that arrived late.
type ReconciledData struct {
	Block uint64
	Sets  map[uint64]*rwset.TxPvtReadWriteSet
}

// HashMismatch is reconciled data that was not what the block names.
type HashMismatch struct {
	Block, Tx             uint64
	Namespace, Collection string
	ExpectedHash          []byte
}

// CollectionFilter names the collections wanted of each namespace; nil means
// all of them.
type CollectionFilter map[string]map[string]bool

// PrivateDataExists tells whether the private store covers a block already, so
// that the caller must not collect (LEDGER §15.1).
func (l *Ledger) PrivateDataExists(n uint64) bool { return false }

func (l *Ledger) CommitReconciled(data []ReconciledData) ([]HashMismatch, error) { return nil, nil }
func (l *Ledger) PrivateDataOf(block uint64, filter CollectionFilter) (map[uint64]*rwset.TxPvtReadWriteSet, error) {
	return nil, nil
}
func (l *Ledger) MissingPrivateData(blocks int) (map[uint64]map[uint64][]MissingCollection, error) {
	return nil, nil
}
func (l *Ledger) CollectionConfigBelow(block uint64, chaincode string) (*peer.CollectionConfigPackage, uint64, error) {
	return nil, 0, nil
}
func (l *Ledger) CollectionConfigAt(block uint64, chaincode string) (*peer.CollectionConfigPackage, error) {
	return nil, nil
}

type HistoryExecutor struct{}

func (l *Ledger) NewHistoryExecutor() (*HistoryExecutor, error) { return nil, ErrHistoryOff }
func (h *HistoryExecutor) GetHistoryForKey(ns, key string) (HistoryIterator, error) {
	return nil, ErrHistoryOff
}
func (h *HistoryExecutor) Done() {}
