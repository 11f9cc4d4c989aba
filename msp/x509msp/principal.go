package x509msp

import (
	"bytes"
	"errors"
	"fmt"

	mspproto "github.com/hyperledger/fabric-protos-go-apiv2/msp"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/msp"
)

// maxPrincipalBytes bounds the work, and with it the depth, of taking combined principals apart: they nest
// inside byte fields, so each level is decoded anew and the protobuf decoder sees no depth. The reference has
// no bound but its stack; this one is far beyond what a policy can want (some thousand levels), so that no
// policy the reference satisfies fails here.
const maxPrincipalBytes = 64 << 20

// SatisfiesPrincipal implements msp.Identity (IDENTITY-CONFIG §2.6).
func (id *identity) SatisfiesPrincipal(p *mspproto.MSPPrincipal) error {
	if id.msp.version < msp.V1_3 || p.GetPrincipalClassification() != mspproto.MSPPrincipal_COMBINED {
		return id.satisfiesOne(p)
	}
	budget := maxPrincipalBytes
	parts, err := flatten(nil, p, &budget)
	if err != nil {
		return err
	}
	for _, part := range parts {
		if err := id.satisfiesOne(part); err != nil {
			return err
		}
	}
	return nil
}

// flatten lists the principals inside a combined principal, however nested.
func flatten(out []*mspproto.MSPPrincipal, p *mspproto.MSPPrincipal, budget *int) ([]*mspproto.MSPPrincipal, error) {
	if p.GetPrincipalClassification() != mspproto.MSPPrincipal_COMBINED {
		return append(out, p), nil
	}
	*budget -= len(p.GetPrincipal())
	if *budget < 0 {
		return nil, errors.New("combined principals are nested too deep")
	}
	combined := &mspproto.CombinedPrincipal{}
	if err := proto.Unmarshal(p.GetPrincipal(), combined); err != nil {
		return nil, fmt.Errorf("could not unmarshal CombinedPrincipal from principal: %w", err)
	}
	if len(combined.Principals) == 0 {
		return nil, errors.New("No principals in CombinedPrincipal")
	}
	var err error
	for _, part := range combined.Principals {
		if out, err = flatten(out, part, budget); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (id *identity) satisfiesOne(p *mspproto.MSPPrincipal) error {
	class := p.GetPrincipalClassification()
	switch {
	case class == mspproto.MSPPrincipal_ROLE:
		return id.satisfiesRole(p.GetPrincipal())
	case class == mspproto.MSPPrincipal_ORGANIZATION_UNIT:
		return id.satisfiesOU(p.GetPrincipal())
	case class == mspproto.MSPPrincipal_IDENTITY:
		return id.satisfiesIdentity(p.GetPrincipal())
	case class == mspproto.MSPPrincipal_ANONYMITY && id.msp.version >= msp.V1_3:
		return satisfiesAnonymity(p.GetPrincipal())
	default:
		return fmt.Errorf("invalid principal type %d", int32(class))
	}
}

func (id *identity) sameMSP(want string) error {
	if want != id.msp.name {
		return fmt.Errorf("the identity is a member of a different MSP (expected %s, got %s)", want, id.msp.name)
	}
	return nil
}

func (id *identity) satisfiesRole(raw []byte) error {
	role := &mspproto.MSPRole{}
	if err := proto.Unmarshal(raw, role); err != nil {
		return fmt.Errorf("could not unmarshal MSPRole from principal: %w", err)
	}
	if err := id.sameMSP(role.MspIdentifier); err != nil {
		return err
	}
	byOU := id.msp.version >= msp.V1_4_3 && id.msp.nodeOUs.on
	switch {
	case role.Role == mspproto.MSPRole_MEMBER:
		return id.Validate()
	case role.Role == mspproto.MSPRole_ADMIN && !byOU:
		if !id.isListedAdmin() {
			return errors.New("This identity is not an admin")
		}
		return nil
	case role.Role == mspproto.MSPRole_ADMIN:
		return id.satisfiesAdminOU()
	case role.Role == mspproto.MSPRole_CLIENT, role.Role == mspproto.MSPRole_PEER,
		role.Role == mspproto.MSPRole_ORDERER && byOU:
		return id.satisfiesNodeRole(role.Role)
	default:
		return fmt.Errorf("invalid MSP role type %d", int32(role.Role))
	}
}

func (id *identity) isListedAdmin() bool {
	for _, admin := range id.msp.admins {
		if bytes.Equal(admin.cert.Raw, id.cert.Raw) {
			return true
		}
	}
	return false
}

func (id *identity) satisfiesAdminOU() error {
	if id.isListedAdmin() {
		return nil
	}
	if err := id.Validate(); err != nil {
		return fmt.Errorf("The identity is not valid under this MSP [%s]: %w", id.msp.name, err)
	}
	if err := id.msp.hasNodeOU(id, mspproto.MSPRole_ADMIN); err != nil {
		return fmt.Errorf("The identity is not an admin under this MSP [%s]: %w", id.msp.name, err)
	}
	return nil
}

func (id *identity) satisfiesNodeRole(role mspproto.MSPRole_MSPRoleType) error {
	if err := id.Validate(); err != nil {
		return fmt.Errorf("The identity is not valid under this MSP [%s]: %w", id.msp.name, err)
	}
	if err := id.msp.hasNodeOU(id, role); err != nil {
		return fmt.Errorf("The identity is not a [%s] under this MSP [%s]: %w", role, id.msp.name, err)
	}
	return nil
}

func (id *identity) satisfiesOU(raw []byte) error {
	want := &mspproto.OrganizationUnit{}
	if err := proto.Unmarshal(raw, want); err != nil {
		return fmt.Errorf("could not unmarshal OrganizationUnit from principal: %w", err)
	}
	if err := id.sameMSP(want.MspIdentifier); err != nil {
		return err
	}
	if err := id.Validate(); err != nil {
		return err
	}
	for _, o := range id.ous {
		if o.name == want.OrganizationalUnitIdentifier && bytes.Equal(o.certifiersID, want.CertifiersIdentifier) {
			return nil
		}
	}
	return errors.New("The identities do not match")
}

func (id *identity) satisfiesIdentity(raw []byte) error {
	want, err := id.msp.deserialize(raw)
	if err != nil {
		return fmt.Errorf("invalid identity principal, not a certificate: %w", err)
	}
	if !bytes.Equal(id.cert.Raw, want.cert.Raw) {
		return errors.New("The identities do not match")
	}
	return want.Validate()
}

func satisfiesAnonymity(raw []byte) error {
	want := &mspproto.MSPIdentityAnonymity{}
	if err := proto.Unmarshal(raw, want); err != nil {
		return fmt.Errorf("could not unmarshal MSPIdentityAnonymity from principal: %w", err)
	}
	switch want.AnonymityType {
	case mspproto.MSPIdentityAnonymity_NOMINAL:
		return nil
	case mspproto.MSPIdentityAnonymity_ANONYMOUS:
		return errors.New("Principal is anonymous, but X.509 MSP does not support anonymous identities")
	default:
		return fmt.Errorf("Unknown principal anonymity type: %d", int32(want.AnonymityType))
	}
}
