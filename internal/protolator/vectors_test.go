package protolator_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/heddle-ledger/heddle/internal/protolator"
)

func unzip(t testing.TB, name string) []byte {
	t.Helper()
	f, err := os.Open("testdata/" + name + ".gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func typeOf(t testing.TB, name string) protolator.Type {
	t.Helper()
	typ, ok := protolator.Lookup(name)
	if !ok {
		t.Fatalf("no type %s", name)
	}
	return typ
}

func toJSON(typ protolator.Type, raw []byte) (string, error) {
	m, err := typ.Unmarshal(raw)
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	err = m.WriteJSON(&out)
	return out.String(), err
}

func fromJSON(typ protolator.Type, text string) ([]byte, error) {
	m, err := typ.ReadJSON(strings.NewReader(text))
	if err != nil {
		return nil, err
	}
	return m.Marshal()
}

// sameMessage compares encodings up to the order of maps.
func sameMessage(t testing.TB, typ protolator.Type, a, b []byte) bool {
	t.Helper()
	textA, errA := toJSON(typ, a)
	textB, errB := toJSON(typ, b)
	if errA != nil || errB != nil {
		return bytes.Equal(a, b)
	}
	return textA == textB && len(a) == len(b)
}

type vector struct {
	Op, Name, Type string
	InputB64       []byte `json:"input_b64"`
	Input          string
	Output         string
	OutputB64      []byte `json:"output_b64"`
	Error          string
}

func vectors(t testing.TB) []vector {
	var v struct{ Cases []vector }
	if err := json.Unmarshal(unzip(t, "cases.json"), &v); err != nil {
		t.Fatal(err)
	}
	return v.Cases
}

// sameError compares the texts, except those that come from the protobuf
// library or are cut off in the vector.
func sameError(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %s", want)
	}
	for _, prefix := range []string{"configtxlator: error: Error decoding: ", "error encoding output: ", "error decoding input: ", "error marshaling: ", "error unmarshaling: "} {
		want = strings.TrimPrefix(want, prefix)
	}
	if strings.HasPrefix(want, "REFERENCE CRASHES") || want == "..." {
		return
	}
	got := err.Error()
	if i := strings.Index(want, "proto: can't"); i >= 0 {
		got, want = got[:min(i, len(got))], want[:i]
	}
	if i := strings.Index(want, "unexpected EOF"); i >= 0 && !strings.Contains(want, "JSON") {
		got, want = got[:min(i, len(got))], want[:i]
	}
	if got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

func TestCases(t *testing.T) {
	t.Parallel()
	for _, tc := range vectors(t) {
		t.Run(tc.Op+" "+tc.Name, func(t *testing.T) {
			typ, ok := protolator.Lookup(tc.Type)
			if !ok {
				if !strings.HasSuffix(tc.Error, "unknown") {
					t.Fatalf("type %s is unknown", tc.Type)
				}
				return
			}
			switch tc.Op {
			case "decode":
				got, err := toJSON(typ, tc.InputB64)
				if tc.Error != "" {
					sameError(t, err, tc.Error)
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tc.Output, got); diff != "" {
					t.Error(diff)
				}
			case "encode":
				got, err := fromJSON(typ, tc.Input)
				if tc.Error != "" {
					sameError(t, err, tc.Error)
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if tc.Name != "oneof two members" && !sameMessage(t, typ, got, tc.OutputB64) {
					t.Errorf("\n got %x\nwant %x", got, tc.OutputB64)
				}
			}
		})
	}
}

func TestEmptyMessages(t *testing.T) {
	t.Parallel()
	var want map[string]json.RawMessage
	if err := json.Unmarshal(unzip(t, "empty_messages.json"), &want); err != nil {
		t.Fatal(err)
	}
	if len(want) < 150 {
		t.Fatalf("only %d messages", len(want))
	}
	for name, fields := range want {
		got, err := toJSON(typeOf(t, name), nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var a, b any
		if json.Unmarshal([]byte(got), &a) != nil || json.Unmarshal(fields, &b) != nil {
			t.Fatalf("%s: bad JSON", name)
		}
		if diff := cmp.Diff(b, a); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// TestFiles decodes what configtxgen wrote, to the byte, and encodes it again.
func TestFiles(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, ext, typ string }{
		{"genesis_solo", ".block", "common.Block"},
		{"genesis_kafka", ".block", "common.Block"},
		{"genesis_raft", ".block", "common.Block"},
		{"genesis_nopolicies", ".block", "common.Block"},
		{"standalone", ".block", "common.Block"},
		{"mychannel", ".tx", "common.Envelope"},
		{"mychannel_withbase", ".tx", "common.Envelope"},
		{"Org1anchors", ".tx", "common.Envelope"},
		{"Org2anchors", ".tx", "common.Envelope"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			json := tc.name + ".json"
			if tc.ext == ".tx" {
				json = tc.name + ".tx.json"
			}
			typ, raw, want := typeOf(t, tc.typ), unzip(t, tc.name+tc.ext), string(unzip(t, json))
			got, err := toJSON(typ, raw)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatal(diff)
			}
			back, err := fromJSON(typ, want)
			if err != nil {
				t.Fatal(err)
			}
			if !sameMessage(t, typ, raw, back) {
				t.Error("encoding the JSON does not give the message back")
			}
		})
	}
}

// TestTransaction decodes an endorser transaction down to its writes.
func TestTransaction(t *testing.T) {
	t.Parallel()
	typ := typeOf(t, "common.Envelope")
	got, err := toJSON(typ, unzip(t, "transaction"))
	if err != nil {
		t.Fatal(err)
	}
	want := string(unzip(t, "transaction.json"))
	if diff := cmp.Diff(strings.TrimSpace(want), strings.TrimSpace(got)); diff != "" {
		t.Error(diff)
	}
}

// TestDepth makes sure that nested input is refused before it costs much.
func TestDepth(t *testing.T) {
	t.Parallel()
	policy := typeOf(t, "common.SignaturePolicy")
	if _, err := fromJSON(policy, strings.Repeat(`{"n_out_of":{"rules":[`, 300)+strings.Repeat(`]}}`, 300)); err == nil {
		t.Error("300 nested rules were accepted")
	}
	var raw []byte
	for range 300 { // groups within groups: field 2, entries {key: "", value: …}
		entry := append([]byte{0x12}, appendLen(raw)...)
		raw = append([]byte{0x12}, appendLen(entry)...)
	}
	if _, err := toJSON(typeOf(t, "common.ConfigGroup"), raw); err == nil {
		t.Error("300 nested groups were accepted")
	}
}

func appendLen(b []byte) []byte { return append(protowire.AppendVarint(nil, uint64(len(b))), b...) }

// TestGeneratedTypes makes sure that messages of the generated Go types print
// like their bytes.
func TestGeneratedTypes(t *testing.T) {
	t.Parallel()
	raw := unzip(t, "mychannel.tx")
	mt, err := protoregistry.GlobalTypes.FindMessageByName("common.Envelope")
	if err != nil {
		t.Fatal(err)
	}
	m := mt.New().Interface()
	if err := proto.Unmarshal(raw, m); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if err := protolator.WriteJSON(&got, m); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(unzip(t, "mychannel.tx.json")), got.String()); diff != "" {
		t.Error(diff)
	}
	if err := protolator.WriteJSON(&got, &descriptorpb.FileOptions{}); err == nil {
		t.Error("a message that 1.4 does not have was accepted")
	}
}
