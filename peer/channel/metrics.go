package channel

import "github.com/heddle-ledger/heddle/internal/metrics"

// channelMetrics are the metrics of the way from the inbox to the ledger. Their
// names say gossip because that is the reference's room for it (SURFACE §4.1).
type channelMetrics struct {
	height, buffered              metrics.Gauge
	validation, commit, wholeWork metrics.Histogram
}

func newMetrics(p metrics.Provider) *channelMetrics {
	histogram := func(subsystem, name, help string) metrics.Histogram {
		return p.NewHistogram(metrics.HistogramOpts{
			Namespace: "gossip", Subsystem: subsystem, Name: name, Help: help,
			LabelNames: []string{"channel"}, StatsdFormat: "%{#fqname}.%{channel}",
		})
	}
	gauge := func(subsystem, name, help string) metrics.Gauge {
		return p.NewGauge(metrics.GaugeOpts{
			Namespace: "gossip", Subsystem: subsystem, Name: name, Help: help,
			LabelNames: []string{"channel"}, StatsdFormat: "%{#fqname}.%{channel}",
		})
	}
	return &channelMetrics{
		height:     gauge("state", "height", "Current ledger height"),
		buffered:   gauge("payload_buffer", "size", "Size of the payload buffer"),
		validation: histogram("privdata", "validation_duration", "Time it takes to validate a block (in seconds)"),
		commit: histogram("privdata", "commit_block_duration",
			"Time it takes to commit private data and the corresponding block (in seconds)"),
		wholeWork: histogram("state", "commit_duration", "Time it takes to commit a block in seconds"),
	}
}

// of returns the metrics with the channel's label.
func (m *channelMetrics) of(channel string) *channelMetrics {
	return &channelMetrics{
		height: m.height.With("channel", channel), buffered: m.buffered.With("channel", channel),
		validation: m.validation.With("channel", channel), commit: m.commit.With("channel", channel),
		wholeWork: m.wholeWork.With("channel", channel),
	}
}
