package testnet

import (
	"context"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/chanconfig/profile"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/txbuild"
)

// CreateChannel creates a channel of all organisations and returns its block 0.
func (n *Net) CreateChannel(ctx context.Context, c *Client, id string) *common.Block {
	n.t.Helper()
	update, err := profile.Encoder{}.CreationUpdate(id, n.ChannelProfile(), nil)
	n.check(err)
	env, err := SignedUpdate(id, protoutil.Marshal(update), c.Signer)
	n.check(err)
	n.check(c.Submit(ctx, env))
	for range 100 {
		if b, err := c.Block(ctx, id, 0); err == nil {
			return b
		}
		time.Sleep(50 * time.Millisecond)
	}
	n.t.Fatalf("channel %s does not appear", id)
	return nil
}

// SignedUpdate is a config update with the signature of one administrator.
func SignedUpdate(channel string, update []byte, s txbuild.Signer) (*common.Envelope, error) {
	nonce, err := protoutil.Nonce()
	if err != nil {
		return nil, err
	}
	header := protoutil.Marshal(&common.SignatureHeader{Creator: s.Serialize(), Nonce: nonce})
	sig, err := s.Sign(append(append([]byte{}, header...), update...))
	if err != nil {
		return nil, err
	}
	return txbuild.SignedEnvelope(txbuild.EnvelopeSpec{
		Type: int32(common.HeaderType_CONFIG_UPDATE), ChannelID: channel,
		Data: protoutil.Marshal(&common.ConfigUpdateEnvelope{
			ConfigUpdate: update, Signatures: []*common.ConfigSignature{{SignatureHeader: header, Signature: sig}},
		}),
	}, s)
}

// Join lets a peer of the client's organisation join a channel.
func (n *Net) Join(ctx context.Context, c *Client, i int, genesis *common.Block) {
	n.t.Helper()
	raw, err := proto.Marshal(genesis)
	n.check(err)
	_, err = c.Call(ctx, i, "", "cscc", []byte("JoinChain"), raw)
	n.check(err)
}
