package testnet

import (
	"context"
	"io"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/grpc/grpclog"
)

func TestMain(m *testing.M) {
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard))
	os.Exit(m.Run())
}

// joined starts an orderer and peers, and lets all of them join a channel.
func joined(ctx context.Context, t *testing.T, o Options) (*Net, *Node, []*Client) {
	n := New(t, o)
	orderer := n.StartOrderer()
	var clients []*Client
	for i := range n.Orgs {
		n.StartPeer(i)
		clients = append(clients, n.Client(i))
	}
	genesis := n.CreateChannel(ctx, clients[0], "ch")
	for i, c := range clients {
		n.Join(ctx, c, i, genesis)
	}
	return n, orderer, clients
}

// bubble runs a test in virtual time. Clean-up is part of it.
func bubble(t *testing.T, test func(t *testing.T, ctx context.Context)) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		t.Cleanup(cancel)
		test(t, ctx)
	})
}

// query is a transaction of a system chaincode, which every peer accepts.
func query(ctx context.Context, t *testing.T, c *Client) string {
	t.Helper()
	id, err := c.Invoke(ctx, []int{0}, "ch", "qscc", Args("GetChainInfo", "ch")...)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// TestBlockTimes shows when transactions come back: a lone one after the batch
// timeout, a full block at once.
func TestBlockTimes(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context) {
		_, _, clients := joined(ctx, t, Options{Peers: 2, BatchTimeout: time.Minute, BatchCount: 3})
		var events []<-chan Event
		for i, c := range clients {
			e, err := c.Events(ctx, i, "ch", 1)
			if err != nil {
				t.Fatal(err)
			}
			events = append(events, e)
		}
		for _, tc := range []struct {
			count int
			after time.Duration
		}{{1, time.Minute}, {3, 0}, {2, time.Minute}} {
			start := time.Now()
			var ids []string
			for range tc.count {
				ids = append(ids, query(ctx, t, clients[0]))
			}
			for peerNumber, e := range events {
				for _, id := range ids {
					got := <-e
					if got.TxID != id || got.Code != peer.TxValidationCode_VALID || got.At.Sub(start) != tc.after {
						t.Errorf("%d transactions: peer %d tells of %+v after %s, want %s after %s", tc.count, peerNumber, got, got.At.Sub(start), id, tc.after)
					}
				}
			}
		}
	})
}

// TestOrdererComesBack takes the orderer away for ten hours. The peer keeps
// trying, ever more rarely, and catches up when the orderer is there again.
func TestOrdererComesBack(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context) {
		n, orderer, clients := joined(ctx, t, Options{})
		c := clients[0]
		events, err := c.Events(ctx, 0, "ch", 1)
		if err != nil {
			t.Fatal(err)
		}
		first := query(ctx, t, c)
		if e := <-events; e.TxID != first || e.Block != 1 {
			t.Fatalf("%+v, want %s", e, first)
		}
		orderer.Stop()
		before := len(n.Fabric.Dials(OrdererAddress))
		time.Sleep(10 * time.Hour)
		tried := n.Fabric.Dials(OrdererAddress)[before:]
		t.Logf("%d attempts in ten hours", len(tried))
		if len(tried) < 20 || len(tried) > 100 {
			t.Errorf("%d attempts in ten hours", len(tried))
		}
		early, late := tried[len(tried)/4].At.Sub(tried[0].At), tried[len(tried)-1].At.Sub(tried[len(tried)*3/4].At)
		if early > 2*time.Minute || late < time.Hour {
			t.Errorf("the first quarter of attempts took %s, the last %s", early, late)
		}
		for _, d := range tried {
			if !d.Refused {
				t.Errorf("attempt at %s was not refused", d.At)
			}
		}
		orderer = n.StartOrderer()
		start := time.Now()
		second := query(ctx, t, c)
		e := <-events
		t.Logf("caught up after %s", e.At.Sub(start))
		if e.TxID != second || e.Block != 2 || e.At.Sub(start) > time.Hour+time.Minute {
			t.Errorf("%+v after %s, want %s", e, e.At.Sub(start), second)
		}
		orderer.Stop()
	})
}

// TestPeerCatchesUp joins a peer to a channel that has blocks already, and
// restarts it behind the others.
func TestPeerCatchesUp(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context) {
		n := New(t, Options{Peers: 2, BatchCount: 1})
		n.StartOrderer()
		n.StartPeer(0)
		late := n.StartPeer(1)
		a, b := n.Client(0), n.Client(1)
		genesis := n.CreateChannel(ctx, a, "ch")
		n.Join(ctx, a, 0, genesis)
		for range 5 {
			query(ctx, t, a)
		}
		n.Join(ctx, b, 1, genesis)
		time.Sleep(time.Second)
		late.Stop()
		for range 5 {
			query(ctx, t, a)
		}
		n.StartPeer(1)
		time.Sleep(time.Minute)
		for i, c := range []*Client{a, b} {
			if blocks, err := c.Blocks(ctx, i, "ch"); err != nil || len(blocks) != 11 {
				t.Errorf("peer %d: %d blocks, %v", i, len(blocks), err)
			}
		}
	})
}
