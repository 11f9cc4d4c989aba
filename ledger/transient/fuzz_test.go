package transient

import (
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/transientstore"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/vfs"
)

// FuzzStore puts any entry beside a good one and asks and purges: nothing panics,
// and the good one is there until it is purged.
func FuzzStore(f *testing.F) {
	set := &transientstore.TxPvtReadWriteSetWithConfigInfo{EndorsedAt: 7, PvtRwset: &rwset.TxPvtReadWriteSet{
		NsPvtRwset: []*rwset.NsPvtReadWriteSet{{Namespace: "n", CollectionPvtRwset: []*rwset.CollectionPvtReadWriteSet{{CollectionName: "c"}}}},
	}}
	e := entry{"other", newUUID(), 5}
	f.Add(e.byTx(prefixSet), append([]byte{newFormat}, protoutil.Marshal(set)...))
	f.Add(e.byTx(prefixSet), protoutil.Marshal(set.PvtRwset))
	f.Add(e.byHeight(), []byte{})
	f.Add(e.byTx(prefixTx), []byte{0xff})
	f.Add([]byte("P\x00tx\x00"), []byte{0, 0xff})
	f.Add([]byte("H\x00\x08"), []byte{})
	f.Fuzz(func(t *testing.T, key, value []byte) {
		fsys := vfs.NewMem()
		fsys.SetMaxBuffer(64 << 10)
		p, s := openMem(t, fsys)
		defer p.Close()
		must(t, s.Persist("tx", 9, set))
		must(t, s.db.Put(key, value, false))
		filter := Filter{"n": {"c": true}}
		for _, txid := range []string{"tx", "other", ""} {
			s.Read(txid, nil)    //nolint:errcheck // that it does not panic
			s.Read(txid, filter) //nolint:errcheck // as above
		}
		if sets, err := s.Read("tx", filter); err == nil && len(sets) == 0 {
			t.Error("a write set is lost")
		}
		s.MinHeight()                     //nolint:errcheck // as above
		s.PurgeByTxIDs([]string{"other"}) //nolint:errcheck // as above
		s.PurgeBelow(5)                   //nolint:errcheck // as above
		if sets, err := s.Read("tx", nil); err == nil && len(sets) == 0 {
			t.Error("a write set is lost by purging others")
		}
		if s.PurgeBelow(10) == nil && s.PurgeByTxIDs([]string{"tx"}) == nil {
			if sets, err := s.Read("tx", nil); err == nil && len(sets) > 0 && sets[0].Height < 10 {
				t.Errorf("still there: %v", sets)
			}
		}
	})
}
