// Package metrics names the metrics provider that rooms are given.
//
// Providers come from fabric-lib-go (Prometheus, StatsD, disabled), so names
// and label rules are those of the reference (SURFACE §4.1). The package owns
// no state and starts no goroutine. Any package may import it.
package metrics

import (
	"github.com/hyperledger/fabric-lib-go/common/metrics"
	"github.com/hyperledger/fabric-lib-go/common/metrics/disabled"
)

// The types of fabric-lib-go under the names that rooms use.
type (
	Provider      = metrics.Provider
	Counter       = metrics.Counter
	CounterOpts   = metrics.CounterOpts
	Gauge         = metrics.Gauge
	GaugeOpts     = metrics.GaugeOpts
	Histogram     = metrics.Histogram
	HistogramOpts = metrics.HistogramOpts
)

// Disabled returns a provider whose metrics go nowhere.
func Disabled() Provider { return &disabled.Provider{} }

// IsDisabled tells whether a provider's metrics go nowhere, so that work for them
// can be saved.
func IsDisabled(p Provider) bool {
	_, off := p.(*disabled.Provider)
	return off
}
