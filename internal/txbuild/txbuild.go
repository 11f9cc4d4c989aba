// Package txbuild is the client's side of a transaction: it builds and signs
// proposals, and assembles endorsed proposals into transaction envelopes
// (ENDORSE-VALIDATE §1, §3).
//
// It owns no state and starts no goroutine. Commands and tests import it; the
// peer shares its encoding of the proposal payload.
package txbuild

import (
	"errors"
	"fmt"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/heddle-ledger/heddle/internal/protoutil"
)

// Signer is an identity that can sign; msp.SigningIdentity is one.
type Signer interface {
	Serialize() []byte
	Sign(msg []byte) ([]byte, error)
}

// ProposalSpec says what to propose.
type ProposalSpec struct {
	Type      common.HeaderType   // ENDORSER_TRANSACTION, or CONFIG where CHAINCODE §9.3 says so
	ChannelID string              // empty for calls without a channel
	Spec      *peer.ChaincodeSpec // its whole chaincode_id goes into the header extension
	Transient map[string][]byte
	Nonce     []byte    // random if nil
	Timestamp time.Time // now if zero
}

// Proposal is an unsigned proposal and the transaction id it makes.
type Proposal struct {
	*peer.Proposal
	TxID string
}

// NewProposal builds the proposal of spec for a creator, a serialized identity
// (ENDORSE-VALIDATE §1.1, §3).
func NewProposal(spec ProposalSpec, creator []byte) (*Proposal, error) {
	if spec.Spec == nil || spec.Spec.ChaincodeId == nil {
		return nil, errors.New("a proposal needs the id of a chaincode")
	}
	nonce := spec.Nonce
	if nonce == nil {
		var err error
		if nonce, err = protoutil.Nonce(); err != nil {
			return nil, err
		}
	}
	now := spec.Timestamp
	if now.IsZero() {
		now = time.Now()
	}
	txID := protoutil.TxID(nonce, creator)
	msgs := encoder{}
	header := msgs.encode(&common.Header{
		ChannelHeader: msgs.encode(&common.ChannelHeader{
			Type:      int32(spec.Type),
			TxId:      txID,
			Timestamp: timestamppb.New(now),
			ChannelId: spec.ChannelID,
			Extension: msgs.encode(&peer.ChaincodeHeaderExtension{ChaincodeId: spec.Spec.ChaincodeId}),
		}),
		SignatureHeader: msgs.encode(&common.SignatureHeader{Creator: creator, Nonce: nonce}),
	})
	payload := msgs.encode(&peer.ChaincodeProposalPayload{
		Input:        msgs.encode(&peer.ChaincodeInvocationSpec{ChaincodeSpec: spec.Spec}),
		TransientMap: spec.Transient,
	})
	if msgs.err != nil {
		return nil, fmt.Errorf("error creating proposal: %w", msgs.err)
	}
	return &Proposal{Proposal: &peer.Proposal{Header: header, Payload: payload}, TxID: txID}, nil
}

// encoder encodes several messages and remembers the first error, which only
// strings that are not UTF-8 can cause.
type encoder struct{ err error }

func (e *encoder) encode(m proto.Message) []byte {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil && e.err == nil {
		e.err = err
	}
	return b
}

// SignProposal signs the bytes of p.
func SignProposal(p *peer.Proposal, s Signer) (*peer.SignedProposal, error) {
	raw, err := proto.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("marshal proposal: %w", err)
	}
	sig, err := s.Sign(raw)
	if err != nil {
		return nil, fmt.Errorf("sign proposal: %w", err)
	}
	return &peer.SignedProposal{ProposalBytes: raw, Signature: sig}, nil
}

// PayloadWithoutTransient is the transaction payload of a proposal payload: the
// same message without its transient map, which must never leave the endorser
// (ENDORSE-VALIDATE §1.2).
func PayloadWithoutTransient(proposalPayload []byte) ([]byte, error) {
	p := &peer.ChaincodeProposalPayload{}
	if err := proto.Unmarshal(proposalPayload, p); err != nil {
		return nil, fmt.Errorf("error unmarshaling ChaincodeProposalPayload: %w", err)
	}
	return EncodePayload(p.Input), nil
}

// EncodePayload encodes a ChaincodeProposalPayload that has only an input.
func EncodePayload(input []byte) []byte {
	if len(input) == 0 {
		return nil
	}
	b := make([]byte, 0, 1+protowire.SizeBytes(len(input)))
	b = protowire.AppendTag(b, 1, protowire.BytesType)
	return protowire.AppendBytes(b, input)
}
