package support_test

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"testing"

	"github.com/hyperledger/fabric-chaincode-go/v2/shim"
	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/heddle-ledger/heddle/chaincode/support"
)

// counter reads args[1] keys and writes args[2] keys.
type counter struct{}

func (counter) Init(shim.ChaincodeStubInterface) *peer.Response { return shim.Success(nil) }

func (counter) Invoke(s shim.ChaincodeStubInterface) *peer.Response {
	a := s.GetStringArgs()
	gets, _ := strconv.Atoi(a[1])
	puts, _ := strconv.Atoi(a[2])
	for i := range gets {
		if _, err := s.GetState(fmt.Sprint("key", i)); err != nil {
			return shim.Error(err.Error())
		}
	}
	for i := range puts {
		if err := s.PutState(fmt.Sprint("key", i), []byte("value")); err != nil {
			return shim.Error(err.Error())
		}
	}
	return shim.Success(nil)
}

// startShim serves a world over bufconn and connects the stock shim to it.
func startShim(t testing.TB, w *world, cname string) {
	lis := bufconn.Listen(1 << 20)
	server := grpc.NewServer()
	peer.RegisterChaincodeSupportServer(server, w)
	go server.Serve(lis) //nolint:errcheck // ends by Stop
	cc, err := grpc.NewClient("passthrough:bufnet", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	st, err := peer.NewChaincodeSupportClient(cc).Register(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { shim.StartInProc(cname, st, counter{}); close(ended) }() //nolint:errcheck // ends with the stream
	t.Cleanup(func() { cc.Close(); server.Stop(); <-ended })
	for w.Connected(cname) == nil {
		<-waitAWhile()
	}
}

func signed(channel, txID string) (*peer.SignedProposal, *peer.Proposal) {
	p := &peer.Proposal{
		Header: marshal(&common.Header{
			ChannelHeader:   marshal(&common.ChannelHeader{Type: int32(common.HeaderType_ENDORSER_TRANSACTION), ChannelId: channel, TxId: txID}),
			SignatureHeader: marshal(&common.SignatureHeader{Creator: make([]byte, 800), Nonce: make([]byte, 24)}),
		}),
		Payload: marshal(&peer.ChaincodeProposalPayload{Input: make([]byte, 100)}),
	}
	return &peer.SignedProposal{ProposalBytes: marshal(p), Signature: make([]byte, 71)}, p
}

// BenchmarkInvoke is a round trip to the stock shim in this process: its time
// holds both sides of the stream.
func BenchmarkInvoke(b *testing.B) {
	for _, c := range []struct{ gets, puts int }{{0, 0}, {1, 1}, {10, 0}, {0, 10}} {
		for _, parallel := range []int{1, 16} {
			b.Run(fmt.Sprintf("gets=%d/puts=%d/clients=%d", c.gets, c.puts, parallel), func(b *testing.B) {
				w := newWorld(b, nil)
				for i := range 10 {
					w.channels["ch1"].Put("cc", fmt.Sprint("key", i), []byte("value"))
				}
				startShim(b, w, "cc:1")
				sp, p := signed("ch1", "tx")
				input := args("f", strconv.Itoa(c.gets), strconv.Itoa(c.puts))
				b.ReportAllocs()
				b.SetParallelism(parallel)
				run := func(id string) {
					tx := &support.TxParams{ChannelID: "ch1", TxID: id, SignedProposal: sp, Proposal: p, Simulator: w.channels["ch1"].Simulate(id)}
					if resp, _, err := w.Execute(b.Context(), tx, "cc", "1", input); err != nil || resp.Status != 200 {
						b.Error(resp, err)
					}
				}
				if parallel == 1 {
					for i := 0; b.Loop(); i++ {
						run(strconv.Itoa(i))
					}
					return
				}
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						run(strconv.FormatInt(w.next.Add(1), 10))
					}
				})
			})
		}
	}
}

func TestStockShim(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	startShim(t, w, "cc:1")
	tx := w.tx("ch1", "t1")
	tx.SignedProposal, tx.Proposal = signed("ch1", "t1")
	resp, _, err := w.Execute(t.Context(), tx, "cc", "1", args("f", "3", "2"))
	if err != nil || resp.Status != 200 {
		t.Error(resp, err)
	}
}
