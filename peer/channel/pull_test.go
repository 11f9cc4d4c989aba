package channel

import (
	"context"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/orderer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/blockpull"
	"github.com/heddle-ledger/heddle/internal/rpc"
)

// chainServer serves a chain by Deliver; in the first request it tampers with
// one block.
type chainServer struct {
	orderer.UnimplementedAtomicBroadcastServer
	chain []*common.Block
	bad   uint64

	mu     sync.Mutex // guards starts
	starts []uint64
}

func (s *chainServer) Deliver(stream orderer.AtomicBroadcast_DeliverServer) error {
	env, err := stream.Recv()
	if err != nil {
		return err
	}
	payload, seek := &common.Payload{}, &orderer.SeekInfo{}
	if err := proto.Unmarshal(env.Payload, payload); err != nil {
		return err
	}
	if err := proto.Unmarshal(payload.Data, seek); err != nil {
		return err
	}
	start := seek.Start.GetSpecified().GetNumber()
	s.mu.Lock()
	first := len(s.starts) == 0
	s.starts = append(s.starts, start)
	s.mu.Unlock()
	for _, b := range s.chain[start:] {
		if first && b.Header.Number == s.bad {
			b = proto.CloneOf(b)
			b.Data.Data[0] = append(slices.Clone(b.Data.Data[0]), 0)
		}
		if err := stream.Send(&orderer.DeliverResponse{Type: &orderer.DeliverResponse_Block{Block: b}}); err != nil {
			return err
		}
	}
	<-stream.Context().Done()
	return nil
}

// TestPulledChannel lets a peer catch up from an orderer that at first sends a
// bad block.
func TestPulledChannel(t *testing.T) {
	g := newGenerator(t, 9)
	g.hashed = true
	const length = 30
	for len(g.chain) < length {
		g.block()
	}
	synctest.Test(t, func(t *testing.T) {
		lis, server := bufconn.Listen(1<<16), grpc.NewServer()
		chain := &chainServer{chain: g.chain, bad: 11}
		orderer.RegisterAtomicBroadcastServer(server, chain)
		go server.Serve(lis)
		dial := blockpull.Dialer(rpc.ClientConfig{Dialer: func(ctx context.Context, _ string) (net.Conn, error) {
			return lis.DialContext(ctx)
		}})
		dir := newPeerDir(t)
		r := dir.startPulling(0, &blockpull.Config{Signer: g.net.Peer1, Dial: dial})
		must(t, r.Join(g.chain[0]))
		r.waitFor(r.channel("ch"), length)
		must(t, r.stop())
		if d := cmp.Diff([]uint64{1, 11}, chain.starts); d != "" {
			t.Error(d)
		}
		// A restart goes on where the ledger ends.
		r = dir.startPulling(0, &blockpull.Config{Signer: g.net.Peer1, Dial: dial})
		synctest.Wait()
		must(t, r.stop())
		chain.mu.Lock()
		if d := cmp.Diff([]uint64{1, 11, length}, chain.starts); d != "" {
			t.Error(d)
		}
		chain.mu.Unlock()
		server.Stop()
		time.Sleep(3 * time.Second) // goleveldb's last goroutine
	})
}
