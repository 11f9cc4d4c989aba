package pvtstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"

	"github.com/heddle-ledger/heddle/internal/failpoint"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/ledger/kv"
)

// Crash points.
const (
	PointAfterPrepare = "pvtstore/after-prepare"
	PointAfterCover   = "pvtstore/after-cover"
	PointAfterCommit  = "pvtstore/after-commit"
	PointAfterOld     = "pvtstore/after-old"
	PointAfterPurge   = "pvtstore/after-purge"
	PointAfterMove    = "pvtstore/after-move"
)

// MissingCollection is a collection of which a transaction's private data are
// not here; Eligible tells whether this peer may have them.
type MissingCollection struct {
	Namespace, Collection string
	Eligible              bool
}

// CollectionFilter names the collections wanted of each namespace; nil means all
// of them.
type CollectionFilter map[string]map[string]bool

func (f CollectionFilter) has(c collection) bool { return f == nil || f[c.ns][c.name] }

// Sets are private write sets by transaction number.
type Sets = map[uint64]*rwset.TxPvtReadWriteSet

// BlockToLive tells after how many blocks a collection's data expire, 0 meaning
// never. For a collection that is not deployed it returns an
// *UnknownCollectionError.
type BlockToLive func(ns, coll string) (uint64, error)

// UnknownCollectionError says that a collection is not deployed.
type UnknownCollectionError struct{ Namespace, Collection string }

func (e *UnknownCollectionError) Error() string {
	return fmt.Sprintf("collection /%s/%s could not be found", e.Namespace, e.Collection)
}

// Errors that callers branch on; texts are the reference's where it has one.
var (
	ErrEmpty   = errors.New("The store is empty") //nolint:staticcheck // the reference's text
	ErrPending = errors.New("a pending batch exists as result of the last call of Prepare; commit or abandon it first")
	ErrNothing = errors.New("no pending batch to commit")
	errGone    = errors.New("the store is not used any more")
	ErrOldData = errors.New("reconciled data of an earlier call are not in the state yet")
)

// Config describes the private data of a peer.
type Config struct {
	Dir string
	FS  vfs.FS // nil: the machine's
	// PurgeInterval is ledger.pvtdataStore.purgeInterval in blocks, 0 = 100.
	PurgeInterval uint64
	// MoveBatch and MovePause are ledger.pvtdataStore.collElgProcMaxDbBatchSize
	// and …collElgProcDbBatchesInterval; 0 = 5000 and 1 s.
	MoveBatch int
	MovePause time.Duration
	Log       *flog.Logger
	Points    *failpoint.Points
}

func (c *Config) fill() {
	if c.PurgeInterval == 0 {
		c.PurgeInterval = 100
	}
	if c.MoveBatch <= 0 {
		c.MoveBatch = 5000
	}
	if c.MovePause <= 0 {
		c.MovePause = time.Second
	}
	if c.Log == nil {
		c.Log = flog.Nop()
	}
}

// Provider opens the stores of channels.
type Provider struct {
	cfg Config
	db  *kv.Database

	mu     sync.Mutex // guards stores
	stores []*Store
	due    chan struct{} // holds one token while a store has background work
}

// OpenProvider opens the database.
func OpenProvider(cfg Config) (*Provider, error) {
	cfg.fill()
	db, err := kv.Open(kv.Config{Dir: cfg.Dir, FS: cfg.FS, Log: cfg.Log, Points: cfg.Points})
	if err != nil {
		return nil, fmt.Errorf("open private data store: %w", err)
	}
	return &Provider{cfg: cfg, db: db, due: make(chan struct{}, 1)}, nil
}

// Close closes the database. Run must have ended.
func (p *Provider) Close() error { return p.db.Close() }

// Store is the private data of one channel.
type Store struct {
	id  string
	p   *Provider
	db  *kv.Store
	btl BlockToLive

	// order serialises what moves next on disk: Prepare, Commit, Abandon, Skip,
	// Cover. It is taken before mu, which is not held while the disk works.
	order sync.Mutex
	undo  [][]byte // the keys of the prepared batch; guarded by order

	mu      sync.RWMutex // guards what follows
	next    uint64       // the first block not covered
	height  uint64       // committed blocks; those from here to next have no data
	pending bool         // a batch is prepared

	// entries serialises those who change missing and expiry entries: purge,
	// move, reconciliation. It guards gone.
	entries sync.Mutex
	gone    bool // the provider has forgotten the store
	// work says what the background has to do; guarded by mu.
	work struct{ purge, move bool }
}

// Open opens a channel's store. A batch that was prepared is completed, whether
// or not the block came to be in the block file (LEDGER §17.2).
func (p *Provider) Open(channel string, btl BlockToLive) (*Store, error) {
	s := &Store{id: channel, p: p, db: p.db.Store(channel), btl: btl}
	raw, err := s.db.Get([]byte{prefixLast})
	if err != nil {
		return nil, err
	}
	if raw != nil {
		v, n := binary.Uvarint(raw)
		if n <= 0 {
			return nil, s.db.EntryError([]byte{prefixLast}, fmt.Errorf("last committed block: %w", errMalformed))
		}
		s.next = v + 1
		s.height = s.next
	}
	if s.pending, err = s.db.Has([]byte{prefixPending}); err != nil {
		return nil, err
	}
	if s.pending {
		p.cfg.Log.Infof("Channel [%s]: completing the private data of block [%d]", channel, s.next)
		if err := s.finish(true); err != nil {
			return nil, err
		}
	}
	s.work.purge = s.height > 0
	s.work.move = true
	p.mu.Lock()
	p.stores = append(p.stores, s)
	p.mu.Unlock()
	p.signal()
	return s, nil
}

// Forget ends the background work on a store that nobody uses any more: the
// channel may be opened again, and each of its entries must be changed by one
// store only.
func (p *Provider) Forget(s *Store) {
	p.mu.Lock()
	p.stores = slices.DeleteFunc(p.stores, func(other *Store) bool { return other == s })
	p.mu.Unlock()
	s.entries.Lock() // what is under way has ended then
	defer s.entries.Unlock()
	s.gone = true
}

// NextBlock is the first block that the store does not cover.
func (s *Store) NextBlock() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.next
}

// Height is the number of blocks that are committed, as far as the store knows.
// It is behind NextBlock while covered blocks are on their way.
func (s *Store) Height() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.height
}

// Skip moves NextBlock without any data: for a store younger than the chain
// (LEDGER §17.2). It must be empty.
func (s *Store) Skip(next uint64) error {
	s.order.Lock()
	defer s.order.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next > 0 || s.pending {
		return errors.New("the private data store is not empty")
	}
	if next == 0 {
		return nil
	}
	if err := s.writeLast(next-1, true); err != nil {
		return err
	}
	s.next, s.height = next, next
	return nil
}

func (s *Store) writeLast(block uint64, sync bool) error {
	return s.db.Put([]byte{prefixLast}, binary.AppendUvarint(nil, block), sync)
}

// Cover makes the store cover the blocks up to this one, durably and before any
// of them is in the block file. The caller knows the blocks and that none of
// them carries private data; Settle tells when one is committed. Many blocks
// cost one sync of the disk.
func (s *Store) Cover(block uint64) error {
	s.order.Lock()
	defer s.order.Unlock()
	s.mu.RLock()
	pending, next := s.pending, s.next
	s.mu.RUnlock()
	if pending {
		return ErrPending
	}
	if block < next {
		return nil
	}
	if err := s.writeLast(block, true); err != nil {
		return fmt.Errorf("cover block [%d]: %w", block, err)
	}
	if err := s.p.cfg.Points.Hit(PointAfterCover); err != nil {
		return err
	}
	s.mu.Lock()
	s.next = block + 1
	s.mu.Unlock()
	return nil
}

// Settle tells that a covered block is committed.
func (s *Store) Settle(block uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if block >= s.height && block < s.next {
		s.committed(block)
	}
}

// committed needs s.mu.
func (s *Store) committed(block uint64) {
	s.height = block + 1
	if block%s.p.cfg.PurgeInterval == 0 {
		s.work.purge = true
	}
	if s.work.purge || s.work.move {
		s.p.signal()
	}
}

// Prepare writes everything about the next block, and the marker that says so,
// in one batch; with sync it is durable on return, which it must be before the
// block is in the block file (LEDGER §15.3 a). The data are those of all
// transactions for which they were given, valid or not. It is ErrPending if a batch
// is prepared already, and an error with the reference's text if the block is not
// NextBlock (LEDGER §8.2).
func (s *Store) Prepare(block uint64, sets Sets, missing map[uint64][]MissingCollection, sync bool) error {
	s.order.Lock()
	defer s.order.Unlock()
	s.mu.RLock()
	pending, next := s.pending, s.next
	s.mu.RUnlock()
	if pending {
		return ErrPending
	}
	if block != next {
		return fmt.Errorf("Expected block number=%d, received block number=%d", next, block) //nolint:staticcheck // the reference's text
	}
	e := newEntries(block, s.btl)
	if err := e.add(sets, missing); err != nil {
		return err
	}
	b := s.db.NewBatch()
	s.undo = e.write(b)
	b.Put([]byte{prefixPending}, nil)
	if err := s.db.Write(b, sync); err != nil {
		s.undo = nil
		return fmt.Errorf("prepare private data of block [%d]: %w", block, err)
	}
	s.mu.Lock()
	s.pending = true
	s.mu.Unlock()
	return s.p.cfg.Points.Hit(PointAfterPrepare)
}

// Commit removes the marker and moves NextBlock. It is not synced: it is in the
// same journal as Prepare, and the marker says how to redo it. Without a prepared
// batch it is ErrNothing.
func (s *Store) Commit() error {
	s.order.Lock()
	defer s.order.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.pending {
		return ErrNothing
	}
	if err := s.finish(false); err != nil {
		return err
	}
	s.committed(s.height - 1)
	return s.p.cfg.Points.Hit(PointAfterCommit)
}

// finish needs s.order and s.mu, or a store nobody knows yet.
func (s *Store) finish(sync bool) error {
	b := s.db.NewBatch()
	b.Delete([]byte{prefixPending})
	b.Put([]byte{prefixLast}, binary.AppendUvarint(nil, s.next))
	if err := s.db.Write(b, sync); err != nil {
		return fmt.Errorf("commit private data of block [%d]: %w", s.next, err)
	}
	s.next++
	s.height, s.pending, s.undo = s.next, false, nil
	return nil
}

// Abandon takes back what Prepare wrote, for a block that is not to be committed
// after all.
func (s *Store) Abandon() error {
	s.order.Lock()
	defer s.order.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.pending {
		return nil
	}
	b := s.db.NewBatch()
	for _, key := range s.undo {
		b.Delete(key)
	}
	b.Delete([]byte{prefixPending})
	if err := s.db.Write(b, true); err != nil {
		return fmt.Errorf("abandon private data: %w", err)
	}
	s.pending, s.undo = false, nil
	return nil
}

// last is the last committed block, ok is false if there is none.
func (s *Store) last() (block uint64, ok bool) {
	h := s.Height()
	return h - 1, h > 0
}
