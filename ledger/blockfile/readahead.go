package blockfile

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"runtime"
	"sync"

	"golang.org/x/sync/semaphore"

	"github.com/heddle-ledger/heddle/internal/protoutil"
)

// Bounds of a read-ahead: the bytes of records that were read and not yet
// visited (a larger record goes alone), their number, and the buffer of the
// reader, past which large records are read.
const (
	aheadBytes  = 16 << 20
	aheadBlocks = 256
	aheadBuffer = 64 << 10
)

// ReadAhead visits the blocks [from, to) in order. One goroutine reads the files
// ahead, the processors check records against their headers and prepare them,
// and the caller's goroutine checks the chain of hashes and visits. The three
// overlap; all goroutines have ended on return. The end of ctx ends the walk
// with its cause. Blocks that are not what the chain says are a *DamageError;
// an error of visit comes with file and offset of the block.
func ReadAhead[T any](ctx context.Context, s *Store, from, to uint64, prepare func(*protoutil.Block) T, visit func(*protoutil.Block, T) error) error {
	if from >= to {
		return nil
	}
	p := aheadPlan[T]{from: from, to: to, visit: func(r *aheadRecord[T]) error { return visit(r.block, r.value) }}
	p.prepare = func(r *aheadRecord[T]) { r.value = prepare(r.block) }
	var err error
	if p.nums, err = s.files.list(); err != nil {
		return err
	}
	if _, p.at, err = s.locateNumber(from); err != nil {
		return fmt.Errorf("locate block [%d]: %w", from, err)
	}
	if from > 0 {
		before, err := s.BlockByNumber(from - 1)
		if err != nil {
			return fmt.Errorf("read block [%d]: %w", from-1, err)
		}
		p.prev = protoutil.BlockHash(before.GetHeader())
	}
	return readAhead(ctx, s, p)
}

// aheadPlan says which records to read and what to do with them.
type aheadPlan[T any] struct {
	nums     []int    // the files
	at       location // of the first record
	from, to uint64   // blocks
	prev     []byte   // hash of the block before from; nil if it is not known

	prepare func(*aheadRecord[T]) // called by any goroutine
	visit   func(*aheadRecord[T]) error
}

// aheadRecord is a record on its way from the file to its visit.
type aheadRecord[T any] struct {
	number uint64 // that it must have
	at     location
	end    int64
	weight int64
	body   []byte
	ready  chan struct{} // closed when what follows is filled in

	err   error
	rec   *record
	block *protoutil.Block
	hash  []byte // of the header
	value T      // what prepare made
}

// aheadWalk is a read-ahead under way.
type aheadWalk[T any] struct {
	aheadPlan[T]
	s     *Store
	room  *semaphore.Weighted
	jobs  chan *aheadRecord[T] // to the processors
	order chan *aheadRecord[T] // to the visitor
}

func readAhead[T any](ctx context.Context, s *Store, p aheadPlan[T]) error {
	w := &aheadWalk[T]{
		aheadPlan: p, s: s, room: semaphore.NewWeighted(aheadBytes),
		jobs: make(chan *aheadRecord[T], aheadBlocks), order: make(chan *aheadRecord[T], aheadBlocks),
	}
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	group.Go(func() { w.read(ctx) })
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() { w.check(ctx) })
	}
	err := w.visitAll(ctx)
	cancel()
	group.Wait()
	return err
}

// read reads the records one after the other. What goes wrong is told to the
// visitor in its place.
func (w *aheadWalk[T]) read(ctx context.Context) {
	defer close(w.order)
	defer close(w.jobs)
	next, at := w.from, w.at
	for _, n := range w.nums {
		if n < at.file {
			continue
		}
		if n > at.file {
			at = location{file: n}
		}
		if err := w.readFile(ctx, &at, &next); err != nil {
			broken := &aheadRecord[T]{number: next, at: at, err: err, ready: make(chan struct{})}
			close(broken.ready)
			w.send(ctx, w.order, broken)
			return
		}
		if next == w.to {
			return
		}
	}
}

// readFile reads the records of one file from at on, and moves at and next
// along.
func (w *aheadWalk[T]) readFile(ctx context.Context, at *location, next *uint64) error {
	f := w.s.files
	limit, err := w.s.limit(at.file)
	if err != nil {
		return err
	}
	h, err := f.acquire(at.file)
	if err != nil {
		return err
	}
	defer f.release(h)
	in := bufio.NewReaderSize(io.NewSectionReader(h.f, at.offset, limit-at.offset), aheadBuffer)
	for at.offset < limit && *next < w.to {
		r, err := w.readRecord(ctx, in, *at, limit)
		if err != nil {
			return err
		}
		r.number = *next
		if !w.send(ctx, w.order, r) || !w.send(ctx, w.jobs, r) {
			return context.Cause(ctx)
		}
		*next++
		at.offset = r.end
	}
	return nil
}

func (w *aheadWalk[T]) readRecord(ctx context.Context, in *bufio.Reader, at location, limit int64) (*aheadRecord[T], error) {
	head, err := in.Peek(int(min(binary.MaxVarintLen64, limit-at.offset)))
	size, used := binary.Uvarint(head)
	switch {
	case used <= 0 && err != nil:
		return nil, fmt.Errorf("read %s at %d: %w", w.s.files.path(at.file), at.offset, err)
	case used <= 0, size > uint64(limit-at.offset-int64(used)):
		return nil, errPartial
	}
	r := &aheadRecord[T]{at: at, end: at.offset + int64(used) + int64(size), weight: min(int64(size), aheadBytes), ready: make(chan struct{})}
	if err := w.room.Acquire(ctx, r.weight); err != nil {
		return nil, err
	}
	r.body = make([]byte, size)
	if _, err := in.Discard(used); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(in, r.body); err != nil {
		return nil, fmt.Errorf("read %s at %d: %w", w.s.files.path(at.file), at.offset, err)
	}
	return r, nil
}

// send tells whether it could before the end of ctx.
func (w *aheadWalk[T]) send(ctx context.Context, to chan<- *aheadRecord[T], r *aheadRecord[T]) bool {
	select {
	case to <- r:
		return true
	case <-ctx.Done():
		return false
	}
}

// check decodes records and prepares them, until there are no more.
func (w *aheadWalk[T]) check(ctx context.Context) {
	for r := range w.jobs {
		if ctx.Err() != nil {
			return
		}
		if r.err = w.decode(r); r.err == nil {
			w.prepare(r)
		}
		close(r.ready)
	}
}

func (w *aheadWalk[T]) decode(r *aheadRecord[T]) error {
	rec, err := parseRecord(r.body)
	if err != nil {
		return err
	}
	if rec.number != r.number {
		return fmt.Errorf("block [%d] is in its place", rec.number)
	}
	if rec.isGarbled() {
		return errGarbled
	}
	r.rec, r.hash, r.block = rec, protoutil.BlockHash(rec.header()), protoutil.ParseBlock(rec.block())
	return nil
}

// visitAll takes the records in order.
func (w *aheadWalk[T]) visitAll(ctx context.Context) error {
	prev := w.prev
	for next := w.from; next < w.to; next++ {
		r, err := w.receive(ctx, next)
		if err != nil {
			return err
		}
		if r.err == nil && prev != nil && !bytes.Equal(prev, r.rec.prevHash) {
			r.err = fmt.Errorf("its previous hash is [%x], the hash of block [%d] is [%x]", r.rec.prevHash, next-1, prev)
		}
		if r.err != nil {
			return w.s.damage(r.at.file, r.at.offset, "block [%d] expected: %v", next, r.err)
		}
		if err := w.visit(r); err != nil {
			return fmt.Errorf("block [%d] in %s at offset %d: %w", next, w.s.files.path(r.at.file), r.at.offset, err)
		}
		prev = r.hash
		w.room.Release(r.weight)
	}
	if t := w.s.currentTip(); t.checkpoint.height() == w.to && !bytes.Equal(t.hash, prev) {
		return w.s.damage(t.file, t.size, "block [%d] has the hash [%x], [%x] expected", w.to-1, prev, t.hash)
	}
	return nil
}

// receive waits for a record to be read and checked.
func (w *aheadWalk[T]) receive(ctx context.Context, number uint64) (*aheadRecord[T], error) {
	select {
	case r, ok := <-w.order:
		if !ok {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			t := w.s.currentTip()
			return nil, w.s.damage(t.file, t.size, "blocks up to [%d] expected, found up to [%d]", w.to-1, int64(number)-1)
		}
		select {
		case <-r.ready:
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			return r, nil
		case <-ctx.Done():
		}
	case <-ctx.Done():
	}
	return nil, context.Cause(ctx)
}
