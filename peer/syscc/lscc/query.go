package lscc

import (
	"fmt"
	"strings"

	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/chaincode/packaging"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/peer/acl"
)

// byName runs a query with the arguments channel and name. The channel argument
// is for the access check; the state read is that of the proposal's channel.
func (l *LSCC) byName(c *call, resource string, query func(c *call, name string) ([]byte, error)) ([]byte, error) {
	if len(c.Args) != 3 {
		return nil, c.badCount()
	}
	if err := l.cfg.Access.CheckACL(resource, c.arg(1), c.SignedProposal); err != nil {
		return nil, fmt.Errorf("access denied for [%s][%s]: %w", c.function, c.arg(1), err)
	}
	return query(c, c.arg(2))
}

// stored reads the record of a chaincode, which must exist.
func stored(c *call, name string) ([]byte, error) {
	raw, err := c.GetState(name)
	if err != nil {
		return nil, fmt.Errorf("transaction not found: %w", err)
	}
	if len(raw) == 0 {
		return nil, fmt.Errorf("could not find chaincode with name '%s'", name)
	}
	return raw, nil
}

// parseStored decodes the record of the chaincode name.
func parseStored(name string, raw []byte) (*packaging.ChaincodeData, error) {
	cd, err := packaging.ParseChaincodeData(raw)
	if err != nil {
		return nil, fmt.Errorf("error while marshalling: %s", name)
	}
	if cd.Name != name {
		return nil, fmt.Errorf("chaincode name mismatch: %s!=%s", name, cd.Name)
	}
	return cd, nil
}

func (l *LSCC) exists(c *call, name string) ([]byte, error) {
	raw, err := stored(c, name)
	if err != nil {
		return nil, err
	}
	cd, err := parseStored(name, raw)
	if err != nil {
		return nil, err
	}
	return []byte(cd.Name), nil
}

func (l *LSCC) chaincodeData(c *call, name string) ([]byte, error) {
	raw, err := stored(c, name)
	if err != nil {
		return nil, err
	}
	if _, err := parseStored(name, raw); err != nil {
		return nil, err
	}
	return raw, nil
}

func (l *LSCC) deploymentSpec(c *call, name string) ([]byte, error) {
	raw, err := stored(c, name)
	if err != nil {
		return nil, err
	}
	pkg, err := l.code(name, raw)
	if err != nil {
		return nil, err
	}
	return pkg.SpecBytes(), nil
}

// code is the installed package of a record, whose fingerprint it must have
// (CHAINCODE §7.1).
func (l *LSCC) code(name string, raw []byte) (*packaging.Package, error) {
	cd, err := parseStored(name, raw)
	if err != nil {
		return nil, err
	}
	pkg, err := l.cfg.Packages.Load(name, cd.Version)
	if err != nil {
		return nil, fmt.Errorf("invalid deployment spec: %w", err)
	}
	if err := pkg.CheckAgainst(cd); err != nil {
		return nil, fmt.Errorf("chaincode fingerprint mismatch: %w", err)
	}
	return pkg, nil
}

// instantiated lists the chaincodes of the proposal's channel in key order.
func (l *LSCC) instantiated(c *call) ([]byte, error) {
	if len(c.Args) != 1 {
		return nil, c.badCount()
	}
	if err := l.cfg.Access.CheckACL(acl.GetInstantiatedChaincodes, c.ChannelID, c.SignedProposal); err != nil {
		return nil, fmt.Errorf("access denied for [%s][%s]: %w", c.function, c.ChannelID, err)
	}
	it, err := c.GetStateByRange("", "")
	if err != nil {
		return nil, err
	}
	defer it.Close()
	out := &peer.ChaincodeQueryResponse{}
	for {
		kv, err := it.Next()
		if err != nil {
			return nil, err
		}
		if kv == nil {
			return proto.Marshal(out)
		}
		if strings.Contains(kv.Key, "~") { // a chaincode's collections
			continue
		}
		info, err := l.instantiatedInfo(kv.Value)
		if err != nil {
			return nil, err
		}
		out.Chaincodes = append(out.Chaincodes, info)
	}
}

// instantiatedInfo describes one chaincode of the channel. Path and input are
// those of the installed package, if it is of the same version.
func (l *LSCC) instantiatedInfo(raw []byte) (*peer.ChaincodeInfo, error) {
	cd, err := packaging.ParseChaincodeData(raw)
	if err != nil {
		return nil, err
	}
	info := &peer.ChaincodeInfo{Name: cd.Name, Version: cd.Version, Escc: cd.Escc, Vscc: cd.Vscc}
	if pkg, err := l.cfg.Packages.Load(cd.Name, cd.Version); err == nil {
		info.Path = pkg.Path()
		info.Input = protoutil.Text(pkg.Spec().GetChaincodeSpec().GetInput())
	}
	return info, nil
}

// installed lists the packages of this peer in the order of their files.
func (l *LSCC) installed(c *call) ([]byte, error) {
	if len(c.Args) != 1 {
		return nil, c.badCount()
	}
	if err := l.cfg.Access.CheckLocal(acl.Admins, c.SignedProposal); err != nil {
		return nil, fmt.Errorf("access denied for [%s]: %w", c.function, err)
	}
	pkgs, err := l.cfg.Packages.List()
	if err != nil {
		return nil, err
	}
	out := &peer.ChaincodeQueryResponse{}
	for _, p := range pkgs {
		out.Chaincodes = append(out.Chaincodes, &peer.ChaincodeInfo{
			Name: p.Name(), Version: p.Version(), Path: p.Path(), Id: p.ID(),
		})
	}
	return proto.Marshal(out)
}

// collectionsConfig gives the collections of a chaincode as they were deployed.
func (l *LSCC) collectionsConfig(c *call) ([]byte, error) {
	if len(c.Args) != 2 {
		return nil, c.badCount()
	}
	if err := l.cfg.Access.CheckACL(acl.GetCollectionsConfig, c.ChannelID, c.SignedProposal); err != nil {
		return nil, fmt.Errorf("access denied for [%s]: %w", c.function, err)
	}
	name := c.arg(1)
	raw, err := c.GetState(CollectionsKey(name))
	if err != nil {
		return nil, err
	}
	if len(raw) == 0 {
		return nil, fmt.Errorf("collections config not defined for chaincode %s", name)
	}
	return raw, nil
}

// CollectionsKey is the key under which the collections of a chaincode are kept.
func CollectionsKey(name string) string { return name + "~collection" }
