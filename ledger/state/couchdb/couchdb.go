// Package couchdb keeps the world state in CouchDB, in the documents of the
// reference, through its HTTP API (LEDGER §5).
//
// A Provider owns the connections to one server, what is cached of its
// documents, and one goroutine that warms indexes, which ends with Close.
// Reading and applying use short-lived goroutines inside a call. CouchDB has no
// snapshots: what blocks overwrite is kept aside for the snapshots that are open
// (views.go, docs/adr/0007-couchdb-snapshots.md). It may be imported by the
// ledger room and by peer/node; test support is in couchtest.
package couchdb

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/metrics"
	"github.com/heddle-ledger/heddle/ledger/state"
)

// Config describes the server and how it is used (LEDGER §20).
type Config struct {
	// Address is host:port, which means http as in the reference, or
	// http://host:port or https://host:port.
	Address            string
	Username, Password string
	RootCAs            [][]byte // PEM, for https; nil means those of the system

	MaxRetries          int           // repetitions of a failed request
	MaxRetriesOnStartup int           // the same while the server is first looked for
	RequestTimeout      time.Duration // of one attempt; 0 means none

	InternalQueryLimit int // documents per request; 0 means 1000
	MaxBatchUpdateSize int // documents per bulk request; 0 means 500

	AutoWarmIndexes         bool
	WarmIndexesAfterNBlocks int // 0 means 1
	CreateGlobalChangesDB   bool

	Log     *flog.Logger
	Metrics metrics.Provider
}

// fill sets defaults: those of the reference for keys that are absent.
func (c *Config) fill() {
	if c.InternalQueryLimit <= 0 {
		c.InternalQueryLimit = 1000
	}
	if c.MaxBatchUpdateSize <= 0 {
		c.MaxBatchUpdateSize = 500
	}
	if c.WarmIndexesAfterNBlocks <= 0 {
		c.WarmIndexesAfterNBlocks = 1
	}
	if c.Log == nil {
		c.Log = flog.Nop()
	}
	if c.Metrics == nil {
		c.Metrics = metrics.Disabled()
	}
}

// Provider opens the states of all channels on one server.
type Provider struct {
	cfg   Config
	c     *client
	slots chan struct{} // one per request of a batch under way
	close func()        // ends the warmer and waits between repetitions

	warmer     *warmer
	noCommits  sync.Once // tells once that _ensure_full_commit is unknown
	background sync.WaitGroup

	mu   sync.Mutex     // guards open
	open map[string]*DB // by channel: what is cached of a channel must be cached once

	channels atomic.Int64 // in open
	layered  atomic.Int64 // channels that keep something aside for snapshots
}

// parallelRequests bounds the requests that batches and bulk look-ups have under
// way at a time.
const parallelRequests = 16

// OpenProvider connects to the server, checks its version and creates its system
// databases (LEDGER §5.1). The context is the program's life: when it ends nobody
// waits for the server any more, neither here nor in later calls, which then send
// each request once.
func OpenProvider(ctx context.Context, cfg Config) (*Provider, error) {
	return openProvider(ctx, cfg, nil)
}

func openProvider(ctx context.Context, cfg Config, transport http.RoundTripper) (*Provider, error) {
	p, life, err := newProvider(ctx, cfg, transport)
	if err != nil {
		return nil, err
	}
	if err := p.connect(ctx); err != nil {
		p.Close() //nolint:errcheck // it has none
		return nil, err
	}
	p.background.Go(func() { p.warmer.run(life) })
	return p, nil
}

// newProvider returns a provider that has sent nothing yet. life ends with Close.
func newProvider(ctx context.Context, cfg Config, transport http.RoundTripper) (p *Provider, life context.Context, err error) {
	cfg.fill()
	life, end := context.WithCancel(context.Background())
	ending := newEnding(ctx, life.Done())
	c, err := newClient(&cfg, transport, ending)
	if err != nil {
		end()
		ending.end()
		return nil, nil, err
	}
	return &Provider{cfg: cfg, c: c, slots: make(chan struct{}, parallelRequests), close: end, warmer: newWarmer(c), open: map[string]*DB{}}, life, nil
}

// leadingNumber finds the major version.
var leadingNumber = regexp.MustCompile(`^\d+`)

func (p *Provider) connect(ctx context.Context) error {
	if err := p.greet(ctx, p.cfg.MaxRetriesOnStartup); err != nil {
		if fromServer(err) {
			err = fmt.Errorf("unable to connect to CouchDB, check the hostname and port: %w", err)
		}
		return err
	}
	system := []string{usersDB, replicatorDB}
	if p.cfg.CreateGlobalChangesDB {
		system = append(system, globalChangesDB)
	}
	for _, name := range system {
		if err := p.database(name).ensure(ctx, p.cfg.MaxRetriesOnStartup); err != nil {
			return err
		}
	}
	return nil
}

// greet finds the server and checks its version.
func (p *Provider) greet(ctx context.Context, retries int) error {
	a, err := p.c.do(ctx, request{function: "VerifyCouchConfig", method: http.MethodGet, retries: retries})
	if err != nil {
		return err
	}
	var told struct{ Version string }
	if err := json.Unmarshal(a.body, &told); err != nil {
		return fmt.Errorf("malformed answer of CouchDB about its version: %w", err)
	}
	if major, err := strconv.Atoi(leadingNumber.FindString(told.Version)); err != nil || major < 2 {
		return fmt.Errorf("CouchDB must be at least version 2.0.0. Detected version %s", told.Version)
	}
	return nil
}

func (p *Provider) database(name string) *database { return &database{c: p.c, name: name} }

// Open implements state.Provider. A channel that is open already is given again.
func (p *Provider) Open(channelID string) (state.DB, error) {
	p.mu.Lock()
	db := p.open[channelID]
	if db == nil {
		db = newDB(p, channelID)
		p.open[channelID] = db
		p.channels.Store(int64(len(p.open)))
	}
	p.mu.Unlock()
	if _, err := db.metadata(context.Background()); err != nil {
		return nil, err
	}
	return db, nil
}

// forget lets go of channels whose databases are gone.
func (p *Provider) forget(channelIDs []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range channelIDs {
		delete(p.open, id)
	}
	p.channels.Store(int64(len(p.open)))
}

// Close implements state.Provider.
func (p *Provider) Close() error {
	p.close()
	p.background.Wait()
	p.c.end()
	p.c.http.CloseIdleConnections()
	return nil
}

// HealthCheck tells whether the server answers (LEDGER §5.10).
func (p *Provider) HealthCheck(ctx context.Context) error {
	if _, err := p.c.do(ctx, request{function: "HealthCheck", method: http.MethodHead}); err != nil {
		return fmt.Errorf("failed to connect to couch db [%w]", err)
	}
	return nil
}
