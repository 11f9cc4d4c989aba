package ledger

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/ledger/kv"
)

// DropDatabases drops all that can be rebuilt from the block files, of all
// channels of a peer that is down: states, histories, bookkeeping and the block
// index (LEDGER §18.7). The next opening of a channel rebuilds its part. Block
// files, private data and the list of channels stay. Whatever the step at which
// it ends, the directory opens and a repetition completes the rest.
func DropDatabases(ctx context.Context, cfg Config) (err error) {
	lock, err := offline(&cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	log := cfg.Log.Named("kvledger")
	ids, err := channelsOf(&cfg)
	if err != nil {
		return err
	}
	log.Infof("Dropping the databases of channels %s in %s", ids, cfg.Dir)
	if len(ids) == 0 {
		log.Warningf("The list of channels in %s is empty. Is it the directory of the peer?", cfg.Dir)
	}
	if cfg.DropState != nil && len(ids) > 0 {
		if err := cfg.DropState(ctx, ids); err != nil {
			return fmt.Errorf("drop the states of the channels: %w", err)
		}
	}
	if err := dropDatabases(&cfg); err != nil {
		return err
	}
	// Last: without its index a channel opens all the same.
	log.Infof("Dropping database [%s]", dirIndex)
	if err := vfs.DropDir(cfg.FS, path.Join(cfg.Dir, dirIndex)); err != nil {
		return err
	}
	return cfg.Points.Hit(PointAfterDrop)
}

// channelsOf lists the channels of a directory that nobody has open, also one
// whose creation was cut short. A directory of a later version is refused: what
// would be dropped is not ours to rebuild.
func channelsOf(cfg *Config) (ids []string, err error) {
	db, err := kv.Open(kv.Config{Dir: path.Join(cfg.Dir, dirProvider), FS: cfg.FS, ReadOnly: true})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	list := db.Raw()
	if err := checkListFormat(db); err != nil {
		return nil, err
	}
	p := Provider{list: list}
	if ids, err = p.List(); err != nil {
		return nil, err
	}
	begun, err := list.Get([]byte(keyUnderConstruction))
	if err != nil {
		return nil, err
	}
	if begun != nil {
		ids = append(ids, string(begun))
	}
	return ids, nil
}

// RebuildDatabases is DropDatabases and then the rebuilding, channel by channel
// in the order of a peer's start. A channel that cannot be rebuilt does not keep
// the others from it. If it is interrupted, a repetition begins anew, while a
// start of the peer goes on where it ended.
//
// Besides failures it returns a *CommitHashError for each channel that is
// rebuilt, but not to the state that this peer had acknowledged.
func RebuildDatabases(ctx context.Context, cfg Config) (err error) {
	if err := DropDatabases(ctx, cfg); err != nil {
		return err
	}
	p, err := OpenProviderContext(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	ids, err := p.List()
	if err != nil {
		return err
	}
	var errs []error
	for _, id := range ids {
		l, err := p.OpenContext(ctx, id)
		switch {
		case err == nil:
			errs = append(errs, l.ReplayDifference())
		case ctx.Err() != nil, IsFatal(err):
			return errors.Join(append(errs, fmt.Errorf("channel [%s]: %w", id, err))...)
		default:
			errs = append(errs, fmt.Errorf("channel [%s]: %w", id, err))
		}
	}
	return errors.Join(errs...)
}
