package packaging

import (
	"errors"
	"fmt"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/heddle-ledger/heddle/internal/protoutil"
)

// Signer endorses signed packages; msp.SigningIdentity is one.
type Signer interface {
	Serialize() []byte
	Sign(msg []byte) ([]byte, error)
}

// BuildCDS returns the deployment spec that the command line installs
// (CHAINCODE §6.1).
func BuildCDS(typ peer.ChaincodeSpec_Type, id *peer.ChaincodeID, input *peer.ChaincodeInput, code []byte) *peer.ChaincodeDeploymentSpec {
	if input == nil {
		input = &peer.ChaincodeInput{}
	}
	return &peer.ChaincodeDeploymentSpec{
		ChaincodeSpec: &peer.ChaincodeSpec{Type: typ, ChaincodeId: id, Input: input},
		CodePackage:   code,
	}
}

// BuildSigned wraps CDS bytes and an instantiation policy into a package
// envelope; with an owner its endorsement is added (CHAINCODE §6.3).
func BuildSigned(cds, policy []byte, owner Signer) (*common.Envelope, error) {
	spec, err := parseSpec(cds)
	if err != nil {
		return nil, err
	}
	if policy == nil {
		id := spec.ChaincodeSpec.ChaincodeId
		return nil, fmt.Errorf("instantiation policy cannot be nil for chaincode (%s:%s)", id.Name, id.Version)
	}
	return seal(&peer.SignedChaincodeDeploymentSpec{ChaincodeDeploymentSpec: cds, InstantiationPolicy: policy}, owner)
}

// AddOwner adds an owner's endorsement to an already endorsed package.
func AddOwner(envelope []byte, owner Signer) (*common.Envelope, error) {
	scds, err := openEnvelope(envelope)
	if err != nil {
		return nil, err
	}
	if len(scds.ChaincodeDeploymentSpec) == 0 || scds.InstantiationPolicy == nil || len(scds.OwnerEndorsements) == 0 {
		return nil, errors.New("invalid signed deployment spec")
	}
	return seal(scds, owner)
}

func seal(scds *peer.SignedChaincodeDeploymentSpec, owner Signer) (*common.Envelope, error) {
	if owner != nil {
		endorser := owner.Serialize()
		msg := append(append(append([]byte{}, scds.ChaincodeDeploymentSpec...), scds.InstantiationPolicy...), endorser...)
		sig, err := owner.Sign(msg)
		if err != nil {
			return nil, fmt.Errorf("sign chaincode package: %w", err)
		}
		scds = proto.CloneOf(scds)
		scds.OwnerEndorsements = append(scds.OwnerEndorsements, &peer.Endorsement{Endorser: endorser, Signature: sig})
	}
	header := protoutil.Marshal(&common.ChannelHeader{
		Type:      int32(common.HeaderType_CHAINCODE_PACKAGE),
		Timestamp: &timestamppb.Timestamp{Seconds: time.Now().Unix()},
	})
	payload := &common.Payload{Header: &common.Header{ChannelHeader: header}, Data: protoutil.Marshal(scds)}
	return &common.Envelope{Payload: protoutil.Marshal(payload)}, nil
}
