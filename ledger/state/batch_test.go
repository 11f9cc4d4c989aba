package state_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heddle-ledger/heddle/ledger/state"
)

// TestSpaceKeepsOrder: whatever the order of writes and questions, ranges and the
// sorted list have the last write of each key, by key.
func TestSpaceKeepsOrder(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(5, 6))
	s, model := state.NewSpace("cc", 0), map[string]state.Write{}
	within := func(start, end string) []state.Write {
		var out []state.Write
		for _, k := range slices.Sorted(maps.Keys(model)) {
			if k >= start && (end == "" || k < end) {
				out = append(out, model[k])
			}
		}
		return out
	}
	for n := range 3000 {
		w := state.Write{Key: fmt.Sprintf("%03d", rnd.IntN(800)), Version: state.Version{Block: uint64(n)}}
		s.Put(w)
		model[w.Key] = w
		if rnd.IntN(30) == 0 {
			start, end := fmt.Sprintf("%03d", rnd.IntN(800)), fmt.Sprintf("%03d", rnd.IntN(800))
			if rnd.IntN(4) == 0 {
				start, end = "", ""
			}
			if d := cmp.Diff(within(start, end), s.InRange(start, end)); d != "" {
				t.Fatalf("step %d, range %q to %q: %s", n, start, end, d)
			}
		}
		if rnd.IntN(200) == 0 {
			if d := cmp.Diff(within("", ""), s.Sorted()); d != "" {
				t.Fatalf("step %d: %s", n, d)
			}
		}
	}
}
