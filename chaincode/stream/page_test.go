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
