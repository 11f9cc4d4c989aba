package mvcc

import (
	"bytes"
	"crypto/sha256"

	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset/kvrwset"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/ledger/rwset"
	"github.com/heddle-ledger/heddle/ledger/state"
)

// The kinds of change a transaction may make to one key. For a key that appears
// several times in a hand-made write set the reference adds them up, so these
// are numbers and not bits (LEDGER §12.5).
const (
	opValue          = 1
	opMetadata       = 2
	opMetadataDelete = 4
	opDelete         = 8
)

// txOp is what one transaction does to one key. The collection is empty for a
// public key.
type txOp struct {
	ns, coll, key string
	kind          int
	value         []byte
	metadata      []byte
}

// txOps combines the changes of one transaction per key. It is reused from
// transaction to transaction.
type txOps struct {
	list  []txOp
	index map[opKey]int // used once the list is long
}

type opKey struct{ ns, coll, key string }

const linearOps = 12 // up to here scanning the list beats hashing the keys

// maxKeptOps bounds the index that is used again: a map that was large is slow to
// clear, and each later transaction of the block would pay for it.
const maxKeptOps = 1 << 10

func (t *txOps) reset() {
	t.list = t.list[:0]
	if len(t.index) > maxKeptOps {
		t.index = nil
	}
	clear(t.index)
}

func (t *txOps) get(ns, coll, key string) *txOp {
	if len(t.list) < linearOps {
		for i := range t.list {
			if o := &t.list[i]; o.key == key && o.ns == ns && o.coll == coll {
				return o
			}
		}
		t.list = append(t.list, txOp{ns: ns, coll: coll, key: key})
		return &t.list[len(t.list)-1]
	}
	if len(t.index) == 0 {
		if t.index == nil {
			t.index = map[opKey]int{}
		}
		for i := range t.list {
			t.index[opKey{t.list[i].ns, t.list[i].coll, t.list[i].key}] = i
		}
	}
	k := opKey{ns, coll, key}
	i, ok := t.index[k]
	if !ok {
		i = len(t.list)
		t.index[k] = i
		t.list = append(t.list, txOp{ns: ns, coll: coll, key: key})
	}
	return &t.list[i]
}

func (t *txOps) write(ns, coll, key string, value []byte, isDelete bool) {
	o := t.get(ns, coll, key)
	if isDelete {
		o.kind += opDelete
		return
	}
	o.kind += opValue
	o.value = value
}

func (t *txOps) writeMetadata(ns, coll, key string, entries []*kvrwset.KVMetadataEntry) {
	o := t.get(ns, coll, key)
	if len(entries) == 0 {
		o.kind += opMetadataDelete
		return
	}
	o.kind += opMetadata
	o.metadata = rwset.EncodeMetadata(entries)
}

var emptyHash = sha256.Sum256(nil)

func (t *txOps) collect(set *protoutil.TxRWSet) {
	for i := range set.Namespaces {
		ns := &set.Namespaces[i]
		for _, w := range ns.KV.GetWrites() {
			t.write(ns.Namespace, "", w.Key, w.Value, w.IsDelete || len(w.Value) == 0)
		}
		for _, m := range ns.KV.GetMetadataWrites() {
			t.writeMetadata(ns.Namespace, "", m.Key, m.Entries)
		}
		for k := range ns.Collections {
			c := &ns.Collections[k]
			for _, w := range c.Hashed.GetHashedWrites() {
				isDelete := w.IsDelete || len(w.ValueHash) == 0 || bytes.Equal(w.ValueHash, emptyHash[:])
				t.write(ns.Namespace, c.Name, hashKey(w.KeyHash), w.ValueHash, isDelete)
			}
			for _, m := range c.Hashed.GetMetadataWrites() {
				t.writeMetadata(ns.Namespace, c.Name, hashKey(m.KeyHash), m.Entries)
			}
		}
	}
}

// apply adds the writes of a valid transaction to the updates (LEDGER §12.3).
func (j *judge) apply(set *protoutil.TxRWSet, version state.Version) error {
	j.ops.reset()
	j.ops.collect(set)
	for i := range j.ops.list {
		if err := j.applyOp(&j.ops.list[i], version); err != nil {
			return err
		}
	}
	return nil
}

func (j *judge) applyOp(o *txOp, version state.Version) error {
	w := state.Write{Key: o.key, Version: version}
	switch {
	case o.kind&opDelete != 0:
		w.Delete = true
	case o.kind == opValue:
		metadata, err := j.latestMetadata(o)
		if err != nil {
			return err
		}
		w.Value, w.Metadata = o.value, metadata
	case o.kind&opValue != 0 && o.kind&(opMetadata|opMetadataDelete) != 0:
		w.Value, w.Metadata = o.value, o.metadata
	default:
		value, exists, err := j.latestValue(o)
		if err != nil || !exists {
			return err
		}
		w.Value, w.Metadata = value, o.metadata
	}
	if o.coll == "" {
		j.updates.PutPublic(o.ns, w)
	} else {
		j.updates.PutHashed(o.ns, o.coll, w)
	}
	return nil
}

func (j *judge) pending(o *txOp) *state.Write {
	if o.coll == "" {
		return j.updates.Public(o.ns).Get(o.key)
	}
	return j.updates.Hashed(o.ns, o.coll).Get(o.key)
}

func (j *judge) committed(o *txOp) (*state.Value, error) {
	if o.coll == "" {
		return j.State.Get(o.ns, o.key)
	}
	return j.State.Get(j.hashedNamespace(o.ns, o.coll), o.key)
}

// latestMetadata is the metadata that a key keeps when only its value is
// written.
func (j *judge) latestMetadata(o *txOp) ([]byte, error) {
	if w := j.pending(o); w != nil {
		return w.Metadata, nil // a pending delete has none
	}
	if j.MetadataUsed != nil && !j.MetadataUsed(o.ns) {
		return nil, nil
	}
	v, err := j.committed(o)
	if err != nil || v == nil {
		return nil, err
	}
	return v.Metadata, nil
}

// latestValue is the value that a key keeps when only its metadata are written.
// A key deleted earlier in the block counts as absent (LEDGER §12.5).
func (j *judge) latestValue(o *txOp) ([]byte, bool, error) {
	if w := j.pending(o); w != nil {
		return w.Value, !w.Delete, nil
	}
	v, err := j.committed(o)
	if err != nil || v == nil {
		return nil, false, err
	}
	return v.Value, true, nil
}
