package x509msp_test

import (
	"compress/gzip"
	"encoding/hex"
	"encoding/json"
	"os"
	"regexp"
	"sort"
	"strings"
	"testing"

	mspproto "github.com/hyperledger/fabric-protos-go-apiv2/msp"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/msp"
	"github.com/heddle-ledger/heddle/msp/x509msp"
)

type identityVectors struct {
	MSPs []struct {
		Name        string            `json:"name"`
		Config      []byte            `json:"msp_config_b64"`
		SetupResult map[string]string `json:"setup_result"`
	} `json:"msps"`
	Principals []struct {
		Name string `json:"name"`
		Hex  string `json:"msp_principal_hex"`
	} `json:"principals"`
	Cases []struct {
		MSP        string                    `json:"msp"`
		Name       string                    `json:"name"`
		Serialized []byte                    `json:"serialized_identity_b64"`
		Results    map[string]identityResult `json:"results"`
	} `json:"cases"`
}

type identityResult struct {
	Deserialize  string            `json:"deserialize"`
	Identifier   string            `json:"identifier"`
	Validate     string            `json:"validate"`
	WellFormed   string            `json:"well_formed"`
	OUs          []string          `json:"ous_hexcertifiers"`
	Reserialized []byte            `json:"reserialized_b64"`
	Principals   map[string]string `json:"principals"`
}

func versions() map[string]msp.Version {
	return map[string]msp.Version{"MSPv1_0": msp.V1_0, "MSPv1_1": msp.V1_1, "MSPv1_3": msp.V1_3, "MSPv1_4_3": msp.V1_4_3}
}

func readVectors(t testing.TB) *identityVectors {
	t.Helper()
	f, err := os.Open("testdata/identities.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	v := &identityVectors{}
	if err := json.NewDecoder(z).Decode(v); err != nil {
		t.Fatal(err)
	}
	return v
}

func (v *identityVectors) config(t testing.TB, name string) *mspproto.MSPConfig {
	t.Helper()
	for _, m := range v.MSPs {
		if m.Name == name {
			conf := &mspproto.MSPConfig{}
			if err := proto.Unmarshal(m.Config, conf); err != nil {
				t.Fatal(err)
			}
			return conf
		}
	}
	t.Fatalf("no MSP %s", name)
	return nil
}

const cut = " ...[cut]"

// differing are the texts in which this node and the recording differ, all of them: what the protobuf library
// says of bytes that are no message, and times of the run. The texts of Go's x509 and asn1 packages, which
// could differ too, are at present the same.
func differing() map[string]*regexp.Regexp {
	return map[string]*regexp.Regexp{
		"<protobuf>": regexp.MustCompile(`(proto:|unexpected EOF).*`),
		"<now>":      regexp.MustCompile(`current time \S+`),
		"<duration>": regexp.MustCompile(`\d+h\d+m[\d.]+s`),
	}
}

func normal(s string) string {
	s = strings.ReplaceAll(s, "\u00a0", " ") // the protobuf library varies its spaces
	for text, pattern := range differing() {
		s = pattern.ReplaceAllString(s, text)
	}
	return s
}

func text(err error) string {
	if err == nil {
		return "OK"
	}
	return err.Error()
}

func sameText(got, want string) bool {
	if prefix, isCut := strings.CutSuffix(want, cut); isCut {
		return strings.HasPrefix(got, prefix)
	}
	return normal(got) == normal(want)
}

func TestSetUpVectors(t *testing.T) {
	t.Parallel()
	v := readVectors(t)
	for _, m := range v.MSPs {
		for name, version := range versions() {
			_, err := x509msp.New(v.config(t, m.Name), version)
			want := m.SetupResult[name]
			if strings.HasPrefix(want, "REFERENCE CRASHES") {
				want = "CA Certificate did not have the CA attribute, (SN: 3fe)"
				if err == nil || !strings.HasPrefix(err.Error(), "CA Certificate did not have the CA attribute") {
					t.Errorf("%s %s: got %s, want %s", m.Name, name, text(err), want)
				}
				continue
			}
			if !sameText(text(err), want) {
				t.Errorf("%s %s:\n got %s\nwant %s", m.Name, name, text(err), want)
			}
		}
	}
}

func TestIdentityVectors(t *testing.T) {
	t.Parallel()
	v := readVectors(t)
	principals := map[string]*mspproto.MSPPrincipal{}
	for _, p := range v.Principals {
		raw, err := hex.DecodeString(p.Hex)
		if err != nil {
			t.Fatal(err)
		}
		principals[p.Name] = &mspproto.MSPPrincipal{}
		if err := proto.Unmarshal(raw, principals[p.Name]); err != nil {
			t.Fatal(err)
		}
	}
	checked := 0
	for name, version := range versions() {
		for _, c := range v.Cases {
			want, ok := c.Results[name]
			if !ok {
				continue
			}
			m, err := x509msp.New(v.config(t, c.MSP), version)
			if err != nil {
				t.Fatalf("%s %s: %s", c.MSP, name, err)
			}
			check := func(what, got, want string) {
				t.Helper()
				checked++
				if !sameText(got, want) {
					t.Errorf("%s/%s %s: %s\n got %s\nwant %s", c.MSP, c.Name, name, what, got, want)
				}
			}
			if want.WellFormed != "" {
				check("well formed", text(m.IsWellFormed(c.Serialized)), want.WellFormed)
			}
			id, err := m.DeserializeIdentity(c.Serialized)
			check("deserialize", text(err), want.Deserialize)
			if err != nil {
				continue
			}
			check("identifier", id.Identifier().ID, want.Identifier)
			check("validate", text(id.Validate()), want.Validate)
			ous := x509msp.OUsOf(id)
			sort.Strings(ous)
			sort.Strings(want.OUs)
			check("OUs", strings.Join(ous, ","), strings.Join(want.OUs, ","))
			again := want.Reserialized
			if again == nil {
				again = c.Serialized
			}
			check("serialized", string(id.Serialize()), string(again))
			for p, result := range want.Principals {
				check("principal "+p, text(id.SatisfiesPrincipal(principals[p])), result)
			}
		}
	}
	t.Logf("%d verdicts", checked)
}

func TestSignatureVectors(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("testdata/signatures.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Name       string `json:"name"`
		Serialized []byte `json:"serialized_identity_b64"`
		Message    string `json:"message_hex"`
		Signature  string `json:"signature_hex"`
		Result     string `json:"verify_result"`
	}
	if err := json.Unmarshal(raw, &cases); err != nil {
		t.Fatal(err)
	}
	m, err := x509msp.New(readVectors(t).config(t, "plain"), msp.V1_4_3)
	if err != nil {
		t.Fatal(err)
	}
	cached := msp.NewManager([]msp.MSP{m})
	for _, c := range cases {
		msg, _ := hex.DecodeString(c.Message)
		sig, _ := hex.DecodeString(c.Signature)
		for _, d := range []msp.Deserializer{m, cached, cached} {
			id, err := d.DeserializeIdentity(c.Serialized)
			if err != nil {
				t.Fatalf("%s: %s", c.Name, err)
			}
			if got := text(id.Verify(msg, sig)); !sameText(got, c.Result) {
				t.Errorf("%s:\n got %s\nwant %s", c.Name, got, c.Result)
			}
		}
	}
}
