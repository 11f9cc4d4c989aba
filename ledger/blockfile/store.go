package blockfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"sync"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"

	"github.com/heddle-ledger/heddle/internal/failpoint"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/metrics"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/ledger/kv"
)

// Crash points of Append, in the order in which they are passed.
const (
	PointBeforeRoll   = "blockfile/before-roll"
	PointAfterCreate  = "blockfile/after-create-file"
	PointAfterRoll    = "blockfile/after-roll"
	PointBeforeAppend = "blockfile/before-append"
	PointAfterWrite   = "blockfile/after-write"
	PointAfterSync    = "blockfile/after-sync"
	PointAfterIndex   = "blockfile/after-index"
)

// Bounds of the memory that a channel keeps from one block to the next: the
// bytes of a record and of a batch for the index, and the transactions for which
// there is room. It is made for larger blocks and given back.
const (
	maxKeptBuffer = 4 << 20
	maxKeptBatch  = 4 << 20
	maxKeptTxs    = 1 << 13
)

// tip is what is known about the end of a chain.
type tip struct {
	checkpoint
	hash, prevHash []byte // of the last block
}

// Store keeps the blocks of one channel.
type Store struct {
	id      string
	files   *files
	index   *kv.Store
	items   IndexItems
	maxSize int64
	// holdLast is Config.HoldLast.
	holdLast bool
	log      *flog.Logger
	points   *failpoint.Points

	progress Progress

	height     metrics.Gauge
	commitTime metrics.Histogram

	ids    *txIDs
	recent *rawCache

	// appendMu serialises Append; it guards the fields of this group.
	appendMu sync.Mutex
	w        vfs.File // the current file, open for appending
	buf      []byte
	spans    []span
	batch    *kv.Batch
	seen     map[string]struct{}
	firsts   []firstTx
	failed   error // set when file or index are in an unknown state; needs a reopen

	mu        sync.RWMutex // guards what follows; taken inside appendMu
	tip       tip
	held      *held         // the last block while it is not decided on
	published uint64        // height shown to iterators
	wake      chan struct{} // closed when published moves or the store closes; nil without waiters
	closed    bool
}

func openStore(ctx context.Context, p *Provider, id string) (*Store, error) {
	cfg := p.cfg
	chains := path.Join(cfg.Dir, "chains")
	dir := path.Join(chains, id)
	if err := cfg.FS.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("create block directory: %w", err)
	}
	if err := cfg.FS.SyncDir(chains); err != nil {
		return nil, fmt.Errorf("sync block directory: %w", err)
	}
	s := &Store{
		id: id, files: newFiles(cfg.FS, dir), index: p.index.Store(id), items: cfg.Index,
		maxSize: cfg.MaxFileSize, holdLast: cfg.HoldLast, log: cfg.Log, points: cfg.Points, progress: cfg.Progress,
		height:     p.metrics.height.With("channel", id),
		commitTime: p.metrics.commitTime.With("channel", id),
		ids:        newTxIDs(), recent: p.recent,
		seen: map[string]struct{}{},
	}
	s.batch = s.index.NewBatch()
	if err := s.ids.begin(s.index); err != nil {
		return nil, fmt.Errorf("read block index: %w", err)
	}
	if err := s.recover(ctx); err != nil {
		s.files.close()
		return nil, err
	}
	w, err := s.files.appender(s.tip.file)
	if err != nil {
		s.files.close()
		return nil, fmt.Errorf("open block file: %w", err)
	}
	s.w = w
	s.published = s.tip.checkpoint.height()
	s.height.Set(float64(s.published))
	s.ids.collect(s.index, p.collecting, s.log)
	return s, nil
}

// ID is the channel's id.
func (s *Store) ID() string { return s.id }

func (s *Store) currentTip() tip {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.tip
}

// Height is the number of blocks.
func (s *Store) Height() uint64 { return s.currentTip().checkpoint.height() }

// Info describes the end of the chain (LEDGER §3.10).
func (s *Store) Info() *common.BlockchainInfo {
	t := s.currentTip()
	return &common.BlockchainInfo{
		Height:            t.checkpoint.height(),
		CurrentBlockHash:  t.hash,
		PreviousBlockHash: t.prevHash,
	}
}

// Append adds the next block durably and shows it to iterators.
func (s *Store) Append(b *protoutil.Block) error {
	if err := s.Write(b); err != nil {
		return err
	}
	s.Publish()
	return nil
}

// Write adds the next block durably without waking iterators: the peer
// publishes a block only when its state is committed too (LEDGER §3.10). The
// steps are: a new file if this one is full; one write and one sync of the
// record; index entries and checkpoint in one unsynced batch. The block must
// not be changed any more.
func (s *Store) Write(b *protoutil.Block) error {
	start := time.Now()
	s.appendMu.Lock()
	defer s.appendMu.Unlock()
	if s.failed != nil {
		return fmt.Errorf("block store of channel [%s] failed earlier: %w", s.id, s.failed)
	}
	if s.Held() != nil {
		return errHeld
	}
	t := s.currentTip()
	if err := checkNext(t, b.Proto().GetHeader()); err != nil {
		return err
	}
	s.buf, s.spans = appendRecord(s.buf[:0], s.spans[:0], b.Proto())
	if t.size+int64(len(s.buf)) > s.maxSize {
		var err error
		if t.checkpoint, err = s.roll(t.checkpoint); err != nil {
			s.failed = err
			return fmt.Errorf("begin a new block file: %w", err)
		}
	}
	next, err := s.writeRecord(t, b)
	if err != nil {
		return err
	}
	s.shrink()
	s.mu.Lock()
	s.tip = next
	s.mu.Unlock()
	s.height.Set(float64(next.checkpoint.height()))
	s.commitTime.Observe(time.Since(start).Seconds())
	return nil
}

// shrink gives back the scratch memory that an unusually large block has taken.
// A map keeps what it has had, and is slow to clear then.
func (s *Store) shrink() {
	if cap(s.buf) > maxKeptBuffer {
		s.buf = nil
	}
	if s.batch.Size() > maxKeptBatch {
		s.batch = s.index.NewBatch()
	}
	if max(cap(s.spans), cap(s.firsts), len(s.seen)) > maxKeptTxs {
		s.spans, s.firsts, s.seen = nil, nil, map[string]struct{}{}
	}
}

// Failed tells why the store takes no more blocks until it is opened again, nil if
// it does. The block that was to be written then may be in the file or not.
func (s *Store) Failed() error {
	s.appendMu.Lock()
	defer s.appendMu.Unlock()
	return s.failed
}

// checkNext makes the checks of LEDGER §3.4 with the reference's texts.
func checkNext(t tip, h *common.BlockHeader) error {
	if want := t.checkpoint.height(); h.GetNumber() != want {
		return fmt.Errorf("block number should have been %d but was %d", want, h.GetNumber())
	}
	if !bytes.Equal(t.hash, h.GetPreviousHash()) {
		return fmt.Errorf("unexpected Previous block hash. Expected PreviousHash = [%x], PreviousHash referred in the latest block= [%x]",
			t.hash, h.GetPreviousHash())
	}
	return nil
}

// roll moves to the next file. The checkpoint must be durable before the file's
// first block, because the reference's repair looks at the recorded file only
// (LEDGER §3.1).
func (s *Store) roll(c checkpoint) (checkpoint, error) {
	if err := s.points.Hit(PointBeforeRoll); err != nil {
		return c, err
	}
	c.file++
	c.size = 0
	w, err := s.files.appender(c.file)
	if err != nil {
		return c, err
	}
	s.w.Close() // everything in it was synced
	s.w = w
	if err := s.points.Hit(PointAfterCreate); err != nil {
		return c, err
	}
	if err := s.index.Put([]byte(keyCheckpoint), c.bytes(), true); err != nil {
		return c, err
	}
	s.mu.Lock()
	s.tip.checkpoint = c
	s.mu.Unlock()
	return c, s.points.Hit(PointAfterRoll)
}

// writeRecord writes and syncs s.buf at the end of the current file and then
// indexes it. While the disk is busy the index batch is prepared.
func (s *Store) writeRecord(t tip, b *protoutil.Block) (tip, error) {
	if err := s.points.Hit(PointBeforeAppend); err != nil {
		s.failed = err
		return t, err
	}
	if _, err := s.w.Write(s.buf); err != nil {
		return t, s.undoWrite(t, err)
	}
	if err := s.points.Hit(PointAfterWrite); err != nil {
		s.failed = err
		return t, err
	}
	synced := make(chan error, 1)
	go func() { synced <- s.w.Sync() }()

	h := b.Proto().GetHeader()
	next := tip{hash: protoutil.BlockHash(h), prevHash: h.GetPreviousHash(), checkpoint: t.checkpoint}
	next.last, next.empty = h.GetNumber(), false
	next.size += int64(len(s.buf))
	s.batch.Reset()
	clear(s.seen)
	entry := indexedBlock{block: b, hash: next.hash, spans: s.spans, at: location{file: t.file, offset: t.size}}
	indexErr := s.addEntries(s.batch, s.seen, entry)
	s.batch.Put([]byte(keyCheckpoint), next.bytes())

	// A failed sync leaves it open what is on disk; only a reopen can tell.
	if s.failed = <-synced; s.failed != nil {
		return t, fmt.Errorf("sync block file: %w", s.failed)
	}
	if s.failed = s.points.Hit(PointAfterSync); s.failed != nil {
		return t, s.failed
	}
	if s.failed = indexErr; s.failed == nil {
		s.failed = s.index.Write(s.batch, false)
	}
	if s.failed != nil {
		return t, fmt.Errorf("index block [%d]: %w", next.last, s.failed)
	}
	if s.failed = s.points.Hit(PointAfterIndex); s.failed != nil {
		return t, s.failed
	}
	return next, nil
}

// undoWrite cuts off what a failed write left, so that the caller may try again
// when there is room on the disk.
func (s *Store) undoWrite(t tip, cause error) error {
	cause = fmt.Errorf("append to block file: %w", cause)
	if err := s.w.Truncate(t.size); err != nil {
		s.failed = errors.Join(cause, fmt.Errorf("cut off the partial record: %w", err))
		return s.failed
	}
	return cause
}

// Publish shows all written blocks to iterators.
func (s *Store) Publish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.published = s.tip.checkpoint.height()
	s.wakeWaiters()
}

// wakeWaiters needs s.mu.
func (s *Store) wakeWaiters() {
	if s.wake != nil {
		close(s.wake)
		s.wake = nil
	}
}

func (s *Store) close() error {
	s.ids.close()
	s.appendMu.Lock()
	defer s.appendMu.Unlock()
	s.mu.Lock()
	s.closed = true
	s.wakeWaiters()
	s.mu.Unlock()
	s.failed = ErrClosed
	s.recent.forget(s)
	s.files.close()
	return s.w.Close()
}
