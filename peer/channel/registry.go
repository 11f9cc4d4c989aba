package channel

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"golang.org/x/sync/errgroup"

	"github.com/heddle-ledger/heddle/internal/blockpull"
	"github.com/heddle-ledger/heddle/internal/chanconfig"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/metrics"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/ledger"
	"github.com/heddle-ledger/heddle/msp"
	"github.com/heddle-ledger/heddle/peer/validation"
)

// Config is what a Registry needs.
type Config struct {
	Ledgers *ledger.Provider
	// Local judges the creators of transactions that claim no channel; nil
	// refuses them.
	Local msp.Deserializer
	// Pool bounds validation (peer.validatorPoolSize); nil: one per CPU.
	Pool *validation.Pool
	// Plugins are the validation plugins by name (peer.handlers.validators);
	// nil: validation.DefaultPlugins.
	Plugins map[string]func() validation.Plugin
	// Pull configures the block pullers; ChannelID, Endpoints and Sink are set
	// per channel. Nil: this peer does not pull blocks itself.
	Pull *blockpull.Config
	// Bundle are the options for all Bundles that are made here.
	Bundle chanconfig.Options
	// Committed, if set, is handed every block right after its commit, before
	// Published tells of it. The block must not change any more.
	Committed func(channelID string, b *protoutil.Block)
	// AheadBlocks limits the blocks between scan and commit; 1 means strictly
	// serial, 0 the default.
	AheadBlocks int
	Log         *flog.Logger
	Metrics     metrics.Provider
}

// Registry holds the channels of a peer.
type Registry struct {
	cfg     Config
	log     *flog.Logger
	metrics *channelMetrics

	mu       sync.RWMutex // guards what follows
	channels map[string]*Channel
	joining  map[string]bool
	idle     []*Channel    // opened but not yet run
	wake     chan struct{} // has an element when idle has
	watchers map[*Watch]struct{}
}

// New makes an empty Registry; OpenAll fills it.
func New(cfg Config) *Registry {
	if cfg.Log == nil {
		cfg.Log = flog.Nop()
	}
	if cfg.Pool == nil {
		cfg.Pool = validation.NewPool(0)
	}
	if cfg.Metrics == nil {
		cfg.Metrics = metrics.Disabled()
	}
	return &Registry{
		cfg: cfg, log: cfg.Log.Named("peer"), metrics: newMetrics(cfg.Metrics), channels: map[string]*Channel{}, joining: map[string]bool{},
		wake: make(chan struct{}, 1), watchers: map[*Watch]struct{}{},
	}
}

// Channel returns a joined channel.
func (r *Registry) Channel(id string) (*Channel, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	c, ok := r.channels[id]
	return c, ok
}

// List returns the ids of the joined channels, sorted.
func (r *Registry) List() []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return sortedKeys(r.channels)
}

// Bundle returns the configuration in force of a joined channel.
func (r *Registry) Bundle(id string) (*chanconfig.Bundle, bool) {
	c, ok := r.Channel(id)
	if !ok {
		return nil, false
	}
	return c.Bundle(), true
}

// identities finds the MSPs for the channel id that a transaction claims.
func (r *Registry) identities(id string) (msp.Deserializer, bool) {
	if id == "" {
		return localIdentities(r.cfg.Local)
	}
	b, ok := r.Bundle(id)
	if !ok {
		return nil, false
	}
	return b.MSPManager(), true
}

// OpenAll opens the channels of all ledgers there are (ENDORSE-VALIDATE §11.3).
// A channel that cannot be opened is logged and left out; the error is that a
// channel needs capabilities this program does not have, or that committed
// blocks are damaged (LEDGER §2.3). The end of ctx ends the work on a channel
// that has much to make up for, and is the error then.
func (r *Registry) OpenAll(ctx context.Context) error {
	ids, err := r.cfg.Ledgers.List()
	if err != nil {
		return fmt.Errorf("list ledgers: %w", err)
	}
	for _, id := range ids {
		r.log.Infof("Loading chain %s", id)
		l, err := r.cfg.Ledgers.OpenContext(ctx, id)
		if err != nil && ctx.Err() != nil {
			return err
		}
		if ledger.IsFatal(err) {
			return fmt.Errorf("open ledger [%s]: %w", id, err)
		}
		if err != nil {
			r.log.Errorf("Failed to load ledger %s(%v)", id, err)
			continue
		}
		number, block, err := lastConfigBlock(l)
		if err != nil {
			r.log.Errorf("Failed to find config block on ledger %s(%v)", id, err)
			continue
		}
		if err := r.open(ctx, l, number, block); err != nil {
			if ctx.Err() != nil {
				return err
			}
			if incompatible := (incompatibleError{}); errors.As(err, &incompatible) {
				return err
			}
			r.log.Errorf("Failed to load chain %s(%v)", id, err)
			r.log.Debugf("Error reloading chain %s with message %v. We continue to the next chain rather than abort.", id, err)
		}
	}
	return nil
}

func (r *Registry) open(ctx context.Context, l *ledger.Ledger, number uint64, block *common.Block) error {
	config, err := currentConfig(ctx, l, block)
	if err != nil {
		return err
	}
	bundle, err := r.newBundle(l.ID(), config)
	if err != nil {
		return err
	}
	c, err := newChannel(r, l, bundle, number)
	if err != nil {
		return err
	}
	r.add(c)
	return nil
}

// incompatibleError marks a configuration that this program must not run with.
type incompatibleError struct{ error }

func (e incompatibleError) Unwrap() error { return e.error }

// newBundle makes the Bundle of a configuration that this peer can use.
func (r *Registry) newBundle(id string, config *common.Config) (*chanconfig.Bundle, error) {
	b, err := chanconfig.NewBundle(id, config, r.cfg.Bundle)
	if err != nil {
		return nil, err
	}
	if err := b.CheckPeer(); err != nil {
		return nil, incompatibleError{err}
	}
	return b, nil
}

// Join creates a channel from its genesis block, or from any config block with
// number 0, and starts it (ENDORSE-VALIDATE §11.1, §11.2).
func (r *Registry) Join(genesis *common.Block) error {
	bundle, err := chanconfig.BundleFromBlock(genesis, r.cfg.Bundle)
	if err != nil {
		return err
	}
	if err := bundle.CheckPeer(); err != nil {
		return err
	}
	if _, err := OrdererEndpoints(bundle); err != nil {
		return err
	}
	id := bundle.ChannelID()
	if !r.beginJoin(id) {
		return fmt.Errorf("cannot create ledger from genesis block: %w", ledger.ErrLedgerExists)
	}
	defer r.endJoin(id)
	if n := genesis.GetHeader().GetNumber(); n != 0 {
		return fmt.Errorf("cannot create ledger from genesis block: Expected block number=0, received block number=%d", n)
	}
	l, err := r.cfg.Ledgers.Create(genesis)
	if err != nil {
		return fmt.Errorf("cannot create ledger from genesis block: %w", err)
	}
	c, err := newChannel(r, l, bundle, genesis.GetHeader().GetNumber())
	if err != nil {
		return err
	}
	r.add(c)
	return nil
}

func (r *Registry) beginJoin(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.channels[id] != nil || r.joining[id] {
		return false
	}
	r.joining[id] = true
	return true
}

func (r *Registry) endJoin(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.joining, id)
}

func (r *Registry) add(c *Channel) {
	r.mu.Lock()
	r.channels[c.id] = c
	r.idle = append(r.idle, c)
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
	r.publish(c)
}

// Run runs all channels, those that are joined later too, until ctx ends, and
// then returns nil. The error is of the kind that ends the process: the
// reference panics with its text.
func (r *Registry) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		for {
			select {
			case <-r.wake:
			case <-ctx.Done():
				return nil
			}
			r.mu.Lock()
			idle := r.idle
			r.idle = nil
			r.mu.Unlock()
			for _, c := range idle {
				g.Go(func() error { return c.run(ctx) })
			}
		}
	})
	return g.Wait()
}

// currentConfig is the configuration in state, or in data of v1.0, which has none
// there, that of the config block.
func currentConfig(ctx context.Context, l *ledger.Ledger, block *common.Block) (*common.Config, error) {
	config, err := l.ChannelConfig(ctx)
	if err != nil {
		return nil, fmt.Errorf("read configuration from state: %w", err)
	}
	if config == nil {
		_, env, err := chanconfig.ConfigOfBlock(block)
		return env.GetConfig(), err
	}
	return config, nil
}

// lastConfigBlock is the block that LAST_CONFIG of the last block names.
func lastConfigBlock(l *ledger.Ledger) (uint64, *common.Block, error) {
	height := l.Height()
	if height == 0 {
		return 0, nil, errors.New("ledger is empty")
	}
	last, err := l.BlockByNumber(height - 1)
	if err != nil {
		return 0, nil, err
	}
	n, err := protoutil.LastConfigIndex(last)
	if err != nil {
		return 0, nil, err
	}
	block, err := l.BlockByNumber(n)
	return n, block, err
}
