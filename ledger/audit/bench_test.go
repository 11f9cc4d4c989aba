package audit

import (
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset/kvrwset"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/testnet/testchain"
	"github.com/heddle-ledger/heddle/ledger/blockfile"
)

const (
	benchBlocks = 100
	benchTxs    = 500
)

// benchDirs makes a peer's and an orderer's directory of blocks of 500 endorsed
// transactions with one write each.
func benchDirs(b *testing.B) (peer, orderer string) {
	b.Helper()
	dir := b.TempDir()
	n := testchain.New(b)
	genesis := n.Genesis(channelID)
	prev := genesis.Header
	peer, orderer = filepath.Join(dir, "peer"), filepath.Join(dir, "orderer")
	p, err := blockfile.OpenProvider(blockfile.Config{Dir: orderer, Index: blockfile.IndexNumber})
	must(b, err)
	s, err := p.Open(channelID)
	must(b, err)
	must(b, s.Append(protoutil.ParseBlock(proto.CloneOf(genesis))))
	l, lp := createLedger(b, peer, genesis)
	for number := uint64(1); number <= benchBlocks; number++ {
		txs := make([][]byte, benchTxs)
		for i := range txs {
			txs[i] = n.Tx(testchain.Tx{Channel: channelID, Chaincode: "cc", Set: []*rwset.NsReadWriteSet{
				testchain.Namespace("cc", &kvrwset.KVRWSet{Writes: []*kvrwset.KVWrite{set(fmt.Sprintf("key%d.%d", number, i), "a value of some thirty-two bytes")}}),
			}})
		}
		block := n.Block(number, prev, 0, txs...)
		prev = block.Header
		must(b, s.Append(protoutil.ParseBlock(proto.CloneOf(block))))
		parsed := protoutil.ParseBlock(block)
		parsed.SetFlags(make([]byte, benchTxs))
		must(b, l.Commit(parsed))
	}
	must(b, p.Close())
	must(b, lp.Close())
	return peer, orderer
}

// BenchmarkVerify tells blocks and transactions per second, and how much the heap
// grew at most.
func BenchmarkVerify(b *testing.B) {
	peer, orderer := benchDirs(b)
	for _, c := range []struct {
		name, dir string
		o         Options
	}{
		{"peer", peer, Options{}},
		{"peer-1-worker", peer, Options{Workers: 1}},
		{"peer-state", peer, Options{State: true}},
		{"orderer", orderer, Options{}},
	} {
		b.Run(c.name, func(b *testing.B) {
			c.o.TempDir = b.TempDir()
			heap, cpu := watchHeap(b), cpuTime(b)
			for b.Loop() {
				d, err := Open(c.dir)
				must(b, err)
				r, err := Verify(b.Context(), d, c.o)
				must(b, err)
				must(b, d.Close())
				if !r.Sound {
					b.Fatal(show(r))
				}
			}
			n := float64(b.N) / b.Elapsed().Seconds()
			b.ReportMetric(n*benchBlocks, "blocks/s")
			b.ReportMetric(n*benchBlocks*benchTxs, "tx/s")
			b.ReportMetric(float64((cpuTime(b)-cpu).Microseconds())/float64(b.N*benchBlocks*benchTxs), "cpu-µs/tx")
			b.ReportMetric(heap()/(1<<20), "MiB-heap")
		})
	}
	b.Run("compare", func(b *testing.B) {
		for b.Loop() {
			x, err := Open(peer)
			must(b, err)
			y, err := Open(orderer)
			must(b, err)
			c, err := Compare(b.Context(), x, y, CompareOptions{})
			must(b, err)
			if !c.Same {
				b.Fatal(show(c))
			}
			must(b, x.Close())
			must(b, y.Close())
		}
		b.ReportMetric(float64(b.N)*benchBlocks/b.Elapsed().Seconds(), "blocks/s")
	})
}

// cpuTime is what the process has used of all cores.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	must(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// watchHeap samples the heap in use until the function it returns is called,
// which tells the most that was seen, in bytes.
func watchHeap(b *testing.B) func() float64 {
	var wg sync.WaitGroup
	stop := make(chan struct{})
	most := uint64(0)
	wg.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapInuse)
			select {
			case <-tick.C:
			case <-stop:
				return
			}
		}
	})
	return func() float64 {
		close(stop)
		wg.Wait()
		return float64(most)
	}
}
