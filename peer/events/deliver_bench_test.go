package events_test

import (
	"context"
	"fmt"
	"io"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/orderer"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	protocodec "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/grpclog"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/rpc"
	"github.com/heddle-ledger/heddle/ledger/blockfile"
	"github.com/heddle-ledger/heddle/peer/events"
)

const (
	deliverBlocks = 40
	deliverTxs    = 500
)

// fileLedger reads from block files.
type fileLedger struct{ *blockfile.Store }

func (fileLedger) WaitHeight(context.Context, uint64) error { return nil }

// storedChain is a chain of blocks of 500 transactions of 3 KB with one
// endorsement in block files on the machine's file system.
func storedChain(b *testing.B) fileLedger {
	p, err := blockfile.OpenProvider(blockfile.Config{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { p.Close() })
	s, err := p.Open("mychannel")
	if err != nil {
		b.Fatal(err)
	}
	var prev []byte
	for n := range uint64(deliverBlocks) {
		block := protoutil.NewBlock(n, prev)
		for i := range deliverTxs {
			block.Data.Data = append(block.Data.Data, storedTx(fmt.Sprintf("%032x%032x", n, i)))
		}
		block.Header.DataHash = protoutil.DataHash(block.Data.Data)
		prev = protoutil.BlockHash(block.Header)
		v := protoutil.ParseBlock(block)
		v.SetFlags(make([]byte, deliverTxs))
		if err := s.Append(v); err != nil {
			b.Fatal(err)
		}
	}
	return fileLedger{s}
}

func storedTx(id string) []byte {
	identity, signature := make([]byte, 780), make([]byte, 71)
	creator := protoutil.Marshal(&common.SignatureHeader{Creator: identity, Nonce: identity[:24]})
	action := protoutil.Marshal(&peer.ChaincodeActionPayload{
		ChaincodeProposalPayload: identity[:160],
		Action: &peer.ChaincodeEndorsedAction{
			ProposalResponsePayload: protoutil.Marshal(&peer.ProposalResponsePayload{
				ProposalHash: identity[:32],
				Extension: protoutil.Marshal(&peer.ChaincodeAction{
					Results: identity[:220], Response: &peer.Response{Status: 200},
					ChaincodeId: &peer.ChaincodeID{Name: "mycc", Version: "1.0"},
				}),
			}),
			Endorsements: []*peer.Endorsement{{Endorser: identity, Signature: signature}},
		},
	})
	return protoutil.Marshal(&common.Envelope{Signature: signature, Payload: protoutil.Marshal(&common.Payload{
		Header: &common.Header{
			ChannelHeader: protoutil.Marshal(&common.ChannelHeader{
				Type: int32(common.HeaderType_ENDORSER_TRANSACTION), ChannelId: "mychannel", TxId: id,
			}),
			SignatureHeader: creator,
		},
		Data: protoutil.Marshal(&peer.Transaction{Actions: []*peer.TransactionAction{{Header: creator, Payload: action}}}),
	})})
}

type everybody struct{}

func (everybody) CheckEnvelope(string, string, *common.Envelope) error { return nil }

// sizes is a client's codec that looks at the size of answers only.
type sizes struct{ encoding.CodecV2 }

func (sizes) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*int) = data.Len()
	return nil
}

// deliverServer serves the chain on a port of its own.
func deliverServer(b *testing.B, l events.Ledger) *grpc.ClientConn {
	listener, err := rpc.Listen("127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server, err := rpc.NewServer(listener, rpc.ServerConfig{Log: flog.Nop()})
	if err != nil {
		b.Fatal(err)
	}
	peer.RegisterDeliverServer(server.GRPC(), events.New(events.Config{
		Channel: func(string) (events.Channel, bool) {
			return events.Channel{Ledger: l, Sequence: func() uint64 { return 1 }}, true
		},
		Access: everybody{},
	}))
	ctx, cancel := context.WithCancel(context.Background())
	var served sync.WaitGroup
	served.Go(func() {
		if err := server.Serve(ctx, 0); err != nil {
			b.Error(err)
		}
	})
	conn, err := rpc.NewClient(server.Address(), rpc.ClientConfig{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		conn.Close()
		cancel()
		served.Wait()
	})
	return conn
}

// readAll reads the whole chain and returns the bytes that came.
func readAll(ctx context.Context, conn *grpc.ClientConn, method string) (bytes int, err error) {
	codec := sizes{encoding.GetCodecV2(protocodec.Name)}
	st, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/protos.Deliver/"+method, grpc.ForceCodecV2(codec))
	if err != nil {
		return 0, err
	}
	seek := protoutil.Marshal(&orderer.SeekInfo{
		Start: &orderer.SeekPosition{Type: &orderer.SeekPosition_Oldest{Oldest: &orderer.SeekOldest{}}},
		Stop:  &orderer.SeekPosition{Type: &orderer.SeekPosition_Newest{Newest: &orderer.SeekNewest{}}},
	})
	header := protoutil.Marshal(&common.ChannelHeader{ChannelId: "mychannel", Timestamp: timestamppb.Now()})
	env := &common.Envelope{Payload: protoutil.Marshal(&common.Payload{Header: &common.Header{ChannelHeader: header}, Data: seek})}
	if err := st.SendMsg(env); err != nil {
		return 0, err
	}
	if err := st.CloseSend(); err != nil {
		return 0, err
	}
	for messages := 0; ; messages++ {
		var n int
		switch err := st.RecvMsg(&n); {
		case err == io.EOF && messages == deliverBlocks+1:
			return bytes, nil
		case err != nil:
			return bytes, fmt.Errorf("after %d answers: %w", messages, err)
		}
		bytes += n
	}
}

// BenchmarkDeliver reads a chain from the block files through the service over
// the loopback interface. The processor time is that of server and clients, which
// do not decode what they get.
func BenchmarkDeliver(b *testing.B) {
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard))
	l := storedChain(b)
	for _, kind := range []struct{ name, method string }{{"full", "Deliver"}, {"filtered", "DeliverFiltered"}} {
		for _, readers := range []int{1, 8} {
			b.Run(fmt.Sprintf("%s/readers=%d", kind.name, readers), func(b *testing.B) {
				conn := deliverServer(b, l)
				var mu sync.Mutex
				bytes := 0
				b.ReportAllocs()
				cpu := cpuTime(b)
				for b.Loop() {
					var all sync.WaitGroup
					for range readers {
						all.Go(func() {
							n, err := readAll(b.Context(), conn, kind.method)
							if err != nil {
								b.Error(err)
							}
							mu.Lock()
							defer mu.Unlock()
							bytes += n
						})
					}
					all.Wait()
				}
				cpu = cpuTime(b) - cpu
				blocks := float64(b.N * readers * deliverBlocks)
				b.ReportMetric(blocks/b.Elapsed().Seconds(), "blocks/s")
				b.ReportMetric(float64(bytes)/1e6/b.Elapsed().Seconds(), "MB/s")
				b.ReportMetric(float64(cpu.Nanoseconds())/1000/(blocks*deliverTxs), "cpu-µs/tx")
			})
		}
	}
}

func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
