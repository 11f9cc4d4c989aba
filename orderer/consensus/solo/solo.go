// Package solo is the consensus engine of a single orderer: one loop per channel
// takes messages in the order of their arrival (ORDERER §8).
//
// A chain owns its pending batch and its timer; its only goroutine is the one
// that calls Run. A chain that is stopped makes a last block of what is pending,
// which the reference loses although the senders had SUCCESS; a crash loses it
// here, too. orderer/node imports it.
package solo

import (
	"context"
	"sync"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/orderer/consensus"
)

// Consenter makes solo chains.
type Consenter struct {
	log *flog.Logger
}

// New returns the engine.
func New(log *flog.Logger) *Consenter {
	return &Consenter{log: log.Named("orderer.consensus.solo")}
}

// NewChain implements consensus.Consenter. Solo has no metadata of its own and
// ignores what another engine left.
func (c *Consenter) NewChain(support consensus.Support, _ *common.Metadata) (consensus.Chain, error) {
	return &chain{
		support: support,
		log:     c.log,
		in:      make(chan order),
		done:    make(chan struct{}),
		errored: make(chan struct{}),
	}, nil
}

type order struct {
	message *consensus.Message
	seq     uint64
	config  bool
}

type chain struct {
	support consensus.Support
	log     *flog.Logger

	in      chan order    // unbuffered: senders wait while the loop is busy
	done    chan struct{} // closed when Run has ended
	errored chan struct{} // likewise, for Deliver
	end     sync.Once     // guards the closing of both
}

func (c *chain) Order(ctx context.Context, m *consensus.Message, seq uint64) error {
	return c.enqueue(ctx, order{message: m, seq: seq})
}

func (c *chain) Configure(ctx context.Context, m *consensus.Message, seq uint64) error {
	return c.enqueue(ctx, order{message: m, seq: seq, config: true})
}

func (c *chain) enqueue(ctx context.Context, o order) error {
	select {
	case c.in <- o:
		return nil
	case <-c.done:
		return consensus.ErrExiting
	case <-ctx.Done():
		return ctx.Err()
	}
}

// WaitReady never waits: there is nothing to get ready.
func (c *chain) WaitReady(context.Context) error { return nil }

func (c *chain) Errored() <-chan struct{} { return c.errored }

// Run is the loop of the chain.
func (c *chain) Run(ctx context.Context) error {
	defer c.end.Do(func() { close(c.done); close(c.errored) })
	var timer consensus.BatchTimer
	defer timer.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			c.log.Debugf("[channel: %s] Exiting", c.support.ChannelID())
			if err := c.write(c.support.Cutter().Cut()); err != nil {
				return err
			}
			return c.support.Flush()
		case o := <-c.in:
			if o.config {
				err = c.config(o, &timer)
			} else {
				err = c.normal(o, &timer)
			}
		case <-timer.C():
			timer.Stop()
			c.log.Debugf("[channel: %s] Batch timer expired, creating block", c.support.ChannelID())
			err = c.write(c.support.Cutter().Cut())
		}
		if err != nil {
			return err // which says what channel it is about
		}
	}
}

func (c *chain) normal(o order, timer *consensus.BatchTimer) error {
	if o.seq < c.support.Sequence() {
		if _, err := c.support.ProcessNormal(o.message); err != nil {
			c.log.Warnf("Discarding bad normal message: %s", err)
			return nil
		}
	}
	batches, pending := c.support.Cutter().Ordered(o.message)
	for _, batch := range batches {
		if err := c.write(batch); err != nil {
			return err
		}
	}
	timer.Update(pending, c.support.Orderer().BatchTimeout)
	return nil
}

func (c *chain) config(o order, timer *consensus.BatchTimer) error {
	message := o.message
	if o.seq < c.support.Sequence() {
		var err error
		if message, _, err = c.support.ProcessConfig(o.message); err != nil {
			c.log.Warnf("Discarding bad config message: %s", err)
			return nil
		}
	}
	if err := c.write(c.support.Cutter().Cut()); err != nil {
		return err
	}
	timer.Stop()
	return c.support.WriteConfigBlock(c.support.NextBlock([]*consensus.Message{message}), nil)
}

func (c *chain) write(batch []*consensus.Message) error {
	if len(batch) == 0 {
		return nil
	}
	return c.support.WriteBlock(c.support.NextBlock(batch), nil)
}
