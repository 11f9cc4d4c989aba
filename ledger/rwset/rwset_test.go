package rwset

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset/kvrwset"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/ledger/state"
)

func readJSON(t testing.TB, name string, into any) {
	t.Helper()
	raw, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		t.Fatal(err)
	}
}

func v(block, tx uint64) *state.Version { return &state.Version{Block: block, Tx: tx} }

// rangeOf records a range query with the given raw results.
func rangeOf(b *Builder, ns, start, end string, exhausted bool, results ...state.KV) {
	r := b.OpenRange(ns, start, end)
	for _, kv := range results {
		r.Add(kv.Key, kv.Version)
	}
	if exhausted {
		r.End()
	}
}

var serialisationCases = map[string]func(*Builder){
	"empty": func(*Builder) {},
	"sorting": func(b *Builder) {
		b.Write("ns2", "b", []byte("2"))
		b.Write("ns2", "a", []byte("1"))
		b.Write("ns1", "z", []byte("9"))
		b.Read("ns1", "y", v(1, 2))
		b.Read("ns1", "x", nil)
		b.Read("ns1", "y", v(1, 3))
		b.Write("ns2", "a", []byte("3"))
	},
	"delete-and-empty": func(b *Builder) {
		b.Write("ns", "a", nil)
		b.Write("ns", "b", []byte{})
		b.Write("ns", "c", []byte("x"))
	},
	"metadata": func(b *Builder) {
		b.WriteMetadata("ns", "k", map[string][]byte{"zz": []byte("1"), "aa": []byte("2")})
		b.WriteMetadata("ns", "j", map[string][]byte{})
		b.Read("ns", "0", v(0, 0))
	},
	"range-queries-kept-in-order-and-deduplicated": func(b *Builder) {
		rangeOf(b, "ns", "b", "c", true, state.KV{Key: "b", Value: state.Value{Version: *v(1, 1)}})
		// The vector's second query has an end key although nothing was pulled,
		// which only the reference's own test can make.
		b.space("ns").ranges = append(b.space("ns").ranges, &Range{start: "a", last: "b", merkle: NewMerkle(MaxDegree)})
		rangeOf(b, "ns", "b", "c", true, state.KV{Key: "b", Value: state.Value{Version: *v(1, 9)}})
	},
	"private": func(b *Builder) {
		b.WritePrivate("ns", "c2", "k2", []byte("v2"))
		b.WritePrivate("ns", "c1", "k1", []byte("v1"))
		b.WritePrivate("ns", "c1", "k0", nil)
		b.ReadPrivate("ns", "c1", "r", v(4, 5))
		b.WritePrivateMetadata("ns", "c1", "k1", map[string][]byte{"m": []byte("1")})
		b.ReadPrivate("ns", "c3", "only-read", nil)
		b.Write("ns", "pub", []byte("1"))
	},
	"private-only-metadata": func(b *Builder) {
		b.WritePrivateMetadata("ns", "c1", "k1", map[string][]byte{"m": []byte("1")})
	},
	"hashed-order-is-by-plain-key": func(b *Builder) {
		for i, k := range []string{"a", "b", "c", "d"} {
			b.WritePrivate("ns", "c", k, fmt.Appendf(nil, "%d", i+1))
		}
	},
}

func TestSerialisation(t *testing.T) {
	var cases []struct {
		Name    string `json:"name"`
		Public  string `json:"public_rwset_hex"`
		Private string `json:"private_rwset_hex"`
	}
	readJSON(t, "rwset_serialisation.json", &cases)
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			record := serialisationCases[c.Name]
			if record == nil {
				t.Fatal("no such case here")
			}
			b := NewBuilder()
			record(b)
			pub, err := b.Public()
			if err != nil {
				t.Fatal(err)
			}
			if got := marshalHex(t, pub); got != c.Public {
				t.Errorf("public\n got %s\nwant %s", got, c.Public)
			}
			pvt, err := b.Private()
			if err != nil {
				t.Fatal(err)
			}
			if pvt == nil {
				if c.Private != "" {
					t.Error("no private set")
				}
				return
			}
			if got := marshalHex(t, pvt); got != c.Private {
				t.Errorf("private\n got %s\nwant %s", got, c.Private)
			}
		})
	}
}

func marshalHex(t *testing.T, m proto.Message) string {
	t.Helper()
	raw, err := marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(raw)
}

func TestMerkle(t *testing.T) {
	var vectors struct {
		Cases []struct {
			MaxDegree uint32 `json:"max_degree"`
			Results   int    `json:"results"`
			RawReads  int    `json:"raw_reads"`
			Summary   string `json:"summary_proto_hex"`
			Raw       string `json:"query_reads_proto_hex"`
		} `json:"cases"`
	}
	readJSON(t, "merkle.json", &vectors)
	for _, c := range vectors.Cases {
		m := NewMerkle(c.MaxDegree)
		r := NewBuilder().OpenRange("ns", "", "")
		for i := range c.Results {
			key, ver := fmt.Sprintf("key_%05d", i), state.Version{Block: uint64(1 + i/1000), Tx: uint64(i % 1000)}
			m.Add(key, ver)
			r.Add(key, ver)
		}
		got := ""
		if s := m.Summary(); s != nil {
			got = marshalHex(t, s)
		}
		if got != c.Summary {
			t.Errorf("degree %d, %d results: got %s, want %s", c.MaxDegree, c.Results, got, c.Summary)
		}
		if c.MaxDegree != 50 { // that of simulations
			continue
		}
		info := r.info()
		if got := info.GetReadsMerkleHashes(); (got != nil) != (c.Summary != "") || got != nil && marshalHex(t, got) != c.Summary {
			t.Errorf("%d results of a simulation: got %v, want %s", c.Results, got, c.Summary)
		}
		if n := len(info.GetRawReads().GetKvReads()); n != c.RawReads {
			t.Errorf("%d results: %d raw reads, want %d", c.Results, n, c.RawReads)
		}
		if raw := info.GetRawReads(); raw != nil && c.Raw != "" && marshalHex(t, raw) != c.Raw {
			t.Errorf("%d results: raw reads %s, want %s", c.Results, marshalHex(t, raw), c.Raw)
		}
	}
}

func TestMetadata(t *testing.T) {
	entries := metadataEntries(map[string][]byte{"b": []byte("2"), "a": {}, "c": make([]byte, 300)})
	want, err := marshal(&kvrwset.KVMetadataWrite{Entries: entries})
	if err != nil {
		t.Fatal(err)
	}
	got := EncodeMetadata(entries)
	if string(got) != string(want) {
		t.Fatalf("encoded %x, want %x", got, want)
	}
	back, err := DecodeMetadata(got)
	if err != nil || len(back) != 3 || string(back["b"]) != "2" {
		t.Fatalf("decoded %v, %v", back, err)
	}
	if m, err := DecodeMetadata(nil); m != nil || err != nil {
		t.Fatalf("nothing decoded to %v, %v", m, err)
	}
	if EncodeMetadata(nil) != nil {
		t.Fatal("no entries must give no bytes")
	}
}

func TestRangeNeverPulled(t *testing.T) {
	b := NewBuilder()
	b.OpenRange("ns", "a", "z")
	info := b.spaces["ns"].public().RangeQueriesInfo[0]
	if info.StartKey != "a" || info.EndKey != "" || info.ItrExhausted || info.ReadsInfo != nil {
		t.Fatalf("got %v", info)
	}
}

func BenchmarkBuildOneReadOneWrite(b *testing.B) {
	value := make([]byte, 100)
	b.ReportAllocs()
	for b.Loop() {
		bld := NewBuilder()
		bld.Read("lscc", "mycc", v(1, 0))
		bld.Read("mycc", "key0001", v(5, 3))
		bld.Write("mycc", "key0001", value)
		pub, err := bld.Public()
		if err != nil {
			b.Fatal(err)
		}
		if _, err := marshal(pub); err != nil {
			b.Fatal(err)
		}
	}
}
