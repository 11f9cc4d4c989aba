package transient

import (
	"archive/tar"
	"compress/gzip"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"github.com/hyperledger/fabric-protos-go-apiv2/transientstore"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/vfs"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

type golden struct {
	Entries []struct {
		Key   string `json:"key_hex"`
		Value string `json:"value_hex"`
	}
	Set string `json:"pvt_rwset_hex"`
}

func readGolden(t testing.TB) (g golden, set *rwset.TxPvtReadWriteSet) {
	t.Helper()
	raw, err := os.ReadFile("testdata/transientstore.json")
	must(t, err)
	must(t, json.Unmarshal(raw, &g))
	b, err := hex.DecodeString(g.Set)
	must(t, err)
	set = &rwset.TxPvtReadWriteSet{}
	must(t, proto.Unmarshal(b, set))
	return g, set
}

func openMem(t testing.TB, fsys vfs.FS) (*Provider, *Store) {
	t.Helper()
	p, err := OpenProvider("/t", fsys)
	must(t, err)
	t.Cleanup(func() { p.Close() })
	return p, p.Open("vecch")
}

var uuidText = regexp.MustCompile(`(?:[0-9a-f]{8})-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}`)

// shape is the content with each UUID replaced.
func shape(t testing.TB, entries map[string]string) map[string]int {
	out := map[string]int{}
	for k, v := range entries {
		raw, err := hex.DecodeString(k)
		must(t, err)
		out[uuidText.ReplaceAllString(string(raw), "u")+" = "+v]++
	}
	return out
}

func dump(t testing.TB, p *Provider) map[string]string {
	t.Helper()
	out := map[string]string{}
	it := p.db.Raw().Scan(nil, nil)
	defer it.Close()
	for it.Next() {
		out[hex.EncodeToString(it.Key())] = hex.EncodeToString(it.Value())
	}
	must(t, it.Err())
	return out
}

// The recorded writes give the recorded keys, but for the UUIDs.
func TestPersistMatchesReference(t *testing.T) {
	t.Parallel()
	g, set := readGolden(t)
	want := map[string]string{}
	for _, e := range g.Entries {
		want[e.Key] = e.Value
	}
	p, s := openMem(t, vfs.NewMem())
	for txid, height := range map[string]uint64{"txid-0": 5, "txid-1": 10, "txid-2": 300} {
		must(t, s.Persist(txid, height, &transientstore.TxPvtReadWriteSetWithConfigInfo{EndorsedAt: height, PvtRwset: set}))
	}
	old := entry{"txid-old-format", newUUID(), 7}
	b := s.db.NewBatch()
	b.Put(old.byTx(prefixSet), protoutil.Marshal(set))
	b.Put(old.byHeight(), nil)
	b.Put(old.byTx(prefixTx), nil)
	must(t, s.db.Write(b, true))
	if d := cmp.Diff(shape(t, want), shape(t, dump(t, p))); d != "" {
		t.Errorf("(-reference +ours):\n%s", d)
	}
}

func untar(t testing.TB, fsys vfs.FS) {
	t.Helper()
	f, err := os.Open("testdata/transientStore.tar.gz")
	must(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	must(t, err)
	must(t, fsys.MkdirAll("/t", 0o755))
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		must(t, err)
		if h.FileInfo().IsDir() {
			continue
		}
		data, err := io.ReadAll(r)
		must(t, err)
		must(t, vfs.WriteFile(fsys, path.Join("/t", path.Base(h.Name)), data, 0o660))
	}
}

// The reference's directory is read, new format and old, and purged.
func TestOpenReferenceDirectory(t *testing.T) {
	t.Parallel()
	g, set := readGolden(t)
	fsys := vfs.NewMem()
	untar(t, fsys)
	p, s := openMem(t, fsys)
	want := map[string]string{}
	for _, e := range g.Entries {
		want[e.Key] = e.Value
	}
	if d := cmp.Diff(want, dump(t, p)); d != "" {
		t.Fatalf("(-reference +ours):\n%s", d)
	}
	for txid, height := range map[string]uint64{"txid-0": 5, "txid-1": 10, "txid-2": 300, "txid-old-format": 7} {
		sets, err := s.Read(txid, nil)
		must(t, err)
		if len(sets) != 1 || sets[0].Height != height || !proto.Equal(sets[0].Private.PvtRwset, set) {
			t.Errorf("%s: %v", txid, sets)
		}
	}
	if h, err := s.MinHeight(); h != 5 || err != nil {
		t.Errorf("min height = %d, %v", h, err)
	}
	must(t, s.PurgeBelow(10))
	if h, err := s.MinHeight(); h != 10 || err != nil {
		t.Errorf("min height = %d, %v", h, err)
	}
	must(t, s.PurgeByTxIDs([]string{"txid-1", "txid", "none"}))
	if h, err := s.MinHeight(); h != 300 || err != nil {
		t.Errorf("min height = %d, %v", h, err)
	}
	must(t, s.PurgeBelow(301))
	if d := dump(t, p); len(d) != 0 {
		t.Errorf("left: %v", d)
	}
	if _, err := s.MinHeight(); !errors.Is(err, ErrEmpty) || err.Error() != "Transient store is empty" {
		t.Errorf("min height of nothing: %v", err)
	}
}

func config(names ...string) *peer.CollectionConfigPackage {
	pkg := &peer.CollectionConfigPackage{}
	for _, n := range names {
		pkg.Config = append(pkg.Config, &peer.CollectionConfig{Payload: &peer.CollectionConfig_StaticCollectionConfig{
			StaticCollectionConfig: &peer.StaticCollectionConfig{Name: n},
		}})
	}
	return pkg
}

func TestFilter(t *testing.T) {
	t.Parallel()
	_, set := readGolden(t)
	_, s := openMem(t, vfs.NewMem())
	in := &transientstore.TxPvtReadWriteSetWithConfigInfo{
		EndorsedAt: 3, PvtRwset: set,
		CollectionConfigs: map[string]*peer.CollectionConfigPackage{"cc1": config("collA", "collY"), "cc2": config("x")},
	}
	for range 2 { // two endorsers
		must(t, s.Persist("tx", 4, in))
	}
	sets, err := s.Read("tx", Filter{"cc1": {"collY": true}})
	must(t, err)
	if len(sets) != 2 {
		t.Fatalf("%d sets", len(sets))
	}
	got := sets[0].Private
	if len(got.CollectionConfigs) != 1 || len(got.CollectionConfigs["cc1"].Config) != 1 || got.EndorsedAt != 3 ||
		len(got.PvtRwset.NsPvtRwset) != 1 || len(got.PvtRwset.NsPvtRwset[0].CollectionPvtRwset) != 1 {
		t.Errorf("filtered: %v", got)
	}
	sets, err = s.Read("tx", Filter{"cc9": {"collY": true}})
	must(t, err)
	if sets[1].Private.PvtRwset != nil || sets[1].Private.CollectionConfigs != nil {
		t.Errorf("filtered to nothing: %v", sets[1])
	}
	if sets, err := s.Read("t", nil); len(sets) != 0 || err != nil {
		t.Errorf("other transaction: %v, %v", sets, err)
	}
	if err := s.Persist("a\x00b", 1, in); err == nil {
		t.Error("transaction id with zero byte accepted")
	}
}

func FuzzKeys(f *testing.F) {
	e := entry{"tx", newUUID(), 300}
	f.Add(e.byTx(prefixSet))
	f.Add(e.byHeight())
	f.Fuzz(func(t *testing.T, key []byte) {
		if e, err := parseByTx(key); err == nil {
			if back, err := parseByTx(e.byTx(key[0])); err != nil || back != e {
				t.Errorf("%x: %v, %v", key, back, err)
			}
		}
		if e, err := parseByHeight(key); err == nil {
			if back, err := parseByHeight(e.byHeight()); err != nil || back != e {
				t.Errorf("%x: %v, %v", key, back, err)
			}
		}
	})
}

// TestPurgeOfMany: what is left behind goes whole, however much it is.
func TestPurgeOfMany(t *testing.T) {
	p, s := openMem(t, vfs.NewMem())
	set := &transientstore.TxPvtReadWriteSetWithConfigInfo{}
	long := strings.Repeat("x", 20_000) // so that a batch is full soon
	for i := range 100 {
		must(t, s.Persist(fmt.Sprint(i, long), 5, set))
		must(t, s.Persist("same"+long, 5, set))
	}
	must(t, s.Persist("kept", 6, set))
	must(t, s.PurgeByTxIDs([]string{"same" + long, "1" + long}))
	if n := len(dump(t, p)); n != 3*100 {
		t.Errorf("%d entries left", n)
	}
	must(t, s.PurgeBelow(6))
	if n := len(dump(t, p)); n != 3 {
		t.Errorf("%d entries left", n)
	}
}
