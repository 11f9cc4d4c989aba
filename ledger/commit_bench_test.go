package ledger

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/internal/protoutil"
)

// cpuTime is what the process has used of all processors, kernel included.
func cpuTime() time.Duration { return used(syscall.RUSAGE_SELF) }

// cpuOf is the processor time of a function that works alone.
func cpuOf(f func()) time.Duration {
	const thisThread = 1
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	begun := used(thisThread)
	f()
	return used(thisThread) - begun
}

func used(who int) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(who, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// yardstick knows what the verification of one P-256 signature costs a
// processor, measured at the same moments as what is compared with it: the
// speed of a machine that others use too, or of a virtual one, changes by the
// minute.
type yardstick struct {
	key    *ecdsa.PrivateKey
	digest [sha256.Size]byte
	sig    []byte
	spent  time.Duration
	n      int
}

func newYardstick(b *testing.B) *yardstick {
	y := &yardstick{digest: sha256.Sum256([]byte("x"))}
	var err error
	if y.key, err = ecdsa.GenerateKey(elliptic.P256(), crand.Reader); err != nil {
		b.Fatal(err)
	}
	if y.sig, err = ecdsa.SignASN1(crand.Reader, y.key, y.digest[:]); err != nil {
		b.Fatal(err)
	}
	return y
}

func (y *yardstick) measure(b *testing.B) {
	const n = 200
	y.n += n
	y.spent += cpuOf(func() {
		for range n {
			if !ecdsa.VerifyASN1(&y.key.PublicKey, y.digest[:], y.sig) {
				b.Fatal("the signature does not verify")
			}
		}
	})
}

// in expresses a time in verifications.
func (y *yardstick) in(d time.Duration) float64 {
	return float64(d) / (float64(y.spent) / float64(y.n))
}

// course commits blocks of 500 transactions to a new ledger on the machine's
// file system.
type course struct {
	*testing.B
	dir  string
	l    *Ledger
	t    *traffic
	yard *yardstick

	txs     int
	spent   time.Duration // processor time of it all, what is left to the background included
	looked  time.Duration // of that, for the search for duplicate transactions
	elapsed time.Duration
}

func newCourse(b *testing.B, blockToLive uint64) *course {
	c := &course{B: b, dir: b.TempDir(), yard: newYardstick(b)}
	genesis := genesisOf("bench")
	p := openProvider(b, Config{
		Dir: c.dir, History: true,
		Membership: func(string, *peer.CollectionPolicyConfig) (bool, error) { return true, nil },
	})
	var err error
	if c.l, err = p.Create(genesis); err != nil {
		b.Fatal(err)
	}
	c.t = newTraffic(genesis)
	c.commit(c.t.deployment(blockToLive))
	return c
}

func (c *course) commit(w load) {
	if err := c.l.CommitWithPrivateData(w.block, w.private); err != nil {
		c.Fatal(err)
	}
}

// lookUp asks for the transactions as validation does shortly before a commit.
func (c *course) lookUp(block *protoutil.Block) {
	for i := range block.Len() {
		if has, err := c.l.HasTx(block.Tx(i).ID()); err != nil || has {
			c.Fatal(has, err)
		}
	}
}

// blocksPerRound bounds how many blocks are made before they are committed.
const blocksPerRound = 25

// run commits b.N blocks and reports what a transaction costs, the search for
// its id included, in processor time and in verifications. Garbage collection
// runs between the rounds: what a block would contribute to it shows in the
// bytes allocated.
func (c *course) run(fill filler) { c.runBlocks(fill, c.N) }

func (c *course) runBlocks(fill filler, blocks int) {
	c.round(fill, blocksPerRound, false) // fills what is kept from block to block
	*c = course{B: c.B, dir: c.dir, l: c.l, t: c.t, yard: newYardstick(c.B)}
	c.ReportAllocs()
	c.ResetTimer()
	c.StopTimer()
	for left := blocks; left > 0; left -= blocksPerRound {
		c.round(fill, min(left, blocksPerRound), true)
	}
	txs := float64(c.txs)
	c.ReportMetric(float64(c.spent.Nanoseconds())/1000/txs, "cpu-µs/tx")
	c.ReportMetric(c.yard.in(c.spent)/txs, "v/tx")
	c.ReportMetric(c.yard.in(c.looked)/txs, "lookup-v/tx")
	c.ReportMetric(txs/c.elapsed.Seconds(), "tx/s")
	c.ReportMetric(float64(c.yard.spent.Nanoseconds())/1000/float64(c.yard.n), "µs/v")
}

// round makes blocks and then commits them. What the databases do for them in
// the background is waited for and counted.
func (c *course) round(fill filler, blocks int, timed bool) {
	loads := c.t.blocks(blocks, fill)
	runtime.GC()
	settle()
	c.yard.measure(c.B)
	cpu, start := cpuTime(), time.Now()
	if timed {
		c.StartTimer()
	}
	for _, w := range loads {
		c.looked += cpuOf(func() { c.lookUp(w.block) })
		c.commit(w)
		if timed {
			c.StopTimer()
		}
		began := time.Now()
		c.spent -= cpuOf(func() { forgetPages(filepath.Join(c.dir, dirChains, "chains", "bench")) })
		c.elapsed -= time.Since(began)
		if timed {
			c.StartTimer()
		}
	}
	if timed {
		c.StopTimer()
	}
	c.elapsed += time.Since(start)
	background := cpuTime()
	settle()
	c.elapsed += cpuTime() - background
	c.spent += cpuTime() - cpu
	c.yard.measure(c.B)
	c.txs += blocks * benchTxs
	for _, w := range loads {
		if bytes.ContainsFunc(w.block.Flags(), func(code rune) bool { return code != 0 }) {
			c.Fatalf("block [%d] has invalid transactions: %v", w.block.Number(), w.block.Flags())
		}
	}
}

// settle waits until the process does nothing for a while.
func settle() {
	const pause, most = 5 * time.Millisecond, time.Millisecond / 4
	for calm := 0; calm < 4; calm++ {
		begun := cpuTime()
		<-time.After(pause)
		if cpuTime()-begun > most {
			calm = -1
		}
	}
}

// BenchmarkCommit takes blocks of 500 transactions, whose signatures count as
// verified, through all stores.
func BenchmarkCommit(b *testing.B) {
	b.Run("single_write", func(b *testing.B) { newCourse(b, 0).run(writeNew(1)) })
	b.Run("read_write", func(b *testing.B) {
		c, k := newCourse(b, 0), newKeys("asset", 20_000)
		k.seed(b, c)
		c.run(k.readWrite)
	})
	b.Run("ten_writes", func(b *testing.B) { newCourse(b, 0).run(writeNew(10)) })
	b.Run("range", func(b *testing.B) {
		c, k := newCourse(b, 0), newKeys("asset", 20_000)
		k.seed(b, c)
		c.run(k.readRange)
	})
	b.Run("private", func(b *testing.B) { newCourse(b, 0).run(writePrivate) })
	b.Run("private_expiring", func(b *testing.B) { newCourse(b, 10).run(writePrivate) })
	for _, ahead := range []int{0, 8} {
		b.Run(fmt.Sprintf("one_tx_blocks/ahead=%d", ahead), func(b *testing.B) { commitSmall(b, ahead) })
	}
}

// BenchmarkCommitMemory commits blocks of single writes as they come, and tells
// what the heap takes: at its peak, garbage and the block included, and what
// stays.
func BenchmarkCommitMemory(b *testing.B) {
	c := newCourse(b, 0)
	stop := watchHeap()
	for b.Loop() {
		c.commit(c.t.blocks(1, writeNew(1))[0])
		forgetPages(filepath.Join(c.dir, dirChains, "chains", "bench"))
	}
	b.ReportMetric(float64(stop())/1e6, "peak-heap-MB")
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	b.ReportMetric(float64(m.HeapAlloc)/1e6, "live-heap-MB")
}

// BenchmarkCommitKeys shows what a transaction that reads and writes one key
// costs with few and many keys in the state. An operation is a million
// transactions: the tables of the state are merged once in some 400,000, and what
// that costs has to be spread over those that caused it.
func BenchmarkCommitKeys(b *testing.B) {
	for _, n := range []struct {
		name string
		keys int
	}{{"10k", 10_000}, {"100k", 100_000}, {"1M", 1_000_000}} {
		b.Run(n.name, func(b *testing.B) {
			c, k := newCourse(b, 0), newKeys("asset", n.keys)
			k.seed(b, c)
			c.runBlocks(k.readWrite, b.N*1_000_000/benchTxs)
		})
	}
}

// commitSmall commits blocks of one transaction, whose cost is that of the
// syncs: as they come, and announced as a peer that catches up does.
func commitSmall(b *testing.B, ahead int) {
	genesis := genesisOf("bench")
	p := openProvider(b, Config{Dir: b.TempDir(), History: true})
	l, err := p.Create(genesis)
	if err != nil {
		b.Fatal(err)
	}
	chain := smallChain(genesis, b.N+ahead, noPrivateData)
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		if ahead > 0 {
			for _, v := range chain[i : i+ahead] {
				l.Expect(v)
			}
		}
		if err := l.Commit(chain[i]); err != nil {
			b.Fatal(err)
		}
	}
}
