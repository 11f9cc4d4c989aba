package broadcast

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"
)

// Bytes of messages that are read before those ahead of them are answered.
const (
	freeBytes   = 64 << 10 // of every stream, always
	streamBytes = 16 << 20 // of one stream at most
	sharedBytes = 64 << 20 // of all streams together, beyond what is free
)

// readAhead decides whether the next message of a stream may be taken before the
// ones ahead of it are answered. One message of every stream is taken in any
// case; more of them are charged to the stream's free bytes, and beyond these to
// a budget that all streams share. So clients that never read their answers can
// slow the others down to one message at a time, as the reference always is, but
// cannot fill the memory.
//
// admit is called by the stream's reader, done and close by Serve.
type readAhead struct {
	shared   *semaphore.Weighted
	progress chan struct{} // has an element when a message was answered since admit last looked

	mu         sync.Mutex // guards what follows
	unanswered int
	free, used int64 // bytes left of freeBytes, taken of the shared budget
	closed     bool
}

// charge is what a message holds of the budgets until it is answered.
type charge struct{ free, shared int64 }

func newReadAhead(shared *semaphore.Weighted) *readAhead {
	return &readAhead{shared: shared, progress: make(chan struct{}, 1), free: freeBytes}
}

// admit waits until a message of that many bytes may be taken.
func (a *readAhead) admit(ctx context.Context, bytes int64) (charge, error) {
	for {
		if c, ok := a.try(bytes); ok {
			return c, nil
		}
		select {
		case <-a.progress:
		case <-ctx.Done():
			return charge{}, ctx.Err()
		}
	}
}

func (a *readAhead) try(bytes int64) (c charge, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.closed:
		return c, false // ctx ends as well
	case bytes <= a.free:
		c.free = bytes
	case a.unanswered == 0:
	case a.used+bytes <= streamBytes && a.shared.TryAcquire(bytes):
		c.shared = bytes
	default:
		return c, false
	}
	a.unanswered++
	a.free -= c.free
	a.used += c.shared
	return c, true
}

// done gives back what an answered message held.
func (a *readAhead) done(c charge) {
	a.mu.Lock()
	a.unanswered--
	a.free += c.free
	a.give(c.shared)
	a.mu.Unlock()
	select {
	case a.progress <- struct{}{}:
	default:
	}
}

// close gives back what the messages hold that will never be answered.
func (a *readAhead) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.give(a.used)
	a.closed = true
}

// give returns bytes to the shared budget. mu is held.
func (a *readAhead) give(bytes int64) {
	if bytes > 0 {
		a.used -= bytes
		a.shared.Release(bytes)
	}
}
