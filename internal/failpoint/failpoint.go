// Package failpoint names the places where a test may stop a store. Every
// durable step asks its Points before and after; production passes a nil
// *Points, whose Hit costs one comparison. There is no global state.
package failpoint

import (
	"sort"
	"sync"
)

// Points holds what tests armed. The zero value is ready; nil is inert.
type Points struct {
	mu    sync.Mutex // guards the maps
	armed map[string]func(hit int) error
	hits  map[string]int
	watch func(name string)
}

// Hit reports that the named place was reached. An error from the armed
// function must be returned by the caller as its own failure.
func (p *Points) Hit(name string) error {
	if p == nil {
		return nil
	}
	return p.hit(name)
}

func (p *Points) hit(name string) error {
	p.mu.Lock()
	if p.hits == nil {
		p.hits = map[string]int{}
	}
	p.hits[name]++
	n, fn, watch := p.hits[name], p.armed[name], p.watch
	p.mu.Unlock()
	if watch != nil {
		watch(name)
	}
	if fn == nil {
		return nil
	}
	return fn(n)
}

// Arm sets the function called each time the named place is reached; it gets
// the number of times so far, from 1.
func (p *Points) Arm(name string, fn func(hit int) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.armed == nil {
		p.armed = map[string]func(int) error{}
	}
	p.armed[name] = fn
}

// Watch sets a function called each time any place is reached.
func (p *Points) Watch(fn func(name string)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watch = fn
}

// Disarm removes what Arm set.
func (p *Points) Disarm(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.armed, name)
}

// Seen lists the places reached so far, with counts, sorted by name. A crash
// test runs once without faults to learn where it can crash.
func (p *Points) Seen() []Seen {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]Seen, 0, len(p.hits))
	for name, n := range p.hits {
		out = append(out, Seen{Name: name, Hits: n})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

// Seen is one place and how often it was reached.
type Seen struct {
	Name string
	Hits int
}
