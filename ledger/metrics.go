package ledger

import (
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/internal/metrics"
	"github.com/heddle-ledger/heddle/internal/protoutil"
)

// providerMetrics are the ledger's metrics (SURFACE §4.1); height and block
// storage time belong to package blockfile.
type providerMetrics struct {
	processing, storage, state metrics.Histogram
	transactions               metrics.Counter
}

func newProviderMetrics(p metrics.Provider) *providerMetrics {
	histogram := func(name, help string) metrics.Histogram {
		return p.NewHistogram(metrics.HistogramOpts{
			Namespace: "ledger", Name: name, Help: help,
			LabelNames:   []string{"channel"},
			StatsdFormat: "%{#fqname}.%{channel}",
			Buckets:      []float64{0.005, 0.01, 0.015, 0.05, 0.1, 1, 10},
		})
	}
	return &providerMetrics{
		processing: histogram("block_processing_time", "Time taken in seconds for ledger block processing."),
		storage: histogram("blockstorage_and_pvtdata_commit_time",
			"Time taken in seconds for committing the block and private data to storage."),
		state: histogram("statedb_commit_time", "Time taken in seconds for committing block changes to state db."),
		transactions: p.NewCounter(metrics.CounterOpts{
			Namespace: "ledger", Name: "transaction_count", Help: "Number of transactions processed.",
			LabelNames:   []string{"channel", "transaction_type", "chaincode", "validation_code"},
			StatsdFormat: "%{#fqname}.%{channel}.%{transaction_type}.%{chaincode}.%{validation_code}",
		}),
	}
}

// ledgerMetrics are the metrics of one channel.
type ledgerMetrics struct {
	channel                    string
	processing, storage, state metrics.Histogram
	transactions               metrics.Counter
	series                     map[txKind]metrics.Counter
}

// txKind is what transactions are counted by.
type txKind struct {
	header        int32
	name, version string
	code          byte
}

// maxSeries bounds the counters of a channel. Names of chaincodes come from
// transactions, also from invalid ones, so whoever may write to the channel could
// make any number of them; beyond the bound new ones count as unknown.
const maxSeries = 1024

// maxLabel bounds the bytes of a chaincode's name and version in a label, for the
// same reason: a name may be as long as a transaction. Longer ones count as
// unknown.
const maxLabel = 256

func (m *providerMetrics) forChannel(id string) *ledgerMetrics {
	return &ledgerMetrics{
		channel:      id,
		processing:   m.processing.With("channel", id),
		storage:      m.storage.With("channel", id),
		state:        m.state.With("channel", id),
		transactions: m.transactions,
		series:       map[txKind]metrics.Counter{},
	}
}

// count adds a committed block's transactions. It is called by the committer
// only.
func (m *ledgerMetrics) count(b *protoutil.Block, flags []byte) {
	counts := map[txKind]int{}
	for i := 0; i < b.Len(); {
		k, first := kindOf(b.Tx(i), flags[i]), i
		for i++; i < b.Len() && kindOf(b.Tx(i), flags[i]) == k; { // as a rule to the end
			i++
		}
		counts[k] += i - first
	}
	for k, n := range counts {
		m.counter(k).Add(float64(n))
	}
}

func (m *ledgerMetrics) counter(k txKind) metrics.Counter {
	if m.series[k] == nil && len(m.series) >= maxSeries {
		k = txKind{header: -1, code: k.code}
	}
	c := m.series[k]
	if c == nil {
		c = m.transactions.With("channel", m.channel, "transaction_type", k.typeLabel(),
			"chaincode", k.chaincodeLabel(), "validation_code", peer.TxValidationCode(k.code).String())
		m.series[k] = c
	}
	return c
}

func kindOf(tx *protoutil.Tx, code byte) txKind {
	k := txKind{header: -1, code: code}
	ch, err := tx.ChannelHeader()
	if err != nil {
		return k
	}
	k.header = ch.Type
	if ch.Type == int32(common.HeaderType_ENDORSER_TRANSACTION) {
		if a, err := tx.Action(); err == nil {
			id := a.GetChaincodeId()
			if len(id.GetName())+len(id.GetVersion()) <= maxLabel {
				k.name, k.version = id.GetName(), id.GetVersion()
			}
		}
	}
	return k
}

func (k txKind) typeLabel() string {
	if k.header < 0 {
		return "unknown"
	}
	return common.HeaderType(k.header).String()
}

func (k txKind) chaincodeLabel() string {
	if k.name == "" {
		return "unknown"
	}
	return k.name + ":" + k.version
}

func millis(d time.Duration) int64 { return d.Milliseconds() }
