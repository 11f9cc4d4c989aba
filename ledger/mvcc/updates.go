package mvcc

import (
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/heddle-ledger/heddle/ledger/kv"
	"github.com/heddle-ledger/heddle/ledger/state"
)

// Updates are the writes of a block's valid transactions. They are one batch
// for the state database and remember which of its namespaces are public ones
// and which belong to collections.
type Updates struct {
	Batch  *state.Batch
	public map[string]*state.Space
	colls  map[Collection]*state.Space // hashed
	expect int                         // room made for keys in a new namespace
}

// Collection names one private data collection of a chaincode.
type Collection struct {
	Namespace, Name string
}

// NewUpdates returns empty updates, with room for so many keys per namespace.
func NewUpdates(expect int) *Updates {
	return &Updates{
		Batch:  state.NewBatch(),
		public: map[string]*state.Space{},
		colls:  map[Collection]*state.Space{},
		expect: expect,
	}
}

// Public is the pending writes of a chaincode's public keys; nil if there are
// none.
func (u *Updates) Public(ns string) *state.Space { return u.public[ns] }

// Hashed is the pending writes of a collection's hashed keys; nil if there are
// none.
func (u *Updates) Hashed(ns, coll string) *state.Space { return u.colls[Collection{ns, coll}] }

// Private is the pending writes of a collection's plain keys; nil if there are
// none.
func (u *Updates) Private(ns, coll string) *state.Space {
	return u.Batch.Space(state.PrivateNamespace(ns, coll))
}

// Namespaces are the public namespaces with pending writes, sorted.
func (u *Updates) Namespaces() []string { return slices.Sorted(maps.Keys(u.public)) }

// Collections are the collections with pending hashed writes, sorted.
func (u *Updates) Collections() []Collection {
	out := slices.Collect(maps.Keys(u.colls))
	slices.SortFunc(out, compareCollections)
	return out
}

func compareCollections(a, b Collection) int {
	if a.Namespace != b.Namespace {
		if a.Namespace < b.Namespace {
			return -1
		}
		return 1
	}
	if a.Name < b.Name {
		return -1
	}
	if a.Name > b.Name {
		return 1
	}
	return 0
}

// PutPublic adds the write of a public key.
func (u *Updates) PutPublic(ns string, w state.Write) {
	s := u.public[ns]
	if s == nil {
		s = u.Batch.Ensure(ns, u.expect)
		u.public[ns] = s
	}
	s.Put(w)
}

// PutHashed adds the write of a collection's hashed key.
func (u *Updates) PutHashed(ns, coll string, w state.Write) {
	c := Collection{ns, coll}
	s := u.colls[c]
	if s == nil {
		s = u.Batch.Ensure(state.HashedNamespace(ns, coll), u.expect)
		u.colls[c] = s
	}
	s.Put(w)
}

// PutPrivate adds the write of a collection's plain key.
func (u *Updates) PutPrivate(ns, coll string, w state.Write) {
	u.Batch.Put(state.PrivateNamespace(ns, coll), w)
}

// CommitHash is the hash that chains the outcomes of blocks (LEDGER §13): over
// the final codes, the updates before any purge and without plain private
// values, and the previous hash.
func (u *Updates) CommitHash(flags, previous []byte) []byte {
	buf := binary.AppendUvarint(make([]byte, 0, 64*u.Batch.Len()+len(flags)+64), uint64(len(flags)))
	buf = append(buf, flags...)
	buf = u.AppendBytes(buf)
	buf = append(buf, previous...)
	h := sha256.Sum256(buf)
	return h[:]
}

// AppendBytes appends the form of the updates that enters the commit hash: a
// marshalled KVWritesBatchProto (LEDGER §13.3, §22).
func (u *Updates) AppendBytes(out []byte) []byte {
	colls := u.Collections()
	for _, ns := range u.allNamespaces(colls) {
		if ns == "" {
			continue
		}
		label := ns // on the first entry of the namespace only
		for _, w := range u.public[ns].Sorted() {
			out = appendUpdate(out, label, "", &w)
			label = ""
		}
		for _, c := range colls {
			if c.Namespace != ns {
				continue
			}
			collLabel := c.Name
			for _, w := range u.colls[c].Sorted() {
				out = appendUpdate(out, label, collLabel, &w)
				label, collLabel = "", ""
			}
		}
	}
	return out
}

func (u *Updates) allNamespaces(colls []Collection) []string {
	names := slices.Collect(maps.Keys(u.public))
	for _, c := range colls {
		names = append(names, c.Namespace)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// appendUpdate appends one KVWriteProto as an element of the batch message.
func appendUpdate(out []byte, ns, coll string, w *state.Write) []byte {
	var version [18]byte
	height := kv.AppendHeight(version[:0], kv.Height(w.Version))
	value := w.Value
	if w.Delete {
		value = nil
	}
	n := sizeField(len(ns)) + sizeField(len(coll)) + sizeField(len(w.Key)) + sizeField(len(value)) + sizeField(len(height))
	if w.Delete {
		n += 2
	}
	out = append(out, 1<<3|byte(protowire.BytesType))
	out = binary.AppendUvarint(out, uint64(n))
	out = appendField(out, 1, ns)
	out = appendField(out, 2, coll)
	out = appendField(out, 3, w.Key)
	if w.Delete {
		out = append(out, 4<<3, 1)
	}
	out = appendField(out, 5, value)
	return appendField(out, 6, height)
}

func sizeField(n int) int {
	if n == 0 {
		return 0
	}
	return 1 + protowire.SizeBytes(n)
}

func appendField[T string | []byte](out []byte, num byte, v T) []byte {
	if len(v) == 0 {
		return out
	}
	out = append(out, num<<3|byte(protowire.BytesType))
	out = binary.AppendUvarint(out, uint64(len(v)))
	return append(out, v...)
}
