package blockfile

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/vfs"
)

// recordsInside is a block whose transaction consists of what looks like records of
// later blocks: whole ones one behind the other, and, in each other, as many
// as have room.
func recordsInside(prev []byte) *protoutil.Block {
	var inside []byte
	for i := range 40 {
		fake := protoutil.NewBlock(math.MaxUint32+uint64(i), prev)
		fake.Header.PreviousHash = protoutil.DataHash(nil)
		fake.Data.Data = [][]byte{inside}
		fake.Header.DataHash = protoutil.DataHash(fake.Data.Data)
		record, _ := appendRecord(nil, nil, fake)
		if i%2 == 0 {
			inside = append(inside, record...)
		} else {
			inside = record
		}
		if len(inside) > 1<<14 {
			break
		}
	}
	b := protoutil.NewBlock(1, prev)
	b.Data.Data = [][]byte{inside, []byte("another")}
	b.Header.DataHash = protoutil.DataHash(b.Data.Data)
	return protoutil.ParseBlock(b)
}

// TestRecordsInsideATransaction: what a client put into a transaction is not taken
// for later blocks when the block that holds it was written in part only. To
// refuse to start would leave the peer to whoever can have it killed.
func TestRecordsInsideATransaction(t *testing.T) {
	t.Parallel()
	disk := vfs.NewMem()
	p, s := openBF(t, Config{Dir: "/d", FS: disk})
	must(t, s.Append(newChainMaker(1, 200).block()))
	hostile := recordsInside(s.Info().CurrentBlockHash)
	must(t, p.Close())
	file := bfDir + "/blockfile_000000"
	genesis, err := vfs.ReadFile(disk, file)
	must(t, err)
	record, _ := appendRecord(nil, nil, hostile.Proto())
	if _, found := resync(record[:len(record)-10], 1); !found {
		t.Fatal("nothing looks like a record") // else this test proves nothing
	}
	for _, kind := range []string{"cut", "zeros", "noise"} {
		for keep := 1; keep < len(record); keep += 1 + keep/7 {
			data := append(append([]byte{}, genesis...), record[:keep]...)
			for kind != "cut" && len(data) < len(genesis)+len(record) {
				if data = append(data, 0); kind == "noise" {
					data[len(data)-1] = byte(rand.Uint32())
				}
			}
			fs := disk.Crash(vfs.KeepUnsynced, 0)
			must(t, vfs.WriteFile(fs, file, data, 0o660))
			p, err := OpenProvider(Config{Dir: "/d", FS: fs})
			must(t, err)
			s, err := p.Open("bf")
			if err != nil {
				t.Fatalf("%d of %d bytes, %s: %v", keep, len(record), kind, err)
			}
			// Its end is not vouched for by the header.
			if h := s.Height(); h != 1 && (kind == "cut" || keep < len(record)-20) {
				t.Errorf("%d of %d bytes, %s: height %d", keep, len(record), kind, h)
			}
			must(t, p.Close())
		}
	}
}
