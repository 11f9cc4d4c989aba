package validation

import (
	"fmt"
	"sync"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/chaincode/packaging"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/policy"
	"github.com/heddle-ledger/heddle/msp"
	"github.com/heddle-ledger/heddle/peer/validation/vscc"
)

// cacheBytes bounds each cache of a channel. A full cache is emptied: what fills
// it is either an attack or a channel with far more chaincodes than any known.
const cacheBytes = 4 << 20

// entryCost is what an entry is counted beyond its key and value.
const entryCost = 256

// bounded is a map bounded in bytes, safe for concurrent use.
type bounded[V any] struct {
	mu    sync.RWMutex // guards m and bytes
	m     map[string]V
	bytes int
}

func (b *bounded[V]) get(key string) (V, bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	v, ok := b.m[key]
	return v, ok
}

func (b *bounded[V]) put(key string, v V, size int) {
	size += len(key) + entryCost
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.m == nil || b.bytes+size > cacheBytes {
		b.m, b.bytes = map[string]V{}, 0
	}
	b.m[key] = v
	b.bytes += size
}

// policyCache compiles signature policies once per configuration. It implements
// vscc.Evaluator.
type policyCache struct {
	msps msp.Deserializer
	log  *flog.Logger
	bounded[compiledPolicy]
}

type compiledPolicy struct {
	policy policy.Policy
	err    error
}

// Evaluate implements vscc.Evaluator.
func (c *policyCache) Evaluate(raw []byte, set []policy.SignedData) error {
	c.mu.RLock()
	p, ok := c.m[string(raw)]
	c.mu.RUnlock()
	if !ok {
		p = c.compile(raw)
		c.put(string(raw), p, 8*len(raw))
	}
	if p.err != nil {
		return p.err
	}
	return p.policy.Evaluate(set)
}

func (c *policyCache) compile(raw []byte) compiledPolicy {
	env := &common.SignaturePolicyEnvelope{}
	if err := proto.Unmarshal(raw, env); err != nil {
		return compiledPolicy{err: fmt.Errorf("Error unmarshaling to SignaturePolicy: %w", err)}
	}
	p, err := policy.NewSignaturePolicy(env, c.msps, c.log)
	return compiledPolicy{policy: p, err: err}
}

// definition is what lscc holds about a chaincode, as far as validation needs
// it, or why it is no use.
type definition struct {
	version, plugin string
	policy          []byte
	err             error
}

// definitionCache remembers chaincode definitions and collections from the state
// of lscc. It implements vscc.Collections.
type definitionCache struct {
	state       State
	system      definition // of system chaincodes
	chaincodes  bounded[definition]
	collections bounded[map[string]bool]
}

func newDefinitionCache(members []string) *definitionCache {
	return &definitionCache{system: definition{plugin: "vscc", policy: anyMember(members)}}
}

// lookup returns the definition of a chaincode; the error is a failure to read.
func (c *definitionCache) lookup(name string) (definition, error) {
	if isSystem(name) {
		return c.system, nil
	}
	if d, ok := c.chaincodes.get(name); ok {
		return d, nil
	}
	raw, err := c.state.GetState("lscc", name)
	if err != nil {
		return definition{}, fmt.Errorf("could not retrieve state for chaincode %s, error %w", name, err)
	}
	d := parseDefinition(name, raw)
	c.chaincodes.put(name, d, len(d.policy)+len(d.version)+len(d.plugin))
	return d, nil
}

func parseDefinition(name string, raw []byte) definition {
	if len(raw) == 0 {
		return definition{err: fmt.Errorf("lscc's state for [%s] not found.", name)}
	}
	data, err := packaging.ParseChaincodeData(raw)
	switch {
	case err != nil:
		return definition{err: fmt.Errorf("unmarshalling ChaincodeData for [%s]: %w", name, err)}
	case data.Vscc == "":
		return definition{err: fmt.Errorf("lscc's state for [%s] is invalid, vscc field must be set", name)}
	case len(data.Policy) == 0:
		return definition{err: fmt.Errorf("lscc's state for [%s] is invalid, policy field must be set", name)}
	}
	return definition{version: data.Version, plugin: data.Vscc, policy: data.Policy}
}

// Defines implements vscc.Collections. A collection counts as defined only while
// its chaincode is.
func (c *definitionCache) Defines(chaincode, collection string) (bool, error) {
	set, ok := c.collections.get(chaincode)
	if !ok {
		var err error
		if set, err = c.readCollections(chaincode); err != nil {
			return false, err
		}
		c.collections.put(chaincode, set, 64*len(set))
	}
	return set[collection], nil
}

func (c *definitionCache) readCollections(chaincode string) (map[string]bool, error) {
	cc, err := c.state.GetState("lscc", chaincode)
	if err != nil || len(cc) == 0 {
		return nil, err
	}
	raw, err := c.state.GetState("lscc", vscc.CollectionKey(chaincode))
	if err != nil {
		return nil, err
	}
	pkg := &peer.CollectionConfigPackage{}
	// What does not decode defines nothing. It can be there: transactions of
	// qscc are valid whatever they write (§6.4).
	if proto.Unmarshal(raw, pkg) != nil {
		return nil, nil
	}
	set := make(map[string]bool, len(pkg.Config))
	for _, config := range pkg.Config {
		if name := config.GetStaticCollectionConfig().GetName(); vscc.LegalCollectionName(name) {
			set[name] = true
		}
	}
	return set, nil
}
