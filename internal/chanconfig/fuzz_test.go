package chanconfig_test

import (
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/chanconfig"
)

// FuzzProposeUpdate applies arbitrary CONFIG_UPDATE envelopes. What is accepted
// must be what Validate accepts.
func FuzzProposeUpdate(f *testing.F) {
	var v updateVectors
	loadVectors(f, "apply_update.json.gz", &v)
	current := mustBundle(f, v.ChannelID, unmarshal(f, v.CurrentConfig, &common.Config{}))
	for _, tc := range v.Cases {
		f.Add(tc.Envelope)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		env := &common.Envelope{}
		if proto.Unmarshal(raw, env) != nil {
			return
		}
		cfg, err := current.ProposeUpdate(env)
		if err != nil {
			return
		}
		if err := current.Validate(cfg); err != nil {
			t.Fatalf("proposed, but not valid: %v", err)
		}
	})
}

// FuzzConfig loads arbitrary configurations and computes updates to them.
func FuzzConfig(f *testing.F) {
	b := standalone(f)
	raw, err := proto.Marshal(b.Config())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		cfg := &common.Config{}
		if proto.Unmarshal(raw, cfg) != nil {
			return
		}
		next, err := chanconfig.NewBundle("standalone", cfg, chanconfig.Options{})
		if err == nil {
			_ = b.ValidateNew(next)
		}
		_, _ = chanconfig.ComputeUpdate(b.Config(), cfg)
		_, _ = chanconfig.ComputeUpdate(cfg, b.Config())
	})
}

// FuzzVerifyBlock verifies arbitrary bytes as a block.
func FuzzVerifyBlock(f *testing.F) {
	var v struct {
		Cases []struct {
			Block []byte `json:"block_b64"`
		}
	}
	loadVectors(f, "verify_block.json.gz", &v)
	for _, tc := range v.Cases {
		f.Add(tc.Block)
	}
	b := standalone(f)
	f.Fuzz(func(_ *testing.T, raw []byte) {
		_, _ = chanconfig.VerifyBlockBytes(b, "standalone", nil, raw)
	})
}
