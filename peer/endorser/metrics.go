package endorser

import (
	"strconv"
	"sync"
	"time"

	"github.com/heddle-ledger/heddle/internal/metrics"
)

// endorserMetrics are the endorser_* metrics of SURFACE §4.1.
type endorserMetrics struct {
	received, successful, invalid metrics.Counter
	aclFailures, duplicates       metrics.Counter
	initFailures                  metrics.Counter
	endorsementFailures           metrics.Counter
	duration                      metrics.Histogram
	chaincodes                    labelValues
}

func newMetrics(p metrics.Provider) *endorserMetrics {
	counter := func(name, help string, labels ...string) metrics.Counter {
		return p.NewCounter(metrics.CounterOpts{
			Namespace: "endorser", Name: name, Help: help,
			LabelNames: labels, StatsdFormat: statsdFormat(labels),
		})
	}
	return &endorserMetrics{
		received:            counter("proposals_received", "The number of proposals received."),
		successful:          counter("successful_proposals", "The number of successful proposals."),
		invalid:             counter("proposal_validation_failures", "The number of proposals that have failed initial validation."),
		aclFailures:         counter("proposal_acl_failures", "The number of proposals that failed ACL checks.", "channel", "chaincode"),
		initFailures:        counter("chaincode_instantiation_failures", "The number of chaincode instantiations or upgrade that have failed.", "channel", "chaincode"),
		duplicates:          counter("duplicate_transaction_failures", "The number of failed proposals due to duplicate transaction ID.", "channel", "chaincode"),
		endorsementFailures: counter("endorsement_failures", "The number of failed endorsements.", "channel", "chaincode", "chaincodeerror"),
		duration: p.NewHistogram(metrics.HistogramOpts{
			Namespace: "endorser", Name: "proposal_duration", Help: "The time to complete a proposal.",
			LabelNames:   []string{"channel", "chaincode", "success"},
			StatsdFormat: "%{#fqname}.%{channel}.%{chaincode}.%{success}",
		}),
	}
}

func statsdFormat(labels []string) string {
	f := "%{#fqname}"
	for _, l := range labels {
		f += ".%{" + l + "}"
	}
	return f
}

// labels are the label values of a request, followed by more.
func (m *endorserMetrics) labels(r *request, more ...string) []string {
	chaincode := m.chaincodes.admit(r.chaincode.Name + ":" + r.chaincode.Version)
	return append([]string{"channel", r.channelID, "chaincode", chaincode}, more...)
}

// maxLabelValues bounds the values of the label chaincode, which clients choose:
// every value costs a time series for as long as the peer runs.
const maxLabelValues = 1000

// labelValues are the values of a label that are in use.
type labelValues struct {
	mu    sync.RWMutex // guards known
	known map[string]struct{}
}

// admit returns the value to use: that one, or "other" when there are too many.
func (l *labelValues) admit(value string) string {
	l.mu.RLock()
	_, ok := l.known[value]
	full := len(l.known) >= maxLabelValues
	l.mu.RUnlock()
	switch {
	case ok:
		return value
	case full:
		return "other"
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.known == nil {
		l.known = map[string]struct{}{}
	}
	l.known[value] = struct{}{}
	return value
}

func (m *endorserMetrics) observe(r *request, ok bool, took time.Duration) {
	m.duration.With(m.labels(r, "success", strconv.FormatBool(ok))...).Observe(took.Seconds())
}
