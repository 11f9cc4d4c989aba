package channel

import (
	"sync"

	"github.com/heddle-ledger/heddle/internal/chanconfig"
)

// Watch delivers the configurations of all channels as they come into force. It
// keeps only the newest one per channel, so a slow reader holds up nobody.
type Watch struct {
	// C has an element when Take has something to return.
	C <-chan struct{}

	registry *Registry
	signal   chan struct{}

	mu      sync.Mutex // guards bundles
	bundles map[string]*chanconfig.Bundle
}

// Watch starts with the channels there are.
func (r *Registry) Watch() *Watch {
	signal := make(chan struct{}, 1)
	w := &Watch{C: signal, signal: signal, registry: r, bundles: map[string]*chanconfig.Bundle{}}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.watchers[w] = struct{}{}
	for _, c := range r.channels {
		w.offer(c.Bundle())
	}
	return w
}

// Close ends the watch.
func (w *Watch) Close() {
	w.registry.mu.Lock()
	defer w.registry.mu.Unlock()
	delete(w.registry.watchers, w)
}

// Take returns the configurations that are new since the last call, by channel.
func (w *Watch) Take() map[string]*chanconfig.Bundle {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.bundles
	w.bundles = map[string]*chanconfig.Bundle{}
	return out
}

func (w *Watch) offer(b *chanconfig.Bundle) {
	w.mu.Lock()
	w.bundles[b.ChannelID()] = b
	w.mu.Unlock()
	select {
	case w.signal <- struct{}{}:
	default:
	}
}

// publish tells the watchers of a channel's new configuration.
func (r *Registry) publish(c *Channel) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for w := range r.watchers {
		w.offer(c.Bundle())
	}
}
