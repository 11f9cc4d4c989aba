package ledger

import (
	"crypto/sha256"
	"fmt"
	"sync"

	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/queryresult"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/ledger/rwset"
	"github.com/heddle-ledger/heddle/ledger/state"
)

// Iterators are aliases of unnamed interfaces, so that rooms which may not
// import this package can declare the same types. Next returns nil, nil at the
// end.
type (
	// Iterator walks over the results of a range scan or a rich query.
	Iterator = interface {
		Next() (*queryresult.KV, error)
		Close()
	}
	// PageIterator walks over one page. Bookmark ends it and tells where the
	// page after the results read so far begins.
	PageIterator = interface {
		Next() (*queryresult.KV, error)
		Bookmark() string
		Close()
	}
	// HistoryIterator walks over the past values of a key, oldest first.
	HistoryIterator = interface {
		Next() (*queryresult.KeyModification, error)
		Close()
	}
)

// QueryExecutor reads one block's state (LEDGER §11). Commits of later blocks
// neither wait for it nor change what it sees. It is safe for concurrent use
// and must be ended with Done.
type QueryExecutor struct {
	snap         state.Snapshot
	metadataUsed func(ns string) bool

	mu     sync.Mutex // guards everything below
	done   bool
	record *rwset.Builder // nil unless this belongs to a Simulator
	failed error          // of an iterator; spoils the results of a simulation
	open   map[*resultIterator]struct{}
	colls  map[string]map[string]bool // chaincode -> its collections, once looked up
}

func newQueryExecutor(snap state.Snapshot, metadataUsed func(string) bool) *QueryExecutor {
	return &QueryExecutor{snap: snap, metadataUsed: metadataUsed}
}

// Done ends all use of the executor and its iterators. It may be called more
// than once.
func (q *QueryExecutor) Done() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.done {
		return
	}
	q.done = true
	for it := range q.open {
		it.it.Close()
	}
	q.open = nil
	q.snap.Release()
}

func (q *QueryExecutor) usable() error {
	if q.done {
		return ErrDone
	}
	return nil
}

// GetState returns the value of a key, nil if it is absent.
func (q *QueryExecutor) GetState(ns, key string) ([]byte, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	v, err := q.get(ns, key)
	return valueOf(v), err
}

func (q *QueryExecutor) get(ns, key string) (*state.Value, error) {
	if err := q.usable(); err != nil {
		return nil, err
	}
	v, err := q.snap.Get(ns, key)
	if err != nil {
		return nil, err
	}
	q.recordRead(ns, key, v)
	return v, nil
}

func (q *QueryExecutor) recordRead(ns, key string, v *state.Value) {
	if q.record != nil {
		q.record.Read(ns, key, versionOf(v))
	}
}

func valueOf(v *state.Value) []byte {
	if v == nil {
		return nil
	}
	return v.Value
}

func versionOf(v *state.Value) *state.Version {
	if v == nil {
		return nil
	}
	return &v.Version
}

// GetStateMultiple returns the values of several keys, nil where absent.
func (q *QueryExecutor) GetStateMultiple(ns string, keys []string) ([][]byte, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.usable(); err != nil {
		return nil, err
	}
	values, err := q.snap.GetMany(ns, keys)
	if err != nil {
		return nil, err
	}
	out := make([][]byte, len(keys))
	for i, v := range values {
		q.recordRead(ns, keys[i], v)
		out[i] = valueOf(v)
	}
	return out, nil
}

// GetStateMetadata returns the metadata of a key, nil if it has none. Outside a
// simulation, a namespace that never had metadata is not looked up (LEDGER
// §9.2).
func (q *QueryExecutor) GetStateMetadata(ns, key string) (map[string][]byte, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.usable(); err != nil {
		return nil, err
	}
	if q.record == nil && !q.metadataUsed(ns) {
		return nil, nil
	}
	v, err := q.get(ns, key)
	if err != nil || v == nil {
		return nil, err
	}
	return rwset.DecodeMetadata(v.Metadata)
}

// GetStateRange scans [start, end) of a namespace; an empty bound is open.
func (q *QueryExecutor) GetStateRange(ns, start, end string) (Iterator, error) {
	return q.scan(ns, start, end, 0)
}

// GetStateRangePage scans at most so many keys of [start, end).
func (q *QueryExecutor) GetStateRangePage(ns, start, end string, pageSize int32) (PageIterator, error) {
	return q.scan(ns, start, end, pageSize)
}

func (q *QueryExecutor) scan(ns, start, end string, limit int32) (*resultIterator, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.usable(); err != nil {
		return nil, err
	}
	it, err := q.snap.Range(ns, start, end, limit)
	if err != nil {
		return nil, err
	}
	r := q.track(ns, it)
	if q.record != nil {
		r.scan = q.record.OpenRange(ns, start, end)
	}
	return r, nil
}

// ExecuteQuery runs a rich query, if the state database knows any.
func (q *QueryExecutor) ExecuteQuery(ns, query string) (Iterator, error) {
	return q.query(ns, state.Query{Text: query})
}

// ExecuteQueryPage runs a rich query for one page of results.
func (q *QueryExecutor) ExecuteQueryPage(ns, query string, pageSize int32, bookmark string) (PageIterator, error) {
	return q.query(ns, state.Query{Text: query, Paged: true, Limit: pageSize, Bookmark: bookmark})
}

func (q *QueryExecutor) query(ns string, query state.Query) (*resultIterator, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.usable(); err != nil {
		return nil, err
	}
	it, err := q.snap.Query(ns, query)
	if err != nil {
		return nil, err
	}
	r := q.track(ns, it)
	r.reads = q.record != nil
	return r, nil
}

func (q *QueryExecutor) track(ns string, it state.Iterator) *resultIterator {
	r := &resultIterator{q: q, ns: ns, it: it}
	if q.open == nil {
		q.open = map[*resultIterator]struct{}{}
	}
	q.open[r] = struct{}{}
	return r
}

// resultIterator reports what its caller pulls to the simulation.
type resultIterator struct {
	q     *QueryExecutor
	ns    string
	it    state.Iterator
	scan  *rwset.Range // set for a range scan of a simulation
	reads bool         // set for a rich query of a simulation
}

// Next returns the next result, or nil at the end.
func (r *resultIterator) Next() (*queryresult.KV, error) {
	r.q.mu.Lock()
	defer r.q.mu.Unlock()
	if err := r.q.usable(); err != nil {
		return nil, err
	}
	kv, err := r.it.Next()
	if err != nil {
		r.q.failed = err
		return nil, err
	}
	if kv == nil {
		if r.scan != nil {
			r.scan.End()
		}
		return nil, nil
	}
	if r.scan != nil {
		r.scan.Add(kv.Key, kv.Version)
	}
	if r.reads {
		r.q.record.Read(r.ns, kv.Key, &kv.Version)
	}
	return &queryresult.KV{Namespace: r.ns, Key: kv.Key, Value: kv.Value.Value}, nil
}

// Bookmark ends the iteration; see PageIterator.
func (r *resultIterator) Bookmark() string {
	r.q.mu.Lock()
	defer r.q.mu.Unlock()
	if r.q.done {
		return ""
	}
	return r.it.Bookmark()
}

// Close ends the iteration. It may be called more than once.
func (r *resultIterator) Close() {
	r.q.mu.Lock()
	defer r.q.mu.Unlock()
	if _, ok := r.q.open[r]; ok {
		r.it.Close()
		delete(r.q.open, r)
	}
}

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
	names := make(map[string]bool, len(pkg.GetConfig()))
	for _, c := range pkg.GetConfig() {
		names[c.GetStaticCollectionConfig().GetName()] = true
	}
	return names, nil
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
