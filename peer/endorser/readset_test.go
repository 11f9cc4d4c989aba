package endorser_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset/kvrwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/chaincode/stream"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/metrics"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/ledger"
	"github.com/heddle-ledger/heddle/peer/endorser"
)

// rangeLedger has the keys k000 … k149 of chaincode cc, with metadata on k000.
func rangeLedger(t *testing.T) *ledger.Ledger {
	t.Helper()
	p, err := ledger.OpenProvider(ledger.Config{Dir: t.TempDir()})
	must(t, err)
	t.Cleanup(func() { _ = p.Close() })
	envelope := func(typ common.HeaderType, data []byte) []byte {
		return protoutil.Marshal(&common.Envelope{Payload: protoutil.Marshal(&common.Payload{
			Header: &common.Header{ChannelHeader: protoutil.Marshal(&common.ChannelHeader{Type: int32(typ), ChannelId: "ch"})},
			Data:   data,
		})})
	}
	genesis := protoutil.NewBlock(0, nil)
	genesis.Data.Data = [][]byte{envelope(common.HeaderType_CONFIG, protoutil.Marshal(&common.ConfigEnvelope{Config: &common.Config{}}))}
	l, err := p.Create(genesis)
	must(t, err)
	set := &kvrwset.KVRWSet{MetadataWrites: []*kvrwset.KVMetadataWrite{{Key: "k000", Entries: []*kvrwset.KVMetadataEntry{
		{Name: "b", Value: []byte("2")}, {Name: "a", Value: []byte("1")},
	}}}}
	for i := range 150 {
		set.Writes = append(set.Writes, &kvrwset.KVWrite{Key: fmt.Sprintf("k%03d", i), Value: []byte("v")})
	}
	b := protoutil.NewBlock(1, protoutil.BlockHash(genesis.Header))
	b.Data.Data = [][]byte{envelope(common.HeaderType_ENDORSER_TRANSACTION, protoutil.Marshal(&peer.Transaction{Actions: []*peer.TransactionAction{{
		Payload: protoutil.Marshal(&peer.ChaincodeActionPayload{Action: &peer.ChaincodeEndorsedAction{
			ProposalResponsePayload: protoutil.Marshal(&peer.ProposalResponsePayload{Extension: protoutil.Marshal(&peer.ChaincodeAction{
				Results: protoutil.Marshal(&rwset.TxReadWriteSet{NsRwset: []*rwset.NsReadWriteSet{{Namespace: "cc", Rwset: protoutil.Marshal(set)}}}),
			})}),
		}}),
	}}}))}
	v := protoutil.ParseBlock(b)
	v.SetFlags([]byte{0})
	must(t, l.Commit(v))
	return l
}

// readsOf is what the results of the keys k000 … up to, but without, k<n> look
// like in a range query info.
func readsOf(from, n int) []*kvrwset.KVRead {
	var out []*kvrwset.KVRead
	for i := from; i < n; i++ {
		out = append(out, &kvrwset.KVRead{Key: fmt.Sprintf("k%03d", i), Version: &kvrwset.Version{BlockNum: 1}})
	}
	return out
}

// shim is the chaincode's end of a stream: a script of requests, each made of
// the answer before it.
type shim struct {
	toPeer, toShim chan *peer.ChaincodeMessage
	ended          chan struct{}
}

func (s *shim) Send(m *peer.ChaincodeMessage) error {
	select {
	case s.toShim <- m:
		return nil
	case <-s.ended:
		return io.EOF
	}
}

func (s *shim) Recv() (*peer.ChaincodeMessage, error) {
	select {
	case m := <-s.toPeer:
		return m, nil
	case <-s.ended:
		return nil, io.EOF
	}
}

// host admits a stream and knows no other.
type host struct{ ready chan struct{} }

func (host) Register(*stream.Stream) error    { return nil }
func (h host) Registered(*stream.Stream)      { close(h.ready) }
func (host) IsSystem(string) bool             { return false }
func (host) KeyLevelEndorsement(string) error { return nil }
func (host) Invoke(context.Context, *stream.Call, string, stream.Target, *peer.ChaincodeInput) (*peer.ChaincodeMessage, error) {
	return nil, errors.New("no other chaincode")
}

// request is one message of the shim.
type request struct {
	typ     peer.ChaincodeMessage_Type
	payload proto.Message
}

// throughStream has a chaincode make requests, which go the whole way through
// stream and simulator. It returns the answers and the results.
func throughStream(t *testing.T, l *ledger.Ledger, limit int, script func(answer func(request) []byte)) *protoutil.TxRWSet {
	t.Helper()
	h := host{make(chan struct{})}
	s := &shim{make(chan *peer.ChaincodeMessage), make(chan *peer.ChaincodeMessage, 8), make(chan struct{})}
	defer close(s.ended)
	cc := stream.New(stream.Config{Host: h, TotalQueryLimit: limit, Metrics: stream.NewMetrics(metrics.Disabled()), Log: flog.Nop()})
	register := &peer.ChaincodeMessage{Type: peer.ChaincodeMessage_REGISTER, Payload: protoutil.Marshal(&peer.ChaincodeID{Name: "cc:1"})}
	go cc.Serve(s, register) //nolint:errcheck // ends with the shim
	<-h.ready
	sim, err := endorser.OnLedger(l).Simulate("tx")
	must(t, err)
	defer sim.Done()
	go func() {
		for m := range s.toShim {
			if m.Type == peer.ChaincodeMessage_TRANSACTION {
				break
			}
		}
		script(func(r request) []byte {
			s.toPeer <- &peer.ChaincodeMessage{Type: r.typ, ChannelId: "ch", Txid: "tx", Payload: protoutil.Marshal(r.payload)}
			m := <-s.toShim
			if m.Type != peer.ChaincodeMessage_RESPONSE {
				t.Errorf("%s: %s", r.typ, m.Payload)
			}
			return m.Payload
		})
		s.toPeer <- &peer.ChaincodeMessage{Type: peer.ChaincodeMessage_COMPLETED, ChannelId: "ch", Txid: "tx"}
	}()
	_, err = cc.Execute(t.Context(), &stream.Call{
		Type: peer.ChaincodeMessage_TRANSACTION, ChannelID: "ch", TxID: "tx", Input: &peer.ChaincodeInput{}, Simulator: sim,
	})
	must(t, err)
	results, err := sim.Results()
	must(t, err)
	set, err := protoutil.ParseRWSet(results.Public)
	must(t, err)
	return set
}

func queryResponse(t *testing.T, raw []byte) (*peer.QueryResponse, *peer.QueryResponseMetadata) {
	resp, metadata := &peer.QueryResponse{}, &peer.QueryResponseMetadata{}
	if err := errors.Join(proto.Unmarshal(raw, resp), proto.Unmarshal(resp.Metadata, metadata)); err != nil {
		t.Error(err)
	}
	return resp, metadata
}

// TestRangesThroughTheShim: a range query covers what the stream pulled, which is
// one result more than the chaincode has been given, as long as there are any;
// and no more than the limit or the page (LEDGER §11.3).
func TestRangesThroughTheShim(t *testing.T) {
	l := rangeLedger(t)
	for _, tc := range []struct {
		name       string
		start, end string
		limit      int
		page       *peer.QueryMetadata
		batches    int // that the chaincode asks for
		given      int
		bookmark   string
		reads      [2]int // the keys in the results
		last       string
		exhausted  bool
	}{
		{"first batch of two", "k", "l", 10000, nil, 1, 100, "", [2]int{0, 101}, "k100", false},
		{"both batches", "k", "l", 10000, nil, 2, 150, "", [2]int{0, 150}, "l", true},
		{"exactly a batch", "k050", "", 10000, nil, 1, 100, "", [2]int{50, 150}, "", true},
		{"one more than a batch", "k049", "", 10000, nil, 1, 100, "", [2]int{49, 150}, "k149", false},
		{"few", "k000", "k003", 10000, nil, 1, 3, "", [2]int{0, 3}, "k003", true},
		{"none", "x", "y", 10000, nil, 1, 0, "", [2]int{0, 0}, "y", true},
		{"limit", "k", "l", 60, nil, 1, 60, "", [2]int{0, 60}, "k059", false},
		{"limit of a batch", "k", "l", 100, nil, 1, 100, "", [2]int{0, 100}, "k099", false},
		{"limit one beyond a batch", "k", "l", 101, nil, 2, 101, "", [2]int{0, 101}, "k100", false},
		{"limit of all", "k", "l", 150, nil, 2, 150, "", [2]int{0, 150}, "k149", false},
		{"page", "k", "l", 10000, &peer.QueryMetadata{PageSize: 10}, 1, 10, "k010", [2]int{0, 10}, "k009", false},
		{"page from a bookmark", "k", "l", 10000, &peer.QueryMetadata{PageSize: 10, Bookmark: "k020"}, 1, 10, "k030", [2]int{20, 30}, "k029", false},
		{"last page", "k", "l", 10000, &peer.QueryMetadata{PageSize: 10, Bookmark: "k145"}, 1, 5, "", [2]int{145, 150}, "l", true},
		{"last page, full", "k", "l", 10000, &peer.QueryMetadata{PageSize: 5, Bookmark: "k145"}, 1, 5, "", [2]int{145, 150}, "k149", false},
		{"page of more than a batch", "k", "l", 10000, &peer.QueryMetadata{PageSize: 120}, 1, 120, "k120", [2]int{0, 120}, "k119", false},
		{"page beyond the limit", "k", "l", 60, &peer.QueryMetadata{PageSize: 120}, 1, 60, "k060", [2]int{0, 60}, "k059", false},
		{"bookmark only", "k", "l", 60, &peer.QueryMetadata{Bookmark: "k020"}, 1, 60, "k080", [2]int{20, 80}, "k079", false},
		{"negative page", "k", "l", 60, &peer.QueryMetadata{PageSize: -1}, 1, 60, "k060", [2]int{0, 60}, "k059", false},
		{"empty metadata", "k", "l", 10000, &peer.QueryMetadata{}, 1, 100, "", [2]int{0, 101}, "k100", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			set := throughStream(t, l, tc.limit, func(answer func(request) []byte) {
				get := &peer.GetStateByRange{StartKey: tc.start, EndKey: tc.end}
				if tc.page != nil {
					get.Metadata = protoutil.Marshal(tc.page)
				}
				resp, metadata := queryResponse(t, answer(request{peer.ChaincodeMessage_GET_STATE_BY_RANGE, get}))
				given := len(resp.Results)
				for range tc.batches - 1 {
					resp, _ = queryResponse(t, answer(request{peer.ChaincodeMessage_QUERY_STATE_NEXT, &peer.QueryStateNext{Id: resp.Id}}))
					given += len(resp.Results)
				}
				if given != tc.given || metadata.Bookmark != tc.bookmark {
					t.Errorf("%d results, bookmark %q", given, metadata.Bookmark)
				}
			})
			start := tc.start
			if b := tc.page.GetBookmark(); b != "" {
				start = b
			}
			want := &kvrwset.RangeQueryInfo{StartKey: start, EndKey: tc.last, ItrExhausted: tc.exhausted}
			got := set.Namespaces[0].KV.RangeQueriesInfo[0]
			reads := readsOf(tc.reads[0], tc.reads[1])
			if summary := got.GetReadsMerkleHashes(); len(reads) > 50 {
				// Three groups of 51 at most: the leaves are the top.
				if summary.GetMaxDegree() != 50 || summary.MaxLevel != 1 || len(summary.MaxLevelHashes) != (len(reads)+50)/51 {
					t.Errorf("%d results: %v", len(reads), summary)
				}
				got.ReadsInfo = nil
			} else if len(reads) > 0 {
				want.ReadsInfo = &kvrwset.RangeQueryInfo_RawReads{RawReads: &kvrwset.QueryReads{KvReads: reads}}
			}
			if !proto.Equal(want, got) {
				t.Errorf("got  %v\nwant %v", got, want)
			}
		})
	}
}

// TestRequestsThroughTheShim: what single requests leave in the results.
func TestRequestsThroughTheShim(t *testing.T) {
	set := throughStream(t, rangeLedger(t), 0, func(answer func(request) []byte) {
		if v := answer(request{peer.ChaincodeMessage_GET_STATE, &peer.GetState{Key: "k001"}}); string(v) != "v" {
			t.Errorf("got %q", v)
		}
		metadata := &peer.StateMetadataResult{}
		if err := proto.Unmarshal(answer(request{peer.ChaincodeMessage_GET_STATE_METADATA, &peer.GetStateMetadata{Key: "k000"}}), metadata); err != nil ||
			len(metadata.Entries) != 2 || metadata.Entries[0].Metakey != "a" {
			t.Errorf("got %v, %v", metadata, err)
		}
		answer(request{peer.ChaincodeMessage_PUT_STATE, &peer.PutState{Key: "k001", Value: []byte("w")}})
		answer(request{peer.ChaincodeMessage_PUT_STATE, &peer.PutState{Key: "k002"}})
		answer(request{peer.ChaincodeMessage_DEL_STATE, &peer.DelState{Key: "k003"}})
		answer(request{peer.ChaincodeMessage_PUT_STATE_METADATA, &peer.PutStateMetadata{Key: "k004", Metadata: &peer.StateMetadata{Metakey: "m", Value: []byte("1")}}})
		if v := answer(request{peer.ChaincodeMessage_GET_STATE, &peer.GetState{Key: "k001"}}); string(v) != "v" {
			t.Errorf("the transaction's own write was read: %q", v)
		}
	})
	if len(set.Namespaces) != 1 || set.Namespaces[0].Namespace != "cc" {
		t.Fatalf("got %v", set)
	}
	want := &kvrwset.KVRWSet{
		Reads:          readsOf(0, 2),
		Writes:         []*kvrwset.KVWrite{{Key: "k001", Value: []byte("w")}, {Key: "k002", IsDelete: true}, {Key: "k003", IsDelete: true}},
		MetadataWrites: []*kvrwset.KVMetadataWrite{{Key: "k004", Entries: []*kvrwset.KVMetadataEntry{{Name: "m", Value: []byte("1")}}}},
	}
	if !proto.Equal(want, set.Namespaces[0].KV) {
		t.Errorf("got %v", set.Namespaces[0].KV)
	}
}
