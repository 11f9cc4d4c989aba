package channel

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/peer/validation"
)

// Limits of the blocks between scan and commit. At least one block is always
// admitted; a limit of one block makes the pipeline strictly serial.
const (
	aheadBlocks = 8
	aheadBytes  = 96 << 20
)

// committer is the ledger as the pipeline uses it.
type committer interface {
	validation.TxIndex
	// Commit makes the block durable and its effects visible to State and HasTx.
	// Where it has to wait for a state database that is out of reach, the end of
	// ctx ends that.
	Commit(ctx context.Context, b *protoutil.Block) error
	// State shows the committed state for the judging of a block; done is called
	// when it is needed no more. Its reads wait like Commit.
	State(ctx context.Context, block uint64) (state validation.State, done func(), err error)
}

// configuration is the channel's configuration as the pipeline uses it.
type configuration interface {
	// current is the configuration in force.
	current() *validation.ChannelConfig
	// verify checks a block from outside against the configuration in force.
	verify(b *protoutil.Block) error
	// apply puts the configuration of a committed config block in force.
	apply(b *protoutil.Block) error
}

// pipeline takes the blocks of one channel from the inbox into the ledger:
//
//	prepare: verify and scan -> judge -> commit and apply
//
// Each stage is one goroutine and keeps the order of the blocks, so blocks are
// judged and committed strictly in sequence, but block n may be judged, and n+1
// scanned, while n-1 is still being committed. What a block is judged by is
// nevertheless what it would be in strictly serial processing, because judging
// waits for the commit of earlier blocks where it must (validation.Scan.WaitFor),
// and because nothing is verified under a configuration that a block in flight
// may change.
type pipeline struct {
	inbox     *inbox
	validator *validation.Validator
	ledger    committer
	config    configuration
	expect    func(b *protoutil.Block) // before judging, in order; may be nil
	committed func(b *protoutil.Block) // after commit and apply
	flight    *flight
	metrics   *channelMetrics
	log       *flog.Logger
}

// scanned is a block between the stages.
type scanned struct {
	scan   *validation.Scan
	size   int
	err    error         // of judging, instead of a verdict
	judged time.Duration // how long that took
}

// run works until ctx ends (nil), or a block cannot be judged, committed or
// applied. Nothing after such a block is committed.
func (p *pipeline) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	toJudge := make(chan *scanned, aheadBlocks)
	toCommit := make(chan *scanned, aheadBlocks)
	g.Go(func() error { return ended(ctx, p.prepare(ctx, toJudge)) })
	g.Go(func() error { return ended(ctx, p.judge(ctx, toJudge, toCommit)) })
	g.Go(func() error { return ended(ctx, p.commit(ctx, toCommit)) })
	return g.Wait()
}

// ended is nil if err only says that ctx is over.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

func (p *pipeline) prepare(ctx context.Context, out chan<- *scanned) error {
	var afterConfig uint64 // blocks below this one must be committed before verifying
	for {
		a, err := p.inbox.peek(ctx)
		if err != nil {
			return err
		}
		if err := p.flight.wait(ctx, afterConfig); err != nil {
			return err
		}
		b := protoutil.ParseBlock(a.block)
		if err := p.config.verify(b); err != nil {
			p.log.Errorf("Block [%d] is rejected: %s", b.Number(), flog.ForeignError(err))
			p.inbox.reject(err)
			continue
		}
		p.inbox.advance()
		// Scanning before there is room would be wasted memory, not time.
		if err := p.flight.room(ctx, a.size); err != nil {
			return err
		}
		scan, err := p.validator.Scan(ctx, b)
		if err != nil {
			return err
		}
		if p.expect != nil {
			p.expect(b)
		}
		p.flight.add(scan, a.size)
		if scan.IsConfig() {
			afterConfig = b.Number() + 1
		}
		if err := send(ctx, out, &scanned{scan: scan, size: a.size}); err != nil {
			return err
		}
	}
}

func (p *pipeline) judge(ctx context.Context, in <-chan *scanned, out chan<- *scanned) error {
	for {
		s, err := receive(ctx, in)
		if err != nil {
			return err
		}
		start := time.Now()
		s.err = p.judgeOne(ctx, s.scan)
		s.judged = time.Since(start)
		p.metrics.validation.Observe(s.judged.Seconds())
		if ctx.Err() != nil {
			return ctx.Err()
		}
		// An error goes down the line so that the blocks before are committed.
		if err := send(ctx, out, s); err != nil {
			return err
		}
	}
}

func (p *pipeline) judgeOne(ctx context.Context, scan *validation.Scan) error {
	for {
		pending := p.flight.before(scan)
		config := p.config.current()
		n, wait := scan.WaitFor(pending, config.Rules.KeyLevel)
		if wait {
			// Ask again afterwards: the configuration may be another one then.
			if err := p.flight.wait(ctx, n+1); err != nil {
				return err
			}
			continue
		}
		state, done, err := p.ledger.State(ctx, scan.Block().Number())
		if err != nil {
			return &validation.FatalError{Execution: true, Err: fmt.Errorf("read state: %w", err)}
		}
		defer done()
		return p.validator.Judge(ctx, scan, validation.View{Config: config, State: state, Index: p.ledger, Pending: pending})
	}
}

func (p *pipeline) commit(ctx context.Context, in <-chan *scanned) error {
	for {
		s, err := receive(ctx, in)
		if err != nil {
			return err
		}
		if s.err != nil {
			return s.err
		}
		b, start := s.scan.Block(), time.Now()
		if err := p.ledger.Commit(ctx, b); err != nil {
			return err
		}
		took := time.Since(start)
		p.metrics.commit.Observe(took.Seconds())
		p.metrics.wholeWork.Observe((s.judged + took).Seconds())
		p.metrics.height.Set(float64(b.Number() + 1))
		p.metrics.buffered.Set(float64(p.inbox.len()))
		if s.scan.IsConfig() {
			if err := p.config.apply(b); err != nil {
				return err
			}
		}
		p.flight.land(s)
		p.committed(b)
	}
}

func send(ctx context.Context, ch chan<- *scanned, s *scanned) error {
	select {
	case ch <- s:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func receive(ctx context.Context, ch <-chan *scanned) (*scanned, error) {
	select {
	case s := <-ch:
		return s, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// flight knows the blocks between scan and commit.
type flight struct {
	limit int // of blocks

	mu      sync.Mutex // guards what follows
	height  uint64     // of the ledger
	scans   []*validation.Scan
	bytes   int
	changed chan struct{} // closed and replaced when height changes
}

func newFlight(height uint64, limit int) *flight {
	return &flight{limit: limit, height: height, changed: make(chan struct{})}
}

// until waits until ok says so.
func (f *flight) until(ctx context.Context, ok func() bool) error {
	for {
		f.mu.Lock()
		done, changed := ok(), f.changed
		f.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// wait waits until the ledger has the height.
func (f *flight) wait(ctx context.Context, height uint64) error {
	return f.until(ctx, func() bool { return f.height >= height })
}

// room waits until a block of that size may be added.
func (f *flight) room(ctx context.Context, size int) error {
	return f.until(ctx, func() bool {
		return len(f.scans) == 0 || (len(f.scans) < f.limit && f.bytes+size <= aheadBytes)
	})
}

func (f *flight) add(s *validation.Scan, size int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.scans = append(f.scans, s)
	f.bytes += size
}

// before returns the blocks in flight before that one, in order.
func (f *flight) before(s *validation.Scan) []*validation.Scan {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []*validation.Scan
	for _, other := range f.scans {
		if other == s {
			break
		}
		out = append(out, other)
	}
	return out
}

// land removes the oldest block, which has been committed.
func (f *flight) land(s *scanned) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.scans = f.scans[1:]
	f.bytes -= s.size
	f.height = s.scan.Block().Number() + 1
	close(f.changed)
	f.changed = make(chan struct{})
}
