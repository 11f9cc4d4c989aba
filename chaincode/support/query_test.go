package support_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/queryresult"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/chaincode/stream"
	"github.com/heddle-ledger/heddle/chaincode/stream/streamtest"
	"github.com/heddle-ledger/heddle/chaincode/support"
)

// richSimulator answers rich queries, like one on CouchDB.
type richSimulator struct {
	*streamtest.Simulator
	count  int // results there are
	asked  []string
	open   int
	unread int
}

func (s *richSimulator) ExecuteQuery(ns, query string) (stream.Iterator, error) {
	s.asked = append(s.asked, ns+" "+query)
	return s.iterate(s.count)
}

func (s *richSimulator) ExecuteQueryPage(ns, query string, pageSize int32, bookmark string) (stream.PageIterator, error) {
	s.asked = append(s.asked, fmt.Sprintf("%s %s %d %s", ns, query, pageSize, bookmark))
	return s.iterate(min(s.count, int(pageSize)))
}

func (s *richSimulator) iterate(n int) (*richIterator, error) {
	if s.count < 0 {
		return nil, errors.New("error handling CouchDB request. Error:no_index,  Status Code:400,  Reason:none")
	}
	s.open++
	return &richIterator{s: s, left: n}, nil
}

type richIterator struct {
	s           *richSimulator
	given, left int
}

func (it *richIterator) Next() (*queryresult.KV, error) {
	if it.left == 0 {
		return nil, nil
	}
	it.left--
	it.given++
	return &queryresult.KV{Namespace: "cc", Key: fmt.Sprint(it.given)}, nil
}
func (it *richIterator) Bookmark() string { return fmt.Sprintf("after %d", it.given) }
func (it *richIterator) Close() {
	it.s.open--
	it.s.unread += it.left
}

// TestRichQueries: what the state database is asked and what the chaincode is
// told, with and without pages (CHAINCODE §3.2).
func TestRichQueries(t *testing.T) {
	t.Parallel()
	page := func(size int32, bookmark string) []byte {
		return marshal(&peer.QueryMetadata{PageSize: size, Bookmark: bookmark})
	}
	const limit = 150
	for _, tc := range []struct {
		name     string
		count    int
		metadata []byte
		asked    string
		batches  []int
		meta     *peer.QueryResponseMetadata
		unread   int
	}{
		{"all", 120, nil, "cc {}", []int{100, 20}, nil, 0},
		{"exactly a batch", 100, nil, "cc {}", []int{100}, nil, 0},
		{"empty metadata", 2, page(0, ""), "cc {}", []int{2}, nil, 0},
		{"limit", 300, nil, "cc {}", []int{100, 50}, nil, 150},
		{"page", 300, page(3, ""), "cc {} 3 ", []int{3}, &peer.QueryResponseMetadata{FetchedRecordsCount: 3, Bookmark: "after 3"}, 0},
		{"page beyond a batch", 300, page(120, ""), "cc {} 120 ", []int{120}, &peer.QueryResponseMetadata{FetchedRecordsCount: 120, Bookmark: "after 120"}, 0},
		{"next page", 2, page(3, "after 3"), "cc {} 3 after 3", []int{2}, &peer.QueryResponseMetadata{FetchedRecordsCount: 2, Bookmark: "after 2"}, 0},
		{"no page", 0, page(3, ""), "cc {} 3 ", []int{0}, &peer.QueryResponseMetadata{Bookmark: "after 0"}, 0},
		{"page beyond the limit", 300, page(200, ""), "cc {} 150 ", []int{150}, &peer.QueryResponseMetadata{FetchedRecordsCount: 150, Bookmark: "after 150"}, 0},
		{"bookmark alone", 300, page(0, "x"), "cc {} 150 x", []int{150}, &peer.QueryResponseMetadata{FetchedRecordsCount: 150, Bookmark: "after 150"}, 0},
		{"negative page", 2, page(-1, ""), "cc {} 150 ", []int{2}, &peer.QueryResponseMetadata{FetchedRecordsCount: 2, Bookmark: "after 2"}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			sim, batches, meta := runQuery(t, limit, tc.count, &peer.GetQueryResult{Query: "{}", Metadata: tc.metadata})
			if d := cmp.Diff([]string{tc.asked}, sim.asked); d != "" {
				t.Error(d)
			}
			if d := cmp.Diff(tc.batches, batches); d != "" || !proto.Equal(meta, tc.meta) && (meta != nil || tc.meta != nil) {
				t.Errorf("%s, %v", d, meta)
			}
			if sim.open != 0 || sim.unread != tc.unread {
				t.Errorf("%d open, %d unread", sim.open, sim.unread)
			}
		})
	}
}

// richTx starts a transaction of a chaincode that the test plays.
func richTx(t *testing.T, limit, count int) (*richSimulator, *conn, <-chan error) {
	t.Helper()
	w := newWorld(t, func(cfg *support.Config) { cfg.TotalQueryLimit = limit })
	cn := w.connect(t)
	cn.ready(t, "cc:1")
	tx := w.tx("ch1", "t1")
	sim := &richSimulator{Simulator: tx.Simulator.(*streamtest.Simulator), count: count}
	tx.Simulator = sim
	done := make(chan error, 1)
	go func() {
		_, _, err := w.Execute(t.Context(), tx, "cc", "1", args("x"))
		done <- err
	}()
	cn.hear()
	return sim, cn, done
}

// runQuery has a chaincode ask for all results of a query.
func runQuery(t *testing.T, limit, count int, query *peer.GetQueryResult) (*richSimulator, []int, *peer.QueryResponseMetadata) {
	t.Helper()
	sim, cn, done := richTx(t, limit, count)
	var batches []int
	var meta *peer.QueryResponseMetadata
	cn.say(msg(peer.ChaincodeMessage_GET_QUERY_RESULT, "ch1", "t1", query))
	for {
		m, resp := cn.hear(), &peer.QueryResponse{}
		if err := proto.Unmarshal(m.Payload, resp); err != nil || m.Type != peer.ChaincodeMessage_RESPONSE {
			t.Fatalf("%v, %s", err, m.Payload)
		}
		batches = append(batches, len(resp.Results))
		if resp.Metadata != nil {
			meta = &peer.QueryResponseMetadata{}
			if err := proto.Unmarshal(resp.Metadata, meta); err != nil {
				t.Fatal(err)
			}
		}
		if !resp.HasMore {
			break
		}
		cn.say(msg(peer.ChaincodeMessage_QUERY_STATE_NEXT, "ch1", "t1", &peer.QueryStateNext{Id: resp.Id}))
	}
	cn.say(completed("t1"))
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return sim, batches, meta
}

// TestRichQueriesEnd: iterators are closed by the chaincode, or else by the end
// of the transaction, and errors come with the text of the database.
func TestRichQueriesEnd(t *testing.T) {
	t.Parallel()
	sim, cn, done := richTx(t, 1000, 300)
	var ids []string
	for range 2 {
		cn.say(msg(peer.ChaincodeMessage_GET_QUERY_RESULT, "ch1", "t1", &peer.GetQueryResult{Query: "{}"}))
		resp := &peer.QueryResponse{}
		if err := proto.Unmarshal(cn.hear().Payload, resp); err != nil || !resp.HasMore {
			t.Fatal(err, resp.HasMore)
		}
		ids = append(ids, resp.Id)
	}
	if sim.open != 2 {
		t.Errorf("%d open", sim.open)
	}
	for _, id := range []string{ids[0], "unknown"} {
		cn.say(msg(peer.ChaincodeMessage_QUERY_STATE_CLOSE, "ch1", "t1", &peer.QueryStateClose{Id: id}))
		resp := &peer.QueryResponse{}
		if err := proto.Unmarshal(cn.hear().Payload, resp); err != nil || resp.Id != id || resp.HasMore || sim.open != 1 {
			t.Errorf("%v, %v, %d open", err, resp, sim.open)
		}
	}
	for _, tc := range []struct {
		request *peer.ChaincodeMessage
		want    string
	}{
		{msg(peer.ChaincodeMessage_QUERY_STATE_NEXT, "ch1", "t1", &peer.QueryStateNext{Id: ids[0]}), "QUERY_STATE_NEXT failed: transaction ID: t1: query iterator not found"},
		{msg(peer.ChaincodeMessage_GET_QUERY_RESULT, "ch1", "t1", &peer.GetQueryResult{Metadata: []byte{0xff}}), "GET_QUERY_RESULT failed: transaction ID: t1: unmarshal failed: "},
		{msg(peer.ChaincodeMessage_GET_QUERY_RESULT, "ch1", "t1", &peer.GetQueryResult{Query: "{}", Collection: "c"}), "GET_QUERY_RESULT failed: transaction ID: t1: collection ch1/cc/c could not be found"},
	} {
		cn.say(tc.request)
		if m := cn.hear(); m.Type != peer.ChaincodeMessage_ERROR || !strings.HasPrefix(string(m.Payload), tc.want) {
			t.Errorf("got %s, want %s", m.Payload, tc.want)
		}
	}
	sim.count = -1
	for _, metadata := range [][]byte{nil, marshal(&peer.QueryMetadata{PageSize: 1})} {
		cn.say(msg(peer.ChaincodeMessage_GET_QUERY_RESULT, "ch1", "t1", &peer.GetQueryResult{Query: "{", Metadata: metadata}))
		want := "GET_QUERY_RESULT failed: transaction ID: t1: error handling CouchDB request. Error:no_index,  Status Code:400,  Reason:none"
		if m := cn.hear(); m.Type != peer.ChaincodeMessage_ERROR || string(m.Payload) != want {
			t.Errorf("got %s", m.Payload)
		}
	}
	cn.say(completed("t1"))
	if err := <-done; err != nil || sim.open != 0 {
		t.Errorf("%v, %d open", err, sim.open)
	}
}
