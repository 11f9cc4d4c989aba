package blockfile

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/vfs"
)

const smallFiles = 3000 // file limit of the vectors

func vectorBlocks(t testing.TB) []*common.Block {
	t.Helper()
	var out []*common.Block
	for i := range 9 {
		raw, err := os.ReadFile(fmt.Sprintf("testdata/blocks/block_%d.pb", i))
		must(t, err)
		b := &common.Block{}
		must(t, proto.Unmarshal(raw, b))
		out = append(out, b)
	}
	return out
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func get[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		must(t, err)
		return v
	}
}

// untar unpacks an archive below /d, without its first path element.
func untar(t testing.TB, file string, fsys vfs.FS, root string) {
	t.Helper()
	f, err := os.Open(file)
	must(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	must(t, err)
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		must(t, err)
		_, name, _ := strings.Cut(strings.TrimSuffix(h.Name, "/"), "/")
		if h.FileInfo().IsDir() {
			must(t, fsys.MkdirAll(path.Join(root, name), 0o755))
			continue
		}
		data, err := io.ReadAll(r)
		must(t, err)
		must(t, vfs.WriteFile(fsys, path.Join(root, name), data, 0o660))
	}
}

func testConfig(t testing.TB, fsys vfs.FS) Config {
	return Config{Dir: "/d", FS: fsys, MaxFileSize: smallFiles, Log: flog.ForTest(t)}
}

func openBF(t testing.TB, cfg Config) (*Provider, *Store) {
	t.Helper()
	p := get[*Provider](t)(OpenProvider(cfg))
	t.Cleanup(func() { p.Close() })
	return p, get[*Store](t)(p.Open("bf"))
}

func appendAll(t testing.TB, s *Store, blocks []*common.Block) {
	t.Helper()
	for _, b := range blocks {
		must(t, s.Append(protoutil.ParseBlock(b)))
	}
}

// dumpIndex is every key and value of the index database in hex.
func dumpIndex(t testing.TB, p *Provider) map[string]string {
	t.Helper()
	out := map[string]string{}
	it := p.index.Raw().Scan(nil, nil)
	defer it.Close()
	for it.Next() {
		out[hex.EncodeToString(it.Key())] = hex.EncodeToString(it.Value())
	}
	must(t, it.Err())
	return out
}

func dumpFiles(t testing.TB, fsys vfs.FS, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	entries, err := fsys.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		out[e.Name()] = string(get[[]byte](t)(vfs.ReadFile(fsys, path.Join(dir, e.Name()))))
	}
	return out
}

type goldenIndex struct {
	Dir   string
	Files []struct {
		File string
		Size int64
	}
	Index []struct {
		Key   string `json:"key_hex"`
		Value string `json:"value_hex"`
	}
}

func golden(t testing.TB, dir string) map[string]string {
	t.Helper()
	raw, err := os.ReadFile("testdata/index_dump.json")
	must(t, err)
	var all []goldenIndex
	must(t, json.Unmarshal(raw, &all))
	for _, g := range all {
		if g.Dir == dir {
			out := map[string]string{}
			for _, e := range g.Index {
				out[e.Key] = e.Value
			}
			return out
		}
	}
	t.Fatalf("no dump of %s", dir)
	return nil
}

var flavours = []struct {
	name  string
	items IndexItems
}{{"peer_small_files", IndexAll}, {"orderer_small_files", IndexNumber}}

// The same blocks give the files and the index of the reference.
func TestAppendMatchesReference(t *testing.T) {
	t.Parallel()
	for _, tc := range flavours {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			ref := vfs.NewMem()
			untar(t, "testdata/"+tc.name+".tar.gz", ref, "/d")
			fsys := vfs.NewMem()
			cfg := testConfig(t, fsys)
			cfg.Index = tc.items
			p, s := openBF(t, cfg)
			appendAll(t, s, vectorBlocks(t))
			if d := cmp.Diff(dumpFiles(t, ref, "/d/chains/bf"), dumpFiles(t, fsys, "/d/chains/bf")); d != "" {
				t.Errorf("block files (-reference +ours):\n%s", d)
			}
			if d := cmp.Diff(golden(t, tc.name), dumpIndex(t, p)); d != "" {
				t.Errorf("index (-reference +ours):\n%s", d)
			}
		})
	}
}

// A directory of the reference opens unchanged, on the machine's file system
// too, and answers.
func TestOpenReferenceDirectory(t *testing.T) {
	t.Parallel()
	for _, tc := range flavours {
		for _, real := range []bool{false, true} {
			t.Run(fmt.Sprint(tc.name, real), func(t *testing.T) {
				t.Parallel()
				var fsys vfs.FS = vfs.NewMem()
				cfg := testConfig(t, fsys)
				if real {
					fsys = vfs.OS()
					cfg.FS, cfg.Dir = fsys, filepath.ToSlash(t.TempDir())
				}
				cfg.Index = tc.items
				untar(t, "testdata/"+tc.name+".tar.gz", fsys, cfg.Dir)
				before := dumpFiles(t, fsys, cfg.Dir+"/chains/bf")
				p, s := openBF(t, cfg)
				if d := cmp.Diff(golden(t, tc.name), dumpIndex(t, p)); d != "" {
					t.Errorf("index (-reference +ours):\n%s", d)
				}
				if d := cmp.Diff(before, dumpFiles(t, fsys, cfg.Dir+"/chains/bf")); d != "" {
					t.Errorf("files changed:\n%s", d)
				}
				checkQueries(t, s, vectorBlocks(t), tc.items)
			})
		}
	}
}

func checkQueries(t *testing.T, s *Store, blocks []*common.Block, items IndexItems) {
	t.Helper()
	tip := blocks[len(blocks)-1].Header
	want := &common.BlockchainInfo{Height: uint64(len(blocks)), CurrentBlockHash: protoutil.BlockHash(tip), PreviousBlockHash: tip.PreviousHash}
	if !proto.Equal(want, s.Info()) {
		t.Errorf("info = %v, want %v", s.Info(), want)
	}
	it := s.Iterator(0)
	defer it.Close()
	for i, b := range blocks {
		same(t, b, get[*common.Block](t)(s.BlockByNumber(uint64(i))))
		if items == IndexAll {
			same(t, b, get[*common.Block](t)(s.BlockByHash(protoutil.BlockHash(b.Header))))
		}
		same(t, b, get[*common.Block](t)(it.Next(t.Context())))
		for range 2 { // from the file, from the cache
			raw := get[[]byte](t)(s.RawBlock(uint64(i)))
			if !bytes.Equal(raw, protoutil.Marshal(b)) {
				t.Errorf("raw block %d differs from the marshalled one", i)
			}
		}
	}
	same(t, blocks[len(blocks)-1], get[*common.Block](t)(s.BlockByNumber(math.MaxUint64)))
	if _, err := s.BlockByNumber(uint64(len(blocks))); !errors.Is(err, ErrNotFound) || err.Error() != "Entry not found in index" {
		t.Errorf("block beyond the tip: %v", err)
	}
	if items != IndexAll {
		for _, err := range []error{second(s.HasTx("x")), second(s.BlockByHash(nil)), second(s.BlockByTxID("x")), second(s.TxByID("x")), second(s.ValidationCode("x"))} {
			if !errors.Is(err, ErrNotIndexed) {
				t.Errorf("query without index: %v", err)
			}
		}
		return
	}
	checkTxQueries(t, s, blocks)
}

func checkTxQueries(t *testing.T, s *Store, blocks []*common.Block) {
	t.Helper()
	seen := map[string]bool{}
	for _, b := range blocks {
		v := protoutil.ParseBlock(b)
		for i := range v.Len() {
			tx := v.Tx(i)
			raw := get[[]byte](t)(s.TxBytesByBlockTx(v.Number(), uint64(i)))
			if !bytes.Equal(raw, tx.Bytes()) {
				t.Errorf("tx %d:%d differs", v.Number(), i)
			}
			if seen[tx.ID()] {
				continue
			}
			seen[tx.ID()] = true
			if has, err := s.HasTx(tx.ID()); err != nil || !has {
				t.Errorf("HasTx(%s) = %v, %v", tx.ID(), has, err)
			}
			same(t, b, get[*common.Block](t)(s.BlockByTxID(tx.ID())))
			if code, err := s.ValidationCode(tx.ID()); err != nil || byte(code) != v.Flags()[i] {
				t.Errorf("code of %s = %v, %v, want %d", tx.ID(), code, err, v.Flags()[i])
			}
			if env, err := tx.Envelope(); err == nil {
				if got := get[*common.Envelope](t)(s.TxByID(tx.ID())); !proto.Equal(got, env) {
					t.Errorf("tx %s differs", tx.ID())
				}
			}
		}
	}
	for _, err := range []error{second(s.TxByID("no")), second(s.BlockByTxID("no")), second(s.ValidationCode("no")), second(s.TxBytesByBlockTx(0, 99)), second(s.BlockByHash([]byte("no")))} {
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("missing entry: %v", err)
		}
	}
	for range 2 {
		if has, err := s.HasTx("no"); has || err != nil {
			t.Errorf("HasTx(no) = %v, %v", has, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func same(t *testing.T, want, got *common.Block) {
	t.Helper()
	if !proto.Equal(want, got) {
		t.Errorf("block = %v, want %v", got.Header, want.Header)
	}
}

func TestAppendRefusesWrongBlock(t *testing.T) {
	t.Parallel()
	blocks := vectorBlocks(t)
	_, s := openBF(t, testConfig(t, vfs.NewMem()))
	appendAll(t, s, blocks[:2])
	if err := s.Append(protoutil.ParseBlock(blocks[3])); err == nil || err.Error() != "block number should have been 2 but was 3" {
		t.Errorf("wrong number: %v", err)
	}
	bad := proto.Clone(blocks[2]).(*common.Block)
	bad.Header.PreviousHash = []byte{1}
	want := fmt.Sprintf("unexpected Previous block hash. Expected PreviousHash = [%x], PreviousHash referred in the latest block= [01]", blocks[2].Header.PreviousHash)
	if err := s.Append(protoutil.ParseBlock(bad)); err == nil || err.Error() != want {
		t.Errorf("wrong hash: %v", err)
	}
	appendAll(t, s, blocks[2:])
}

// Blocks with a transaction id that validation has looked up before, and one
// that came in meanwhile.
func TestAbsentIDsAreForgotten(t *testing.T) {
	t.Parallel()
	blocks := vectorBlocks(t)
	p, s := openBF(t, testConfig(t, vfs.NewMem()))
	for _, b := range blocks {
		v := protoutil.ParseBlock(b)
		for i := range v.Len() {
			second(s.HasTx(v.Tx(i).ID()))
		}
		must(t, s.Append(v))
		for i := range v.Len() {
			if has, err := s.HasTx(v.Tx(i).ID()); !has || err != nil {
				t.Fatalf("block %d tx %d: %v, %v", v.Number(), i, has, err)
			}
		}
	}
	if d := cmp.Diff(golden(t, "peer_small_files"), dumpIndex(t, p)); d != "" {
		t.Errorf("index (-reference +ours):\n%s", d)
	}
}

func TestProviderListsAndIsolates(t *testing.T) {
	t.Parallel()
	p, s := openBF(t, testConfig(t, vfs.NewMem()))
	appendAll(t, s, vectorBlocks(t))
	other := get[*Store](t)(p.Open("bf2"))
	if other.Height() != 0 || other.Info().Height != 0 || other.Info().CurrentBlockHash != nil {
		t.Errorf("new channel is not empty: %v", other.Info())
	}
	if again := get[*Store](t)(p.Open("bf")); again != s {
		t.Error("open channel was opened twice")
	}
	for _, id := range []string{"", ".", "..", "a/b"} {
		if _, err := p.Open(id); err == nil {
			t.Errorf("channel id %q accepted", id)
		}
	}
	if d := cmp.Diff([]string{"bf", "bf2"}, get[[]string](t)(p.List())); d != "" {
		t.Error(d)
	}
	must(t, p.Close())
	must(t, p.Close())
	if _, err := p.Open("x"); !errors.Is(err, ErrClosed) {
		t.Errorf("open after close: %v", err)
	}
	if err := s.Append(protoutil.ParseBlock(&common.Block{})); !errors.Is(err, ErrClosed) {
		t.Errorf("append after close: %v", err)
	}
}

func TestFreshCheckpoint(t *testing.T) {
	t.Parallel()
	p, _ := openBF(t, testConfig(t, vfs.NewMem()))
	v, err := p.index.Store("bf").Get([]byte(keyCheckpoint))
	must(t, err)
	if !bytes.Equal(v, []byte{0, 0, 0, 1}) {
		t.Errorf("checkpoint of a new chain = %x", v)
	}
}
