package chanconfig_test

import (
	"compress/gzip"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/chanconfig"
	"github.com/heddle-ledger/heddle/internal/protoutil"
)

// loadVectors reads a compressed JSON file of the reference's results.
func loadVectors(t testing.TB, name string, into any) {
	t.Helper()
	f, err := os.Open("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.NewDecoder(z).Decode(into); err != nil {
		t.Fatal(err)
	}
}

func unmarshal[M proto.Message](t testing.TB, raw []byte, m M) M {
	t.Helper()
	if err := proto.Unmarshal(raw, m); err != nil {
		t.Fatal(err)
	}
	return m
}

func mustBundle(t testing.TB, channelID string, cfg *common.Config) *chanconfig.Bundle {
	t.Helper()
	b, err := chanconfig.NewBundle(channelID, cfg, chanconfig.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// standalone is the configuration of testdata/standalone.block.
func standalone(t testing.TB) *chanconfig.Bundle {
	t.Helper()
	raw, err := os.ReadFile("testdata/standalone.block")
	if err != nil {
		t.Fatal(err)
	}
	b, err := chanconfig.BundleFromBlock(unmarshal(t, raw, &common.Block{}), chanconfig.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// verdict is the text of an error, or OK. Texts of the protobuf library are not
// compared, so they are made alike.
func verdict(err error) string {
	if err == nil {
		return "OK"
	}
	s := err.Error()
	if i := strings.Index(s, "proto:"); i >= 0 {
		s = s[:i] + "unexpected EOF" + strings.Repeat("]", strings.Count(s, "[")-strings.Count(s[:i], "]"))
	}
	return s
}

func TestBundleVectors(t *testing.T) {
	var cases []struct {
		Name                  string
		ConfigB64             []byte `json:"config_b64"`
		NewBundle             string `json:"new_bundle"`
		CapabilitiesSupported string `json:"capabilities_supported"`
	}
	loadVectors(t, "bundle.json.gz", &cases)
	for _, tc := range cases {
		t.Run(tc.Name, func(t *testing.T) {
			t.Parallel()
			b, err := chanconfig.NewBundle("standalone", unmarshal(t, tc.ConfigB64, &common.Config{}), chanconfig.Options{})
			if got := verdict(err); got != tc.NewBundle {
				t.Fatalf("NewBundle:\n got %s\nwant %s", got, tc.NewBundle)
			}
			if err != nil {
				return
			}
			parts := []string{"channel: " + verdict(b.Channel().Capabilities.Supported())}
			if a, ok := b.Application(); ok {
				parts = append(parts, "application: "+verdict(a.Capabilities.Supported()))
			}
			if o, ok := b.Orderer(); ok {
				parts = append(parts, "orderer: "+verdict(o.Capabilities.Supported()))
			}
			if got := strings.Join(parts, "; "); got != tc.CapabilitiesSupported {
				t.Errorf("capabilities:\n got %s\nwant %s", got, tc.CapabilitiesSupported)
			}
		})
	}
}

type updateVectors struct {
	ChannelID     string `json:"channel_id"`
	CurrentConfig []byte `json:"current_config_b64"`
	Cases         []struct {
		Name            string
		Envelope        []byte `json:"config_update_envelope_b64"`
		Propose         string `json:"propose_config_update"`
		ResultingConfig []byte `json:"resulting_config_b64"`
		NewBundle       string `json:"new_bundle"`
		ValidateNew     string `json:"validate_new"`
	}
}

func TestApplyUpdateVectors(t *testing.T) {
	var v updateVectors
	loadVectors(t, "apply_update.json.gz", &v)
	current := mustBundle(t, v.ChannelID, unmarshal(t, v.CurrentConfig, &common.Config{}))
	before := proto.CloneOf(current.Config())
	for _, tc := range v.Cases {
		t.Run(tc.Name, func(t *testing.T) {
			cfg, err := current.ProposeUpdate(unmarshal(t, tc.Envelope, &common.Envelope{}))
			// With several wrong elements any of them may be reported.
			if got := verdict(err); got != tc.Propose && !(tc.Name == "write set only" && err != nil) {
				t.Fatalf("ProposeUpdate:\n got %s\nwant %s", got, tc.Propose)
			}
			if !proto.Equal(before, current.Config()) {
				t.Fatal("the current configuration was changed")
			}
			if err != nil {
				return
			}
			if want := unmarshal(t, tc.ResultingConfig, &common.Config{}); !proto.Equal(want, cfg.Config) {
				t.Fatalf("resulting config:\n got %s\nwant %s", protoutil.Text(cfg.Config), protoutil.Text(want))
			}
			if err := current.Validate(cfg); err != nil {
				t.Errorf("Validate: %v", err)
			}
			next, err := chanconfig.NewBundle(v.ChannelID, cfg.Config, chanconfig.Options{})
			if got := verdict(err); got != tc.NewBundle {
				t.Fatalf("NewBundle:\n got %s\nwant %s", got, tc.NewBundle)
			}
			if err == nil {
				if got := verdict(current.ValidateNew(next)); got != tc.ValidateNew {
					t.Errorf("ValidateNew:\n got %s\nwant %s", got, tc.ValidateNew)
				}
			}
		})
	}
}

func TestChannelCreationVectors(t *testing.T) {
	var v struct {
		System []byte `json:"system_channel_config_b64"`
		Cases  []struct {
			Name      string
			Envelope  []byte `json:"config_update_envelope_b64"`
			Template  string
			Config    []byte `json:"template_config_b64"`
			Propose   string `json:"propose_config_update"`
			Resulting []byte `json:"resulting_config_b64"`
		}
	}
	loadVectors(t, "channel_creation.json.gz", &v)
	system := mustBundle(t, "syschannel", unmarshal(t, v.System, &common.Config{}))
	for _, tc := range v.Cases {
		t.Run(tc.Name, func(t *testing.T) {
			env := unmarshal(t, tc.Envelope, &common.Envelope{})
			template, err := chanconfig.NewChannelTemplate(system, env)
			if got := verdict(err); got != tc.Template {
				t.Fatalf("template:\n got %s\nwant %s", got, tc.Template)
			}
			if err != nil {
				return
			}
			if want := unmarshal(t, tc.Config, &common.Config{}); !proto.Equal(want, template.Config()) {
				t.Fatalf("template config:\n got %s\nwant %s", protoutil.Text(template.Config()), protoutil.Text(want))
			}
			cfg, err := template.ProposeUpdate(env)
			if got := verdict(err); got != tc.Propose {
				t.Fatalf("ProposeUpdate:\n got %s\nwant %s", got, tc.Propose)
			}
			if err != nil {
				return
			}
			if want := unmarshal(t, tc.Resulting, &common.Config{}); !proto.Equal(want, cfg.Config) {
				t.Fatalf("resulting config:\n got %s\nwant %s", protoutil.Text(cfg.Config), protoutil.Text(want))
			}
		})
	}
}

func TestComputeUpdateVectors(t *testing.T) {
	t.Parallel()
	var cases []struct {
		Name              string
		Original, Updated []byte
		OriginalB64       []byte `json:"original_config_b64"`
		UpdatedB64        []byte `json:"updated_config_b64"`
		Update            []byte `json:"config_update_b64"`
		Error             string
	}
	loadVectors(t, "compute_update.json.gz", &cases)
	for _, tc := range cases {
		t.Run(tc.Name, func(t *testing.T) {
			got, err := chanconfig.ComputeUpdate(unmarshal(t, tc.OriginalB64, &common.Config{}), unmarshal(t, tc.UpdatedB64, &common.Config{}))
			if want := tc.Error; want != "" {
				if verdict(err) != want {
					t.Fatalf("got %v, want %s", err, want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if want := unmarshal(t, tc.Update, &common.ConfigUpdate{}); !proto.Equal(want, got) {
				t.Errorf("\n got %s\nwant %s", protoutil.Text(got), protoutil.Text(want))
			}
		})
	}
}

func TestVerifyBlockVectors(t *testing.T) {
	var v struct {
		Cases []struct {
			Name     string
			Channel  string
			Sequence uint64 `json:"sequence_claimed"`
			Block    []byte `json:"block_b64"`
			Result   string
		}
	}
	loadVectors(t, "verify_block.json.gz", &v)
	bundle := standalone(t)
	for _, tc := range v.Cases {
		t.Run(tc.Name, func(t *testing.T) {
			block, err := chanconfig.VerifyBlockBytes(bundle, tc.Channel, &tc.Sequence, tc.Block)
			if got := verdict(err); got != tc.Result {
				t.Errorf("\n got %s\nwant %s", got, tc.Result)
			}
			if (block == nil) != (err != nil) {
				t.Errorf("block %v with error %v", block, err)
			}
			parsed := &common.Block{}
			if proto.Unmarshal(tc.Block, parsed) != nil {
				return
			}
			err = chanconfig.VerifyParsedBlock(bundle, tc.Channel, &tc.Sequence, protoutil.ParseBlock(parsed))
			if got := verdict(err); got != tc.Result {
				t.Errorf("parsed:\n got %s\nwant %s", got, tc.Result)
			}
		})
	}
}
