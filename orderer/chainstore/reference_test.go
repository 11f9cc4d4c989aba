package chainstore

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/ledger/kv"
)

const vectors = "../../ledger/blockfile/testdata/"

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// unpack puts the directory of an orderer of the reference below dir.
func unpack(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Open(vectors + "orderer_small_files.tar.gz")
	check(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	check(t, err)
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		check(t, err)
		_, name, _ := strings.Cut(strings.TrimSuffix(h.Name, "/"), "/")
		to := filepath.Join(dir, filepath.FromSlash(name))
		if h.FileInfo().IsDir() {
			check(t, os.MkdirAll(to, 0o755))
			continue
		}
		data, err := io.ReadAll(r)
		check(t, err)
		check(t, os.MkdirAll(filepath.Dir(to), 0o755))
		check(t, os.WriteFile(to, data, 0o600))
	}
}

// TestReferenceDirectory: the directory of a 1.4 orderer is read and grown, and
// nothing comes into it that such an orderer does not know (LEDGER §3.9).
func TestReferenceDirectory(t *testing.T) {
	dir := t.TempDir()
	unpack(t, dir)
	s := open(t, Config{Type: File, Dir: dir})
	ids, err := s.List()
	if err != nil || !slices.Equal(ids, []string{"bf"}) {
		t.Fatalf("channels %v, %v", ids, err)
	}
	c := chain(t, s, "bf")
	if c.Height() != 9 {
		t.Fatalf("height %d", c.Height())
	}
	for n := range uint64(9) {
		raw, err := os.ReadFile(vectors + "blocks/block_" + string(rune('0'+n)) + ".pb")
		check(t, err)
		want := &common.Block{}
		check(t, proto.Unmarshal(raw, want))
		if got, err := c.Block(n); err != nil || !proto.Equal(got, want) {
			t.Errorf("block %d: %v", n, err)
		}
	}
	tip, err := c.Tip()
	check(t, err)
	next := protoutil.NewBlock(9, protoutil.BlockHash(tip.Header))
	next.Data.Data = [][]byte{[]byte("tx")}
	next.Header.DataHash = protoutil.DataHash(next.Data.Data)
	check(t, c.Append(next))
	check(t, s.Close())

	known := regexp.MustCompile(`^(?:chains/bf/blockfile_00000\d|index/(?:CURRENT(?:\.bak)?|LOCK|LOG(?:\.old)?|MANIFEST-\d+|\d+\.(?:log|ldb)))$`)
	check(t, filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		rel, rerr := filepath.Rel(dir, name)
		if rel = filepath.ToSlash(rel); err == nil && rerr == nil && !d.IsDir() && !known.MatchString(rel) {
			t.Errorf("%s should not be there", rel)
		}
		return err
	}))
	db, err := kv.Open(kv.Config{Dir: filepath.Join(dir, "index")})
	check(t, err)
	defer db.Close()
	var keys []string
	it := db.Raw().Scan(nil, nil)
	defer it.Close()
	for it.Next() {
		keys = append(keys, string(it.Key()))
	}
	want := []string{"bf\x00blkMgrInfo", "bf\x00indexCheckpointKey", "bf\x00n\x00"}
	for n := range 9 {
		want = append(want, "bf\x00n\x01"+string(rune(n+1)))
	}
	if !slices.Equal(keys, want) {
		t.Errorf("index %q", keys)
	}
}
