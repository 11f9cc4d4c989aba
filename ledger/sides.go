package ledger

import (
	"errors"
	"fmt"
	"path"

	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"

	"github.com/heddle-ledger/heddle/ledger/blockfile"
	"github.com/heddle-ledger/heddle/ledger/kv"
	"github.com/heddle-ledger/heddle/ledger/mvcc"
)

func isNotFound(err error) bool { return errors.Is(err, blockfile.ErrNotFound) }

// sideStores are the databases beside block files and state.
type sideStores struct {
	bookkeeper, conf, history *kv.Database
}

func openSideStores(cfg *Config) (_ *sideStores, err error) {
	s := &sideStores{}
	for name, db := range map[string]**kv.Database{dirBookkeeper: &s.bookkeeper, dirConfHistory: &s.conf, dirHistory: &s.history} {
		if *db, err = kv.Open(kv.Config{Dir: path.Join(cfg.Dir, name), FS: cfg.FS}); err != nil {
			return s, fmt.Errorf("open %s: %w", name, err)
		}
	}
	return s, nil
}

func (s *sideStores) close() error {
	var errs []error
	for _, db := range []*kv.Database{s.bookkeeper, s.conf, s.history} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

type side struct{}

func (s *side) becameEligible(block uint64, colls map[string][]string) error { return nil }

func (s *side) storeOld(data map[uint64]mvcc.PrivateSets) error { return nil }
func (s *side) oldApplied() error                               { return nil }

func (c *commit) beginPrivate() error   { return nil }
func (c *commit) awaitMarker() error    { return nil }
func (c *commit) preparePrivate() error { return nil }
func (c *commit) commitPrivate() error  { return nil }

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

// CollectionFilter names the collections wanted of each namespace; nil means
// all of them.
type CollectionFilter map[string]map[string]bool

// PrivateDataExists tells whether the private store covers a block already, so
// that the caller must not collect (LEDGER §15.1).
func (l *Ledger) PrivateDataExists(n uint64) bool { return false }

func (l *Ledger) PrivateDataOf(block uint64, filter CollectionFilter) (map[uint64]*rwset.TxPvtReadWriteSet, error) {
	return nil, nil
}
func (l *Ledger) MissingPrivateData(blocks int) (map[uint64]map[uint64][]MissingCollection, error) {
	return nil, nil
}
