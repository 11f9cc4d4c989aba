package audit

import (
	"os"
	"strings"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/chanconfig"
	"github.com/heddle-ledger/heddle/internal/protoutil"
)

// one finds a finding by a part of its text.
func one(t *testing.T, r *Report, s Severity, kind, problem string) *Finding {
	t.Helper()
	for _, c := range r.Channels {
		for i := range c.Findings {
			if f := &c.Findings[i]; f.Severity == s && f.Kind == kind && strings.Contains(f.Problem, problem) {
				return f
			}
		}
	}
	t.Fatalf("no %s %s %q in %s", s, kind, problem, show(r))
	return nil
}

func TestUnsignedAmongSigned(t *testing.T) {
	dir := shorten(t, madeChain(t), chainLength, func(i int, b *common.Block) {
		if i == 9 {
			md, err := protoutil.Metadata(b, common.BlockMetadataIndex_SIGNATURES)
			must(t, err)
			md.Signatures = nil
			b.Metadata.Metadata[0] = protoutil.Marshal(md)
		}
	})
	r := verify(t, dir, Options{})
	if f := one(t, r, Damage, checkSignatures, "the block has no signatures, though others of the channel have"); *f.Block != 9 || r.Sound {
		t.Error(show(r))
	}
}

// TestForgedConfiguration has an orderer accept a configuration that nobody
// entitled has signed.
func TestForgedConfiguration(t *testing.T) {
	m := madeChain(t)
	forged := func(change func(*common.ConfigEnvelope)) string {
		return shorten(t, m, configBlock+1, func(i int, b *common.Block) {
			if i != configBlock {
				return
			}
			env, payload := &common.Envelope{}, &common.Payload{}
			must(t, proto.Unmarshal(b.Data.Data[0], env))
			must(t, proto.Unmarshal(env.Payload, payload))
			config := &common.ConfigEnvelope{}
			must(t, proto.Unmarshal(payload.Data, config))
			change(config)
			payload.Data = protoutil.Marshal(config)
			env.Payload = protoutil.Marshal(payload)
			signed := m.net.Block(configBlock, m.blocks[configBlock-1].Header, configBlock, protoutil.Marshal(env))
			b.Header, b.Data, b.Metadata = signed.Header, signed.Data, signed.Metadata
		})
	}
	for problem, change := range map[string]func(*common.ConfigEnvelope){
		"cannot validate config at sequence 7": func(c *common.ConfigEnvelope) { c.Config.Sequence = 7 },
		"did not produce the supplied config":  func(c *common.ConfigEnvelope) { c.Config.ChannelGroup.ModPolicy = "Writers" },
		"config envelope has nil last_update":  func(c *common.ConfigEnvelope) { c.LastUpdate = nil },
	} {
		r := verify(t, forged(change), Options{})
		if f := one(t, r, Damage, checkConfig, problem); *f.Block != configBlock || r.Sound {
			t.Error(show(r))
		}
	}
	r := verify(t, forged(func(c *common.ConfigEnvelope) { c.Config.ChannelGroup = nil }), Options{})
	one(t, r, Warning, checkConfig, "the configuration cannot be loaded")
}

// TestConfigurationLost loses the block with a configuration: what comes after
// cannot be judged, until another configuration is seen. What is lost with the
// first file but no configuration changes nothing.
func TestConfigurationLost(t *testing.T) {
	dir := ordererCopy(t)
	must(t, os.Remove(find(t, dir, configBlock).file))
	r := verify(t, dir, Options{})
	signatures := checks(r.Channels[0])[checkSignatures]
	if r.Sound || !strings.Contains(signatures, "not judged: the configuration in force is not known") {
		t.Error(signatures, show(r))
	}
	for _, f := range r.Channels[0].Findings {
		if f.Kind == checkSignatures || f.Kind == checkConfig {
			t.Errorf("guessed: %s", show(f))
		}
	}

	dir = ordererCopy(t)
	must(t, os.Remove(find(t, dir, configBlock+4).file))
	r = verify(t, dir, Options{})
	if got := checks(r.Channels[0])[checkSignatures]; r.Sound || strings.Contains(got, "not judged") {
		t.Error(got, show(r))
	}
}

// TestWithoutHints computes the commit hashes that need values of the state
// although nothing says which are needed.
func TestWithoutHints(t *testing.T) {
	dir := peerCopy(t)
	must(t, os.RemoveAll(dir+"/ledgersData/bookkeeper"))
	r := verify(t, dir, Options{})
	if got := checks(r.Channels[0])[checkCommit]; got != "ok: 13 blocks" {
		t.Error(got)
	}
	change(t, dir, mixedBlock+2, func(b []byte) { b[len(b)-3] ^= 1 }) // a block that needs a value
	if f := one(t, verify(t, dir, Options{}), Damage, checkCommit, "the commit hash in the block is"); *f.Block != mixedBlock+2 {
		t.Error(show(f))
	}
}

// TestBundleOfMade makes sure that the made configuration is one that a peer
// would take.
func TestBundleOfMade(t *testing.T) {
	b, err := chanconfig.BundleFromBlock(madeChain(t).blocks[0], chanconfig.Options{})
	must(t, err)
	must(t, b.CheckPeer())
}
