package policy_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	mspproto "github.com/hyperledger/fabric-protos-go-apiv2/msp"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/policy"
	"github.com/heddle-ledger/heddle/internal/testpki"
	"github.com/heddle-ledger/heddle/msp"
	"github.com/heddle-ledger/heddle/msp/x509msp"
)

// logged collects log lines.
type logged struct{ strings.Builder }

func (*logged) Helper() {}

func (l *logged) Log(args ...any) { fmt.Fprintln(l, args...) }

func TestExplanation(t *testing.T) {
	t.Parallel()
	org := testpki.NewOrg(t, "Org1MSP")
	m, err := x509msp.New(org.MSPConfig(), msp.V1_4_3)
	if err != nil {
		t.Fatal(err)
	}
	env, err := policy.FromString("AND('Org1MSP.peer', OR('Org1MSP.admin'))")
	if err != nil {
		t.Fatal(err)
	}
	out := &logged{}
	p, err := policy.NewSignaturePolicy(env, m, flog.ForTest(out))
	if err != nil {
		t.Fatal(err)
	}
	peer, client, other := org.Peer("p"), org.Client("c"), testpki.NewOrg(t, "Org2MSP").Peer("x")
	data := []byte("data")
	sign := func(i *testpki.Identity, over string) policy.SignedData {
		return policy.SignedData{Data: data, Identity: i.Serialize(), Signature: i.MustSign([]byte(over))}
	}
	set := []policy.SignedData{sign(peer, "data"), sign(peer, "data"), sign(client, "other"), sign(org.Client("d"), "data"), sign(other, "data"), {}}
	if err := p.Evaluate(set); text(err) != "signature set did not satisfy policy" {
		t.Error(err)
	}
	for _, want := range []string{
		"wanted OutOf(2, 'Org1MSP.peer', OutOf(1, 'Org1MSP.admin')); 6 signatures came",
		"#0 Org1MSP/", "has a good signature; it is not Org1MSP.admin (", " is Org1MSP.peer",
		"dropped: same identity as #0", "dropped: The signature is invalid",
		"#4 dropped: its identity cannot be read: expected MSP ID Org1MSP, received Org2MSP",
		"#5 dropped: its identity cannot be read: ",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, out.String())
		}
	}
}

// asked counts what is asked of identities.
type asked struct {
	toyMSP
	deserialized, verified, matched *int
}

type askedIdentity struct {
	msp.Identity
	asked
}

func (a asked) DeserializeIdentity(b []byte) (msp.Identity, error) {
	*a.deserialized++
	id, err := a.toyMSP.DeserializeIdentity(b)
	return askedIdentity{id, a}, err
}

func (i askedIdentity) Verify(msg, sig []byte) error {
	*i.verified++
	return i.Identity.Verify(msg, sig)
}

func (i askedIdentity) SatisfiesPrincipal(p *mspproto.MSPPrincipal) error {
	*i.matched++
	return i.Identity.SatisfiesPrincipal(p)
}

// TestExplanationByLevel: the error, which goes over the wire, says the same at every level. The log says
// why from DEBUG on; at INFO nothing is written, and nobody is asked anything beyond the evaluation.
func TestExplanationByLevel(t *testing.T) {
	t.Parallel()
	root := &common.ConfigGroup{
		Policies: policies{"All": implicit(1, "P")},
		Groups: map[string]*common.ConfigGroup{
			"a": {Policies: policies{"P": signedBy("a")}},
			"b": {Policies: policies{"P": implicit(0, "Q")}, Groups: map[string]*common.ConfigGroup{"x": {Policies: policies{"Q": signedBy("b")}}}},
			"c": {},
		},
	}
	set := []policy.SignedData{{Identity: []byte("1:a"), Signature: []byte("good")}, {Identity: []byte("2:b"), Signature: []byte("bad")}, {}}
	for _, tc := range []struct {
		level                           string
		deserialized, verified, matched int
		log                             []string
	}{
		{"info", 3, 2, 3, nil},
		{"debug", 6, 4, 7, []string{
			"policy /Channel/All: a/P is satisfied",
			"signature set did not satisfy policy /Channel/b/x/Q: wanted 'ROLE:62'; 3 signatures came; " +
				"#0 toy/1 has a good signature; it is not ROLE:62 (not b); #1 toy/2 dropped: bad; #2 dropped: its identity cannot be read: no toy",
			"policy /Channel/b/P: x/Q is not satisfied",
			"policy /Channel/All: b/P is not satisfied",
			"policy /Channel/All: c/P does not exist",
		}},
	} {
		var out bytes.Buffer
		logging, err := flog.New(&out, "%{message}", "other=debug:policies="+tc.level+":warning")
		if err != nil {
			t.Fatal(err)
		}
		d := asked{toyMSP{}, new(int), new(int), new(int)}
		m, err := policy.NewManager("Channel", root, d, logging.Logger("policies"))
		if err != nil {
			t.Fatal(err)
		}
		out.Reset() // standard policies are missing
		p, _ := m.Policy("/Channel/All")
		const want = "implicit policy evaluation failed - 1 sub-policies were satisfied, but this policy requires 3 of the 'P' sub-policies to be satisfied"
		if got := text(p.Evaluate(set)); got != want {
			t.Errorf("%s: %s", tc.level, got)
		}
		if got, want := strings.TrimSpace(out.String()), strings.Join(tc.log, "\n"); got != want {
			t.Errorf("%s: the log is\n%s\nwant\n%s", tc.level, got, want)
		}
		if *d.deserialized != tc.deserialized || *d.verified != tc.verified || *d.matched != tc.matched {
			t.Errorf("%s: %d deserialized, %d verified, %d matched", tc.level, *d.deserialized, *d.verified, *d.matched)
		}
	}
}

// TestWorkIsBounded: however rules nest, a principal is asked for at most once per rule and signature, and a
// signature is verified once.
func TestWorkIsBounded(t *testing.T) {
	t.Parallel()
	const leaves, signers = 1 << 12, 40
	rule := policy.SignedBy(0)
	for n := 1; n < leaves; n *= 2 {
		rule = policy.NOutOf(2, rule, rule) // the failing branches are tried all the same
	}
	for range 2000 {
		rule = policy.NOutOf(1, rule)
	}
	env := &common.SignaturePolicyEnvelope{Rule: rule, Identities: []*mspproto.MSPPrincipal{{Principal: []byte("a")}}}
	var set []policy.SignedData
	for i := range 3 * signers {
		sig := []string{"good", "bad"}[i%2]
		set = append(set, policy.SignedData{Identity: fmt.Appendf(nil, "%d:a", i%signers), Signature: []byte(sig)})
	}
	d := asked{toyMSP{}, new(int), new(int), new(int)}
	p, err := policy.NewSignaturePolicy(env, d, nil)
	if err != nil {
		t.Fatal(err)
	}
	if p.Evaluate(set) == nil {
		t.Error("satisfied by too few signatures")
	}
	if *d.deserialized != len(set) || *d.verified > signers || *d.matched > leaves*signers {
		t.Errorf("%d deserialized, %d verified, %d matched", *d.deserialized, *d.verified, *d.matched)
	}
}
