package ledger

import (
	"context"

	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/internal/failpoint"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/metrics"
	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/ledger/state"
)

// Config says where a Provider keeps its ledgers and what it needs from above
// (LEDGER §20).
type Config struct {
	Dir string // the peer's ledgersData directory
	FS  vfs.FS // nil means the machine's file system

	// OpenState opens the world state; nil selects goleveldb in Dir.
	OpenState func() (state.Provider, error)
	// DropState drops the state of channels of a peer that is down, where it is
	// not in Dir; nil: it is (LEDGER §18.7).
	DropState func(ctx context.Context, channelIDs []string) error

	History             bool   // ledger.history.enableHistoryDatabase
	PurgeInterval       uint64 // ledger.pvtdataStore.purgeInterval; 0 means 100
	CollElgBatchSize    int    // ledger.pvtdataStore.collElgProcMaxDbBatchSize; 0 means 5000
	CollElgBatchesEvery int    // ledger.pvtdataStore.collElgProcDbBatchesInterval in ms; 0 means 1000

	// Membership tells whether this peer's organisation belongs to a
	// collection (LEDGER §8.7); nil means to none.
	Membership Membership
	// Artifacts finds the index definitions of installed chaincodes; nil finds
	// none.
	Artifacts Artifacts

	// Progress shows long work on blocks: indexing, replay, reset and rollback;
	// nil shows nothing.
	Progress Progress

	Log     *flog.Logger
	Metrics metrics.Provider
	Points  *failpoint.Points // crash points of tests

	// manual leaves the private store's background work to the test.
	manual bool
	// maxFileSize lets tests begin block files often; 0: as the reference.
	maxFileSize int64
	// maxLateBlocks lets tests write often in a replay; 0: as usual.
	maxLateBlocks int
}

// Membership tells whether this peer's organisation is a member of a collection
// with the given policy.
type Membership func(channelID string, policy *peer.CollectionPolicyConfig) (bool, error)

func (c *Config) fill() {
	if c.FS == nil {
		c.FS = vfs.OS()
	}
	if c.Log == nil {
		c.Log = flog.Nop()
	}
	if c.Metrics == nil {
		c.Metrics = metrics.Disabled()
	}
	if c.maxLateBlocks == 0 {
		c.maxLateBlocks = maxLateBlocks
	}
	if c.Membership == nil {
		c.Membership = func(string, *peer.CollectionPolicyConfig) (bool, error) { return false, nil }
	}
}
