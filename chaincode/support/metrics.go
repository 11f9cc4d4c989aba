package support

import "github.com/heddle-ledger/heddle/internal/metrics"

// launchMetrics are those of launches and executions (SURFACE §4.1).
type launchMetrics struct {
	launchDuration                                  metrics.Histogram
	launchFailures, launchTimeouts, executeTimeouts metrics.Counter
}

func newLaunchMetrics(p metrics.Provider) *launchMetrics {
	counter := func(name, help string) metrics.Counter {
		return p.NewCounter(metrics.CounterOpts{
			Namespace: "chaincode", Name: name, Help: help,
			LabelNames: []string{"chaincode"}, StatsdFormat: "%{#fqname}.%{chaincode}",
		})
	}
	return &launchMetrics{
		launchDuration: p.NewHistogram(metrics.HistogramOpts{
			Namespace: "chaincode", Name: "launch_duration", Help: "The time to launch a chaincode.",
			LabelNames: []string{"chaincode", "success"}, StatsdFormat: "%{#fqname}.%{chaincode}.%{success}",
		}),
		launchFailures:  counter("launch_failures", "The number of chaincode launches that have failed."),
		launchTimeouts:  counter("launch_timeouts", "The number of chaincode launches that have timed out."),
		executeTimeouts: counter("execute_timeouts", "The number of chaincode executions (Init or Invoke) that have timed out."),
	}
}
