package process_test

import (
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/heddle-ledger/heddle/chaincode/runtimetest"
	"github.com/heddle-ledger/heddle/chaincode/support"
)

// BenchmarkInvokeProcess is a round trip over TCP to a chaincode process on
// the stock shim. peer-cpu-ns/op is the processor time of this process alone,
// which is the peer's.
func BenchmarkInvokeProcess(b *testing.B) {
	rt := open(b)
	code, err := runtimetest.Probes()[0].Code()
	if err != nil {
		b.Fatal(err)
	}
	p := runtimetest.StartPeer(b, runtimetest.PeerOptions{Runtime: rt})
	p.Install(b, "probe", "1.0", code)
	if _, err := p.Init(b.Context(), "probe"); err != nil {
		b.Fatal(err)
	}
	for name, args := range map[string][]string{"no-state": {"ping"}, "1-get-1-put": {"transfer", "x"}} {
		for _, clients := range []int{1, 16} {
			b.Run(name+"/clients="+strconv.Itoa(clients), func(b *testing.B) {
				input, tx := runtimetest.Args(args...), p.Tx()
				var n atomic.Int64
				b.SetParallelism(clients)
				b.ReportAllocs()
				start := cpu(b)
				run := func() {
					one := &support.TxParams{
						ChannelID: tx.ChannelID, TxID: strconv.FormatInt(n.Add(1), 10), SignedProposal: tx.SignedProposal, Proposal: tx.Proposal,
					}
					one.Simulator = p.State.Simulate(one.TxID)
					if resp, _, err := p.Execute(b.Context(), one, "probe", "1.0", input); err != nil || resp.Status != 200 {
						b.Error(resp, err)
					}
				}
				if clients == 1 {
					for b.Loop() {
						run()
					}
				} else {
					b.RunParallel(func(pb *testing.PB) {
						for pb.Next() {
							run()
						}
					})
				}
				b.ReportMetric(float64(cpu(b)-start)/float64(n.Load()), "peer-cpu-ns/op")
			})
		}
	}
}

func cpu(b *testing.B) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}
