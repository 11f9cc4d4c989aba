package policy

import (
	mspproto "github.com/hyperledger/fabric-protos-go-apiv2/msp"
	"google.golang.org/protobuf/proto"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
)

// AcceptAll is the policy every signature set satisfies: zero of nothing.
func AcceptAll() *common.SignaturePolicyEnvelope {
	return &common.SignaturePolicyEnvelope{Rule: NOutOf(0), Identities: []*mspproto.MSPPrincipal{}}
}

// RejectAll is the policy no signature set satisfies: one of nothing.
func RejectAll() *common.SignaturePolicyEnvelope {
	return &common.SignaturePolicyEnvelope{Rule: NOutOf(1), Identities: []*mspproto.MSPPrincipal{}}
}

// SignedByMSPMember wants one signature of any member of the MSP.
func SignedByMSPMember(mspID string) *common.SignaturePolicyEnvelope {
	return signedByRole(mspID, mspproto.MSPRole_MEMBER)
}

// SignedByMSPAdmin wants one signature of an administrator of the MSP.
func SignedByMSPAdmin(mspID string) *common.SignaturePolicyEnvelope {
	return signedByRole(mspID, mspproto.MSPRole_ADMIN)
}

// SignedByMSPClient wants one signature of a client of the MSP.
func SignedByMSPClient(mspID string) *common.SignaturePolicyEnvelope {
	return signedByRole(mspID, mspproto.MSPRole_CLIENT)
}

// SignedByMSPPeer wants one signature of a peer of the MSP.
func SignedByMSPPeer(mspID string) *common.SignaturePolicyEnvelope {
	return signedByRole(mspID, mspproto.MSPRole_PEER)
}

// SignedByAnyMember wants one signature of a member of any of the MSPs, taken in the order given.
func SignedByAnyMember(mspIDs []string) *common.SignaturePolicyEnvelope {
	return signedByAny(mspIDs, mspproto.MSPRole_MEMBER)
}

// SignedByAnyAdmin wants one signature of an administrator of any of the MSPs, taken in the order given.
func SignedByAnyAdmin(mspIDs []string) *common.SignaturePolicyEnvelope {
	return signedByAny(mspIDs, mspproto.MSPRole_ADMIN)
}

// SignedByAnyPeer wants one signature of a peer of any of the MSPs, taken in the order given.
func SignedByAnyPeer(mspIDs []string) *common.SignaturePolicyEnvelope {
	return signedByAny(mspIDs, mspproto.MSPRole_PEER)
}

// SignedBy is the rule that wants a signature of principal i.
func SignedBy(i int32) *common.SignaturePolicy {
	return &common.SignaturePolicy{Type: &common.SignaturePolicy_SignedBy{SignedBy: i}}
}

// NOutOf is the rule that wants n of the rules.
func NOutOf(n int32, rules ...*common.SignaturePolicy) *common.SignaturePolicy {
	return &common.SignaturePolicy{Type: &common.SignaturePolicy_NOutOf_{
		NOutOf: &common.SignaturePolicy_NOutOf{N: n, Rules: rules},
	}}
}

// RolePrincipal is the principal of a role in an MSP.
func RolePrincipal(mspID string, role mspproto.MSPRole_MSPRoleType) *mspproto.MSPPrincipal {
	b, err := proto.Marshal(&mspproto.MSPRole{MspIdentifier: mspID, Role: role})
	if err != nil {
		// Only a string that is not UTF-8 gets here; such an MSP id can name nobody.
		b = nil
	}
	return &mspproto.MSPPrincipal{PrincipalClassification: mspproto.MSPPrincipal_ROLE, Principal: b}
}

func signedByRole(mspID string, role mspproto.MSPRole_MSPRoleType) *common.SignaturePolicyEnvelope {
	return signedByAny([]string{mspID}, role)
}

func signedByAny(mspIDs []string, role mspproto.MSPRole_MSPRoleType) *common.SignaturePolicyEnvelope {
	env := &common.SignaturePolicyEnvelope{}
	var rules []*common.SignaturePolicy
	for i, id := range mspIDs {
		env.Identities = append(env.Identities, RolePrincipal(id, role))
		rules = append(rules, SignedBy(int32(i)))
	}
	env.Rule = NOutOf(1, rules...)
	return env
}
