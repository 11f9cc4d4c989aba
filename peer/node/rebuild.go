package node

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/run"
	"github.com/heddle-ledger/heddle/peer/endorser"
)

// rebuildPoll is how often the heights of channels being rebuilt are looked at
// (LEDGER §18.4).
const rebuildPoll = 10 * time.Second

// rebuild follows channels that a reset or rollback took back. Until all of them
// have their old heights again their state is one of the past, and the peer
// endorses nothing.
type rebuild struct {
	// heights are those that the channels must reach; only Run touches it.
	heights map[string]uint64
	// height is the height of an open channel.
	height func(id string) (uint64, bool)
	// done forgets the recorded heights.
	done func(heights map[string]uint64) error
	log  *flog.Logger

	over atomic.Bool // set once by Run
}

// active tells whether some channel is below its height.
func (r *rebuild) active() bool { return !r.over.Load() }

// Run watches the heights until all are reached or ctx ends.
func (r *rebuild) Run(ctx context.Context) error {
	left := make(map[string]uint64, len(r.heights))
	for id, h := range r.heights {
		left[id] = h
	}
	tick := time.NewTicker(rebuildPoll)
	defer tick.Stop()
	for len(left) > 0 {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			r.check(left)
		}
	}
	r.log.Info("Ledger rebuild: Complete, all ledgers surpass prereset heights. Endorsement request processing will be enabled.")
	// The records go first: what was endorsed must not be followed by a start
	// that refuses again. If they cannot be removed, so it will.
	err := r.done(r.heights)
	if err != nil {
		r.log.Errorf("Ledger rebuild: the recorded heights stay: %s", err)
	}
	r.over.Store(true)
	return nil
}

// check removes the channels that have reached their heights.
func (r *rebuild) check(left map[string]uint64) {
	r.log.Infof("Ledger rebuild: Number of ledgers still rebuilding before check: %d", len(left))
	for id, want := range left {
		height, ok := r.height(id)
		if !ok {
			r.log.Warnf("Ledger rebuild: channel [%s] is not open, so it does not reach height [%d]", id, want)
			continue
		}
		r.log.Debugf("Ledger rebuild: channel [%s]: preresetHeight [%d], currentHeight [%d]", id, want, height)
		if height >= want {
			delete(left, id)
		}
	}
	r.log.Infof("Ledger rebuild: Number of ledgers still rebuilding after check: %d", len(left))
}

// loadPreResetHeights finds out whether the ledgers were taken back.
func (n *Node) loadPreResetHeights() error {
	heights, err := n.parts.ledgers.PreResetHeights()
	if err != nil {
		return run.Failed(run.Plain, "%w", err)
	}
	if len(heights) == 0 {
		return nil
	}
	n.rebuild = &rebuild{
		heights: heights, height: n.channelHeight, done: n.parts.ledgers.ClearPreResetHeights, log: n.log,
	}
	return nil
}

func (n *Node) channelHeight(id string) (uint64, bool) {
	c, ok := n.parts.channels.Channel(id)
	if !ok {
		return 0, false
	}
	return c.Ledger().Height(), true
}

// rebuildFilters is the filter that stands behind the configured ones while
// ledgers are being rebuilt.
func (n *Node) rebuildFilters() []endorser.Filter {
	if n.rebuild == nil {
		return nil
	}
	n.log.Info("Endorsement requests are blocked while ledgers are being rebuilt")
	return []endorser.Filter{endorser.BlockWhile(n.rebuild.active)}
}

// awaitRebuild runs until the ledgers have been rebuilt.
func (n *Node) awaitRebuild(ctx context.Context) error {
	if n.rebuild == nil {
		return nil
	}
	return n.rebuild.Run(ctx)
}
