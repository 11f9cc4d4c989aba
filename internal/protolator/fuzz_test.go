package protolator_test

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/heddle-ledger/heddle/internal/protolator"
)

// FuzzDecode feeds arbitrary bytes; what decodes must, once encoded again, stay
// as it is. (The first round may lose something: unknown fields are dropped, so
// that opaque bytes may become empty.)
func FuzzDecode(f *testing.F) {
	for _, v := range vectors(f) {
		if v.Op == "decode" {
			f.Add(v.Type, v.InputB64)
		}
	}
	f.Fuzz(func(t *testing.T, name string, raw []byte) {
		typ, ok := protolator.Lookup(name)
		if !ok {
			return
		}
		texts := make([]string, 3)
		for i := range texts {
			var err error
			if texts[i], err = toJSON(typ, raw); err != nil {
				if i > 0 {
					t.Fatalf("decode after encode: %v", err)
				}
				return
			}
			if raw, err = fromJSON(typ, texts[i]); err != nil {
				return // some values have no JSON form that is accepted, such as years above 9999
			}
		}
		if texts[1] != texts[2] {
			t.Fatalf("\n got %s\nwant %s", texts[2], texts[1])
		}
	})
}

// FuzzEncode feeds arbitrary JSON; what encodes must decode.
func FuzzEncode(f *testing.F) {
	for _, v := range vectors(f) {
		if v.Op == "encode" {
			f.Add(v.Type, v.Input)
		}
	}
	f.Fuzz(func(t *testing.T, name, text string) {
		typ, ok := protolator.Lookup(name)
		if !ok {
			return
		}
		m, err := typ.ReadJSON(strings.NewReader(text))
		if err != nil {
			return
		}
		raw, err := m.Marshal()
		if err != nil {
			return
		}
		if _, err := typ.Unmarshal(raw); err != nil {
			t.Fatalf("own encoding %x does not parse: %v", raw, err)
		}
	})
}

func BenchmarkDecodeGenesisBlock(b *testing.B) {
	raw, typ := unzip(b, "genesis_kafka.block"), typeOf(b, "common.Block")
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		m, err := typ.Unmarshal(raw)
		if err != nil {
			b.Fatal(err)
		}
		if err := m.WriteJSON(io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncodeGenesisBlock(b *testing.B) {
	text, typ := unzip(b, "genesis_kafka.json"), typeOf(b, "common.Block")
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		m, err := typ.ReadJSON(bytes.NewReader(text))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := m.Marshal(); err != nil {
			b.Fatal(err)
		}
	}
}
