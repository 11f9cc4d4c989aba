package leveldb

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/heddle-ledger/heddle/ledger/state"
)

// TestVersionsAgainstModel: whatever a small cache still knows is what was
// written last, and it stays within its bound.
func TestVersionsAgainstModel(t *testing.T) {
	t.Parallel()
	const half = 4*chunkBytes + 8*(16<<10)
	v := newVersions(2 * half)
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
		if size := 8*len(v.young.slots) + chunkBytes*len(v.young.chunks); size > half {
			t.Fatalf("a generation takes %d bytes", size)
		}
	}
	if known < 20_000 {
		t.Errorf("only %d versions were known", known)
	}
	if v.old.n == 0 {
		t.Error("the cache never was full")
	}
}

// TestVersionsDoNotMix: the same key of other channels and namespaces is another
// key.
func TestVersionsDoNotMix(t *testing.T) {
	t.Parallel()
	v := newVersions(versionBytes)
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

// TestVersionsThatDoNotFit are not remembered, nor are older ones in their place.
func TestVersionsThatDoNotFit(t *testing.T) {
	t.Parallel()
	v := newVersions(versionBytes)
	for _, w := range []state.Write{
		{Key: "k", Version: state.Version{Block: maxBlock + 1}},
		{Key: "k", Version: state.Version{Block: 1, Tx: txMask + 1}},
		{Key: strings.Repeat("k", maxNameBytes), Version: state.Version{Block: 1}},
	} {
		for _, version := range []state.Version{{Block: 1}, w.Version} {
			b := state.NewBatch()
			b.Put("cc", state.Write{Key: w.Key, Version: version})
			v.apply("ch", b)
		}
		lookup := []state.Lookup{{Namespace: "cc", Key: w.Key}}
		if v.lookUp("ch", lookup); lookup[0].Found {
			t.Errorf("%.10s: version %v was found", w.Key, lookup[0].Version)
		}
	}
	for _, version := range []state.Version{{Block: maxBlock, Tx: txMask}, {}} {
		b := state.NewBatch()
		b.Put("cc", state.Write{Key: "k", Version: version})
		v.apply("ch", b)
		lookup := []state.Lookup{{Namespace: "cc", Key: "k"}}
		if v.lookUp("ch", lookup); !lookup[0].Found || lookup[0].Version != version {
			t.Errorf("version %v came back as %v, %v", version, lookup[0].Version, lookup[0].Found)
		}
	}
}

// TestVersionsReadBeforeAChange are not taken in after it.
func TestVersionsReadBeforeAChange(t *testing.T) {
	t.Parallel()
	v := newVersions(versionBytes)
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
