package ledger

import (
	"slices"
	"strings"

	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/ledger/mvcc"
	"github.com/heddle-ledger/heddle/ledger/state"
)

// lifecycleChange is what a block does to one deployed chaincode.
type lifecycleChange struct {
	chaincode string
	// definition is what the block wrote, nil if it did not.
	definition []byte
	// collections is the marshalled collection package after the block, nil if
	// there is none.
	collections []byte
	// collectionsWritten tells whether the block wrote the package.
	collectionsWritten bool
}

// lifecycleChanges lists the chaincodes whose definition or collections the
// block's valid transactions wrote, sorted by name. Deletes are passed over
// (LEDGER §7).
func lifecycleChanges(u *mvcc.Updates, st state.Reader) ([]lifecycleChange, error) {
	writes := u.Public(lifecycleNamespace)
	if writes.Len() == 0 {
		return nil, nil
	}
	var names []string
	for _, w := range writes.Sorted() {
		if w.Delete {
			continue
		}
		name, _, _ := strings.Cut(w.Key, "~")
		names = append(names, name)
	}
	slices.Sort(names)
	var out []lifecycleChange
	for _, name := range slices.Compact(names) {
		c := lifecycleChange{chaincode: name}
		if w := writes.Get(name); w != nil && !w.Delete {
			c.definition = w.Value
		}
		if w := writes.Get(collectionKey(name)); w != nil {
			c.collectionsWritten = !w.Delete
			c.collections = w.Value
		} else {
			v, err := st.Get(lifecycleNamespace, collectionKey(name))
			if err != nil {
				return nil, err
			}
			c.collections = valueOf(v)
		}
		out = append(out, c)
	}
	return out, nil
}

// newlyEligible lists the collections of a deployed chaincode of which this
// peer's organisation was no member before the block and is one after it
// (LEDGER §8.7). First deployments and new collections do not count.
func (l *Ledger) newlyEligible(c *lifecycleChange) ([]string, error) {
	if !c.collectionsWritten {
		return nil, nil
	}
	before, err := l.committedCollections(c.chaincode)
	if err != nil || before == nil {
		return nil, err
	}
	after := l.deployedCollections(c.chaincode, c.collections)
	old := map[string]*peer.CollectionPolicyConfig{}
	for _, cfg := range before.GetConfig() {
		s := cfg.GetStaticCollectionConfig()
		old[s.GetName()] = s.GetMemberOrgsPolicy()
	}
	var out []string
	for _, cfg := range after.GetConfig() {
		s := cfg.GetStaticCollectionConfig()
		policy, existed := old[s.GetName()]
		if !existed {
			continue
		}
		if !l.isMember(s.GetName(), policy) && l.isMember(s.GetName(), s.GetMemberOrgsPolicy()) {
			out = append(out, s.GetName())
		}
	}
	return out, nil
}

// committedCollections returns the collection package of a deployed chaincode,
// nil if it is not deployed or has none.
func (l *Ledger) committedCollections(chaincode string) (*peer.CollectionConfigPackage, error) {
	definition, err := l.latest.Get(lifecycleNamespace, chaincode)
	if err != nil || definition == nil {
		return nil, err
	}
	v, err := l.latest.Get(lifecycleNamespace, collectionKey(chaincode))
	if err != nil || v == nil {
		return nil, err
	}
	return l.deployedCollections(chaincode, v.Value), nil
}

// deployedCollections decodes a collection package on the way of a commit. One
// that does not decode counts as empty: a transaction of qscc may be valid
// whatever it writes (ENDORSE-VALIDATE §6.4), and what is in the chain must not
// stop the peer.
func (l *Ledger) deployedCollections(chaincode string, raw []byte) *peer.CollectionConfigPackage {
	pkg, err := parseCollections(raw)
	if err != nil {
		l.log.Warningf("[%s] The collections of chaincode [%s] do not decode: %s", l.id, chaincode, err)
		return &peer.CollectionConfigPackage{}
	}
	return pkg
}

// isMember tells whether this peer's organisation is a member of a collection;
// under a policy that is no policy nobody is.
func (l *Ledger) isMember(collection string, policy *peer.CollectionPolicyConfig) bool {
	member, err := l.membership(l.id, policy)
	if err != nil {
		l.log.Warningf("[%s] The members of collection [%s] are not known: %s", l.id, collection, err)
	}
	return err == nil && member
}
