package node

import (
	"context"
	"errors"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/peer/endorser"
)

const refused = "endorse requests are blocked while ledgers are being rebuilt"

// heightTable stands for the channels and their records.
type heightTable struct {
	mu      sync.Mutex // guards the fields
	now     map[string]uint64
	cleared map[string]uint64
	failure error // of done
}

func (h *heightTable) set(now map[string]uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = now
}

func (h *heightTable) height(id string) (uint64, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	v, ok := h.now[id]
	return v, ok
}

func (h *heightTable) done(heights map[string]uint64) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cleared = heights
	return h.failure
}

func (h *heightTable) forgotten() map[string]uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.cleared
}

// rebuilding is a rebuild of two channels.
func rebuilding(t *testing.T, now map[string]uint64) (*rebuild, *heightTable) {
	h := &heightTable{now: now}
	return &rebuild{
		heights: map[string]uint64{"a": 5, "b": 3}, height: h.height, done: h.done, log: flog.ForTest(t),
	}, h
}

func ask(r *rebuild) string {
	if err := endorser.BlockWhile(r.active)(context.Background(), nil); err != nil {
		return err.Error()
	}
	return ""
}

// TestRebuildEnds lifts the refusal at the first look after the last channel has
// reached its height, and forgets the heights then.
func TestRebuildEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, channels := rebuilding(t, map[string]uint64{"a": 5, "b": 2})
		ended := make(chan error, 1)
		go func() { ended <- r.Run(t.Context()) }()
		wait := func(d time.Duration) { time.Sleep(d); synctest.Wait() }
		for range 3 {
			if wait(rebuildPoll); ask(r) != refused || channels.forgotten() != nil {
				t.Fatal("the refusal ended early")
			}
		}
		channels.set(map[string]uint64{"a": 1, "b": 4}) // a has been seen at its height
		if wait(rebuildPoll - time.Second); ask(r) != refused {
			t.Fatal("the heights were looked at between two ticks")
		}
		if wait(time.Second); ask(r) != "" || !maps.Equal(channels.forgotten(), r.heights) {
			t.Fatalf("answer %q, cleared %v", ask(r), channels.forgotten())
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// TestRebuildOfUnopenedChannel never ends, except with the peer.
func TestRebuildOfUnopenedChannel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := rebuilding(t, map[string]uint64{"a": 9})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.Run(ctx) }()
		time.Sleep(100 * rebuildPoll)
		if ask(r) != refused {
			t.Error("endorses while a channel is not open")
		}
		cancel()
		if err := <-ended; err != nil || ask(r) != refused {
			t.Errorf("at the end: %v, %q", err, ask(r))
		}
	})
}

// TestRebuildKeepsRecords: heights that cannot be removed do not keep the peer
// from endorsing.
func TestRebuildKeepsRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, channels := rebuilding(t, map[string]uint64{"a": 5, "b": 3})
		channels.failure = errors.New("read-only file system")
		if err := r.Run(t.Context()); err != nil || ask(r) != "" {
			t.Errorf("%v, %q", err, ask(r))
		}
	})
}
