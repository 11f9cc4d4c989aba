package node

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heddle-ledger/heddle/chaincode/runtime/process"
	"github.com/heddle-ledger/heddle/chaincode/support"
	"github.com/heddle-ledger/heddle/internal/metrics"
	"github.com/heddle-ledger/heddle/internal/rpc"
	"github.com/heddle-ledger/heddle/ledger"
	"github.com/heddle-ledger/heddle/ledger/state"
	"github.com/heddle-ledger/heddle/ledger/state/couchdb"
	"github.com/heddle-ledger/heddle/ledger/state/couchdb/couchtest"
	"github.com/heddle-ledger/heddle/peer/channel"
	"github.com/heddle-ledger/heddle/peer/endorser"
	"github.com/heddle-ledger/heddle/peer/events"
)

// metric is a metric as recorded of the reference.
type metric struct {
	Name, Type, Help string
	Labels           []string
	Statsd           string
	Buckets          any
}

// recorder is a metrics provider that notes what it is asked for.
type recorder struct{ made map[string]metric }

func (r *recorder) note(typ string, o metrics.CounterOpts, buckets []float64) {
	parts := slices.DeleteFunc([]string{o.Namespace, o.Subsystem, o.Name}, func(s string) bool { return s == "" })
	m := metric{Name: strings.Join(parts, "_"), Type: typ, Help: o.Help, Labels: slices.Clone(o.LabelNames)}
	m.Statsd = strings.Join(parts, ".")
	if o.StatsdFormat != "" {
		m.Statsd = strings.ReplaceAll(o.StatsdFormat, "%{#fqname}", m.Statsd)
	}
	if typ == "histogram" {
		m.Buckets = "default"
		if buckets != nil {
			list := make([]any, len(buckets))
			for i, b := range buckets {
				list[i] = b
			}
			m.Buckets = list
		}
	}
	r.made[m.Name] = m
}

func (r *recorder) NewCounter(o metrics.CounterOpts) metrics.Counter {
	r.note("counter", o, nil)
	return metrics.Disabled().NewCounter(o)
}

func (r *recorder) NewGauge(o metrics.GaugeOpts) metrics.Gauge {
	r.note("gauge", metrics.CounterOpts{Namespace: o.Namespace, Subsystem: o.Subsystem, Name: o.Name, Help: o.Help, LabelNames: o.LabelNames, StatsdFormat: o.StatsdFormat}, nil)
	return metrics.Disabled().NewGauge(o)
}

func (r *recorder) NewHistogram(o metrics.HistogramOpts) metrics.Histogram {
	r.note("histogram", metrics.CounterOpts{Namespace: o.Namespace, Subsystem: o.Subsystem, Name: o.Name, Help: o.Help, LabelNames: o.LabelNames, StatsdFormat: o.StatsdFormat}, o.Buckets)
	return metrics.Disabled().NewHistogram(o)
}

// absent tells the metrics of the reference that belong to parts this version
// does not have. Those of the operations endpoint are tested there.
func absent(name string) bool {
	switch name {
	case "fabric_version", "logging_entries_checked", "logging_entries_written":
		return true
	case "gossip_state_height", "gossip_state_commit_duration", "gossip_payload_buffer_size",
		"gossip_privdata_validation_duration", "gossip_privdata_commit_block_duration":
		return false
	}
	return strings.HasPrefix(name, "gossip_")
}

// TestMetricsAreThoseOfTheReference: names, kinds, help texts, labels, buckets
// and StatsD names (SURFACE §4.1).
func TestMetricsAreThoseOfTheReference(t *testing.T) {
	t.Parallel()
	r := &recorder{made: map[string]metric{}}
	rpc.NewServerMetrics(r)
	endorser.New(endorser.Config{Metrics: r})
	events.New(events.Config{Metrics: r})
	support.New(support.Config{Metrics: r})
	channel.New(channel.Config{Metrics: r})
	rt, err := process.Open(process.Config{Dir: t.TempDir(), Metrics: r})
	if err != nil {
		t.Fatal(err)
	}
	defer rt.Close()
	l, err := ledger.OpenProvider(ledger.Config{Dir: t.TempDir(), Metrics: r, OpenState: func() (state.Provider, error) {
		return couchdb.OpenProvider(t.Context(), couchdb.Config{Address: couchtest.Server(t), Metrics: r})
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()

	raw, err := os.ReadFile("testdata/metrics.json")
	if err != nil {
		t.Fatal(err)
	}
	var recorded []metric
	if err := json.Unmarshal(raw, &recorded); err != nil {
		t.Fatal(err)
	}
	for _, want := range recorded {
		got, made := r.made[want.Name]
		delete(r.made, want.Name)
		switch {
		case made && absent(want.Name):
			t.Errorf("%s is there now: take it off the list", want.Name)
		case !made && !absent(want.Name):
			t.Errorf("%s is missing", want.Name)
		case made:
			if len(want.Labels) == 0 {
				want.Labels = got.Labels[:0:0]
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("%s: %s", want.Name, d)
			}
		}
	}
	for name := range r.made {
		t.Errorf("%s is not a metric of the reference", name)
	}
}
