package lscc_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/queryresult"
	mspproto "github.com/hyperledger/fabric-protos-go-apiv2/msp"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/chaincode/packaging"
	"github.com/heddle-ledger/heddle/chaincode/stream"
	"github.com/heddle-ledger/heddle/chaincode/support"
	"github.com/heddle-ledger/heddle/internal/chanconfig"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/policy"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/testpki"
	"github.com/heddle-ledger/heddle/internal/txbuild"
	"github.com/heddle-ledger/heddle/peer/syscc/lscc"
)

// fixture is an LSCC on a channel with one organisation.
type fixture struct {
	org         *testpki.Org
	admin, user *testpki.Identity
	bundle      *chanconfig.Bundle
	packages    packages
	state       state
	*lscc.LSCC
}

func newFixture(t testing.TB, capability string) *fixture {
	t.Helper()
	org := testpki.NewOrg(t, "Org1MSP")
	f := &fixture{org: org, admin: org.Admin("admin"), user: org.Client("user"), packages: packages{}, state: state{}}
	f.bundle = channel(t, org, capability)
	f.LSCC = lscc.New(lscc.Config{
		Channels: func(id string) (*chanconfig.Bundle, bool) { return f.bundle, id == "ch" },
		Access:   everybody{}, Packages: f.packages,
		IsSystem: func(name string) bool { return name == "lscc" },
	})
	return f
}

func channel(t testing.TB, org *testpki.Org, capability string) *chanconfig.Bundle {
	t.Helper()
	value := func(raw []byte) *common.ConfigValue { return &common.ConfigValue{Value: raw, ModPolicy: "Admins"} }
	capabilities := func(name string) *common.ConfigValue {
		c := &common.Capabilities{Capabilities: map[string]*common.Capability{}}
		if name != "" {
			c.Capabilities[name] = &common.Capability{}
		}
		return value(protoutil.Marshal(c))
	}
	app := &common.ConfigGroup{
		ModPolicy: "Admins",
		Values:    map[string]*common.ConfigValue{"Capabilities": capabilities(capability)},
		Groups: map[string]*common.ConfigGroup{"Org1": {
			ModPolicy: "Admins",
			Values:    map[string]*common.ConfigValue{"MSP": value(protoutil.Marshal(org.MSPConfig()))},
		}},
	}
	root := &common.ConfigGroup{
		ModPolicy: "Admins",
		Values: map[string]*common.ConfigValue{
			"Capabilities":              capabilities("V1_4_3"),
			"HashingAlgorithm":          value(protoutil.Marshal(&common.HashingAlgorithm{Name: "SHA256"})),
			"BlockDataHashingStructure": value(protoutil.Marshal(&common.BlockDataHashingStructure{Width: 1<<32 - 1})),
			"OrdererAddresses":          value(protoutil.Marshal(&common.OrdererAddresses{Addresses: []string{"o:7050"}})),
		},
		Groups: map[string]*common.ConfigGroup{"Application": app},
	}
	b, err := chanconfig.NewBundle("ch", &common.Config{ChannelGroup: root}, chanconfig.Options{Log: flog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

type everybody struct{}

func (everybody) CheckACL(_, channelID string, _ *peer.SignedProposal) error {
	if channelID == "closed" {
		return errors.New("go away")
	}
	return nil
}
func (everybody) CheckLocal(string, *peer.SignedProposal) error { return nil }

// packages are installed packages by NAME.VERSION.
type packages map[string]*packaging.Package

func (p packages) Parse(raw []byte) (*packaging.Package, error) { return packaging.Parse(raw) }

func (p packages) Load(name, version string) (*packaging.Package, error) {
	pkg, ok := p[name+"."+version]
	if !ok {
		return nil, os.ErrNotExist
	}
	return pkg, nil
}

func (p packages) Save(pkg *packaging.Package) error {
	if _, ok := p[pkg.Name()+"."+pkg.Version()]; ok {
		return errors.New("exists")
	}
	p[pkg.Name()+"."+pkg.Version()] = pkg
	return nil
}

func (p packages) List() ([]*packaging.Package, error) { return nil, nil }

// state is the state of namespace lscc; what is written is seen at once.
type state map[string][]byte

func (s state) GetState(ns, key string) ([]byte, error) {
	if key == "broken" {
		return nil, errors.New("disk on fire")
	}
	return s[key], nil
}

type simulator struct {
	stream.Simulator
	state
}

func (s simulator) GetState(ns, key string) ([]byte, error) { return s.state.GetState(ns, key) }
func (s simulator) SetState(ns, key string, value []byte) error {
	s.state[key] = value
	return nil
}

func (s simulator) GetStateRange(ns, start, end string) (stream.Iterator, error) {
	it := &iterator{}
	for k, v := range s.state {
		it.left = append(it.left, &queryresult.KV{Key: k, Value: v})
	}
	slices.SortFunc(it.left, func(a, b *queryresult.KV) int { return strings.Compare(a.Key, b.Key) })
	return it, nil
}

type iterator struct{ left []*queryresult.KV }

func (it *iterator) Close() {}
func (it *iterator) Next() (*queryresult.KV, error) {
	if len(it.left) == 0 {
		return nil, nil
	}
	kv := it.left[0]
	it.left = it.left[1:]
	return kv, nil
}

func (f *fixture) call(t testing.TB, who *testpki.Identity, args ...string) *peer.Response {
	t.Helper()
	p, err := txbuild.NewProposal(txbuild.ProposalSpec{
		ChannelID: "ch", Spec: &peer.ChaincodeSpec{ChaincodeId: &peer.ChaincodeID{Name: "lscc"}},
	}, who.Serialize())
	if err != nil {
		t.Fatal(err)
	}
	sp, err := txbuild.SignProposal(p.Proposal, who)
	if err != nil {
		t.Fatal(err)
	}
	inv := &support.Invocation{
		Name: "lscc", ChannelID: "ch", TxID: p.TxID, SignedProposal: sp, Proposal: p.Proposal,
		Simulator: simulator{state: f.state},
	}
	for _, a := range args {
		inv.Args = append(inv.Args, []byte(a))
	}
	return f.Invoke(context.Background(), inv)
}

func want(t *testing.T, what string, got *peer.Response, message string) {
	t.Helper()
	if message == "" {
		if got.Status != 200 {
			t.Errorf("%s: got %v", what, got)
		}
		return
	}
	if got.Status != 500 || got.Message != message {
		t.Errorf("%s: got %d %q, want %q", what, got.Status, got.Message, message)
	}
}

func spec(name, version string) string {
	return string(protoutil.Marshal(&peer.ChaincodeDeploymentSpec{ChaincodeSpec: &peer.ChaincodeSpec{
		Type: peer.ChaincodeSpec_GOLANG, ChaincodeId: &peer.ChaincodeID{Name: name, Version: version}, Input: &peer.ChaincodeInput{},
	}}))
}

func (f *fixture) installSpec(t testing.TB, name, version string) *packaging.Package {
	t.Helper()
	pkg, err := packaging.Parse([]byte(spec(name, version)))
	if err != nil {
		t.Fatal(err)
	}
	f.packages[name+"."+version] = pkg
	return pkg
}

// installSigned installs a package with an instantiation policy.
func (f *fixture) installSigned(t testing.TB, name, version string, p *common.SignaturePolicyEnvelope) {
	t.Helper()
	env, err := packaging.BuildSigned([]byte(spec(name, version)), protoutil.Marshal(p), nil)
	if err != nil {
		t.Fatal(err)
	}
	pkg, err := packaging.Parse(protoutil.Marshal(env))
	if err != nil {
		t.Fatal(err)
	}
	f.packages[name+"."+version] = pkg
}

func TestDeployAndUpgrade(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "V1_4_2")
	f.installSpec(t, "cc", "1")
	f.installSpec(t, "cc", "2")
	resp := f.call(t, f.admin, "deploy", "ch", spec("cc", "1"), "policy", "myescc", "myvscc")
	want(t, "deploy", resp, "")
	cd, err := packaging.ParseChaincodeData(resp.Payload)
	if err != nil || cd.Name != "cc" || cd.Version != "1" || string(cd.Policy) != "policy" || cd.Escc != "myescc" || cd.Vscc != "myvscc" {
		t.Errorf("got %+v, %v", cd, err)
	}
	if string(f.state["cc"]) != string(resp.Payload) {
		t.Error("the record is not what is stored")
	}
	want(t, "again", f.call(t, f.admin, "deploy", "ch", spec("cc", "1")), "chaincode with name 'cc' already exists")
	want(t, "same version", f.call(t, f.admin, "upgrade", "ch", spec("cc", "1")), "version already exists for chaincode with name 'cc'")
	want(t, "no admin", f.call(t, f.user, "upgrade", "ch", spec("cc", "2")), "instantiation policy violation: signature set did not satisfy policy")
	want(t, "upgrade", f.call(t, f.admin, "upgrade", "ch", spec("cc", "2")), "")
	cd.InstantiationPolicy = nil
	f.state["cc"] = cd.Marshal()
	want(t, "no policy", f.call(t, f.admin, "upgrade", "ch", spec("cc", "2")), "instantiation policy missing")
	f.state["cc"] = []byte{0xff}
	want(t, "undecodable", f.call(t, f.admin, "upgrade", "ch", spec("cc", "2")), "error while marshalling: cc")
	cd.Name = "other"
	f.state["cc"] = cd.Marshal()
	want(t, "other name", f.call(t, f.admin, "getid", "ch", "cc"), "chaincode name mismatch: cc!=other")
}

func TestInstantiationPolicyOfPackage(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "V1_4_2")
	f.installSigned(t, "cc", "1", policy.SignedByMSPMember("Org1MSP"))
	want(t, "member may", f.call(t, f.user, "deploy", "ch", spec("cc", "1")), "")
	f.installSigned(t, "cc", "2", policy.RejectAll())
	want(t, "new policy counts", f.call(t, f.user, "upgrade", "ch", spec("cc", "2")), "instantiation policy violation: signature set did not satisfy policy")
}

func TestDeploymentArguments(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "V1_4_2")
	f.installSpec(t, "cc", "1")
	for _, tc := range []struct {
		args    []string
		message string
	}{
		{[]string{"deploy", "ch"}, "invalid number of arguments to lscc: 2"},
		{[]string{"deploy", "", ""}, "invalid channel name: "},
		{[]string{"deploy", "other", spec("cc", "1")}, "channel name mismatch: argument other, proposal ch"},
		{[]string{"deploy", "ch", ""}, "invalid deployment spec: no chaincode id"},
		{[]string{"deploy", "ch", spec("cc", "9")}, "cannot get package for chaincode (cc:9)"},
		{[]string{"deploy", "ch", spec("broken", "1")}, "cannot get package for chaincode (broken:1)"},
		{[]string{"upgrade", "ch", spec("cc", "1")}, "could not find chaincode with name 'cc'"},
		{[]string{"deploy", "ch", spec("cc", "1"), "", "\xff"}, "error while marshalling: cc"},
		{[]string{"deploy", "ch", spec("cc", "1"), "", "", "", "", ""}, "invalid number of arguments to lscc: 8"},
		{[]string{}, "invalid number of arguments to lscc: 0"},
		{[]string{"nosuch"}, "invalid function to lscc: nosuch"},
		{[]string{"getid", "closed", "cc"}, "access denied for [getid][closed]: go away"},
	} {
		want(t, strings.Join(tc.args, " "), f.call(t, f.admin, tc.args...), tc.message)
	}
	resp := f.call(t, f.admin, "getid", "ch", "broken")
	if !strings.HasPrefix(resp.Message, "transaction not found: GET_STATE failed: transaction ID: ") || !strings.HasSuffix(resp.Message, ": disk on fire") {
		t.Errorf("got %s", resp.Message)
	}
}

func TestCapabilities(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "V1_1")
	f.installSpec(t, "cc", "1")
	want(t, "no collections", f.call(t, f.admin, "deploy", "ch", spec("cc", "1"), "", "", "", "x"),
		"as V1_2 or later capability is not enabled, private channel collections and data are not available")
	f = newFixture(t, "V1_1_PVTDATA_EXPERIMENTAL")
	f.installSpec(t, "cc", "1")
	f.installSpec(t, "cc", "2")
	want(t, "deploy", f.call(t, f.admin, "deploy", "ch", spec("cc", "1"), "", "", "", ""), "")
	want(t, "no upgrade", f.call(t, f.admin, "upgrade", "ch", spec("cc", "2"), "", "", "", ""),
		"as V1_2 capability is not enabled, collection upgrades are not allowed")
}

func collections(configs ...*peer.StaticCollectionConfig) string {
	pkg := &peer.CollectionConfigPackage{}
	for _, c := range configs {
		pkg.Config = append(pkg.Config, &peer.CollectionConfig{
			Payload: &peer.CollectionConfig_StaticCollectionConfig{StaticCollectionConfig: c},
		})
	}
	return string(protoutil.Marshal(pkg))
}

func members(p ...*mspproto.MSPPrincipal) *peer.StaticCollectionConfig {
	env := &common.SignaturePolicyEnvelope{Identities: p, Rule: policy.NOutOf(1, policy.SignedBy(0))}
	return &peer.StaticCollectionConfig{Name: "c", MemberOrgsPolicy: &peer.CollectionPolicyConfig{
		Payload: &peer.CollectionPolicyConfig_SignaturePolicy{SignaturePolicy: env},
	}}
}

func TestCollections(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "V1_4_2")
	f.installSpec(t, "cc", "1")
	const failed = "collection member policy check failed: "
	role := policy.RolePrincipal("Nobody", mspproto.MSPRole_MEMBER)
	garbage := func(class mspproto.MSPPrincipal_Classification) *mspproto.MSPPrincipal {
		return &mspproto.MSPPrincipal{PrincipalClassification: class, Principal: []byte{0xff}}
	}
	ou := &mspproto.MSPPrincipal{
		PrincipalClassification: mspproto.MSPPrincipal_ORGANIZATION_UNIT,
		Principal:               protoutil.Marshal(&mspproto.OrganizationUnit{MspIdentifier: "Org1MSP"}),
	}
	identity := &mspproto.MSPPrincipal{PrincipalClassification: mspproto.MSPPrincipal_IDENTITY, Principal: f.user.Serialize()}
	outOfRange := members(role)
	outOfRange.MemberOrgsPolicy.GetSignaturePolicy().Rule = policy.SignedBy(3)
	empty := &peer.StaticCollectionConfig{MemberOrgsPolicy: &peer.CollectionPolicyConfig{}}
	for _, tc := range []struct{ name, config, message string }{
		{"no policy", collections(&peer.StaticCollectionConfig{}), failed + "collection member policy is not set"},
		{"empty policy", collections(empty), failed + "collection member org policy is empty"},
		{"principal", collections(members(garbage(mspproto.MSPPrincipal_ANONYMITY))), failed + "collection-name: c -- principal type ANONYMITY is not supported"},
		{"garbage", "\xff", "invalid collection configuration supplied for chaincode cc:1"},
	} {
		delete(f.state, "cc")
		want(t, tc.name, f.call(t, f.admin, "deploy", "ch", spec("cc", "1"), "", "", "", tc.config), tc.message)
	}
	for _, tc := range []struct{ name, config, prefix string }{
		{"role", collections(members(garbage(mspproto.MSPPrincipal_ROLE))), failed + "collection-name: c -- cannot unmarshal"},
		{"ou", collections(members(garbage(mspproto.MSPPrincipal_ORGANIZATION_UNIT))), failed + "collection-name: c -- cannot unmarshal"},
		{"identity", collections(members(garbage(mspproto.MSPPrincipal_IDENTITY))), failed + "collection-name: c -- contains an identity that is not part of the channel"},
		{"out of range", collections(outOfRange), failed + "invalid member org policy for collection 'c': "},
	} {
		delete(f.state, "cc")
		if got := f.call(t, f.admin, "deploy", "ch", spec("cc", "1"), "", "", "", tc.config); !strings.HasPrefix(got.Message, tc.prefix) {
			t.Errorf("%s: got %q, want %q", tc.name, got.Message, tc.prefix)
		}
	}
	delete(f.state, "cc")
	good := collections(members(role, ou, identity))
	want(t, "good", f.call(t, f.admin, "deploy", "ch", spec("cc", "1"), "", "", "", good), "")
	if string(f.state["cc~collection"]) != good {
		t.Error("the collections are not stored as given")
	}
	got := f.call(t, f.user, "getcollectionsconfig", "cc")
	if string(got.Payload) != good {
		t.Errorf("got %v", got)
	}
}

func TestCodeOfDefinition(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "V1_4_2")
	pkg := f.installSpec(t, "cc", "1")
	want(t, "deploy", f.call(t, f.admin, "deploy", "ch", spec("cc", "1")), "")
	def, err := f.ContainerInfo("cc", simulator{state: f.state})
	if err != nil || def.CName() != "cc:1" || def.Type != peer.ChaincodeSpec_GOLANG {
		t.Errorf("got %v, %v", def, err)
	}
	if got := f.call(t, f.user, "getdepspec", "ch", "cc"); string(got.Payload) != string(pkg.SpecBytes()) {
		t.Errorf("got %v", got)
	}
	if def, err := f.Callee("ch", "cc", simulator{state: f.state}); err != nil || def.CName() != "cc:1" {
		t.Errorf("got %v, %v", def, err)
	}
	cd, err := f.Definition("cc", f.state)
	if err != nil {
		t.Fatal(err)
	}
	cd.Data = []byte("other")
	f.state["cc"] = cd.Marshal()
	want(t, "other code", f.call(t, f.user, "getdepspec", "ch", "cc"), "chaincode fingerprint mismatch: data mismatch")
	delete(f.packages, "cc.1")
	_, err = f.ContainerInfo("cc", simulator{state: f.state})
	if err == nil || err.Error() != "could not get chaincode code: invalid deployment spec: file does not exist" {
		t.Errorf("got %v", err)
	}
	for _, name := range []string{"none", "broken"} {
		_, err1 := f.ContainerInfo(name, simulator{state: f.state})
		_, err2 := f.Definition(name, f.state)
		if err1 == nil || err2 == nil || err1.Error() != err2.Error() {
			t.Errorf("%s: %v, %v", name, err1, err2)
		}
	}
	if _, err := f.ContainerInfo("cc", nil); err == nil {
		t.Error("without a channel there is no definition")
	}
}

func TestCheckInstalled(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "V1_4_2")
	cd := &packaging.ChaincodeData{Name: "cc", Version: "1", InstantiationPolicy: []byte("x")}
	check := func(message string) {
		t.Helper()
		if err := f.CheckInstalled(cd); err == nil && message != "" || err != nil && err.Error() != message {
			t.Errorf("got %v, want %q", err, message)
		}
	}
	check("cannot retrieve package for chaincode cc/1, error file does not exist")
	f.installSpec(t, "cc", "1")
	check("") // a plain package has no policy of its own
	delete(f.packages, "cc.1")
	check("") // and is not read again
	f.installSigned(t, "cc", "2", policy.AcceptAll())
	cd.Version = "2"
	check("Instantiation policy mismatch for cc cc/2")
	cd.InstantiationPolicy = protoutil.Marshal(policy.AcceptAll())
	check("")
}

func TestCallsWithoutProposalOrState(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "V1_4_2")
	got := f.Invoke(context.Background(), &support.Invocation{Name: "lscc", Args: [][]byte{[]byte("getid")}})
	if got.Status != 500 || !strings.HasPrefix(got.Message, "Failed retrieving signed proposal on executing getid with error") {
		t.Errorf("got %v", got)
	}
	inv := &support.Invocation{Name: "lscc", TxID: "t", SignedProposal: &peer.SignedProposal{}, Args: [][]byte{[]byte("getchaincodes")}}
	want(t, "no state", f.Invoke(context.Background(), inv), "GET_STATE_BY_RANGE failed: transaction ID: t: no ledger context")
}

func FuzzInvoke(f *testing.F) {
	x := newFixture(f, "V1_4_2")
	x.installSpec(f, "cc", "1")
	for _, function := range []string{"install", "deploy", "upgrade", "getid", "getdepspec", "getccdata", "getchaincodes", "getinstalledchaincodes", "getcollectionsconfig"} {
		f.Add(function, []byte("ch"), []byte(spec("cc", "1")), []byte(collections(members())))
	}
	f.Fuzz(func(t *testing.T, function string, a, b, c []byte) {
		for _, args := range [][]string{
			{function},
			{function, string(a)},
			{function, string(b)},
			{function, string(a), string(b)},
			{function, string(a), string(b), "", "", "", string(c)},
		} {
			if resp := x.call(t, x.admin, args...); resp == nil {
				t.Error("no response")
			}
		}
		clear(x.state)
	})
}

// TestInstallingFramesTheSave: indexes are created before the package can be
// found, and the word of it stays until then.
func TestInstallingFramesTheSave(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "V1_4_2")
	var log []string
	installed := func(p *packaging.Package) bool {
		_, err := f.packages.Load(p.Name(), p.Version())
		return err == nil
	}
	l := lscc.New(lscc.Config{
		Access: everybody{}, Packages: f.packages, IsSystem: func(string) bool { return false },
		Installing: func(p *packaging.Package, files []packaging.MetadataFile) func() {
			log = append(log, fmt.Sprintf("begin %s %v %d", p.Name(), installed(p), len(files)))
			return func() { log = append(log, fmt.Sprintf("end %s %v", p.Name(), installed(p))) }
		},
	})
	raw, err := os.ReadFile("../../../chaincode/packaging/testdata/packages/go_simple_1.0.cds")
	if err != nil {
		t.Fatal(err)
	}
	inv := &support.Invocation{Name: "lscc", SignedProposal: &peer.SignedProposal{}, Args: [][]byte{[]byte("install"), raw}}
	if got := l.Invoke(context.Background(), inv); got.Status != 200 {
		t.Fatal(got)
	}
	if got := l.Invoke(context.Background(), inv); got.Status == 200 {
		t.Error("installed twice")
	}
	inv.Args[1] = raw[:len(raw)/2]
	if got := l.Invoke(context.Background(), inv); got.Status == 200 {
		t.Error("half a package is installed")
	}
	want := []string{"begin simple false 2", "end simple true", "begin simple true 2", "end simple true"}
	if !slices.Equal(log, want) {
		t.Errorf("got %q, want %q", log, want)
	}
}
