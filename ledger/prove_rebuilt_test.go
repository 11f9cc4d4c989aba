package ledger

import (
	"path"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/vfs"
	sets "github.com/heddle-ledger/heddle/ledger/rwset"
)

// lives is a deployment of cc with collection c, whose data live so many blocks.
func lives(blocks uint64) func(*sets.Builder) {
	return func(r *sets.Builder) {
		r.Write("lscc", "cc", []byte("definition"))
		r.Write("lscc", "cc~collection", protoutil.Marshal(&peer.CollectionConfigPackage{Config: []*peer.CollectionConfig{{
			Payload: &peer.CollectionConfig_StaticCollectionConfig{StaticCollectionConfig: &peer.StaticCollectionConfig{Name: "c", BlockToLive: blocks}},
		}}}))
	}
}

// TestHeldOnARebuiltState: rebuild-dbs was interrupted when the state was gone, and
// a crash before it had taken the last block from the index. That block had been
// acknowledged, and all that it is judged by is a state that was built anew, in
// which a key has not expired because its life was counted otherwise (adr/0009).
// It stays; but one that the block itself proves wrong goes.
func TestHeldOnARebuiltState(t *testing.T) {
	t.Parallel()
	disk := vfs.NewMem()
	cfg := vectorConfig(t, disk)
	p := openProvider(t, cfg)
	c := &privateChain{t: t, prev: genesisOf("ch").Header, sets: map[uint64]map[uint64]*rwset.TxPvtReadWriteSet{}}
	create(t, p, genesisOf("ch"))
	c.l = openLedger(t, p, "ch")
	private := func(key string) ptx {
		return ptx{given: true, write: func(r *sets.Builder) { r.WritePrivate("cc", "c", key, []byte("v")) }}
	}
	metadata := ptx{given: true, write: func(r *sets.Builder) {
		r.WritePrivateMetadata("cc", "c", "k", map[string][]byte{"m": []byte("v")})
	}}
	public := ptx{write: func(r *sets.Builder) { r.Write("cc", "public", []byte("v")) }}
	c.block(ptx{write: lives(0)})
	c.block(private("first")) // what counts in this process from now on
	c.block(ptx{write: lives(1)})
	must(t, p.Close())
	p = openProvider(t, cfg)
	c.l = openLedger(t, p, "ch")
	c.block(private("k")) // expires
	for range 3 {
		c.block(public)
	}
	for _, last := range []struct {
		name           string
		tx             ptx
		garbled, stays bool
	}{
		{"another state explains it", metadata, false, true},
		{"whole", public, false, true},
		{"garbled", public, true, false},
	} {
		before, prev := disk.Crash(vfs.KeepUnsynced, 0), c.prev
		c.block(last.tx)
		crashed := disk.Crash(vfs.LoseUnsynced, 0)
		height := c.l.Height()
		must(t, p.Close())
		for _, name := range dropped() {
			must(t, crashed.RemoveAll(path.Join(testDir, name)))
		}
		if last.garbled {
			raw, err := vfs.ReadFile(crashed, chBlockFile)
			must(t, err)
			raw[len(raw)-1] ^= 1 // of the commit hash
			must(t, vfs.WriteFile(crashed, chBlockFile, raw, 0o660))
		}
		again := cfg
		again.FS = crashed
		p = openProvider(t, again)
		l := openLedger(t, p, "ch")
		if h := l.Height(); (h == height) != last.stays {
			t.Errorf("%s: height %d of %d", last.name, h, height)
		}
		if differs := l.ReplayDifference(); (differs != nil) != (last.tx.given && last.stays) {
			t.Errorf("%s: %v", last.name, differs)
		}
		must(t, p.Close())
		disk, c.prev = before, prev
		cfg.FS = disk
		p = openProvider(t, cfg)
		c.l = openLedger(t, p, "ch")
	}
}
