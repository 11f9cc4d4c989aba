package ledger

import (
	"crypto/sha256"
	"fmt"

	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/ledger/rwset"
	"github.com/heddle-ledger/heddle/ledger/state"
)

// lifecycleNamespace holds chaincode definitions and collection configurations
// (LEDGER §4.3).
const lifecycleNamespace = "lscc"

func collectionKey(chaincode string) string { return chaincode + "~collection" }

// knowsCollection checks that a collection is defined. The look-up goes through
// the simulation, so that it is recorded (LEDGER §11.5).
func (q *QueryExecutor) knowsCollection(ns, coll string) error {
	names, ok := q.colls[ns]
	if !ok {
		var err error
		if names, err = q.collectionNames(ns); err != nil {
			return err
		}
		if q.colls == nil {
			q.colls = map[string]map[string]bool{}
		}
		q.colls[ns] = names
	}
	if !names[coll] {
		return &CollectionError{Chaincode: ns, Collection: coll}
	}
	return nil
}

func (q *QueryExecutor) collectionNames(ns string) (map[string]bool, error) {
	definition, err := q.get(lifecycleNamespace, ns)
	if err != nil {
		return nil, err
	}
	if definition == nil {
		return nil, &CollectionError{Chaincode: ns}
	}
	v, err := q.get(lifecycleNamespace, collectionKey(ns))
	if err != nil {
		return nil, err
	}
	if v == nil {
		return nil, &CollectionError{Chaincode: ns}
	}
	pkg, err := parseCollections(v.Value)
	if err != nil {
		return nil, fmt.Errorf("collections of chaincode [%s]: %w", ns, err)
	}
	return collectionsOf(pkg), nil
}

// collectionsOf is the set of the names of collections.
func collectionsOf(pkg *peer.CollectionConfigPackage) map[string]bool {
	names := make(map[string]bool, len(pkg.GetConfig()))
	for _, c := range pkg.GetConfig() {
		names[c.GetStaticCollectionConfig().GetName()] = true
	}
	return names
}

// GetPrivateData returns a private value, nil if it is absent. It fails if this
// peer does not have the version that the public hash belongs to.
func (q *QueryExecutor) GetPrivateData(ns, coll, key string) ([]byte, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.knowsCollection(ns, coll); err != nil {
		return nil, err
	}
	if err := q.usable(); err != nil {
		return nil, err
	}
	v, err := q.snap.Get(state.PrivateNamespace(ns, coll), key)
	if err != nil {
		return nil, err
	}
	hashed, err := q.hashedValue(ns, coll, key)
	if err != nil {
		return nil, err
	}
	if !sameVersion(v, hashed) {
		return nil, &PrivateDataUnavailableError{HashVersion: printVersion(hashed), DataVersion: printVersion(v)}
	}
	q.recordHashedRead(ns, coll, key, v)
	return valueOf(v), nil
}

func sameVersion(a, b *state.Value) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return a.Version == b.Version
}

func printVersion(v *state.Value) string {
	if v == nil {
		return "<nil>"
	}
	return v.Version.String()
}

func (q *QueryExecutor) hashedValue(ns, coll, key string) (*state.Value, error) {
	h := sha256.Sum256([]byte(key))
	return q.snap.Get(state.HashedNamespace(ns, coll), string(h[:]))
}

func (q *QueryExecutor) recordHashedRead(ns, coll, key string, v *state.Value) {
	if q.record != nil {
		q.record.ReadPrivate(ns, coll, key, versionOf(v))
	}
}

// GetPrivateDataMultiple returns several private values, nil where absent. The
// versions are not compared with those of the hashes.
func (q *QueryExecutor) GetPrivateDataMultiple(ns, coll string, keys []string) ([][]byte, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.knowsCollection(ns, coll); err != nil {
		return nil, err
	}
	if err := q.usable(); err != nil {
		return nil, err
	}
	values, err := q.snap.GetMany(state.PrivateNamespace(ns, coll), keys)
	if err != nil {
		return nil, err
	}
	out := make([][]byte, len(keys))
	for i, v := range values {
		q.recordHashedRead(ns, coll, keys[i], v)
		out[i] = valueOf(v)
	}
	return out, nil
}

// GetPrivateDataHash returns the hash of a private value, nil if it is absent.
// It works on peers that do not have the value.
func (q *QueryExecutor) GetPrivateDataHash(ns, coll, key string) ([]byte, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	v, err := q.readHashed(ns, coll, key)
	return valueOf(v), err
}

func (q *QueryExecutor) readHashed(ns, coll, key string) (*state.Value, error) {
	if err := q.knowsCollection(ns, coll); err != nil {
		return nil, err
	}
	if err := q.usable(); err != nil {
		return nil, err
	}
	v, err := q.hashedValue(ns, coll, key)
	if err != nil {
		return nil, err
	}
	q.recordHashedRead(ns, coll, key, v)
	return v, nil
}

// GetPrivateDataMetadata returns the metadata of a private key, nil if it has
// none.
func (q *QueryExecutor) GetPrivateDataMetadata(ns, coll, key string) (map[string][]byte, error) {
	if q.isQuery() {
		h := sha256.Sum256([]byte(key))
		return q.GetPrivateDataMetadataByHash(ns, coll, h[:])
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	v, err := q.readHashed(ns, coll, key)
	if err != nil || v == nil {
		return nil, err
	}
	return rwset.DecodeMetadata(v.Metadata)
}

func (q *QueryExecutor) isQuery() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.record == nil
}

// GetPrivateDataMetadataByHash returns the metadata of a private key of which
// only the hash is known. It is not available in a simulation.
func (q *QueryExecutor) GetPrivateDataMetadataByHash(ns, coll string, keyHash []byte) (map[string][]byte, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.knowsCollection(ns, coll); err != nil {
		return nil, err
	}
	if err := q.usable(); err != nil {
		return nil, err
	}
	if q.record != nil {
		return nil, ErrByHash
	}
	if !q.metadataUsed(ns) {
		return nil, nil
	}
	v, err := q.snap.Get(state.HashedNamespace(ns, coll), string(keyHash))
	if err != nil || v == nil {
		return nil, err
	}
	return rwset.DecodeMetadata(v.Metadata)
}

// GetPrivateDataRange scans the private keys of [start, end).
func (q *QueryExecutor) GetPrivateDataRange(ns, coll, start, end string) (Iterator, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.knowsCollection(ns, coll); err != nil {
		return nil, err
	}
	if err := q.usable(); err != nil {
		return nil, err
	}
	it, err := q.snap.Range(state.PrivateNamespace(ns, coll), start, end, 0)
	if err != nil {
		return nil, err
	}
	return q.track(ns, it), nil
}

// ExecuteQueryOnPrivateData runs a rich query over a collection.
func (q *QueryExecutor) ExecuteQueryOnPrivateData(ns, coll, query string) (Iterator, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.knowsCollection(ns, coll); err != nil {
		return nil, err
	}
	if err := q.usable(); err != nil {
		return nil, err
	}
	it, err := q.snap.Query(state.PrivateNamespace(ns, coll), state.Query{Text: query})
	if err != nil {
		return nil, err
	}
	return q.track(ns, it), nil
}

func parseCollections(raw []byte) (*peer.CollectionConfigPackage, error) {
	pkg := &peer.CollectionConfigPackage{}
	if err := unmarshal(raw, pkg); err != nil {
		return nil, err
	}
	return pkg, nil
}
