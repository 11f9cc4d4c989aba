package multichannel

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"

	"github.com/heddle-ledger/heddle/internal/chanconfig"
	"github.com/heddle-ledger/heddle/internal/deliver"
	"github.com/heddle-ledger/heddle/internal/policy"
	"github.com/heddle-ledger/heddle/orderer/chainstore"
	"github.com/heddle-ledger/heddle/orderer/consensus"
	"github.com/heddle-ledger/heddle/orderer/msgproc"
)

var errNotKept = deliver.ErrNotFound

// Channel is one channel of the process as Broadcast and Deliver see it. It is
// safe for concurrent use and implements deliver.Chain.
type Channel struct {
	id        string
	ledger    *chainstore.Chain
	registrar *Registrar
	processor *msgproc.Processor
	chain     consensus.Chain
	bundle    atomic.Pointer[chanconfig.Bundle] // written by the engine's goroutine only
}

// ID is the channel's id.
func (c *Channel) ID() string { return c.id }

// Bundle is the config in force.
func (c *Channel) Bundle() *chanconfig.Bundle { return c.bundle.Load() }

// Sequence is the sequence of the config in force.
func (c *Channel) Sequence() uint64 { return c.Bundle().Sequence() }

// Chain is the engine's chain of the channel.
func (c *Channel) Chain() consensus.Chain { return c.chain }

// orderer is the orderer section, which every loaded config has.
func (c *Channel) orderer() *chanconfig.OrdererGroup {
	o, _ := c.Bundle().Orderer()
	return o
}

// Errored implements deliver.Chain.
func (c *Channel) Errored() <-chan struct{} { return c.chain.Errored() }

// Oldest implements deliver.Chain.
func (c *Channel) Oldest() uint64 { return c.ledger.Oldest() }

// Height implements deliver.Chain: the number of blocks in the ledger.
func (c *Channel) Height() uint64 { return c.ledger.Height() }

// Iterator implements deliver.Chain.
func (c *Channel) Iterator(from uint64) (deliver.Iterator, error) { return c.ledger.Iterator(from) }

// CheckReader tells whether the sender of env may read the channel (ORDERER §9).
func (c *Channel) CheckReader(env *common.Envelope) error {
	b := c.Bundle()
	name := chanconfig.PolicyChannelReaders
	if o, ok := b.Orderer(); ok && o.InMaintenance() {
		name = chanconfig.PolicyOrdererReaders
	}
	readers, ok := b.PolicyManager().Policy(name)
	if !ok {
		return fmt.Errorf("could not find policy %s", name)
	}
	set, err := policy.EnvelopeSignedData(env)
	if err != nil {
		return fmt.Errorf("could not convert message to signedData: %w", err)
	}
	if err := readers.Evaluate(set); err != nil {
		return fmt.Errorf("%w: %w", err, msgproc.ErrPermissionDenied)
	}
	return nil
}

// ProcessNormal validates a normal message (ORDERER §5.2).
func (c *Channel) ProcessNormal(m *consensus.Message) (uint64, error) {
	return c.processor.ProcessNormal(m)
}

// ProcessConfigUpdate validates a config update and returns the message to order
// (ORDERER §5.3, §5.4).
func (c *Channel) ProcessConfigUpdate(m *consensus.Message) (*consensus.Message, uint64, error) {
	return c.processor.ProcessConfigUpdate(m)
}

// ProcessConfig validates a stale config message again (ORDERER §5.5).
func (c *Channel) ProcessConfig(m *consensus.Message) (*consensus.Message, uint64, error) {
	return c.processor.ProcessConfig(m)
}

// WaitReady waits until the engine takes messages.
func (c *Channel) WaitReady(ctx context.Context) error { return c.chain.WaitReady(ctx) }

// Order hands a normal message to the engine.
func (c *Channel) Order(ctx context.Context, m *consensus.Message, seq uint64) error {
	return c.chain.Order(ctx, m, seq)
}

// Configure hands a config message to the engine.
func (c *Channel) Configure(ctx context.Context, m *consensus.Message, seq uint64) error {
	return c.chain.Configure(ctx, m, seq)
}
