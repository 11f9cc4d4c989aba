package blockfile

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/vfs"
)

func recordFiles(t testing.TB) [][]byte {
	t.Helper()
	names, err := filepath.Glob("testdata/records/*.bin")
	must(t, err)
	if len(names) == 0 {
		t.Fatal("no records")
	}
	var out [][]byte
	for _, n := range names {
		raw, err := os.ReadFile(n)
		must(t, err)
		out = append(out, raw)
	}
	return out
}

// Recorded bodies are parsed and come back byte for byte, with true hashes.
func TestRecordRoundTrip(t *testing.T) {
	t.Parallel()
	for _, body := range recordFiles(t) {
		rec, err := parseRecord(body)
		must(t, err)
		full, spans := appendRecord(nil, nil, rec.block())
		prefix := uvarintSize(uint64(len(body)))
		if !bytes.Equal(full[prefix:], body) || !bytes.Equal(full[:prefix], binary.AppendUvarint(nil, uint64(len(body)))) {
			t.Errorf("block %d comes back otherwise", rec.number)
		}
		if got := rec.spans(body, prefix); len(got) != len(spans) {
			t.Errorf("%d spans, want %d", len(got), len(spans))
		} else {
			for i := range got {
				if got[i] != spans[i] {
					t.Errorf("span %d: %v, want %v", i, got[i], spans[i])
				}
				field := full[spans[i].offset:][:spans[i].length]
				if tx, err := txOfField(field); err != nil || !bytes.Equal(tx, rec.txs[i]) {
					t.Errorf("span %d does not hold the transaction: %v", i, err)
				}
			}
		}
		if !bytes.Equal(protoutil.DataHash(rec.txs), rec.dataHash) {
			t.Errorf("block %d: data hash", rec.number)
		}
		if !bytes.Equal(rec.marshal(), protoutil.Marshal(rec.block())) {
			t.Errorf("block %d: raw block differs from the marshalled one", rec.number)
		}
	}
}

func TestRawBlockOfOddBlocks(t *testing.T) {
	t.Parallel()
	for _, b := range []*common.Block{
		{Header: &common.BlockHeader{}, Data: &common.BlockData{}, Metadata: &common.BlockMetadata{}},
		{Header: &common.BlockHeader{Number: 1 << 40}, Data: &common.BlockData{Data: [][]byte{{}}}, Metadata: &common.BlockMetadata{Metadata: [][]byte{{}, {1}}}},
		{Header: &common.BlockHeader{Number: 127, DataHash: []byte{}, PreviousHash: []byte{9}}, Data: &common.BlockData{Data: [][]byte{make([]byte, 300)}}, Metadata: &common.BlockMetadata{}},
	} {
		raw, _ := appendRecord(nil, nil, b)
		_, n := binary.Uvarint(raw)
		rec, err := parseRecord(raw[n:])
		must(t, err)
		got := &common.Block{}
		must(t, proto.Unmarshal(rec.marshal(), got))
		if !proto.Equal(got, rec.block()) || !bytes.Equal(rec.marshal(), protoutil.Marshal(rec.block())) {
			t.Errorf("%v: %v", b, got)
		}
	}
}

func FuzzParseRecord(f *testing.F) {
	for _, body := range recordFiles(f) {
		if len(body) < 4096 {
			f.Add(body)
			f.Add(body[:len(body)/2])
		}
	}
	f.Add([]byte{0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, body []byte) {
		rec, err := parseRecord(body)
		if err != nil {
			return
		}
		full, _ := appendRecord(nil, nil, rec.block())
		_, n := binary.Uvarint(full)
		again, err := parseRecord(full[n:])
		if err != nil || !proto.Equal(rec.block(), again.block()) {
			t.Errorf("%x came back as %x", body, full)
		}
		if !bytes.Equal(rec.marshal(), protoutil.Marshal(rec.block())) {
			t.Errorf("raw block of %x", body)
		}
	})
}

// FuzzOpenTail appends arbitrary bytes to a file of two blocks, with and without
// checkpoint: the scan ends with whole blocks, or refuses, and never loses one of
// the two.
func FuzzOpenTail(f *testing.F) {
	raw := make([][]byte, 3)
	for i := range raw {
		b, err := os.ReadFile(filepath.Join("testdata/blocks", "block_"+string(rune('0'+i))+".pb"))
		must(f, err)
		raw[i] = b
	}
	third := &common.Block{}
	must(f, proto.Unmarshal(raw[2], third))
	next, _ := appendRecord(nil, nil, third)
	base := vfs.NewMem()
	p, err := OpenProvider(Config{Dir: "/d", FS: base})
	must(f, err)
	s, err := p.Open("bf")
	must(f, err)
	for i := range 2 {
		b := &common.Block{}
		must(f, proto.Unmarshal(raw[i], b))
		must(f, s.Append(protoutil.ParseBlock(b)))
	}
	known := s.tip
	must(f, p.Close())
	f.Add(next, false)
	f.Add(next[:100], true)
	f.Add(append([]byte{1, 2}, next...), true)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, true)
	clean, err := vfs.ReadFile(base, "/d/chains/bf/blockfile_000000")
	must(f, err)
	f.Fuzz(func(t *testing.T, tail []byte, fromCheckpoint bool) {
		// Without the index database, whose opening would take most of the time.
		fsys := vfs.NewMem()
		must(t, fsys.MkdirAll("/b", 0o755))
		must(t, vfs.WriteFile(fsys, "/b/blockfile_000000", append(clean[:len(clean):len(clean)], tail...), 0o660))
		s := &Store{files: newFiles(fsys, "/b")}
		defer s.files.close()
		from, indexed := tip{checkpoint: checkpoint{empty: true}}, uint64(0)
		if fromCheckpoint {
			from, indexed = known, 2
		}
		end, _, cuts, err := s.extend(from, []int{0}, indexed)
		if err != nil {
			return // a later block in the tail
		}
		if end.height() < 2 || end.size < int64(len(clean)) {
			t.Errorf("height %d, size %d of %d", end.height(), end.size, len(clean))
		}
		if rest := int64(len(clean)+len(tail)) - end.size; (rest > 0) != (len(cuts) == 1) {
			t.Errorf("%d bytes left over, cuts %v", rest, cuts)
		}
	})
}

// A corrupt length costs no memory.
func TestCorruptLengthsAllocateNothing(t *testing.T) {
	fsys := vfs.NewMem()
	must(t, fsys.MkdirAll("/d/chains/bf", 0o755))
	tail := binary.AppendUvarint(nil, 1<<62)
	must(t, vfs.WriteFile(fsys, "/d/chains/bf/blockfile_000000", append(tail, 1, 2, 3), 0o660))
	var before, after runtime.MemStats
	p, err := OpenProvider(Config{Dir: "/d", FS: fsys})
	must(t, err)
	defer p.Close()
	runtime.ReadMemStats(&before)
	s, err := p.Open("bf")
	must(t, err)
	runtime.ReadMemStats(&after)
	if s.Height() != 0 || after.TotalAlloc-before.TotalAlloc > 1<<20 {
		t.Errorf("height %d, %d bytes", s.Height(), after.TotalAlloc-before.TotalAlloc)
	}
}
