package mvcc

import (
	"crypto/sha256"
	"errors"
	"strings"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	builder "github.com/heddle-ledger/heddle/ledger/rwset"
	"github.com/heddle-ledger/heddle/ledger/state"
)

// privateTx is an endorser transaction made by record, and its private set.
func privateTx(t testing.TB, record func(*builder.Builder)) ([]byte, *rwset.TxPvtReadWriteSet) {
	t.Helper()
	b := builder.NewBuilder()
	record(b)
	public, err := b.Public()
	if err != nil {
		t.Fatal(err)
	}
	private, err := b.Private()
	if err != nil {
		t.Fatal(err)
	}
	return endorserTx(protoutil.Marshal(public)), private
}

func applyPrivate(t testing.TB, db state.DB, n uint64, txs [][]byte, sets PrivateSets) (*Result, error) {
	t.Helper()
	v := &Validator{State: db}
	r, err := v.Validate(block(n, txs...), make([]byte, len(txs)))
	if err != nil {
		t.Fatal(err)
	}
	return r, v.ApplyPrivate(r, n, sets)
}

func TestPrivateWrites(t *testing.T) {
	db := openState(t)
	tx, set := privateTx(t, func(b *builder.Builder) {
		b.WritePrivate("cc", "c1", "k", []byte("v"))
		b.WritePrivate("cc", "c2", "gone", nil)
	})
	r, err := applyPrivate(t, db, 5, [][]byte{tx}, PrivateSets{0: set, 7: set})
	if err != nil {
		t.Fatal(err)
	}
	if w := r.Updates.Private("cc", "c1").Get("k"); w == nil || string(w.Value) != "v" || w.Version != (state.Version{Block: 5}) {
		t.Errorf("got %+v", w)
	}
	if w := r.Updates.Private("cc", "c2").Get("gone"); w == nil || !w.Delete {
		t.Errorf("got %+v", w)
	}
	keyHash, valueHash := sha256.Sum256([]byte("k")), sha256.Sum256([]byte("v"))
	if w := r.Updates.Hashed("cc", "c1").Get(string(keyHash[:])); w == nil || string(w.Value) != string(valueHash[:]) {
		t.Errorf("got %+v", w)
	}
}

func TestPrivateHashMismatch(t *testing.T) {
	tx, set := privateTx(t, func(b *builder.Builder) { b.WritePrivate("cc", "c1", "k", []byte("v")) })
	set.NsPvtRwset[0].CollectionPvtRwset[0].Rwset = []byte{}
	_, err := applyPrivate(t, openState(t), 5, [][]byte{tx}, PrivateSets{0: set})
	var mismatch *HashMismatchError
	if !errors.As(err, &mismatch) || !strings.Contains(err.Error(), "Hash of pvt data for collection [cc:c1] does not match with the corresponding hash in the public data.") {
		t.Errorf("got %v", err)
	}
}

// TestPrivateDataOfInvalidTransactions has no effect.
func TestPrivateDataOfInvalidTransactions(t *testing.T) {
	tx, set := privateTx(t, func(b *builder.Builder) {
		b.Read("cc", "k", &state.Version{Block: 9})
		b.WritePrivate("cc", "c1", "k", []byte("v"))
	})
	r, err := applyPrivate(t, openState(t), 5, [][]byte{tx}, PrivateSets{0: set})
	if err != nil || r.Flags[0] != codeReadConflict || r.Updates.Len() != 0 {
		t.Errorf("codes %v, %d updates, %v", r.Flags, r.Updates.Len(), err)
	}
}

// TestMetadataBump moves the private value along when only the metadata of its
// key are written.
func TestMetadataBump(t *testing.T) {
	db := openState(t)
	tx, set := privateTx(t, func(b *builder.Builder) { b.WritePrivate("cc", "c1", "k", []byte("v")) })
	r, err := applyPrivate(t, db, 5, [][]byte{tx}, PrivateSets{0: set})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Apply(r.Updates.Batch(), nil, false); err != nil {
		t.Fatal(err)
	}
	tx, set = privateTx(t, func(b *builder.Builder) {
		b.WritePrivateMetadata("cc", "c1", "k", map[string][]byte{"a": []byte("1")})
	})
	r, err = applyPrivate(t, db, 6, [][]byte{tx}, PrivateSets{0: set})
	if err != nil {
		t.Fatal(err)
	}
	if w := r.Updates.Private("cc", "c1").Get("k"); w == nil || string(w.Value) != "v" || w.Version != (state.Version{Block: 6}) {
		t.Errorf("got %+v", w)
	}
}

func FuzzValidate(f *testing.F) {
	for _, c := range readCases(f) {
		for _, s := range c.Block3 {
			f.Add(unhex(f, s))
		}
	}
	db := openState(f)
	b := state.NewBatch()
	b.Put("cc", state.Write{Key: "k1", Value: []byte("v"), Version: state.Version{Block: 2}})
	b.Put("cc", state.Write{Key: "k3", Value: []byte("v"), Version: state.Version{Block: 2, Tx: 1}})
	if err := db.Apply(b, nil, false); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, results []byte) {
		v := &Validator{State: db}
		tx := endorserTx(results)
		r, err := v.Validate(block(3, tx, tx), []byte{0, 0})
		if err != nil {
			t.Fatal(err)
		}
		r.Updates.CommitHash(r.Flags, nil)
		if again, err := v.Validate(block(3, tx, tx), []byte{0, 0}); err != nil || string(again.Flags) != string(r.Flags) {
			t.Fatalf("codes %v, then %v, %v", r.Flags, again.Flags, err)
		}
	})
}
