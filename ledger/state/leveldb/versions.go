package leveldb

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"sync"

	"github.com/heddle-ledger/heddle/ledger/state"
)

// versionBytes bounds the cache of versions of a peer. A key takes some 25 bytes
// more than its name with those of namespace and channel: if they are 25 bytes
// together, there is room for two million.
const versionBytes = 96 << 20

// versions remembers the versions of the keys that were written or looked up
// last, of all channels. Version checks ask for each key that a transaction read,
// and a search for it costs the more, the more keys there are.
//
// Entries live in two generations: new ones, and those asked for, go into the
// young one, and when that is full, it takes the place of the old one, which is
// forgotten. The garbage collector finds no pointers to follow.
type versions struct {
	seed maphash.Seed
	half int // bytes that one generation may take

	mu         sync.Mutex // guards what follows
	young, old *generation
	epoch      uint64 // counts changes of the state
	key        []byte // scratch
}

func newVersions(size int) *versions {
	return &versions{seed: maphash.MakeSeed(), half: size / 2, young: &generation{}, old: &generation{}}
}

// lookUp answers what it can, and returns the places of the other lookups. The
// epoch is for note.
func (v *versions) lookUp(channel string, lookups []state.Lookup) (rest []int, epoch uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for i := range lookups {
		l := &lookups[i]
		if l.Version, l.Found = v.get(v.name(channel, l.Namespace, l.Key)); !l.Found {
			rest = append(rest, i)
		}
	}
	return rest, v.epoch
}

// note takes versions in that were read since lookUp gave the epoch, unless the
// state has changed meanwhile.
func (v *versions) note(channel string, found []state.Lookup, epoch uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.epoch != epoch {
		return
	}
	for i := range found {
		if l := &found[i]; l.Found {
			v.put(v.name(channel, l.Namespace, l.Key), l.Version)
		}
	}
}

// apply takes in what was written.
func (v *versions) apply(channel string, b *state.Batch) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.epoch++
	for _, space := range b.Spaces() {
		writes := space.Sorted()
		for i := range writes {
			w := &writes[i]
			name := v.name(channel, space.Namespace, w.Key)
			if w.Delete {
				v.drop(name)
			} else {
				v.put(name, w.Version)
			}
		}
	}
}

// forget forgets everything.
func (v *versions) forget() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.epoch++
	v.young, v.old = &generation{}, &generation{}
}

// name needs v.mu; the result is valid until the next call.
func (v *versions) name(channel, ns, key string) []byte {
	v.key = append(append(v.key[:0], channel...), 0)
	v.key = appendKey(v.key, ns, key)
	return v.key
}

// The longest name remembered, and the versions that fit.
const (
	maxNameBytes = 255
	txBits       = 24
	txMask       = 1<<txBits - 1
	maxBlock     = 1<<(64-txBits) - 2
)

func storable(name []byte, v state.Version) bool {
	return len(name) <= maxNameBytes && v.Tx <= txMask && v.Block <= maxBlock
}

// The packed form of a version; forgotten is that of none.
const (
	packedBytes = 8
	forgotten   = 1<<64 - 1
)

// get needs v.mu.
func (v *versions) get(name []byte) (version state.Version, ok bool) {
	hash := v.hash(name)
	p := v.young.find(hash, name)
	asked := p == nil
	if asked {
		p = v.old.find(hash, name)
	}
	if p == nil {
		return version, false
	}
	packed := binary.LittleEndian.Uint64(p)
	if packed == forgotten {
		return version, false
	}
	if asked {
		v.insert(hash, name, packed)
	}
	return state.Version{Block: packed >> txBits, Tx: packed & txMask}, true
}

// put needs v.mu.
func (v *versions) put(name []byte, version state.Version) {
	if !storable(name, version) {
		v.drop(name)
		return
	}
	hash, packed := v.hash(name), version.Block<<txBits|version.Tx
	if p := v.young.find(hash, name); p != nil {
		binary.LittleEndian.PutUint64(p, packed)
		return
	}
	v.insert(hash, name, packed)
}

// drop needs v.mu.
func (v *versions) drop(name []byte) {
	hash := v.hash(name)
	for _, g := range []*generation{v.young, v.old} {
		if p := g.find(hash, name); p != nil {
			binary.LittleEndian.PutUint64(p, forgotten)
		}
	}
}

// insert adds a name that the young generation does not have. It needs v.mu.
func (v *versions) insert(hash uint32, name []byte, packed uint64) {
	if v.young.sizeWithMore() > v.half {
		v.young, v.old = v.old, v.young
		v.young.clear()
	}
	v.young.add(hash, name, packed)
}

func (v *versions) hash(name []byte) uint32 { return uint32(maphash.Bytes(v.seed, name)) }

// generation is a hash table with open addressing, whose entries are in chunks:
// length of the name, name, packed version.
type generation struct {
	slots  []uint64 // the hash, and below it the place of the entry plus one
	n      int      // entries
	chunks [][]byte // the last ones are empty, after clear
	used   int      // chunks that are not
}

const (
	chunkBytes = 256 << 10
	firstSlots = 1 << 10
)

// find returns the packed version of a name, nil if it is not there.
func (g *generation) find(hash uint32, name []byte) []byte {
	if g.n == 0 || len(name) > maxNameBytes {
		return nil
	}
	mask := uint32(len(g.slots) - 1)
	for i := hash & mask; g.slots[i] != 0; i = (i + 1) & mask {
		if uint32(g.slots[i]>>32) != hash {
			continue
		}
		at := uint32(g.slots[i]) - 1
		e := g.chunks[at/chunkBytes][at%chunkBytes:]
		if n := int(e[0]); bytes.Equal(e[1:1+n], name) {
			return e[1+n : 1+n+packedBytes]
		}
	}
	return nil
}

// crowded tells whether the slots have to be doubled for another entry.
func (g *generation) crowded() bool { return 4*(g.n+1) > 3*len(g.slots) }

// sizeWithMore bounds the bytes that the generation takes with another entry.
func (g *generation) sizeWithMore() int {
	slots, chunks := len(g.slots), len(g.chunks)
	if g.crowded() {
		slots = max(2*slots, firstSlots)
	}
	if g.used == chunks {
		chunks++
	}
	return 8*slots + chunkBytes*chunks
}

func (g *generation) add(hash uint32, name []byte, packed uint64) {
	if g.crowded() {
		g.grow()
	}
	if g.used == 0 || len(g.chunks[g.used-1])+1+len(name)+packedBytes > chunkBytes {
		if g.used == len(g.chunks) {
			g.chunks = append(g.chunks, make([]byte, 0, chunkBytes))
		}
		g.used++
	}
	last := &g.chunks[g.used-1]
	g.place(hash, uint32((g.used-1)*chunkBytes+len(*last)))
	*last = append(append(*last, byte(len(name))), name...)
	*last = binary.LittleEndian.AppendUint64(*last, packed)
	g.n++
}

func (g *generation) place(hash, at uint32) {
	mask := uint32(len(g.slots) - 1)
	i := hash & mask
	for g.slots[i] != 0 {
		i = (i + 1) & mask
	}
	g.slots[i] = uint64(hash)<<32 | uint64(at+1)
}

func (g *generation) grow() {
	before := g.slots
	g.slots = make([]uint64, max(2*len(before), firstSlots))
	for _, s := range before {
		if s != 0 {
			g.place(uint32(s>>32), uint32(s)-1)
		}
	}
}

// clear empties the generation and keeps its memory.
func (g *generation) clear() {
	clear(g.slots)
	for i := range g.chunks {
		g.chunks[i] = g.chunks[i][:0]
	}
	g.n, g.used = 0, 0
}
