package x509msp

import (
	"bytes"
	"errors"
	"fmt"

	mspproto "github.com/hyperledger/fabric-protos-go-apiv2/msp"

	"github.com/heddle-ledger/heddle/msp"
)

// ou is an organizational unit of an identity.
type ou struct {
	name         string
	certifiersID []byte
}

func (o ou) String() string {
	id := o.certifiersID
	if len(id) > 8 {
		id = id[:8]
	}
	return fmt.Sprintf("%s(%X)", o.name, id)
}

// nodeOU is the OU that stands for a role of a node; an empty certifiersID matches all.
type nodeOU struct {
	name         string
	certifiersID []byte
}

// nodeOUs are the roles that OUs tell apart (IDENTITY-CONFIG §2.5).
type nodeOUs struct {
	on     bool
	byRole [5]*nodeOU // by MSPRole type
}

// nodeRoles are the roles in the order in which a later definition of the same OU name wins.
var nodeRoles = [...]mspproto.MSPRole_MSPRoleType{
	mspproto.MSPRole_CLIENT, mspproto.MSPRole_PEER, mspproto.MSPRole_ADMIN, mspproto.MSPRole_ORDERER,
}

// byName is the definition an OU value selects.
func (n *nodeOUs) byName(name string) *nodeOU {
	var found *nodeOU
	for _, role := range nodeRoles {
		if o := n.byRole[role]; o != nil && o.name == name {
			found = o
		}
	}
	return found
}

// setOUs pairs the OUs of the subject with the chain; an identity whose chain is not good has none.
func (id *identity) setOUs() {
	chain, err := id.certificationChain()
	if err != nil || len(id.cert.Subject.OrganizationalUnit) == 0 {
		return
	}
	certifiers := id.msp.chainDigest(chain[1:])
	for _, name := range id.cert.Subject.OrganizationalUnit {
		id.ous = append(id.ous, ou{name, certifiers})
	}
}

func (m *MSP) checkOUs(id *identity) error {
	if err := m.checkListedOUs(id); err != nil {
		return err
	}
	if m.nodeOUs.on {
		return m.checkNodeOUs(id)
	}
	return nil
}

// checkListedOUs is step a. of IDENTITY-CONFIG §2.5.
func (m *MSP) checkListedOUs(id *identity) error {
	if len(m.ouIDs) == 0 {
		return nil
	}
	for _, o := range id.ous {
		for _, certifiers := range m.ouIDs[o.name] {
			if bytes.Equal(certifiers, o.certifiersID) {
				return nil
			}
		}
	}
	if len(id.ous) == 0 {
		return errors.New("the identity certificate does not contain an Organizational Unit (OU)")
	}
	return fmt.Errorf("none of the identity's organizational units %v are in MSP %s", id.ous, m.name)
}

// checkNodeOUs is step b.: exactly one OU tells a role.
func (m *MSP) checkNodeOUs(id *identity) error {
	count := 0
	for _, o := range id.ous {
		def := m.nodeOUs.byName(o.name)
		if def == nil {
			continue
		}
		if len(def.certifiersID) != 0 && !bytes.Equal(def.certifiersID, o.certifiersID) {
			return fmt.Errorf("certifiersIdentifier does not match: %v, MSP: [%s]", id.ous, m.name)
		}
		if count++; count > 1 {
			break
		}
	}
	if count == 1 {
		return nil
	}
	roles := "a client or a peer identity"
	if m.version >= msp.V1_4_3 {
		roles = "a client, a peer, an orderer or an admin identity"
	}
	return fmt.Errorf("the identity must be %s to be valid, not a combination of them. OUs: %v, MSP: [%s]", roles, id.ous, m.name)
}

// hasNodeOU tells whether the identity, valid or not, carries the OU of a role.
func (m *MSP) hasNodeOU(id *identity, role mspproto.MSPRole_MSPRoleType) error {
	if !m.nodeOUs.on {
		return errors.New("NodeOUs not activated. Cannot tell apart identities.")
	}
	def := m.nodeOUs.byRole[role]
	if def == nil {
		return fmt.Errorf("cannot test for classification, node ou for type [%s], not defined, msp: [%s]", role, m.name)
	}
	for _, o := range id.ous {
		if o.name == def.name {
			return nil
		}
	}
	return fmt.Errorf("The identity does not contain OU [%s], MSP: [%s]", role, m.name)
}
