package profile

import (
	"compress/gzip"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/msp"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/chanconfig"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/protoutil"
)

const sampleDir = "../../../sampleconfig"

// TestSampleFile compares the shipped file with the tree of the reference's.
func TestSampleFile(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(filepath.Join(sampleDir, fileName))
	if err != nil {
		t.Fatal(err)
	}
	tree, err := parseYAML(raw)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open("testdata/sample_configtx.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var want, got any
	if err := json.NewDecoder(z).Decode(&want); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestSampleProfiles: every profile of the shipped file gives a configuration
// that loads, or a creation request.
func TestSampleProfiles(t *testing.T) {
	t.Parallel()
	s := Source{Dir: sampleDir, Log: flog.Nop()}
	f, err := s.LoadTopLevel()
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Profiles) != 8 {
		t.Fatalf("%d profiles", len(f.Profiles))
	}
	for name := range f.Profiles {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := s.Load(name)
			if err != nil {
				t.Fatal(err)
			}
			if name == "SampleSingleMSPChannel" {
				if _, err := (Encoder{}).CreationTx("ch", p, nil, time.Now()); err != nil {
					t.Fatal(err)
				}
				return
			}
			group, err := Encoder{}.ChannelGroup(p)
			if name == "SampleDevModeEtcdRaft" { // its certificates do not exist
				if err == nil || !strings.Contains(err.Error(), "path/to/ClientTLSCert0") {
					t.Fatal(err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			block, err := GenesisBlock("ch", group, time.Unix(7, 9))
			if err != nil {
				t.Fatal(err)
			}
			b, err := chanconfig.BundleFromBlock(block, chanconfig.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if err := b.CheckOrderer(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestGenesisBlock(t *testing.T) {
	t.Parallel()
	block, err := GenesisBlock("ch", &common.ConfigGroup{}, time.Unix(7, 9))
	if err != nil {
		t.Fatal(err)
	}
	env, payload := &common.Envelope{}, &common.Payload{}
	header, signer := &common.ChannelHeader{}, &common.SignatureHeader{}
	for _, step := range []struct {
		raw func() []byte
		m   proto.Message
	}{
		{func() []byte { return block.Data.Data[0] }, env},
		{func() []byte { return env.Payload }, payload},
		{func() []byte { return payload.Header.ChannelHeader }, header},
		{func() []byte { return payload.Header.SignatureHeader }, signer},
	} {
		if err := proto.Unmarshal(step.raw(), step.m); err != nil {
			t.Fatal(err)
		}
	}
	if header.Version != 1 || header.Timestamp.Seconds != 7 || header.Timestamp.Nanos != 0 || header.TxId != protoutil.TxID(signer.Nonce, nil) || len(signer.Nonce) != 24 {
		t.Errorf("header %v, signature header %v", header, signer)
	}
	if len(block.Metadata.Metadata) != 5 || env.Signature != nil || signer.Creator != nil {
		t.Errorf("metadata %v, signature %x, creator %x", block.Metadata, env.Signature, signer.Creator)
	}
}

func load(t *testing.T, yaml, profile string, env map[string]string) (*Profile, error) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, fileName), []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	return Source{Dir: dir, Getenv: func(k string) string { return env[k] }}.Load(profile)
}

func TestLoadValues(t *testing.T) {
	t.Parallel()
	rule := filepath.Join(t.TempDir(), "rule")
	if err := os.WriteFile(rule, []byte("ANY Admins"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := load(t, `
A: &a { BatchTimeout: 5s, MaxChannels: 3 }
Profiles:
`, "P", nil)
	if err == nil || !strings.Contains(err.Error(), "has invalid keys: A") {
		t.Errorf("unknown key: %v", err)
	}
	p, err := load(t, `
Orderer: &o { BatchTimeout: 5s, MaxChannels: 3, BatchSize: { AbsoluteMaxBytes: 1g } }
Channel: &c { Capabilities: { V1_3: yes, V1_1: false } }
Profiles:
  P:
    Policies: { X: { Type: ImplicitMeta, Rule: { File: `+rule+` } } }
    <<: [*c, { Consortium: second, Capabilities: { lost: true } }]
    Orderer:
      MaxChannels: 1
      <<: *o
      Addresses: [ "h:1" ]
      BatchSize: { MaxMessageCount: "12", PreferredMaxBytes: 512 Kb }
`, "P", nil)
	if err != nil {
		t.Fatal(err)
	}
	o := p.Orderer
	if o.BatchTimeout != 5*time.Second || o.MaxChannels != 3 || o.BatchSize != (BatchSize{12, 10 << 20, 512 << 10}) || o.Addresses[0] != "h:1" {
		t.Errorf("orderer %+v", o)
	}
	if p.Consortium != "second" || !p.Capabilities["V1_3"] || p.Capabilities["lost"] || p.Policies["X"].Rule != "ANY Admins" {
		t.Errorf("profile %+v", p)
	}
}

func TestLoadErrors(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ yaml, want string }{
		"not YAML":       {"{", "Error reading configuration: "},
		"list":           {"[]", "Error reading configuration: the file holds a []interface {}, not a map"},
		"unknown field":  {"Profiles: { P: { Foo: 1 } }", "has invalid keys: Foo"},
		"field twice":    {"Profiles: { P: { Consortium: a, consortium: b } }", "has invalid keys: consortium"},
		"size overflow":  {"Profiles: { P: { Orderer: { BatchSize: { AbsoluteMaxBytes: 4 GB } } } }", "value '4 GB' overflows uint32"},
		"no size":        {"Profiles: { P: { Orderer: { BatchSize: { AbsoluteMaxBytes: x } } } }", "AbsoluteMaxBytes"},
		"merge of word":  {"Profiles: { P: { <<: x } }", "map merge requires map"},
		"wrong type":     {"Profiles: { P: 5 }", "Error unmarshaling config into struct: "},
		"empty file":     {"", "Could not find profile:  P"},
		"case of name":   {"Profiles: { p: {} }", "Could not find profile:  P"},
		"missing file":   {"Profiles: { P: { Consortium: { File: /nonexistent/x } } }", "no such file"},
		"endless anchor": {"A: &a [*a]", "expand to too many values"},
		"bomb": {"A: &a [x,x,x,x,x,x,x,x,x,x]\nB: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nC: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n" +
			"D: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\nE: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\nF: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]\nG: [*f,*f]", "expand to too many values"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := load(t, tc.yaml, "P", nil); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("\n got %v\nwant %s", err, tc.want)
			}
		})
	}
}

// TestTopLevelOverride: variables also act on the top-level sections, and
// wherever a map would be expected.
func TestTopLevelOverride(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, fileName), []byte("Orderer: { BatchTimeout: 1s, BatchSize: { MaxMessageCount: 1 } }"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"FABRIC_CFG_PATH": dir, "CONFIGTX_ORDERER_BATCHTIMEOUT": "7"}
	s := Source{Getenv: func(k string) string { return env[k] }}
	f, err := s.LoadTopLevel()
	if err != nil || f.Orderer.BatchTimeout != 7 {
		t.Errorf("%+v %v", f, err)
	}
	env["CONFIGTX_ORDERER_BATCHSIZE"] = "x"
	if _, err := s.LoadTopLevel(); err == nil {
		t.Error("a word was accepted for a map")
	}
}

func FuzzYAML(f *testing.F) {
	raw, err := os.ReadFile(filepath.Join(sampleDir, fileName))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte("A: &a { <<: [*a, {b: 1}] }"))
	f.Fuzz(func(_ *testing.T, raw []byte) {
		if tree, err := parseYAML(raw); err == nil {
			_ = decode(tree, &File{})
		}
	})
}

// TestIdemixOrg: the tools describe organizations that nodes of ours cannot judge.
func TestIdemixOrg(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	org := &Organization{Name: "I", ID: "IdemixMSP", MSPDir: dir, MSPType: "idemix"}
	for _, file := range []string{"IssuerPublicKey", "RevocationPublicKey"} {
		if _, err := (Encoder{}).ConsortiumOrg(org); err == nil || !strings.Contains(err.Error(), filepath.Join(dir, "msp", file)) {
			t.Errorf("without %s: %v", file, err)
		}
		if err := os.MkdirAll(filepath.Join(dir, "msp"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "msp", file), []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	g, err := (Encoder{}).ConsortiumOrg(org)
	if err != nil {
		t.Fatal(err)
	}
	conf, idemix := &msp.MSPConfig{}, &msp.IdemixMSPConfig{}
	if err := proto.Unmarshal(g.Values["MSP"].Value, conf); err != nil {
		t.Fatal(err)
	}
	if err := proto.Unmarshal(conf.Config, idemix); err != nil {
		t.Fatal(err)
	}
	if conf.Type != 1 || idemix.Name != "IdemixMSP" || string(idemix.Ipk) != "IssuerPublicKey" || string(idemix.RevocationPk) != "RevocationPublicKey" || idemix.Signer != nil {
		t.Errorf("%v %v", conf, idemix)
	}
	org.MSPType = "other"
	if _, err := (Encoder{}).ConsortiumOrg(org); err == nil || !strings.Contains(err.Error(), "unknown MSP type 'other'") {
		t.Error(err)
	}
}
