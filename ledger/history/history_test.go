package history

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset/kvrwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/ledger/kv"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func openStore(t testing.TB) *Store {
	t.Helper()
	db, err := kv.Open(kv.Config{Dir: "/db", FS: vfs.NewMem()})
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	return Open(db, "ch")
}

// writing is a transaction that writes keys of namespaces in turn.
func writing(kind common.HeaderType, nsKeys ...string) []byte {
	set := &rwset.TxReadWriteSet{}
	for i := 0; i < len(nsKeys); i += 2 {
		set.NsRwset = append(set.NsRwset, &rwset.NsReadWriteSet{
			Namespace: nsKeys[i], Rwset: protoutil.Marshal(&kvrwset.KVRWSet{Writes: []*kvrwset.KVWrite{{Key: nsKeys[i+1], Value: []byte("v")}}}),
		})
	}
	action := protoutil.Marshal(&peer.ChaincodeActionPayload{Action: &peer.ChaincodeEndorsedAction{
		ProposalResponsePayload: protoutil.Marshal(&peer.ProposalResponsePayload{
			Extension: protoutil.Marshal(&peer.ChaincodeAction{Results: protoutil.Marshal(set)}),
		}),
	}})
	return protoutil.Marshal(&common.Envelope{Payload: protoutil.Marshal(&common.Payload{
		Header: &common.Header{ChannelHeader: protoutil.Marshal(&common.ChannelHeader{Type: int32(kind), ChannelId: "ch"})},
		Data:   protoutil.Marshal(&peer.Transaction{Actions: []*peer.TransactionAction{{Payload: action}}}),
	})})
}

func commit(t testing.TB, s *Store, number uint64, codes []byte, txs ...[]byte) {
	t.Helper()
	b := protoutil.NewBlock(number, nil)
	b.Data.Data = txs
	must(t, s.Commit(protoutil.ParseBlock(b), codes))
}

func heights(t testing.TB, s *Store, ns, key string) []kv.Height {
	t.Helper()
	it := s.Heights(ns, key)
	defer it.Close()
	var out []kv.Height
	for {
		h, ok, err := it.Next()
		must(t, err)
		if !ok {
			return out
		}
		out = append(out, h)
	}
}

// TestHeights: oldest first, also where block numbers grow a byte; only what
// valid endorser transactions wrote.
func TestHeights(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	const endorser, config = common.HeaderType_ENDORSER_TRANSACTION, common.HeaderType_CONFIG
	var want []kv.Height
	for _, n := range []uint64{1, 2, 255, 256, 257, 65535, 65536, 1 << 32} {
		commit(t, s, n, []byte{0, byte(peer.TxValidationCode_MVCC_READ_CONFLICT), 0, 0},
			writing(endorser, "cc", "k", "cc", "other"), writing(endorser, "cc", "k"), writing(config, "cc", "k"), writing(endorser, "dd", "k", "cc", "k"))
		want = append(want, kv.Height{Block: n}, kv.Height{Block: n, Tx: 3})
	}
	if d := cmp.Diff(want, heights(t, s, "cc", "k")); d != "" {
		t.Error(d)
	}
	if got := heights(t, s, "cc", "none"); got != nil {
		t.Errorf("got %v", got)
	}
	if next, err := s.Next(); err != nil || next != 1<<32+1 {
		t.Errorf("next block %d, %v", next, err)
	}
	commit(t, s, 1<<32+1, []byte{0}, writing(endorser, "cca", "k", "c", "k", "cc-", "k"))
	got, err := s.Namespaces()
	must(t, err)
	if d := cmp.Diff([]string{"c", "cc", "cc-", "cca", "dd"}, got); d != "" {
		t.Error(d)
	}
	if got, err := openStore(t).Namespaces(); got != nil || err != nil {
		t.Errorf("got %v, %v", got, err)
	}
}

// TestLookAlikes: keys and namespaces with zero bytes and with bytes that look
// like heights. What the form of an entry does not tell, its transaction does
// (LEDGER §6.2); here, no entry of a key may be lost, and false ones must be such
// as cannot be told apart.
func TestLookAlikes(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	names := []string{
		"k", "k\x00", "k\x00\x01\x05", "k\x00\x01\x05\x01\x01", "k\x00\x01", "kÿ", "kk", "", "\x00", "\x01\x05", "ünïcode", "k\x00\x7f",
		string(kv.AppendHeight([]byte("k\x00"), kv.Height{Block: 7, Tx: 0x10203})),
	}
	written := map[string]bool{}
	n := uint64(0)
	for _, ns := range []string{"cc", "cc\x00k", "c", "cc$$pcoll"} {
		for _, key := range names {
			n++
			commit(t, s, n, []byte{0}, writing(common.HeaderType_ENDORSER_TRANSACTION, ns, key))
			written[fmt.Sprintf("%s %q", kv.AppendHeight(nil, kv.Height{Block: n}), ns+"\x00"+key)] = true
		}
	}
	n = 0
	for _, ns := range []string{"cc", "cc\x00k", "c", "cc$$pcoll"} {
		for _, key := range names {
			n++
			found := false
			for _, h := range heights(t, s, ns, key) {
				found = found || h == kv.Height{Block: n}
			}
			if !found {
				t.Errorf("%q %q: block %d is not among %v", ns, key, n, heights(t, s, ns, key))
			}
		}
	}
	if got := heights(t, s, "cc", "kk"); len(got) != 1 {
		t.Errorf("a key without zero bytes has %v", got)
	}
}

// TestSavepoint: of a block without transactions too, and of one that is replayed.
func TestSavepoint(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	if next, err := s.Next(); err != nil || next != 0 {
		t.Errorf("empty: %d, %v", next, err)
	}
	for _, n := range []uint64{0, 1, 1} {
		commit(t, s, n, nil)
		if next, err := s.Next(); err != nil || next != n+1 {
			t.Errorf("after block %d: %d, %v", n, next, err)
		}
	}
	must(t, s.store.Put(savepointKey(), []byte{9, 9}, false))
	if _, err := s.Next(); err == nil {
		t.Error("a savepoint that is none was taken")
	}
}

// FuzzEntries: whatever is in the database, a walk ends and heights are read as
// they were written.
func FuzzEntries(f *testing.F) {
	f.Add("cc", "k", uint64(5), uint64(1), []byte("k\x00\x01\x05"))
	f.Fuzz(func(t *testing.T, ns, key string, block, tx uint64, junk []byte) {
		s := openStore(t)
		h := kv.Height{Block: block, Tx: tx}
		must(t, s.store.Put(appendEntry(nil, ns, key, h), nil, false))
		must(t, s.store.Put(append(appendPrefix(nil, ns, key), junk...), nil, false))
		must(t, s.store.Put(junk, nil, false))
		found := false
		for _, got := range heights(t, s, ns, key) {
			found = found || got == h
		}
		// A prefix of ff bytes ends the range; the reference's ends there, too.
		if !found {
			t.Errorf("%q %q at %v is not found", ns, key, h)
		}
		_, _ = s.Next()
	})
}
