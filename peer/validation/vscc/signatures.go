package vscc

import (
	"fmt"

	mspproto "github.com/hyperledger/fabric-protos-go-apiv2/msp"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/policy"
	"github.com/heddle-ledger/heddle/internal/protoutil"
)

// signatureSet is what the endorsers signed: the response payload followed by
// the endorser's own identity (ENDORSE-VALIDATE §2.5).
func signatureSet(tx *protoutil.Tx) ([]policy.SignedData, error) {
	endorsed, err := endorsedAction(tx)
	if err != nil {
		return nil, err
	}
	set := make([]policy.SignedData, 0, len(endorsed.Endorsements))
	for _, e := range endorsed.Endorsements {
		set = append(set, signedData(endorsed.ProposalResponsePayload, e))
	}
	return set, nil
}

// distinctSignatureSet leaves out every endorsement by an endorser that was
// there before, and tells whether there was one.
func distinctSignatureSet(tx *protoutil.Tx) (set []policy.SignedData, dropped bool, err error) {
	endorsed, err := endorsedAction(tx)
	if err != nil {
		return nil, false, err
	}
	type endorser struct{ mspID, id string }
	seen := make(map[endorser]bool, len(endorsed.Endorsements))
	for _, e := range endorsed.Endorsements {
		id := &mspproto.SerializedIdentity{}
		if err := proto.Unmarshal(e.GetEndorser(), id); err != nil {
			return nil, false, fmt.Errorf("unmarshal endorser error: %w", err)
		}
		key := endorser{id.Mspid, string(id.IdBytes)}
		if seen[key] {
			dropped = true
			continue
		}
		seen[key] = true
		set = append(set, signedData(endorsed.ProposalResponsePayload, e))
	}
	return set, dropped, nil
}

func endorsedAction(tx *protoutil.Tx) (*peer.ChaincodeEndorsedAction, error) {
	ap, err := tx.ActionPayload()
	if err != nil {
		return nil, err
	}
	if ap.Action == nil {
		return nil, fmt.Errorf("transaction has no endorsed action")
	}
	return ap.Action, nil
}

func signedData(prp []byte, e *peer.Endorsement) policy.SignedData {
	data := make([]byte, 0, len(prp)+len(e.GetEndorser()))
	data = append(append(data, prp...), e.GetEndorser()...)
	return policy.SignedData{Data: data, Identity: e.GetEndorser(), Signature: e.GetSignature()}
}
