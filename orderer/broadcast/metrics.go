package broadcast

import (
	"strconv"
	"sync"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"

	"github.com/heddle-ledger/heddle/internal/metrics"
)

// maxSeries bounds the combinations of labels that are the client's own words:
// channels that do not exist, types without a name. Beyond it, and for words that
// are too long, the labels are "unknown"; what is real is counted in any case.
const (
	maxSeries = 1000
	maxLabel  = 249 // the longest channel id
)

// Metrics are the broadcast_* metrics of SURFACE §4.1.
type Metrics struct {
	validate, enqueue metrics.Histogram
	processed         metrics.Counter

	mu      sync.RWMutex // guards what follows
	series  map[seriesKey]*series
	foreign int // series with the client's own words
}

type seriesKey struct {
	channel, kind string
	status        common.Status
}

// series are the metrics with their labels, looked up once.
type series struct {
	validate, enqueue metrics.Histogram
	processed         metrics.Counter
}

// NewMetrics registers the metrics.
func NewMetrics(p metrics.Provider) *Metrics {
	const format = "%{#fqname}.%{channel}.%{type}.%{status}"
	labels := []string{"channel", "type", "status"}
	histogram := func(name, help string) metrics.Histogram {
		return p.NewHistogram(metrics.HistogramOpts{
			Namespace: "broadcast", Name: name, Help: help, LabelNames: labels, StatsdFormat: format,
		})
	}
	return &Metrics{
		validate: histogram("validate_duration", "The time to validate a transaction in seconds."),
		enqueue:  histogram("enqueue_duration", "The time to enqueue a transaction in seconds."),
		processed: p.NewCounter(metrics.CounterOpts{
			Namespace: "broadcast", Name: "processed_count", Help: "The number of transactions processed.",
			LabelNames: labels, StatsdFormat: format,
		}),
		series: make(map[seriesKey]*series),
	}
}

// observe counts an answer; exists tells whether there is a channel. A negative
// enqueued means that the engine was not asked.
func (m *Metrics) observe(j *job, status common.Status, enqueued time.Duration, exists func(id string) bool) {
	k := seriesKey{unknown, unknown, status}
	own := true
	if j.message != nil {
		k.channel, k.kind = j.message.ChannelHeader().ChannelId, typeName(j.message.Type())
		_, err := strconv.Atoi(k.kind)
		own = err != nil && exists(k.channel)
	}
	s := m.get(k, own)
	s.processed.Add(1)
	s.validate.Observe(j.took.Seconds())
	if enqueued >= 0 {
		s.enqueue.Observe(enqueued.Seconds())
	}
}

// typeName is the name of a header type in 1.4, or its number.
func typeName(t common.HeaderType) string {
	switch t {
	case 8: // the names of these two are gone from later releases
		return "PEER_ADMIN_OPERATION"
	case 9:
		return "TOKEN_TRANSACTION"
	default:
		return t.String()
	}
}

// get returns the metrics with their labels; own labels are not the client's
// words.
func (m *Metrics) get(k seriesKey, own bool) *series {
	m.mu.RLock()
	s, ok := m.series[k]
	m.mu.RUnlock()
	if ok {
		return s
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !own && (m.foreign >= maxSeries || len(k.channel) > maxLabel) {
		k.channel, k.kind = unknown, unknown
	}
	if s, ok := m.series[k]; ok {
		return s
	}
	labels := []string{"channel", k.channel, "type", k.kind, "status", k.status.String()}
	s = &series{m.validate.With(labels...), m.enqueue.With(labels...), m.processed.With(labels...)}
	m.series[k] = s
	if !own {
		m.foreign++
	}
	return s
}
