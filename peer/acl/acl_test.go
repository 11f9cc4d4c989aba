package acl_test

import (
	"strings"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/internal/chanconfig"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/policy"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/testpki"
	"github.com/heddle-ledger/heddle/internal/txbuild"
	"github.com/heddle-ledger/heddle/msp/x509msp"
	"github.com/heddle-ledger/heddle/peer/acl"
)

func value(m *common.ConfigValue) *common.ConfigValue {
	m.ModPolicy = "Admins"
	return m
}

func signature(env *common.SignaturePolicyEnvelope) *common.ConfigPolicy {
	return &common.ConfigPolicy{
		ModPolicy: "Admins",
		Policy:    &common.Policy{Type: int32(common.Policy_SIGNATURE), Value: protoutil.Marshal(env)},
	}
}

func capabilities(names ...string) *common.ConfigValue {
	c := &common.Capabilities{Capabilities: map[string]*common.Capability{}}
	for _, n := range names {
		c.Capabilities[n] = &common.Capability{}
	}
	return value(&common.ConfigValue{Value: protoutil.Marshal(c)})
}

// channel is a config in which readers are members and writers are
// administrators of the organisation, with ACLs as given.
func channel(t *testing.T, org *testpki.Org, acls map[string]string) *chanconfig.Bundle {
	t.Helper()
	resources := &peer.ACLs{Acls: map[string]*peer.APIResource{}}
	for res, ref := range acls {
		resources.Acls[res] = &peer.APIResource{PolicyRef: ref}
	}
	app := &common.ConfigGroup{
		ModPolicy: "Admins",
		Values: map[string]*common.ConfigValue{
			"Capabilities": capabilities("V1_4_2"),
			"ACLs":         value(&common.ConfigValue{Value: protoutil.Marshal(resources)}),
		},
		Policies: map[string]*common.ConfigPolicy{
			"Readers": signature(policy.SignedByMSPMember(org.MSPID)),
			"Writers": signature(policy.SignedByMSPAdmin(org.MSPID)),
		},
		Groups: map[string]*common.ConfigGroup{org.MSPID: {
			ModPolicy: "Admins",
			Values:    map[string]*common.ConfigValue{"MSP": value(&common.ConfigValue{Value: protoutil.Marshal(org.MSPConfig())})},
		}},
	}
	root := &common.ConfigGroup{
		ModPolicy: "Admins",
		Values: map[string]*common.ConfigValue{
			"Capabilities":              capabilities("V1_4_3"),
			"HashingAlgorithm":          value(&common.ConfigValue{Value: protoutil.Marshal(&common.HashingAlgorithm{Name: "SHA256"})}),
			"BlockDataHashingStructure": value(&common.ConfigValue{Value: protoutil.Marshal(&common.BlockDataHashingStructure{Width: 1<<32 - 1})}),
			"OrdererAddresses":          value(&common.ConfigValue{Value: protoutil.Marshal(&common.OrdererAddresses{Addresses: []string{"o:7050"}})}),
		},
		Groups: map[string]*common.ConfigGroup{"Application": app},
	}
	b, err := chanconfig.NewBundle("ch", &common.Config{ChannelGroup: root}, chanconfig.Options{Log: flog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

type fixture struct {
	org         *testpki.Org
	admin, user *testpki.Identity
	*acl.Checker
}

func newFixture(t *testing.T, acls map[string]string) *fixture {
	t.Helper()
	org := testpki.NewOrg(t, "Org1MSP")
	f := &fixture{org: org, admin: org.Admin("admin"), user: org.Client("user")}
	dir := t.TempDir()
	org.WriteMSP(dir, org.Peer("peer"))
	local, err := x509msp.LoadLocal(x509msp.LocalConfig{Dir: dir, MSPID: "Org1MSP"})
	if err != nil {
		t.Fatal(err)
	}
	bundle := channel(t, org, acls)
	f.Checker = acl.New(acl.Config{
		Channels: func(id string) (*chanconfig.Bundle, bool) { return bundle, id == "ch" },
		Local:    local, LocalMSPID: "Org1MSP",
	})
	return f
}

func propose(t *testing.T, who *testpki.Identity) *peer.SignedProposal {
	t.Helper()
	p, err := txbuild.NewProposal(txbuild.ProposalSpec{
		Spec: &peer.ChaincodeSpec{ChaincodeId: &peer.ChaincodeID{Name: "cc"}},
	}, who.Serialize())
	if err != nil {
		t.Fatal(err)
	}
	sp, err := txbuild.SignProposal(p.Proposal, who)
	if err != nil {
		t.Fatal(err)
	}
	return sp
}

// check compares an error with a text, or with the beginning of one that ends
// in "…".
func check(t *testing.T, what string, err error, want string) {
	t.Helper()
	got := ""
	if err != nil {
		got = err.Error()
	}
	if cut, ok := strings.CutSuffix(want, "…"); ok && strings.HasPrefix(got, cut) {
		return
	}
	if got != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func TestDefaultPolicies(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	denied := "Failed evaluating policy on signed data during check policy on channel [ch] with policy [/Channel/Application/Writers]: [signature set did not satisfy policy]"
	for _, res := range []string{
		"lscc/ChaincodeExists", "lscc/GetDeploymentSpec", "lscc/GetChaincodeData", "lscc/GetInstantiatedChaincodes", "lscc/GetCollectionsConfig",
		"qscc/GetChainInfo", "qscc/GetBlockByNumber", "qscc/GetBlockByHash", "qscc/GetTransactionByID", "qscc/GetBlockByTxID",
		"cscc/GetConfigBlock", "cscc/GetConfigTree", "event/Block", "event/FilteredBlock", "token/List",
	} {
		check(t, res, f.CheckACL(res, "ch", propose(t, f.user)), "")
	}
	for _, res := range []string{"cscc/SimulateConfigTreeUpdate", "peer/Propose", "peer/ChaincodeToChaincode", "token/Issue", "token/Transfer"} {
		check(t, res, f.CheckACL(res, "ch", propose(t, f.user)), denied)
		check(t, res, f.CheckACL(res, "ch", propose(t, f.admin)), "")
	}
	for _, res := range []string{"lscc/Install", "lscc/Deploy", "cscc/JoinChain", "x"} {
		check(t, res, f.CheckACL(res, "ch", propose(t, f.admin)), "Unmapped policy for "+res)
	}
	check(t, "no such channel", f.CheckACL("event/Block", "nochan", propose(t, f.user)), "Failed to get policy manager for channel [nochan]")
	check(t, "no channel", f.CheckACL("event/Block", "", propose(t, f.user)),
		"Failed getting local MSP principal during channelless check policy with policy [/Channel/Application/Readers]: [MSP Principal role [/Channel/Application/Readers] not recognized]")
}

func TestMappedPolicies(t *testing.T) {
	t.Parallel()
	f := newFixture(t, map[string]string{
		"event/Block": "Writers", "peer/Propose": "/Channel/Application/Readers", "qscc/GetChainInfo": "Nope", "own/Resource": "Readers", "event/FilteredBlock": "",
	})
	check(t, "stricter", f.CheckACL("event/Block", "ch", propose(t, f.user)),
		"failed evaluating policy on signed data during check policy [/Channel/Application/Writers]: [signature set did not satisfy policy]")
	check(t, "laxer", f.CheckACL("peer/Propose", "ch", propose(t, f.user)), "")
	check(t, "missing policy", f.CheckACL("qscc/GetChainInfo", "ch", propose(t, f.admin)),
		"failed evaluating policy on signed data during check policy [/Channel/Application/Nope]: [policy /Channel/Application/Nope not found]")
	check(t, "unknown resource", f.CheckACL("own/Resource", "ch", propose(t, f.user)), "")
	check(t, "empty entry", f.CheckACL("event/FilteredBlock", "ch", propose(t, f.user)), "")
}

func TestEnvelopes(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	env, err := txbuild.SignedEnvelope(txbuild.EnvelopeSpec{ChannelID: "ch"}, f.user)
	if err != nil {
		t.Fatal(err)
	}
	check(t, "good", f.CheckEnvelope(acl.EventBlock, "ch", env), "")
	env.Signature[len(env.Signature)-1] ^= 1
	check(t, "forged", f.CheckEnvelope(acl.EventBlock, "ch", env), "Failed evaluating policy on signed data during check policy on channel [ch] with policy [/Channel/Application/Readers]: […")
	if f.CheckEnvelope(acl.EventBlock, "ch", &common.Envelope{}) == nil || f.CheckEnvelope(acl.EventBlock, "ch", &common.Envelope{Payload: []byte{0xff}}) == nil {
		t.Error("an envelope without signer is an error")
	}
}

func TestLocalRoles(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	stranger := testpki.NewOrg(t, "Org2MSP").Admin("admin")
	const during = " during channelless check policy with policy "
	check(t, "admin", f.CheckLocal(acl.Admins, propose(t, f.admin)), "")
	check(t, "member", f.CheckLocal(acl.Members, propose(t, f.user)), "")
	check(t, "not an admin", f.CheckLocal(acl.Admins, propose(t, f.user)), "Failed verifying that proposal's creator satisfies local MSP principal"+during+"[Admins]: […")
	check(t, "stranger", f.CheckLocal(acl.Members, propose(t, stranger)), "Failed deserializing proposal creator"+during+"[Members]: […")
	check(t, "role", f.CheckLocal("Kings", propose(t, f.admin)), "Failed getting local MSP principal"+during+"[Kings]: [MSP Principal role [Kings] not recognized]")
	forged := propose(t, f.admin)
	forged.Signature[len(forged.Signature)-1] ^= 1
	if f.CheckLocal(acl.Admins, forged) == nil {
		t.Error("a forged signature is an error")
	}
	if f.CheckLocal(acl.Admins, nil) == nil || f.CheckACL(acl.EventBlock, "ch", nil) == nil ||
		f.CheckLocal(acl.Admins, &peer.SignedProposal{ProposalBytes: []byte{0xff}}) == nil {
		t.Error("a proposal that cannot be decoded is an error")
	}
}
