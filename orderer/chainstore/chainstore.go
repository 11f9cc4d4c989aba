// Package chainstore keeps the chains of an orderer: in block files, in one JSON
// file per block, or in memory (ORDERER §3).
//
// A Store owns one directory tree, a Chain the blocks of one channel. Appends to
// a Chain come from one goroutine, its readers run beside. The blocks used last
// are kept in memory, bounded in bytes for all chains together, so that Deliver
// readers share one encoded copy. The package starts no goroutine. orderer/multichannel and
// orderer/node import it.
package chainstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"

	"github.com/heddle-ledger/heddle/internal/deliver"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/metrics"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/ledger/blockfile"
)

// Kinds of store, as in General.LedgerType.
const (
	File = "file"
	JSON = "json"
	RAM  = "ram"
)

// Config says where and how chains are kept.
type Config struct {
	// Type is File or JSON; everything else is RAM.
	Type string
	// Dir is FileLedger.Location; empty: a new temporary directory whose name
	// begins with Prefix.
	Dir, Prefix string
	HistorySize int // blocks kept by RAM
	Metrics     metrics.Provider
	Log         *flog.Logger
}

// backend keeps the blocks of one channel. append is called by one goroutine.
type backend interface {
	append(b *common.Block) error
	block(number uint64) (sized, error)
	height() uint64
	oldest() uint64
	inMemory() bool // there is no point in a cache
}

// backends open the chains of one kind of store.
type backends interface {
	open(id string) (backend, error)
	list() ([]string, error)
	close() error
}

// Store holds the chains of all channels.
type Store struct {
	backends backends
	cache    *blockCache

	mu     sync.Mutex // guards chains
	chains map[string]*Chain
}

// Open opens a store. Texts of errors are the reference's where it dies.
func Open(cfg Config) (*Store, error) {
	if cfg.Log == nil {
		cfg.Log = flog.Nop()
	}
	if cfg.Metrics == nil {
		cfg.Metrics = metrics.Disabled()
	}
	b, err := openBackends(cfg)
	if err != nil {
		return nil, err
	}
	return &Store{backends: b, cache: newBlockCache(cacheBytes), chains: make(map[string]*Chain)}, nil
}

func openBackends(cfg Config) (backends, error) {
	if cfg.Type != File && cfg.Type != JSON {
		return ramBackends{history: max(cfg.HistorySize, 1)}, nil
	}
	if cfg.Dir == "" {
		dir, err := os.MkdirTemp("", cfg.Prefix)
		if err != nil {
			return nil, fmt.Errorf("Error creating temp dir: %w", err)
		}
		cfg.Dir = dir
	}
	if cfg.Type == JSON {
		return newJSONBackends(cfg.Dir)
	}
	index := filepath.Join(cfg.Dir, "index")
	if err := os.MkdirAll(index, 0o755); err != nil {
		return nil, fmt.Errorf("Error creating dir if missing: error creating dir [%s/]: %w", index, err)
	}
	p, err := blockfile.OpenProvider(blockfile.Config{
		Dir: cfg.Dir, Index: blockfile.IndexNumber, Metrics: cfg.Metrics, Log: cfg.Log,
	})
	if err != nil {
		return nil, err
	}
	return fileBackends{p}, nil
}

// List returns the channels that have at least one block, sorted. A channel whose
// directory exists but is empty was interrupted while it was made: it does not
// exist (ORDERER §4.2).
func (s *Store) List() ([]string, error) {
	ids, err := s.backends.list()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	for id := range s.chains { // those of RAM are nowhere else
		ids = append(ids, id)
	}
	s.mu.Unlock()
	slices.Sort(ids)
	var out []string
	for _, id := range slices.Compact(ids) {
		c, err := s.Chain(id)
		if err != nil {
			return nil, err
		}
		if c.Height() > 0 {
			out = append(out, id)
		}
	}
	return out, nil
}

// Chain opens the chain of a channel, creating it if need be.
func (s *Store) Chain(id string) (*Chain, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, ok := s.chains[id]; ok {
		return c, nil
	}
	b, err := s.backends.open(id)
	if err != nil {
		return nil, fmt.Errorf("open ledger of channel %s: %w", id, err)
	}
	c := &Chain{backend: b, cache: s.cache, height: b.height(), grown: make(chan struct{})}
	s.chains[id] = c
	return c, nil
}

// Close closes the files of all chains.
func (s *Store) Close() error { return s.backends.close() }

// Chain is the chain of one channel.
type Chain struct {
	backend backend
	cache   *blockCache

	mu     sync.Mutex // guards what follows
	height uint64
	grown  chan struct{} // closed and replaced when the height grows
}

// Height is the number of blocks.
func (c *Chain) Height() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.height
}

// Oldest is the lowest block number that is kept.
func (c *Chain) Oldest() uint64 { return c.backend.oldest() }

// Append adds the next block durably and wakes its readers. The block must not
// be changed any more. It is not for concurrent use.
func (c *Chain) Append(b *common.Block) error {
	if err := c.backend.append(b); err != nil {
		return err
	}
	if !c.backend.inMemory() {
		size := 0
		for _, d := range b.GetData().GetData() {
			size += len(d)
		}
		// Encoded, the block takes as much again.
		c.cache.add(cacheKey{c, b.Header.Number}, sized{deliver.NewBlock(b), 2 * size})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.height++
	close(c.grown)
	c.grown = make(chan struct{})
	return nil
}

// Block returns the block of that number, or deliver.ErrNotFound.
func (c *Chain) Block(number uint64) (*common.Block, error) {
	b, _, err := c.lookup(number)
	if err != nil {
		return nil, err
	}
	if b == nil {
		return nil, deliver.ErrNotFound
	}
	return b.Proto()
}

// Tip returns the newest block of a chain that is not empty.
func (c *Chain) Tip() (*common.Block, error) { return c.Block(c.Height() - 1) }

// lookup returns the block, or a channel that is closed when the chain has grown.
func (c *Chain) lookup(number uint64) (*deliver.Block, <-chan struct{}, error) {
	c.mu.Lock()
	height, grown := c.height, c.grown
	c.mu.Unlock()
	if number >= height {
		return nil, grown, nil
	}
	load := func() (sized, error) { return c.backend.block(number) }
	if c.backend.inMemory() {
		b, err := load()
		return b.block, nil, err
	}
	b, err := c.cache.get(cacheKey{c, number}, load)
	return b, nil, err
}

// Iterator returns the blocks from number on; beyond the height there is nothing
// to iterate.
func (c *Chain) Iterator(from uint64) (deliver.Iterator, error) {
	if from > c.Height() || from < c.Oldest() {
		return nil, deliver.ErrNotFound
	}
	return &iterator{chain: c, next: from}, nil
}

type iterator struct {
	chain *Chain
	next  uint64
}

func (it *iterator) Next(ctx context.Context) (*deliver.Block, error) {
	for {
		b, grown, err := it.chain.lookup(it.next)
		if err != nil {
			return nil, err
		}
		if b != nil {
			it.next++
			return b, nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (it *iterator) Close() {}

// fileBackends keeps chains in block files (LEDGER §3).
type fileBackends struct{ provider *blockfile.Provider }

func (f fileBackends) open(id string) (backend, error) {
	s, err := f.provider.Open(id)
	if err != nil {
		return nil, err
	}
	return fileBackend{s}, nil
}

func (f fileBackends) list() ([]string, error) { return f.provider.List() }
func (f fileBackends) close() error            { return f.provider.Close() }

type fileBackend struct{ store *blockfile.Store }

func (f fileBackend) height() uint64 { return f.store.Height() }
func (f fileBackend) oldest() uint64 { return 0 }

func (f fileBackend) inMemory() bool { return false }

func (f fileBackend) block(number uint64) (sized, error) {
	raw, err := f.store.RawBlock(number)
	if errors.Is(err, blockfile.ErrNotFound) {
		return sized{}, deliver.ErrNotFound
	}
	if err != nil {
		return sized{}, err
	}
	return sized{deliver.NewRawBlock(number, raw), len(raw)}, nil
}

func (f fileBackend) append(b *common.Block) error {
	return f.store.Append(protoutil.ParseBlock(b))
}
