package ledger

import (
	"context"
	"errors"
	"fmt"
	"path"
	"time"

	"github.com/heddle-ledger/heddle/ledger/blockfile"
	"github.com/heddle-ledger/heddle/ledger/history"
	"github.com/heddle-ledger/heddle/ledger/kv"
	"github.com/heddle-ledger/heddle/ledger/pvtstore"
)

func isNotFound(err error) bool { return errors.Is(err, blockfile.ErrNotFound) }

// sideStores are the databases beside block files and state, each shared by all
// channels.
type sideStores struct {
	bookkeeper, conf, history *kv.Database
	private                   *pvtstore.Provider

	stop func()        // ends the private store's background work
	done chan struct{} // closed when it has ended
}

func openSideStores(cfg *Config) (*sideStores, error) {
	s := &sideStores{}
	var err error
	for _, d := range []struct {
		name string
		db   **kv.Database
		open func(kv.Config) (*kv.Database, error)
	}{{dirBookkeeper, &s.bookkeeper, kv.Open}, {dirConfHistory, &s.conf, kv.Open}, {dirHistory, &s.history, history.OpenDatabase}} {
		if *d.db, err = d.open(kv.Config{Dir: path.Join(cfg.Dir, d.name), FS: cfg.FS, Points: cfg.Points}); err != nil {
			return s, fmt.Errorf("open %s: %w", d.name, err)
		}
	}
	s.private, err = pvtstore.OpenProvider(pvtstore.Config{
		Dir: path.Join(cfg.Dir, dirPrivate), FS: cfg.FS,
		PurgeInterval: cfg.PurgeInterval, MoveBatch: cfg.CollElgBatchSize,
		MovePause: time.Duration(cfg.CollElgBatchesEvery) * time.Millisecond,
		Log:       cfg.Log.Named("pvtdatastorage"), Points: cfg.Points,
	})
	if err != nil {
		return s, err
	}
	if cfg.manual {
		return s, nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.stop, s.done = cancel, make(chan struct{})
	go func() {
		defer close(s.done)
		if err := s.private.Run(ctx); err != nil {
			cfg.Log.Errorf("Background work of the private data store ended: %s", err)
		}
	}()
	return s, nil
}

func (s *sideStores) close() error {
	var errs []error
	if s.stop != nil {
		s.stop()
		<-s.done
	}
	if s.private != nil {
		errs = append(errs, s.private.Close())
	}
	for _, db := range []*kv.Database{s.bookkeeper, s.conf, s.history} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}
