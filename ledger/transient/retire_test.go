package transient

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/transientstore"

	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/ledger/kv"
)

// held lists the transactions and heights of a store.
func held(t *testing.T, s *Store) (out []string) {
	t.Helper()
	it := s.db.Scan([]byte{prefixSet}, []byte{prefixSet + 1})
	defer it.Close()
	for it.Next() {
		e, err := parseByTx(it.Key())
		must(t, err)
		out = append(out, fmt.Sprintf("%s@%d", e.txid, e.height))
	}
	must(t, it.Err())
	slices.Sort(out)
	return out
}

// TestRetire: a block's own transactions go with it, whoever endorsed them and
// when; old ones at multiples of the retention only, and not at the first.
func TestRetire(t *testing.T) {
	t.Parallel()
	all := []string{"a@0", "a@19", "b@9", "c@10", "d@11", "e@300"}
	for _, tc := range []struct {
		name string
		c    Committed
		gone []string
	}{
		{"nothing private", Committed{Block: 7, Retention: 10}, nil},
		{"its transactions", Committed{Block: 7, TxIDs: []string{"a", "e", "none"}, Retention: 10}, []string{"a@0", "a@19", "e@300"}},
		{"first multiple", Committed{Block: 10, Retention: 10}, nil},
		{"genesis", Committed{Retention: 10}, nil},
		{"second multiple", Committed{Block: 20, Retention: 10}, []string{"a@0", "b@9"}},
		{"no multiple", Committed{Block: 21, Retention: 10}, nil},
		{"both", Committed{Block: 20, TxIDs: []string{"e"}, Retention: 10}, []string{"a@0", "b@9", "e@300"}},
		{"default, first", Committed{Block: 1000}, nil},
		{"default, second", Committed{Block: 2000}, []string{"a@0", "a@19", "b@9", "c@10", "d@11", "e@300"}},
		{"default, between", Committed{Block: 1999}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, s := openMem(t, vfs.NewMem())
			for _, e := range all {
				txid, height := "", uint64(0)
				if _, err := fmt.Sscanf(strings.Replace(e, "@", " ", 1), "%s %d", &txid, &height); err != nil {
					t.Fatal(err)
				}
				must(t, s.Persist(txid, height, &transientstore.TxPvtReadWriteSetWithConfigInfo{}))
			}
			must(t, s.Retire(tc.c))
			want := slices.DeleteFunc(slices.Clone(all), func(e string) bool { return slices.Contains(tc.gone, e) })
			if got := held(t, s); !slices.Equal(got, want) {
				t.Errorf("left %v, want %v", got, want)
			}
		})
	}
}

// TestDamagedEntries: keys and values that make no sense are errors that name
// them.
func TestDamagedEntries(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"P\x00tx\x00u\x00", "P\x00tx\x00u\x00\x09", "P\x00tx\x00u\x00\x01\x05", "H\x00\x09", "H\x00\x00tx", "T\x00tx\x00u\x00\x03\x01"} {
		_, s := openMem(t, vfs.NewMem())
		must(t, s.db.Put([]byte(key), []byte{0, 0xff, 0xff}, true))
		var errs []error
		note := func(err error) {
			if err != nil && !errors.Is(err, ErrEmpty) {
				errs = append(errs, err)
			}
		}
		_, err := s.Read("tx", nil)
		note(err)
		_, err = s.MinHeight()
		note(err)
		note(s.Retire(Committed{Block: 20, TxIDs: []string{"tx"}, Retention: 10}))
		if len(errs) == 0 {
			t.Errorf("%q: no error", key)
		}
		for _, err := range errs {
			var entry *kv.EntryError
			if !errors.As(err, &entry) || string(entry.Key) != "vecch\x00"+key {
				t.Errorf("%q: %v", key, err)
			}
		}
	}
}
