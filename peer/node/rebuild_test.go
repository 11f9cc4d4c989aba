package node

import (
	"context"
	"errors"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/peer/endorser"
)

const refused = "endorse requests are blocked while ledgers are being rebuilt"

// rebuilding is a rebuild of two channels on a table of heights.
func rebuilding(t *testing.T, now map[string]uint64) (r *rebuild, cleared *map[string]uint64) {
	cleared = &map[string]uint64{}
	return &rebuild{
		heights: map[string]uint64{"a": 5, "b": 3},
		height:  func(id string) (uint64, bool) { h, ok := now[id]; return h, ok },
		done:    func(h map[string]uint64) error { *cleared = maps.Clone(h); return nil },
		log:     flog.ForTest(t),
	}, cleared
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
		now := map[string]uint64{"a": 5, "b": 2}
		r, cleared := rebuilding(t, now)
		ended := make(chan error, 1)
		go func() { ended <- r.Run(t.Context()) }()
		wait := func(d time.Duration) { time.Sleep(d); synctest.Wait() }
		for range 3 {
			if wait(rebuildPoll); ask(r) != refused || len(*cleared) != 0 {
				t.Fatal("the refusal ended early")
			}
		}
		now["a"], now["b"] = 1, 4 // a has been seen at its height
		if wait(rebuildPoll - time.Second); ask(r) != refused {
			t.Fatal("the heights were looked at between two ticks")
		}
		if wait(time.Second); ask(r) != "" || !maps.Equal(*cleared, r.heights) {
			t.Fatalf("answer %q, cleared %v", ask(r), *cleared)
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
		r, _ := rebuilding(t, map[string]uint64{"a": 5, "b": 3})
		r.done = func(map[string]uint64) error { return errors.New("read-only file system") }
		if err := r.Run(t.Context()); err != nil || ask(r) != "" {
			t.Errorf("%v, %q", err, ask(r))
		}
	})
}
