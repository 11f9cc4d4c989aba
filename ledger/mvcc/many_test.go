package mvcc

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset/kvrwset"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/ledger/state"
)

// publicWrites is an endorser transaction that writes in namespace cc.
func publicWrites(writes ...*kvrwset.KVWrite) []byte {
	return endorserTx(protoutil.Marshal(&rwset.TxReadWriteSet{NsRwset: []*rwset.NsReadWriteSet{{
		Namespace: "cc", Rwset: protoutil.Marshal(&kvrwset.KVRWSet{Writes: writes}),
	}}}))
}

// TestRepeatedKeyAmongMany: entries for one key in one write set are combined
// however many other keys lie between them (LEDGER §12.5, vectors dup-*): a key
// that is written twice keeps its value, and its version goes up.
func TestRepeatedKeyAmongMany(t *testing.T) {
	t.Parallel()
	for others := range 3 * linearOps {
		db := openState(t)
		commit(t, db, nil, block(2, publicWrites(&kvrwset.KVWrite{Key: "twice", Value: []byte("old")})), []byte{0})
		writes := []*kvrwset.KVWrite{{Key: "twice", Value: []byte("one")}}
		for i := range others {
			writes = append(writes, &kvrwset.KVWrite{Key: fmt.Sprintf("other%d", i), Value: []byte("x")})
		}
		writes = append(writes, &kvrwset.KVWrite{Key: "twice", Value: []byte("two")})
		r := commit(t, db, nil, block(3, publicWrites(writes...)), []byte{0})
		v, err := db.Get("cc", "twice")
		if err != nil || v == nil || string(v.Value) != "old" || v.Version != (state.Version{Block: 3}) {
			t.Errorf("%d keys between: %+v, %v", others, v, err)
		}
		if n := r.Updates.Len(); n != others+1 {
			t.Errorf("%d keys between: %d updates", others, n)
		}
	}
}

// TestNamesThatMeet: collections with made-up names may share a namespace of the
// state; hashes count more there than plain values, and these more than public ones.
func TestNamesThatMeet(t *testing.T) {
	t.Parallel()
	write := func(v string) state.Write { return state.Write{Key: "k", Value: []byte(v)} }
	for _, kinds := range []string{"public private hashed", "public hashed", "public private", "private hashed"} {
		u := NewUpdates(0)
		var last string
		for _, kind := range strings.Fields(kinds) {
			switch last = kind; kind {
			case "public":
				u.PutPublic("a$$hb$$pc", write(kind))
			case "private":
				u.PutPrivate("a$$hb", "c", write(kind))
			case "hashed":
				u.PutHashed("a", "b$$pc", write(kind))
			}
		}
		if w := u.Batch().Space("a$$hb$$pc").Get("k"); w == nil || string(w.Value) != last {
			t.Errorf("%s: %+v", kinds, w)
		}
	}
}
