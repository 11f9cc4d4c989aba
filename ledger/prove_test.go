package ledger

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"path"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/internal/vfs/errorfs"
)

const chBlockFile = testDir + "/chains/chains/ch/blockfile_000000"

func copyOf(b *protoutil.Block) *protoutil.Block {
	return protoutil.ParseBlock(proto.Clone(b.Proto()).(*common.Block))
}

// unindexedTail makes a directory as it is after a crash: the last block is in the
// file, the index has not heard of it. It also tells where the block begins.
func unindexedTail(t *testing.T, chain []*protoutil.Block) (fs *vfs.Mem, begins int) {
	t.Helper()
	disk := smallDisk()
	p := openProvider(t, Config{Dir: testDir, FS: disk, manual: true, History: true})
	l, err := p.Create(genesisOf("ch"))
	must(t, err)
	for i, b := range chain {
		if i == len(chain)-1 {
			raw, err := vfs.ReadFile(disk, chBlockFile)
			must(t, err)
			begins = len(raw)
		}
		must(t, l.Commit(copyOf(b)))
	}
	fs = disk.Crash(vfs.LoseUnsynced, 0)
	must(t, p.Close())
	return fs, begins
}

// TestGarbledEnd: whatever the bytes are that a crash left at the end of the last
// block, it is either whole or gone, and can be committed again.
func TestGarbledEnd(t *testing.T) {
	t.Parallel()
	for _, count := range []int{1, 3} {
		chain := smallChain(genesisOf("ch"), count, noPrivateData)
		crashed, begins := unindexedTail(t, chain)
		raw, err := vfs.ReadFile(crashed, chBlockFile)
		must(t, err)
		var want vault
		for cut := 0; begins+cut < len(raw); cut += 1 + cut/8 {
			for _, noise := range []bool{false, true} {
				damaged := append([]byte{}, raw...)
				for i := len(raw) - cut; i < len(raw); i++ {
					if damaged[i] = 0; noise {
						damaged[i] = byte(rand.Uint32())
					}
				}
				fs := crashed.Crash(vfs.KeepUnsynced, 0)
				must(t, vfs.WriteFile(fs, chBlockFile, damaged, 0o660))
				p := openProvider(t, Config{Dir: testDir, FS: fs, manual: true, History: true})
				l, err := p.Open("ch")
				if err != nil {
					t.Fatalf("%d bytes garbled: %v", cut, err)
				}
				whole := string(damaged) == string(raw)
				if h := l.Height(); h != uint64(count)+1 && whole || h != uint64(count) && !whole {
					t.Errorf("%d bytes of %d garbled (noise: %v): height %d", cut, len(raw)-begins, noise, h)
				}
				for _, b := range chain[l.Height()-1:] {
					must(t, l.Commit(copyOf(b)))
				}
				must(t, p.Close())
				if got := readVault(t, fs); want == nil {
					want = got
				} else {
					checkVault(t, path.Base(chBlockFile), want, got)
				}
			}
		}
	}
}

// TestProof: what is asked of a last block that only the block file knows. Its end is
// the metadata; a genesis block has codes only, and they say that it is valid.
func TestProof(t *testing.T) {
	t.Parallel()
	p := openProvider(t, Config{Dir: testDir, FS: vfs.NewMem(), manual: true})
	l, err := p.Create(genesisOf("ch"))
	must(t, err)
	for _, b := range smallChain(genesisOf("ch"), 2, noPrivateData) {
		must(t, l.Commit(copyOf(b)))
	}
	for n := range l.Height() {
		for what, tc := range map[string]struct {
			change func(slots [][]byte)
			want   bool
		}{
			"as committed":   {func([][]byte) {}, true},
			"another code":   {func(s [][]byte) { s[2] = append([]byte{11}, s[2][1:]...) }, false},
			"too few codes":  {func(s [][]byte) { s[2] = s[2][1:] }, false},
			"no commit hash": {func(s [][]byte) { s[4] = nil }, false},
			"another hash":   {func(s [][]byte) { s[4] = append(bytes.Clone(s[4][:len(s[4])-1]), ^s[4][len(s[4])-1]) }, false},
			"no hash at all": {func(s [][]byte) { s[4] = []byte{0} }, false},
		} {
			b, err := l.BlockByNumber(n)
			must(t, err)
			if n == 0 && strings.Contains(what, "hash") {
				continue
			}
			tc.change(b.Metadata.Metadata)
			if got, err := l.isTrue(b); got != tc.want || err != nil {
				t.Errorf("block %d, %s: %v, %v", n, what, got, err)
			}
		}
	}
}

// TestKnownBlockIsNotDoubted: a block that the index or the state has is the
// ledger's, whatever its end is: it was synced, and what is wrong with it is
// damage.
func TestKnownBlockIsNotDoubted(t *testing.T) {
	t.Parallel()
	chain := smallChain(genesisOf("ch"), 3, noPrivateData)
	disk := smallDisk()
	p := openProvider(t, Config{Dir: testDir, FS: disk, manual: true})
	l, err := p.Create(genesisOf("ch"))
	must(t, err)
	for _, b := range chain {
		must(t, l.Commit(copyOf(b)))
	}
	must(t, p.Close())
	for _, without := range [][]string{nil, {"chains/index"}, {dirState}} {
		fs := disk.Crash(vfs.KeepUnsynced, 0)
		for _, dir := range without {
			must(t, fs.RemoveAll(path.Join(testDir, dir)))
		}
		raw, err := vfs.ReadFile(fs, chBlockFile)
		must(t, err)
		damaged := append([]byte{}, raw...)
		damaged[len(damaged)-1] ^= 1
		must(t, vfs.WriteFile(fs, chBlockFile, damaged, 0o660))
		p := openProvider(t, Config{Dir: testDir, FS: fs, manual: true})
		if h := openLedger(t, p, "ch").Height(); h != 4 {
			t.Errorf("without %v: height %d", without, h)
		}
		must(t, p.Close())
	}
}

// TestUnknownBlock: the sync of the block file fails, and the block may be in it.
// Nothing is committed any more, whoever tries, and the private data of the block
// stay: the private store must not be behind the file.
func TestUnknownBlock(t *testing.T) {
	t.Parallel()
	var fails atomic.Bool
	disk := smallDisk()
	fs := errorfs.New(disk, func(op errorfs.Op, name string) error {
		if op == errorfs.OpSync && fails.Load() && strings.Contains(name, "blockfile_") {
			fails.Store(false)
			return syscall.EIO
		}
		return nil
	})
	p := openProvider(t, Config{Dir: testDir, FS: fs, manual: true})
	l, err := p.Create(genesisOf("ch"))
	must(t, err)
	chain := smallChain(genesisOf("ch"), 2, func(n int) bool { return n == 2 })
	must(t, l.Commit(copyOf(chain[0])))
	fails.Store(true)
	for range 2 {
		var failed *FailedError
		if err := l.Commit(copyOf(chain[1])); !errors.As(err, &failed) || !failed.Unknown || !errors.Is(err, syscall.EIO) ||
			!strings.Contains(err.Error(), "block [2] may be stored or not") || !strings.Contains(err.Error(), chBlockFile) {
			t.Errorf("got %v", err)
		}
	}
	restarted := disk.Crash(vfs.KeepUnsynced, 0)
	p.Close()
	for _, fs := range []*vfs.Mem{restarted, disk.Crash(vfs.LoseUnsynced, 0), disk.Crash(vfs.GarbageUnsynced, 3)} {
		p := openProvider(t, Config{Dir: testDir, FS: fs, manual: true})
		l := openLedger(t, p, "ch")
		if l.Height() < 3 {
			must(t, l.Commit(copyOf(chain[1])))
		}
		if l.Height() != 3 || l.private.NextBlock() != 3 {
			t.Errorf("height %d, private store %d", l.Height(), l.private.NextBlock())
		}
		must(t, p.Close())
	}
}
