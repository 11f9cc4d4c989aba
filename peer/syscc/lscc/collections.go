package lscc

import (
	"errors"
	"fmt"

	mspproto "github.com/hyperledger/fabric-protos-go-apiv2/msp"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/policy"
)

// putCollections stores the collections argument, if there is one. What is
// checked here is not the whole of what validation demands (CHAINCODE §7.5-a).
func (l *LSCC) putCollections(d *deployment) error {
	if len(d.collections) == 0 {
		return nil
	}
	pkg := &peer.CollectionConfigPackage{}
	if err := proto.Unmarshal(d.collections, pkg); err != nil {
		return fmt.Errorf("invalid collection configuration supplied for chaincode %s:%s", d.record.Name, d.record.Version)
	}
	for _, cc := range pkg.Config {
		if err := l.checkMembers(d, cc); err != nil {
			return fmt.Errorf("collection member policy check failed: %w", err)
		}
	}
	return d.PutState(CollectionsKey(d.record.Name), d.collections)
}

// checkMembers checks the member policy of one collection.
func (l *LSCC) checkMembers(d *deployment, cc *peer.CollectionConfig) error {
	coll := cc.GetStaticCollectionConfig()
	if coll == nil {
		return errors.New("collection configuration is empty")
	}
	if coll.MemberOrgsPolicy == nil {
		return errors.New("collection member policy is not set")
	}
	members := coll.MemberOrgsPolicy.GetSignaturePolicy()
	if members == nil {
		return errors.New("collection member org policy is empty")
	}
	known := map[string]bool{}
	for _, id := range d.orgs() {
		known[id] = true
	}
	for _, p := range members.Identities {
		org, err := l.orgOf(d, coll.Name, p)
		if err != nil {
			return err
		}
		if !known[org] {
			l.log.Warningf("collection-name: %s collection member %s is not part of the channel", flog.Foreign(coll.Name), flog.Foreign(org))
		}
	}
	if _, err := policy.NewSignaturePolicy(members, d.bundle.MSPManager(), l.log); err != nil {
		return fmt.Errorf("invalid member org policy for collection '%s': %w", coll.Name, err)
	}
	return nil
}

// orgOf is the organisation that a principal belongs to.
func (l *LSCC) orgOf(d *deployment, collection string, p *mspproto.MSPPrincipal) (string, error) {
	switch p.GetPrincipalClassification() {
	case mspproto.MSPPrincipal_ROLE:
		role := &mspproto.MSPRole{}
		if err := proto.Unmarshal(p.GetPrincipal(), role); err != nil {
			return "", fmt.Errorf("collection-name: %s -- cannot unmarshal identity bytes into MSPRole: %w", collection, err)
		}
		return role.MspIdentifier, nil
	case mspproto.MSPPrincipal_ORGANIZATION_UNIT:
		ou := &mspproto.OrganizationUnit{}
		if err := proto.Unmarshal(p.GetPrincipal(), ou); err != nil {
			return "", fmt.Errorf("collection-name: %s -- cannot unmarshal identity bytes into OrganizationUnit: %w", collection, err)
		}
		return ou.MspIdentifier, nil
	case mspproto.MSPPrincipal_IDENTITY:
		id, err := d.bundle.MSPManager().DeserializeIdentity(p.GetPrincipal())
		if err != nil {
			return "", fmt.Errorf("collection-name: %s -- contains an identity that is not part of the channel: %w", collection, err)
		}
		return id.MSPID(), nil
	}
	return "", fmt.Errorf("collection-name: %s -- principal type %s is not supported", collection, p.GetPrincipalClassification())
}
