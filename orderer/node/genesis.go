package node

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/heddle-ledger/heddle/internal/run"
	"github.com/heddle-ledger/heddle/orderer/bootstrap"
)

// loadGenesis gets the bootstrap block. Unlike the reference, an orderer that
// has channels does not need the file any more: the block is in its store.
func (n *Node) loadGenesis() error {
	g := n.cfg.Orderer.General
	block, err := bootstrap.Block(bootstrap.Config{
		Method: g.GenesisMethod, File: g.GenesisFile, Profile: g.GenesisProfile, Channel: g.SystemChannel,
		Getenv: n.cfg.Getenv, Log: n.cfg.Logging.Root(),
	})
	if g.GenesisMethod == bootstrap.File && errors.Is(err, fs.ErrNotExist) && hasChains(n.cfg.Orderer.FileLedger.Location) {
		n.parts.noGenesis = err
		return nil
	}
	if err != nil {
		return run.Failed(run.Panic, "%w", err)
	}
	if err := bootstrap.Validate(block); err != nil {
		return run.Failed(run.Panic, "Failed validating bootstrap block: %w", err)
	}
	n.parts.genesis = block
	return nil
}

// hasChains tells whether a store of block files holds anything.
func hasChains(dir string) bool {
	entries, err := os.ReadDir(filepath.Join(dir, "chains"))
	return err == nil && len(entries) != 0
}

// genesisOfStore takes the bootstrap block from the system channel in the store.
func (n *Node) genesisOfStore(ids []string) error {
	for _, id := range ids {
		chain, err := n.parts.store.Chain(id)
		if err != nil {
			return run.Failed(run.Panic, "%w", err)
		}
		block, err := chain.Block(0)
		if err == nil && bootstrap.Validate(block) == nil {
			n.log.Infof("The genesis file is missing (%s): taking the genesis block of the system channel %s in the store", n.parts.noGenesis, id)
			n.parts.genesis = block
			return nil
		}
	}
	return run.Failed(run.Panic, "%w", n.parts.noGenesis)
}
