package blockfile

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/vfs"
)

// TestRecentBlocksAreBoundedInTotal: however many channels there are, and the
// blocks of one that is closed go.
func TestRecentBlocksAreBoundedInTotal(t *testing.T) {
	p, err := OpenProvider(Config{Dir: "/d", FS: vfs.NewMem()})
	must(t, err)
	defer p.Close()
	const size = 3 << 20
	for i := range 10 {
		s, err := p.Open(fmt.Sprint("ch", i))
		must(t, err)
		maker := newChainMaker(1, size)
		for n := range uint64(4) {
			must(t, s.Append(maker.block()))
			for range 2 {
				raw, err := s.RawBlock(n)
				if err != nil || len(raw) < size {
					t.Fatalf("block %d: %d bytes, %v", n, len(raw), err)
				}
			}
		}
		sum := 0
		for _, raw := range p.recent.raw {
			sum += len(raw) + rawOverhead
		}
		if sum != p.recent.bytes || sum > maxRecentBytes || len(p.recent.order) != len(p.recent.raw) {
			t.Errorf("%d channels: %d bytes, counted as %d", i+1, sum, p.recent.bytes)
		}
	}
	if len(p.recent.raw) < 10 {
		t.Errorf("%d blocks are kept", len(p.recent.raw))
	}
	for i := range 10 {
		must(t, p.CloseStore(fmt.Sprint("ch", i)))
		must(t, p.CloseStore(fmt.Sprint("ch", i)))
	}
	if len(p.recent.raw) != 0 || len(p.recent.order) != 0 || p.recent.bytes != 0 {
		t.Errorf("left: %d blocks, %d bytes", len(p.recent.raw), p.recent.bytes)
	}
}

// TestLargeBlocksLeaveNoScratch: what a block of very many transactions took is
// given back, and the log has one line for those without an id.
func TestLargeBlocksLeaveNoScratch(t *testing.T) {
	var out bytes.Buffer
	logging, err := flog.New(&out, "%{message}", "warning")
	must(t, err)
	p, s := openBF(t, Config{Dir: "/d", FS: vfs.NewMem(), Log: logging.Root()})
	maker := newChainMaker(60_000, 200)
	must(t, s.Append(maker.block()))
	check := func(when string) {
		t.Helper()
		if max(cap(s.spans), cap(s.firsts), len(s.seen)) > maxKeptTxs || s.batch.Size() > maxKeptBatch || cap(s.buf) > maxKeptBuffer {
			t.Errorf("%s: kept: %d spans, %d firsts, %d ids, batch of %d bytes, buffer of %d", when,
				cap(s.spans), cap(s.firsts), len(s.seen), s.batch.Size(), cap(s.buf))
		}
	}
	check("after a large block")
	b := &common.Block{
		Header: &common.BlockHeader{Number: 1, PreviousHash: s.Info().CurrentBlockHash},
		Data:   &common.BlockData{Data: make([][]byte, 50_000)}, Metadata: &common.BlockMetadata{},
	}
	for i := range b.Data.Data {
		b.Data.Data[i] = []byte("no transaction")
	}
	b.Header.DataHash = protoutil.DataHash(b.Data.Data)
	must(t, s.Append(protoutil.ParseBlock(b)))
	check("after a block without ids")
	if n := bytes.Count(out.Bytes(), []byte("\n")); n != 1 {
		t.Errorf("%d lines in the log", n)
	}
	fsys := p.cfg.FS.(*vfs.Mem)
	must(t, p.Close())
	must(t, fsys.RemoveAll("/d/index"))
	_, s = openBF(t, Config{Dir: "/d", FS: fsys})
	check("after indexing")
}
