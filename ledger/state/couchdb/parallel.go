package couchdb

import "golang.org/x/sync/errgroup"

// parallel is work whose requests take turns at the provider's slots.
type parallel struct {
	group *errgroup.Group
	slots chan struct{}
}

func (p *Provider) parallel() *parallel {
	return &parallel{group: &errgroup.Group{}, slots: p.slots}
}

// Go runs one request, once there is a slot for it. It must not call Go or Wait
// of other work.
func (w *parallel) Go(f func() error) {
	w.group.Go(func() error {
		w.slots <- struct{}{}
		defer func() { <-w.slots }()
		return f()
	})
}

// Wait returns the first error.
func (w *parallel) Wait() error { return w.group.Wait() }
