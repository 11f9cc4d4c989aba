package blockfile

import (
	"context"
	"errors"
	"fmt"
	"path"
	"sync"

	"github.com/heddle-ledger/heddle/internal/failpoint"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/metrics"
	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/ledger/kv"
)

// IndexItems says which look-ups the index serves.
type IndexItems int

const (
	// IndexAll is the peer's index.
	IndexAll IndexItems = iota
	// IndexNumber is the orderer's: blocks by number only (LEDGER §3.9).
	IndexNumber
)

// DefaultMaxFileSize is the size at which a new block file is begun (LEDGER
// §3.1). The reference knows no other.
const DefaultMaxFileSize = 64 << 20

// Config describes a directory of block stores.
type Config struct {
	// Dir holds chains/<channel>/ and index/. It is ledgersData/chains on a peer
	// and FileLedger.Location on an orderer.
	Dir         string
	FS          vfs.FS // nil: the machine's
	Index       IndexItems
	MaxFileSize int64 // 0: DefaultMaxFileSize
	Log         *flog.Logger
	Metrics     metrics.Provider
	Points      *failpoint.Points // crash points of tests
	// HoldLast lets a last block that the index does not know wait until its owner
	// has looked at it; see Store.Held.
	HoldLast bool
	// Progress shows the rebuilding of an index; nil shows nothing.
	Progress Progress
}

// Provider opens the stores of one directory.
type Provider struct {
	cfg     Config
	index   *kv.Database
	metrics *storeMetrics
	recent  *rawCache
	// collecting has an element while a store reads the transaction ids of its
	// index: one at a time, however many channels there are.
	collecting chan struct{}

	mu     sync.Mutex // guards stores and closed
	stores map[string]*Store
	closed bool
}

// Sizes of the index database. The write buffer is well above the entries of
// the largest usual block, so that a batch is never split. As most keys are
// random, what counts is how seldom they are merged: many fresh tables come
// together first. That look-ups suffer from it does not matter, because ids that
// are new are not looked up (txIDs).
const (
	indexWriteBuffer = 2 << 20
	indexFreshTables = 64
	indexSortedSize  = 256 << 20
	indexTableSize   = 8 << 20
	indexBlockCache  = 16 << 20
	indexBloomBits   = 10
)

// OpenProvider opens the directory, creating it if need be, and the index. No
// channel is opened yet.
func OpenProvider(cfg Config) (*Provider, error) {
	if cfg.FS == nil {
		cfg.FS = vfs.OS()
	}
	if cfg.MaxFileSize == 0 {
		cfg.MaxFileSize = DefaultMaxFileSize
	}
	if cfg.Log == nil {
		cfg.Log = flog.Nop()
	}
	if cfg.Metrics == nil {
		cfg.Metrics = metrics.Disabled()
	}
	if err := cfg.FS.MkdirAll(path.Join(cfg.Dir, "chains"), 0o755); err != nil {
		return nil, fmt.Errorf("create block store directory: %w", err)
	}
	index, err := kv.Open(kv.Config{
		Dir: path.Join(cfg.Dir, "index"), FS: cfg.FS,
		WriteBuffer: indexWriteBuffer, FreshTables: indexFreshTables,
		SortedSize: indexSortedSize, TableSize: indexTableSize, Incompressible: true,
		BlockCache: indexBlockCache, BloomBits: indexBloomBits, Log: cfg.Log, Points: cfg.Points,
	})
	if err != nil {
		return nil, fmt.Errorf("open block index: %w", err)
	}
	return &Provider{
		cfg: cfg, index: index, metrics: newStoreMetrics(cfg.Metrics), stores: map[string]*Store{},
		recent: newRawCache(), collecting: make(chan struct{}, 1),
	}, nil
}

// Open opens the store of a channel, creating it if need be, and repairs what a
// crash left behind (LEDGER §3.8). A channel that is open already is returned
// as it is. Committed blocks that are missing are a *DamageError.
func (p *Provider) Open(id string) (*Store, error) {
	return p.OpenContext(context.Background(), id)
}

// OpenContext is Open, whose work on a large index ends with its cause when ctx
// does; the next call goes on where it ended.
func (p *Provider) OpenContext(ctx context.Context, id string) (*Store, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, ErrClosed
	}
	if s := p.stores[id]; s != nil {
		return s, nil
	}
	if id == "" || id == "." || id == ".." || path.Base(id) != id {
		return nil, fmt.Errorf("channel id [%s] is no directory name", id)
	}
	s, err := openStore(ctx, p, id)
	if err != nil {
		return nil, err
	}
	p.stores[id] = s
	return s, nil
}

// CloseStore closes the store of a channel, which can be opened anew then. One
// that is not open is left alone.
func (p *Provider) CloseStore(id string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stores[id]
	if s == nil {
		return nil
	}
	delete(p.stores, id)
	return s.close()
}

// List returns the channels that have a directory, sorted.
func (p *Provider) List() ([]string, error) {
	entries, err := p.cfg.FS.ReadDir(path.Join(p.cfg.Dir, "chains"))
	if err != nil {
		return nil, fmt.Errorf("list channels: %w", err)
	}
	var out []string
	for _, e := range entries {
		if e.IsDir() {
			out = append(out, e.Name())
		}
	}
	return out, nil
}

// HasBlocks tells whether there is anything in the first block file of a channel,
// open or not.
func (p *Provider) HasBlocks(id string) bool {
	size, _, err := newFiles(p.cfg.FS, channelDir(p.cfg.Dir, id)).size(0)
	return err == nil && size > 0
}

// Close closes every store and the index. Iterators waiting for blocks end.
func (p *Provider) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	var errs []error
	for _, s := range p.stores {
		errs = append(errs, s.close())
	}
	return errors.Join(append(errs, p.index.Close())...)
}

type storeMetrics struct {
	height     metrics.Gauge
	commitTime metrics.Histogram
}

func newStoreMetrics(p metrics.Provider) *storeMetrics {
	return &storeMetrics{
		height: p.NewGauge(metrics.GaugeOpts{
			Namespace: "ledger", Name: "blockchain_height",
			Help:         "Height of the chain in blocks.",
			LabelNames:   []string{"channel"},
			StatsdFormat: "%{#fqname}.%{channel}",
		}),
		commitTime: p.NewHistogram(metrics.HistogramOpts{
			Namespace: "ledger", Name: "blockstorage_commit_time",
			Help:         "Time taken in seconds for committing the block to storage.",
			LabelNames:   []string{"channel"},
			StatsdFormat: "%{#fqname}.%{channel}",
			Buckets:      []float64{0.005, 0.01, 0.015, 0.05, 0.1, 1, 10},
		}),
	}
}
