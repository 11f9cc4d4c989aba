package blockfile

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
)

// Iterator walks the published blocks from a given number on and waits for new
// ones (LEDGER §3.11). It owns no goroutine. Next belongs to one goroutine at a
// time; Close may be called from any.
type Iterator struct {
	s    *Store
	next uint64
	// at is where the next record is expected, if known: right behind the last
	// one, so that a walk asks the index once per file only.
	at    location
	known bool

	once sync.Once
	done chan struct{}
}

// Iterator returns an iterator that begins with block from, which need not
// exist yet.
func (s *Store) Iterator(from uint64) *Iterator {
	return &Iterator{s: s, next: from, done: make(chan struct{})}
}

// Next returns the next block, waiting until it exists. It returns io.EOF after
// Close, ErrClosed when the store is closed, and the error of a context that
// ends.
func (it *Iterator) Next(ctx context.Context) (*common.Block, error) {
	rec, err := it.record(ctx)
	if err != nil {
		return nil, err
	}
	it.next++
	return rec.block(), nil
}

// record reads block it.next.
func (it *Iterator) record(ctx context.Context) (*record, error) {
	if err := it.wait(ctx); err != nil {
		return nil, err
	}
	if err := it.seek(); err != nil {
		return nil, err
	}
	body, end, err := it.s.bodyAt(it.at)
	if err != nil {
		return nil, err
	}
	rec, err := parseRecord(body)
	if err == nil && rec.number != it.next {
		err = fmt.Errorf("block [%d] found in place of [%d]: %w", rec.number, it.next, errRecord)
	}
	if err != nil {
		return nil, fmt.Errorf("%s at %d: %w", it.s.files.path(it.at.file), it.at.offset, err)
	}
	it.at.offset = end
	return rec, nil
}

// seek finds the place of block it.next.
func (it *Iterator) seek() error {
	if it.known {
		limit, err := it.s.limit(it.at.file)
		if err != nil {
			return err
		}
		if it.at.offset < limit {
			return nil
		}
	}
	_, loc, err := it.s.locateNumber(it.next)
	if err != nil {
		return fmt.Errorf("locate block [%d]: %w", it.next, err)
	}
	it.at, it.known = loc, true
	return nil
}

// wait blocks until block it.next is published.
func (it *Iterator) wait(ctx context.Context) error {
	for {
		ready, wake, err := it.s.whenPublished(it.next)
		if err != nil {
			return err
		}
		select {
		case <-it.done:
			return io.EOF
		default:
		}
		if ready {
			return nil
		}
		select {
		case <-wake:
		case <-it.done:
			return io.EOF
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Close ends the iterator and wakes a waiting Next.
func (it *Iterator) Close() { it.once.Do(func() { close(it.done) }) }

// whenPublished tells whether block n is published, and if not, gives a channel
// that is closed when that may have changed.
func (s *Store) whenPublished(n uint64) (ready bool, wake <-chan struct{}, err error) {
	s.mu.RLock()
	if s.closed {
		s.mu.RUnlock()
		return false, nil, ErrClosed
	}
	if n < s.published {
		s.mu.RUnlock()
		return true, nil, nil
	}
	s.mu.RUnlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false, nil, ErrClosed
	}
	if n < s.published {
		return true, nil, nil
	}
	if s.wake == nil {
		s.wake = make(chan struct{})
	}
	return false, s.wake, nil
}
