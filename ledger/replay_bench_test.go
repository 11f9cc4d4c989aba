package ledger

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// BenchmarkReplay opens a ledger whose databases are gone, as after `peer node
// rebuild-dbs`: the state and the history, or the block index, are rebuilt from
// the block files.
func BenchmarkReplay(b *testing.B) {
	const blocks = 100
	dir := b.TempDir()
	genesis := genesisOf("bench")
	p := openProvider(b, Config{Dir: dir, History: true})
	l, err := p.Create(genesis)
	if err != nil {
		b.Fatal(err)
	}
	for _, v := range benchChain(genesis, blocks, blindWrite) {
		if err := l.Commit(v); err != nil {
			b.Fatal(err)
		}
	}
	if err := p.Close(); err != nil {
		b.Fatal(err)
	}
	for _, bc := range []struct {
		name string
		dirs []string
	}{
		{"state and history", []string{dirState, dirHistory}},
		{"index", []string{dirChains + "/index"}},
	} {
		b.Run(bc.name, func(b *testing.B) {
			var spent time.Duration
			b.ReportAllocs()
			for range b.N {
				b.StopTimer()
				for _, d := range bc.dirs {
					if err := os.RemoveAll(filepath.Join(dir, d)); err != nil {
						b.Fatal(err)
					}
				}
				p := openProvider(b, Config{Dir: dir, History: true})
				begun := cpuTime()
				b.StartTimer()
				if _, err := p.Open("bench"); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				spent += cpuTime() - begun
				if err := p.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			txs := float64(b.N * blocks * benchTxs)
			b.ReportMetric(float64(spent.Nanoseconds())/1000/txs, "cpu-µs/tx")
			b.ReportMetric(txs/b.Elapsed().Seconds(), "tx/s")
			b.ReportMetric(float64(b.N*blocks)/b.Elapsed().Seconds(), "blocks/s")
		})
	}
}
