package x509msp_test

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"testing"

	mspproto "github.com/hyperledger/fabric-protos-go-apiv2/msp"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/testpki"
	"github.com/heddle-ledger/heddle/msp"
	"github.com/heddle-ledger/heddle/msp/x509msp"
)

func config(f *mspproto.FabricMSPConfig) *mspproto.MSPConfig {
	return &mspproto.MSPConfig{Config: protoutil.Marshal(f)}
}

func principal(class mspproto.MSPPrincipal_Classification, m proto.Message) *mspproto.MSPPrincipal {
	return &mspproto.MSPPrincipal{PrincipalClassification: class, Principal: protoutil.Marshal(m)}
}

// TestDeepPrincipals shows that combined principals nested in each other take no unbounded stack or time.
func TestDeepPrincipals(t *testing.T) {
	t.Parallel()
	org := testpki.NewOrg(t, "Org1MSP")
	m, err := x509msp.New(org.MSPConfig(), msp.V1_4_3)
	if err != nil {
		t.Fatal(err)
	}
	id, err := m.DeserializeIdentity(org.Peer("p").Serialize())
	if err != nil {
		t.Fatal(err)
	}
	p := principal(mspproto.MSPPrincipal_ROLE, &mspproto.MSPRole{MspIdentifier: "Org1MSP"})
	nest := func(p *mspproto.MSPPrincipal) *mspproto.MSPPrincipal {
		return principal(mspproto.MSPPrincipal_COMBINED, &mspproto.CombinedPrincipal{Principals: []*mspproto.MSPPrincipal{p}})
	}
	for range 1000 {
		p = nest(p)
	}
	if err := id.SatisfiesPrincipal(p); err != nil {
		t.Errorf("depth 1000: %v", err)
	}
	for range 5000 {
		p = nest(p)
	}
	if err := id.SatisfiesPrincipal(p); text(err) != "combined principals are nested too deep" {
		t.Errorf("depth 6000: %v", err)
	}
	wide := &mspproto.CombinedPrincipal{}
	for range 1000 {
		wide.Principals = append(wide.Principals, principal(mspproto.MSPPrincipal_ROLE, &mspproto.MSPRole{MspIdentifier: "Org1MSP", Role: mspproto.MSPRole_PEER}))
	}
	if err := id.SatisfiesPrincipal(principal(mspproto.MSPPrincipal_COMBINED, wide)); err != nil {
		t.Error(err)
	}
}

// TestGarbagePrincipals: principals that are no messages are errors.
func TestGarbagePrincipals(t *testing.T) {
	t.Parallel()
	org := testpki.NewOrg(t, "Org1MSP")
	m, err := x509msp.New(org.MSPConfig(), msp.V1_4_3)
	if err != nil {
		t.Fatal(err)
	}
	id, err := m.DeserializeIdentity(org.Peer("p").Serialize())
	if err != nil {
		t.Fatal(err)
	}
	for class := range mspproto.MSPPrincipal_Classification(6) {
		if id.SatisfiesPrincipal(&mspproto.MSPPrincipal{PrincipalClassification: class, Principal: []byte{1}}) == nil {
			t.Errorf("%v: garbage is satisfied", class)
		}
	}
	if err := id.SatisfiesPrincipal(nil); err == nil {
		t.Error("nil is satisfied")
	}
	p := principal(mspproto.MSPPrincipal_ANONYMITY, &mspproto.MSPIdentityAnonymity{AnonymityType: 9})
	if err := id.SatisfiesPrincipal(p); text(err) != "Unknown principal anonymity type: 9" {
		t.Error(err)
	}
}

// TestMoreThanOneChain: two roots with one name and key give every certificate two chains.
func TestMoreThanOneChain(t *testing.T) {
	t.Parallel()
	org := testpki.NewOrg(t, "Org1MSP")
	tmpl := *org.CA.Cert
	tmpl.SerialNumber = big.NewInt(77)
	der, err := x509.CreateCertificate(rand.Reader, &tmpl, &tmpl, &org.CA.Key.PublicKey, org.CA.Key)
	if err != nil {
		t.Fatal(err)
	}
	f := org.FabricConfig()
	f.RootCerts = append(f.RootCerts, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	m, err := x509msp.New(config(f), msp.V1_4_3)
	if err != nil {
		t.Fatal(err)
	}
	_, err = m.DeserializeIdentity(org.Peer("p").Serialize())
	if text(err) != "this MSP only supports a single validation chain, got 2" {
		t.Error(err)
	}
}

func TestHashFamilies(t *testing.T) {
	t.Parallel()
	org := testpki.NewOrg(t, "Org1MSP")
	peer := org.Peer("p")
	for family, want := range map[string]string{
		"": "OK", "SHA2": "OK", "SHA3": "The signature is invalid",
		"MD5": "failed getting hash function options: hash familiy not recognized [MD5]",
	} {
		f := org.FabricConfig()
		f.CryptoConfig.SignatureHashFamily = family
		m, err := x509msp.New(config(f), msp.V1_4_3)
		if err != nil {
			t.Fatalf("%s: %s", family, err)
		}
		id, err := msp.NewManager([]msp.MSP{m}).DeserializeIdentity(peer.Serialize())
		if err != nil {
			t.Fatal(err)
		}
		if got := text(id.Verify([]byte("m"), peer.MustSign([]byte("m")))); got != want {
			t.Errorf("%q: %s", family, got)
		}
	}
	ids := map[string]bool{}
	for _, name := range []string{"", "SHA256", "SHA384", "SHA3_256", "SHA3_384"} {
		f := org.FabricConfig()
		f.CryptoConfig.IdentityIdentifierHashFunction = name
		m, err := x509msp.New(config(f), msp.V1_4_3)
		if err != nil {
			t.Fatalf("%s: %s", name, err)
		}
		id, err := m.DeserializeIdentity(peer.Serialize())
		if err != nil {
			t.Fatal(err)
		}
		ids[id.Identifier().ID] = true
	}
	if len(ids) != 4 {
		t.Errorf("%d identifiers", len(ids))
	}
}

func TestRevocationNeedsIssuerKeyID(t *testing.T) {
	t.Parallel()
	org := testpki.NewOrg(t, "Org1MSP")
	peer, other := org.Peer("p"), org.Peer("q")
	f := org.FabricConfig()
	f.RevocationList = [][]byte{testpki.NewCA(t, "stranger").CRL(other.Cert), org.CA.CRL(peer.Cert)}
	m, err := x509msp.New(config(f), msp.V1_4_3)
	if err != nil {
		t.Fatal(err)
	}
	for raw, want := range map[*testpki.Identity]string{
		peer:  "could not validate identity against certification chain: The certificate has been revoked",
		other: "OK",
	} {
		id, err := m.DeserializeIdentity(raw.Serialize())
		if err != nil {
			t.Fatal(err)
		}
		if got := text(id.Validate()); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func FuzzNew(f *testing.F) {
	org := testpki.NewOrg(f, "Org1MSP")
	f.Add(org.MSPConfig().Config, 0)
	conf := org.FabricConfig()
	conf.RevocationList = [][]byte{org.CA.CRL()}
	conf.Admins = [][]byte{org.Admin("a").CertPEM()}
	f.Add(protoutil.Marshal(conf), 3)
	f.Fuzz(func(t *testing.T, raw []byte, version int) {
		m, err := x509msp.New(&mspproto.MSPConfig{Config: raw}, msp.Version(version&3))
		if err != nil {
			return
		}
		for _, root := range conf.RootCerts {
			_, _ = m.DeserializeIdentity(protoutil.Marshal(&mspproto.SerializedIdentity{Mspid: m.ID(), IdBytes: root}))
		}
	})
}
