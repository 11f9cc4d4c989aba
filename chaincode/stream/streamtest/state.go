// Package streamtest holds an in-memory channel state for tests of the
// chaincode room. It keeps the rules a chaincode can observe: committed reads
// only, ordered ranges, bookmarks, the restrictions of paginated queries. Only
// tests may import it; it starts no goroutine.
package streamtest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/queryresult"

	"github.com/heddle-ledger/heddle/chaincode/stream"
)

// State is the committed state of one channel.
type State struct {
	mu      sync.Mutex // guards everything below
	values  map[string]map[string][]byte
	meta    map[string]map[string][]byte // "ns\x00key" -> metadata
	history map[string][]*queryresult.KeyModification
}

// NewState returns an empty state.
func NewState() *State {
	return &State{values: map[string]map[string][]byte{}, meta: map[string]map[string][]byte{}, history: map[string][]*queryresult.KeyModification{}}
}

// Simulator is a transaction on a State; it counts the iterators it has open.
type Simulator struct {
	state  *State
	txID   string
	writes map[string]map[string][]byte
	meta   map[string]map[string][]byte
	paged  bool

	Reads  []string // "ns/key", in order
	Open   int      // iterators
	Unread int      // results that closed iterators were not asked for
}

var (
	_ stream.Simulator     = (*Simulator)(nil)
	_ stream.HistoryReader = (*State)(nil)
)

// Simulate starts a transaction.
func (s *State) Simulate(txID string) *Simulator {
	return &Simulator{state: s, txID: txID, writes: map[string]map[string][]byte{}, meta: map[string]map[string][]byte{}}
}

// Put commits one value.
func (s *State) Put(ns, key string, value []byte) {
	sim := s.Simulate("")
	sim.SetState(ns, key, value) //nolint:errcheck // cannot fail
	s.Commit(sim)
}

// Commit applies the writes of a transaction.
func (s *State) Commit(sim *Simulator) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ns, kvs := range sim.writes {
		if s.values[ns] == nil {
			s.values[ns] = map[string][]byte{}
		}
		for key, value := range kvs {
			id := ns + "\x00" + key
			s.history[id] = append(s.history[id], &queryresult.KeyModification{TxId: sim.txID, Value: value, IsDelete: len(value) == 0})
			if len(value) == 0 {
				delete(s.values[ns], key)
			} else {
				s.values[ns][key] = value
			}
		}
	}
	maps.Copy(s.meta, sim.meta)
}

// GetHistoryForKey returns the modifications, oldest first.
func (s *State) GetHistoryForKey(ns, key string) (stream.HistoryIterator, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &historyIterator{mods: slices.Clone(s.history[ns+"\x00"+key])}, nil
}

type historyIterator struct {
	mods []*queryresult.KeyModification
}

func (it *historyIterator) Next() (*queryresult.KeyModification, error) {
	if len(it.mods) == 0 {
		return nil, nil
	}
	m := it.mods[0]
	it.mods = it.mods[1:]
	return m, nil
}
func (it *historyIterator) Close() {}

// Written returns the keys written, as "ns/key", sorted.
func (sim *Simulator) Written() []string {
	var keys []string
	for ns, kvs := range sim.writes {
		for key := range kvs {
			keys = append(keys, ns+"/"+key)
		}
	}
	slices.Sort(keys)
	return keys
}

func (sim *Simulator) GetState(ns, key string) ([]byte, error) {
	sim.Reads = append(sim.Reads, ns+"/"+key)
	sim.state.mu.Lock()
	defer sim.state.mu.Unlock()
	return sim.state.values[ns][key], nil
}

func (sim *Simulator) SetState(ns, key string, value []byte) error {
	if sim.paged {
		return fmt.Errorf("txid [%s]: Transaction has already performed a paginated query. Writes are not allowed", sim.txID)
	}
	if sim.writes[ns] == nil {
		sim.writes[ns] = map[string][]byte{}
	}
	sim.writes[ns][key] = value
	return nil
}

func (sim *Simulator) DeleteState(ns, key string) error { return sim.SetState(ns, key, nil) }

func (sim *Simulator) GetStateMetadata(ns, key string) (map[string][]byte, error) {
	sim.state.mu.Lock()
	defer sim.state.mu.Unlock()
	return sim.state.meta[ns+"\x00"+key], nil
}

func (sim *Simulator) SetStateMetadata(ns, key string, metadata map[string][]byte) error {
	sim.meta[ns+"\x00"+key] = metadata
	return nil
}

func (sim *Simulator) GetStateRange(ns, start, end string) (stream.Iterator, error) {
	return sim.iterate(ns, start, end, -1), nil
}

func (sim *Simulator) GetStateRangePage(ns, start, end string, pageSize int32) (stream.PageIterator, error) {
	if len(sim.writes) > 0 {
		return nil, fmt.Errorf("txid [%s]: Paginated queries are supported only in a read-only transaction", sim.txID)
	}
	sim.paged = true
	return sim.iterate(ns, start, end, int(pageSize)), nil
}

func (sim *Simulator) ExecuteQuery(ns, query string) (stream.Iterator, error) {
	return nil, errors.New("ExecuteQuery not supported for leveldb")
}

func (sim *Simulator) ExecuteQueryPage(ns, query string, pageSize int32, bookmark string) (stream.PageIterator, error) {
	return nil, errors.New("ExecuteQueryWithMetadata not supported for leveldb")
}

func (sim *Simulator) iterate(ns, start, end string, limit int) *iterator {
	sim.state.mu.Lock()
	defer sim.state.mu.Unlock()
	it := &iterator{sim: sim, limit: limit}
	for _, key := range slices.Sorted(maps.Keys(sim.state.values[ns])) {
		if strings.Compare(key, start) >= 0 && (end == "" || key < end) {
			it.kvs = append(it.kvs, &queryresult.KV{Namespace: ns, Key: key, Value: sim.state.values[ns][key]})
		}
	}
	sim.Open++
	return it
}

type iterator struct {
	sim    *Simulator
	kvs    []*queryresult.KV
	limit  int
	closed bool
}

func (it *iterator) Next() (*queryresult.KV, error) {
	if it.closed {
		return nil, errors.New("iterator is closed")
	}
	if it.limit == 0 || len(it.kvs) == 0 {
		return nil, nil
	}
	it.limit--
	kv := it.kvs[0]
	it.kvs = it.kvs[1:]
	return kv, nil
}

func (it *iterator) Bookmark() string {
	if len(it.kvs) == 0 {
		return ""
	}
	return it.kvs[0].Key
}

func (it *iterator) Close() {
	if !it.closed {
		it.closed = true
		it.sim.Open--
		it.sim.Unread += len(it.kvs)
	}
}
