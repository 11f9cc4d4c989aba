package mvcc

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"iter"
	"maps"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/heddle-ledger/heddle/ledger/kv"
	"github.com/heddle-ledger/heddle/ledger/state"
)

// Updates are the writes of a block's valid transactions, kept apart by what
// they are: public ones, hashed ones and plain ones of collections. A made-up
// public namespace may have the name under which the state keeps those of a
// collection; such writes meet in Batch only, never in a judgement or in the
// commit hash.
type Updates struct {
	public  map[string]*state.Space
	colls   map[Collection]*state.Space // hashed
	private map[Collection]*state.Space
	expect  int // room made for keys in a new namespace
	roomy   int // how many namespaces were given that room
}

// maxRoomy bounds the namespaces and collections for which room is made ahead. A
// block with many keys may have one transaction with a great many collections,
// each with a key or two: together they would take their product.
const maxRoomy = 8

// room is how many keys to expect in a new namespace.
func (u *Updates) room() int {
	if u.roomy == maxRoomy {
		return 0
	}
	u.roomy++
	return u.expect
}

// Collection names one private data collection of a chaincode.
type Collection struct {
	Namespace, Name string
}

// NewUpdates returns empty updates. So many keys are expected in a namespace, and
// room is made for them in the first few.
func NewUpdates(expect int) *Updates {
	return &Updates{
		public:  map[string]*state.Space{},
		colls:   map[Collection]*state.Space{},
		private: map[Collection]*state.Space{},
		expect:  expect,
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
func (u *Updates) Private(ns, coll string) *state.Space { return u.private[Collection{ns, coll}] }

// Batch joins everything for the state database. Where names meet, plain writes
// of collections count more than public ones, and hashed ones more than both. It
// shares the updates, so it is made last.
func (u *Updates) Batch() *state.Batch {
	b := state.NewBatch()
	for _, s := range u.public {
		b.Join(s)
	}
	for _, colls := range []map[Collection]*state.Space{u.private, u.colls} {
		for _, c := range sortedCollections(maps.Keys(colls)) {
			b.Join(colls[c])
		}
	}
	return b
}

// Namespaces are the public namespaces with pending writes, sorted.
func (u *Updates) Namespaces() []string { return slices.Sorted(maps.Keys(u.public)) }

// Collections are the collections with pending hashed writes, sorted.
func (u *Updates) Collections() []Collection { return sortedCollections(maps.Keys(u.colls)) }

// AllCollections are the collections with pending hashed or plain writes,
// sorted.
func (u *Updates) AllCollections() []Collection {
	all := sortedCollections(func(yield func(Collection) bool) {
		for c := range u.colls {
			if !yield(c) {
				return
			}
		}
		for c := range u.private {
			if !yield(c) {
				return
			}
		}
	})
	return slices.Compact(all)
}

func sortedCollections(all iter.Seq[Collection]) []Collection {
	return slices.SortedFunc(all, compareCollections)
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
		s = state.NewSpace(ns, u.room())
		u.public[ns] = s
	}
	s.Put(w)
}

// PutHashed adds the write of a collection's hashed key.
func (u *Updates) PutHashed(ns, coll string, w state.Write) {
	c := Collection{ns, coll}
	s := u.colls[c]
	if s == nil {
		s = state.NewSpace(state.HashedNamespace(ns, coll), u.room())
		u.colls[c] = s
	}
	s.Put(w)
}

// PutPrivate adds the write of a collection's plain key.
func (u *Updates) PutPrivate(ns, coll string, w state.Write) {
	c := Collection{ns, coll}
	s := u.private[c]
	if s == nil {
		s = state.NewSpace(state.PrivateNamespace(ns, coll), 0)
		u.private[c] = s
	}
	s.Put(w)
}

// CommitHash is the hash that chains the outcomes of blocks (LEDGER §13): over
// the final codes, the updates before any purge and without plain private
// values, and the previous hash.
func (u *Updates) CommitHash(flags, previous []byte) []byte {
	h := u.CommitDigest(flags)
	h.Write(previous)
	return h.Sum(nil)
}

// CommitDigest is the commit hash as far as it does not take the previous one,
// which enters it last.
func (u *Updates) CommitDigest(flags []byte) hash.Hash {
	buf := binary.AppendUvarint(make([]byte, 0, u.maxBytes()+len(flags)+binary.MaxVarintLen64), uint64(len(flags)))
	buf = append(buf, flags...)
	h := sha256.New()
	h.Write(u.AppendBytes(buf))
	return h
}

// maxBytes bounds the length of what AppendBytes appends.
func (u *Updates) maxBytes() int {
	n := 0
	for _, s := range u.public {
		n += maxUpdateBytes(s.Namespace, s)
	}
	for c, s := range u.colls {
		n += maxUpdateBytes(c.Namespace+c.Name, s)
	}
	return n
}

func maxUpdateBytes(labels string, s *state.Space) int {
	const perWrite = 64 // tags, lengths and version
	n := perWrite + len(labels)
	writes := s.Sorted()
	for i := range writes {
		n += len(writes[i].Key) + len(writes[i].Value) + perWrite
	}
	return n
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
		writes := u.public[ns].Sorted()
		for i := range writes {
			out = appendUpdate(out, label, "", &writes[i])
			label = ""
		}
		for _, c := range colls {
			if c.Namespace != ns {
				continue
			}
			collLabel := c.Name
			writes := u.colls[c].Sorted()
			for i := range writes {
				out = appendUpdate(out, label, collLabel, &writes[i])
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
