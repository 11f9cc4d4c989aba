package ledger

import (
	"bytes"
	"slices"
	"strings"
	"sync"

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
	raw, err := l.committedCollections(c.chaincode)
	if err != nil || raw == nil {
		return nil, err
	}
	before := l.deployedCollections(c.chaincode, raw)
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

// committedCollections returns the marshalled collection package of a deployed
// chaincode, nil if it is not deployed or has none.
func (l *Ledger) committedCollections(chaincode string) ([]byte, error) {
	definition, err := l.latest.Get(lifecycleNamespace, chaincode)
	if err != nil || definition == nil {
		return nil, err
	}
	v, err := l.latest.Get(lifecycleNamespace, collectionKey(chaincode))
	return valueOf(v), err
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

// packageMemo holds the collection package that was asked for last, by name. A block
// may write to thousands of collections, each of which has to be looked up in a
// package of thousands.
type packageMemo struct {
	mu    sync.Mutex // guards what follows
	raw   []byte     // the package, nil if there is none
	named map[string]*peer.StaticCollectionConfig
}

// forget gives the memory back, at the end of a block.
func (m *packageMemo) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.raw, m.named = nil, nil
}

// deployedCollection is the configuration of one collection in the package of a
// chaincode; ok is false if it is not there. raw must not change any more.
func (l *Ledger) deployedCollection(chaincode string, raw []byte, name string) (c *peer.StaticCollectionConfig, ok bool) {
	m := &l.packages
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.named == nil || !bytes.Equal(m.raw, raw) {
		m.raw, m.named = raw, map[string]*peer.StaticCollectionConfig{}
		for _, cfg := range l.deployedCollections(chaincode, raw).GetConfig() {
			s := cfg.GetStaticCollectionConfig()
			if _, twice := m.named[s.GetName()]; !twice { // the first one counts
				m.named[s.GetName()] = s
			}
		}
	}
	c, ok = m.named[name]
	return c, ok
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
