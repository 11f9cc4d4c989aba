package audit

import (
	"context"
	"errors"
	"io/fs"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/heddle-ledger/heddle/internal/progress"
)

// perBlock and perByte estimate the memory that a block takes while it is looked
// at.
const (
	perBlock = 16 << 10
	perByte  = 4
)

// pipeline takes the blocks of a channel from their files through the examiners,
// which work beside each other, then in order through what needs the order, then
// to the judges of signatures. What is on the way takes a bounded amount of
// memory.
type pipeline struct {
	v    *verifier
	w    *walker
	show *progress.Progress
	room *semaphore.Weighted

	queue  chan *job // to be examined
	order  chan *job // the same in order, to be examined or not
	signed chan *job // whose signatures are to be judged
}

// walk sends all blocks through a pipeline.
func (v *verifier) walk(ctx context.Context) error {
	w, err := newWalker(v.d, v.id, v.add)
	if errors.Is(err, fs.ErrNotExist) {
		v.add(Finding{
			Severity: Damage, Kind: checkFiles, File: v.d.chainDir(v.id), Problem: "the directory of the channel's block files is missing",
			Consequence: "the channel's blocks are lost", Remedy: remedyCopy,
		})
		return nil
	}
	if err != nil {
		return err
	}
	defer w.files.Close()
	w.committed = v.committed
	show := progress.New(v.o.Progress, v.id, 0, v.estimate(w))
	defer show.Done()
	p := &pipeline{
		v: v, w: w, show: show, room: semaphore.NewWeighted(v.o.Memory),
		queue: make(chan *job), order: make(chan *job, 16*v.o.Workers), signed: make(chan *job),
	}
	if err := p.run(ctx); err != nil {
		return err
	}
	v.end, v.files = w.end, w.list
	v.report.Height = w.next
	for _, info := range w.list {
		v.report.Bytes += info.Size
	}
	return nil
}

// estimate is the number of blocks to come, for the progress display.
func (v *verifier) estimate(w *walker) uint64 {
	n := v.indexed
	if v.checkpoint != nil {
		n = max(n, v.believable(v.checkpoint.Height))
	}
	if n == 0 && v.o.Progress != nil {
		n = w.count()
	}
	return n
}

func (p *pipeline) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(p.queue)
		defer close(p.order)
		return p.w.run(ctx, func(rec *record) error { return p.enqueue(ctx, rec) })
	})
	for range p.v.o.Workers {
		g.Go(p.examine)
		g.Go(p.judge)
	}
	g.Go(func() error {
		defer close(p.signed)
		return p.sequence(ctx)
	})
	return g.Wait()
}

// enqueue hands a block on when there is room for it.
func (p *pipeline) enqueue(ctx context.Context, rec *record) error {
	j := &job{record: rec, done: make(chan struct{}), weight: min(p.v.o.Memory, perBlock+perByte*int64(len(rec.body)))}
	if err := p.room.Acquire(ctx, j.weight); err != nil {
		return err
	}
	for _, to := range []chan<- *job{p.order, p.queue} {
		if err := send(ctx, to, j); err != nil {
			return err
		}
	}
	return nil
}

func send(ctx context.Context, to chan<- *job, j *job) error {
	select {
	case to <- j:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (p *pipeline) examine() error {
	e := &examiner{v: p.v, sum: summer{seeds: p.v.seeds}}
	if p.v.couch != nil {
		e.spaces = spaceSet{}
	}
	defer p.v.collect(e)
	for j := range p.queue {
		e.examine(j)
		close(j.done)
	}
	return nil
}

func (p *pipeline) sequence(ctx context.Context) error {
	for j := range p.order {
		select {
		case <-j.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := p.v.sequence(j); err != nil {
			return err
		}
		p.show.Set(j.number() + 1)
		if err := send(ctx, p.signed, j); err != nil {
			return err
		}
	}
	return nil
}

func (p *pipeline) judge() error {
	for j := range p.signed {
		if !p.v.hashOnly {
			p.v.verifySignatures(j)
		}
		p.room.Release(j.weight)
	}
	return nil
}

// collect adds up what an examiner found.
func (v *verifier) collect(e *examiner) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.total.counts.join(e.counts)
	v.total.index.join(e.index)
	v.total.history.join(e.history)
	v.total.spaces.join(e.spaces)
}

// sequence is what needs the blocks in order.
func (v *verifier) sequence(j *job) error {
	if v.values != nil {
		if err := v.follow(j); err != nil {
			return err
		}
	} else if j.needsValues {
		v.unhashed = append(v.unhashed, j.number())
	}
	if v.hashOnly {
		return nil
	}
	v.prior, v.last = v.last, j.block
	if j.number() == 0 {
		v.genesis = j.block
	}
	if j.isConf {
		v.configBlock = j.block
	}
	v.configure(j)
	v.lastConfig(j)
	return v.matchPrivate(j)
}

// replays tells whether the updates of a block are of use.
func (v *verifier) replays(j *job) bool { return v.values != nil || len(j.stored) > 0 }
