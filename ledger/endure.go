package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/ledger/state"
)

// A state database on a server may be away for a while. Whoever must not fail for
// that, which is a block on its way and whatever is done when a channel is opened,
// goes through endure (docs/adr/0010-state-database-away.md). Simulations and
// questions get the error.

// The pauses between attempts: each is twice as long as the one before.
const (
	firstPause   = 500 * time.Millisecond
	longestPause = 30 * time.Second
)

// work is something that waits for the state database if need be.
type work struct {
	// ctx ends the waiting. One that has no end lets nobody wait.
	ctx   context.Context
	doing string // for the log
	block uint64 // the block that it is done to, if named is set
	named bool
	// brief work waits for a server that is not there, but not for long for one that
	// fails: it may be one database that does, and other channels are waiting, too.
	brief bool
}

// briefly is how long brief work waits for a server that fails; it may still be
// starting.
const briefly = 30 * time.Second

const openingChannel = "opening the channel"

func (w *work) String() string {
	if w.named {
		return fmt.Sprintf("%s block [%d]", w.doing, w.block)
	}
	return w.doing
}

// begin makes work the one that endure speaks of, until done is called.
func (l *Ledger) begin(w work) (done func()) {
	if _, remote := l.state.(state.Remote); !remote && l.state != nil {
		return func() {}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.work
	l.work = &w
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.work = before
	}
}

// endure does something to the state for the work under way, again and again
// while the database is out of reach.
func (l *Ledger) endure(f func() error) error {
	err := f()
	if err == nil || !l.passing(err) {
		return err
	}
	l.mu.Lock()
	w := l.work
	l.mu.Unlock()
	if w == nil {
		return err
	}
	return l.await(w, err, f)
}

// passing tells whether an error may be gone with the next attempt.
func (l *Ledger) passing(err error) bool {
	var away *state.UnreachableError
	return errors.As(err, &away)
}

// await repeats f, which has failed, as long as it makes sense.
func (l *Ledger) await(w *work, err error, f func() error) error {
	if w.ctx.Done() == nil {
		return err
	}
	l.holdUp(1)
	defer l.holdUp(-1)
	begun, pause := time.Now(), firstPause
	answered := begun // since then, if at all
	for attempt := 1; ; attempt++ {
		var away *state.UnreachableError
		if !errors.As(err, &away) || w.brief && away.Answered && time.Since(answered) >= briefly {
			return err
		}
		if !away.Answered {
			answered = time.Now().Add(pause)
		}
		l.log.Warningf("[%s] The state database%s is out of reach while %s. Attempt %d has failed and is repeated in %s: %s",
			l.id, l.stateAddress(), w, attempt, pause, flog.ForeignError(err))
		if end := l.pause(w.ctx, pause); end != nil {
			return fmt.Errorf("%w; no more waiting for the state database: %w", err, end)
		}
		if err = f(); err == nil {
			l.log.Warningf("[%s] The state database%s is there again after %s; goes on %s", l.id, l.stateAddress(), time.Since(begun).Round(time.Millisecond), w)
			return nil
		}
		pause = min(2*pause, longestPause)
	}
}

func (l *Ledger) stateAddress() string {
	if r, ok := l.state.(state.Remote); ok {
		return " at " + r.Address()
	}
	return "" // it could not be opened yet
}

// pause waits. The error is why that ended early.
func (l *Ledger) pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-l.halted:
		return l.stopReason()
	}
}

// holdUp tells those who wait for a commit under way that it is held up, which may
// take long.
func (l *Ledger) holdUp(by int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heldUp += by
	close(l.wake)
	l.wake = make(chan struct{})
}

// enduring is the state for the work under way.
type enduring struct{ l *Ledger }

// enduringState is the state for who must not fail when it is out of reach.
func (l *Ledger) enduringState() state.Reader {
	if _, ok := l.state.(state.Remote); ok {
		return enduring{l}
	}
	return l.state
}

// Get implements state.Reader.
func (e enduring) Get(ns, key string) (v *state.Value, err error) {
	err = e.l.endure(func() (err error) {
		v, err = e.l.state.Get(ns, key)
		return err
	})
	return v, err
}

// GetMany implements state.Reader.
func (e enduring) GetMany(ns string, keys []string) (v []*state.Value, err error) {
	err = e.l.endure(func() (err error) {
		v, err = e.l.state.GetMany(ns, keys)
		return err
	})
	return v, err
}

// Versions implements state.Reader.
func (e enduring) Versions(lookups []state.Lookup) error {
	return e.l.endure(func() error { return e.l.state.Versions(lookups) })
}

// Range implements state.Reader.
func (e enduring) Range(ns, start, end string, limit int32) (it state.Iterator, err error) {
	err = e.l.endure(func() (err error) {
		it, err = e.l.state.Range(ns, start, end, limit)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &enduringIterator{it, e.l}, nil
}

// Query implements state.Reader. Nothing that endures queries.
func (e enduring) Query(ns string, q state.Query) (state.Iterator, error) {
	return e.l.state.Query(ns, q)
}

// enduringIterator goes on where it was when the state is there again.
type enduringIterator struct {
	state.Iterator
	l *Ledger
}

// Next implements state.Iterator.
func (i *enduringIterator) Next() (kv *state.KV, err error) {
	err = i.l.endure(func() (err error) {
		kv, err = i.Iterator.Next()
		return err
	})
	return kv, err
}
