package statetest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heddle-ledger/heddle/ledger/state"
)

// strangeKeys are allowed everywhere, but there are servers beside CouchDB that
// do not tell rareKeys from numbers or do not find them in ranges.
var strangeKeys = []string{
	"\x00cat\x00a\x00", "\x00cat\x00b\x00", "\x00dog\x00\U0010ffff\x00", " ", "!", "%2F", "+", ".", "..", "/", "A", "Z",
	"^", "`", "a", "a b", "a/b+c d", "a?b#c&d=e", "a\tb\n", "a\"b\\c", "a<b>", "a_", "aa", "z", "~version", "\x7f", "é",
}

var rareKeys = []string{"0", "1.5", "null", "\ufffd", "\uffff", "😀"}

func keys(t *testing.T, o Open) {
	db := open(t, o, "ch")
	checkKeys(t, db, strangeKeys)
	if diff := cmp.Diff(slices.Sorted(slices.Values(strangeKeys))[:2], scan(t, db, "cc", "\x00cat\x00", "\x00cat\x00\U0010ffff")); diff != "" {
		t.Error(diff)
	}
}

func moreKeys(t *testing.T, o Open) {
	checkKeys(t, open(t, o, "ch"), slices.Concat(strangeKeys, rareKeys))
}

func checkKeys(t *testing.T, db state.DB, all []string) {
	t.Helper()
	b := state.NewBatch()
	for i, k := range all {
		b.Put("cc", state.Write{Key: k, Value: fmt.Appendf(nil, "value %d", i), Version: state.Version{Block: 1, Tx: uint64(i)}})
	}
	if err := db.Apply(b, &state.Version{Block: 1}, false); err != nil {
		t.Fatal(err)
	}
	lookups := make([]state.Lookup, len(all))
	for i, k := range all {
		if err := db.CheckWrite(k, []byte("v")); err != nil {
			t.Errorf("key %q: %v", k, err)
		}
		expect(t, db, "cc", k, fmt.Sprintf("value %d@1:%d", i, i))
		lookups[i] = state.Lookup{Namespace: "cc", Key: k}
	}
	if err := db.Versions(lookups); err != nil {
		t.Fatal(err)
	}
	for i, l := range lookups {
		if !l.Found || l.Version != (state.Version{Block: 1, Tx: uint64(i)}) {
			t.Errorf("key %q: %+v", l.Key, l)
		}
	}
	want := slices.Sorted(slices.Values(all))
	if diff := cmp.Diff(want, scan(t, db, "cc", "", "")); diff != "" {
		t.Error(diff)
	}
	for i, k := range want {
		end := ""
		if i+1 < len(want) {
			end = want[i+1]
		}
		if diff := cmp.Diff([]string{k}, scan(t, db, "cc", k, end)); diff != "" {
			t.Errorf("[%q, %q): %s", k, end, diff)
		}
	}
}

// namespaces must not run into each other, whatever their names.
func namespaces(t *testing.T, o Open) {
	db := open(t, o, "ch")
	hash := "\xff\x00\x80 a hash of thirty-two bytes"
	spaces := []string{"cc", "CC", "cc_", "cc_x", "Cc-X", "", state.PrivateNamespace("cc", "Coll"), state.PrivateNamespace("cc", "coll")}
	b := state.NewBatch()
	for i, ns := range spaces {
		put(ns, "k", fmt.Sprintf("v%d", i), 1, uint64(i))(b)
		put(ns, "only"+ns, "v", 1, 0)(b)
	}
	hashed := state.HashedNamespace("cc", "Coll")
	put(hashed, hash, "h", 1, 9)(b)
	if err := db.Apply(b, &state.Version{Block: 1}, false); err != nil {
		t.Fatal(err)
	}
	for i, ns := range spaces {
		expect(t, db, ns, "k", fmt.Sprintf("v%d@1:%d", i, i))
		if diff := cmp.Diff([]string{"k", "only" + ns}, scan(t, db, ns, "a", "")); diff != "" {
			t.Errorf("namespace %s: %s", ns, diff)
		}
	}
	expect(t, db, hashed, hash, "h@1:9")
	expect(t, db, hashed, "k", "absent")
	expect(t, db, state.PrivateNamespace("cc", "Coll"), hash, "absent")
	lookups := []state.Lookup{{Namespace: "CC", Key: "k"}, {Namespace: hashed, Key: hash}, {Namespace: "cc", Key: "none"}, {Namespace: "cc_x", Key: "k"}}
	if err := db.Versions(lookups); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"{BlockNum: 1, TxNum: 1} true", "{BlockNum: 1, TxNum: 9} true", "{BlockNum: 0, TxNum: 0} false", "{BlockNum: 1, TxNum: 3} true"} {
		if got := fmt.Sprint(lookups[i].Version, lookups[i].Found); got != want {
			t.Errorf("%+v: %s", lookups[i], got)
		}
	}
}

func metadata(t *testing.T, o Open) {
	db := open(t, o, "ch")
	write := func(block uint64, value, metadata string, isDelete bool) {
		t.Helper()
		b := state.NewBatch()
		b.Put("cc", state.Write{
			Key: "k", Value: []byte(value), Metadata: []byte(metadata), Delete: isDelete, Version: state.Version{Block: block},
		})
		if err := db.Apply(b, &state.Version{Block: block}, false); err != nil {
			t.Fatal(err)
		}
	}
	check := func(want string) {
		t.Helper()
		v, err := db.Get("cc", "k")
		if err != nil || v == nil || string(v.Metadata) != want {
			t.Errorf("%+v, %v; metadata should be %q", v, err, want)
		}
	}
	write(1, "v", "\x12\x00some", false)
	check("\x12\x00some")
	write(2, "v", "\xff\x00other", false)
	check("\xff\x00other")
	write(3, "v", "", false)
	check("")
	write(4, "v", "again", false)
	write(5, "", "", true)
	expect(t, db, "cc", "k", "absent")
	write(6, "v", "", false)
	check("")
}

// jsonValues may be kept in another form, but as the same JSON; these are in the
// form that does not change.
func jsonValues(t *testing.T, o Open) {
	db := open(t, o, "ch")
	values := []string{
		`{}`, `{"a":1}`, `{"a":{"b":[1,"x",null,true]},"c":-0.5}`, `{"n":12345678}`, `[]`, `null`, `"text"`, `1`,
		`{"a":1`, `{"a":1}}`, "\xff{}", `{"VERSION":"\u003c\u0026"}`, `{"~VERSION":"x","é":"😀"}`, `{"a":1e999}`, " [1] ", "{'a':1}",
	}
	b := state.NewBatch()
	for i, v := range values {
		put("cc", fmt.Sprintf("k%02d", i), v, 1, uint64(i))(b)
	}
	if err := db.Apply(b, &state.Version{Block: 1}, false); err != nil {
		t.Fatal(err)
	}
	for i, v := range values {
		expect(t, db, "cc", fmt.Sprintf("k%02d", i), fmt.Sprintf("%s@1:%d", v, i))
	}
	// The kind of a value may change.
	apply(t, db, 2, put("cc", "k00", "text", 2, 0), put("cc", "k04", `{"now":"object"}`, 2, 1))
	expect(t, db, "cc", "k00", "text@2:0")
	expect(t, db, "cc", "k04", `{"now":"object"}@2:1`)
}

// repeated is a batch that is applied again, as after a crash between the batch
// and what follows it.
func repeated(t *testing.T, o Open) {
	p := o(t)
	db, err := p.Open("ch")
	if err != nil {
		t.Fatal(err)
	}
	apply(t, db, 1, put("cc", "gone", "1", 1, 0), put("cc", "kept", "1", 1, 0))
	second := func(b *state.Batch) {
		put("cc", "kept", "2", 2, 0)(b)
		put("cc", "new", `{"n":2}`, 2, 0)(b)
		b.Put("cc", state.Write{Key: "gone", Delete: true, Version: state.Version{Block: 2}})
	}
	b := state.NewBatch()
	second(b)
	if err := db.Apply(b, nil, false); err != nil {
		t.Fatal(err)
	}
	apply(t, db, 2, second)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	db = open(t, o, "ch")
	apply(t, db, 2, second)
	expect(t, db, "cc", "gone", "absent")
	expect(t, db, "cc", "kept", "2@2:0")
	expect(t, db, "cc", "new", `{"n":2}@2:0`)
	lookups := []state.Lookup{{Namespace: "cc", Key: "gone"}, {Namespace: "cc", Key: "kept"}}
	if err := db.Versions(lookups); err != nil || lookups[0].Found || lookups[1].Version != (state.Version{Block: 2}) {
		t.Errorf("%+v, %v", lookups, err)
	}
}

// versionsFollow: look-ups before and after batches must not see anything old.
func versionsFollow(t *testing.T, o Open) {
	db := open(t, o, "ch")
	for block := uint64(1); block <= 6; block++ {
		lookups := []state.Lookup{{Namespace: "cc", Key: "a"}, {Namespace: "cc", Key: "b"}}
		if err := db.Versions(lookups); err != nil {
			t.Fatal(err)
		}
		if want := block > 1 && block%2 == 0; lookups[0].Found != want {
			t.Errorf("before block %d: %+v", block, lookups[0])
		}
		if lookups[1].Found != (block > 1) || lookups[1].Found && lookups[1].Version.Block != block-1 {
			t.Errorf("before block %d: %+v", block, lookups[1])
		}
		apply(t, db, block, put("cc", "b", fmt.Sprint(block), block, 1), func(b *state.Batch) {
			b.Put("cc", state.Write{Key: "a", Value: []byte("v"), Delete: block%2 == 0, Version: state.Version{Block: block}})
		})
	}
}
