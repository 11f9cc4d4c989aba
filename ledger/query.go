package ledger

import (
	"sync"

	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/queryresult"

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
