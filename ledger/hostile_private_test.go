package ledger

import (
	"crypto/sha256"
	"path"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset/kvrwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/vfs"
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
