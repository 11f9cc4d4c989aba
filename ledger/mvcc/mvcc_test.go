package mvcc

import (
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset/kvrwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/vfs"
	builder "github.com/heddle-ledger/heddle/ledger/rwset"
	"github.com/heddle-ledger/heddle/ledger/state"
	"github.com/heddle-ledger/heddle/ledger/state/leveldb"
)

func openState(t testing.TB) state.DB {
	t.Helper()
	p, err := leveldb.OpenProvider(leveldb.Config{Dir: "/state", FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	db, err := p.Open("ch")
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// endorserTx is an envelope with the given simulation results.
func endorserTx(results []byte) []byte {
	return responseTx(protoutil.Marshal(&peer.ProposalResponsePayload{
		Extension: protoutil.Marshal(&peer.ChaincodeAction{Results: results, ChaincodeId: &peer.ChaincodeID{Name: "cc"}}),
	}))
}

// responseTx is an envelope with the given proposal response payload.
func responseTx(payload []byte) []byte {
	return envelope(common.HeaderType_ENDORSER_TRANSACTION, protoutil.Marshal(&peer.Transaction{Actions: []*peer.TransactionAction{{
		Payload: protoutil.Marshal(&peer.ChaincodeActionPayload{Action: &peer.ChaincodeEndorsedAction{ProposalResponsePayload: payload}}),
	}}}))
}

func envelope(typ common.HeaderType, data []byte) []byte {
	return protoutil.Marshal(&common.Envelope{Payload: protoutil.Marshal(&common.Payload{
		Header: &common.Header{ChannelHeader: protoutil.Marshal(&common.ChannelHeader{Type: int32(typ), ChannelId: "ch"})},
		Data:   data,
	})})
}

func block(n uint64, txs ...[]byte) *protoutil.Block {
	b := protoutil.NewBlock(n, nil)
	b.Data.Data = txs
	return protoutil.ParseBlock(b)
}

type mvccCase struct {
	Name        string   `json:"name"`
	Note        string   `json:"note"`
	Setup       []string `json:"setup_block2_rwsets_hex"`
	SetupCodes  []int    `json:"setup_codes"`
	Block3      []string `json:"block3_rwsets_hex"`
	PresetFlags string   `json:"preset_flags"`
	Codes       []int    `json:"codes"`
	Hash2       string   `json:"commit_hash_block2"`
	Hash3       string   `json:"commit_hash_block3"`
	StateAfter  []struct {
		NS, Key, Value, Version string
		MetadataHex             string `json:"metadata_hex"`
	} `json:"state_after"`
}

func readCases(t testing.TB) []mvccCase {
	t.Helper()
	f, err := os.Open("testdata/mvcc_cases.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var cases []mvccCase
	if err := json.NewDecoder(z).Decode(&cases); err != nil {
		t.Fatal(err)
	}
	return cases
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// hints remember the namespaces with metadata (LEDGER §9.2).
type hints map[string]bool

func (h hints) used(ns string) bool { return h[ns] }

func (h hints) add(u *Updates) {
	for _, space := range u.Batch().Spaces() {
		for _, w := range space.Sorted() {
			if len(w.Metadata) > 0 {
				ns, _, _ := state.SplitNamespace(space.Namespace)
				h[ns] = true
			}
		}
	}
}

// commit commits a block; nil hints are not asked.
func commit(t *testing.T, db state.DB, h hints, b *protoutil.Block, flags []byte) *Result {
	t.Helper()
	v := &Validator{State: db, CheckWrite: db.CheckWrite}
	if h != nil {
		v.MetadataUsed = h.used
	}
	r, err := v.Validate(b, flags)
	if err != nil {
		t.Fatal(err)
	}
	if h != nil {
		h.add(r.Updates)
	}
	if err := db.Apply(r.Updates.Batch(), &state.Version{Block: b.Number()}, false); err != nil {
		t.Fatal(err)
	}
	return r
}

func codesOf(flags []byte) []int {
	out := make([]int, len(flags))
	for i, f := range flags {
		out[i] = int(f)
	}
	return out
}

// TestVectors runs the cases recorded from the reference: codes, commit hash
// and the state afterwards, with and without hints where metadata are.
func TestVectors(t *testing.T) {
	cases := readCases(t)
	if len(cases) != 61 {
		t.Fatalf("%d cases", len(cases))
	}
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) { runVector(t, c, nil) })
		t.Run(c.Name+"/hints", func(t *testing.T) { runVector(t, c, hints{}) })
	}
}

func runVector(t *testing.T, c mvccCase, h hints) {
	db := openState(t)
	var setup [][]byte
	for _, s := range c.Setup {
		setup = append(setup, endorserTx(unhex(t, s)))
	}
	r := commit(t, db, h, block(2, setup...), make([]byte, len(setup)))
	if diff := cmp.Diff(c.SetupCodes, codesOf(r.Flags)); diff != "" {
		t.Fatal("setup codes", diff)
	}
	var txs [][]byte
	for i, s := range c.Block3 {
		tx := endorserTx(unhex(t, s))
		if c.Name == "no-actions" && i == 0 {
			tx = envelope(common.HeaderType_ENDORSER_TRANSACTION, nil)
		}
		txs = append(txs, tx)
	}
	flags := make([]byte, len(txs))
	for i, name := range strings.Fields(strings.Trim(c.PresetFlags, "[]")) {
		flags[i] = byte(peer.TxValidationCode_value[name])
	}
	r = commit(t, db, h, block(3, txs...), flags)
	if diff := cmp.Diff(c.Codes, codesOf(r.Flags)); diff != "" {
		t.Error("codes", diff)
	}
	if c.Hash3 != "" {
		if got := hex.EncodeToString(r.Updates.CommitHash(r.Flags, unhex(t, c.Hash2))); got != c.Hash3 {
			t.Errorf("commit hash %s, want %s", got, c.Hash3)
		}
	}
	compareState(t, db, c)
}

// printable shows bytes as the vectors do.
func printable(s string) string {
	var out strings.Builder
	for _, c := range []byte(s) {
		if c < 0x20 || c > 0x7e || c == '\\' {
			fmt.Fprintf(&out, "\\x%02x", c)
		} else {
			out.WriteByte(c)
		}
	}
	return out.String()
}

func compareState(t *testing.T, db state.DB, c mvccCase) {
	t.Helper()
	var want []string
	for _, s := range c.StateAfter {
		want = append(want, fmt.Sprintf("%s/%s=%s@%s %s", s.NS, s.Key, s.Value, s.Version, s.MetadataHex))
	}
	var got []string
	for _, ns := range []string{"cc", "cc2", "aa", "zz", "cc$$hc1", "cc$$hc2", "cc$$h"} {
		it, err := db.Range(ns, "", "", 0)
		if err != nil {
			t.Fatal(err)
		}
		for {
			kv, err := it.Next()
			if err != nil {
				t.Fatal(err)
			}
			if kv == nil {
				break
			}
			if kv.Key[0] == 'm' && len(kv.Key) == 4 && kv.Version == (state.Version{Block: 2}) {
				continue // left out of the vectors
			}
			got = append(got, fmt.Sprintf("%s/%s=%s@%d:%d %s", ns, printable(kv.Key), printable(string(kv.Value.Value)), kv.Version.Block, kv.Version.Tx, hex.EncodeToString(kv.Metadata)))
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("state (-want +got)", diff)
	}
}

func TestUpdateBytes(t *testing.T) {
	raw, err := os.ReadFile("testdata/commit_hash_update_bytes.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Bytes   string `json:"update_bytes_hex"`
		Updates []struct {
			NS, Coll, Version string
			Delete            bool
			Key               string `json:"key_or_keyhash"`
			Value             string `json:"value_or_valuehash"`
		} `json:"updates"`
	}
	if err := json.Unmarshal(raw, &cases); err != nil {
		t.Fatal(err)
	}
	for i, c := range cases {
		u := NewUpdates(0)
		for _, w := range c.Updates {
			write := state.Write{Key: w.Key, Value: []byte(w.Value), Delete: w.Delete}
			if _, err := fmt.Sscanf(w.Version, "%d:%d", &write.Version.Block, &write.Version.Tx); err != nil {
				t.Fatal(err)
			}
			if w.Coll == "" {
				u.PutPublic(w.NS, write)
			} else {
				u.PutHashed(w.NS, w.Coll, write)
			}
		}
		if got := hex.EncodeToString(u.AppendBytes(nil)); got != c.Bytes {
			t.Errorf("case %d: got %s, want %s", i, got, c.Bytes)
		}
	}
}

func TestReplayTakesCodesAsTheyAre(t *testing.T) {
	db := openState(t)
	cases := readCases(t)
	i := slices.IndexFunc(cases, func(c mvccCase) bool { return c.Name == "read-stale" })
	tx := endorserTx(unhex(t, cases[i].Block3[0]))
	v := &Validator{State: db}
	r, err := v.Replay(block(3, tx, tx), []byte{0, 11})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(r.Flags, []byte{0, 11}) || r.Updates.Len() != 1 {
		t.Fatalf("flags %v, %d updates", r.Flags, r.Updates.Len())
	}
}

func TestUndecodableEnvelopeFailsTheBlock(t *testing.T) {
	v := &Validator{State: openState(t)}
	if _, err := v.Validate(block(3, []byte{0xff}), []byte{0}); err == nil {
		t.Fatal("committed")
	}
	if r, err := v.Validate(block(3, []byte{0xff}), []byte{2}); err != nil || r.Flags[0] != 2 {
		t.Fatalf("an invalid transaction must be left alone: %v", err)
	}
	if _, err := v.Validate(block(3, []byte{0xff}), nil); err == nil {
		t.Fatal("accepted a block without codes")
	}
}

// TestKeysThatCannotBe: what the state database cannot hold is not written. What
// a transaction only reads there does not matter, nor metadata, for want of a
// value. Hashes of a collection without name become public.
func TestKeysThatCannotBe(t *testing.T) {
	v := &Validator{
		State: openState(t),
		CheckKey: func(ns, key string) error {
			if strings.Contains(ns, "/") || ns == "cc$$hc" && key == "" {
				return fmt.Errorf("no")
			}
			return nil
		},
		CheckWrite: func(key string, value []byte) error {
			if strings.HasPrefix(key, "_") || string(value) == "_" {
				return fmt.Errorf("no")
			}
			return nil
		},
	}
	hashed := func(coll, key, value string) []byte {
		return endorserTx(protoutil.Marshal(&rwset.TxReadWriteSet{NsRwset: []*rwset.NsReadWriteSet{{
			Namespace: "cc", CollectionHashedRwset: []*rwset.CollectionHashedReadWriteSet{{
				CollectionName: coll, HashedRwset: protoutil.Marshal(&kvrwset.HashedRWSet{HashedWrites: []*kvrwset.KVWriteHash{
					{KeyHash: []byte(key), ValueHash: []byte(value)},
				}}),
			}},
		}}}))
	}
	recorded := func(record func(b *builder.Builder)) []byte {
		tx, _ := privateTx(t, record)
		return tx
	}
	refused := peer.TxValidationCode_INVALID_WRITESET
	for name, tc := range map[string]struct {
		tx   []byte
		want peer.TxValidationCode
	}{
		"write":                {recorded(func(b *builder.Builder) { b.Write("a/b", "k", []byte("v")) }), refused},
		"delete":               {recorded(func(b *builder.Builder) { b.Write("a/b", "k", nil) }), refused},
		"metadata":             {recorded(func(b *builder.Builder) { b.WriteMetadata("a/b", "k", nil) }), 0},
		"private write":        {recorded(func(b *builder.Builder) { b.WritePrivate("cc", "a/b", "k", []byte("v")) }), refused},
		"private metadata":     {recorded(func(b *builder.Builder) { b.WritePrivateMetadata("a/b", "c", "k", nil) }), 0},
		"read":                 {recorded(func(b *builder.Builder) { b.Read("a/b", "k", nil) }), 0},
		"private read":         {recorded(func(b *builder.Builder) { b.ReadPrivate("cc", "a/b", "k", nil) }), 0},
		"range":                {recorded(func(b *builder.Builder) { b.OpenRange("a/b", "", "").End() }), 0},
		"hash":                 {hashed("c", "_h", "_"), 0},
		"hash that cannot be":  {hashed("c", "", "h"), refused},
		"no collection":        {hashed("", "h", "h"), 0},
		"no collection, key":   {hashed("", "_h", "h"), refused},
		"no collection, value": {hashed("", "h", "_"), refused},
	} {
		r, err := v.Validate(block(3, tc.tx), []byte{0})
		if err != nil || r.Flags[0] != byte(tc.want) {
			t.Errorf("%s: %v, %v", name, r, err)
		}
	}
}

// TestPrivateWritesThatCannotBe count as missing; the rest of the set is written.
func TestPrivateWritesThatCannotBe(t *testing.T) {
	tx, set := privateTx(t, func(b *builder.Builder) {
		b.WritePrivate("cc", "c", "k", []byte("v"))
		b.WritePrivate("cc", "c", "_k", []byte("v"))
		b.WritePrivate("cc", "c", "l", []byte("_"))
		b.WritePrivate("cc", "c", "gone", nil)
	})
	v := &Validator{
		State: openState(t),
		CheckKey: func(ns, key string) error {
			if ns == "cc$$pc" && key == "gone" {
				return fmt.Errorf("no such document")
			}
			return nil
		},
		CheckWrite: func(key string, value []byte) error {
			if key == "_k" || string(value) == "_" {
				return fmt.Errorf("no")
			}
			return nil
		},
	}
	r, err := v.Validate(block(3, tx), []byte{0})
	if err != nil || r.Flags[0] != 0 {
		t.Fatal(r, err)
	}
	if err := v.ApplyPrivate(r, 3, PrivateSets{0: set}); err != nil {
		t.Fatal(err)
	}
	if p := r.Updates.Private("cc", "c"); p.Len() != 1 || p.Get("k") == nil || len(r.Refused) != 3 || r.Updates.Hashed("cc", "c").Len() != 4 {
		t.Errorf("%d private writes, refused %v", p.Len(), r.Refused)
	}
}

func TestConfigTransaction(t *testing.T) {
	v := &Validator{State: openState(t)}
	cfg := &common.Config{Sequence: 7}
	tx := envelope(common.HeaderType_CONFIG, protoutil.Marshal(&common.ConfigEnvelope{Config: cfg}))
	r, err := v.Validate(block(5, tx), []byte{0})
	if err != nil {
		t.Fatal(err)
	}
	w := r.Updates.Public("").Get(ConfigKey)
	if w == nil || !bytes.Equal(w.Value, protoutil.Marshal(cfg)) || w.Version != (state.Version{Block: 5}) {
		t.Fatalf("got %+v", w)
	}
	if len(r.Updates.AppendBytes(nil)) != 0 {
		t.Fatal("the empty namespace must not enter the commit hash")
	}
}

// TestUndecodableTransactions get the codes of LEDGER §12.1; types without
// writes stay valid.
func TestUndecodableTransactions(t *testing.T) {
	actionPayload := func(raw []byte) []byte {
		return envelope(common.HeaderType_ENDORSER_TRANSACTION, protoutil.Marshal(&peer.Transaction{Actions: []*peer.TransactionAction{{Payload: raw}}}))
	}
	nilAction, other := peer.TxValidationCode_NIL_TXACTION, peer.TxValidationCode_INVALID_OTHER_REASON
	for name, tc := range map[string]struct {
		tx   []byte
		want peer.TxValidationCode
	}{
		"no transaction":        {envelope(common.HeaderType_ENDORSER_TRANSACTION, []byte{0xff}), nilAction},
		"no actions":            {envelope(common.HeaderType_ENDORSER_TRANSACTION, nil), nilAction},
		"no action payload":     {actionPayload([]byte{0xff}), nilAction},
		"no endorsed action":    {actionPayload(nil), nilAction},
		"no response":           {responseTx([]byte{0xff}), nilAction},
		"no extension":          {responseTx(nil), nilAction},
		"extension not decoded": {responseTx([]byte{0x12, 1, 0xff}), nilAction},
		"empty extension":       {responseTx([]byte{0x12, 0}), 0},
		"results":               {endorserTx([]byte{0xff}), other},
		"public part":           {endorserTx(unhex(t, "12090a0263631203ffffff")), other},
		"hashed part":           {endorserTx(unhex(t, "120d0a0263631a070a0263311201ff")), other},
		"no results":            {endorserTx(nil), 0},
		"message":               {envelope(common.HeaderType_MESSAGE, []byte{0xff}), 0},
		"orderer transaction":   {envelope(common.HeaderType_ORDERER_TRANSACTION, []byte{0xff}), 0},
		"token transaction":     {envelope(9, []byte{0xff}), 0},
	} {
		v := &Validator{State: openState(t)}
		r, err := v.Validate(block(3, tc.tx), []byte{0})
		if err != nil || r.Flags[0] != byte(tc.want) || r.Updates.Len() != 0 {
			t.Errorf("%s: %v, %v", name, r, err)
		}
	}
	for name, tx := range map[string][]byte{
		"config without envelope": envelope(common.HeaderType_CONFIG, []byte{0xff}),
		"config without config":   envelope(common.HeaderType_CONFIG, nil),
		"no header":               protoutil.Marshal(&common.Envelope{}),
	} {
		v := &Validator{State: openState(t)}
		if _, err := v.Validate(block(3, tx), []byte{0}); err == nil {
			t.Errorf("%s: the commit did not fail", name)
		}
	}
}

func TestWriteRules(t *testing.T) {
	v := &Validator{State: openState(t), CheckWrite: func(key string, _ []byte) error {
		if strings.HasPrefix(key, "_") {
			return fmt.Errorf("no")
		}
		return nil
	}}
	// rwset of one write of key "_a" in cc
	tx := endorserTx(unhex(t, "120f0a02636312091a070a025f611a0131"))
	r, err := v.Validate(block(3, tx), []byte{0})
	if err != nil {
		t.Fatal(err)
	}
	if r.Flags[0] != byte(peer.TxValidationCode_INVALID_WRITESET) || r.Updates.Len() != 0 {
		t.Fatalf("flags %v", r.Flags)
	}
}

// TestManyCollections: a transaction that writes to many collections beside many
// transactions takes room for what there is, not for their product.
func TestManyCollections(t *testing.T) {
	many, _ := privateTx(t, func(b *builder.Builder) {
		for i := range 2000 {
			b.WritePrivate("cc", fmt.Sprintf("c%d", i), "k", []byte("v"))
		}
	})
	txs := [][]byte{many}
	for i := range 1000 {
		tx, _ := privateTx(t, func(b *builder.Builder) { b.Write("cc", fmt.Sprintf("k%d", i), []byte("v")) })
		txs = append(txs, tx)
	}
	b := block(5, txs...)
	v := &Validator{State: openState(t)}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := v.Validate(b, make([]byte, len(txs))); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 32<<20 {
		t.Errorf("%d MiB for 3000 writes", used>>20)
	}
}
