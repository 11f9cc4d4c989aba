package node

import (
	"context"
	"path/filepath"

	"github.com/heddle-ledger/heddle/internal/config"
	"github.com/heddle-ledger/heddle/internal/metrics"
	"github.com/heddle-ledger/heddle/ledger"
	"github.com/heddle-ledger/heddle/ledger/state"
)

// OfflineLedgers is what commands on a peer that is down need to know of its
// ledgers. With it, ledgers come out of a rebuilding as they do out of a start of
// the peer. The end of ctx ends the waiting for a state database that is not up
// yet.
func OfflineLedgers(ctx context.Context, cfg Config) ledger.Config {
	n := &Node{cfg: cfg, log: cfg.Logging.Logger("nodeCmd"), parts: &parts{}}
	out := n.ledgerConfig()
	log := cfg.Logging.Root()
	out.DropState = DropState(cfg.Core, log)
	if cfg.Core.Ledger.StateDatabase != config.CouchDBState {
		return out
	}
	out.OpenState = func() (state.Provider, error) {
		if err := n.openPackages(); err != nil { // for the indexes of chaincodes
			return nil, err
		}
		p, err := openCouchDB(ctx, &cfg.Core.Ledger, log, metrics.Disabled())
		if err != nil {
			return nil, err
		}
		return p, nil
	}
	return out
}

// ledgerConfig is what does not depend on whether the peer runs.
func (n *Node) ledgerConfig() ledger.Config {
	c := n.cfg.Core
	l := c.Ledger
	return ledger.Config{
		Dir:     filepath.Join(c.Peer.FileSystemPath, "ledgersData"),
		History: l.HistoryEnabled, PurgeInterval: l.PurgeInterval,
		CollElgBatchSize: l.EligibilityBatchSize, CollElgBatchesEvery: l.EligibilityBatchesPeriod,
		Membership: n.isMember, Artifacts: n.artifacts,
		Log: n.cfg.Logging.Root(),
	}
}
