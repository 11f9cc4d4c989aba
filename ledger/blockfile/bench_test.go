package blockfile

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/vfs"
)

const benchTxs = 500

// chainMaker makes blocks of endorser-sized transactions with distinct ids.
type chainMaker struct {
	body []byte
	next uint64
	prev []byte
	txs  int
}

func newChainMaker(txs, txSize int) *chainMaker {
	c := &chainMaker{body: make([]byte, txSize), txs: txs}
	for i := range c.body {
		c.body[i] = byte(i * 131)
	}
	return c
}

func benchTxID(block, tx uint64) string {
	var seed [16]byte
	binary.BigEndian.PutUint64(seed[:], block)
	binary.BigEndian.PutUint64(seed[8:], tx)
	sum := sha256.Sum256(seed[:])
	return hex.EncodeToString(sum[:])
}

func (c *chainMaker) block() *protoutil.Block {
	b := protoutil.NewBlock(c.next, c.prev)
	for i := range c.txs {
		b.Data.Data = append(b.Data.Data, protoutil.Marshal(&common.Envelope{
			Payload: protoutil.Marshal(&common.Payload{
				Header: &common.Header{
					ChannelHeader: protoutil.Marshal(&common.ChannelHeader{Type: 3, ChannelId: "bench", TxId: benchTxID(c.next, uint64(i))}),
				},
				Data: c.body,
			}),
			Signature: c.body[:70],
		}))
	}
	b.Header.DataHash = protoutil.DataHash(b.Data.Data)
	v := protoutil.ParseBlock(b)
	v.SetFlags(make([]byte, c.txs))
	for i := range v.Len() {
		v.Tx(i).ID() // decoded by validation, in a peer
	}
	c.next++
	c.prev = protoutil.BlockHash(b.Header)
	return v
}

func benchStore(b *testing.B, items IndexItems) *Store {
	b.Helper()
	p, err := OpenProvider(Config{Dir: filepath.ToSlash(b.TempDir()), FS: vfs.OS(), Index: items})
	must(b, err)
	b.Cleanup(func() { p.Close() })
	s, err := p.Open("bench")
	must(b, err)
	return s
}

func cpuTime() time.Duration {
	var ru syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &ru)
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

// BenchmarkAppend is the commit of blocks of 500 transactions of 3 KB. The
// processor time includes what the index's compactions took meanwhile.
func BenchmarkAppend(b *testing.B) {
	for _, bc := range []struct {
		name  string
		items IndexItems
		asked bool
	}{{"peer", IndexAll, false}, {"peerValidated", IndexAll, true}, {"orderer", IndexNumber, false}} {
		b.Run(bc.name, func(b *testing.B) {
			s := benchStore(b, bc.items)
			maker := newChainMaker(benchTxs, 3000)
			var cpu time.Duration
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				b.StopTimer()
				blk := maker.block()
				for i := range blk.Len() {
					if bc.asked {
						second(s.HasTx(blk.Tx(i).ID()))
					}
				}
				before := cpuTime()
				b.StartTimer()
				must(b, s.Append(blk))
				cpu += cpuTime() - before
			}
			b.ReportMetric(float64(cpu.Nanoseconds())/float64(b.N*benchTxs), "cpu-ns/tx")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*benchTxs), "ns/tx")
		})
	}
}

func filled(b *testing.B, blocks, txs int) *Store {
	s := benchStore(b, IndexAll)
	maker := newChainMaker(txs, 3000)
	for range blocks {
		must(b, s.Append(maker.block()))
	}
	return s
}

func BenchmarkHasTxAbsent(b *testing.B) {
	s := filled(b, 200, benchTxs)
	ids := make([]string, 1<<12)
	for i := range ids {
		ids[i] = benchTxID(1<<40, uint64(i))
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if has, err := s.HasTx(ids[i%len(ids)]); has || err != nil {
			b.Fatal(has, err)
		}
	}
}

func BenchmarkTxByID(b *testing.B) {
	s := filled(b, 50, benchTxs)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := s.TxByID(benchTxID(uint64(i%50), uint64(i%benchTxs))); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkIterate(b *testing.B) {
	const blocks = 50
	s := filled(b, blocks, benchTxs)
	b.ReportAllocs()
	b.SetBytes(benchTxs * 3200)
	it := s.Iterator(0)
	for b.Loop() {
		if it.next == blocks {
			it = s.Iterator(0)
		}
		_, err := it.Next(b.Context())
		must(b, err)
	}
}
