package vscc

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"
)

// collectionName is matched against the whole name.
var collectionName = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// LegalCollectionName tells whether a collection may have the name.
func LegalCollectionName(name string) bool { return collectionName.MatchString(name) }

// CollectionKey is the key of a chaincode's collections in namespace lscc.
func CollectionKey(chaincode string) string { return chaincode + "~collection" }

// collections holds the collection argument of a deploy or upgrade against the
// write set, the rules for collections, and the collections there are
// (CHAINCODE §7.4 rules P).
func (lc *lsccCheck) collections() error {
	if len(lc.writes) > 2 {
		return errors.New("LSCC can only issue one or two putState upon deploy")
	}
	var arg, written []byte
	present := len(lc.inv.Args) > 5
	if present {
		arg = lc.inv.Args[5]
	}
	name := lc.data.Name
	if len(lc.writes) == 2 {
		if k := lc.writes[1].GetKey(); k != CollectionKey(name) {
			return fmt.Errorf("invalid key for the collection of chaincode %s:%s; expected '%s', received '%s'",
				name, lc.data.Version, CollectionKey(name), k)
		}
		written = lc.writes[1].GetValue()
	}
	if !bytes.Equal(arg, written) {
		return fmt.Errorf("collection configuration arguments supplied for chaincode %s:%s do not match the configuration in the lscc writeset",
			name, lc.data.Version)
	}
	existing, err := lc.Block.State.GetState("lscc", CollectionKey(name))
	if err != nil {
		return execution("unable to check whether collection existed earlier for chaincode %s:%s, error %w", name, lc.data.Version, err)
	}
	if lc.inv.Function == deploy && len(existing) > 0 {
		return fmt.Errorf("collection data should not exist for chaincode %s:%s", name, lc.data.Version)
	}
	if !present {
		return nil
	}
	pkg := &peer.CollectionConfigPackage{}
	if err := proto.Unmarshal(arg, pkg); err != nil {
		return fmt.Errorf("invalid collection configuration supplied for chaincode %s:%s", name, lc.data.Version)
	}
	if !lc.Block.Rules.V1_2 {
		return nil
	}
	if err := checkCollections(pkg.Config); err != nil {
		return err
	}
	if lc.inv.Function == deploy || len(existing) == 0 {
		return nil
	}
	old := &peer.CollectionConfigPackage{}
	if err := proto.Unmarshal(existing, old); err != nil {
		return fmt.Errorf("unmarshalling the existing collection configuration failed, error %w", err)
	}
	return checkCollectionUpgrade(pkg.Config, old.Config)
}

// checkCollections are the rules for each collection (CHAINCODE §7.5-b).
func checkCollections(configs []*peer.CollectionConfig) error {
	seen := make(map[string]bool, len(configs))
	for _, config := range configs {
		c := config.GetStaticCollectionConfig()
		if c == nil {
			return errors.New("unknown collection configuration type")
		}
		switch {
		case c.Name == "":
			return errors.New("empty collection-name is not allowed")
		case !collectionName.MatchString(c.Name):
			return fmt.Errorf("collection-name: %s not allowed. A valid collection name follows the pattern: [A-Za-z0-9_-]+", c.Name)
		case seen[c.Name]:
			return fmt.Errorf("collection-name: %s -- found duplicate collection configuration", c.Name)
		case c.MaximumPeerCount < c.RequiredPeerCount:
			return fmt.Errorf("collection-name: %s -- maximum peer count (%d) cannot be greater than the required peer count (%d)",
				c.Name, c.MaximumPeerCount, c.RequiredPeerCount)
		case c.RequiredPeerCount < 0:
			return fmt.Errorf("collection-name: %s -- requiredPeerCount (%d) cannot be less than zero (%d)",
				c.Name, c.MaximumPeerCount, c.RequiredPeerCount)
		}
		seen[c.Name] = true
		if err := checkORTree(c.GetMemberOrgsPolicy().GetSignaturePolicy().GetRule(), 0); err != nil {
			return fmt.Errorf("collection-name: %s -- error in member org policy: %w", c.Name, err)
		}
	}
	return nil
}

// maxPolicyDepth bounds the recursion into a policy from outside. The decoder
// refuses messages nested more deeply than 10 000 anyway.
const maxPolicyDepth = 10000

func checkORTree(rule *common.SignaturePolicy, depth int) error {
	if depth > maxPolicyDepth {
		return errors.New("signature policy is nested too deeply")
	}
	n := rule.GetNOutOf()
	if n == nil {
		return nil
	}
	if n.N != 1 {
		return fmt.Errorf("signature policy is not an OR concatenation, NOutOf %d", n.N)
	}
	for _, sub := range n.Rules {
		if err := checkORTree(sub, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// checkCollectionUpgrade are the rules between new and existing collections
// (CHAINCODE §7.5-c).
func checkCollectionUpgrade(updated, old []*peer.CollectionConfig) error {
	byName := make(map[string]*peer.StaticCollectionConfig, len(updated))
	for _, c := range updated {
		byName[c.GetStaticCollectionConfig().GetName()] = c.GetStaticCollectionConfig()
	}
	var missing, changed []string
	for _, c := range old {
		o := c.GetStaticCollectionConfig()
		switch n, ok := byName[o.GetName()]; {
		case o == nil:
			return errors.New("unknown collection configuration type")
		case !ok:
			missing = append(missing, o.Name)
		case n.BlockToLive != o.BlockToLive:
			changed = append(changed, o.Name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("the following existing collections are missing in the new collection configuration package: [%s]", strings.Join(missing, " "))
	}
	if len(changed) > 0 {
		return fmt.Errorf("the BlockToLive in the following existing collections must not be modified: [%s]", strings.Join(changed, " "))
	}
	return nil
}
