package validation

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
)

// Pool bounds how many transactions are judged at once in the whole process
// (peer.validatorPoolSize). It owns no goroutine between calls of Run.
type Pool struct {
	slots chan struct{}
}

// NewPool returns a pool for size transactions at once; 0 or less means one per
// CPU.
func NewPool(size int) *Pool {
	if size <= 0 {
		size = runtime.GOMAXPROCS(0)
	}
	return &Pool{slots: make(chan struct{}, size)}
}

// Run calls work for 0..n-1, in chunks, and returns when all calls have
// returned or, without having started the rest, when ctx ends.
//
// Indexes are handed out in ascending order, a chunk only ever by somebody who
// holds a slot, and the slot is kept until the chunk is done. So work(i) may
// wait for work(j) with j < i: the lowest unfinished index is always running.
func (p *Pool) Run(ctx context.Context, n, chunk int, work func(i int)) error {
	if n == 0 {
		return ctx.Err()
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	workers := min(cap(p.slots), (n+chunk-1)/chunk)
	loop := func() {
		for {
			select {
			case p.slots <- struct{}{}:
			case <-ctx.Done():
				return
			}
			start := int(next.Add(int64(chunk))) - chunk
			for i := start; i < min(start+chunk, n); i++ {
				work(i)
			}
			<-p.slots
			if start+chunk >= n {
				return
			}
		}
	}
	for range workers - 1 {
		wg.Go(loop)
	}
	loop()
	wg.Wait()
	return ctx.Err()
}
