package channel

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/blockpull"
	"github.com/heddle-ledger/heddle/internal/chanconfig"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/ledger"
	"github.com/heddle-ledger/heddle/msp"
	"github.com/heddle-ledger/heddle/msp/x509msp"
	"github.com/heddle-ledger/heddle/peer/validation"
)

// Channel is one joined channel.
type Channel struct {
	id       string
	registry *Registry
	ledger   *ledger.Ledger
	inbox    *inbox
	pipeline *pipeline
	puller   *blockpull.Puller // nil if this peer does not pull
	log      *flog.Logger

	state       atomic.Pointer[configured]
	configBlock atomic.Uint64 // number of the current config block
	published   atomic.Uint64 // see Published

	mu      sync.Mutex // guards changed
	changed chan struct{}
}

// configured is a configuration with what is made of it once.
type configured struct {
	bundle *chanconfig.Bundle
	rules  *validation.ChannelConfig
}

// ID is the channel's name.
func (c *Channel) ID() string { return c.id }

// Ledger is the channel's ledger.
func (c *Channel) Ledger() *ledger.Ledger { return c.ledger }

// Bundle is the configuration in force.
func (c *Channel) Bundle() *chanconfig.Bundle { return c.state.Load().bundle }

// Height is the number of committed blocks.
func (c *Channel) Height() uint64 { return c.ledger.Height() }

// ConfigBlock is the current config block as this peer stores it
// (ENDORSE-VALIDATE §11.4).
func (c *Channel) ConfigBlock() (*common.Block, error) {
	return c.ledger.BlockByNumber(c.configBlock.Load())
}

// Changed is closed after the next commit; then ask again.
func (c *Channel) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

// Offer hands the channel a block from anywhere. Blocks may come in any order and
// more than once. If there is no room it waits, or returns ErrFull if wait is
// false. A bad block is reported to from, which may be nil.
func (c *Channel) Offer(ctx context.Context, b *common.Block, from Source, wait bool) error {
	return c.inbox.put(ctx, b, from, wait)
}

// Next is the number of the first block that has not been offered yet.
func (c *Channel) Next() uint64 { return c.inbox.next() }

func newChannel(r *Registry, l *ledger.Ledger, bundle *chanconfig.Bundle, configBlock uint64) (*Channel, error) {
	c := &Channel{id: l.ID(), registry: r, ledger: l, inbox: newInbox(l.Height()), log: r.log, changed: make(chan struct{})}
	c.configBlock.Store(configBlock)
	c.published.Store(l.Height())
	c.state.Store(c.configure(bundle))
	v, err := validation.New(validation.Config{ChannelID: c.id, Pool: r.cfg.Pool, Plugins: r.cfg.Plugins, Log: r.cfg.Log})
	if err != nil {
		return nil, err
	}
	limit := r.cfg.AheadBlocks
	if limit <= 0 {
		limit = aheadBlocks
	}
	c.pipeline = &pipeline{
		inbox: c.inbox, validator: v, ledger: ledgerCommitter{l}, config: c,
		expect: l.Expect, committed: c.publish, flight: newFlight(l.Height(), limit),
		metrics: r.metrics.of(c.id), log: r.cfg.Log.Named("gossip.state"),
	}
	c.pipeline.metrics.height.Set(float64(l.Height()))
	if err := c.newPuller(); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Channel) newPuller() error {
	if c.registry.cfg.Pull == nil {
		return nil
	}
	eps, err := OrdererEndpoints(c.Bundle())
	if err != nil {
		return err
	}
	cfg := *c.registry.cfg.Pull
	cfg.ChannelID, cfg.Endpoints, cfg.Sink = c.id, eps, (*pullSink)(c)
	c.puller = blockpull.New(cfg)
	return nil
}

// pullSink lets the puller fill the inbox.
type pullSink Channel

func (s *pullSink) Next() uint64 { return s.inbox.next() }

func (s *pullSink) Accept(ctx context.Context, b *common.Block) error {
	return s.inbox.put(ctx, b, s.puller, true)
}

// run works until ctx ends or the channel has to stop. An execution failure of
// validation only stops this channel, and so does a configuration that wants
// what this program knows but does not have; the error is anything worse.
func (c *Channel) run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	var pulling sync.WaitGroup
	if c.puller != nil {
		pulling.Go(func() { c.pull(ctx) })
	}
	err := c.pipeline.run(ctx)
	stop()
	pulling.Wait()
	if err == nil {
		return nil
	}
	var fatal *validation.FatalError
	if errors.As(err, &fatal) && fatal.Execution {
		c.pipeline.log.Errorf("Failed executing VSCC due to %v. Aborting chain processing", err)
		return nil
	}
	if errors.Is(err, x509msp.ErrIdemix) {
		c.pipeline.log.Errorf("[%s] Cannot commit block to the ledger due to %v. Aborting chain processing; other channels go on", c.id, err)
		return nil
	}
	return fmt.Errorf("Cannot commit block to the ledger due to %w", err)
}

func (c *Channel) pull(ctx context.Context) {
	if err := c.puller.Run(ctx); err != nil {
		c.log.Warningf("[%s] Block delivery has ended: %v", c.id, err)
	}
}

// configure makes what validation needs of a Bundle.
func (c *Channel) configure(b *chanconfig.Bundle) *configured {
	return &configured{bundle: b, rules: validation.ConfigOf(b, c.registry.identities)}
}

// current implements configuration.
func (c *Channel) current() *validation.ChannelConfig { return c.state.Load().rules }

// verify implements configuration.
func (c *Channel) verify(b *protoutil.Block) error {
	n := b.Number()
	return chanconfig.VerifyParsedBlock(c.Bundle(), c.id, &n, b)
}

// apply implements configuration: the configuration of a committed block takes
// the place of the present one.
func (c *Channel) apply(b *protoutil.Block) error {
	env, err := committedConfig(b)
	if err != nil || env == nil {
		return err
	}
	next, err := c.registry.newBundle(c.id, env.Config)
	if err != nil {
		return fmt.Errorf("load configuration of block [%d]: %w", b.Number(), err)
	}
	c.configBlock.Store(b.Number())
	c.state.Store(c.configure(next))
	if c.puller != nil {
		if eps, err := OrdererEndpoints(next); err == nil {
			c.puller.SetEndpoints(eps)
		}
	}
	c.registry.publish(c)
	return nil
}

// committedConfig returns the last valid configuration in a block, nil if there
// is none.
func committedConfig(b *protoutil.Block) (*common.ConfigEnvelope, error) {
	flags := b.Flags()
	for i := b.Len() - 1; i >= 0; i-- {
		ch, err := b.Tx(i).ChannelHeader()
		if err != nil || ch.Type != int32(common.HeaderType_CONFIG) {
			continue
		}
		if i >= len(flags) || flags[i] != byte(peer.TxValidationCode_VALID) {
			continue
		}
		payload, err := b.Tx(i).Payload()
		if err != nil {
			return nil, err
		}
		env := &common.ConfigEnvelope{}
		if err := proto.Unmarshal(payload.Data, env); err != nil {
			return nil, fmt.Errorf("error unmarshaling ConfigEnvelope: %w", err)
		}
		return env, nil
	}
	return nil, nil
}

// publish tells whoever watches that a block has been committed.
func (c *Channel) publish(b *protoutil.Block) {
	if f := c.registry.cfg.Committed; f != nil {
		f(c.id, b)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.published.Store(b.Number() + 1)
	close(c.changed)
	c.changed = make(chan struct{})
}

// Published is the number of blocks that have been committed, applied and handed
// to Config.Committed. It is Height or, for a moment, one less.
func (c *Channel) Published() uint64 { return c.published.Load() }

// WaitPublished returns when Published is at least n, or ctx has ended.
func (c *Channel) WaitPublished(ctx context.Context, n uint64) error {
	for {
		changed := c.Changed()
		if c.Published() >= n {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// ledgerCommitter is the real ledger as the pipeline uses it.
type ledgerCommitter struct{ *ledger.Ledger }

func (l ledgerCommitter) Commit(ctx context.Context, b *protoutil.Block) error {
	return l.CommitContext(ctx, b, nil)
}

func (l ledgerCommitter) State(ctx context.Context, block uint64) (validation.State, func(), error) {
	v, err := l.NewStateView(ctx, block)
	if err != nil {
		return nil, nil, err
	}
	return v, v.Done, nil
}

// localIdentities is the answer for transactions that claim no channel.
func localIdentities(local msp.Deserializer) (msp.Deserializer, bool) { return local, local != nil }
