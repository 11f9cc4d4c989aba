package ledger

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"path"
	"runtime"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset/kvrwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/vfs"
	sets "github.com/heddle-ledger/heddle/ledger/rwset"
)

// notAWriteSet is private data that do not decode.
var notAWriteSet = []byte("\x0a\xffnot a write set")

// withGarbage is a block with one transaction, which names the hash of
// notAWriteSet, as endorsers can make it, and those data.
func withGarbage(prev *protoutil.Block, txid string) (*protoutil.Block, *rwset.TxPvtReadWriteSet) {
	hash := sha256.Sum256(notAWriteSet)
	public := &rwset.TxReadWriteSet{NsRwset: []*rwset.NsReadWriteSet{{
		Namespace: "cc",
		Rwset:     protoutil.Marshal(&kvrwset.KVRWSet{Writes: []*kvrwset.KVWrite{{Key: txid, Value: []byte("v")}}}),
		CollectionHashedRwset: []*rwset.CollectionHashedReadWriteSet{{
			CollectionName: "forever", PvtRwsetHash: hash[:],
			HashedRwset: protoutil.Marshal(&kvrwset.HashedRWSet{HashedWrites: []*kvrwset.KVWriteHash{{KeyHash: []byte(sha("k")), ValueHash: []byte(sha("v"))}}}),
		}},
	}}}
	b := protoutil.NewBlock(prev.Number()+1, protoutil.BlockHash(prev.Proto().Header))
	b.Data.Data = [][]byte{benchEnvelope(txid, protoutil.Marshal(public))}
	b.Header.DataHash = protoutil.DataHash(b.Data.Data)
	v := protoutil.ParseBlock(b)
	v.SetFlags([]byte{byte(peer.TxValidationCode_VALID)})
	return v, &rwset.TxPvtReadWriteSet{NsPvtRwset: []*rwset.NsPvtReadWriteSet{{
		Namespace:          "cc",
		CollectionPvtRwset: []*rwset.CollectionPvtReadWriteSet{{CollectionName: "forever", Rwset: notAWriteSet}},
	}}}
}

// TestPrivateDataThatDoNotDecode: endorsers can have the hash of anything in a
// valid transaction. What it belongs to has no effect, and stops neither the
// commit of its block nor reconciliation, nor the next start.
func TestPrivateDataThatDoNotDecode(t *testing.T) {
	t.Parallel()
	cfg := vectorConfig(t, vfs.NewMem())
	c := newPrivateChain(t, cfg)
	last := func() *protoutil.Block {
		b, err := c.l.BlockByNumber(c.l.Height() - 1)
		must(t, err)
		return protoutil.ParseBlock(b)
	}
	given, set := withGarbage(last(), "given")
	must(t, c.l.CommitWithPrivateData(given, &PrivateData{Sets: map[uint64]*rwset.TxPvtReadWriteSet{0: set}}))
	missing, set := withGarbage(last(), "missing")
	must(t, c.l.CommitWithPrivateData(missing, &PrivateData{Missing: map[uint64][]MissingCollection{
		0: {{Namespace: "cc", Collection: "forever", Eligible: true}},
	}}))
	for range 2 {
		mismatches, err := c.l.CommitReconciled([]ReconciledData{{Block: missing.Number(), Sets: map[uint64]*rwset.TxPvtReadWriteSet{0: set}}})
		if err != nil || len(mismatches) != 0 {
			t.Error(mismatches, err)
		}
	}
	if old, err := c.l.private.OldBlocks(); err != nil || old != nil {
		t.Errorf("reconciled data are still to be applied: %v, %v", old, err)
	}
	if left, err := c.l.MissingPrivateData(10); err != nil || len(left) != 0 {
		t.Errorf("still missing: %v, %v", left, err)
	}
	for _, without := range []string{"", dirState} {
		fs := cfg.FS.(*vfs.Mem).Crash(vfs.KeepUnsynced, 0)
		if without != "" {
			must(t, fs.RemoveAll(path.Join(testDir, without)))
		}
		again := vectorConfig(t, fs)
		p := openProvider(t, again)
		if h := openLedger(t, p, "ch").Height(); h != 4 {
			t.Errorf("height %d", h)
		}
		must(t, p.Close())
	}
}

// TestThousandsOfCollections: a block that writes to all collections of a large
// package, and to as many that are not deployed, is committed without decoding
// the package for each, and told of in one line.
func TestThousandsOfCollections(t *testing.T) {
	const many = 1500
	var out bytes.Buffer
	logging, err := flog.New(&out, "%{message}", "warning")
	must(t, err)
	cfg := vectorConfig(t, vfs.NewMem())
	cfg.Log = logging.Root()
	p := openProvider(t, cfg)
	l, err := p.Create(genesisOf("ch"))
	must(t, err)
	commit := func(fill func(*sets.Builder)) {
		last, err := l.BlockByNumber(l.Height() - 1)
		must(t, err)
		r := sets.NewBuilder()
		fill(r)
		b, _ := blockOf(t, last, r)
		must(t, l.Commit(b))
	}
	pkg := &peer.CollectionConfigPackage{}
	for i := range many {
		pkg.Config = append(pkg.Config, &peer.CollectionConfig{Payload: &peer.CollectionConfig_StaticCollectionConfig{
			StaticCollectionConfig: &peer.StaticCollectionConfig{Name: fmt.Sprint("c", i), BlockToLive: 5},
		}})
	}
	commit(func(r *sets.Builder) {
		r.Write("lscc", "cc", []byte("definition"))
		r.Write("lscc", "cc~collection", protoutil.Marshal(pkg))
	})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	commit(func(r *sets.Builder) {
		for i := range many {
			r.WritePrivate("cc", fmt.Sprint("c", i), "k", []byte("v"))
			r.WritePrivate("cc", fmt.Sprint("none", i), "k", []byte("v"))
		}
	})
	runtime.ReadMemStats(&after)
	if used := (after.TotalAlloc - before.TotalAlloc) >> 20; used > 200 {
		t.Errorf("%d MiB", used)
	}
	if n := bytes.Count(out.Bytes(), []byte("\n")); n > 2 {
		t.Errorf("%d lines in the log: %.500s", n, out.Bytes())
	}
	if btl, err := l.blockToLive("cc", fmt.Sprint("c", many-1)); btl != 5 || err != nil {
		t.Errorf("block to live %d, %v", btl, err)
	}
}
