package ledger

import (
	"errors"
	"fmt"
	"path"

	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/ledger/blockfile"
	"github.com/heddle-ledger/heddle/ledger/kv"
	"github.com/heddle-ledger/heddle/ledger/mvcc"
)

func isNotFound(err error) bool { return errors.Is(err, blockfile.ErrNotFound) }

type sideStores struct {
	bookkeeper *kv.Database
}

func openSideStores(cfg *Config) (*sideStores, error) {
	db, err := kv.Open(kv.Config{Dir: path.Join(cfg.Dir, "bookkeeper"), FS: cfg.FS})
	if err != nil {
		return nil, fmt.Errorf("open bookkeeper: %w", err)
	}
	return &sideStores{bookkeeper: db}, nil
}
func (s *sideStores) close() error { return s.bookkeeper.Close() }

type side struct{ history *int }

type heightIterator interface {
	Next() (block, tx uint64, ok bool, err error)
	Close()
}

func (s *side) heightsOf(ns, key string) heightIterator { return nil }

func (s *side) storeOld(data map[uint64]mvcc.PrivateSets) error { return nil }
func (s *side) oldApplied() error                               { return nil }

func (c *commit) beginPrivate() error   { return nil }
func (c *commit) awaitMarker() error    { return nil }
func (c *commit) preparePrivate() error { return nil }
func (c *commit) commitPrivate() error  { return nil }
func (c *commit) listen() error         { return nil }
func (c *commit) writeHistory() error   { return nil }

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
func (l *Ledger) CollectionConfigBelow(block uint64, chaincode string) (*peer.CollectionConfigPackage, uint64, error) {
	return nil, 0, nil
}
func (l *Ledger) CollectionConfigAt(block uint64, chaincode string) (*peer.CollectionConfigPackage, error) {
	return nil, nil
}
