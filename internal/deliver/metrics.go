package deliver

import "github.com/heddle-ledger/heddle/internal/metrics"

// Metrics are the deliver_* metrics of SURFACE §4.1.
type Metrics struct {
	StreamsOpened     metrics.Counter
	StreamsClosed     metrics.Counter
	RequestsReceived  metrics.Counter
	RequestsCompleted metrics.Counter
	BlocksSent        metrics.Counter
}

// NewMetrics registers the metrics; a nil provider drops them. A process
// registers them once, whatever number of handlers it has.
func NewMetrics(p metrics.Provider) *Metrics {
	if p == nil {
		p = metrics.Disabled()
	}
	counter := func(name, help, labels string, names ...string) metrics.Counter {
		return p.NewCounter(metrics.CounterOpts{
			Namespace: "deliver", Name: name, Help: help, LabelNames: names,
			StatsdFormat: "%{#fqname}" + labels,
		})
	}
	return &Metrics{
		StreamsOpened: counter("streams_opened", "The number of GRPC streams that have been opened for the deliver service.", ""),
		StreamsClosed: counter("streams_closed", "The number of GRPC streams that have been closed for the deliver service.", ""),
		RequestsReceived: counter("requests_received", "The number of deliver requests that have been received.",
			".%{channel}.%{filtered}", "channel", "filtered"),
		RequestsCompleted: counter("requests_completed", "The number of deliver requests that have been completed.",
			".%{channel}.%{filtered}.%{success}", "channel", "filtered", "success"),
		BlocksSent: counter("blocks_sent", "The number of blocks sent by the deliver service.",
			".%{channel}.%{filtered}", "channel", "filtered"),
	}
}
