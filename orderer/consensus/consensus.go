// Package consensus is the contract between the channels of an orderer and the
// engines that order their messages (ORDERER §4, §8, §11, §12): solo, and later
// kafka and etcdraft, one folder each. Every engine passes the suite of
// consensustest.
//
// An engine is a Consenter; for every channel it makes a Chain, which owns the
// order of the channel's messages and uses the Support that the channel gives it
// to validate stale messages, to cut and to write blocks. The package owns no
// state and starts no goroutine. orderer/** imports it.
package consensus

import (
	"context"
	"errors"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"

	"github.com/heddle-ledger/heddle/internal/chanconfig"
	"github.com/heddle-ledger/heddle/orderer/cutter"
)

// ErrExiting is the answer of a chain that has stopped.
var ErrExiting = errors.New("Exiting") //nolint:staticcheck // wire-visible text

// Consenter is an engine.
type Consenter interface {
	// NewChain returns the chain of a channel. Nothing is started; metadata is
	// what the engine wrote into slot 3 of the newest block, possibly empty.
	NewChain(support Support, metadata *common.Metadata) (Chain, error)
}

// Chain orders the messages of one channel. All methods are safe for concurrent
// use.
type Chain interface {
	// Order takes a normal message, Configure a config message; seq is the config
	// sequence under which it was validated. A nil error means that the engine
	// has accepted the message, not that it will be in a block. Both wait while
	// the engine is busy, but no longer than ctx.
	Order(ctx context.Context, m *Message, seq uint64) error
	Configure(ctx context.Context, m *Message, seq uint64) error
	// WaitReady waits until the engine takes messages again, or fails with the
	// text for the client.
	WaitReady(ctx context.Context) error
	// Errored is closed while Deliver must not vouch for the chain being up to
	// date. The engine may give out a new channel once the state ends.
	Errored() <-chan struct{}
	// Run owns the engine's goroutines for the channel: it blocks until ctx ends
	// (nil) or the chain cannot go on (the process must stop then). Order and
	// Configure that wait are answered with an error when Run ends.
	Run(ctx context.Context) error
}

// HealthChecker is a Chain that takes part in /healthz.
type HealthChecker interface {
	HealthComponent() string
	HealthCheck(ctx context.Context) error
}

// Support is what a channel offers to its engine. The config it reports changes
// only through WriteConfigBlock. Write methods and the Cutter are for the one
// goroutine that owns the order of the chain.
type Support interface {
	ChannelID() string
	// Height is the number of the next block to be made.
	Height() uint64
	// Sequence is the sequence of the config in force.
	Sequence() uint64
	// Orderer is the orderer section of the config in force.
	Orderer() *chanconfig.OrdererGroup

	// ProcessNormal validates a normal message under the config in force
	// (ORDERER §5.2).
	ProcessNormal(m *Message) (seq uint64, err error)
	// ProcessConfig validates the config update inside a CONFIG or
	// ORDERER_TRANSACTION message again and wraps it anew (ORDERER §5.5).
	ProcessConfig(m *Message) (*Message, uint64, error)

	// Cutter holds the pending messages of the channel.
	Cutter() *cutter.Cutter[*Message]
	// NextBlock makes the block that follows the newest one.
	NextBlock(batch []*Message) *common.Block
	// WriteBlock commits a block made by NextBlock in the background; metadata is
	// the value for slot 3. It waits for the commit of the block before. An error
	// ends the chain.
	WriteBlock(b *common.Block, metadata []byte) error
	// WriteConfigBlock does the same for a block that holds one config message,
	// and puts the config into force or creates the channel first.
	WriteConfigBlock(b *common.Block, metadata []byte) error
	// Flush waits until every written block is in the ledger.
	Flush() error
}

// BatchTimer is the timer of a pending batch (ORDERER §6): it runs while
// messages are pending, and is not restarted by a cut that leaves a message
// pending. It belongs to one goroutine.
type BatchTimer struct {
	timer *time.Timer
}

// C fires when the batch must be cut; nil while the timer is off.
func (t *BatchTimer) C() <-chan time.Time {
	if t.timer == nil {
		return nil
	}
	return t.timer.C
}

// Update starts the timer when messages are pending and it is off, and stops it
// when none are.
func (t *BatchTimer) Update(pending bool, timeout time.Duration) {
	switch {
	case !pending:
		t.Stop()
	case t.timer == nil:
		t.timer = time.NewTimer(timeout)
	}
}

// Stop turns the timer off. It is also to be called when C has fired.
func (t *BatchTimer) Stop() {
	if t.timer != nil {
		t.timer.Stop()
		t.timer = nil
	}
}
