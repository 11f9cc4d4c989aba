package protoutil

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"sync"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset/kvrwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBlockHashVectors(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/block_hash.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Data []struct {
			Data []string `json:"data_hex"`
			Hash string   `json:"data_hash_hex"`
		}
		Headers []struct {
			Number   uint64
			Previous string `json:"previous_hash_hex"`
			Data     string `json:"data_hash_hex"`
			DER      string `json:"header_asn1_hex"`
			Hash     string `json:"header_hash_hex"`
		}
	}
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	for i, d := range v.Data {
		var data [][]byte
		for _, e := range d.Data {
			data = append(data, unhex(t, e))
		}
		if got := hex.EncodeToString(DataHash(data)); got != d.Hash {
			t.Errorf("data %d: hash %s, want %s", i, got, d.Hash)
		}
	}
	for i, h := range v.Headers {
		header := &common.BlockHeader{Number: h.Number, PreviousHash: unhex(t, h.Previous), DataHash: unhex(t, h.Data)}
		if got := hex.EncodeToString(BlockHeaderBytes(header)); got != h.DER {
			t.Errorf("header %d: %s, want %s", i, got, h.DER)
		}
		if got := hex.EncodeToString(BlockHash(header)); got != h.Hash {
			t.Errorf("header %d: hash %s, want %s", i, got, h.Hash)
		}
	}
	if len(v.Data) == 0 || len(v.Headers) == 0 {
		t.Error("no vectors")
	}
}

func TestLongHeaderFields(t *testing.T) {
	t.Parallel()
	// DER lengths above 127 take a longer form; 200 bytes: 81 c8.
	h := &common.BlockHeader{Number: 1 << 63, PreviousHash: bytes.Repeat([]byte{1}, 200)}
	got := BlockHeaderBytes(h)
	want := append(unhex(t, "3081d8"+"0209008000000000000000"+"0481c8"), append(bytes.Repeat([]byte{1}, 200), 4, 0)...)
	if !bytes.Equal(got, want) {
		t.Errorf("got %x", got)
	}
}

func seedBlock(t testing.TB) *common.Block {
	t.Helper()
	raw, err := os.ReadFile("testdata/seed_block1.block")
	if err != nil {
		t.Fatal(err)
	}
	b := &common.Block{}
	if err := proto.Unmarshal(raw, b); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestViewOfBlock(t *testing.T) {
	t.Parallel()
	b := seedBlock(t)
	v := ParseBlock(b)
	if v.Number() != b.Header.Number || v.Len() != len(b.Data.Data) || v.IsConfig() {
		t.Fatalf("number %d, %d transactions, config %v", v.Number(), v.Len(), v.IsConfig())
	}
	var wg sync.WaitGroup // every accessor is safe for concurrent use
	for range 4 {
		wg.Go(func() {
			for i := range v.Len() {
				tx := v.Tx(i)
				set, err := tx.RWSet()
				if err != nil || len(set.Namespaces) == 0 {
					t.Errorf("transaction %d: %v", i, err)
				}
				sh, err := tx.SignatureHeader()
				if err != nil || tx.ID() != TxID(sh.Nonce, sh.Creator) {
					t.Errorf("transaction %d: id %q, %v", i, tx.ID(), err)
				}
				if _, err := tx.Extension(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if ch, err := ChannelIDOfBlock(b); err != nil || ch != "standalone" {
		t.Errorf("channel %q, %v", ch, err)
	}
}

func TestFlags(t *testing.T) {
	t.Parallel()
	v := ParseBlock(&common.Block{})
	if v.Flags() != nil || v.Len() != 0 || v.Number() != 0 {
		t.Error("an empty block has parts")
	}
	v.SetFlags([]byte{1, 2})
	if !bytes.Equal(v.Flags(), []byte{1, 2}) || len(v.Proto().Metadata.Metadata) != MetadataSlots {
		t.Errorf("flags %v, %d slots", v.Flags(), len(v.Proto().Metadata.Metadata))
	}
}

func TestMalformedTransactions(t *testing.T) {
	t.Parallel()
	noHeader := Marshal(&common.Envelope{Payload: Marshal(&common.Payload{Data: []byte("x")})})
	for name, raw := range map[string][]byte{"empty": nil, "garbage": {0xff, 0xff}, "no header": noHeader} {
		tx := ParseTx(raw)
		if tx.ID() != "" {
			t.Errorf("%s: id %q", name, tx.ID())
		}
		if _, err := tx.RWSet(); err == nil {
			t.Errorf("%s: has a read-write set", name)
		}
		if _, err := tx.ChannelHeader(); err == nil {
			t.Errorf("%s: has a channel header", name)
		}
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	cases := []struct {
		m    proto.Message
		want string
	}{
		{&peer.Response{Status: 200, Payload: []byte("OK")}, `status:200 payload:"OK" `},
		{&peer.ProposalResponse{Response: &peer.Response{Status: 200, Payload: []byte("OK")}}, `response:<status:200 payload:"OK" > `},
		{&peer.Response{Payload: []byte("é\n\"1\t\\")}, `payload:"\303\251\n\"1\t\\" `},
		{&common.ChannelHeader{}, ""},
		{&peer.ChaincodeProposalPayload{TransientMap: map[string][]byte{"b": {0}, "a": nil}}, `TransientMap:<key:"a" value:"" > TransientMap:<key:"b" value:"\000" > `},
		{&peer.ChaincodeSpec{Type: peer.ChaincodeSpec_JAVA, ChaincodeId: &peer.ChaincodeID{}}, `type:JAVA chaincode_id:<> `},
		{(*peer.Response)(nil), "<nil>"},
	}
	for _, tc := range cases {
		if got := Text(tc.m); got != tc.want {
			t.Errorf("got %q, want %q", got, tc.want)
		}
	}
}

func FuzzTx(f *testing.F) {
	for _, d := range seedBlock(f).Data.Data {
		f.Add(d)
	}
	f.Fuzz(func(_ *testing.T, raw []byte) {
		tx := ParseTx(raw)
		_ = tx.ID()
		_, _ = tx.Extension()
		_, _ = tx.RWSet()
	})
}

// checkFast holds a fast decoder to the library: what it takes must be the same
// message.
func checkFast[M proto.Message](t *testing.T, raw []byte, fresh func() M, fast fastDecoder[M]) {
	t.Helper()
	m := fresh()
	if !fast(raw, m) {
		return
	}
	want := fresh()
	if err := proto.Unmarshal(raw, want); err != nil {
		t.Fatalf("%T: taken, but the library says %v", m, err)
	}
	if !proto.Equal(m, want) {
		t.Fatalf("%T: got %v, want %v", m, m, want)
	}
}

func FuzzFastDecoders(f *testing.F) {
	for _, d := range seedBlock(f).Data.Data {
		tx := ParseTx(d)
		f.Add(d)
		p, _ := tx.Payload()
		f.Add(p.Header.ChannelHeader)
		f.Add(p.Data)
		a, _ := tx.Action()
		f.Add(a.Results)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		checkFast(t, raw, newMessage[common.Envelope], fastEnvelope)
		checkFast(t, raw, newMessage[common.Payload], fastPayload)
		checkFast(t, raw, newMessage[common.ChannelHeader], fastChannelHeader)
		checkFast(t, raw, newMessage[common.SignatureHeader], fastSignatureHeader)
		checkFast(t, raw, newMessage[peer.ChaincodeHeaderExtension], fastExtension)
		checkFast(t, raw, newMessage[peer.Transaction], fastTransaction)
		checkFast(t, raw, newMessage[peer.ChaincodeActionPayload], fastActionPayload)
		checkFast(t, raw, newMessage[peer.ProposalResponsePayload], fastResponsePayload)
		checkFast(t, raw, newMessage[peer.ChaincodeAction], fastChaincodeAction)
		checkFast(t, raw, newMessage[rwset.TxReadWriteSet], fastTxRWSet)
		checkFast(t, raw, newMessage[kvrwset.KVRWSet], fastKVRWSet)
	})
}

// FuzzRWSet compares the decoder of read-write sets with the library's, part by
// part.
func FuzzRWSet(f *testing.F) {
	for _, d := range seedBlock(f).Data.Data {
		if a, err := ParseTx(d).Action(); err == nil {
			f.Add(a.Results)
		}
	}
	hashed := Marshal(&kvrwset.HashedRWSet{HashedReads: []*kvrwset.KVReadHash{{KeyHash: []byte("h"), Version: &kvrwset.Version{BlockNum: 1 << 60}}}})
	f.Add(Marshal(&rwset.TxReadWriteSet{NsRwset: []*rwset.NsReadWriteSet{{
		Namespace: "cc", Rwset: Marshal(&kvrwset.KVRWSet{
			Reads:            []*kvrwset.KVRead{{Key: "a"}, {Key: "b", Version: &kvrwset.Version{}}},
			RangeQueriesInfo: []*kvrwset.RangeQueryInfo{{StartKey: "a", ItrExhausted: true}},
			MetadataWrites:   []*kvrwset.KVMetadataWrite{{Key: "k", Entries: []*kvrwset.KVMetadataEntry{{Name: "n"}}}},
		}),
		CollectionHashedRwset: []*rwset.CollectionHashedReadWriteSet{{CollectionName: "c", HashedRwset: hashed, PvtRwsetHash: []byte("x")}},
	}}}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := ParseRWSet(raw)
		want, wantErr := libraryRWSet(raw)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%v, the library says %v", err, wantErr)
		}
		if err != nil {
			return
		}
		if len(got.Namespaces) != len(want.Namespaces) {
			t.Fatalf("%d namespaces, want %d", len(got.Namespaces), len(want.Namespaces))
		}
		for i, ns := range got.Namespaces {
			w := want.Namespaces[i]
			if ns.Namespace != w.Namespace || !proto.Equal(ns.KV, w.KV) || len(ns.Collections) != len(w.Collections) {
				t.Fatalf("namespace %q: %v, want %q: %v", ns.Namespace, ns.KV, w.Namespace, w.KV)
			}
			for k, c := range ns.Collections {
				if wc := w.Collections[k]; c.Name != wc.Name || string(c.PvtHash) != string(wc.PvtHash) || !proto.Equal(c.Hashed, wc.Hashed) {
					t.Fatalf("collection %q: %v, want %q: %v", c.Name, c.Hashed, wc.Name, wc.Hashed)
				}
			}
		}
	})
}

func libraryRWSet(raw []byte) (*TxRWSet, error) {
	set := &rwset.TxReadWriteSet{}
	if err := proto.Unmarshal(raw, set); err != nil {
		return nil, err
	}
	out := &TxRWSet{}
	for _, ns := range set.NsRwset {
		n := NsRWSet{Namespace: ns.GetNamespace(), KV: &kvrwset.KVRWSet{}}
		if err := proto.Unmarshal(ns.GetRwset(), n.KV); err != nil {
			return nil, err
		}
		for _, c := range ns.GetCollectionHashedRwset() {
			coll := CollRWSet{Name: c.GetCollectionName(), Hashed: &kvrwset.HashedRWSet{}, PvtHash: c.GetPvtRwsetHash()}
			if err := proto.Unmarshal(c.GetHashedRwset(), coll.Hashed); err != nil {
				return nil, err
			}
			n.Collections = append(n.Collections, coll)
		}
		out.Namespaces = append(out.Namespaces, n)
	}
	return out, nil
}

func TestFastDecodersTakeTheUsualForm(t *testing.T) {
	t.Parallel()
	for i, d := range seedBlock(t).Data.Data {
		tx := ParseTx(d)
		if !fastEnvelope(d, &common.Envelope{}) {
			t.Errorf("transaction %d: envelope", i)
		}
		p, err := tx.Payload()
		if err != nil {
			t.Fatal(err)
		}
		a, err := tx.ActionPayload()
		if err != nil {
			t.Fatal(err)
		}
		if !fastChannelHeader(p.Header.ChannelHeader, &common.ChannelHeader{}) || !fastTransaction(p.Data, &peer.Transaction{}) ||
			!fastResponsePayload(a.Action.ProposalResponsePayload, &peer.ProposalResponsePayload{}) {
			t.Errorf("transaction %d: a part is left to the library", i)
		}
	}
}

func BenchmarkDecodeTx(b *testing.B) {
	data := seedBlock(b).Data.Data
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		tx := ParseTx(data[i%len(data)])
		if _, err := tx.RWSet(); err != nil {
			b.Fatal(err)
		}
		tx.ID()
	}
}
