package chanconfig

import (
	"errors"
	"fmt"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/policy"
	"github.com/heddle-ledger/heddle/msp"
)

// Options are what a Bundle needs besides the configuration itself.
type Options struct {
	// Log is the root logger of the node. Loggers below it, with the reference's
	// names common.channelconfig, msp and policies, receive warnings about unusual
	// configurations and, at DEBUG, why policies were not satisfied; nil drops them.
	Log *flog.Logger
	// MSPManager are options for the caches of the channel's MSPs.
	MSPManager []msp.CacheOption
}

// Bundle is one configuration of one channel. It is immutable: neither the
// Bundle nor anything that its methods return may be changed.
type Bundle struct {
	channelID string
	config    *common.Config
	opts      Options

	channel     *ChannelGroup
	orderer     *OrdererGroup
	application *ApplicationGroup
	consortiums *ConsortiumsGroup

	policies *policy.Manager
	msps     *msp.Manager

	elements configMap // the config tree, flattened (IDENTITY-CONFIG §6.2)
}

// NewBundle checks a configuration by the rules of IDENTITY-CONFIG §5.1 and
// makes a Bundle of it. The Bundle keeps cfg, which must not be changed any
// more. Whether the capabilities are supported is not checked here: see
// CheckPeer and CheckOrderer.
func NewBundle(channelID string, cfg *common.Config, opts Options) (*Bundle, error) {
	if opts.Log == nil {
		opts.Log = flog.Nop()
	}
	if err := preValidate(cfg); err != nil {
		return nil, err
	}
	b := &Bundle{channelID: channelID, config: cfg, opts: opts}
	if err := b.loadGroups(); err != nil {
		return nil, fmt.Errorf("initializing channelconfig failed: %w", err)
	}
	var err error
	b.policies, err = policy.NewManager(ChannelGroupKey, cfg.ChannelGroup, b.msps, opts.Log.Named("policies"))
	if err != nil {
		return nil, fmt.Errorf("initializing policymanager failed: %w", err)
	}
	if err := ValidateChannelID(channelID); err != nil {
		return nil, fmt.Errorf("initializing configtx manager failed: bad channel ID: %w", err)
	}
	b.elements, err = flatten(cfg.ChannelGroup)
	if err != nil {
		return nil, fmt.Errorf("initializing configtx manager failed: error converting config to map: %w", err)
	}
	return b, nil
}

// BundleFromBlock makes a Bundle of a config block, or of a genesis block
// (IDENTITY-CONFIG §6.1). The channel id is that of the block's header.
func BundleFromBlock(block *common.Block, opts Options) (*Bundle, error) {
	channelID, env, err := ConfigOfBlock(block)
	if err != nil {
		return nil, err
	}
	return NewBundle(channelID, env.GetConfig(), opts)
}

// ConfigOfBlock returns the channel id and the ConfigEnvelope of a config
// block.
func ConfigOfBlock(block *common.Block) (string, *common.ConfigEnvelope, error) {
	if block == nil {
		return "", nil, errors.New("block is nil")
	}
	data := block.GetData().GetData()
	if len(data) == 0 {
		return "", nil, errors.New("block contains no data")
	}
	env := &common.Envelope{}
	if err := proto.Unmarshal(data[0], env); err != nil {
		return "", nil, fmt.Errorf("malformed configuration envelope: %w", err)
	}
	return ConfigOfEnvelope(env)
}

// ConfigOfEnvelope returns the channel id and the ConfigEnvelope of a CONFIG
// envelope.
func ConfigOfEnvelope(env *common.Envelope) (string, *common.ConfigEnvelope, error) {
	payload := &common.Payload{}
	if err := proto.Unmarshal(env.GetPayload(), payload); err != nil {
		return "", nil, fmt.Errorf("failed to extract payload from config envelope: %w", err)
	}
	if payload.Header == nil {
		return "", nil, errors.New("config envelope has no header")
	}
	header := &common.ChannelHeader{}
	if err := proto.Unmarshal(payload.Header.ChannelHeader, header); err != nil {
		return "", nil, fmt.Errorf("failed to unmarshal channel header: %w", err)
	}
	if header.Type != int32(common.HeaderType_CONFIG) {
		return "", nil, fmt.Errorf("not a config envelope: header type is %d", header.Type)
	}
	config := &common.ConfigEnvelope{}
	if err := proto.Unmarshal(payload.Data, config); err != nil {
		return "", nil, fmt.Errorf("failed to unmarshal config envelope: %w", err)
	}
	return header.ChannelId, config, nil
}

// ChannelID is the channel that the configuration belongs to.
func (b *Bundle) ChannelID() string { return b.channelID }

// Sequence is the number of the configuration.
func (b *Bundle) Sequence() uint64 { return b.config.GetSequence() }

// Config is the configuration as loaded. It must not be changed.
func (b *Bundle) Config() *common.Config { return b.config }

// PolicyManager holds the policies of the configuration.
func (b *Bundle) PolicyManager() *policy.Manager { return b.policies }

// MSPManager holds the MSPs of the channel's organizations.
func (b *Bundle) MSPManager() *msp.Manager { return b.msps }

// Channel is the /Channel group.
func (b *Bundle) Channel() *ChannelGroup { return b.channel }

// Orderer is the /Channel/Orderer group, if there is one.
func (b *Bundle) Orderer() (*OrdererGroup, bool) { return b.orderer, b.orderer != nil }

// Application is the /Channel/Application group, if there is one.
func (b *Bundle) Application() (*ApplicationGroup, bool) { return b.application, b.application != nil }

// Consortiums is the /Channel/Consortiums group, if there is one.
func (b *Bundle) Consortiums() (*ConsortiumsGroup, bool) { return b.consortiums, b.consortiums != nil }

// CheckPeer tells whether a peer may use the configuration: it must have an
// application section and no unknown capability (IDENTITY-CONFIG §5.1, §5.4).
func (b *Bundle) CheckPeer() error {
	if b.application == nil {
		return fmt.Errorf("[channel %s] does not have application config so is incompatible", b.channelID)
	}
	if err := b.application.Capabilities.Supported(); err != nil {
		return fmt.Errorf("[channel %s] incompatible: %w", b.channelID, err)
	}
	if err := b.channel.Capabilities.Supported(); err != nil {
		return fmt.Errorf("[channel %s] incompatible: %w", b.channelID, err)
	}
	return nil
}

// CheckOrderer tells whether an orderer may use the configuration: it must have
// an orderer section and no unknown capability (IDENTITY-CONFIG §5.1, §5.4).
func (b *Bundle) CheckOrderer() error {
	if b.orderer == nil {
		return errors.New("config does not contain orderer config")
	}
	// The reference names the cause twice.
	if err := b.orderer.Capabilities.Supported(); err != nil {
		return fmt.Errorf("config requires unsupported orderer capabilities: %s: %w", err, err)
	}
	if err := b.channel.Capabilities.Supported(); err != nil {
		return fmt.Errorf("config requires unsupported channel capabilities: %s: %w", err, err)
	}
	return nil
}
