package ledger

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heddle-ledger/heddle/internal/failpoint"
	"github.com/heddle-ledger/heddle/internal/vfs"
	sets "github.com/heddle-ledger/heddle/ledger/rwset"
	"github.com/heddle-ledger/heddle/ledger/state"
)

// TestHintsOfHashedMetadata: metadata of a private key alone hint at the collection
// and at its chaincode, which is what is asked for when they are carried over and
// when they are looked up (LEDGER §9.2).
func TestHintsOfHashedMetadata(t *testing.T) {
	t.Parallel()
	c := newPrivateChain(t, vectorConfig(t, vfs.NewMem()))
	c.block(ptx{write: func(b *sets.Builder) {
		b.WritePrivate("cc", "forever", "k", []byte("v"))
		b.WritePrivateMetadata("cc", "forever", "k", map[string][]byte{"m": []byte("1")})
	}, given: true})
	if diff := cmp.Diff([]string{"cc", "cc$$hforever"}, c.l.books.Hints()); diff != "" {
		t.Error(diff)
	}
	c.block(ptx{write: put("forever", "k", "w"), given: true})
	v, err := c.l.state.Get(state.HashedNamespace("cc", "forever"), sha("k"))
	if err != nil || v == nil || v.Version.Block != 3 || len(v.Metadata) == 0 {
		t.Errorf("hashed key: %+v, %v", v, err)
	}
	q, err := c.l.NewQueryExecutor()
	must(t, err)
	defer q.Done()
	if m, err := q.GetPrivateDataMetadataByHash("cc", "forever", []byte(sha("k"))); err != nil || string(m["m"]) != "1" {
		t.Errorf("metadata: %v, %v", m, err)
	}
}

// TestCreationIsNeverLost: before any write to the list of channels the directory is
// one in which the channel is there, or can be created. Once begun it is under
// construction or listed, never neither and never both: a 1.4 peer would not get over
// it (LEDGER §2.3).
func TestCreationIsNeverLost(t *testing.T) {
	t.Parallel()
	fsys := vfs.NewMem()
	cfg := vectorConfig(t, fsys)
	cfg.Points = &failpoint.Points{}
	var photos []*vfs.Mem
	cfg.Points.Arm("kv/ledgerProvider/before-write", func(int) error {
		photos = append(photos, fsys.Crash(vfs.LoseUnsynced, 0), fsys.Crash(vfs.KeepUnsynced, 0))
		return nil
	})
	p := openProvider(t, cfg)
	create(t, p, genesisOf("ch"))
	must(t, p.Close())
	photos = append(photos, fsys.Crash(vfs.LoseUnsynced, 0))
	if len(photos) < 5 {
		t.Fatalf("%d photos", len(photos))
	}
	for i, photo := range photos {
		if list := readList(t, photo); i >= 2 && len(list) != 1 {
			t.Errorf("photo %d: the list has %q", i, slices.Sorted(maps.Keys(list)))
		}
		p := openProvider(t, vectorConfig(t, photo))
		exists, err := p.Exists("ch")
		must(t, err)
		if !exists {
			create(t, p, genesisOf("ch"))
		}
		if h := openLedger(t, p, "ch").Height(); h != 1 {
			t.Errorf("photo %d: height %d", i, h)
		}
		must(t, p.Close())
	}
}

// TestYoungPrivateStoreBesideHeldBlock: a private store younger than the chain begins
// behind a last block that is still to be judged, too (LEDGER §17.2).
func TestYoungPrivateStoreBesideHeldBlock(t *testing.T) {
	t.Parallel()
	fsys := untar(t, "ledger_root_after_block9.tar.gz")
	copyTree(t, untar(t, "ledger_root_after_block10.tar.gz"), fsys, blockFile)
	must(t, fsys.RemoveAll(testDir+"/"+dirPrivate))
	l := openLedger(t, openProvider(t, vectorConfig(t, fsys)), "vecch")
	if l.Height() != 11 || l.private.NextBlock() != 11 {
		t.Errorf("height %d, private store at %d", l.Height(), l.private.NextBlock())
	}
}
