package state

import (
	"sync"
	"time"
)

// Nester is a DB whose Snapshot waits for an Apply that waits for other
// snapshots to be released. Who holds a snapshot of any channel already asks for
// another one with NestedSnapshot, or a circle of waiting would close.
type Nester interface {
	// NestedSnapshot is Snapshot, but it waits for an Apply under way only.
	NestedSnapshot() (Snapshot, error)
}

// Gate keeps snapshots and batches of a database apart that has no snapshots of
// its own (LEDGER §11.1). Like a sync.RWMutex it lets nobody new in while a
// batch waits, so that endorsements cannot hold up the chain for ever; unlike
// one it makes an exception for who is inside some gate already. The zero value
// is open.
type Gate struct {
	mu      sync.Mutex // guards what follows
	changed sync.Cond
	inside  int  // snapshots
	waiting int  // batches
	busy    bool // a batch is being applied
}

// Enter lets a snapshot in. It is the plain form, for databases that tests make up;
// CouchDB's snapshots come by EnterWithin.
func (g *Gate) Enter() { g.enter(false) }

// EnterNested lets the snapshot of somebody in who holds one already, of this
// database or of another.
func (g *Gate) EnterNested() { g.enter(true) }

// EnterWithin is Enter for who may hold a snapshot already without saying so:
// after some time of waiting it goes in like EnterNested.
func (g *Gate) EnterWithin(patience time.Duration) {
	late := false // guarded by g.mu
	timer := time.AfterFunc(patience, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		late = true
		g.changed.L = &g.mu
		g.changed.Broadcast()
	})
	defer timer.Stop()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.changed.L = &g.mu
	for g.busy || g.waiting > 0 && !late {
		g.changed.Wait()
	}
	g.inside++
}

func (g *Gate) enter(nested bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.changed.L = &g.mu
	for g.busy || g.waiting > 0 && !nested {
		g.changed.Wait()
	}
	g.inside++
}

// Leave ends a snapshot.
func (g *Gate) Leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	g.changed.Broadcast()
}

// Close waits until no snapshot is left, and keeps all out until Open.
func (g *Gate) Close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.changed.L = &g.mu
	g.waiting++
	for g.busy || g.inside > 0 {
		g.changed.Wait()
	}
	g.waiting--
	g.busy = true
}

// Open lets snapshots in again.
func (g *Gate) Open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.busy = false
	g.changed.Broadcast()
}
