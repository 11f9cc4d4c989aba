package cutter

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heddle-ledger/heddle/internal/metrics"
)

type message struct {
	name string
	size int
}

func (m message) Size() int { return m.size }

func names(batches [][]message) [][]string {
	var out [][]string
	for _, b := range batches {
		var list []string
		for _, m := range b {
			list = append(list, m.name)
		}
		out = append(out, list)
	}
	return out
}

func noHistogram() metrics.Histogram {
	return metrics.Disabled().NewHistogram(metrics.HistogramOpts{})
}

// TestVectors replays what the reference's cutter did.
func TestVectors(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("testdata/block_cutter.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Name              string `json:"name"`
		MaxMessageCount   uint32 `json:"max_message_count"`
		PreferredMaxBytes uint32 `json:"preferred_max_bytes"`
		Steps             []struct {
			In      string     `json:"in"`
			Size    int        `json:"payload_plus_signature_bytes"`
			Batches [][]string `json:"batches"`
			Pending bool       `json:"pending"`
		} `json:"steps"`
	}
	if err := json.Unmarshal(raw, &cases); err != nil {
		t.Fatal(err)
	}
	for _, tc := range cases {
		t.Run(tc.Name, func(t *testing.T) {
			t.Parallel()
			c := New[message](func() Limits { return Limits{tc.MaxMessageCount, tc.PreferredMaxBytes} }, noHistogram())
			for i, s := range tc.Steps {
				var batches [][]message
				pending := false
				if !strings.HasPrefix(s.In, "(cut") {
					batches, pending = c.Ordered(message{s.In, s.Size})
				} else if cut := c.Cut(); cut != nil {
					batches = [][]message{cut}
				}
				if diff := cmp.Diff(s.Batches, names(batches)); diff != "" || pending != s.Pending {
					t.Errorf("step %d %s: pending %t, batches (-want +got):\n%s", i, s.In, pending, diff)
				}
			}
		})
	}
}

type observed struct{ seconds []float64 }

func (o *observed) With(...string) metrics.Histogram { return o }
func (o *observed) Observe(s float64)                { o.seconds = append(o.seconds, s) }

func TestFillDuration(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var o observed
		c := New[message](func() Limits { return Limits{3, 100} }, &o)
		c.Cut() // nothing pending: nothing observed
		c.Ordered(message{"a", 10})
		time.Sleep(time.Second)
		c.Ordered(message{"b", 10})
		time.Sleep(time.Second)
		c.Ordered(message{"big", 101})
		if diff := cmp.Diff([]float64{2, 0}, o.seconds); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

func BenchmarkOrdered(b *testing.B) {
	c := New[message](func() Limits { return Limits{500, 2 << 20} }, noHistogram())
	m := message{"m", 3000}
	for b.Loop() {
		c.Ordered(m)
	}
}
