package chaincodecmd

import (
	"context"
	"errors"
	"fmt"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/heddle-ledger/heddle/cmd/peer/cli"
	"github.com/heddle-ledger/heddle/internal/flog"
)

// waiter waits until every peer has committed a transaction (CHAINCODE §9.4).
type waiter struct {
	streams []eventStream
	txID    string
	log     *flog.Logger
	stop    context.CancelFunc
}

type eventStream struct {
	grpc.BidiStreamingClient[common.Envelope, peer.DeliverResponse]
	address string
}

// connectEvents asks every peer for filtered blocks from the newest one on.
func (g *group) connectEvents(ctx context.Context, f *factory, txID string) (*waiter, error) {
	ctx, cancel := context.WithCancel(ctx)
	w := &waiter{txID: txID, log: g.env.Logger("chaincodeCmd"), stop: cancel}
	for i, conn := range f.delivers {
		s, err := g.openEvents(ctx, conn)
		if err != nil {
			cancel()
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return nil, errors.New("timed out waiting for connection to deliver on all peers")
			}
			return nil, fmt.Errorf("failed to connect to deliver on all peers: %w", err)
		}
		// Without --peerAddresses the address is not shown.
		address := ""
		if i < len(g.peers) {
			address = g.peers[i]
		}
		w.streams = append(w.streams, eventStream{s, address})
	}
	return w, nil
}

func (g *group) openEvents(ctx context.Context, conn *cli.Conn) (grpc.BidiStreamingClient[common.Envelope, peer.DeliverResponse], error) {
	s, err := peer.NewDeliverClient(conn).DeliverFiltered(ctx)
	if err != nil {
		return nil, fmt.Errorf("error connecting to deliver filtered at %s: %w", conn.Address, err)
	}
	env, err := cli.SeekEnvelope(g.channel, cli.FromNewest(), conn.CertHash, g.env.Signer())
	if err != nil {
		return nil, err
	}
	if err := s.Send(env); err != nil {
		return nil, fmt.Errorf("error sending deliver seek info envelope to %s: %w", conn.Address, err)
	}
	return s, s.CloseSend()
}

func (w *waiter) wait(ctx context.Context) error {
	var group errgroup.Group
	for _, s := range w.streams {
		group.Go(func() error { return w.ClientWait(s) })
	}
	err := group.Wait()
	switch {
	case err == nil:
		return nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return errors.New("timed out waiting for txid on all peers")
	}
	return fmt.Errorf("failed to receive txid on all peers: %w", err)
}

// ClientWait reads the blocks of one peer until the transaction is among them.
// Its name is part of the log line.
func (w *waiter) ClientWait(s eventStream) error {
	for {
		resp, err := s.Recv()
		if err != nil {
			w.stop() // the others need not go on
			return fmt.Errorf("error receiving from deliver filtered at %s: %w", s.address, err)
		}
		switch r := resp.Type.(type) {
		case *peer.DeliverResponse_FilteredBlock:
			for _, tx := range r.FilteredBlock.GetFilteredTransactions() {
				if tx.Txid == w.txID {
					w.log.Infof("txid [%s] committed with status (%s) at %s", w.txID, tx.TxValidationCode, s.address)
					return nil
				}
			}
		case *peer.DeliverResponse_Status:
			w.stop()
			return fmt.Errorf("deliver completed with status (%s) before txid received", r.Status)
		default:
			w.stop()
			return fmt.Errorf("received unexpected response type (%T) from %s", r, s.address)
		}
	}
}
