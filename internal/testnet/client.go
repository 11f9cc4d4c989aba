package testnet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/orderer"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/grpc"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/txbuild"
)

// Client talks gRPC to nodes, as an SDK does. It works with any network, also
// with one of processes.
type Client struct {
	Signer  txbuild.Signer
	Peers   []*grpc.ClientConn
	Orderer *grpc.ClientConn
}

// As is the same client with another identity.
func (c *Client) As(s txbuild.Signer) *Client {
	other := *c
	other.Signer = s
	return &other
}

// Proposal makes an unsigned proposal.
func (c *Client) Proposal(channel, chaincode string, args ...[]byte) (*txbuild.Proposal, error) {
	return txbuild.NewProposal(txbuild.ProposalSpec{
		Type: common.HeaderType_ENDORSER_TRANSACTION, ChannelID: channel,
		Spec: &peer.ChaincodeSpec{
			Type: peer.ChaincodeSpec_GOLANG, ChaincodeId: &peer.ChaincodeID{Name: chaincode}, Input: &peer.ChaincodeInput{Args: args},
		},
	}, c.Signer.Serialize())
}

// Args are arguments as bytes.
func Args(args ...string) [][]byte {
	out := make([][]byte, 0, len(args))
	for _, a := range args {
		out = append(out, []byte(a))
	}
	return out
}

// Endorse asks peers to endorse a proposal.
func (c *Client) Endorse(ctx context.Context, p *txbuild.Proposal, peers ...int) ([]*peer.ProposalResponse, error) {
	signed, err := txbuild.SignProposal(p.Proposal, c.Signer)
	if err != nil {
		return nil, err
	}
	var out []*peer.ProposalResponse
	for _, i := range peers {
		r, err := peer.NewEndorserClient(c.Peers[i]).ProcessProposal(ctx, signed)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// Call makes a proposal to one peer and returns the payload of its answer.
func (c *Client) Call(ctx context.Context, i int, channel, chaincode string, args ...[]byte) ([]byte, error) {
	p, err := c.Proposal(channel, chaincode, args...)
	if err != nil {
		return nil, err
	}
	rs, err := c.Endorse(ctx, p, i)
	if err != nil {
		return nil, err
	}
	if r := rs[0].Response; r.Status != 200 {
		return nil, fmt.Errorf("status %d: %s", r.Status, r.Message)
	}
	return rs[0].Response.Payload, nil
}

// Broadcast sends an envelope and returns the orderer's answer.
func (c *Client) Broadcast(ctx context.Context, env *common.Envelope) (*orderer.BroadcastResponse, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := orderer.NewAtomicBroadcastClient(c.Orderer).Broadcast(ctx)
	if err != nil {
		return nil, err
	}
	if err := stream.Send(env); err != nil {
		return nil, err
	}
	return stream.Recv()
}

// Submit is Broadcast, where anything but success is an error.
func (c *Client) Submit(ctx context.Context, env *common.Envelope) error {
	r, err := c.Broadcast(ctx, env)
	if err == nil && r.Status != common.Status_SUCCESS {
		err = errors.New(r.Status.String() + ": " + r.Info)
	}
	return err
}

// Invoke endorses, assembles and orders a transaction; it returns its id once
// the orderer has accepted it.
func (c *Client) Invoke(ctx context.Context, peers []int, channel, chaincode string, args ...[]byte) (string, error) {
	p, err := c.Proposal(channel, chaincode, args...)
	if err != nil {
		return "", err
	}
	responses, err := c.Endorse(ctx, p, peers...)
	if err != nil {
		return "", err
	}
	env, err := txbuild.Transaction(p.Proposal, c.Signer, responses...)
	if err != nil {
		return "", err
	}
	return p.TxID, c.Submit(ctx, env)
}

// From is the position of a block.
func From(n uint64) *orderer.SeekPosition {
	return &orderer.SeekPosition{Type: &orderer.SeekPosition_Specified{Specified: &orderer.SeekSpecified{Number: n}}}
}

// Forever asks for the blocks from a number on, also those to come.
func Forever(from uint64) *orderer.SeekInfo {
	return &orderer.SeekInfo{Start: From(from), Stop: From(1<<63 - 1), Behavior: orderer.SeekInfo_BLOCK_UNTIL_READY}
}

// Seek is a signed request to a Deliver service, made at some time; the zero
// time is now.
func (c *Client) Seek(channel string, info *orderer.SeekInfo, at time.Time) (*common.Envelope, error) {
	return txbuild.SignedEnvelope(txbuild.EnvelopeSpec{
		Type: int32(common.HeaderType_DELIVER_SEEK_INFO), ChannelID: channel, Data: protoutil.Marshal(info), Timestamp: at,
	}, c.Signer)
}

// Blocks fetches the blocks of a channel from a peer, from 0 to its newest.
func (c *Client) Blocks(ctx context.Context, i int, channel string) ([]*common.Block, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := peer.NewDeliverClient(c.Peers[i]).Deliver(ctx)
	if err != nil {
		return nil, err
	}
	newest := &orderer.SeekPosition{Type: &orderer.SeekPosition_Newest{Newest: &orderer.SeekNewest{}}}
	env, err := c.Seek(channel, &orderer.SeekInfo{Start: From(0), Stop: newest}, time.Time{})
	if err != nil {
		return nil, err
	}
	if err := stream.Send(env); err != nil {
		return nil, err
	}
	var out []*common.Block
	for {
		r, err := stream.Recv()
		switch {
		case err != nil:
			return nil, err
		case r.GetBlock() != nil:
			out = append(out, r.GetBlock())
		case r.GetStatus() == common.Status_SUCCESS:
			return out, nil
		default:
			return nil, errors.New(r.GetStatus().String())
		}
	}
}

// Block fetches one block from the orderer.
func (c *Client) Block(ctx context.Context, channel string, number uint64) (*common.Block, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := orderer.NewAtomicBroadcastClient(c.Orderer).Deliver(ctx)
	if err != nil {
		return nil, err
	}
	env, err := c.Seek(channel, &orderer.SeekInfo{Start: From(number), Stop: From(number)}, time.Time{})
	if err != nil {
		return nil, err
	}
	if err := stream.Send(env); err != nil {
		return nil, err
	}
	r, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	if r.GetBlock() == nil {
		return nil, errors.New(r.GetStatus().String())
	}
	return r.GetBlock(), nil
}

// Event is what a peer tells of a transaction.
type Event struct {
	Block uint64
	TxID  string
	Code  peer.TxValidationCode
	At    time.Time
}

// Events follows the filtered blocks of a peer until ctx ends; then the channel
// is closed. Config transactions have no id.
func (c *Client) Events(ctx context.Context, i int, channel string, from uint64) (<-chan Event, error) {
	stream, err := peer.NewDeliverClient(c.Peers[i]).DeliverFiltered(ctx)
	if err != nil {
		return nil, err
	}
	env, err := c.Seek(channel, Forever(from), time.Time{})
	if err != nil {
		return nil, err
	}
	if err := stream.Send(env); err != nil {
		return nil, err
	}
	out := make(chan Event)
	go func() {
		defer close(out)
		for {
			r, err := stream.Recv()
			if err != nil {
				return
			}
			b := r.GetFilteredBlock()
			for _, tx := range b.GetFilteredTransactions() {
				select {
				case out <- Event{Block: b.Number, TxID: tx.Txid, Code: tx.TxValidationCode, At: time.Now()}:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return out, nil
}
