package cli

import (
	"context"
	"fmt"
	"math"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/orderer"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/grpc"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/txbuild"
)

// Deliver is a stream of blocks of one channel, of an orderer or of a peer.
type Deliver struct {
	Channel    string
	Signer     txbuild.Signer
	CertHash   []byte
	BestEffort bool
	Log        *flog.Logger
	stream     deliverStream
	close      func()
}

// deliverStream hides that peers and orderers have different answers.
type deliverStream interface {
	Send(*common.Envelope) error
	next() (*common.Block, common.Status, error)
	CloseSend() error
}

type ordererStream struct {
	grpc.BidiStreamingClient[common.Envelope, orderer.DeliverResponse]
}

func (s ordererStream) next() (*common.Block, common.Status, error) {
	r, err := s.Recv()
	if err != nil {
		return nil, 0, err
	}
	return r.GetBlock(), r.GetStatus(), nil
}

type peerStream struct {
	grpc.BidiStreamingClient[common.Envelope, peer.DeliverResponse]
}

func (s peerStream) next() (*common.Block, common.Status, error) {
	r, err := s.Recv()
	if err != nil {
		return nil, 0, err
	}
	return r.GetBlock(), r.GetStatus(), nil
}

// OpenOrderer opens the stream at an orderer.
func (d *Deliver) OpenOrderer(ctx context.Context, conn *Conn) error {
	ctx, cancel := context.WithCancel(ctx)
	d.CertHash, d.close = conn.CertHash, cancel
	if s, err := orderer.NewAtomicBroadcastClient(conn).Deliver(ctx); err == nil {
		d.stream = ordererStream{s}
	} else {
		d.stream = lostStream{err}
	}
	return nil
}

// lostStream is a stream that could not be opened. As in the reference, who
// opens it learns of it at the first use; `peer channel create` makes another
// call before.
type lostStream struct{ err error }

func (s lostStream) Send(*common.Envelope) error                 { return s.err }
func (s lostStream) next() (*common.Block, common.Status, error) { return nil, 0, s.err }
func (s lostStream) CloseSend() error                            { return nil }

// OpenPeer opens the stream at a peer.
func (d *Deliver) OpenPeer(ctx context.Context, conn *Conn) error {
	ctx, cancel := context.WithCancel(ctx)
	s, err := peer.NewDeliverClient(conn).Deliver(ctx)
	if err != nil {
		cancel()
		return fmt.Errorf("failed to create deliver client: %w", err)
	}
	d.stream, d.CertHash, d.close = peerStream{s}, conn.CertHash, cancel
	return nil
}

// Close ends the stream.
func (d *Deliver) Close() {
	if d.close != nil {
		_ = d.stream.CloseSend() // the stream is cut next
		d.close()
	}
}

// Positions in a channel.
func newest() *orderer.SeekPosition {
	return &orderer.SeekPosition{Type: &orderer.SeekPosition_Newest{Newest: &orderer.SeekNewest{}}}
}

func oldest() *orderer.SeekPosition {
	return &orderer.SeekPosition{Type: &orderer.SeekPosition_Oldest{Oldest: &orderer.SeekOldest{}}}
}

func specified(n uint64) *orderer.SeekPosition {
	return &orderer.SeekPosition{Type: &orderer.SeekPosition_Specified{Specified: &orderer.SeekSpecified{Number: n}}}
}

// Newest, Oldest and Block fetch one block.
func (d *Deliver) Newest() (*common.Block, error) { return d.seek(newest()) }

// Oldest fetches the first block.
func (d *Deliver) Oldest() (*common.Block, error) { return d.seek(oldest()) }

// Block fetches a block by its number.
func (d *Deliver) Block(n uint64) (*common.Block, error) { return d.seek(specified(n)) }

func (d *Deliver) seek(pos *orderer.SeekPosition) (*common.Block, error) {
	info := &orderer.SeekInfo{Start: pos, Stop: pos, Behavior: orderer.SeekInfo_BLOCK_UNTIL_READY}
	if d.BestEffort {
		info.ErrorResponse = orderer.SeekInfo_BEST_EFFORT
	}
	env, err := SeekEnvelope(d.Channel, info, d.CertHash, d.Signer)
	if err != nil {
		return nil, err
	}
	if err := d.stream.Send(env); err != nil {
		return nil, fmt.Errorf("error sending deliver seek info: %w", err)
	}
	return d.readBlock()
}

// readBlock reads the answer to one seek. Its name is part of the log lines.
func (d *Deliver) readBlock() (*common.Block, error) {
	block, status, err := d.stream.next()
	if err != nil {
		return nil, fmt.Errorf("error receiving: %w", err)
	}
	if block == nil {
		d.Log.Infof("Got status: &{%s}", status)
		return nil, fmt.Errorf("can't read the block: &{%s}", status)
	}
	d.Log.Infof("Received block: %v", block.GetHeader().GetNumber())
	if _, _, err := d.stream.next(); err != nil { // the status after the block
		return nil, fmt.Errorf("error receiving: %w", err)
	}
	return block, nil
}

// SeekEnvelope is a signed request to Deliver.
func SeekEnvelope(channel string, info *orderer.SeekInfo, certHash []byte, s txbuild.Signer) (*common.Envelope, error) {
	return txbuild.SignedEnvelope(txbuild.EnvelopeSpec{
		Type: int32(common.HeaderType_DELIVER_SEEK_INFO), ChannelID: channel,
		Data: protoutil.Marshal(info), TLSCertHash: certHash,
	}, s)
}

// FromNewest is a request for the newest block and all that follow.
func FromNewest() *orderer.SeekInfo {
	return &orderer.SeekInfo{Start: newest(), Stop: specified(math.MaxUint64), Behavior: orderer.SeekInfo_BLOCK_UNTIL_READY}
}
