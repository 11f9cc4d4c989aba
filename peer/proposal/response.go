package proposal

import (
	"fmt"
	"strings"

	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"
)

// Outcome is the result of a simulation, as it goes into the payload of a
// proposal response.
type Outcome struct {
	ProposalHash []byte
	Response     *peer.Response
	Results      []byte               // marshalled public TxReadWriteSet; nil without a simulator
	Event        *peer.ChaincodeEvent // nil if none
	ChaincodeID  *peer.ChaincodeID
}

// Payload is the marshalled ProposalResponsePayload that endorsers sign
// (ENDORSE-VALIDATE §2.5).
func (o *Outcome) Payload() ([]byte, error) {
	enc := proto.MarshalOptions{Deterministic: true}
	action := &peer.ChaincodeAction{Results: o.Results, Response: o.Response, ChaincodeId: o.ChaincodeID}
	var err error
	if o.Event != nil {
		if action.Events, err = enc.Marshal(o.Event); err != nil {
			return nil, fmt.Errorf("failed to marshal chaincode event: %w", err)
		}
	}
	ext, err := enc.Marshal(action)
	if err != nil {
		return nil, fmt.Errorf("failed to marshal chaincode action: %w", err)
	}
	prp, err := enc.Marshal(&peer.ProposalResponsePayload{ProposalHash: o.ProposalHash, Extension: ext})
	if err != nil {
		return nil, fmt.Errorf("failed to marshal proposal response payload: %w", err)
	}
	return prp, nil
}

// WithVersion is a copy of a chaincode id with another version: the version in
// a proposal is ignored, what is endorsed is the one that ran.
func WithVersion(id *peer.ChaincodeID, version string) *peer.ChaincodeID {
	if len(id.ProtoReflect().GetUnknown()) > 0 {
		c, _ := proto.Clone(id).(*peer.ChaincodeID)
		c.Version = version
		return c
	}
	return &peer.ChaincodeID{Path: id.GetPath(), Name: id.GetName(), Version: version}
}

// Failure is the answer for a proposal whose simulation failed
// (ENDORSE-VALIDATE §2.3).
func Failure(err error) *peer.ProposalResponse {
	return &peer.ProposalResponse{Response: &peer.Response{Status: 500, Message: ValidText(err.Error())}}
}

// ValidText makes a text fit for a string field: error texts may quote bytes
// from outside that are not UTF-8.
func ValidText(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
