package ledger

import (
	"errors"
	"fmt"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset/kvrwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/vfs"
)

// TestHostileBlocksDoNotStopThePeer: what is in a valid block gets committed
// even if it is not what an honest endorser would have written. Transactions of
// qscc are valid whatever they write (ENDORSE-VALIDATE §6.4).
func TestHostileBlocksDoNotStopThePeer(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	config := Config{
		Dir: testDir, FS: fs, History: true, Log: testLog(t),
		Membership: func(string, *peer.CollectionPolicyConfig) (bool, error) { return false, errors.New("no policy") },
	}
	p := openProvider(t, config)
	genesis := genesisOf("ch")
	l, err := p.Create(genesis)
	if err != nil {
		t.Fatal(err)
	}
	put := func(ns, key, value string) *rwset.NsReadWriteSet {
		return &rwset.NsReadWriteSet{Namespace: ns, Rwset: protoutil.Marshal(&kvrwset.KVRWSet{Writes: []*kvrwset.KVWrite{{Key: key, Value: []byte(value)}}})}
	}
	hashed := func(ns, coll string) *rwset.NsReadWriteSet {
		return &rwset.NsReadWriteSet{Namespace: ns, CollectionHashedRwset: []*rwset.CollectionHashedReadWriteSet{{
			CollectionName: coll, PvtRwsetHash: []byte("hash"),
			HashedRwset: protoutil.Marshal(&kvrwset.HashedRWSet{HashedWrites: []*kvrwset.KVWriteHash{{KeyHash: []byte(sha("k")), ValueHash: []byte(sha("v"))}}}),
		}}}
	}
	coll := protoutil.Marshal(&peer.CollectionConfigPackage{Config: []*peer.CollectionConfig{{}, {Payload: &peer.CollectionConfig_StaticCollectionConfig{
		StaticCollectionConfig: &peer.StaticCollectionConfig{Name: "c", BlockToLive: 1},
	}}}})
	prev := genesis.Header
	for i, sets := range [][]*rwset.NsReadWriteSet{
		{hashed("nobody", "c")},                                                    // not deployed
		{put("lscc", "cc", "garbage"), put("other", "", "")},                       // no definition
		{put("lscc", "cc~collection", "garbage")},                                  // no collections
		{hashed("cc", "c")},                                                        // a collection of those
		{put("lscc", "cc~collection", string(coll))},                               // good ones at last
		{put("lscc", "cc~collection", string(coll)), hashed("cc", "c")},            // nobody can tell the members
		{hashed("cc", "c"), put("lscc", "~collection", "x"), put("lscc", "~", "")}, // odd names
		{put("x", "k", "v")}, {put("x", "k", "v")}, {put("x", "k", "v")},           // and expiry
	} {
		b := protoutil.NewBlock(uint64(i+1), protoutil.BlockHash(prev))
		b.Data.Data = [][]byte{benchEnvelope(fmt.Sprintf("%064x", i), protoutil.Marshal(&rwset.TxReadWriteSet{NsRwset: sets}))}
		b.Header.DataHash = protoutil.DataHash(b.Data.Data)
		prev = b.Header
		view := protoutil.ParseBlock(b)
		view.SetFlags([]byte{byte(peer.TxValidationCode_VALID)})
		if err := l.Commit(view); err != nil {
			t.Fatalf("block %d: %v", i+1, err)
		}
		if f := view.Flags(); f[0] != byte(peer.TxValidationCode_VALID) {
			t.Errorf("block %d: transaction has code %d", i+1, f[0])
		}
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if h := openLedger(t, openProvider(t, config), "ch").Height(); h != 11 {
		t.Errorf("height after reopening: %d", h)
	}
}
