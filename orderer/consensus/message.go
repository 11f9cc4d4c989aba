package consensus

import (
	"errors"
	"fmt"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/policy"
)

// Message is one envelope on its way into a block: decoded once, immutable,
// shared by the filters and the engine.
type Message struct {
	env   *common.Envelope
	bytes []byte

	payload *common.Payload
	channel *common.ChannelHeader
	signed  policy.SignedData
	// signedErr is why signed is unusable; it is reported by the filter that
	// needs the signature, not when the message is parsed.
	signedErr error
}

// Errors of NewMessage (ORDERER §5.1); their texts go to the client.
var (
	ErrNoHeader        = errors.New("header not set")
	ErrNoChannelHeader = errors.New("channel header not set")
)

// NewMessage decodes an envelope as far as its headers. The envelope must not be
// changed afterwards.
func NewMessage(env *common.Envelope) (*Message, error) {
	m := &Message{env: env, payload: &common.Payload{}, channel: &common.ChannelHeader{}}
	if err := proto.Unmarshal(env.Payload, m.payload); err != nil {
		return nil, fmt.Errorf("error unmarshaling Payload: %w", err)
	}
	header := m.payload.Header
	if header == nil {
		return nil, ErrNoHeader
	}
	if header.ChannelHeader == nil {
		return nil, ErrNoChannelHeader
	}
	if err := proto.Unmarshal(header.ChannelHeader, m.channel); err != nil {
		return nil, fmt.Errorf("error unmarshaling channel header: error unmarshaling ChannelHeader: %w", err)
	}
	var err error
	// The block holds the envelope as this node encodes it (ORDERER §7.1): once
	// for the filters, the engine and the block.
	if m.bytes, err = proto.Marshal(env); err != nil {
		return nil, fmt.Errorf("error marshaling Envelope: %w", err)
	}
	sh := &common.SignatureHeader{}
	if err := proto.Unmarshal(header.SignatureHeader, sh); err != nil {
		m.signedErr = fmt.Errorf("GetSignatureHeaderFromBytes failed, err %w", err)
	}
	m.signed = policy.SignedData{Data: env.Payload, Identity: sh.Creator, Signature: env.Signature}
	return m, nil
}

// ParseMessage decodes a marshalled envelope, as engines get it from their
// transport.
func ParseMessage(raw []byte) (*Message, error) {
	env := &common.Envelope{}
	if err := proto.Unmarshal(raw, env); err != nil {
		return nil, fmt.Errorf("error unmarshaling Envelope: %w", err)
	}
	return NewMessage(env)
}

// Envelope is the decoded envelope.
func (m *Message) Envelope() *common.Envelope { return m.env }

// Bytes is the envelope as it goes into a block.
func (m *Message) Bytes() []byte { return m.bytes }

// Payload is the envelope's payload; its header is never nil.
func (m *Message) Payload() *common.Payload { return m.payload }

// ChannelHeader is the payload's channel header.
func (m *Message) ChannelHeader() *common.ChannelHeader { return m.channel }

// Type is the header type.
func (m *Message) Type() common.HeaderType { return common.HeaderType(m.channel.Type) }

// Size is the size that counts for the limits of the channel: payload plus
// signature.
func (m *Message) Size() int { return len(m.env.Payload) + len(m.env.Signature) }

// SignedData is the outer signature with its creator.
func (m *Message) SignedData() (policy.SignedData, error) { return m.signed, m.signedErr }
