package policy_test

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/policy"
	"github.com/heddle-ledger/heddle/internal/protoutil"
)

type languageCase struct {
	Input    string `json:"input"`
	Compiled string `json:"signature_policy_envelope_hex"`
	Implicit string `json:"implicit_meta_policy_hex"`
	Error    string `json:"error"`
}

type languageVectors struct {
	Implicit  []languageCase `json:"implicit_meta"`
	Signature []languageCase `json:"signature_policies"`
}

func readLanguage(t testing.TB) languageVectors {
	t.Helper()
	raw, err := os.ReadFile("testdata/policy_dsl.json")
	if err != nil {
		t.Fatal(err)
	}
	var v languageVectors
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func checkCompiled(t *testing.T, input string, got proto.Message, err error, wantHex, wantErr string) {
	t.Helper()
	if wantErr != "" {
		want, _, _ := strings.Cut(wantErr, "[...cut]") // the address of a function
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q:\n got error %v\nwant %s", input, err, wantErr)
		}
		return
	}
	if err != nil {
		t.Errorf("%q: %v", input, err)
		return
	}
	if h := hex.EncodeToString(protoutil.Marshal(got)); h != wantHex {
		t.Errorf("%q:\n got %s\nwant %s", input, h, wantHex)
	}
}

func TestLanguageVectors(t *testing.T) {
	t.Parallel()
	v := readLanguage(t)
	for _, c := range v.Signature {
		got, err := policy.FromString(c.Input)
		checkCompiled(t, c.Input, got, err, c.Compiled, c.Error)
	}
	for _, c := range v.Implicit {
		got, err := policy.ImplicitMetaFromString(c.Input)
		checkCompiled(t, c.Input, got, err, c.Implicit, c.Error)
	}
}

// TestLanguageBounds shows that no expression takes unbounded stack, time or memory.
func TestLanguageBounds(t *testing.T) {
	t.Parallel()
	for _, expr := range []string{
		strings.Repeat("OR(", 100000) + "'A.member'" + strings.Repeat(")", 100000),
		strings.Repeat("(", 100000) + "OR('A.member')" + strings.Repeat(")", 100000),
		"OutOf(" + strings.Repeat("-", 100000) + "1,'A.member')",
		"OutOf(" + strings.Repeat("- ", 100000) + "1,'A.member')",
		strings.Repeat("x", 5<<20),
		")(", "OR('A.member'))(", "OR('A.member')'B.member'",
	} {
		if _, err := policy.FromString(expr); err == nil {
			t.Errorf("%.60q… was accepted", expr)
		}
	}
}

func TestLists(t *testing.T) {
	t.Parallel()
	want, err := policy.FromString("OR('A.member','B.member','C.member')")
	if err != nil {
		t.Fatal(err)
	}
	for _, expr := range []string{"OR(('A.member','B.member'),'C.member')", "OR(('A.member','B.member','C.member'))", "OutOf(3-1*2/1,'A.member','B.member','C.member')"} {
		got, err := policy.FromString(expr)
		if err != nil {
			t.Errorf("%s: %v", expr, err)
			continue
		}
		if strings.HasPrefix(expr, "OutOf") {
			got.Rule.GetNOutOf().N = 1
		}
		if !proto.Equal(got, want) {
			t.Errorf("%s: got %v", expr, got)
		}
	}
}

func FuzzFromString(f *testing.F) {
	for _, c := range readLanguage(f).Signature {
		f.Add(c.Input)
	}
	f.Fuzz(func(t *testing.T, expr string) {
		env, err := policy.FromString(expr)
		if err != nil {
			return
		}
		// Whatever compiles must be a policy, and survive the wire.
		if _, err := policy.NewSignaturePolicy(env, noIdentities{}, nil); err != nil {
			t.Errorf("%q compiles to a policy that does not: %v", expr, err)
		}
		again := &common.SignaturePolicyEnvelope{}
		if err := proto.Unmarshal(protoutil.Marshal(env), again); err != nil || !proto.Equal(env, again) {
			t.Errorf("%q does not survive the wire: %v", expr, err)
		}
	})
}
