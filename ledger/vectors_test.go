package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/ledger/mvcc"
	"github.com/heddle-ledger/heddle/protos/ledgerstore"
)

type step struct {
	Step     string             `json:"step"`
	Block    *uint64            `json:"block"`
	Codes    []int              `json:"codes"`
	Changes  map[string][]entry `json:"changes"`
	Supplied struct {
		Block, Tx uint64
		Set       string `json:"private_writeset_hex"`
	} `json:"supplied"`
	Txs []struct {
		Tx      uint64 `json:"tx"`
		Preset  byte   `json:"preset_flag"`
		Private string `json:"private_writeset_given_hex"`
		Missing []struct {
			Ns, Coll string
			Eligible bool
		} `json:"private_data_reported_missing"`
	} `json:"txs"`
}

type entry struct {
	Op    string `json:"op"`
	Key   string `json:"key_hex"`
	Value string `json:"value_hex"`
}

// unordered reduces a value that holds maps, whose order on disk is not
// defined, to a form that can be compared.
func unordered(t testing.TB, db, key, value string) string {
	t.Helper()
	raw := unhex(t, value)
	_, logical, _ := strings.Cut(string(unhex(t, key)), "\x00")
	decode := func(m proto.Message) string {
		if err := proto.Unmarshal(raw, m); err != nil {
			t.Fatalf("%s %s: %v", db, key, err)
		}
		return hex.EncodeToString(protoutil.Marshal(m))
	}
	switch {
	case db == "stateLeveldb" && logical == "\x00"+mvcc.ConfigKey:
		v := &ledgerstore.VersionedValue{}
		if raw[0] != 0 {
			t.Fatalf("config in state: %s", value)
		}
		if err := proto.Unmarshal(raw[1:], v); err != nil {
			t.Fatal(err)
		}
		cfg := &common.Config{}
		if err := proto.Unmarshal(v.Value, cfg); err != nil {
			t.Fatal(err)
		}
		v.Value = protoutil.Marshal(cfg)
		return hex.EncodeToString(protoutil.Marshal(v))
	case db == "bookkeeper" && strings.HasPrefix(logical, "1") && len(raw) > 0:
		v := &ledgerstore.PvtdataKeys{}
		if err := proto.Unmarshal(raw, v); err != nil {
			t.Fatal(err)
		}
		for _, ns := range v.Map {
			for _, c := range ns.Map {
				slices.SortStableFunc(c.List, func(a, b *ledgerstore.KeyAndHash) int {
					return strings.Compare(string(a.Hash), string(b.Hash))
				})
			}
		}
		return hex.EncodeToString(protoutil.Marshal(v))
	case db == "pvtdataStore" && strings.HasPrefix(logical, "\x03"):
		return decode(&ledgerstore.ExpiryData{})
	case db == "pvtdataStore" && strings.HasPrefix(logical, "\x06"):
		return decode(&ledgerstore.CollElgInfo{})
	}
	return value
}

func compareDumps(t testing.TB, want, got map[string]map[string]string) {
	t.Helper()
	for _, db := range databases {
		for _, key := range slices.Sorted(maps.Keys(want[db])) {
			w := want[db][key]
			g, ok := got[db][key]
			switch {
			case !ok:
				t.Errorf("%s: %q is missing", db, unhex(t, key))
			case !sameValue(t, db, key, w, g):
				t.Errorf("%s: %q\n is %s\nnot %s", db, unhex(t, key), g, w)
			}
		}
		for key := range got[db] {
			if _, ok := want[db][key]; !ok {
				t.Errorf("%s: %q should not be there", db, unhex(t, key))
			}
		}
	}
}

// sameValue compares two values; of some the vectors have the hash only.
func sameValue(t testing.TB, db, key, want, got string) bool {
	t.Helper()
	if hash, ok := strings.CutPrefix(want, "sha256:"); ok {
		sum := sha256.Sum256(unhex(t, got))
		return hash == hex.EncodeToString(sum[:])
	}
	return unordered(t, db, key, want) == unordered(t, db, key, got)
}

func finalDump(t testing.TB) map[string]map[string]string {
	t.Helper()
	var raw map[string][]entry
	readVector(t, "chain_final_dump.json.gz", &raw)
	out := map[string]map[string]string{}
	for db, entries := range raw {
		out[db] = map[string]string{}
		for _, e := range entries {
			out[db][e.Key] = e.Value
		}
	}
	return out
}

// TestOpensReferenceDirectory opens a directory written by the reference,
// leaves it as it was, and reads the same from it.
func TestOpensReferenceDirectory(t *testing.T) {
	fs := untar(t, "ledger_root.tar.gz")
	p := openProvider(t, vectorConfig(t, fs))
	ids, err := p.List()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"vecch", "vecch.two"}, ids); diff != "" {
		t.Fatal(diff)
	}
	for _, id := range ids {
		openLedger(t, p, id)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	compareDumps(t, finalDump(t), dump(t, fs))
}

type queries struct {
	Blocks []struct {
		Number   uint64   `json:"number"`
		Hash     string   `json:"hash"`
		DataHash string   `json:"data_hash"`
		Header   string   `json:"header_asn1_hex"`
		Metadata []string `json:"metadata_hex"`
		NumTx    int      `json:"num_tx"`
	} `json:"blocks"`
	Height      uint64              `json:"height"`
	Current     string              `json:"current_block_hash"`
	Previous    string              `json:"previous_block_hash"`
	History     map[string][]string `json:"history_cc1"`
	DuplicateTx struct {
		Block uint64 `json:"found_in_block"`
		TxID  string `json:"txid"`
		Code  int    `json:"validation_code"`
	} `json:"duplicate_txid"`
	ConfigHistory []struct {
		Below     uint64 `json:"below"`
		Chaincode string `json:"chaincode"`
		Found     any    `json:"found"`
	} `json:"config_history_cc1"`
	Block3 []privateTx `json:"pvtdata_block_3"`
	Block4 []privateTx `json:"pvtdata_block_4"`

	Missing string            `json:"missing_most_recent_10"`
	Errors  map[string]string `json:"errors"`
}

type privateTx struct {
	Tx  uint64 `json:"tx"`
	Set string `json:"writeset"`
}

func TestQueries(t *testing.T) {
	var want queries
	d := json.NewDecoder(bytes.NewReader(gunzip(t, "chain_queries.json.gz")))
	d.DisallowUnknownFields() // every entry has a check below
	must(t, d.Decode(&want))
	l := openLedger(t, openProvider(t, vectorConfig(t, untar(t, "ledger_root.tar.gz"))), "vecch")

	t.Run("info", func(t *testing.T) {
		info := l.Info()
		if info.Height != want.Height || l.Height() != want.Height ||
			hex.EncodeToString(info.CurrentBlockHash) != want.Current || hex.EncodeToString(info.PreviousBlockHash) != want.Previous {
			t.Errorf("got %v", info)
		}
	})
	t.Run("blocks", func(t *testing.T) {
		for _, w := range want.Blocks {
			b, err := l.BlockByNumber(w.Number)
			if err != nil {
				t.Fatal(err)
			}
			if got := hex.EncodeToString(protoutil.BlockHash(b.Header)); got != w.Hash {
				t.Errorf("block %d: hash %s", w.Number, got)
			}
			if got := hex.EncodeToString(protoutil.BlockHeaderBytes(b.Header)); got != w.Header || hex.EncodeToString(b.Header.DataHash) != w.DataHash {
				t.Errorf("block %d: header %s", w.Number, got)
			}
			if !bytes.Equal(protoutil.DataHash(b.Data.Data), b.Header.DataHash) {
				t.Errorf("block %d: data hash", w.Number)
			}
			var metadata []string
			for _, m := range b.Metadata.Metadata {
				metadata = append(metadata, hex.EncodeToString(m))
			}
			if diff := cmp.Diff(w.Metadata, metadata); diff != "" {
				t.Errorf("block %d: metadata %s", w.Number, diff)
			}
			same, err := l.BlockByHash(unhex(t, w.Hash))
			if err != nil || same.Header.Number != w.Number || len(same.Data.Data) != w.NumTx {
				t.Errorf("block by hash: %v", err)
			}
		}
		last, err := l.BlockByNumber(math.MaxUint64)
		if err != nil || last.Header.Number != want.Height-1 {
			t.Errorf("last block: %v", err)
		}
	})
	t.Run("duplicate txid", func(t *testing.T) {
		b, err := l.BlockByTxID(want.DuplicateTx.TxID)
		if err != nil || b.Header.Number != want.DuplicateTx.Block {
			t.Errorf("got %v", err)
		}
		tx, err := l.TransactionByID(want.DuplicateTx.TxID)
		if err != nil || int(tx.ValidationCode) != want.DuplicateTx.Code {
			t.Errorf("got %v, %v", tx, err)
		}
		if has, err := l.HasTx(want.DuplicateTx.TxID); !has || err != nil {
			t.Errorf("has: %v, %v", has, err)
		}
	})
	t.Run("errors", func(t *testing.T) {
		_, number := l.BlockByNumber(99)
		_, hash := l.BlockByHash([]byte("nope"))
		_, tx := l.TransactionByID("nope")
		_, code := l.ValidationCode("nope")
		_, block := l.BlockByTxID("nope")
		got := map[string][]error{"block_99": {number}, "bad_hash": {hash}, "unknown_txid": {tx, code, block}}
		if len(got) != len(want.Errors) {
			t.Errorf("errors asked for: %v", want.Errors)
		}
		for what, errs := range got {
			for _, err := range errs {
				if !errors.Is(err, ErrNotFound) || err.Error() != want.Errors[what] {
					t.Errorf("%s: %v", what, err)
				}
			}
		}
	})
	t.Run("history", func(t *testing.T) { checkHistory(t, l, want.History) })
	t.Run("config history", func(t *testing.T) { checkConfigHistory(t, l, &want) })
	t.Run("private data", func(t *testing.T) {
		checkPrivate(t, l, 3, want.Block3)
		checkPrivate(t, l, 4, want.Block4)
		missing, err := l.MissingPrivateData(10)
		if err != nil || want.Missing != "map[]" || len(missing) != 0 {
			t.Errorf("missing: %v, %v, want %s", missing, err, want.Missing)
		}
	})
}

func checkHistory(t *testing.T, l *Ledger, want map[string][]string) {
	h, err := l.NewHistoryExecutor(l.Height())
	if err != nil {
		t.Fatal(err)
	}
	defer h.Done()
	for key, list := range want {
		key = strings.ReplaceAll(key, `\x00`, "\x00")
		it, err := h.GetHistoryForKey("cc1", key)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for {
			m, err := it.Next()
			if err != nil {
				t.Fatal(err)
			}
			if m == nil {
				break
			}
			got = append(got, protoutil.Text(m))
		}
		it.Close()
		if diff := cmp.Diff(list, got); diff != "" {
			t.Errorf("history of %q: %s", key, diff)
		}
	}
}

func checkConfigHistory(t *testing.T, l *Ledger, want *queries) {
	for _, w := range want.ConfigHistory {
		cc := w.Chaincode
		if cc == "" {
			cc = "cc1"
		}
		pkg, at, err := l.CollectionConfigBelow(w.Below, cc)
		if err != nil {
			t.Fatal(err)
		}
		found, isBlock := w.Found.(float64)
		if !isBlock { // none; or the reference's defect, which is not copied
			if pkg != nil {
				t.Errorf("%s below %d: found %d", cc, w.Below, at)
			}
			continue
		}
		if pkg == nil || at != uint64(found) {
			t.Errorf("%s below %d: got %d, want %v", cc, w.Below, at, found)
		}
	}
}

func checkPrivate(t *testing.T, l *Ledger, block uint64, want []privateTx) {
	got, err := l.PrivateDataOf(block, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(want) {
		t.Errorf("block %d: %d sets, want %d", block, len(got), len(want))
	}
	for _, w := range want {
		if set := got[w.Tx]; set == nil || protoutil.Text(set) != w.Set {
			t.Errorf("block %d tx %d: %v", block, w.Tx, set)
		}
	}
}

// TestRecommit takes the recorded chain through an empty ledger and compares
// what every step changes in every store.
func TestRecommit(t *testing.T) {
	var steps []step
	readVector(t, "chain_steps.json.gz", &steps)
	blocks := allBlocks(t, "ledger_root.tar.gz", "vecch")
	two := allBlocks(t, "ledger_root.tar.gz", "vecch.two")
	fs := vfs.NewMem()
	want := map[string]map[string]string{}
	p := openProvider(t, vectorConfig(t, fs))
	for i := range steps {
		s := &steps[i]
		switch {
		case s.Block != nil && *s.Block == 0:
			create(t, p, blocks[0])
		case s.Block != nil:
			commitStep(t, openLedger(t, p, "vecch"), s, blocks[*s.Block])
		case s.Supplied.Set != "":
			reconcile(t, openLedger(t, p, "vecch"), s)
		default:
			create(t, p, two[0])
			for _, b := range two[1:] {
				commitStep(t, openLedger(t, p, "vecch.two"), &step{}, b)
			}
		}
		for _, l := range p.open {
			must(t, l.private.Work(t.Context()))
		}
		for db, entries := range s.Changes {
			if !slices.Contains(databases, db) {
				t.Errorf("changes of %s are not compared", db)
			}
			if want[db] == nil {
				want[db] = map[string]string{}
			}
			for _, e := range entries {
				if e.Op == "delete" {
					delete(want[db], e.Key)
				} else {
					want[db][e.Key] = e.Value
				}
			}
		}
		compareDumps(t, want, dump(t, fs.Crash(vfs.KeepUnsynced, 0)))
		if t.Failed() {
			t.Fatalf("after step %d: %s", i, s.Step)
		}
	}
	must(t, p.Close())
	compareDumps(t, finalDump(t), dump(t, fs))
	compareBlockFiles(t, untar(t, "ledger_root.tar.gz"), fs)
}

func create(t *testing.T, p *Provider, genesis *common.Block) {
	t.Helper()
	if _, err := p.Create(genesis); err != nil {
		t.Fatal(err)
	}
}

func commitStep(t *testing.T, l *Ledger, s *step, recorded *common.Block) {
	t.Helper()
	b := protoutil.ParseBlock(proto.Clone(recorded).(*common.Block))
	final := append([]byte(nil), b.Flags()...)
	hash := append([]byte(nil), recorded.Metadata.Metadata[protoutil.CommitHashSlot]...)
	flags := append([]byte(nil), final...)
	private := &PrivateData{Sets: map[uint64]*rwset.TxPvtReadWriteSet{}, Missing: map[uint64][]MissingCollection{}}
	for _, tx := range s.Txs {
		flags[tx.Tx] = tx.Preset
		if tx.Private != "" {
			private.Sets[tx.Tx] = privateSet(t, tx.Private)
		}
		for _, m := range tx.Missing {
			private.Missing[tx.Tx] = append(private.Missing[tx.Tx], MissingCollection{Namespace: m.Ns, Collection: m.Coll, Eligible: m.Eligible})
		}
	}
	b.SetFlags(flags)
	b.Proto().Metadata.Metadata[protoutil.CommitHashSlot] = nil
	if err := l.CommitWithPrivateData(b, private); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(final, b.Flags()); diff != "" {
		t.Errorf("block %d: codes %s", b.Number(), diff)
	}
	if got := b.Proto().Metadata.Metadata[protoutil.CommitHashSlot]; string(got) != string(hash) {
		t.Errorf("block %d: commit hash %x, want %x", b.Number(), got, hash)
	}
}

func reconcile(t *testing.T, l *Ledger, s *step) {
	t.Helper()
	mismatches, err := l.CommitReconciled([]ReconciledData{{
		Block: s.Supplied.Block,
		Sets:  map[uint64]*rwset.TxPvtReadWriteSet{s.Supplied.Tx: privateSet(t, s.Supplied.Set)},
	}})
	if err != nil || len(mismatches) > 0 {
		t.Fatal(mismatches, err)
	}
}

func compareBlockFiles(t *testing.T, want, got vfs.FS) {
	t.Helper()
	for _, id := range []string{"vecch", "vecch.two"} {
		name := fmt.Sprintf("%s/chains/chains/%s/blockfile_000000", testDir, id)
		w, err := vfs.ReadFile(want, name)
		if err != nil {
			t.Fatal(err)
		}
		g, err := vfs.ReadFile(got, name)
		if err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		if string(w) != string(g) {
			t.Errorf("%s differs", name)
		}
	}
}
