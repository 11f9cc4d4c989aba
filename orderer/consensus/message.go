package consensus

import (
	"errors"
	"fmt"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/policy"
	"github.com/heddle-ledger/heddle/internal/protoutil"
)

// Message is one envelope on its way into a block: decoded once, immutable,
// shared by the filters and the engine. All of its parts share the memory of the
// one encoding that goes into the block.
type Message struct {
	env     *common.Envelope
	bytes   []byte
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

// NewMessage decodes an envelope as far as its headers. The envelope is not kept.
func NewMessage(env *common.Envelope) (*Message, error) {
	// The block holds the envelope as this node encodes it (ORDERER §7.1): once
	// for the filters, the engine and the block.
	raw, err := proto.Marshal(env)
	if err != nil {
		return nil, fmt.Errorf("error marshaling Envelope: %w", err)
	}
	tx := protoutil.ParseTx(raw)
	m := &Message{bytes: raw}
	if m.env, err = tx.Envelope(); err != nil {
		return nil, err
	}
	if m.payload, err = tx.Payload(); err != nil {
		return nil, err
	}
	header := m.payload.Header
	if header == nil {
		return nil, ErrNoHeader
	}
	if header.ChannelHeader == nil {
		return nil, ErrNoChannelHeader
	}
	if m.channel, err = tx.ChannelHeader(); err != nil {
		return nil, fmt.Errorf("error unmarshaling channel header: %w", err)
	}
	sh, err := tx.SignatureHeader()
	if err != nil {
		m.signedErr = fmt.Errorf("GetSignatureHeaderFromBytes failed, err %w", errors.Unwrap(err))
	}
	m.signed = policy.SignedData{Data: m.env.Payload, Identity: sh.GetCreator(), Signature: m.env.Signature}
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
