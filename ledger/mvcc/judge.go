package mvcc

import (
	"bytes"
	"unsafe"

	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset/kvrwset"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/ledger/rwset"
	"github.com/heddle-ledger/heddle/ledger/state"
)

// judge holds what is known while the transactions of one block are judged in
// order.
type judge struct {
	*Validator
	updates *Updates

	lookups []state.Lookup    // one per distinct key read in the block
	index   map[readKey]int32 // into lookups
	hashed  map[Collection]string
	scans   map[string]state.VersionScan // by namespace
	ops     txOps
}

type readKey struct{ ns, key string }

// preload reads the committed versions of all keys that the block's candidate
// transactions read, in one go.
func (j *judge) preload(sets []*protoutil.TxRWSet) error {
	n := 0
	for _, set := range sets {
		if set == nil {
			continue
		}
		for i := range set.Namespaces {
			n += len(set.Namespaces[i].KV.GetReads())
		}
	}
	j.index = make(map[readKey]int32, n)
	j.lookups = make([]state.Lookup, 0, n)
	for _, set := range sets {
		if set == nil {
			continue
		}
		for i := range set.Namespaces {
			ns := &set.Namespaces[i]
			for _, r := range ns.KV.GetReads() {
				j.want(ns.Namespace, r.Key)
			}
			for k := range ns.Collections {
				c := &ns.Collections[k]
				for _, r := range c.Hashed.GetHashedReads() {
					j.want(j.hashedNamespace(ns.Namespace, c.Name), hashKey(r.KeyHash))
				}
			}
		}
	}
	if len(j.lookups) == 0 {
		return nil
	}
	return j.State.Versions(j.lookups)
}

func (j *judge) want(ns, key string) {
	k := readKey{ns, key}
	if _, ok := j.index[k]; ok {
		return
	}
	j.index[k] = int32(len(j.lookups))
	j.lookups = append(j.lookups, state.Lookup{Namespace: ns, Key: key})
}

// hashKey views a key hash as a string. The bytes belong to a decoded message
// that nobody changes.
func hashKey(h []byte) string { return unsafe.String(unsafe.SliceData(h), len(h)) }

func (j *judge) hashedNamespace(ns, coll string) string {
	c := Collection{ns, coll}
	full, ok := j.hashed[c]
	if !ok {
		if j.hashed == nil {
			j.hashed = map[Collection]string{}
		}
		full = state.HashedNamespace(ns, coll)
		j.hashed[c] = full
	}
	return full
}

// check judges one transaction against the committed state and the earlier
// valid transactions of the block (LEDGER §12.2).
func (j *judge) check(set *protoutil.TxRWSet) (byte, error) {
	for i := range set.Namespaces {
		ns := &set.Namespaces[i]
		pending := j.updates.Public(ns.Namespace)
		for _, r := range ns.KV.GetReads() {
			if pending.Get(r.Key) != nil || !j.lookups[j.index[readKey{ns.Namespace, r.Key}]].Same(r.Version) {
				return codeReadConflict, nil
			}
		}
		for _, q := range ns.KV.GetRangeQueriesInfo() {
			ok, err := j.rangeUnchanged(ns.Namespace, q)
			if err != nil {
				return 0, err
			}
			if !ok {
				return codePhantom, nil
			}
		}
		for k := range ns.Collections {
			c := &ns.Collections[k]
			if !j.hashedReadsCurrent(ns.Namespace, c) {
				return codeReadConflict, nil
			}
		}
	}
	return codeValid, nil
}

func (j *judge) hashedReadsCurrent(ns string, c *protoutil.CollRWSet) bool {
	reads := c.Hashed.GetHashedReads()
	if len(reads) == 0 {
		return true
	}
	pending := j.updates.Hashed(ns, c.Name)
	full := j.hashedNamespace(ns, c.Name)
	for _, r := range reads {
		key := hashKey(r.KeyHash)
		if pending.Get(key) != nil || !j.lookups[j.index[readKey{full, key}]].Same(r.Version) {
			return false
		}
	}
	return true
}

// rangeUnchanged re-runs a range query and compares the results with those that
// the simulation saw.
func (j *judge) rangeUnchanged(ns string, q *kvrwset.RangeQueryInfo) (bool, error) {
	if summary := q.GetReadsMerkleHashes(); summary != nil {
		if summary.MaxDegree < rwset.MinDegree {
			return false, nil
		}
		m := rwset.NewMerkle(summary.MaxDegree)
		_, err := j.scan(ns, q, func(key string, v state.Version) bool {
			m.Add(key, v)
			return true
		})
		if err != nil {
			return false, err
		}
		return sameSummary(m.Summary(), summary), nil
	}
	want := q.GetRawReads().GetKvReads()
	n := 0
	same, err := j.scan(ns, q, func(key string, v state.Version) bool {
		if n == len(want) {
			return false
		}
		r := want[n]
		n++
		return r.Key == key && r.Version != nil && r.Version.BlockNum == v.Block && r.Version.TxNum == v.Tx
	})
	return same && n == len(want), err
}

func sameSummary(got, want *kvrwset.QueryReadsMerkleSummary) bool {
	if got == nil || got.MaxDegree != want.MaxDegree || got.MaxLevel != want.MaxLevel || len(got.MaxLevelHashes) != len(want.MaxLevelHashes) {
		return false
	}
	for i, h := range got.MaxLevelHashes {
		if !bytes.Equal(h, want.MaxLevelHashes[i]) {
			return false
		}
	}
	return true
}

// scan walks over the range of a query as it is after the block's earlier valid
// transactions, until visit returns false. It tells whether it got to the end.
func (j *judge) scan(ns string, q *kvrwset.RangeQueryInfo, visit func(string, state.Version) bool) (bool, error) {
	pending := j.updates.Public(ns).InRange(q.StartKey, q.EndKey)
	committed, err := j.openRange(ns, q.StartKey, q.EndKey)
	if err != nil {
		return false, err
	}
	defer committed.close()
	for {
		key, version, more, err := committed.next()
		if err != nil {
			return false, err
		}
		deleted := false
		for len(pending) > 0 && (!more || pending[0].Key <= key) {
			w := pending[0]
			pending = pending[1:]
			if more && w.Key == key {
				version, deleted = w.Version, w.Delete
				break
			}
			if !w.Delete && !visit(w.Key, w.Version) {
				return false, nil
			}
		}
		if !more {
			break
		}
		if !deleted && !visit(key, version) {
			return false, nil
		}
	}
	if q.ItrExhausted {
		return true, nil
	}
	// A query that was not read to its end covers its last key as well. The
	// reference adds it whatever it is: also the empty key, which a range
	// without end has seen already, and one before the start.
	version, err := j.latestVersion(ns, q.EndKey)
	if err != nil {
		return false, err
	}
	return version == nil || visit(q.EndKey, *version), nil
}

// latestVersion is the version of a public key after the block's earlier valid
// transactions, nil if it is absent.
func (j *judge) latestVersion(ns, key string) (*state.Version, error) {
	if w := j.updates.Public(ns).Get(key); w != nil {
		if w.Delete {
			return nil, nil
		}
		return &w.Version, nil
	}
	v, err := j.State.Get(ns, key)
	if err != nil || v == nil {
		return nil, err
	}
	return &v.Version, nil
}
