package broadcast

import (
	"sync"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"

	"github.com/heddle-ledger/heddle/internal/metrics"
)

// maxSeries bounds the combinations of labels: channel and type are the client's
// words, which must not fill the memory.
const maxSeries = 1000

// Metrics are the broadcast_* metrics of SURFACE §4.1.
type Metrics struct {
	validate, enqueue metrics.Histogram
	processed         metrics.Counter

	mu     sync.RWMutex // guards series
	series map[seriesKey]*series
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

// observe counts an answer. A negative enqueued means that the engine was not
// asked.
func (m *Metrics) observe(j *job, status common.Status, enqueued time.Duration) {
	kind := unknown
	if j.message != nil {
		kind = j.message.Type().String()
	}
	s := m.get(seriesKey{j.channelID(), kind, status})
	s.processed.Add(1)
	s.validate.Observe(j.took.Seconds())
	if enqueued >= 0 {
		s.enqueue.Observe(enqueued.Seconds())
	}
}

func (m *Metrics) get(k seriesKey) *series {
	m.mu.RLock()
	s, ok := m.series[k]
	full := len(m.series) >= maxSeries
	m.mu.RUnlock()
	if ok {
		return s
	}
	if full {
		k.channel, k.kind = unknown, unknown
	}
	labels := []string{"channel", k.channel, "type", k.kind, "status", k.status.String()}
	s = &series{m.validate.With(labels...), m.enqueue.With(labels...), m.processed.With(labels...)}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.series[k] = s
	return s
}
