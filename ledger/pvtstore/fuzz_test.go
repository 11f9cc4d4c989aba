package pvtstore

import (
	"encoding/binary"
	"runtime"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/protos/ledgerstore"
)

// fuzzBTL makes b expire at once, c later and all others never.
func fuzzBTL(_, coll string) (uint64, error) {
	switch coll {
	case "b":
		return 1, nil
	case "c":
		return 5, nil
	case "d":
		return 0, &UnknownCollectionError{Collection: coll}
	}
	return 0, nil
}

// FuzzStore puts any two entries beside those of four blocks and does everything
// there is to do: nothing panics, and the store can be opened again or says why
// not.
func FuzzStore(f *testing.F) {
	expiry := &ledgerstore.ExpiryData{}
	notePresent(expiry, collection{"n", "b"}, 2)
	f.Add([]byte{prefixExpiry, 1, 4, 1, 2}, protoutil.Marshal(expiry), []byte{prefixOldBlocks}, appendBlocks(nil, []uint64{1, 2, 3}))
	f.Add(missingKey(2, collection{"n", "b"}), (&bitmap{length: 5, words: []uint64{17}}).bytes(), []byte{prefixPending}, []byte{})
	f.Add(ineligibleKey(3, collection{"n", "a"}), (&bitmap{length: 1, words: []uint64{1}}).bytes(), eligibleKey(3),
		protoutil.Marshal(&ledgerstore.CollElgInfo{NsCollMap: map[string]*ledgerstore.CollNames{"n": {Entries: []string{"a"}}}}))
	f.Add(heightKey(nil, 2, 0), []byte("\x0a\x02\x08\x01"), []byte{prefixLast}, binary.AppendUvarint(nil, 1<<63))
	f.Add(dataKey(1, 1<<40, collection{"n", "a"}), []byte{0xff}, []byte{prefixOldBlocks}, binary.AppendUvarint(nil, 1<<60))
	f.Fuzz(func(t *testing.T, key1, value1, key2, value2 []byte) {
		fsys := vfs.NewMem()
		fsys.SetMaxBuffer(64 << 10)
		p, err := OpenProvider(Config{Dir: "/p", FS: fsys, PurgeInterval: 2, MovePause: 1})
		must(t, err)
		defer p.Close()
		s, err := p.Open("ch", fuzzBTL)
		must(t, err)
		set := &rwset.TxPvtReadWriteSet{NsPvtRwset: []*rwset.NsPvtReadWriteSet{{Namespace: "n", CollectionPvtRwset: []*rwset.CollectionPvtReadWriteSet{
			{CollectionName: "a", Rwset: []byte("one")}, {CollectionName: "c", Rwset: []byte("two")},
		}}}}
		missing := map[uint64][]MissingCollection{1: {{"n", "b", true}, {"n", "a", false}}}
		for block := range uint64(4) {
			must(t, s.Prepare(block, Sets{0: set}, missing, false))
			must(t, s.Commit())
		}
		b := s.db.NewBatch()
		b.Put(key1, value1)
		b.Put(key2, value2)
		must(t, s.db.Write(b, false))
		use := func(s *Store) {
			for block := range s.Height() {
				if block > 5 {
					break
				}
				s.Read(block, nil) //nolint:errcheck // that it does not panic
			}
			s.Missing(3)                                                         //nolint:errcheck // that it does not panic
			s.Work(t.Context())                                                  //nolint:errcheck // as above
			s.OldBlocks()                                                        //nolint:errcheck // as above
			s.CommitOld(map[uint64]Sets{2: {1: set}, 3: {1: set, 1 << 50: set}}) //nolint:errcheck // as above
			s.OldApplied()                                                       //nolint:errcheck // as above
			s.Work(t.Context())                                                  //nolint:errcheck // as above
		}
		use(s)
		if s, err := p.Open("ch", fuzzBTL); err == nil {
			use(s)
		}
	})
}

// TestHugeCounts: numbers of 2^60 in entries do not make anybody allocate for
// them.
func TestHugeCounts(t *testing.T) {
	huge := binary.AppendUvarint(nil, 1<<60)
	bits := binary.BigEndian.AppendUint64(nil, 1<<60)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, raw := range [][]byte{huge, append(huge, 1, 2, 3), bits, append(bits, make([]byte, 64)...), binary.BigEndian.AppendUint64(nil, 1<<64-1)} {
		if _, err := parseBlocks(raw); err == nil && len(raw) < 60 {
			t.Errorf("%x taken for a list of blocks", raw)
		}
		if _, err := parseBitmap(raw); err == nil {
			t.Errorf("%x taken for a bitmap", raw)
		}
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 1<<20 {
		t.Errorf("%d bytes allocated", used)
	}
}
