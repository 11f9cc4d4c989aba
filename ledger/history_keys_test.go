package ledger

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset/kvrwset"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/vfs"
)

// writesBlock is a block of one transaction per list of writes, as key=value.
func writesBlock(prev *common.Block, txs ...[]string) *protoutil.Block {
	n := prev.Header.Number + 1
	b := protoutil.NewBlock(n, protoutil.BlockHash(prev.Header))
	for i, writes := range txs {
		set := &kvrwset.KVRWSet{}
		for _, w := range writes {
			key, value := w[:len(w)-2], w[len(w)-1:]
			set.Writes = append(set.Writes, &kvrwset.KVWrite{Key: key, Value: []byte(value)})
		}
		public := &rwset.TxReadWriteSet{NsRwset: []*rwset.NsReadWriteSet{{Namespace: "cc", Rwset: protoutil.Marshal(set)}}}
		b.Data.Data = append(b.Data.Data, benchEnvelope(fmt.Sprintf("tx-%d-%d", n, i), protoutil.Marshal(public)))
	}
	b.Header.DataHash = protoutil.DataHash(b.Data.Data)
	v := protoutil.ParseBlock(b)
	v.SetFlags(make([]byte, len(txs)))
	return v
}

// historyOf lists what is told of a key.
func historyOf(t *testing.T, l *Ledger, key string) (out []string) {
	t.Helper()
	h, err := l.NewHistoryExecutor(math.MaxUint64)
	must(t, err)
	defer h.Done()
	it, err := h.GetHistoryForKey("cc", key)
	must(t, err)
	defer it.Close()
	for {
		m, err := it.Next()
		must(t, err)
		if m == nil {
			return out
		}
		out = append(out, m.TxId+" "+string(m.Value))
	}
}

// TestHistoryOfKeysWithZeros: entries of other keys that look like the key's own
// are passed over, whether or not the transaction that they seem to name exists; of
// a key that one transaction writes twice the first value counts (LEDGER §6.2).
func TestHistoryOfKeysWithZeros(t *testing.T) {
	t.Parallel()
	p := openProvider(t, vectorConfig(t, vfs.NewMem()))
	create(t, p, genesisOf("ch"))
	l := openLedger(t, p, "ch")
	prev := get(l.BlockByNumber(0))
	commit := func(txs ...[]string) {
		t.Helper()
		b := writesBlock(prev, txs...)
		must(t, l.Commit(b))
		prev = b.Proto()
	}
	// The entry of a 00 03 in block 5, transaction 1, is that of a in block 261,
	// transaction 1; that of a 00 04 would name a block beyond the chain.
	look := []string{"a\x00\x03=x", "a\x00\x04=x", "a\x00=x", "a\x00b=x", "a\x00\x00=x", "\x00a=x"}
	for n := 1; n < 265; n++ {
		switch n {
		case 3:
			commit([]string{"a=1"}, []string{"b=1"})
		case 5:
			commit([]string{"b=2"}, look)
		case 256:
			commit([]string{"a=2", "a=3", "b=3"})
		default:
			commit([]string{"z=1"}, []string{"z=2"})
		}
	}
	for key, want := range map[string][]string{
		"a":         {"tx-3-0 1", "tx-256-0 2"},
		"b":         {"tx-3-1 1", "tx-5-0 2", "tx-256-0 3"},
		"a\x00\x03": {"tx-5-1 x"},
		"a\x00\x04": {"tx-5-1 x"},
		"a\x00":     {"tx-5-1 x"},
		"a\x00b":    {"tx-5-1 x"},
		"a\x00\x00": {"tx-5-1 x"},
		"\x00a":     {"tx-5-1 x"},
		"":          nil,
		"c":         nil,
	} {
		if got := historyOf(t, l, key); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", key, got, want)
		}
	}
}

// TestHistoryOfDeletes: an empty value is a delete in the history as well, whether or
// not the write says so (LEDGER §6.2, §12.4).
func TestHistoryOfDeletes(t *testing.T) {
	t.Parallel()
	p := openProvider(t, vectorConfig(t, vfs.NewMem()))
	create(t, p, genesisOf("ch"))
	l := openLedger(t, p, "ch")
	prev := get(l.BlockByNumber(0))
	var want []string
	for i, w := range []*kvrwset.KVWrite{
		{Key: "k", Value: []byte("v")},
		{Key: "k"},
		{Key: "k", Value: []byte("v")},
		{Key: "k", IsDelete: true},
		{Key: "k", Value: []byte("kept"), IsDelete: true},
	} {
		b := protoutil.NewBlock(uint64(i+1), protoutil.BlockHash(prev.Header))
		public := &rwset.TxReadWriteSet{NsRwset: []*rwset.NsReadWriteSet{{
			Namespace: "cc", Rwset: protoutil.Marshal(&kvrwset.KVRWSet{Writes: []*kvrwset.KVWrite{w}}),
		}}}
		b.Data.Data = [][]byte{benchEnvelope(fmt.Sprintf("tx-%d", i), protoutil.Marshal(public))}
		b.Header.DataHash = protoutil.DataHash(b.Data.Data)
		v := protoutil.ParseBlock(b)
		v.SetFlags(make([]byte, 1))
		must(t, l.Commit(v))
		prev = b
		want = append(want, fmt.Sprintf("tx-%d %s %t", i, w.Value, w.IsDelete || len(w.Value) == 0))
	}
	h, err := l.NewHistoryExecutor(math.MaxUint64)
	must(t, err)
	defer h.Done()
	it, err := h.GetHistoryForKey("cc", "k")
	must(t, err)
	defer it.Close()
	for _, w := range want {
		m, err := it.Next()
		must(t, err)
		if got := fmt.Sprintf("%s %s %t", m.GetTxId(), m.GetValue(), m.GetIsDelete()); got != w {
			t.Errorf("got %s, want %s", got, w)
		}
	}
	if m, err := it.Next(); m != nil || err != nil {
		t.Errorf("at the end: %v, %v", m, err)
	}
}
