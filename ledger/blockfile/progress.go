package blockfile

// Walk is long work on the blocks of a channel.
type Walk struct {
	Channel string
	Work    string // what is done, in a word or two
	// Total is the number of blocks that will be behind the walk at its end,
	// From the number of those behind it at its beginning.
	From, Total uint64
}

// The walks of this package.
const (
	WorkIndex    = "index"    // blocks are indexed
	WorkReset    = "reset"    // blocks are removed
	WorkRollback = "rollback" // blocks are removed from index and files
)

// Progress shows walks. It is called when one begins, and what it returns is
// told by the same goroutine how far the walk is.
type Progress func(Walk) Watch

// Watch follows one walk.
type Watch interface {
	// Set tells how many blocks are behind the walk.
	Set(blocks uint64)
	// Done tells that the walk has ended, early or not.
	Done()
}

// Begin begins a walk; a nil Progress shows nothing.
func (p Progress) Begin(w Walk) Watch {
	if p == nil {
		return unwatched{}
	}
	return p(w)
}

// removal is a walk from the last block down.
type removal struct {
	watch Watch
	total uint64 // blocks to be removed
	last  uint64 // the block it begins with
	done  uint64
}

func beginRemoval(p Progress, w Walk, last uint64) *removal {
	return &removal{watch: p.Begin(w), total: w.Total, last: last}
}

// downTo tells that the blocks from this one on are gone, from the index or from
// the files, which come later.
func (r *removal) downTo(block uint64) {
	if block > r.last {
		return
	}
	r.done = max(r.done, min(r.last-block+1, r.total))
	r.watch.Set(r.done)
}

func (r *removal) all() { r.watch.Set(r.total) }

type unwatched struct{}

func (unwatched) Set(uint64) {}
func (unwatched) Done()      {}
