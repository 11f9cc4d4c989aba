package chanconfig_test

import (
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	mspproto "github.com/hyperledger/fabric-protos-go-apiv2/msp"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/chanconfig"
	"github.com/heddle-ledger/heddle/internal/policy"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/testpki"
)

// TestDeepUpdate: new groups that no group of the configuration names are
// dropped, however deep they nest, and need nobody's signature; a node that
// refused such an update would fork from the others (IDENTITY-CONFIG §6.3 step 8).
func TestDeepUpdate(t *testing.T) {
	t.Parallel()
	current := standalone(t)
	nested := func(depth int) *common.Envelope {
		g := &common.ConfigGroup{ModPolicy: "Admins"}
		for range depth {
			g = &common.ConfigGroup{ModPolicy: "Admins", Groups: map[string]*common.ConfigGroup{"g": g}}
		}
		root := current.Config().ChannelGroup
		g.Version, g.ModPolicy = root.Version, root.ModPolicy
		read := &common.ConfigGroup{Version: root.Version}
		return updateEnvelope(&common.ConfigUpdate{ChannelId: "standalone", ReadSet: read, WriteSet: g})
	}
	for _, depth := range []int{1, 70, 3000} {
		cfg, err := current.ProposeUpdate(nested(depth))
		if err != nil {
			t.Fatalf("depth %d: %v", depth, err)
		}
		if !proto.Equal(cfg.Config.ChannelGroup, current.Config().ChannelGroup) {
			t.Errorf("depth %d: the tree was changed", depth)
		}
		if err := current.Validate(cfg); err != nil {
			t.Errorf("depth %d: %v", depth, err)
		}
	}
	if _, err := current.ProposeUpdate(nested(50000)); err == nil {
		t.Error("groups nested 50000 times were accepted")
	}
}

// TestIdentitiesEndWithTheirBundle: what was found out about an identity under
// one configuration says nothing under the next.
func TestIdentitiesEndWithTheirBundle(t *testing.T) {
	t.Parallel()
	org := testpki.NewOrg(t, "NewMSP")
	member := org.Client("c")
	bundle := func(crl ...[]byte) *chanconfig.Bundle {
		conf := org.FabricConfig()
		conf.RevocationList = crl
		return mustEdited(t, func(r *common.ConfigGroup) {
			g := newOrg(t, "NewMSP")
			setValue(g, "MSP", &mspproto.MSPConfig{Config: protoutil.Marshal(conf)})
			r.Groups["Application"].Groups["New"] = g
		})
	}
	before, after := bundle(), bundle(org.CA.CRL(member.Cert))
	raw := member.Serialize()
	data := []byte("data")
	set := []policy.SignedData{{Data: data, Identity: raw, Signature: member.MustSign(data)}}
	for _, b := range []*chanconfig.Bundle{before, after, before} {
		p, ok := b.PolicyManager().Policy("/Channel/Application/New/Readers")
		if !ok {
			t.Fatal("no policy")
		}
		id, err := b.MSPManager().DeserializeIdentity(raw)
		if err != nil {
			t.Fatal(err)
		}
		valid := b == before
		if err := id.Validate(); (err == nil) != valid {
			t.Errorf("validate: %v", err)
		}
		if err := p.Evaluate(set); (err == nil) != valid {
			t.Errorf("policy: %v", err)
		}
	}
}
