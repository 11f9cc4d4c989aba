package ledger

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"

	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/ledger/blockfile"
	"github.com/heddle-ledger/heddle/ledger/kv"
)

// PointAfterDrop is a crash point of Reset and Rollback, behind each database that
// is dropped.
const PointAfterDrop = "ledger/after-drop"

// Reset takes all channels of a peer that is down back to their genesis blocks
// (LEDGER §18.1). The databases built on the blocks are removed; the peer's next
// start builds them anew, while it gets the blocks again. The private data, the
// list of channels and what is not in Config.Dir stay. Of Config only Dir, FS,
// Log and Progress are looked at. Repeating a Reset that was interrupted is safe.
func Reset(cfg Config) (err error) {
	lock, err := offline(&cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	cfg.Log.Named("kvledger").Infof("Resetting all channels in %s to their genesis blocks", cfg.Dir)
	if err := dropDatabases(&cfg); err != nil {
		return err
	}
	return blockfile.Reset(blockConfig(&cfg))
}

// offline makes sure that no peer uses the directory until the lock is closed.
func offline(cfg *Config) (lock *kv.Database, err error) {
	cfg.fill()
	return Lock(cfg.Dir, cfg.FS)
}

// dropped are the databases that a replay of the blocks rebuilds. The state must
// be gone before the others, which are rebuilt only by the way when state is
// (LEDGER §17.5).
func dropped() []string { return []string{dirState, dirConfHistory, dirBookkeeper, dirHistory} }

// finishDrops removes what is left of databases whose dropping was interrupted,
// whether or not the command is repeated. That it can not be removed is no reason
// not to start: nobody looks at it.
func finishDrops(cfg *Config) {
	for _, name := range append(dropped(), dirIndex) {
		if err := vfs.FinishDrop(cfg.FS, path.Join(cfg.Dir, name)); err != nil {
			cfg.Log.Named("kvledger").Warningf("Database [%s]: %s", name, err)
		}
	}
}

// dropDatabases drops them, of all channels.
func dropDatabases(cfg *Config) error {
	for _, name := range dropped() {
		cfg.Log.Named("kvledger").Infof("Dropping database [%s]", name)
		if err := vfs.DropDir(cfg.FS, path.Join(cfg.Dir, name)); err != nil {
			return err
		}
		if err := cfg.Points.Hit(PointAfterDrop); err != nil {
			return err
		}
	}
	return nil
}

func blockConfig(cfg *Config) blockfile.Config {
	return blockfile.Config{
		Dir: path.Join(cfg.Dir, dirChains), FS: cfg.FS, Log: cfg.Log.Named("fsblkstorage"), Points: cfg.Points, Progress: cfg.Progress,
	}
}

// PreResetHeights returns the heights that channels had before a reset or
// rollback and may not have reached again, by channel (LEDGER §18.3).
func (p *Provider) PreResetHeights() (map[string]uint64, error) {
	dir := path.Join(p.cfg.Dir, dirChains)
	p.cfg.Log.Named("kvledger").Infof("Loading prereset height from path [%s]", dir)
	heights, err := blockfile.PreResetHeights(p.cfg.FS, dir)
	if err != nil {
		return nil, fmt.Errorf("load pre-reset heights: %w", err)
	}
	return heights, nil
}

// ClearPreResetHeights removes the records of channels that have reached their
// heights.
func (p *Provider) ClearPreResetHeights(heights map[string]uint64) error {
	var errs []error
	for _, id := range slices.Sorted(maps.Keys(heights)) {
		errs = append(errs, blockfile.ClearPreResetHeight(p.cfg.FS, path.Join(p.cfg.Dir, dirChains), id))
	}
	return errors.Join(errs...)
}
