package leveldb

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/ledger/kv"
	"github.com/heddle-ledger/heddle/ledger/state"
	"github.com/heddle-ledger/heddle/ledger/state/statetest"
)

func TestConformance(t *testing.T) {
	statetest.Run(t, func(t *testing.T) statetest.Open {
		fs := vfs.NewMem()
		return func(t *testing.T) state.Provider {
			p, err := OpenProvider(Config{Dir: "/state", FS: fs})
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
	})
}

func TestStoredForm(t *testing.T) {
	for _, c := range []struct {
		raw, value, metadata string
		version              state.Version
	}{
		{"000a0301050012027631", "v1", "", state.Version{Block: 5}},           // 00, proto
		{"0105010276", "v", "", state.Version{Block: 5, Tx: 2}},               // old: height, value
		{"0000636667", "cfg", "", state.Version{}},                            // old, genesis
		{"0105010a", "", "", state.Version{Block: 5, Tx: 10}},                 // old, empty value
		{"000a02000012016b1a021200", "k", "1200", state.Version{}},            // new, 0:0
		{"000a0401050107", "", "", state.Version{Block: 5, Tx: 7}},            // new, empty value
		{"000a0401050107280112017a", "z", "", state.Version{Block: 5, Tx: 7}}, // unknown field
	} {
		raw, err := hex.DecodeString(c.raw)
		if err != nil {
			t.Fatal(err)
		}
		v, err := decodeValue(raw)
		if err != nil {
			t.Errorf("%s: %v", c.raw, err)
			continue
		}
		if string(v.Value) != c.value || v.Value == nil || hex.EncodeToString(v.Metadata) != c.metadata || v.Version != c.version {
			t.Errorf("%s: got %q %x %v", c.raw, v.Value, v.Metadata, v.Version)
		}
		if ver, err := decodeVersion(raw); err != nil || ver != c.version {
			t.Errorf("%s: version %v, %v", c.raw, ver, err)
		}
	}
	got := appendValue(nil, state.Version{Block: 5}, []byte("v1"), nil)
	if hex.EncodeToString(got) != "000a0301050012027631" {
		t.Errorf("encoded %x", got)
	}
}

func TestNoRichQueries(t *testing.T) {
	var r reader
	if _, err := r.Query("cc", state.Query{Text: "{}"}); !errors.Is(err, state.ErrQuery) {
		t.Error(err)
	}
	if _, err := r.Query("cc", state.Query{Text: "{}", Paged: true}); !errors.Is(err, state.ErrQueryPaged) {
		t.Error(err)
	}
}

func FuzzDecodeValue(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0})
	f.Add(appendValue(nil, state.Version{Block: 300, Tx: 2}, []byte("value"), []byte("md")))
	f.Add([]byte{1, 5, 1, 2, 'v'})
	f.Add(append([]byte{0}, protowire.AppendTag(nil, 1, protowire.VarintType)...))
	f.Fuzz(func(t *testing.T, raw []byte) {
		v, err := decodeValue(raw)
		ver, verr := decodeVersion(raw)
		if err == nil && (verr != nil || ver != v.Version) {
			t.Fatalf("value at %v, version %v, %v", v.Version, ver, verr)
		}
		if err != nil {
			return
		}
		// Written anew, and in the old form where there is one, it is the same.
		back, err := decodeValue(appendValue(nil, v.Version, v.Value, v.Metadata))
		if err != nil || back.Version != v.Version || !bytes.Equal(back.Value, v.Value) || !bytes.Equal(back.Metadata, v.Metadata) {
			t.Fatalf("%v came back as %v, %v", v, back, err)
		}
		if old := append(kv.AppendHeight(nil, kv.Height(v.Version)), v.Value...); isOld(old) {
			if back, err := decodeValue(old); err != nil || back.Version != v.Version || !bytes.Equal(back.Value, v.Value) {
				t.Fatalf("%v came back from the old form as %v, %v", v, back, err)
			}
		}
	})
}

// TestVersionScan gives what ranges give, without the values.
func TestVersionScan(t *testing.T) {
	t.Parallel()
	p, err := OpenProvider(Config{Dir: "/state", FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	db, err := p.Open("ch")
	if err != nil {
		t.Fatal(err)
	}
	b := state.NewBatch()
	for i, key := range []string{"", "a", "a\x00b", "b", "c"} {
		b.Put("cc", state.Write{Key: key, Value: []byte(key), Version: state.Version{Block: 7, Tx: uint64(i)}})
		b.Put("cc2", state.Write{Key: key, Version: state.Version{Block: 8}})
		b.Put("c", state.Write{Key: key, Version: state.Version{Block: 9}})
	}
	if err := db.Apply(b, &state.Version{Block: 9}, false); err != nil {
		t.Fatal(err)
	}
	scan := db.(state.VersionScanner).VersionScan("cc")
	defer scan.Close()
	for _, start := range []string{"b", "", "a", "a\x00a", "d", "a", "\xff"} {
		it, err := db.Range("cc", start, "", 0)
		if err != nil {
			t.Fatal(err)
		}
		scan.Seek(start)
		for {
			want, err := it.Next()
			if err != nil {
				t.Fatal(err)
			}
			key, version, ok, err := scan.Next()
			if err != nil {
				t.Fatal(err)
			}
			if ok != (want != nil) || ok && (key != want.Key || version != want.Version) {
				t.Fatalf("from %q: %q %v %v, want %v", start, key, version, ok, want)
			}
			if !ok {
				break
			}
		}
		it.Close()
	}
}
