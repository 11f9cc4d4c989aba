// Package msgproc decides which messages may be ordered (ORDERER §5): it
// classifies them, applies the filters in their order, and turns config updates
// into the config messages that go into blocks.
//
// A Processor belongs to one channel and works on the config in force when it is
// called, as one immutable value: the sequence that it returns is that of the
// very config by which the message was judged. The package owns no state besides
// the cache of Expiry and starts no goroutine; everything is safe for concurrent
// use. orderer/multichannel and orderer/broadcast import it.
package msgproc

import (
	"errors"
	"fmt"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/chanconfig"
	"github.com/heddle-ledger/heddle/orderer/consensus"
)

// Class says how a message is to be processed.
type Class int

// The classes of ORDERER §5.1.
const (
	Normal Class = iota
	ConfigUpdate
	Direct // CONFIG and ORDERER_TRANSACTION: never accepted from a client
)

// Classify tells the class of a header type; unknown types are normal.
func Classify(t common.HeaderType) Class {
	switch t {
	case common.HeaderType_CONFIG_UPDATE:
		return ConfigUpdate
	case common.HeaderType_CONFIG, common.HeaderType_ORDERER_TRANSACTION:
		return Direct
	default:
		return Normal
	}
}

// Signer is the orderer's own identity.
type Signer interface {
	Serialize() []byte
	Sign(msg []byte) ([]byte, error)
}

// Config is what a Processor needs.
type Config struct {
	// Bundle returns the config in force.
	Bundle func() *chanconfig.Bundle
	Signer Signer
	// Expiry is nil when expired creators are not refused.
	Expiry *Expiry
	// ChannelCount is the number of channels, the system channel included; needed
	// on the system channel only.
	ChannelCount func() int
}

// Processor validates the messages of one channel. That of the system channel
// also creates channels; which one that is the config tells.
type Processor struct {
	bundle   func() *chanconfig.Bundle
	signer   Signer
	expiry   *Expiry
	channels func() int
}

// New returns the processor of a channel.
func New(cfg Config) *Processor {
	return &Processor{bundle: cfg.Bundle, signer: cfg.Signer, expiry: cfg.Expiry, channels: cfg.ChannelCount}
}

// ProcessNormal validates a normal message and returns the sequence of the
// config that it was validated under (ORDERER §5.2).
func (p *Processor) ProcessNormal(m *consensus.Message) (uint64, error) {
	b := p.bundle()
	if isSystem(b) && m.ChannelHeader().ChannelId != b.ChannelID() {
		return 0, ErrChannelDoesNotExist
	}
	if o, ok := b.Orderer(); ok && o.InMaintenance() {
		return 0, fmt.Errorf("normal transactions are rejected: %w", ErrMaintenanceMode)
	}
	return b.Sequence(), p.filter(b, m)
}

// filter applies all filters of the channel.
func (p *Processor) filter(b *chanconfig.Bundle, m *consensus.Message) error {
	if err := p.applyFilters(b, m); err != nil {
		return err
	}
	if isSystem(b) {
		return p.filterCreation(b, m)
	}
	return nil
}

func isSystem(b *chanconfig.Bundle) bool {
	_, ok := b.Consortiums()
	return ok
}

// ProcessConfigUpdate validates a CONFIG_UPDATE and returns the message to order:
// a CONFIG (ORDERER §5.3), or, for a channel that does not exist yet, an
// ORDERER_TRANSACTION (§5.4).
func (p *Processor) ProcessConfigUpdate(m *consensus.Message) (*consensus.Message, uint64, error) {
	b := p.bundle()
	if isSystem(b) && m.ChannelHeader().ChannelId != b.ChannelID() {
		return p.createChannel(b, m.Envelope())
	}
	return p.updateChannel(b, m)
}

func (p *Processor) updateChannel(b *chanconfig.Bundle, m *consensus.Message) (*consensus.Message, uint64, error) {
	if err := p.filter(b, m); err != nil {
		return nil, 0, fmt.Errorf("config update for existing channel did not pass initial checks: %w", err)
	}
	config, next, err := b.ProposeNext(m.Envelope())
	if err != nil {
		return nil, 0, fmt.Errorf("error applying config update to existing channel '%s': %w", b.ChannelID(), err)
	}
	wrapped, err := p.wrap(common.HeaderType_CONFIG, b.ChannelID(), config)
	if err != nil {
		return nil, 0, err
	}
	if err := p.filter(b, wrapped); err != nil {
		return nil, 0, fmt.Errorf("config update for existing channel did not pass final checks: %w", err)
	}
	if err := b.InspectMigrationTo(next, m.Envelope()); err != nil {
		return nil, 0, fmt.Errorf("config update for existing channel did not pass maintenance checks: config transaction inspection failed: %w", err)
	}
	return wrapped, b.Sequence(), nil
}

// ProcessConfig validates a config message anew whose config sequence is stale:
// the update inside is applied to the config in force and wrapped again (ORDERER
// §5.5).
func (p *Processor) ProcessConfig(m *consensus.Message) (*consensus.Message, uint64, error) {
	switch m.Type() {
	case common.HeaderType_CONFIG:
		update, err := lastUpdate(m.Payload().Data)
		if err != nil {
			return nil, 0, err
		}
		inner, err := consensus.NewMessage(update)
		if err != nil {
			return nil, 0, err
		}
		return p.updateChannel(p.bundle(), inner)
	case common.HeaderType_ORDERER_TRANSACTION:
		inner, err := unwrapCreation(m)
		if err != nil {
			return nil, 0, err
		}
		return p.createChannel(p.bundle(), inner.LastUpdate)
	default:
		return nil, 0, fmt.Errorf("message of type %s is no config message", m.Type())
	}
}

func lastUpdate(data []byte) (*common.Envelope, error) {
	config := &common.ConfigEnvelope{}
	if err := proto.Unmarshal(data, config); err != nil {
		return nil, fmt.Errorf("error unmarshalling config envelope: %w", err)
	}
	if config.LastUpdate == nil {
		return nil, errors.New("config message does not include a config update")
	}
	return config.LastUpdate, nil
}
