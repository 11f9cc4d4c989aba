package ledger

import (
	"flag"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"testing"
	"time"
)

var replayTxs = flag.Int("replay.txs", 50_000, "transactions of the chain that BenchmarkReplay replays")

// BenchmarkReplay opens a ledger whose databases are gone, as after `peer node
// rebuild-dbs`: the state and the history, or the block index, are rebuilt from
// the block files. Transactions write a new key each, 500 to a block.
func BenchmarkReplay(b *testing.B) {
	blocks := *replayTxs / benchTxs
	dir := b.TempDir()
	chainOf(b, dir, blocks)
	for _, bc := range []struct {
		name string
		dirs []string
	}{
		{"state and history", []string{dirState, dirHistory}},
		{"index", []string{dirChains + "/index"}},
	} {
		b.Run(bc.name, func(b *testing.B) {
			var spent time.Duration
			var peak uint64
			b.ReportAllocs()
			for range b.N {
				b.StopTimer()
				for _, d := range bc.dirs {
					if err := os.RemoveAll(filepath.Join(dir, d)); err != nil {
						b.Fatal(err)
					}
				}
				p := openProvider(b, Config{Dir: dir, History: true})
				runtime.GC()
				stop := watchHeap()
				begun := cpuTime()
				b.StartTimer()
				l, err := p.Open("bench")
				b.StopTimer()
				spent += cpuTime() - begun
				peak = max(peak, stop())
				if err != nil || l.ReplayDifference() != nil {
					b.Fatal(err, l.ReplayDifference())
				}
				if err := p.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			txs := float64(b.N * blocks * benchTxs)
			b.ReportMetric(float64(spent.Nanoseconds())/1000/txs, "cpu-µs/tx")
			b.ReportMetric(txs/b.Elapsed().Seconds(), "tx/s")
			b.ReportMetric(float64(b.N*blocks)/b.Elapsed().Seconds(), "blocks/s")
			b.ReportMetric(float64(peak)/1e6, "peak-heap-MB")
		})
	}
}

// chainOf commits a chain of full blocks.
func chainOf(b *testing.B, dir string, blocks int) {
	genesis := genesisOf("bench")
	p := openProvider(b, Config{Dir: dir, History: true})
	l, err := p.Create(genesis)
	if err != nil {
		b.Fatal(err)
	}
	t := newTraffic(genesis)
	if err := l.Commit(t.deployment(0).block); err != nil {
		b.Fatal(err)
	}
	for range blocks {
		v := t.block(benchTxs, writeNew(1)).block
		if err := l.Commit(v); err != nil || v.Flags()[0] != 0 {
			b.Fatal(err, v.Flags())
		}
	}
	if err := p.Close(); err != nil {
		b.Fatal(err)
	}
}

// watchHeap follows the size of the heap, garbage included, until stop returns
// its peak in bytes.
func watchHeap() (stop func() uint64) {
	done, peak := make(chan struct{}), make(chan uint64)
	go func() {
		sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		var most uint64
		for {
			metrics.Read(sample)
			most = max(most, sample[0].Value.Uint64())
			select {
			case <-tick.C:
			case <-done:
				peak <- most
				return
			}
		}
	}()
	return func() uint64 {
		close(done)
		return <-peak
	}
}
