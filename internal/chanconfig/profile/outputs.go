package profile

import (
	"errors"
	"fmt"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/heddle-ledger/heddle/internal/chanconfig"
	"github.com/heddle-ledger/heddle/internal/protoutil"
)

// GenesisBlock makes block 0 of a channel with this /Channel group
// (IDENTITY-CONFIG §8.2).
func GenesisBlock(channelID string, group *common.ConfigGroup, now time.Time) (*common.Block, error) {
	nonce, err := protoutil.Nonce()
	if err != nil {
		return nil, err
	}
	header := &common.Header{
		ChannelHeader: protoutil.Marshal(&common.ChannelHeader{
			Type:      int32(common.HeaderType_CONFIG),
			Version:   1,
			Timestamp: wholeSeconds(now),
			ChannelId: channelID,
			TxId:      protoutil.TxID(nonce, nil),
		}),
		SignatureHeader: protoutil.Marshal(&common.SignatureHeader{Nonce: nonce}),
	}
	config := &common.ConfigEnvelope{Config: &common.Config{ChannelGroup: group}}
	payload := &common.Payload{Header: header, Data: protoutil.Marshal(config)}
	block := protoutil.NewBlock(0, nil)
	block.Data = &common.BlockData{Data: [][]byte{protoutil.Marshal(&common.Envelope{Payload: protoutil.Marshal(payload)})}}
	block.Header.DataHash = protoutil.DataHash(block.Data.Data)
	return block, nil
}

func wholeSeconds(t time.Time) *timestamppb.Timestamp {
	return &timestamppb.Timestamp{Seconds: t.Unix()}
}

// CreationTx makes the unsigned request for a new channel (IDENTITY-CONFIG
// §8.2). base is the profile of the system channel, or nil.
func (e Encoder) CreationTx(channelID string, p, base *Profile, now time.Time) (*common.Envelope, error) {
	update, err := e.CreationUpdate(channelID, p, base)
	if err != nil {
		return nil, err
	}
	header := &common.ChannelHeader{
		Type:      int32(common.HeaderType_CONFIG_UPDATE),
		Timestamp: wholeSeconds(now),
		ChannelId: channelID,
	}
	return updateEnvelope(header, update), nil
}

// CreationUpdate makes the update that asks for a new channel: the difference
// between a template, as the orderer will make it, and the profile.
func (e Encoder) CreationUpdate(channelID string, p, base *Profile) (*common.ConfigUpdate, error) {
	template, err := e.template(p, base)
	if err != nil {
		return nil, err
	}
	if p.Consortium == "" {
		return nil, errors.New("config update generation failure: cannot define a new channel with no Consortium value")
	}
	group, err := e.ChannelGroup(p)
	if err != nil {
		return nil, fmt.Errorf("config update generation failure: could not turn parse profile into channel group: %w", err)
	}
	update, err := chanconfig.ComputeUpdate(&common.Config{ChannelGroup: template}, &common.Config{ChannelGroup: group})
	if err != nil {
		return nil, fmt.Errorf("config update generation failure: could not compute update: %w", err)
	}
	update.ChannelId = channelID
	update.ReadSet.Values[chanconfig.ConsortiumKey] = &common.ConfigValue{}
	update.WriteSet.Values[chanconfig.ConsortiumKey] = &common.ConfigValue{
		Value: protoutil.Marshal(&common.Consortium{Name: p.Consortium}),
	}
	return update, nil
}

func (e Encoder) template(p, base *Profile) (*common.ConfigGroup, error) {
	if base != nil {
		system, err := e.ChannelGroup(base)
		if err != nil {
			return nil, fmt.Errorf("could not create config template: error parsing base profile: %w", err)
		}
		template, err := templateOfSystem(p, system)
		if err != nil {
			return nil, fmt.Errorf("could not create config template: %w", err)
		}
		return template, nil
	}
	template, err := e.ChannelGroup(p)
	if err != nil {
		return nil, fmt.Errorf("could not generate default config template: error parsing configuration: %w", err)
	}
	application, ok := template.Groups[chanconfig.ApplicationGroupKey]
	if !ok {
		return nil, errors.New("could not generate default config template: channel template configs must contain an application section")
	}
	application.Values, application.Policies = nil, nil
	return template, nil
}

// templateOfSystem turns the configuration of a system channel into what its
// orderer would take as a template.
func templateOfSystem(p *Profile, system *common.ConfigGroup) (*common.ConfigGroup, error) {
	template := proto.CloneOf(system)
	consortiums, ok := template.Groups[chanconfig.ConsortiumsGroupKey]
	if !ok {
		return nil, errors.New("supplied system channel group does not appear to be system channel (missing consortiums group)")
	}
	consortium, ok := consortiums.Groups[p.Consortium]
	if !ok {
		return nil, fmt.Errorf("supplied system channel group is missing '%s' consortium", p.Consortium)
	}
	if p.Application == nil {
		return nil, errors.New("supplied channel creation profile does not contain an application section")
	}
	application := &common.ConfigGroup{
		Groups:   make(map[string]*common.ConfigGroup),
		Policies: map[string]*common.ConfigPolicy{chanconfig.ChannelCreationPolicyKey: {}},
	}
	for _, org := range p.Application.Organizations {
		if org == nil {
			return nil, errors.New(noOrg)
		}
		if application.Groups[org.Name], ok = consortium.Groups[org.Name]; !ok {
			return nil, fmt.Errorf("consortium %s does not contain member org %s", p.Consortium, org.Name)
		}
	}
	template.Groups[chanconfig.ApplicationGroupKey] = application
	delete(template.Groups, chanconfig.ConsortiumsGroupKey)
	addValue(template, chanconfig.ConsortiumKey, &common.Consortium{Name: p.Consortium}, admins)
	return template, nil
}

// AnchorPeersTx makes the unsigned update that sets the anchor peers of one
// organization of a channel as it is right after creation (IDENTITY-CONFIG
// §8.2).
func AnchorPeersTx(channelID string, p *Profile, orgName string) (*common.Envelope, error) {
	if orgName == "" {
		return nil, errors.New("Must specify an organization to update the anchor peer for")
	}
	if p.Application == nil {
		return nil, errors.New("Cannot update anchor peers without an application section")
	}
	var org *Organization
	for _, o := range p.Application.Organizations {
		if o != nil && o.Name == orgName {
			org = o
		}
	}
	if org == nil {
		return nil, fmt.Errorf("No organization name matching: %s", orgName)
	}
	// Elements that are named without content stay as they are.
	orgGroup := func() *common.ConfigGroup {
		return &common.ConfigGroup{
			Values: map[string]*common.ConfigValue{chanconfig.MSPKey: {}},
			Policies: map[string]*common.ConfigPolicy{
				chanconfig.ReadersPolicyKey: {}, chanconfig.WritersPolicyKey: {}, chanconfig.AdminsPolicyKey: {},
			},
		}
	}
	root := func(org *common.ConfigGroup) *common.ConfigGroup {
		application := &common.ConfigGroup{Version: 1, ModPolicy: admins, Groups: map[string]*common.ConfigGroup{orgName: org}}
		return &common.ConfigGroup{Groups: map[string]*common.ConfigGroup{chanconfig.ApplicationGroupKey: application}}
	}
	written := orgGroup()
	written.Version, written.ModPolicy = 1, admins
	addValue(written, chanconfig.AnchorPeersKey, anchorPeers(org), admins)
	update := &common.ConfigUpdate{ChannelId: channelID, ReadSet: root(orgGroup()), WriteSet: root(written)}
	header := &common.ChannelHeader{Type: int32(common.HeaderType_CONFIG_UPDATE), ChannelId: channelID}
	return updateEnvelope(header, update), nil
}

// updateEnvelope wraps an update; nothing is signed.
func updateEnvelope(header *common.ChannelHeader, update *common.ConfigUpdate) *common.Envelope {
	return &common.Envelope{Payload: protoutil.Marshal(&common.Payload{
		Header: &common.Header{ChannelHeader: protoutil.Marshal(header)},
		Data:   protoutil.Marshal(&common.ConfigUpdateEnvelope{ConfigUpdate: protoutil.Marshal(update)}),
	})}
}
