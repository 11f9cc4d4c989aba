package msgproc

import (
	"errors"
	"fmt"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/heddle-ledger/heddle/internal/chanconfig"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/orderer/consensus"
)

// createChannel turns the request for a new channel into the message that the
// system channel orders (ORDERER §5.4). The outer signature of the request does
// not matter.
func (p *Processor) createChannel(system *chanconfig.Bundle, request *common.Envelope) (*consensus.Message, uint64, error) {
	template, err := chanconfig.NewChannelTemplate(system, request)
	if err != nil {
		return nil, 0, err
	}
	config, err := template.ProposeUpdate(request)
	if err != nil {
		return nil, 0, fmt.Errorf("error validating channel creation transaction for new channel '%s', could not succesfully apply update to template configuration: %w", template.ChannelID(), err)
	}
	inner, err := p.wrap(common.HeaderType_CONFIG, template.ChannelID(), config)
	if err != nil {
		return nil, 0, err
	}
	outer, err := p.wrap(common.HeaderType_ORDERER_TRANSACTION, system.ChannelID(), inner.Envelope())
	if err != nil {
		return nil, 0, err
	}
	if err := p.filter(system, outer); err != nil {
		return nil, 0, err
	}
	return outer, system.Sequence(), nil
}

// wrap makes an envelope of the orderer's own.
func (p *Processor) wrap(t common.HeaderType, channelID string, data proto.Message) (*consensus.Message, error) {
	nonce, err := protoutil.Nonce()
	if err != nil {
		return nil, err
	}
	payload := protoutil.Marshal(&common.Payload{
		Header: &common.Header{
			ChannelHeader: protoutil.Marshal(&common.ChannelHeader{
				Type: int32(t), ChannelId: channelID, Timestamp: &timestamppb.Timestamp{Seconds: time.Now().Unix()},
			}),
			SignatureHeader: protoutil.Marshal(&common.SignatureHeader{Creator: p.signer.Serialize(), Nonce: nonce}),
		},
		Data: protoutil.Marshal(data),
	})
	signature, err := p.signer.Sign(payload)
	if err != nil {
		return nil, fmt.Errorf("sign %s message: %w", t, err)
	}
	return consensus.NewMessage(&common.Envelope{Payload: payload, Signature: signature})
}

// filterCreation is filter 5 of ORDERER §5.2: it passes everything but
// ORDERER_TRANSACTIONs, and those only if the config inside is what the request
// makes of the system channel's config.
func (p *Processor) filterCreation(system *chanconfig.Bundle, m *consensus.Message) error {
	if m.Type() != common.HeaderType_ORDERER_TRANSACTION {
		return nil
	}
	orderer, ok := system.Orderer()
	if !ok {
		return errors.New("system channel does not have orderer config")
	}
	if limit := orderer.MaxChannelsCount; limit > 0 && uint64(p.channels()) > limit {
		return fmt.Errorf("channel creation would exceed maximimum number of channels: %d", limit)
	}
	if orderer.InMaintenance() {
		return fmt.Errorf("channel creation is not permitted: %w", ErrMaintenanceMode)
	}
	config, err := unwrapCreation(m)
	if err != nil {
		return err
	}
	return authorizeCreation(system, config)
}

// unwrapCreation takes the config of the new channel out of an
// ORDERER_TRANSACTION.
func unwrapCreation(m *consensus.Message) (*common.ConfigEnvelope, error) {
	env := &common.Envelope{}
	if err := proto.Unmarshal(m.Payload().Data, env); err != nil {
		return nil, fmt.Errorf("payload data error unmarshaling to envelope: %w", err)
	}
	payload := &common.Payload{}
	if err := proto.Unmarshal(env.Payload, payload); err != nil {
		return nil, fmt.Errorf("error unmarshaling wrapped configtx envelope payload: %w", err)
	}
	if payload.Header == nil {
		return nil, errors.New("wrapped configtx envelope missing header")
	}
	header := &common.ChannelHeader{}
	if err := proto.Unmarshal(payload.Header.ChannelHeader, header); err != nil {
		return nil, fmt.Errorf("error unmarshaling wrapped configtx envelope channel header: %w", err)
	}
	if header.Type != int32(common.HeaderType_CONFIG) {
		return nil, errors.New("wrapped configtx envelope not a config transaction")
	}
	config := &common.ConfigEnvelope{}
	if err := proto.Unmarshal(payload.Data, config); err != nil {
		return nil, fmt.Errorf("error unmarshalling wrapped configtx config envelope from payload: %w", err)
	}
	if config.LastUpdate == nil {
		return nil, errors.New("updated config does not include a config update")
	}
	return config, nil
}

// authorizeCreation derives the config of the new channel once more.
func authorizeCreation(system *chanconfig.Bundle, config *common.ConfigEnvelope) error {
	template, err := chanconfig.NewChannelTemplate(system, config.LastUpdate)
	if err != nil {
		return fmt.Errorf("error constructing new channel config from update: %w", err)
	}
	proposed, err := template.ProposeUpdate(config.LastUpdate)
	if err != nil {
		return fmt.Errorf("error proposing channel update to new channel config: %w", err)
	}
	if !proto.Equal(proposed, config) {
		return errors.New("config proposed by the channel creation request did not match the config received with the channel creation request")
	}
	next, err := chanconfig.NewBundle(template.ChannelID(), config.Config, chanconfig.Options{})
	if err != nil {
		return fmt.Errorf("config does not validly parse: %w", err)
	}
	if err := template.ValidateNew(next); err != nil {
		return fmt.Errorf("new bundle invalid: %w", err)
	}
	if _, ok := next.Orderer(); !ok {
		return errors.New("config is missing orderer group")
	}
	if err := next.CheckOrderer(); err != nil {
		return fmt.Errorf("config update is not compatible: %w", err)
	}
	return nil
}
