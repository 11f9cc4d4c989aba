package support

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/heddle-ledger/heddle/chaincode/runtime"
	"github.com/heddle-ledger/heddle/chaincode/stream"
)

var errClosed = errors.New("the peer is shutting down")

// registry knows the connected chaincodes and the launches in progress, by
// name NAME:VERSION.
type registry struct {
	devMode bool
	tasks   sync.WaitGroup // goroutines of launches

	mu        sync.RWMutex // guards everything below
	closed    bool
	handlers  map[string]*handler
	launches  map[string]*launch
	instances map[string]*instance // the latest started, running or not
	cancels   map[*launch]context.CancelFunc
}

// handler is a registered stream; ready once READY has been queued.
type handler struct {
	stream *stream.Stream
	ready  bool
}

type instance struct{ runtime.Instance }

// launch is a launch in progress. done is closed, after err has been set, when
// it is decided.
type launch struct {
	done chan struct{}
	// decided and abandoned are guarded by the registry's lock.
	decided, abandoned bool
	stream             *stream.Stream
	err                error
}

func newRegistry(devMode bool) *registry {
	return &registry{
		devMode: devMode, handlers: map[string]*handler{}, launches: map[string]*launch{},
		instances: map[string]*instance{}, cancels: map[*launch]context.CancelFunc{},
	}
}

// connected returns the stream of a chaincode that is ready, or nil.
func (r *registry) connected(cname string) *stream.Stream {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if h := r.handlers[cname]; h != nil && h.ready {
		return h.stream
	}
	return nil
}

// register admits a stream (CHAINCODE §2.1).
func (r *registry) register(st *stream.Stream) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if st.Ended() {
		return stream.ErrTerminated // after deregister nobody would remove it
	}
	cname := st.CName()
	l := r.launches[cname]
	if r.handlers[cname] != nil {
		err := fmt.Errorf("duplicate chaincodeID: %s", cname)
		if l != nil {
			l.decide(nil, fmt.Errorf("chaincode registration failed: %w", err))
		}
		return err
	}
	if (l == nil || l.decided || l.abandoned) && !r.devMode {
		return fmt.Errorf("peer will not accept external chaincode connection %s (except in dev mode)", cname)
	}
	r.handlers[cname] = &handler{stream: st}
	return nil
}

// registered opens an admitted stream for executions and releases the launch
// that waits for it.
func (r *registry) registered(st *stream.Stream) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.handlers[st.CName()]
	if h == nil || h.stream != st {
		return
	}
	l := r.launches[st.CName()]
	if l == nil || !l.abandoned {
		h.ready = true
		if l != nil {
			l.decide(st, nil)
		}
		return
	}
	// The instance of that launch is being stopped; but in development mode
	// this may be a chaincode started by hand.
	h.ready = r.devMode
}

// deregister forgets a stream that has ended, unless the name has never been
// or is no longer its own.
func (r *registry) deregister(st *stream.Stream) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if h := r.handlers[st.CName()]; h != nil && h.stream == st {
		delete(r.handlers, st.CName())
	}
}

// join returns the stream if there is one, else the launch in progress; begun
// tells that the caller has to carry it out, bounded by ctx.
func (r *registry) join(cname string) (st *stream.Stream, l *launch, begun bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if h := r.handlers[cname]; h != nil && h.ready {
		return h.stream, nil, false, nil
	}
	if l := r.launches[cname]; l != nil {
		return nil, l, false, nil
	}
	if r.closed {
		return nil, nil, false, errClosed
	}
	l = &launch{done: make(chan struct{})}
	r.launches[cname] = l
	r.tasks.Add(1)
	return nil, l, true, nil
}

// lifetime returns a context that ends with the registry; over is called when
// the launch and the watch over its chaincode have ended.
func (r *registry) lifetime(l *launch) (ctx context.Context, over func()) {
	ctx, cancel := context.WithCancel(context.Background())
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		cancel()
	}
	r.cancels[l] = cancel
	return ctx, func() {
		cancel()
		r.mu.Lock()
		delete(r.cancels, l)
		r.mu.Unlock()
		r.tasks.Done()
	}
}

// abandon lets nobody register for a launch any more; false if it is decided.
// Those who wait for it go on waiting until finish, that is until what it
// started is gone and cannot come in the way of another launch.
func (r *registry) abandon(l *launch) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	l.abandoned = !l.decided
	return l.abandoned
}

// finish removes a launch from the list of those in progress, deciding it if
// nobody has, and returns its outcome.
func (r *registry) finish(cname string, l *launch, err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	l.decide(nil, err)
	delete(r.launches, cname)
	return l.err
}

// record notes the instance that is started for a name.
func (r *registry) record(cname string, inst runtime.Instance) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.instances[cname] = &instance{inst}
}

// take forgets the latest instance of a name and returns it, nil if there is
// none.
func (r *registry) take(cname string) *instance {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.instances[cname]
	delete(r.instances, cname)
	return old
}

func (r *registry) close() {
	r.mu.Lock()
	r.closed = true
	for _, cancel := range r.cancels {
		cancel()
	}
	r.mu.Unlock()
	r.tasks.Wait()
}

// decide settles the launch once; later outcomes are ignored.
func (l *launch) decide(st *stream.Stream, err error) {
	if l.decided {
		return
	}
	l.decided, l.stream, l.err = true, st, err
	close(l.done)
}
