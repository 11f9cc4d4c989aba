package policy_test

import (
	"compress/gzip"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	mspproto "github.com/hyperledger/fabric-protos-go-apiv2/msp"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/policy"
	"github.com/heddle-ledger/heddle/msp"
	"github.com/heddle-ledger/heddle/msp/x509msp"
)

type noIdentities struct{}

func (noIdentities) DeserializeIdentity([]byte) (msp.Identity, error) {
	return nil, errors.New("nobody")
}
func (noIdentities) IsWellFormed([]byte) error { return errors.New("nobody") }

func unzip(t testing.TB, name string) []byte {
	t.Helper()
	f, err := os.Open(name)
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

func must(t testing.TB, raw []byte, m proto.Message) {
	t.Helper()
	if err := proto.Unmarshal(raw, m); err != nil {
		t.Fatal(err)
	}
}

// standalone is the channel of standalone.block: its root group and its MSPs, with caches and without.
func standalone(t testing.TB) (*common.ConfigGroup, *msp.Manager) {
	t.Helper()
	block, env, payload, conf := &common.Block{}, &common.Envelope{}, &common.Payload{}, &common.ConfigEnvelope{}
	must(t, unzip(t, "testdata/standalone.block.gz"), block)
	must(t, block.Data.Data[0], env)
	must(t, env.Payload, payload)
	must(t, payload.Data, conf)
	root := conf.Config.ChannelGroup
	var msps []msp.MSP
	for _, section := range root.Groups {
		for _, org := range section.Groups {
			c := &mspproto.MSPConfig{}
			must(t, org.Values["MSP"].Value, c)
			m, err := x509msp.New(c, msp.V1_4_3)
			if err != nil {
				t.Fatal(err)
			}
			msps = append(msps, m)
		}
	}
	return root, msp.NewManager(msps)
}

type evalCase struct {
	Name string `json:"name"`
	Env  string `json:"signature_policy_envelope_hex"`
	Path string `json:"path"`
	Set  []struct {
		Data      string `json:"data_hex"`
		Identity  []byte `json:"identity_b64"`
		Signature string `json:"signature_hex"`
	} `json:"signature_set"`
	Result string `json:"result"`
}

func (c evalCase) signedData(t testing.TB) []policy.SignedData {
	t.Helper()
	var set []policy.SignedData
	for _, s := range c.Set {
		data, err := hex.DecodeString(s.Data)
		if err != nil {
			t.Fatal(err)
		}
		sig, err := hex.DecodeString(s.Signature)
		if err != nil {
			t.Fatal(err)
		}
		set = append(set, policy.SignedData{Data: data, Identity: s.Identity, Signature: sig})
	}
	return set
}

func evalCases(t testing.TB) []evalCase {
	t.Helper()
	var v struct {
		Cases []evalCase `json:"cases"`
	}
	if err := json.Unmarshal(unzip(t, "testdata/policy_eval.json.gz"), &v); err != nil {
		t.Fatal(err)
	}
	return v.Cases
}

func TestEvaluationVectors(t *testing.T) {
	t.Parallel()
	root, msps := standalone(t)
	for _, log := range []*flog.Logger{flog.Nop(), flog.ForTest(t)} {
		m, err := policy.NewManager("Channel", root, msps, log)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range evalCases(t) {
			var p policy.Policy
			if c.Env != "" {
				raw, err := hex.DecodeString(c.Env)
				if err != nil {
					t.Fatal(err)
				}
				env := &common.SignaturePolicyEnvelope{}
				must(t, raw, env)
				if p, err = policy.NewSignaturePolicy(env, msps, log); err != nil {
					t.Fatalf("%s: %s", c.Name, err)
				}
			} else {
				p, _ = m.Policy(c.Path)
			}
			got := "OK"
			if err := p.Evaluate(c.signedData(t)); err != nil {
				got = err.Error()
			}
			if got != c.Result {
				t.Errorf("%s:\n got %s\nwant %s", c.Name, got, c.Result)
			}
		}
	}
}
