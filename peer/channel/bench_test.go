package channel

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"fmt"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset/kvrwset"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/testnet/testchain"
)

// BenchmarkCatchUp takes a channel of 16 blocks of 500 single-endorsement puts
// from its inbox into the real ledger, and relates the processor time per
// transaction to the cost of one P-256 verification at the same moment.
func BenchmarkCatchUp(b *testing.B) {
	const blocks, perBlock = 16, 500
	g := newGenerator(b, 1)
	for n := range blocks {
		var envelopes [][]byte
		for i := range perBlock {
			envelopes = append(envelopes, g.net.Tx(testchain.Tx{
				Channel: "ch", Chaincode: "mycc", Args: [][]byte{[]byte("put"), []byte("key"), make([]byte, 100)},
				Set: []*rwset.NsReadWriteSet{
					testchain.Namespace("lscc", &kvrwset.KVRWSet{Reads: []*kvrwset.KVRead{{Key: "mycc", Version: &kvrwset.Version{BlockNum: 1}}}}),
					testchain.Namespace("mycc", &kvrwset.KVRWSet{Writes: []*kvrwset.KVWrite{{Key: fmt.Sprintf("key%d-%d", n, i), Value: make([]byte, 100)}}}),
				},
			}))
		}
		g.add(envelopes...)
	}
	raw := make([][]byte, len(g.chain))
	for i, block := range g.chain {
		raw[i], _ = proto.Marshal(block)
	}
	var cpu, wall time.Duration
	for b.Loop() {
		b.StopTimer()
		r := peerDir{t: b, dir: b.TempDir(), log: newPeerDir(b).log}.start(0)
		must(b, r.Join(g.chain[0]))
		c := r.channel("ch")
		b.StartTimer()
		startCPU, start := processorTime(b), time.Now()
		for _, bytes := range raw[1:] {
			block := &common.Block{}
			must(b, proto.Unmarshal(bytes, block))
			must(b, c.Offer(b.Context(), block, nil, true))
		}
		r.waitFor(c, uint64(len(raw)))
		cpu += processorTime(b) - startCPU
		wall += time.Since(start)
		b.StopTimer()
		must(b, r.stop())
		b.StartTimer()
	}
	one := verification(b, g.net)
	perTx := float64(cpu) / float64(b.N*blocks*perBlock)
	b.ReportMetric(perTx/1000, "cpu-µs/tx")
	b.ReportMetric(float64(one)/1000, "µs/verification")
	b.ReportMetric(perTx/float64(one), "verifications/tx")
	b.ReportMetric(float64(b.N*blocks*perBlock)/wall.Seconds(), "tx/s")
	b.ReportMetric(float64(cpu)/float64(wall), "cores")
}

func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	must(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// verification is the processor time of one P-256 verification while all
// processors do nothing else.
func verification(b *testing.B, net *testchain.Net) time.Duration {
	b.Helper()
	digest := sha256.Sum256([]byte("x"))
	sig := net.User.MustSign([]byte("x"))
	const n = 2000
	workers := runtime.GOMAXPROCS(0)
	start := processorTime(b)
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for range n {
				if !ecdsa.VerifyASN1(&net.User.Key.PublicKey, digest[:], sig) {
					b.Error("the signature does not verify")
				}
			}
		})
	}
	all.Wait()
	return (processorTime(b) - start) / time.Duration(n*workers)
}
