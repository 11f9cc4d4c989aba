// Package proposal unpacks signed proposals and makes the checks that a peer
// makes before it simulates them; it also builds what the peer answers
// (ENDORSE-VALIDATE §1, §2.2, §2.5). Everything here is a pure function of the
// bytes, except for the creator's check, which asks the identities given.
//
// It owns no state and starts no goroutine. Rooms of peer import it.
package proposal

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/policy"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/txbuild"
)

// Errors about an invocation that lacks a part. The reference crashes on them,
// so their texts are ours (ENDORSE-VALIDATE §2.3 item 2).
var (
	ErrNoSpec  = errors.New("the invocation has no chaincode spec")
	ErrNoInput = errors.New("the chaincode spec has no input")
)

// View is a signed proposal of which every part is decoded at most once. It
// belongs to one goroutine at a time. What the accessors return must not be
// changed.
type View struct {
	signed *peer.SignedProposal

	proposal  once[peer.Proposal]
	header    once[common.Header]
	channel   once[common.ChannelHeader]
	signature once[common.SignatureHeader]
	extension once[peer.ChaincodeHeaderExtension]
	payload   once[peer.ChaincodeProposalPayload]
	spec      once[peer.ChaincodeInvocationSpec]
}

// once is a message that is decoded at most once.
type once[T any] struct {
	done bool
	msg  *T
	err  error
}

// get decodes raw at the first call. raw is the error of the part above as
// well, so that a broken proposal fails at the same place for everybody.
func (o *once[T]) get(what string, raw []byte, err error) (*T, error) {
	if o.done {
		return o.msg, o.err
	}
	o.done = true
	if err != nil {
		o.err = err
		return nil, err
	}
	m := new(T)
	if err := proto.Unmarshal(raw, any(m).(proto.Message)); err != nil {
		o.err = fmt.Errorf("error unmarshaling %s: %w", what, err)
		return nil, o.err
	}
	o.msg = m
	return m, nil
}

// Parse wraps a signed proposal; nothing is decoded yet. A nil proposal is an
// empty one.
func Parse(sp *peer.SignedProposal) *View {
	if sp == nil {
		sp = &peer.SignedProposal{}
	}
	return &View{signed: sp}
}

// Signed is the proposal as received.
func (v *View) Signed() *peer.SignedProposal { return v.signed }

// Proposal decodes the proposal bytes.
func (v *View) Proposal() (*peer.Proposal, error) {
	return v.proposal.get("Proposal", v.signed.ProposalBytes, nil)
}

// Header decodes the proposal's header.
func (v *View) Header() (*common.Header, error) {
	p, err := v.Proposal()
	return v.header.get("Header", p.GetHeader(), err)
}

// ChannelHeader decodes the channel header.
func (v *View) ChannelHeader() (*common.ChannelHeader, error) {
	h, err := v.Header()
	return v.channel.get("ChannelHeader", h.GetChannelHeader(), err)
}

// SignatureHeader decodes the signature header.
func (v *View) SignatureHeader() (*common.SignatureHeader, error) {
	h, err := v.Header()
	return v.signature.get("SignatureHeader", h.GetSignatureHeader(), err)
}

// Extension decodes the chaincode header extension.
func (v *View) Extension() (*peer.ChaincodeHeaderExtension, error) {
	ch, err := v.ChannelHeader()
	return v.extension.get("ChaincodeHeaderExtension", ch.GetExtension(), err)
}

// Payload decodes the proposal payload, transient map included.
func (v *View) Payload() (*peer.ChaincodeProposalPayload, error) {
	p, err := v.Proposal()
	return v.payload.get("ChaincodeProposalPayload", p.GetPayload(), err)
}

// Input is the input of the invocation: never nil without an error.
func (v *View) Input() (*peer.ChaincodeInput, error) {
	p, err := v.Payload()
	spec, err := v.spec.get("ChaincodeInvocationSpec", p.GetInput(), err)
	switch {
	case err != nil:
		return nil, err
	case spec.ChaincodeSpec == nil:
		return nil, ErrNoSpec
	case spec.ChaincodeSpec.Input == nil:
		return nil, ErrNoInput
	}
	return spec.ChaincodeSpec.Input, nil
}

// ChannelID is the channel's name, empty if the proposal is broken.
func (v *View) ChannelID() string {
	ch, _ := v.ChannelHeader()
	return ch.GetChannelId()
}

// TxID is the transaction id that the proposal claims.
func (v *View) TxID() string {
	ch, _ := v.ChannelHeader()
	return ch.GetTxId()
}

// Creator is the serialized identity of the proposer.
func (v *View) Creator() []byte {
	sh, _ := v.SignatureHeader()
	return sh.GetCreator()
}

// ChaincodeID is the chaincode that the header extension names, which is the
// one that runs (ENDORSE-VALIDATE §1.1); nil if there is none.
func (v *View) ChaincodeID() *peer.ChaincodeID {
	ext, _ := v.Extension()
	return ext.GetChaincodeId()
}

// Hash is the proposal hash (ENDORSE-VALIDATE §1.2): header parts as received,
// the payload without its transient map.
func (v *View) Hash() ([]byte, error) {
	h, err := v.Header()
	if err != nil {
		return nil, err
	}
	p, err := v.Payload()
	if err != nil {
		return nil, err
	}
	return protoutil.ProposalHash(h.ChannelHeader, h.SignatureHeader, txbuild.EncodePayload(p.Input)), nil
}

// Binding ties what a chaincode sees to the proposal's nonce, creator and epoch
// (ENDORSE-VALIDATE §1.2).
func (v *View) Binding() ([]byte, error) {
	ch, err := v.ChannelHeader()
	if err != nil {
		return nil, err
	}
	sh, err := v.SignatureHeader()
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	h.Write(sh.Nonce)
	h.Write(sh.Creator)
	var epoch [8]byte
	binary.LittleEndian.PutUint64(epoch[:], ch.Epoch)
	h.Write(epoch[:])
	return h.Sum(nil), nil
}

// payloadVisibility tells whether a header extension has the field
// payload_visibility (1), which the message type of today no longer knows.
func payloadVisibility(ext *peer.ChaincodeHeaderExtension) bool {
	for b := ext.ProtoReflect().GetUnknown(); len(b) > 0; {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return false
		}
		if num == 1 && typ == protowire.BytesType {
			return true
		}
		m := protowire.ConsumeFieldValue(num, typ, b[n:])
		if m < 0 {
			return false
		}
		b = b[n+m:]
	}
	return false
}

// SignedData is what the creator signed, for policies.
func (v *View) SignedData() policy.SignedData {
	return policy.SignedData{Data: v.signed.ProposalBytes, Identity: v.Creator(), Signature: v.signed.Signature}
}
