package txbuild

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/heddle-ledger/heddle/internal/protoutil"
)

// Errors of Transaction whose texts clients show (ENDORSE-VALIDATE §3).
var (
	ErrNoResponse       = errors.New("at least one proposal response is required")
	ErrSignerNotCreator = errors.New("signer must be the same as the one referenced in the header")
	ErrPayloadsDiffer   = errors.New("ProposalResponsePayloads do not match")
)

// Transaction assembles a proposal and its endorsements, in the order of the
// responses, into an envelope signed by s. It makes the checks of
// ENDORSE-VALIDATE §3 in their order; endorsements are not verified.
func Transaction(p *peer.Proposal, s Signer, responses ...*peer.ProposalResponse) (*common.Envelope, error) {
	if len(responses) == 0 {
		return nil, ErrNoResponse
	}
	header := &common.Header{}
	if err := proto.Unmarshal(p.GetHeader(), header); err != nil {
		return nil, fmt.Errorf("error unmarshaling Header: %w", err)
	}
	sigHeader := &common.SignatureHeader{}
	if err := proto.Unmarshal(header.SignatureHeader, sigHeader); err != nil {
		return nil, fmt.Errorf("error unmarshaling SignatureHeader: %w", err)
	}
	if !bytes.Equal(s.Serialize(), sigHeader.Creator) {
		return nil, ErrSignerNotCreator
	}
	payload, err := PayloadWithoutTransient(p.Payload)
	if err != nil {
		return nil, err
	}
	endorsements, err := collect(responses)
	if err != nil {
		return nil, err
	}
	action := protoutil.Marshal(&peer.ChaincodeActionPayload{
		ChaincodeProposalPayload: payload,
		Action: &peer.ChaincodeEndorsedAction{
			ProposalResponsePayload: responses[0].Payload,
			Endorsements:            endorsements,
		},
	})
	tx := protoutil.Marshal(&peer.Transaction{
		Actions: []*peer.TransactionAction{{Header: header.SignatureHeader, Payload: action}},
	})
	return sign(protoutil.Marshal(&common.Payload{Header: header, Data: tx}), s)
}

// collect checks that the responses agree and returns their endorsements. A
// later peer that refused shows up as a differing payload: its status is not
// looked at.
func collect(responses []*peer.ProposalResponse) ([]*peer.Endorsement, error) {
	first := responses[0]
	if st := first.GetResponse().GetStatus(); st < 200 || st >= 400 {
		return nil, fmt.Errorf("proposal response was not successful, error code %d, msg %s", st, first.GetResponse().GetMessage())
	}
	endorsements := make([]*peer.Endorsement, 0, len(responses))
	for _, r := range responses {
		if !bytes.Equal(first.Payload, r.GetPayload()) {
			return nil, ErrPayloadsDiffer
		}
		e := r.GetEndorsement()
		if e == nil {
			e = &peer.Endorsement{}
		}
		endorsements = append(endorsements, e)
	}
	return endorsements, nil
}

// EnvelopeSpec says what a signed envelope carries.
type EnvelopeSpec struct {
	Type        int32 // a common.HeaderType, or 8 for PEER_ADMIN_OPERATION
	ChannelID   string
	Data        []byte
	TLSCertHash []byte    // SHA-256 of the client's TLS certificate, if it uses one
	Timestamp   time.Time // now if zero
}

// SignedEnvelope builds an envelope of spec signed by s, with a fresh nonce and
// without a transaction id.
func SignedEnvelope(spec EnvelopeSpec, s Signer) (*common.Envelope, error) {
	nonce, err := protoutil.Nonce()
	if err != nil {
		return nil, err
	}
	now := spec.Timestamp
	if now.IsZero() {
		now = time.Now()
	}
	ch, err := proto.Marshal(&common.ChannelHeader{
		Type:        spec.Type,
		Timestamp:   timestamppb.New(now),
		ChannelId:   spec.ChannelID,
		TlsCertHash: spec.TLSCertHash,
	})
	if err != nil {
		return nil, fmt.Errorf("marshal channel header: %w", err)
	}
	return sign(protoutil.Marshal(&common.Payload{
		Header: &common.Header{
			ChannelHeader:   ch,
			SignatureHeader: protoutil.Marshal(&common.SignatureHeader{Creator: s.Serialize(), Nonce: nonce}),
		},
		Data: spec.Data,
	}), s)
}

func sign(payload []byte, s Signer) (*common.Envelope, error) {
	sig, err := s.Sign(payload)
	if err != nil {
		return nil, fmt.Errorf("sign envelope: %w", err)
	}
	return &common.Envelope{Payload: payload, Signature: sig}, nil
}
