package leveldb

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/VictoriaMetrics/fastcache"

	"github.com/heddle-ledger/heddle/ledger/state"
)

func testVersions(t *testing.T, size int) *versions {
	v := newVersions(size)
	t.Cleanup(v.forget)
	return v
}

// TestVersionsAgainstModel: whatever the cache still knows is what was written
// last.
func TestVersionsAgainstModel(t *testing.T) {
	t.Parallel()
	const size = 32 << 20 // the least that the cache can be bounded to
	v := testVersions(t, size)
	rnd := rand.New(rand.NewPCG(3, 4))
	model := map[string]state.Version{}
	known := 0
	for n := range 200_000 {
		ns, key := "cc", fmt.Sprintf("key-%d", rnd.IntN(60_000))
		switch rnd.IntN(10) {
		case 0, 1, 2, 3, 4:
			b := state.NewBatch()
			model[key] = state.Version{Block: uint64(n), Tx: uint64(rnd.IntN(1000))}
			b.Put(ns, state.Write{Key: key, Version: model[key]})
			v.apply("ch", b)
		case 5:
			b := state.NewBatch()
			delete(model, key)
			b.Put(ns, state.Write{Key: key, Delete: true})
			v.apply("ch", b)
		default:
			l := []state.Lookup{{Namespace: ns, Key: key}}
			rest, epoch := v.lookUp("ch", l)
			want, ok := model[key]
			if l[0].Found && (!ok || l[0].Version != want) {
				t.Fatalf("step %d: version of %s is %v, want %v %v", n, key, l[0].Version, want, ok)
			}
			if l[0].Found {
				known++
			} else if len(rest) != 1 {
				t.Fatalf("places not answered: %v", rest)
			}
			l[0].Version, l[0].Found = want, ok
			v.note("ch", l, epoch)
		}
	}
	if known < 20_000 {
		t.Errorf("only %d versions were known", known)
	}
}

// TestVersionsDoNotMix: the same key of other channels and namespaces is another
// key.
func TestVersionsDoNotMix(t *testing.T) {
	t.Parallel()
	v := testVersions(t, versionBytes)
	b := state.NewBatch()
	b.Put("cc", state.Write{Key: "k", Version: state.Version{Block: 1}})
	v.apply("ch", b)
	for _, l := range []struct{ channel, ns, key string }{{"ch2", "cc", "k"}, {"ch", "cc2", "k"}, {"ch", "cc", "k2"}, {"c", "h", "cc\x00k"}} {
		lookup := []state.Lookup{{Namespace: l.ns, Key: l.key}}
		if v.lookUp(l.channel, lookup); lookup[0].Found {
			t.Errorf("%v was found", l)
		}
	}
}

// TestVersionsAreBounded: whatever is put in, the cache keeps its size; a name
// that is too long is not remembered.
func TestVersionsAreBounded(t *testing.T) {
	t.Parallel()
	const size = 32 << 20
	v := testVersions(t, size)
	name := make([]byte, 60<<10)
	for n := range 4 * size / len(name) {
		v.put(binary.LittleEndian.AppendUint64(name[:len(name)-8], uint64(n)), state.Version{Block: 1})
	}
	var stats fastcache.Stats
	v.cache.UpdateStats(&stats)
	if stats.BytesSize > size {
		t.Errorf("%d bytes are taken", stats.BytesSize)
	}
	long := make([]byte, 1<<20)
	v.put(long, state.Version{Block: 1})
	if _, ok := v.get(long); ok {
		t.Error("a name of a mebibyte is remembered")
	}
}

// TestVersionsReadBeforeAChange are not taken in after it.
func TestVersionsReadBeforeAChange(t *testing.T) {
	t.Parallel()
	v := testVersions(t, versionBytes)
	old := []state.Lookup{{Namespace: "cc", Key: "k", Version: state.Version{Block: 1}, Found: true}}
	_, epoch := v.lookUp("ch", []state.Lookup{{Namespace: "cc", Key: "k"}})
	b := state.NewBatch()
	b.Put("cc", state.Write{Key: "k", Delete: true})
	v.apply("ch", b)
	v.note("ch", old, epoch)
	lookup := []state.Lookup{{Namespace: "cc", Key: "k"}}
	if v.lookUp("ch", lookup); lookup[0].Found {
		t.Error("a version is known that was read before the key was deleted")
	}
}
