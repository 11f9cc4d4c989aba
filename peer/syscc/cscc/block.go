package cscc

import (
	"errors"
	"fmt"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/protoutil"
)

// channelID is the channel that a config block belongs to, with the texts of the
// join.
func channelID(b *common.Block) (string, error) {
	if len(b.GetData().GetData()) == 0 {
		return "", errors.New("failed to retrieve channel id - block is empty")
	}
	return protoutil.ChannelIDOfBlock(b)
}

// validateConfigBlock checks that a block can start a channel on a peer: its
// config needs an Application group. Signatures are not looked at.
func validateConfigBlock(b *common.Block) error {
	tx := protoutil.ParseTx(b.GetData().GetData()[0])
	if _, err := tx.Envelope(); err != nil {
		return fmt.Errorf("Failed to %w", err)
	}
	env, err := configEnvelope(tx)
	if err != nil {
		return fmt.Errorf("Bad configuration envelope: %w", err)
	}
	switch {
	case env.Config == nil:
		return errors.New("Nil config envelope Config")
	case env.Config.ChannelGroup == nil:
		return errors.New("Nil channel group")
	case len(env.Config.ChannelGroup.Groups) == 0:
		return errors.New("No channel configuration groups are available")
	case env.Config.ChannelGroup.Groups["Application"] == nil:
		return errors.New("Invalid configuration block, missing Application configuration group")
	}
	return nil
}

func configEnvelope(tx *protoutil.Tx) (*common.ConfigEnvelope, error) {
	payload, err := tx.Payload()
	if err != nil {
		return nil, err
	}
	if payload.Header == nil {
		return nil, errors.New("envelope must have a Header")
	}
	ch, err := tx.ChannelHeader()
	if err != nil {
		return nil, err
	}
	if ch.Type != int32(common.HeaderType_CONFIG) {
		return nil, fmt.Errorf("invalid type %s, expected CONFIG", common.HeaderType(ch.Type))
	}
	env := &common.ConfigEnvelope{}
	if err := proto.Unmarshal(payload.Data, env); err != nil {
		return nil, fmt.Errorf("error unmarshaling message for type CONFIG: %w", err)
	}
	return env, nil
}
