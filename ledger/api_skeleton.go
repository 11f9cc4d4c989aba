package ledger

import (
	"context"
	"errors"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/queryresult"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/metrics"
	"github.com/heddle-ledger/heddle/internal/protoutil"
)

var errNotReady = errors.New("being written")

// Config says where a Provider keeps its ledgers and what it needs from above.
type Config struct {
	Dir                 string // the peer's ledgersData directory
	History             bool   // ledger.history.enableHistoryDatabase
	PurgeInterval       uint64 // ledger.pvtdataStore.purgeInterval, 0 = 100
	CollElgBatchSize    int    // ledger.pvtdataStore.collElgProcMaxDbBatchSize, 0 = 5000
	CollElgBatchesEvery int    // ledger.pvtdataStore.collElgProcDbBatchesInterval in ms, 0 = 1000
	Membership          Membership
	Log                 *flog.Logger
	Metrics             metrics.Provider
}

// Membership tells whether this peer's organisation belongs to a collection
// (LEDGER §8.7); nil means never.
type Membership func(channelID string, policy *peer.CollectionPolicyConfig) (bool, error)

// Errors with the reference's texts.
var (
	ErrLedgerExists  = errors.New("LedgerID already exists")
	ErrLedgerUnknown = errors.New("LedgerID does not exist")
	ErrNotFound      = errors.New("Entry not found in index")
	ErrHistoryOff    = errors.New("history database not enabled")
	ErrClosed        = errors.New("ledger is closed")
)

type Provider struct{}

func OpenProvider(cfg Config) (*Provider, error)                  { return nil, errNotReady }
func (p *Provider) Create(genesis *common.Block) (*Ledger, error) { return nil, errNotReady }
func (p *Provider) Open(id string) (*Ledger, error)               { return nil, errNotReady }
func (p *Provider) Exists(id string) (bool, error)                { return false, errNotReady }
func (p *Provider) List() ([]string, error)                       { return nil, errNotReady }
func (p *Provider) Close() error                                  { return nil }

type Ledger struct{}

func (l *Ledger) ID() string                                     { return "" }
func (l *Ledger) Height() uint64                                 { return 0 }
func (l *Ledger) Info() *common.BlockchainInfo                   { return nil }
func (l *Ledger) BlockByNumber(n uint64) (*common.Block, error)  { return nil, errNotReady }
func (l *Ledger) RawBlock(n uint64) ([]byte, error)              { return nil, errNotReady }
func (l *Ledger) BlockByHash(hash []byte) (*common.Block, error) { return nil, errNotReady }
func (l *Ledger) BlockByTxID(txid string) (*common.Block, error) { return nil, errNotReady }
func (l *Ledger) TransactionByID(txid string) (*peer.ProcessedTransaction, error) {
	return nil, errNotReady
}
func (l *Ledger) ValidationCode(txid string) (peer.TxValidationCode, error)      { return 0, errNotReady }
func (l *Ledger) HasTx(txid string) (bool, error)                                { return false, errNotReady }
func (l *Ledger) Iterator(from uint64) *BlockIterator                            { return nil }
func (l *Ledger) WaitHeight(ctx context.Context, h uint64) error                 { return errNotReady }
func (l *Ledger) NewSimulator(txid string) (*Simulator, error)                   { return nil, errNotReady }
func (l *Ledger) NewQueryExecutor() (*QueryExecutor, error)                      { return nil, errNotReady }
func (l *Ledger) NewHistoryExecutor() (*HistoryExecutor, error)                  { return nil, errNotReady }
func (l *Ledger) Commit(b *protoutil.Block) error                                { return errNotReady }
func (l *Ledger) CommitWithPrivateData(b *protoutil.Block, p *PrivateData) error { return errNotReady }

// PrivateDataExists: the private store already covers block n, so the caller must not collect (LEDGER §15.1).
func (l *Ledger) PrivateDataExists(n uint64) bool { return false }
func (l *Ledger) CommitReconciled(data []ReconciledData) ([]HashMismatch, error) {
	return nil, errNotReady
}
func (l *Ledger) PrivateDataOf(block uint64, filter CollectionFilter) (map[uint64]*rwset.TxPvtReadWriteSet, error) {
	return nil, errNotReady
}
func (l *Ledger) MissingPrivateData(blocks int) (map[uint64]map[uint64][]MissingCollection, error) {
	return nil, errNotReady
}
func (l *Ledger) CollectionConfigBelow(block uint64, chaincode string) (*peer.CollectionConfigPackage, uint64, error) {
	return nil, 0, errNotReady
}
func (l *Ledger) CollectionConfigAt(block uint64, chaincode string) (*peer.CollectionConfigPackage, error) {
	return nil, errNotReady
}

type BlockIterator struct{}

// Next waits for the block; (nil, nil) after Close.
func (it *BlockIterator) Next(ctx context.Context) (*common.Block, error) { return nil, errNotReady }
func (it *BlockIterator) Close()                                          {}

// PrivateData is what the caller collected for a block.
type PrivateData struct {
	Sets    map[uint64]*rwset.TxPvtReadWriteSet
	Missing map[uint64][]MissingCollection
}

type MissingCollection struct {
	Namespace, Collection string
	Eligible              bool
}

type ReconciledData struct {
	Block uint64
	Sets  map[uint64]*rwset.TxPvtReadWriteSet
}

type HashMismatch struct {
	Block, Tx             uint64
	Namespace, Collection string
	ExpectedHash          []byte
}

// CollectionFilter: namespace -> collection -> wanted; nil = all.
type CollectionFilter map[string]map[string]bool

// Iterator etc. are aliases of unnamed interfaces so that rooms which may not import this package can name the same type.
type (
	Iterator = interface {
		Next() (*queryresult.KV, error) // nil, nil at the end
		Close()
	}
	PageIterator = interface {
		Next() (*queryresult.KV, error)
		Bookmark() string // valid after the page has been read
		Close()
	}
	HistoryIterator = interface {
		Next() (*queryresult.KeyModification, error)
		Close()
	}
)

type QueryExecutor struct{}

func (q *QueryExecutor) GetState(ns, key string) ([]byte, error) { return nil, errNotReady }
func (q *QueryExecutor) GetStateMultiple(ns string, keys []string) ([][]byte, error) {
	return nil, errNotReady
}
func (q *QueryExecutor) GetStateMetadata(ns, key string) (map[string][]byte, error) {
	return nil, errNotReady
}
func (q *QueryExecutor) GetStateRange(ns, start, end string) (Iterator, error) {
	return nil, errNotReady
}
func (q *QueryExecutor) GetStateRangePage(ns, start, end string, pageSize int32) (PageIterator, error) {
	return nil, errNotReady
}
func (q *QueryExecutor) ExecuteQuery(ns, query string) (Iterator, error) { return nil, errNotReady }
func (q *QueryExecutor) ExecuteQueryPage(ns, query string, pageSize int32, bookmark string) (PageIterator, error) {
	return nil, errNotReady
}
func (q *QueryExecutor) GetPrivateData(ns, coll, key string) ([]byte, error) { return nil, errNotReady }
func (q *QueryExecutor) GetPrivateDataMultiple(ns, coll string, keys []string) ([][]byte, error) {
	return nil, errNotReady
}
func (q *QueryExecutor) GetPrivateDataHash(ns, coll, key string) ([]byte, error) {
	return nil, errNotReady
}
func (q *QueryExecutor) GetPrivateDataMetadata(ns, coll, key string) (map[string][]byte, error) {
	return nil, errNotReady
}
func (q *QueryExecutor) GetPrivateDataMetadataByHash(ns, coll string, keyHash []byte) (map[string][]byte, error) {
	return nil, errNotReady
}
func (q *QueryExecutor) GetPrivateDataRange(ns, coll, start, end string) (Iterator, error) {
	return nil, errNotReady
}
func (q *QueryExecutor) ExecuteQueryOnPrivateData(ns, coll, query string) (Iterator, error) {
	return nil, errNotReady
}
func (q *QueryExecutor) Done() {}

type Simulator struct{ QueryExecutor }

func (s *Simulator) SetState(ns, key string, value []byte) error { return errNotReady }
func (s *Simulator) DeleteState(ns, key string) error            { return errNotReady }
func (s *Simulator) SetStateMetadata(ns, key string, metadata map[string][]byte) error {
	return errNotReady
}
func (s *Simulator) DeleteStateMetadata(ns, key string) error                { return errNotReady }
func (s *Simulator) SetPrivateData(ns, coll, key string, value []byte) error { return errNotReady }
func (s *Simulator) DeletePrivateData(ns, coll, key string) error            { return errNotReady }
func (s *Simulator) SetPrivateDataMetadata(ns, coll, key string, metadata map[string][]byte) error {
	return errNotReady
}
func (s *Simulator) DeletePrivateDataMetadata(ns, coll, key string) error { return errNotReady }
func (s *Simulator) Results() (*SimulationResults, error)                 { return nil, errNotReady }

// SimulationResults: Public is the marshalled TxReadWriteSet; Private is nil without private writes.
type SimulationResults struct {
	Public  []byte
	Private *rwset.TxPvtReadWriteSet
}

type HistoryExecutor struct{}

func (h *HistoryExecutor) GetHistoryForKey(ns, key string) (HistoryIterator, error) {
	return nil, errNotReady
}
func (h *HistoryExecutor) Done() {}
