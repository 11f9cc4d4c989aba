package mvcc

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset/kvrwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/ledger/kv"
	"github.com/heddle-ledger/heddle/ledger/state"
	"github.com/heddle-ledger/heddle/protos/ledgerstore"
)

// The model says in the plainest way what LEDGER §12 and §13 say of a block:
// everything is copied, sorted and compared whole.

// cell is a value in the model; a deleted one has no value.
type cell struct {
	value, metadata string
	version         state.Version
	deleted         bool
}

// place is where a write of a block is remembered: a public namespace, or a
// collection's hashed one.
type place struct{ ns, coll string }

// full is the namespace of the state.
func (p place) full() string {
	if p.coll == "" {
		return p.ns
	}
	return p.ns + "$$h" + p.coll
}

type model struct {
	state   map[string]map[string]cell // by namespace of the state
	pending map[place]map[string]cell
}

func (m *model) latest(p place, key string) (cell, bool) {
	if c, ok := m.pending[p][key]; ok {
		return c, !c.deleted
	}
	c, ok := m.state[p.full()][key]
	return c, ok
}

func sameAs(v *kvrwset.Version, c cell, found bool) bool {
	if v == nil || !found {
		return v == nil && !found
	}
	return c.version == state.Version{Block: v.BlockNum, Tx: v.TxNum}
}

func (m *model) readCurrent(p place, full, key string, v *kvrwset.Version) bool {
	if _, touched := m.pending[p][key]; touched {
		return false
	}
	c, found := m.state[full][key]
	return sameAs(v, c, found)
}

// results are what a range query gives now.
func (m *model) results(ns string, q *kvrwset.RangeQueryInfo) []*kvrwset.KVRead {
	p := place{ns: ns}
	keys := map[string]bool{}
	for k := range m.state[ns] {
		keys[k] = true
	}
	for k := range m.pending[p] {
		keys[k] = true
	}
	var list []string
	for k := range keys {
		if k >= q.StartKey && (q.EndKey == "" || k < q.EndKey) {
			list = append(list, k)
		}
	}
	slices.Sort(list)
	if !q.ItrExhausted {
		list = append(list, q.EndKey)
	}
	var out []*kvrwset.KVRead
	for _, k := range list {
		if c, ok := m.latest(p, k); ok {
			out = append(out, &kvrwset.KVRead{Key: k, Version: c.version.Proto()})
		}
	}
	return out
}

// summary is the Merkle summary of LEDGER §11.4 made level by level from all
// results, nil if there are too few.
func summary(results []*kvrwset.KVRead, degree int) *kvrwset.QueryReadsMerkleSummary {
	if len(results) <= degree {
		return nil
	}
	levels := [][][]byte{nil, nil} // levels[0] is not used
	var push func(level int, h []byte)
	push = func(level int, h []byte) {
		if level == len(levels) {
			levels = append(levels, nil)
		}
		levels[level] = append(levels[level], h)
		if len(levels[level]) > degree {
			h := sha256.Sum256(bytes.Join(levels[level], nil))
			levels[level] = nil
			push(level+1, h[:])
		}
	}
	for group := range slices.Chunk(results, degree+1) {
		h := sha256.Sum256(protoutil.Marshal(&kvrwset.QueryReads{KvReads: group}))
		push(1, h[:])
	}
	top := len(levels) - 1
	for level := 1; level < top; level++ {
		switch hashes := levels[level]; len(hashes) {
		case 0:
		case 1:
			levels[level+1] = append(levels[level+1], hashes[0])
		default:
			h := sha256.Sum256(bytes.Join(hashes, nil))
			levels[level+1] = append(levels[level+1], h[:])
		}
	}
	if len(levels[top]) > degree {
		h := sha256.Sum256(bytes.Join(levels[top], nil))
		levels = append(levels, [][]byte{h[:]})
		top++
	}
	return &kvrwset.QueryReadsMerkleSummary{MaxDegree: uint32(degree), MaxLevel: uint32(top), MaxLevelHashes: levels[top]}
}

func (m *model) rangeCurrent(ns string, q *kvrwset.RangeQueryInfo) bool {
	now := m.results(ns, q)
	if s := q.GetReadsMerkleHashes(); s != nil {
		return s.MaxDegree >= 2 && proto.Equal(summary(now, int(s.MaxDegree)), s)
	}
	return proto.Equal(&kvrwset.QueryReads{KvReads: now}, &kvrwset.QueryReads{KvReads: q.GetRawReads().GetKvReads()})
}

func (m *model) check(set *protoutil.TxRWSet) peer.TxValidationCode {
	for _, ns := range set.Namespaces {
		for _, r := range ns.KV.Reads {
			if !m.readCurrent(place{ns: ns.Namespace}, ns.Namespace, r.Key, r.Version) {
				return peer.TxValidationCode_MVCC_READ_CONFLICT
			}
		}
		for _, q := range ns.KV.RangeQueriesInfo {
			if !m.rangeCurrent(ns.Namespace, q) {
				return peer.TxValidationCode_PHANTOM_READ_CONFLICT
			}
		}
		for _, c := range ns.Collections {
			for _, r := range c.Hashed.HashedReads {
				p := place{ns.Namespace, c.Name}
				if c.Name == "" {
					p.ns = "nothing is pending here"
				}
				if !m.readCurrent(p, ns.Namespace+"$$h"+c.Name, string(r.KeyHash), r.Version) {
					return peer.TxValidationCode_MVCC_READ_CONFLICT
				}
			}
		}
	}
	return peer.TxValidationCode_VALID
}

// change is what a transaction does to one key, with the reference's sum.
type change struct {
	sum             int
	value, metadata string
}

type target struct {
	place
	key string
}

func changesOf(set *protoutil.TxRWSet) map[target]change {
	out := map[target]change{}
	write := func(t target, value string, gone bool) {
		c := out[t]
		if gone || value == "" {
			c.sum += 8
		} else {
			c.sum, c.value = c.sum+1, value
		}
		out[t] = c
	}
	metadata := func(t target, entries []*kvrwset.KVMetadataEntry) {
		c := out[t]
		if len(entries) == 0 {
			c.sum += 4
		} else {
			c.sum, c.metadata = c.sum+2, string(protoutil.Marshal(&kvrwset.KVMetadataWrite{Entries: entries}))
		}
		out[t] = c
	}
	empty := sha256.Sum256(nil)
	for _, ns := range set.Namespaces {
		for _, w := range ns.KV.Writes {
			write(target{place{ns.Namespace, ""}, w.Key}, string(w.Value), w.IsDelete)
		}
		for _, w := range ns.KV.MetadataWrites {
			metadata(target{place{ns.Namespace, ""}, w.Key}, w.Entries)
		}
		for _, c := range ns.Collections {
			for _, w := range c.Hashed.HashedWrites {
				write(target{place{ns.Namespace, c.Name}, string(w.KeyHash)}, string(w.ValueHash), w.IsDelete || string(w.ValueHash) == string(empty[:]))
			}
			for _, w := range c.Hashed.MetadataWrites {
				metadata(target{place{ns.Namespace, c.Name}, string(w.KeyHash)}, w.Entries)
			}
		}
	}
	return out
}

func (m *model) apply(set *protoutil.TxRWSet, version state.Version) {
	for t, c := range changesOf(set) {
		old, found := m.latest(t.place, t.key)
		next := cell{version: version}
		switch {
		case c.sum&8 != 0:
			next.deleted = true
		case c.sum == 1:
			next.value, next.metadata = c.value, old.metadata
		case c.sum&1 != 0 && c.sum&6 != 0:
			next.value, next.metadata = c.value, c.metadata
		case !found:
			continue
		default:
			next.value, next.metadata = old.value, c.metadata
		}
		if m.pending[t.place] == nil {
			m.pending[t.place] = map[string]cell{}
		}
		m.pending[t.place][t.key] = next
	}
}

// updateBytes is the message of LEDGER §13.3.
func (m *model) updateBytes() []byte {
	places := slices.SortedFunc(maps.Keys(m.pending), func(a, b place) int {
		return cmp.Or(cmp.Compare(a.ns, b.ns), cmp.Compare(a.coll, b.coll))
	})
	batch := &ledgerstore.KVWritesBatch{}
	ns := ""
	for _, p := range places {
		coll := p.coll
		for _, key := range slices.Sorted(maps.Keys(m.pending[p])) {
			c := m.pending[p][key]
			w := &ledgerstore.KVWrite{
				Collection: coll, Key: []byte(key), IsDelete: c.deleted, Value: []byte(c.value),
				VersionBytes: kv.AppendHeight(nil, kv.Height(c.version)),
			}
			if p.ns != ns {
				w.Namespace, ns = p.ns, p.ns
			}
			coll = ""
			batch.Kvwrites = append(batch.Kvwrites, w)
		}
	}
	return protoutil.Marshal(batch)
}

// settle moves what is pending into the state; hashed writes count more than
// public ones of the same name.
func (m *model) settle() {
	places := slices.SortedFunc(maps.Keys(m.pending), func(a, b place) int {
		hashed := func(p place) int { return min(len(p.coll), 1) }
		return cmp.Compare(hashed(a), hashed(b))
	})
	for _, p := range places {
		space := m.state[p.full()]
		if space == nil {
			space = map[string]cell{}
			m.state[p.full()] = space
		}
		for k, c := range m.pending[p] {
			if c.deleted {
				delete(space, k)
			} else {
				space[k] = c
			}
		}
	}
	m.pending = map[place]map[string]cell{}
}

// writer makes transactions at random; most of what they read is current.
type writer struct {
	*rand.Rand
	m *model
}

var (
	modelKeys = []string{"", "a", "b", "c", "d", "e", "f", "g"}
	// The second is where the state keeps the hashes of the first's collection c1.
	modelNamespaces  = []string{"cc", "cc$$hc1", "aa"}
	modelCollections = []string{"c1", "", "c2"}
)

func (w *writer) key() string { return modelKeys[w.IntN(len(modelKeys))] }
func (w *writer) often() bool { return w.IntN(12) > 0 }
func (w *writer) value() []byte {
	if w.IntN(8) == 0 {
		return nil
	}
	return fmt.Append(nil, w.IntN(1000))
}

func (w *writer) version(full, key string) *kvrwset.Version {
	switch c, ok := w.m.state[full][key]; {
	case !w.often():
		return [...]*kvrwset.Version{nil, {}, {BlockNum: 1}}[w.IntN(3)]
	case ok:
		return c.version.Proto()
	}
	return nil
}

func (w *writer) query(ns string) *kvrwset.RangeQueryInfo {
	q := &kvrwset.RangeQueryInfo{StartKey: w.key(), EndKey: w.key(), ItrExhausted: w.IntN(2) > 0}
	before := &model{state: w.m.state}
	if !w.often() {
		before = w.m // sees what is pending, which an honest endorser cannot
	}
	results := before.results(ns, q)
	if !w.often() && len(results) > 0 {
		results = slices.Delete(results, 0, 1)
	}
	if !w.often() && len(results) > 0 {
		results[0].Version = [...]*kvrwset.Version{nil, {}}[w.IntN(2)]
	}
	degree := 1 + w.IntN(4) // 1 is never accepted
	s := summary(results, degree)
	switch {
	case s != nil && w.often():
		if !w.often() {
			s.MaxDegree = [...]uint32{0, 1, 3, 1 << 31, 1<<32 - 1}[w.IntN(5)]
		}
		q.ReadsInfo = &kvrwset.RangeQueryInfo_ReadsMerkleHashes{ReadsMerkleHashes: s}
	case len(results) > 0:
		q.ReadsInfo = &kvrwset.RangeQueryInfo_RawReads{RawReads: &kvrwset.QueryReads{KvReads: results}}
	}
	return q
}

func (w *writer) entries() []*kvrwset.KVMetadataEntry {
	if w.IntN(3) == 0 {
		return nil
	}
	return []*kvrwset.KVMetadataEntry{{Name: "VALIDATION_PARAMETER", Value: fmt.Append(nil, w.IntN(9))}}
}

func (w *writer) public(ns string) *kvrwset.KVRWSet {
	set := &kvrwset.KVRWSet{}
	for range w.IntN(2) {
		key := w.key()
		set.Reads = append(set.Reads, &kvrwset.KVRead{Key: key, Version: w.version(ns, key)})
	}
	for range w.IntN(2) {
		set.RangeQueriesInfo = append(set.RangeQueriesInfo, w.query(ns))
	}
	for range w.IntN(3) {
		set.Writes = append(set.Writes, &kvrwset.KVWrite{Key: w.key(), Value: w.value(), IsDelete: w.IntN(5) == 0})
	}
	for range w.IntN(2) {
		set.MetadataWrites = append(set.MetadataWrites, &kvrwset.KVMetadataWrite{Key: w.key(), Entries: w.entries()})
	}
	return set
}

func (w *writer) hashed(ns, coll string) *kvrwset.HashedRWSet {
	set := &kvrwset.HashedRWSet{}
	for range w.IntN(2) {
		key := w.key()
		set.HashedReads = append(set.HashedReads, &kvrwset.KVReadHash{KeyHash: []byte(key), Version: w.version(ns+"$$h"+coll, key)})
	}
	for range w.IntN(3) {
		value := w.value()
		if w.IntN(8) == 0 {
			empty := sha256.Sum256(nil)
			value = empty[:]
		}
		set.HashedWrites = append(set.HashedWrites, &kvrwset.KVWriteHash{KeyHash: []byte(w.key()), ValueHash: value, IsDelete: w.IntN(5) == 0})
	}
	for range w.IntN(2) {
		set.MetadataWrites = append(set.MetadataWrites, &kvrwset.KVMetadataWriteHash{KeyHash: []byte(w.key()), Entries: w.entries()})
	}
	return set
}

func (w *writer) tx() []byte {
	out := &rwset.TxReadWriteSet{}
	for _, ns := range modelNamespaces {
		if w.IntN(2) == 0 {
			continue
		}
		set := &rwset.NsReadWriteSet{Namespace: ns, Rwset: protoutil.Marshal(w.public(ns))}
		for _, coll := range modelCollections {
			if w.IntN(3) == 0 {
				set.CollectionHashedRwset = append(set.CollectionHashedRwset, &rwset.CollectionHashedReadWriteSet{
					CollectionName: coll, HashedRwset: protoutil.Marshal(w.hashed(ns, coll)),
				})
			}
		}
		out.NsRwset = append(out.NsRwset, set)
	}
	return protoutil.Marshal(out)
}

// TestAgainstModel judges random blocks, with everything that a hand-made write
// set may hold, and expects the codes, the commit hash and the state that the
// model has. Blocks follow one another, so that reads meet all kinds of versions.
func TestAgainstModel(t *testing.T) {
	blocks := 1500
	if testing.Short() {
		blocks = 300
	}
	db := openState(t)
	m := &model{state: map[string]map[string]cell{}, pending: map[place]map[string]cell{}}
	w := &writer{rand.New(rand.NewPCG(1, 2)), m}
	seen := map[int]int{}
	for n := 2; n < blocks; n++ {
		var txs [][]byte
		var want []int
		for i := range 1 + w.IntN(6) {
			results := w.tx()
			set, err := protoutil.ParseRWSet(results)
			if err != nil {
				t.Fatal(err)
			}
			code := m.check(set)
			if code == peer.TxValidationCode_VALID {
				m.apply(set, state.Version{Block: uint64(n), Tx: uint64(i)})
			}
			txs, want = append(txs, endorserTx(results)), append(want, int(code))
			seen[int(code)]++
		}
		v := &Validator{State: db, CheckWrite: db.CheckWrite}
		r, err := v.Validate(block(uint64(n), txs...), make([]byte, len(txs)))
		if err != nil {
			t.Fatal(err)
		}
		if diff := gocmp.Diff(want, codesOf(r.Flags)); diff != "" {
			t.Fatalf("block %d: codes (-model +got) %s", n, diff)
		}
		if got, want := r.Updates.AppendBytes(nil), m.updateBytes(); !bytes.Equal(got, want) {
			t.Fatalf("block %d: update bytes %x, want %x", n, got, want)
		}
		if err := db.Apply(r.Updates.Batch(), nil, false); err != nil {
			t.Fatal(err)
		}
		m.settle()
		compareWithModel(t, db, m)
	}
	for _, code := range []peer.TxValidationCode{0, peer.TxValidationCode_MVCC_READ_CONFLICT, peer.TxValidationCode_PHANTOM_READ_CONFLICT} {
		if seen[int(code)] < blocks/4 {
			t.Errorf("only %d transactions with code %s", seen[int(code)], code)
		}
	}
}

func compareWithModel(t *testing.T, db state.DB, m *model) {
	t.Helper()
	for _, ns := range modelNamespaces {
		for _, full := range []string{ns, ns + "$$hc1", ns + "$$h", ns + "$$hc2"} {
			got := map[string]cell{}
			it, err := db.Range(full, "", "", 0)
			if err != nil {
				t.Fatal(err)
			}
			for {
				kv, err := it.Next()
				if err != nil {
					t.Fatal(err)
				}
				if kv == nil {
					break
				}
				got[kv.Key] = cell{value: string(kv.Value.Value), metadata: string(kv.Metadata), version: kv.Version}
			}
			it.Close()
			want := m.state[full]
			if len(want) == 0 && len(got) == 0 {
				continue
			}
			if !maps.Equal(want, got) {
				t.Fatalf("%s: got %v, want %v", full, got, want)
			}
		}
	}
}
