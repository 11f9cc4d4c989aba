package ledger

import (
	"errors"
	"fmt"
	"path"

	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"

	"github.com/heddle-ledger/heddle/ledger/blockfile"
	"github.com/heddle-ledger/heddle/ledger/kv"
)

func isNotFound(err error) bool { return errors.Is(err, blockfile.ErrNotFound) }

// sideStores are the databases beside block files and state. History, config
// history and bookkeeper are small enough to live in this package; the private
// data store is package pvtstore.
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

// privateStore is what the ledger needs of one channel's private data store
// (LEDGER §8); pvtstore.Store is to have these methods, or ones like them.
type privateStore interface {
	// NextBlock is the first block that the store does not cover. A prepared
	// batch is completed when the store is opened, so it counts (LEDGER §17.2).
	NextBlock() uint64
	// Prepare writes everything about block NextBlock and the marker in one
	// batch; with sync it is durable on return. Commit, never synced, removes
	// the marker and moves NextBlock.
	Prepare(block uint64, sets map[uint64]*rwset.TxPvtReadWriteSet, missing map[uint64][]MissingCollection, sync bool) error
	Commit() error
	// Skip moves NextBlock without any data: for stores older than the chain.
	Skip(next uint64) error
	// Read returns the sets of a block that have not expired.
	Read(block uint64, filter CollectionFilter) (map[uint64]*rwset.TxPvtReadWriteSet, error)
	// Missing lists eligible missing data of the most recent blocks.
	Missing(blocks int) (map[uint64]map[uint64][]MissingCollection, error)
	// BecameEligible records the event of LEDGER §8.7, durably.
	BecameEligible(block uint64, colls map[string][]string) error
	// CommitOld is the private store's part of LEDGER §16; OldBlocks are those
	// whose data may not be in the state yet, OldApplied forgets them.
	CommitOld(data map[uint64]map[uint64]*rwset.TxPvtReadWriteSet) error
	OldBlocks() ([]uint64, error)
	OldApplied() error
}

// MissingCollection is a private write set that the caller could not get.
type MissingCollection struct {
	Namespace, Collection string
	Eligible              bool
}

// CollectionFilter names the collections wanted of each namespace; nil means
// all of them.
type CollectionFilter map[string]map[string]bool

// noPrivate stands in for the private store.
type noPrivate struct{ next uint64 }

func (s *noPrivate) NextBlock() uint64 { return s.next }
func (s *noPrivate) Prepare(uint64, map[uint64]*rwset.TxPvtReadWriteSet, map[uint64][]MissingCollection, bool) error {
	return nil
}
func (s *noPrivate) Commit() error       { s.next++; return nil }
func (s *noPrivate) Skip(n uint64) error { s.next = n; return nil }
func (s *noPrivate) Read(uint64, CollectionFilter) (map[uint64]*rwset.TxPvtReadWriteSet, error) {
	return nil, nil
}
func (s *noPrivate) Missing(int) (map[uint64]map[uint64][]MissingCollection, error) { return nil, nil }
func (s *noPrivate) BecameEligible(uint64, map[string][]string) error               { return nil }
func (s *noPrivate) CommitOld(map[uint64]map[uint64]*rwset.TxPvtReadWriteSet) error { return nil }
func (s *noPrivate) OldBlocks() ([]uint64, error)                                   { return nil, nil }
func (s *noPrivate) OldApplied() error                                              { return nil }
