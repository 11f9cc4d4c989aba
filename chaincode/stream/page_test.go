package stream

import (
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/queryresult"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"
)

// pulled counts how often its results are asked for.
type pulled struct{ count int }

func (p *pulled) Next() (*queryresult.KV, error) {
	p.count++
	return &queryresult.KV{Key: "k"}, nil
}
func (*pulled) Bookmark() string { return "next" }
func (*pulled) Close()           {}

// TestPageEnds shows that a page is not followed by a question for more, which
// would become part of the range that the transaction has read.
func TestPageEnds(t *testing.T) {
	it := &pulled{}
	raw, err := page(it, 3)
	if err != nil {
		t.Fatal(err)
	}
	resp, metadata := &peer.QueryResponse{}, &peer.QueryResponseMetadata{}
	if err := proto.Unmarshal(raw, resp); err != nil {
		t.Fatal(err)
	}
	if err := proto.Unmarshal(resp.Metadata, metadata); err != nil {
		t.Fatal(err)
	}
	if it.count != 3 || len(resp.Results) != 3 || metadata.FetchedRecordsCount != 3 || metadata.Bookmark != "next" {
		t.Errorf("%d pulled, %d results, %v", it.count, len(resp.Results), metadata)
	}
}

// large yields results of a size that only few of fit into a message.
type large struct{ value []byte }

func (l *large) Next() (*queryresult.KV, error) {
	return &queryresult.KV{Key: "k", Value: l.value}, nil
}
func (*large) Bookmark() string { return "" }
func (*large) Close()           {}

// TestLargeResults: batches get shorter, so that a chaincode gets them all; a
// page cannot be split.
func TestLargeResults(t *testing.T) {
	rows := &large{make([]byte, maxBytes/4)}
	it := &iterator{rows: stateRows(rows)}
	for range 3 {
		resp, err := it.batch(1000)
		if err != nil || len(resp.Results) != 3 || !resp.HasMore {
			t.Fatalf("%d results, more %v, %v", len(resp.GetResults()), resp.GetHasMore(), err)
		}
	}
	if it.returned != 9 {
		t.Errorf("returned %d", it.returned)
	}
	if resp, err := it.batch(10); err != nil || len(resp.Results) != 1 || resp.HasMore {
		t.Errorf("at the limit: %v", err)
	}
	if _, err := page(rows, 10); err == nil {
		t.Error("a page beyond the size of a message")
	}
	rows.value = make([]byte, 2*maxBytes) // alone: the send will say what it thinks
	if resp, err := (&iterator{rows: stateRows(rows)}).batch(10); err != nil || len(resp.Results) != 1 {
		t.Error(err)
	}
}

func TestWritesAreBounded(t *testing.T) {
	tx := newTransaction(&Call{})
	value := make([]byte, maxBytes/2)
	for range 5 { // overwriting adds nothing
		if err := tx.write("a", value); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.write("b", value); err == nil {
		t.Error("two halves and two keys fit")
	}
	if err := tx.write("a", nil); err != nil {
		t.Error(err)
	}
	if err := tx.write("b", value); err != nil {
		t.Error(err)
	}
}
