// Package cutter cuts a sequence of messages into batches, each of which becomes
// a block (ORDERER §6).
//
// A Cutter owns the list of pending messages of one channel. It has no clock and
// no goroutine of its own and is used by one goroutine only, that of the
// channel's consensus engine. The engines and the registrar import it.
package cutter

import (
	"time"

	"github.com/heddle-ledger/heddle/internal/metrics"
)

// Message is what is batched.
type Message interface {
	// Size is the number of bytes that count for the limits: payload plus
	// signature.
	Size() int
}

// Limits are the parameters of a Cutter, read anew for every message because a
// config update may change them.
type Limits struct {
	MaxMessageCount   uint32
	PreferredMaxBytes uint32
}

// Cutter holds the pending messages of one channel.
type Cutter[M Message] struct {
	limits func() Limits
	fill   metrics.Histogram

	pending []M
	size    uint64
	since   time.Time // of the first pending message
}

// New returns an empty Cutter. fill observes how long a batch took from its
// first message to the cut; see FillDuration.
func New[M Message](limits func() Limits, fill metrics.Histogram) *Cutter[M] {
	return &Cutter[M]{limits: limits, fill: fill}
}

// FillDuration registers the histogram of the time to fill a block, labelled by
// channel.
func FillDuration(p metrics.Provider) metrics.Histogram {
	return p.NewHistogram(metrics.HistogramOpts{
		Namespace: "blockcutter", Name: "block_fill_duration",
		Help:         "The time from first transaction enqueing to the block being cut in seconds.",
		LabelNames:   []string{"channel"},
		StatsdFormat: "%{#fqname}.%{channel}",
	})
}

// Ordered takes the next message and returns the batches that it completes, at
// most two, and whether messages are left pending.
func (c *Cutter[M]) Ordered(m M) (batches [][]M, pending bool) {
	limits := c.limits()
	size := uint64(m.Size())
	if size > uint64(limits.PreferredMaxBytes) {
		if batch := c.Cut(); len(batch) > 0 {
			batches = append(batches, batch)
		}
		c.fill.Observe(0)
		return append(batches, []M{m}), false
	}
	if c.size+size > uint64(limits.PreferredMaxBytes) {
		if batch := c.Cut(); len(batch) > 0 {
			batches = append(batches, batch)
		}
	}
	if len(c.pending) == 0 {
		c.since = time.Now()
	}
	c.pending = append(c.pending, m)
	c.size += size
	if uint64(len(c.pending)) >= uint64(limits.MaxMessageCount) {
		batches = append(batches, c.Cut())
	}
	return batches, len(c.pending) > 0
}

// Cut returns the pending messages, possibly none, and forgets them.
func (c *Cutter[M]) Cut() []M {
	batch := c.pending
	if len(batch) > 0 {
		c.fill.Observe(time.Since(c.since).Seconds())
	}
	c.pending, c.size = nil, 0
	return batch
}
