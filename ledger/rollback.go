package ledger

import (
	"errors"

	"github.com/heddle-ledger/heddle/ledger/blockfile"
)

// Rollback takes one channel of a peer that is down back to a block (LEDGER
// §18.2). The databases built on the blocks are removed for all channels, since
// channels share them; the next start rebuilds them. As with Reset, only Dir, FS,
// Log and Progress of Config count. A Rollback that was interrupted can be repeated until
// it says that the target is the biggest block number.
func Rollback(cfg Config, id string, target uint64) (err error) {
	lock, err := offline(&cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	plan, err := blockfile.PlanRollback(blockConfig(&cfg), id, target)
	if err != nil {
		return err
	}
	cfg.Log.Named("kvledger").Infof("Rolling back channel [%s] to block [%d]", id, target)
	if err := dropDatabases(&cfg); err != nil {
		return err
	}
	return plan.Run()
}
