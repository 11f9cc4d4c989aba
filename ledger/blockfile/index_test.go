package blockfile

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-protos-go-apiv2/common"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/ledger/kv"
)

// askAll makes every query there is about every block and transaction, and tells
// what went wrong.
func askAll(s *Store, blocks []*common.Block) (errs []error) {
	ask := func(b *common.Block, err error, want *common.Block) {
		if err == nil && want != nil && b.GetHeader().GetNumber() != want.Header.Number {
			err = fmt.Errorf("asked for block [%d], got block [%d]", want.Header.Number, b.GetHeader().GetNumber())
		}
		errs = append(errs, err)
	}
	for i, b := range blocks {
		got, err := s.BlockByNumber(uint64(i))
		ask(got, err, b)
		got, err = s.BlockByHash(protoutil.BlockHash(b.Header))
		ask(got, err, b)
		errs = append(errs, second(s.RawBlock(uint64(i))))
		v := protoutil.ParseBlock(b)
		for k := range v.Len() {
			id := v.Tx(k).ID()
			errs = append(errs, second(s.TxBytesByBlockTx(uint64(i), uint64(k))), second(s.ValidationCode(id)), second(s.HasTx(id)))
			if id == "" {
				continue
			}
			got, err = s.BlockByTxID(id)
			ask(got, err, nil)
			errs = append(errs, second(s.TxByID(id)))
		}
	}
	return slices.DeleteFunc(errs, func(err error) bool { return err == nil })
}

// TestDamagedIndexEntries: values in the index that mean nothing, or lead
// somewhere else, are errors that say where, never a wrong block or a panic.
func TestDamagedIndexEntries(t *testing.T) {
	t.Parallel()
	blocks := vectorBlocks(t)
	base := smallFilesDir(t, 9)
	damages := map[string][]byte{
		"empty": {}, "cut": {0x80}, "trailing": {0, 0, 0, 0},
		"negative":         fromHex("00ffffffffffffffffff01ffffffffffffffffff01"),
		"beyond all files": fromHex("ffffffff070000"),
		"beyond the end":   fromHex("00ffffffff07ff7f"),
		"into a record":    fromHex("000505"),
		"another block":    fromHex("010000"),
	}
	for name, value := range damages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, prefix := range []byte{prefixNumber, prefixHash, prefixTx, prefixBlockTx, prefixTxBlock, prefixCode} {
				fsys := base.Crash(vfs.KeepUnsynced, 0)
				editIndex(t, fsys, func(s *kv.Store, b *kv.Batch) {
					it := s.Scan([]byte{prefix}, []byte{prefix + 1})
					defer it.Close()
					for it.Next() {
						// The last block's place is asked for at open.
						if k := it.Key(); string(k) != keyCheckpoint && !bytes.Equal(k, numberKey(nil, 8)) {
							b.Put(k, value)
						}
					}
				})
				quiet := testConfig(t, fsys)
				quiet.Log = nil
				p, s := openBF(t, quiet)
				errs := askAll(s, blocks)
				if len(errs) == 0 && name != "another block" && prefix != prefixCode {
					t.Errorf("%c: no error", prefix)
				}
				for _, err := range errs {
					if text := err.Error(); !strings.Contains(text, "channel [bf]") && !strings.Contains(text, bfDir+"/blockfile_") {
						t.Errorf("%c: %v", prefix, err)
					}
				}
				must(t, p.Close())
			}
		})
	}
}

// TestDamagedCheckpoints: what is asked at open is refused if it makes no sense,
// with the key's name.
func TestDamagedCheckpoints(t *testing.T) {
	t.Parallel()
	for _, key := range []string{keyCheckpoint, keyIndexed} {
		for _, value := range []string{"", "80", "ffffffffffffffffffffff", "0102030405060708"} {
			fsys := smallFilesDir(t, 9)
			editIndex(t, fsys, func(_ *kv.Store, b *kv.Batch) { b.Put([]byte(key), fromHex(value)) })
			before := dumpFiles(t, fsys, bfDir)
			p := get[*Provider](t)(OpenProvider(testConfig(t, fsys)))
			if _, err := p.Open("bf"); err == nil || !strings.Contains(err.Error(), "channel [bf]") || !strings.Contains(err.Error(), key) {
				t.Errorf("%s = %s: %v", key, value, err)
			}
			if !maps.Equal(before, dumpFiles(t, fsys, bfDir)) {
				t.Errorf("%s = %s: files changed", key, value)
			}
			must(t, p.Close())
		}
	}
}

// TestCheckpointOfAnotherBlock: a checkpoint that ends where a record ends, but names
// another block, counts for nothing (LEDGER §3.8).
func TestCheckpointOfAnotherBlock(t *testing.T) {
	t.Parallel()
	want := golden(t, "peer_small_files")
	for _, last := range []uint64{0, 7, 9, 108} {
		fsys := smallFilesDir(t, 9)
		editIndex(t, fsys, func(s *kv.Store, b *kv.Batch) {
			c := get[checkpoint](t)(parseCheckpoint(get[[]byte](t)(s.Get([]byte(keyCheckpoint)))))
			c.last = last
			b.Put([]byte(keyCheckpoint), c.bytes())
		})
		p, s := openBF(t, testConfig(t, fsys))
		if s.Height() != 9 {
			t.Errorf("checkpoint of block %d: height %d", last, s.Height())
		}
		if d := cmp.Diff(want, dumpIndex(t, p)); d != "" {
			t.Errorf("checkpoint of block %d: index (-reference +ours):\n%s", last, d)
		}
		must(t, p.Close())
	}
}

// TestIndexRebuiltFromAnything: without its record of the last block the index is
// built anew, whatever is left of it (LEDGER §3.8 c).
func TestIndexRebuiltFromAnything(t *testing.T) {
	t.Parallel()
	want := golden(t, "peer_small_files")
	for name, keep := range map[string]func(key []byte) bool{
		"all":                 func([]byte) bool { return true },
		"blocks":              func(k []byte) bool { return k[0] == prefixNumber || k[0] == prefixHash },
		"transactions":        func(k []byte) bool { return k[0] == prefixTx || k[0] == prefixCode || k[0] == prefixTxBlock },
		"checkpoint":          func(k []byte) bool { return string(k) == keyCheckpoint },
		"no transactions' id": func(k []byte) bool { return k[0] != prefixTx },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fsys := smallFilesDir(t, 9)
			editIndex(t, fsys, func(s *kv.Store, b *kv.Batch) {
				it := s.Scan(nil, nil)
				defer it.Close()
				for it.Next() {
					if !keep(it.Key()) || string(it.Key()) == keyIndexed {
						b.Delete(it.Key())
					}
				}
			})
			p, s := openBF(t, testConfig(t, fsys))
			if d := cmp.Diff(want, dumpIndex(t, p)); d != "" {
				t.Errorf("index (-reference +ours):\n%s", d)
			}
			checkQueries(t, s, vectorBlocks(t), IndexAll)
		})
	}
}

// TestIndexOfEarlierVersions: before 1.4.2 config transactions were indexed under
// the empty id. A rollback passes over ids that the index does not have (LEDGER
// §3.6), and the chain grows again.
func TestIndexOfEarlierVersions(t *testing.T) {
	t.Parallel()
	blocks := vectorBlocks(t)
	fsys := smallFilesDir(t, 9)
	id := protoutil.ParseBlock(blocks[4]).Tx(0).ID()
	editIndex(t, fsys, func(s *kv.Store, b *kv.Batch) {
		for _, prefix := range []byte{prefixTx, prefixTxBlock, prefixCode} {
			v := get[[]byte](t)(s.Get(txKey(nil, prefix, id)))
			if v == nil {
				t.Fatalf("no %c entry", prefix)
			}
			b.Put(txKey(nil, prefix, ""), v)
			b.Delete(txKey(nil, prefix, id))
		}
	})
	p, s := openBF(t, testConfig(t, fsys))
	if has, err := s.HasTx(id); has || err != nil {
		t.Errorf("has %v, %v", has, err)
	}
	if _, err := s.TxByID(id); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
	must(t, p.Close())
	must(t, rollback(t, fsys, 2))
	_, s = openBF(t, testConfig(t, fsys))
	appendAll(t, s, blocks[3:])
	same(t, blocks[4], get[*common.Block](t)(s.BlockByTxID(id)))
}

// TestFewerMetadata: blocks of earlier versions have fewer metadata; what there
// is comes back (LEDGER §3.3). A block without codes is indexed as not validated.
func TestFewerMetadata(t *testing.T) {
	t.Parallel()
	chain := newChainMaker(1, 100)
	fsys := vfs.NewMem()
	p, s := openBF(t, testConfig(t, fsys))
	var blocks []*common.Block
	for slots := range 8 {
		b := chain.block().Proto()
		b.Metadata = nil
		if slots > 0 {
			b.Metadata = &common.BlockMetadata{}
		}
		for i := range slots {
			b.Metadata.Metadata = append(b.Metadata.Metadata, []byte{byte(i + 1)})
		}
		must(t, s.Append(protoutil.ParseBlock(b)))
		blocks = append(blocks, b)
	}
	for range 2 {
		for i, want := range blocks {
			got := get[*common.Block](t)(s.BlockByNumber(uint64(i)))
			if d := cmp.Diff(want.GetMetadata().GetMetadata(), got.Metadata.Metadata); d != "" && i > 0 {
				t.Errorf("block %d: %s", i, d)
			}
			code, err := s.ValidationCode(protoutil.ParseBlock(want).Tx(0).ID())
			if wantCode := map[bool]int32{true: 3, false: 254}[i > 2]; err != nil || int32(code) != wantCode {
				t.Errorf("block %d: code %d, %v", i, code, err)
			}
		}
		must(t, p.Close())
		removeIndex(t, fsys)
		p, s = openBF(t, testConfig(t, fsys))
	}
}

// TestCutsAreWarnedOf: what is cut off at open is reported with file, offset and
// size (LEDGER §3.8).
func TestCutsAreWarnedOf(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int{"partial-prefix": 1, "partial-record": 12, "zero-tail": 100, "garbage-record": 6} {
		fsys := vfs.NewMem()
		untar(t, "testdata/peer_small_files.tar.gz", fsys, "/d")
		damages[name](t, fsys)
		var out bytes.Buffer
		logging, err := flog.New(&out, "%{level} %{message}", "")
		must(t, err)
		cfg := testConfig(t, fsys)
		cfg.Log = logging.Logger("blocks")
		openBF(t, cfg)
		want := fmt.Sprintf("WARN Channel [bf]: cutting %d bytes of an incomplete block off %s at offset 853\n", size, lastFile())
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s: log:\n%s", name, out.String())
		}
	}
}

// TestBlockFileNames: at least six digits; other names are passed over, except
// those that begin like a block file's (LEDGER §3.1).
func TestBlockFileNames(t *testing.T) {
	t.Parallel()
	fsys := vfs.NewMem()
	f := newFiles(fsys, bfDir)
	must(t, fsys.MkdirAll(bfDir, 0o755))
	for _, n := range []int{1000000, 999999, 0, 12} {
		must(t, vfs.WriteFile(fsys, f.path(n), nil, 0o660))
	}
	for _, other := range []string{"__preResetHeight", "x_blockfile_000001", "Blockfile_000001", "blockfile"} {
		must(t, vfs.WriteFile(fsys, path.Join(bfDir, other), nil, 0o660))
	}
	if d := cmp.Diff([]int{0, 12, 999999, 1000000}, get[[]int](t)(f.list())); d != "" {
		t.Error(d)
	}
	if f.path(12) != bfDir+"/blockfile_000012" || f.path(1000000) != bfDir+"/blockfile_1000000" {
		t.Errorf("%s, %s", f.path(12), f.path(1000000))
	}
	for _, bad := range []string{"blockfile_", "blockfile_x", "blockfile_-1", "blockfile_000001.bak"} {
		name := path.Join(bfDir, bad)
		must(t, vfs.WriteFile(fsys, name, nil, 0o660))
		if _, err := f.list(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", bad, err)
		}
		must(t, fsys.Remove(name))
	}
}

// TestMissingFileInTheMiddle does not keep the store from opening, if the index
// is there; what was in it is missed when it is asked for.
func TestMissingFileInTheMiddle(t *testing.T) {
	t.Parallel()
	fsys := smallFilesDir(t, 9)
	missing := bfDir + "/blockfile_000002"
	must(t, fsys.Remove(missing))
	_, s := openBF(t, testConfig(t, fsys))
	for n := range uint64(9) {
		_, err := s.BlockByNumber(n)
		var damage *DamageError
		if lost := n == 3 || n == 4; errors.As(err, &damage) != lost || (err != nil) != lost || lost && damage.File != missing {
			t.Errorf("block %d: %v", n, err)
		}
	}
	if entries := dumpFiles(t, fsys, bfDir); entries["blockfile_000002"] != "" || len(entries) != 5 {
		t.Errorf("%d files", len(entries))
	}
}

// TestBlocksBeyondTheLimit: a block that is larger than a file may be gets a file
// of its own; the first one leaves an empty file before it (LEDGER §3.1).
func TestBlocksBeyondTheLimit(t *testing.T) {
	t.Parallel()
	blocks := vectorBlocks(t)
	var sizes []int64
	for _, b := range blocks {
		raw, _ := appendRecord(nil, nil, b)
		sizes = append(sizes, int64(len(raw)))
	}
	for _, limit := range []int64{1, sizes[0], 700, sizes[2] - 1, sizes[2]} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			t.Parallel()
			fsys := vfs.NewMem()
			cfg := testConfig(t, fsys)
			cfg.MaxFileSize = limit
			want, file := []int64{0}, 0
			for i, b := range blocks {
				p, s := openBF(t, cfg)
				must(t, s.Append(protoutil.ParseBlock(b)))
				if want[file]+sizes[i] > limit {
					file++
					want = append(want, 0)
				}
				want[file] += sizes[i]
				cp := get[[]byte](t)(s.index.Get([]byte(keyCheckpoint)))
				if got := (checkpoint{file: file, size: want[file], last: uint64(i)}).bytes(); !bytes.Equal(cp, got) {
					t.Errorf("block %d: checkpoint %x, want %x", i, cp, got)
				}
				must(t, p.Close())
				if i%3 == 2 {
					removeIndex(t, fsys)
				}
			}
			for i, size := range want {
				if got, _, err := newFiles(fsys, bfDir).size(i); err != nil || got != size {
					t.Errorf("file %d has %d bytes, want %d (%v)", i, got, size, err)
				}
			}
			_, s := openBF(t, cfg)
			checkQueries(t, s, blocks, IndexAll)
		})
	}
}

// TestFullFileIsLeft: a file may be filled to the last byte.
func TestFullFileIsLeft(t *testing.T) {
	t.Parallel()
	blocks := vectorBlocks(t)
	raw0, _ := appendRecord(nil, nil, blocks[0])
	raw1, _ := appendRecord(nil, nil, blocks[1])
	for spare, want := range map[int64]string{0: "00", -1: "01"} {
		cfg := testConfig(t, vfs.NewMem())
		cfg.MaxFileSize = int64(len(raw0)+len(raw1)) + spare
		_, s := openBF(t, cfg)
		appendAll(t, s, blocks[:2])
		if cp := get[[]byte](t)(s.index.Get([]byte(keyCheckpoint))); hex.EncodeToString(cp[:1]) != want {
			t.Errorf("%d bytes to spare: checkpoint %x", spare, cp)
		}
	}
	if DefaultMaxFileSize != 67108864 {
		t.Error("the reference's limit is another")
	}
}
