package policy_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	mspproto "github.com/hyperledger/fabric-protos-go-apiv2/msp"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/policy"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/testpki"
	"github.com/heddle-ledger/heddle/msp"
	"github.com/heddle-ledger/heddle/msp/x509msp"
)

// toy identities: the bytes "3:ab" are identity 3 that is a and b; a principal is one letter; a signature
// is good if it is "good". An empty name does not deserialise.
type toyMSP struct{}

type toy struct{ name, letters string }

func (toyMSP) DeserializeIdentity(b []byte) (msp.Identity, error) {
	name, letters, ok := strings.Cut(string(b), ":")
	if !ok || name == "" {
		return nil, errors.New("no toy")
	}
	return toy{name, letters}, nil
}
func (toyMSP) IsWellFormed([]byte) error { return nil }

func (i toy) Identifier() msp.Identifier { return msp.Identifier{MSPID: "toy", ID: i.name} }
func (i toy) MSPID() string              { return "toy" }
func (i toy) Serialize() []byte          { return []byte(i.name + ":" + i.letters) }
func (i toy) Validate() error            { return nil }
func (i toy) ExpiresAt() time.Time       { return time.Time{} }
func (i toy) Verify(_, sig []byte) error {
	if string(sig) != "good" {
		return errors.New("bad")
	}
	return nil
}

func (i toy) SatisfiesPrincipal(p *mspproto.MSPPrincipal) error {
	if len(p.GetPrincipal()) == 0 || !strings.Contains(i.letters, string(p.GetPrincipal())) {
		return fmt.Errorf("not %s", p.GetPrincipal())
	}
	return nil
}

// model is IDENTITY-CONFIG §4.2 written down word by word, with a copy of the flags for each sub-rule.
func model(r *common.SignaturePolicy, principals []*mspproto.MSPPrincipal, set []policy.SignedData, used []bool) bool {
	switch t := r.Type.(type) {
	case *common.SignaturePolicy_SignedBy:
		for i, s := range set {
			id, _ := toyMSP{}.DeserializeIdentity(s.Identity)
			if !used[i] && id.SatisfiesPrincipal(principals[t.SignedBy]) == nil && id.Verify(nil, s.Signature) == nil {
				used[i] = true
				return true
			}
		}
		return false
	case *common.SignaturePolicy_NOutOf_:
		n := int32(0)
		for _, sub := range t.NOutOf.Rules {
			copied := append([]bool{}, used...)
			if model(sub, principals, set, copied) {
				n++
				copy(used, copied)
			}
		}
		return n >= t.NOutOf.N
	}
	return false
}

func dedupe(set []policy.SignedData) (out []policy.SignedData) {
	seen := map[string]bool{}
	for _, s := range set {
		id, err := toyMSP{}.DeserializeIdentity(s.Identity)
		if err != nil || seen[id.Identifier().ID] {
			continue
		}
		seen[id.Identifier().ID] = true
		out = append(out, s)
	}
	return out
}

func randomRule(r *rand.Rand, depth, principals int) *common.SignaturePolicy {
	if depth == 0 || r.IntN(3) == 0 {
		return policy.SignedBy(int32(r.IntN(principals)))
	}
	var rules []*common.SignaturePolicy
	for range r.IntN(4) {
		rules = append(rules, randomRule(r, depth-1, principals))
	}
	return policy.NOutOf(int32(r.IntN(len(rules)+2)), rules...)
}

func TestAgainstModel(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	var principals []*mspproto.MSPPrincipal
	for _, c := range "abcd" {
		principals = append(principals, &mspproto.MSPPrincipal{Principal: []byte(string(c))})
	}
	satisfied := 0
	for range 20000 {
		env := &common.SignaturePolicyEnvelope{Rule: randomRule(r, 3, len(principals)), Identities: principals}
		var set []policy.SignedData
		for range r.IntN(7) * r.IntN(5) {
			name := fmt.Sprint(r.IntN(30))
			if r.IntN(10) == 0 {
				name = ""
			}
			letters := ""
			for _, c := range "abcd" {
				if r.IntN(2) == 0 {
					letters += string(c)
				}
			}
			sig := "good"
			if r.IntN(5) == 0 {
				sig = "bad"
			}
			set = append(set, policy.SignedData{Identity: []byte(name + ":" + letters), Signature: []byte(sig)})
		}
		p, err := policy.NewSignaturePolicy(env, toyMSP{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		clean := dedupe(set)
		want := model(env.Rule, principals, clean, make([]bool, len(clean)))
		if got := p.Evaluate(set) == nil; got != want {
			t.Fatalf("%v\nover %s: got %v, want %v", env.Rule, set, got, want)
		}
		if want {
			satisfied++
		}
	}
	if satisfied < 2000 || satisfied > 18000 {
		t.Errorf("%d of 20000 satisfied: the test says little", satisfied)
	}
}

func TestCompileErrors(t *testing.T) {
	t.Parallel()
	one := []*mspproto.MSPPrincipal{{}}
	for _, tc := range []struct {
		env  *common.SignaturePolicyEnvelope
		want string
	}{
		{nil, "Empty policy element"},
		{&common.SignaturePolicyEnvelope{Version: 1}, "This evaluator only understands messages of version 0, but version was 1"},
		{&common.SignaturePolicyEnvelope{Rule: policy.SignedBy(1), Identities: one}, "identity index out of range, requested 1, but identities length is 1"},
		{&common.SignaturePolicyEnvelope{Rule: policy.SignedBy(-1), Identities: one}, "identity index out of range, requested -1, but identities length is 1"},
		{&common.SignaturePolicyEnvelope{Rule: policy.NOutOf(1, nil)}, "Empty policy element"},
		{&common.SignaturePolicyEnvelope{Rule: &common.SignaturePolicy{}}, "Unknown type: <nil>:<nil>"},
	} {
		if _, err := policy.NewSignaturePolicy(tc.env, toyMSP{}, nil); err == nil || err.Error() != tc.want {
			t.Errorf("got %v, want %s", err, tc.want)
		}
	}
}

func TestBuilders(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		got  *common.SignaturePolicyEnvelope
		want string
	}{
		{policy.SignedByMSPMember("A"), "OR('A.member')"},
		{policy.SignedByMSPAdmin("A"), "OR('A.admin')"},
		{policy.SignedByMSPClient("A"), "OR('A.client')"},
		{policy.SignedByMSPPeer("A"), "OR('A.peer')"},
		{policy.SignedByAnyMember([]string{"A", "B"}), "OR('A.member','B.member')"},
		{policy.SignedByAnyAdmin([]string{"A", "B"}), "OR('A.admin','B.admin')"},
		{policy.SignedByAnyPeer([]string{"A", "B"}), "OR('A.peer','B.peer')"},
	} {
		want, err := policy.FromString(tc.want)
		if err != nil || !proto.Equal(tc.got, want) {
			t.Errorf("%s: got %v (%v)", tc.want, tc.got, err)
		}
	}
	for env, want := range map[*common.SignaturePolicyEnvelope]bool{policy.AcceptAll(): true, policy.RejectAll(): false} {
		p, err := policy.NewSignaturePolicy(env, toyMSP{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Evaluate(nil) == nil; got != want {
			t.Errorf("%v: %v", env, got)
		}
	}
}

func signedBy(letter string) *common.ConfigPolicy {
	env := &common.SignaturePolicyEnvelope{Rule: policy.SignedBy(0), Identities: []*mspproto.MSPPrincipal{{Principal: []byte(letter)}}}
	return &common.ConfigPolicy{Policy: &common.Policy{Type: 1, Value: protoutil.Marshal(env)}}
}

func implicit(rule int32, sub string) *common.ConfigPolicy {
	v := protoutil.Marshal(&common.ImplicitMetaPolicy{Rule: common.ImplicitMetaPolicy_Rule(rule), SubPolicy: sub})
	return &common.ConfigPolicy{Policy: &common.Policy{Type: 3, Value: v}}
}

type policies = map[string]*common.ConfigPolicy

func TestImplicitMeta(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		rule     int32
		children int
		signed   string
		want     string
	}{
		{0, 0, "", ""},
		{1, 0, "", ""},
		{2, 0, "", ""},
		{9, 0, "", ""},
		{0, 3, "b", ""},
		{1, 3, "abc", ""},
		{0, 3, "", "implicit policy evaluation failed - 0 sub-policies were satisfied, but this policy requires 1 of the 'P' sub-policies to be satisfied"},
		{1, 3, "ab", "implicit policy evaluation failed - 2 sub-policies were satisfied, but this policy requires 3 of the 'P' sub-policies to be satisfied"},
		{2, 3, "ab", ""},
		{2, 2, "ab", ""},
		{2, 1, "a", ""},
		{2, 2, "a", "implicit policy evaluation failed - 1 sub-policies were satisfied, but this policy requires 2 of the 'P' sub-policies to be satisfied"},
		{2, 4, "ab", "implicit policy evaluation failed - 2 sub-policies were satisfied, but this policy requires 3 of the 'P' sub-policies to be satisfied"},
		{9, 2, "", ""},
		{9, 2, "a", "implicit policy evaluation failed - 1 sub-policies were satisfied, but this policy requires 0 of the 'P' sub-policies to be satisfied"},
	} {
		root := &common.ConfigGroup{Policies: policies{"M": implicit(tc.rule, "P")}, Groups: map[string]*common.ConfigGroup{}}
		for i := range tc.children {
			root.Groups[fmt.Sprint(i)] = &common.ConfigGroup{Policies: policies{"P": signedBy(string(rune('a' + i)))}}
		}
		m, err := policy.NewManager("Channel", root, toyMSP{}, flog.ForTest(t))
		if err != nil {
			t.Fatal(err)
		}
		p, ok := m.Policy("/Channel/M")
		if !ok {
			t.Fatal("missing")
		}
		var set []policy.SignedData
		for _, c := range tc.signed {
			set = append(set, policy.SignedData{Identity: []byte(string(c) + ":" + string(c)), Signature: []byte("good")})
		}
		if got := text(p.Evaluate(set)); got != tc.want {
			t.Errorf("%+v: got %s", tc, got)
		}
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestManagerPaths(t *testing.T) {
	t.Parallel()
	root := &common.ConfigGroup{
		Policies: policies{"Readers": signedBy("a")},
		Groups: map[string]*common.ConfigGroup{"Application": {
			Policies: policies{"Admins": signedBy("a"), "Below": implicit(0, "Admins"), "Nobody": implicit(0, "None")},
			Groups:   map[string]*common.ConfigGroup{"Org1": {Policies: policies{"Admins": signedBy("a")}}},
		}},
	}
	m, err := policy.NewManager("Channel", root, toyMSP{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	app, ok := m.Sub("Application")
	if !ok {
		t.Fatal("no Application")
	}
	for _, tc := range []struct {
		m    *policy.Manager
		name string
		want string // of the failure; empty: found
	}{
		{m, "Readers", ""},
		{m, "/Channel/Readers", ""},
		{m, "/ChannelXReaders", ""},
		{m, "Application/Org1/Admins", ""},
		{m, "/Channel/Application/Org1/Admins", ""},
		{app, "Org1/Admins", ""},
		{app, "/Channel/Application/Org1/Admins", ""},
		{app, "/Channel/Readers", "No such policy: '/Channel/Readers'"},
		{m, "", "No such policy: ''"},
		{m, "/", "No such policy: '/'"},
		{m, "/Channel", "No such policy: '/Channel'"},
		{m, "/Channel/", "No such policy: ''"},
		{m, "/Channel/Application", "No such policy: 'Application'"},
		{m, "/Channel/x", "No such policy: 'x'"},
		{m, "/Other/x", "No such policy: '/Other/x'"},
		{nil, "Readers", "No such policy: 'Readers'"},
	} {
		p, ok := tc.m.Policy(tc.name)
		if ok != (tc.want == "") {
			t.Errorf("%s: found %v", tc.name, ok)
		}
		if err := p.Evaluate(nil); !ok && text(err) != tc.want {
			t.Errorf("%s: got %v, want %s", tc.name, err, tc.want)
		}
	}
	for _, path := range [][]string{{"Nope"}, {"Application", "Org1", "x", "y"}} {
		if s, ok := m.Sub(path...); ok || s != nil {
			t.Errorf("%v exists", path)
		}
	}
	if self, ok := m.Sub(); !ok || self != m {
		t.Error("the empty path is the manager itself")
	}
	p, _ := app.Policy("Nobody")
	if p.Evaluate([]policy.SignedData{{Identity: []byte("a:a"), Signature: []byte("good")}}) == nil {
		t.Error("a child without the policy satisfied it")
	}
}

func TestManagerErrors(t *testing.T) {
	t.Parallel()
	bad := &common.ConfigPolicy{Policy: &common.Policy{Type: 1, Value: protoutil.Marshal(&common.SignaturePolicyEnvelope{Version: 3})}}
	for _, tc := range []struct {
		p    *common.ConfigPolicy
		want string
	}{
		{&common.ConfigPolicy{}, "policy P at path Channel/G was nil"},
		{nil, "policy P at path Channel/G was nil"},
		{&common.ConfigPolicy{Policy: &common.Policy{}}, "policy P at path Channel/G has unknown policy type: 0"},
		{&common.ConfigPolicy{Policy: &common.Policy{Type: 2}}, "policy P at path Channel/G has unknown policy type: 2"},
		{bad, "policy P at path Channel/G did not compile: This evaluator only understands messages of version 0, but version was 3"},
		{&common.ConfigPolicy{Policy: &common.Policy{Type: 1, Value: []byte{1}}}, "policy P at path Channel/G did not compile: Error unmarshaling to SignaturePolicy: "},
		{&common.ConfigPolicy{Policy: &common.Policy{Type: 3, Value: []byte{1}}}, "implicit policy P at path Channel/G did not compile: Error unmarshaling to ImplicitMetaPolicy: "},
	} {
		root := &common.ConfigGroup{Groups: map[string]*common.ConfigGroup{"G": {Policies: policies{"P": tc.p}}}}
		if _, err := policy.NewManager("Channel", root, toyMSP{}, nil); !strings.HasPrefix(text(err), tc.want) {
			t.Errorf("got %v, want %s", err, tc.want)
		}
	}
}

func TestEnvelopeSignedData(t *testing.T) {
	t.Parallel()
	payload := protoutil.Marshal(&common.Payload{Header: &common.Header{SignatureHeader: protoutil.Marshal(&common.SignatureHeader{Creator: []byte("me")})}})
	set, err := policy.EnvelopeSignedData(&common.Envelope{Payload: payload, Signature: []byte("sig")})
	if err != nil || len(set) != 1 || string(set[0].Data) != string(payload) || string(set[0].Identity) != "me" || string(set[0].Signature) != "sig" {
		t.Errorf("%v, %v", set, err)
	}
	for _, env := range []*common.Envelope{nil, {}, {Payload: []byte{1}}, {Payload: protoutil.Marshal(&common.Payload{Header: &common.Header{SignatureHeader: []byte{1}}})}} {
		if _, err := policy.EnvelopeSignedData(env); err == nil {
			t.Errorf("%v was accepted", env)
		}
	}
}

func FuzzEvaluate(f *testing.F) {
	env := policy.SignedByAnyMember([]string{"a", "b"})
	f.Add(protoutil.Marshal(env), []byte("1:ab good\n2:b bad"))
	f.Add(protoutil.Marshal(&common.SignaturePolicyEnvelope{Rule: policy.NOutOf(1, policy.NOutOf(0), policy.SignedBy(0)), Identities: []*mspproto.MSPPrincipal{{Principal: []byte("a")}}}), []byte("1:a good"))
	f.Fuzz(func(t *testing.T, raw, signatures []byte) {
		env := &common.SignaturePolicyEnvelope{}
		if proto.Unmarshal(raw, env) != nil {
			return
		}
		p, err := policy.NewSignaturePolicy(env, toyMSP{}, nil)
		if err != nil {
			return
		}
		var set []policy.SignedData
		for line := range strings.Lines(string(signatures)) {
			id, sig, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
			set = append(set, policy.SignedData{Identity: []byte(id), Signature: []byte(sig)})
		}
		clean := dedupe(set)
		want := model(env.Rule, env.Identities, clean, make([]bool, len(clean)))
		if got := p.Evaluate(set) == nil; got != want {
			t.Errorf("%v over %s: got %v", env, set, got)
		}
	})
}

func FuzzManager(f *testing.F) {
	f.Add(protoutil.Marshal(&common.ConfigGroup{Policies: policies{"P": signedBy("a"), "Q": implicit(0, "P")}}), "/Channel/P")
	f.Fuzz(func(t *testing.T, raw []byte, name string) {
		root := &common.ConfigGroup{}
		if proto.Unmarshal(raw, root) != nil {
			return
		}
		m, err := policy.NewManager("Channel", root, toyMSP{}, nil)
		if err != nil {
			return
		}
		p, _ := m.Policy(name)
		_ = p.Evaluate([]policy.SignedData{{Identity: []byte("a:a"), Signature: []byte("good")}})
	})
}

func benchmarkEvaluate(b *testing.B, signers int) {
	org := testpki.NewOrg(b, "Org1MSP")
	m, err := x509msp.New(org.MSPConfig(), msp.V1_4_3)
	if err != nil {
		b.Fatal(err)
	}
	data := make([]byte, 1000)
	var set []policy.SignedData
	var items []string
	for i := range signers {
		peer := org.Peer(fmt.Sprint(i))
		set = append(set, policy.SignedData{Data: data, Identity: peer.Serialize(), Signature: peer.MustSign(data)})
		items = append(items, "'Org1MSP.peer'")
	}
	env, err := policy.FromString("AND(" + strings.Join(items, ",") + ")")
	if err != nil {
		b.Fatal(err)
	}
	p, err := policy.NewSignaturePolicy(env, msp.NewManager([]msp.MSP{m}), nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := p.Evaluate(set); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEvaluate1(b *testing.B)  { benchmarkEvaluate(b, 1) }
func BenchmarkEvaluate3(b *testing.B)  { benchmarkEvaluate(b, 3) }
func BenchmarkEvaluate10(b *testing.B) { benchmarkEvaluate(b, 10) }

func BenchmarkImplicitMeta(b *testing.B) {
	root, msps := standalone(b)
	m, err := policy.NewManager("Channel", root, msps, nil)
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range evalCases(b) {
		if c.Path != "/Channel/Readers" || c.Result != "OK" {
			continue
		}
		p, _ := m.Policy(c.Path)
		set := c.signedData(b)
		b.ReportAllocs()
		for b.Loop() {
			if err := p.Evaluate(set); err != nil {
				b.Fatal(err)
			}
		}
		return
	}
}

func BenchmarkFromString(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := policy.FromString("OutOf(2, 'Org1MSP.peer', 'Org2MSP.peer', AND('Org3MSP.admin', 'Org4MSP.client'))"); err != nil {
			b.Fatal(err)
		}
	}
}
