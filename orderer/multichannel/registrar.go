// Package multichannel holds the channels of an orderer: it loads them at start,
// creates new ones, puts configs into force and writes the blocks that the
// consensus engines cut (ORDERER §4, §7).
//
// A Registrar owns the map of channels; a Channel owns its chain of blocks, the
// config in force and the engine's chain. Run of the Registrar owns the
// goroutines of all engines, and every Channel has at most one more, which
// commits the newest block. orderer/node and orderer/broadcast import it.
package multichannel

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/chanconfig"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/metrics"
	"github.com/heddle-ledger/heddle/internal/policy"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/msp/x509msp"
	"github.com/heddle-ledger/heddle/orderer/chainstore"
	"github.com/heddle-ledger/heddle/orderer/consensus"
	"github.com/heddle-ledger/heddle/orderer/cutter"
	"github.com/heddle-ledger/heddle/orderer/msgproc"
)

// Config is what a Registrar needs.
type Config struct {
	Store *chainstore.Store
	// Consenters are the engines by consensus type.
	Consenters map[string]consensus.Consenter
	Signer     msgproc.Signer
	// Expiry is nil when expired creators are not refused.
	Expiry *msgproc.Expiry
	// Bundles are the options of all channel configs.
	Bundles chanconfig.Options
	// OnConfig is called with every config that comes into force, those loaded at
	// the start included. It must not block.
	OnConfig func(b *chanconfig.Bundle)
	Metrics  metrics.Provider
	Log      *flog.Logger // root logger
}

// Registrar holds all channels of the process.
type Registrar struct {
	cfg  Config
	log  *flog.Logger
	fill metrics.Histogram
	// refused holds the channels of the store that this program cannot serve; Open
	// fills it.
	refused map[string]bool
	failed  chan error // what a block could not be committed for; of Run

	mu       sync.RWMutex // guards what follows
	channels map[string]*Channel
	system   *Channel
	start    func(*Channel) // nil unless Run is at work
}

// Open loads every channel of the store. One of them must be the system channel,
// which the configs tell.
func Open(cfg Config) (*Registrar, error) {
	if cfg.Metrics == nil {
		cfg.Metrics = metrics.Disabled()
	}
	if cfg.OnConfig == nil {
		cfg.OnConfig = func(*chanconfig.Bundle) {}
	}
	r := &Registrar{
		cfg:      cfg,
		log:      cfg.Log.Named("orderer.commmon.multichannel"), // the reference's spelling
		fill:     cutter.FillDuration(cfg.Metrics),
		channels: make(map[string]*Channel),
		refused:  make(map[string]bool),
		failed:   make(chan error, 1),
	}
	ids, err := cfg.Store.List()
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		err := r.load(id)
		switch {
		case errors.Is(err, x509msp.ErrIdemix):
			// Whoever made the channel could judge its members; this program cannot,
			// but need not leave the other channels alone because of that.
			r.log.Errorf("[channel %s] is not served: %v", id, err)
			r.refused[id] = true
		case err != nil:
			return nil, err
		}
	}
	if r.system == nil {
		return nil, errors.New("No system chain found.  If bootstrapping, does your system channel contain a consortiums group definition?") //nolint:staticcheck // the reference's text
	}
	return r, nil
}

func (r *Registrar) load(id string) error {
	c, err := r.openChannel(id)
	if err != nil {
		return err
	}
	r.channels[id] = c
	if _, ok := c.Bundle().Consortiums(); !ok {
		r.log.Debugf("Starting chain: %s", id)
		return nil
	}
	if r.system != nil {
		return fmt.Errorf("There appear to be two system chains %s and %s", r.system.id, id)
	}
	genesis, err := c.ledger.Block(0)
	if errors.Is(err, errNotKept) {
		genesis, err = c.ledger.Tip()
	}
	if err != nil {
		return fmt.Errorf("Error reading genesis block of system channel '%s': %w", id, err)
	}
	r.log.Infof("Starting system channel '%s' with genesis block hash %s and orderer type %s",
		id, hex.EncodeToString(protoutil.BlockHash(genesis.Header)), c.orderer().ConsensusType)
	r.system = c
	return nil
}

// Channel returns a channel that this process has.
func (r *Registrar) Channel(id string) (*Channel, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	c, ok := r.channels[id]
	return c, ok
}

// Route returns the channel whose processor judges messages for a channel id:
// that channel, or the system channel if there is none (ORDERER §5.1).
func (r *Registrar) Route(id string) *Channel {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if c, ok := r.channels[id]; ok {
		return c
	}
	return r.system
}

// System is the system channel.
func (r *Registrar) System() *Channel {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.system
}

// Count is the number of channels, the system channel included.
func (r *Registrar) Count() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.channels)
}

// Channels returns all channels in no particular order.
func (r *Registrar) Channels() []*Channel {
	r.mu.RLock()
	defer r.mu.RUnlock()
	out := make([]*Channel, 0, len(r.channels))
	for _, c := range r.channels {
		out = append(out, c)
	}
	return out
}

// Run starts the engines of all channels, the system channel's last, and of
// those created later. It returns nil when ctx has ended and every engine has
// stopped, or the error of an engine that cannot go on.
func (r *Registrar) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	start := func(c *Channel) {
		g.Go(func() error { return c.chain.Run(ctx) })
	}
	r.mu.Lock()
	for _, c := range r.channels {
		if c != r.system {
			start(c)
		}
	}
	start(r.system)
	r.start = start
	r.mu.Unlock()
	g.Go(func() error {
		select {
		case err := <-r.failed:
			return err
		case <-ctx.Done():
			return nil
		}
	})

	err := g.Wait()
	r.mu.Lock()
	r.start = nil
	r.mu.Unlock()
	return err
}

// fail ends Run: a block that clients count on could not be committed.
func (r *Registrar) fail(err error) {
	select {
	case r.failed <- err:
	default: // Run knows already
	}
}

// create makes the channel that an ORDERER_TRANSACTION brings (ORDERER §4.2). A
// channel that is there already is left alone: the message may have been handled
// before a crash.
func (r *Registrar) create(config *common.Envelope) error {
	header, err := protoutil.ChannelHeaderOf(config)
	if err != nil {
		return fmt.Errorf("create channel: %w", err)
	}
	id := header.ChannelId
	if _, ok := r.Channel(id); ok || r.refused[id] {
		r.log.Infof("Channel %s exists already", id)
		return nil
	}
	ledger, err := r.cfg.Store.Chain(id)
	if err != nil {
		return err
	}
	if ledger.Height() == 0 {
		block := protoutil.NewBlock(0, nil)
		block.Data.Data = [][]byte{protoutil.Marshal(config)}
		block.Header.DataHash = protoutil.DataHash(block.Data.Data)
		if err := ledger.Append(block); err != nil {
			return fmt.Errorf("create channel %s: %w", id, err)
		}
	}
	c, err := r.openChannel(id)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.channels[id] = c
	if r.start != nil {
		r.start(c)
	}
	r.log.Infof("Created and starting new chain %s", id)
	return nil
}

// Bootstrap appends the bootstrap block to the empty ledger of its channel.
func Bootstrap(store *chainstore.Store, genesis *common.Block) error {
	id, err := protoutil.ChannelIDOfBlock(genesis)
	if err != nil {
		return fmt.Errorf("Failed to parse channel ID from genesis block: %w", err)
	}
	ledger, err := store.Chain(id)
	if err != nil {
		return err
	}
	if err := ledger.Append(genesis); err != nil {
		return fmt.Errorf("Could not write genesis block to ledger: %w", err)
	}
	return nil
}

// LastConfigBlock returns the newest config block of a chain that is not empty:
// the one that the tip's LAST_CONFIG slot names.
func LastConfigBlock(ledger *chainstore.Chain) (*common.Block, error) {
	tip, err := ledger.Tip()
	if err != nil {
		return nil, fmt.Errorf("read newest block: %w", err)
	}
	index, err := protoutil.LastConfigIndex(tip)
	if err != nil {
		return nil, fmt.Errorf("newest block %d: %w", tip.Header.GetNumber(), err)
	}
	block, err := ledger.Block(index)
	if err != nil {
		return nil, fmt.Errorf("read config block %d: %w", index, err)
	}
	return block, nil
}

// openChannel makes a Channel of what its ledger holds. The engine is not
// started.
func (r *Registrar) openChannel(id string) (*Channel, error) {
	ledger, err := r.cfg.Store.Chain(id)
	if err != nil {
		return nil, err
	}
	configBlock, err := LastConfigBlock(ledger)
	if err != nil {
		return nil, fmt.Errorf("[channel %s] %w", id, err)
	}
	bundle, err := chanconfig.BundleFromBlock(configBlock, r.cfg.Bundles)
	if err != nil {
		return nil, fmt.Errorf("[channel %s] Error creating channelconfig bundle: %w", id, err)
	}
	if err := bundle.CheckOrderer(); err != nil {
		return nil, fmt.Errorf("[channel %s] %w", id, err)
	}
	c := &Channel{id: id, ledger: ledger, registrar: r}
	c.bundle.Store(bundle)
	c.processor = msgproc.New(msgproc.Config{
		Bundle: c.Bundle, Signer: r.cfg.Signer, Expiry: r.cfg.Expiry, ChannelCount: r.Count,
	})
	s, metadata, err := newSupport(c)
	if err != nil {
		return nil, fmt.Errorf("[channel %s] %w", id, err)
	}
	consenter, ok := r.cfg.Consenters[c.orderer().ConsensusType]
	if !ok {
		return nil, fmt.Errorf("Error retrieving consenter of type: %s", c.orderer().ConsensusType)
	}
	if c.chain, err = consenter.NewChain(s, metadata); err != nil {
		return nil, fmt.Errorf("[channel %s] Error creating consenter: %w", id, err)
	}
	r.warnIfRefused(id, bundle)
	r.cfg.OnConfig(bundle)
	return c, nil
}

// warnIfRefused says so when nobody will take the blocks that this orderer signs,
// as with the MSP directory of somebody else. The reference leaves that to be
// found out on the peers.
func (r *Registrar) warnIfRefused(id string, b *chanconfig.Bundle) {
	sample := []byte(id)
	signature, err := r.cfg.Signer.Sign(sample)
	if err == nil {
		validators, _ := b.PolicyManager().Policy(chanconfig.PolicyBlockValidation)
		err = validators.Evaluate([]policy.SignedData{{Data: sample, Identity: r.cfg.Signer.Serialize(), Signature: signature}})
	}
	if err != nil {
		r.log.Warnf("[channel: %s] Peers will refuse the blocks of this orderer: its identity does not satisfy %s: %s", id, chanconfig.PolicyBlockValidation, err)
	}
}

// newSupport makes what the engine uses of the channel, and returns the engine's
// metadata in the newest block.
func newSupport(c *Channel) (*support, *common.Metadata, error) {
	tip, err := c.ledger.Tip()
	if err != nil {
		return nil, nil, fmt.Errorf("read newest block: %w", err)
	}
	lastConfig, err := protoutil.LastConfigIndex(tip)
	if err != nil {
		return nil, nil, err
	}
	metadata, err := consenterMetadata(tip)
	if err != nil {
		return nil, nil, err
	}
	s := &support{Channel: c, writer: blockWriter{
		channel: c, signer: c.registrar.cfg.Signer, tip: tip.Header, lastConfig: lastConfig, lastSequence: c.Sequence(),
	}}
	s.cutter = cutter.New[*consensus.Message](func() cutter.Limits {
		size := c.orderer().BatchSize
		return cutter.Limits{MaxMessageCount: size.MaxMessageCount, PreferredMaxBytes: size.PreferredMaxBytes}
	}, c.registrar.fill.With("channel", c.id))
	return s, metadata, nil
}

// consenterMetadata reads slot 3; blocks of later versions may have the engine's
// metadata in slot 0 only (ORDERER §13).
func consenterMetadata(b *common.Block) (*common.Metadata, error) {
	md, err := protoutil.Metadata(b, common.BlockMetadataIndex_ORDERER) //nolint:staticcheck // the 1.4 wire format
	if err != nil || len(md.Value) > 0 {
		return md, err
	}
	signatures, err := protoutil.Metadata(b, common.BlockMetadataIndex_SIGNATURES)
	if err != nil {
		return nil, err
	}
	obm := &common.OrdererBlockMetadata{}
	if err := proto.Unmarshal(signatures.Value, obm); err != nil {
		return nil, fmt.Errorf("error unmarshaling OrdererBlockMetadata: %w", err)
	}
	if err := proto.Unmarshal(obm.ConsenterMetadata, md); err != nil {
		return nil, fmt.Errorf("error unmarshaling consenter metadata: %w", err)
	}
	return md, nil
}
