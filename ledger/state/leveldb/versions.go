package leveldb

import (
	"encoding/binary"
	"sync"

	"github.com/VictoriaMetrics/fastcache"

	"github.com/heddle-ledger/heddle/ledger/state"
)

// versionBytes bounds the cache of versions of a peer, which lies outside the
// garbage collector's heap. A key takes some 50 bytes more than its name with
// those of namespace and channel, so that there is room for a million.
const versionBytes = 96 << 20

// versions remembers the versions of the keys that were written or looked up
// last, of all channels. Version checks ask for each key that a transaction read,
// and a search for it costs the more, the more keys there are.
type versions struct {
	mu    sync.Mutex // guards what follows
	cache *fastcache.Cache
	epoch uint64 // counts changes of the state
	key   []byte // scratch
	value []byte // scratch
}

func newVersions(size int) *versions { return &versions{cache: fastcache.New(size)} }

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
				v.cache.Del(name)
			} else {
				v.put(name, w.Version)
			}
		}
	}
}

// forget forgets everything and gives the memory back.
func (v *versions) forget() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.epoch++
	v.cache.Reset()
}

// name needs v.mu; the result is valid until the next call.
func (v *versions) name(channel, ns, key string) []byte {
	v.key = append(append(v.key[:0], channel...), 0)
	v.key = appendKey(v.key, ns, key)
	return v.key
}

// get needs v.mu.
func (v *versions) get(name []byte) (version state.Version, ok bool) {
	v.value = v.cache.Get(v.value[:0], name)
	if len(v.value) != 16 {
		return version, false
	}
	return state.Version{Block: binary.LittleEndian.Uint64(v.value), Tx: binary.LittleEndian.Uint64(v.value[8:])}, true
}

// put needs v.mu. A name too long for the cache never gets in.
func (v *versions) put(name []byte, version state.Version) {
	v.value = binary.LittleEndian.AppendUint64(v.value[:0], version.Block)
	v.value = binary.LittleEndian.AppendUint64(v.value, version.Tx)
	v.cache.Set(name, v.value)
}
