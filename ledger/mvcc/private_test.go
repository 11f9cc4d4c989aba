package mvcc

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	builder "github.com/heddle-ledger/heddle/ledger/rwset"
	"github.com/heddle-ledger/heddle/ledger/state"
)

// Len is the number of writes of all kinds.
func (u *Updates) Len() int {
	n := 0
	for _, s := range u.public {
		n += s.Len()
	}
	for _, s := range u.colls {
		n += s.Len()
	}
	for _, s := range u.private {
		n += s.Len()
	}
	return n
}

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

// TestMetadataBumpIsForTheRightValue: the plain value follows its hashed key only
// if it is the value that the hash belongs to, and only if that key is still
// there after the block (LEDGER §12.7).
func TestMetadataBumpIsForTheRightValue(t *testing.T) {
	meta := map[string][]byte{"a": []byte("1")}
	write := func(v string) func(*builder.Builder) {
		return func(b *builder.Builder) { b.WritePrivate("cc", "c1", "k", []byte(v)) }
	}
	bump := func(b *builder.Builder) { b.WritePrivateMetadata("cc", "c1", "k", meta) }
	both := func(b *builder.Builder) {
		b.WritePrivate("cc", "c1", "k", []byte("new"))
		bump(b)
	}
	remove := func(b *builder.Builder) { b.WritePrivate("cc", "c1", "k", nil) }
	for name, tc := range map[string]struct {
		plain string // committed beside the hash of "v"; empty: missing
		txs   []func(*builder.Builder)
		want  string
	}{
		"missing":                   {"", []func(*builder.Builder){bump}, "nothing"},
		"stale":                     {"old", []func(*builder.Builder){bump}, "nothing"},
		"committed":                 {"v", []func(*builder.Builder){bump}, "v@6:0"},
		"twice":                     {"v", []func(*builder.Builder){bump, bump}, "v@6:1"},
		"written before":            {"v", []func(*builder.Builder){write("w"), bump}, "w@6:1"},
		"written after":             {"v", []func(*builder.Builder){bump, write("w")}, "w@6:1"},
		"value and metadata":        {"v", []func(*builder.Builder){both}, "new@6:0"},
		"deleted before":            {"v", []func(*builder.Builder){remove, bump}, "deleted"},
		"deleted after":             {"v", []func(*builder.Builder){bump, remove}, "deleted"},
		"written, of an older hash": {"old", []func(*builder.Builder){write("w"), bump}, "w@6:1"},
	} {
		db := openState(t)
		at := state.Version{Block: 5}
		seed := state.NewBatch()
		keyHash, valueHash := sha256.Sum256([]byte("k")), sha256.Sum256([]byte("v"))
		seed.Put(state.HashedNamespace("cc", "c1"), state.Write{Key: string(keyHash[:]), Value: valueHash[:], Version: at})
		if tc.plain != "" {
			seed.Put(state.PrivateNamespace("cc", "c1"), state.Write{Key: "k", Value: []byte(tc.plain), Version: at})
		}
		if err := db.Apply(seed, nil, false); err != nil {
			t.Fatal(err)
		}
		var txs [][]byte
		sets := PrivateSets{}
		for i, record := range tc.txs {
			tx, set := privateTx(t, record)
			txs, sets[uint64(i)] = append(txs, tx), set
		}
		r, err := applyPrivate(t, db, 6, txs, sets)
		if err != nil {
			t.Fatal(err)
		}
		got := "nothing"
		if w := r.Updates.Private("cc", "c1").Get("k"); w != nil && w.Delete {
			got = "deleted"
		} else if w != nil {
			got = fmt.Sprintf("%s@%d:%d", w.Value, w.Version.Block, w.Version.Tx)
		}
		if got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

// TestPrivateDataOfNoHash: of a transaction that names no private data at all
// nothing is looked at; where it names some, everything supplied must be named
// (LEDGER §12.7). What is missing is no error.
func TestPrivateDataOfNoHash(t *testing.T) {
	_, set := privateTx(t, func(b *builder.Builder) { b.WritePrivate("cc", "c1", "k", []byte("v")) })
	reader, _ := privateTx(t, func(b *builder.Builder) { b.ReadPrivate("cc", "c1", "k", nil) })
	r, err := applyPrivate(t, openState(t), 5, [][]byte{reader}, PrivateSets{0: set})
	if err != nil || r.Updates.Len() != 0 {
		t.Errorf("%d updates, %v", r.Updates.Len(), err)
	}
	other, _ := privateTx(t, func(b *builder.Builder) { b.WritePrivate("cc", "c2", "k", []byte("v")) })
	var mismatch *HashMismatchError
	if _, err := applyPrivate(t, openState(t), 5, [][]byte{other}, PrivateSets{0: set}); !errors.As(err, &mismatch) || mismatch.Collection != "c1" {
		t.Errorf("got %v", err)
	}
	if r, err := applyPrivate(t, openState(t), 5, [][]byte{other}, PrivateSets{}); err != nil || r.Updates.Len() != 1 {
		t.Errorf("got %v, %v", r, err)
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
