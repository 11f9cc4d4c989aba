package stream

import (
	"strconv"
	"sync"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/internal/metrics"
)

// Metrics are those of the requests of chaincodes (SURFACE §4.1).
type Metrics struct {
	received, completed metrics.Counter
	duration            metrics.Histogram
}

// NewMetrics makes the metrics; once per process.
func NewMetrics(p metrics.Provider) *Metrics {
	withSuccess := []string{"type", "channel", "chaincode", "success"}
	return &Metrics{
		received: p.NewCounter(metrics.CounterOpts{
			Namespace: "chaincode", Name: "shim_requests_received",
			Help:         "The number of chaincode shim requests received.",
			LabelNames:   withSuccess[:3],
			StatsdFormat: "%{#fqname}.%{type}.%{channel}.%{chaincode}",
		}),
		completed: p.NewCounter(metrics.CounterOpts{
			Namespace: "chaincode", Name: "shim_requests_completed",
			Help:         "The number of chaincode shim requests completed.",
			LabelNames:   withSuccess,
			StatsdFormat: "%{#fqname}.%{type}.%{channel}.%{chaincode}.%{success}",
		}),
		duration: p.NewHistogram(metrics.HistogramOpts{
			Namespace: "chaincode", Name: "shim_request_duration",
			Help:         "The time to complete chaincode shim requests.",
			LabelNames:   withSuccess,
			StatsdFormat: "%{#fqname}.%{type}.%{channel}.%{chaincode}.%{success}",
		}),
	}
}

// requestMetrics remembers the labelled metrics of a stream: to label one
// costs more than many a request. Keys are a request type and the channel of
// a live transaction, so there are few.
type requestMetrics struct{ m sync.Map }

type requestKey struct {
	typ       peer.ChaincodeMessage_Type
	channelID string
}

type labelled struct {
	received metrics.Counter
	done     [2]metrics.Counter
	duration [2]metrics.Histogram
}

func (r *requestMetrics) of(m *Metrics, typ peer.ChaincodeMessage_Type, channelID, cname string) *labelled {
	key := requestKey{typ, channelID}
	if v, ok := r.m.Load(key); ok {
		return v.(*labelled)
	}
	labels := []string{"type", typ.String(), "channel", channelID, "chaincode", cname}
	l := &labelled{received: m.received.With(labels...)}
	for i := range l.done {
		labels := append(labels[:6:6], "success", strconv.FormatBool(i == 1))
		l.done[i], l.duration[i] = m.completed.With(labels...), m.duration.With(labels...)
	}
	r.m.Store(key, l)
	return l
}

func (l *labelled) completed(ok bool, took time.Duration) {
	i := 0
	if ok {
		i = 1
	}
	l.done[i].Add(1)
	l.duration[i].Observe(took.Seconds())
}
