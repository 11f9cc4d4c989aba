package ledger

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/metrics"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/vfs"
)

// recorder is a metrics provider that remembers what it was told.
type recorder struct {
	mu     sync.Mutex // guards values
	values map[string]float64
}

func (r *recorder) NewCounter(o metrics.CounterOpts) metrics.Counter {
	return counter{series{r, o.Namespace + "_" + o.Name}}
}

func (r *recorder) NewGauge(o metrics.GaugeOpts) metrics.Gauge {
	return gauge{series{r, o.Namespace + "_" + o.Name}}
}

func (r *recorder) NewHistogram(o metrics.HistogramOpts) metrics.Histogram {
	return histogram{series{r, o.Namespace + "_" + o.Name}}
}

type series struct {
	r    *recorder
	name string
}

func (s series) with(labels []string) series {
	return series{s.r, s.name + "{" + strings.Join(labels, ",") + "}"}
}

func (s series) add(v float64) {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	s.r.values[s.name] += v
}

type (
	counter   struct{ series }
	gauge     struct{ series }
	histogram struct{ series }
)

func (c counter) With(l ...string) metrics.Counter     { return counter{c.with(l)} }
func (c counter) Add(v float64)                        { c.add(v) }
func (g gauge) With(l ...string) metrics.Gauge         { return gauge{g.with(l)} }
func (g gauge) Add(v float64)                          { g.add(v) }
func (g gauge) Set(float64)                            {}
func (h histogram) With(l ...string) metrics.Histogram { return histogram{h.with(l)} }
func (h histogram) Observe(float64)                    { h.add(1) }

func TestReport(t *testing.T) {
	var out bytes.Buffer
	logging, err := flog.New(&out, "%{module} %{message}", "")
	must(t, err)
	r := &recorder{values: map[string]float64{}}
	p := openProvider(t, Config{
		Dir: testDir, FS: vfs.NewMem(), Metrics: r,
		Log: logging.Logger("peer"),
	})
	l, err := p.Create(genesisOf("ch"))
	must(t, err)
	genesis, err := l.BlockByNumber(0)
	must(t, err)
	must(t, l.Commit(stampBlock(t, genesis)))
	line := regexp.MustCompile(`(?m)\[ch\] Committed block \[1\] with 10 transaction\(s\) in \d+ms \(state_validation=\d+ms block_and_pvtdata_commit=\d+ms state_commit=\d+ms\) commitHash=\[[0-9a-f]{64}\]$`)
	if !line.MatchString(out.String()) {
		t.Errorf("log: %s", out.String())
	}
	var got []string
	for name, v := range r.values {
		got = append(got, fmt.Sprintf("%s %v", name, v))
	}
	slices.Sort(got)
	want := []string{
		"ledger_block_processing_time{channel,ch} 2",
		"ledger_blockstorage_and_pvtdata_commit_time{channel,ch} 2",
		"ledger_blockstorage_commit_time{channel,ch} 2",
		"ledger_statedb_commit_time{channel,ch} 2",
		"ledger_transaction_count{channel,ch,transaction_type,CONFIG,chaincode,unknown,validation_code,VALID} 1",
		"ledger_transaction_count{channel,ch,transaction_type,ENDORSER_TRANSACTION,chaincode,mycc:1.0,validation_code,VALID} 10",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestCountersAreBounded: names made up in transactions do not make counters
// without end.
func TestCountersAreBounded(t *testing.T) {
	r := &recorder{values: map[string]float64{}}
	m := newProviderMetrics(r).forChannel("ch")
	for i := range 3 * maxSeries {
		m.counter(txKind{header: int32(i), name: fmt.Sprint("cc", i), code: 7}).Add(1)
	}
	if len(r.values) != maxSeries+1 {
		t.Errorf("%d counters", len(r.values))
	}
	for name, n := range r.values {
		if n > 1 && n != 2*maxSeries {
			t.Errorf("%s %v", name, n)
		}
	}
}

// TestLongNamesAreNoLabels: a counter takes little, whatever a transaction says
// it calls.
func TestLongNamesAreNoLabels(t *testing.T) {
	for _, n := range []int{10, maxLabel - 3, maxLabel - 2, 1 << 20} {
		tx := protoutil.ParseTx(envelopeOf(common.HeaderType_ENDORSER_TRANSACTION, "ch", "tx", protoutil.Marshal(&peer.Transaction{
			Actions: []*peer.TransactionAction{{Payload: protoutil.Marshal(&peer.ChaincodeActionPayload{Action: &peer.ChaincodeEndorsedAction{
				ProposalResponsePayload: protoutil.Marshal(&peer.ProposalResponsePayload{Extension: protoutil.Marshal(&peer.ChaincodeAction{
					ChaincodeId: &peer.ChaincodeID{Name: strings.Repeat("n", n), Version: "1.0"},
				})}),
			}})}},
		})))
		label := kindOf(tx, 0).chaincodeLabel()
		if known := n+3 <= maxLabel; known != (label != "unknown") || len(label) > maxLabel+1 {
			t.Errorf("name of %d bytes: label of %d", n, len(label))
		}
	}
}
