package x509msp_test

import (
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mspproto "github.com/hyperledger/fabric-protos-go-apiv2/msp"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/csp"
	"github.com/heddle-ledger/heddle/internal/testpki"
	"github.com/heddle-ledger/heddle/msp"
	"github.com/heddle-ledger/heddle/msp/x509msp"
)

// TestLoadConfigIsWhatTheToolsWrote compares with the MSPs in a block made by the reference's configtxgen.
func TestLoadConfigIsWhatTheToolsWrote(t *testing.T) {
	t.Parallel()
	for dir, golden := range map[string]string{"org1": "Org1", "org2": "Org2", "orderer": "OrdererOrg"} {
		raw, err := os.ReadFile("testdata/" + golden + ".mspconfig")
		if err != nil {
			t.Fatal(err)
		}
		want, wantFabric, gotFabric := &mspproto.MSPConfig{}, &mspproto.FabricMSPConfig{}, &mspproto.FabricMSPConfig{}
		if err := proto.Unmarshal(raw, want); err != nil {
			t.Fatal(err)
		}
		if err := proto.Unmarshal(want.Config, wantFabric); err != nil {
			t.Fatal(err)
		}
		got, err := x509msp.LoadConfig("testdata/"+dir, wantFabric.Name)
		if err != nil {
			t.Fatal(err)
		}
		if err := proto.Unmarshal(got.Config, gotFabric); err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(gotFabric, wantFabric) || string(got.Config) != string(want.Config) {
			t.Errorf("%s:\n got %v\nwant %v", dir, gotFabric, wantFabric)
		}
		for name, v := range versions() {
			if name == "MSPv1_1" && dir != "org2" || name == "MSPv1_3" && dir != "org2" {
				continue // their NodeOUs are those of 1.4.3
			}
			if _, err := x509msp.New(got, v, atGolden()); err != nil && dir != "org2" {
				t.Errorf("%s %s: %s", dir, name, err)
			}
		}
	}
}

// atGolden is a moment at which the TLS CAs of the golden data are valid.
func atGolden() x509msp.Option {
	return x509msp.WithClock(func() time.Time { return time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC) })
}

func TestLoadLocalOfCryptogen(t *testing.T) {
	t.Parallel()
	for dir, id := range map[string]string{"peer0": "Org1MSP", "foo27": "Org2MSP", "orderer": "OrdererMSP"} {
		l, err := x509msp.LoadLocal(x509msp.LocalConfig{Dir: "testdata/" + dir, MSPID: id}, atGolden())
		if err != nil {
			t.Errorf("%s: %s", dir, err)
			continue
		}
		signer := l.SigningIdentity()
		sig, err := signer.Sign([]byte("hello"))
		if err != nil {
			t.Fatal(err)
		}
		got, err := l.DeserializeIdentity(signer.Serialize())
		if err != nil {
			t.Fatal(err)
		}
		if err := got.Verify([]byte("hello"), sig); err != nil {
			t.Error(err)
		}
		if got.Identifier() != signer.Identifier() || l.ID() != id || l.Version() != msp.V1_4_3 || l.Type() != msp.TypeX509 || len(l.TLSRootCerts()) != 1 || len(l.TLSIntermediateCerts()) != 0 {
			t.Errorf("%s: %v", dir, got.Identifier())
		}
		if !x509msp.ExpiresAtOf(signer.Serialize()).Equal(signer.ExpiresAt()) {
			t.Error("expiry differs")
		}
	}
}

func write(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLoadLocalErrors(t *testing.T) {
	t.Parallel()
	org := testpki.NewOrg(t, "Org1MSP")
	peer := org.Peer("p")
	expired := org.CA.Issue("old", []string{"peer"}, nil)
	ca := string(org.CA.PEM())
	for _, tc := range []struct {
		name  string
		id    string
		typ   string
		files map[string]string
		want  string // $ stands for the directory; a trailing … for the rest
	}{
		{"no id", "-", "", nil, "the local MSP must have an ID"},
		{"unknown type", "Org1MSP", "x", nil, "unknown MSP type 'x'"},
		{"idemix", "Org1MSP", "idemix", nil, x509msp.ErrIdemix.Error()},
		{"empty directory", "Org1MSP", "", nil, "could not load a valid signer certificate from directory $/signcerts: stat $/signcerts: no such file or directory"},
		{"signcerts without certificate", "Org1MSP", "", map[string]string{"signcerts/x": "text"}, "Setup error: nil conf reference"},
		{"no cacerts", "Org1MSP", "bccsp", map[string]string{"signcerts/x": ca}, "could not load a valid ca certificate from directory $/cacerts: stat $/cacerts: no such file or directory"},
		{"cacerts without certificate", "Org1MSP", "", map[string]string{"signcerts/x": ca, "cacerts/d/x": ca}, "Setup error: nil conf reference"},
		{"no key", "Org1MSP", "", map[string]string{"signcerts/x": string(peer.CertPEM()), "cacerts/x": ca}, "KeyMaterial not found in SigningIdentityInfo"},
		{"bad yaml", "Org1MSP", "", map[string]string{"signcerts/x": ca, "cacerts/x": ca, "config.yaml": "\tx"}, "failed unmarshalling configuration file at [$/config.yaml]: …"},
		{
			"missing OU certificate", "Org1MSP", "",
			map[string]string{
				"signcerts/x": ca, "cacerts/x": ca,
				"config.yaml": "OrganizationalUnitIdentifiers: [{Certificate: cacerts/y, OrganizationalUnitIdentifier: a}]",
			},
			"failed loading OrganizationalUnit certificate at [$/cacerts/y]: could not read file $/cacerts/y: open $/cacerts/y: no such file or directory",
		},
		{
			"no admins", "Org1MSP", "",
			map[string]string{"signcerts/x": string(peer.CertPEM()), "cacerts/x": ca, "keystore/k": string(peer.KeyPEM())},
			"administrators must be declared when no admin ou classification is set",
		},
	} {
		dir := t.TempDir()
		write(t, dir, tc.files)
		id := strings.TrimPrefix(tc.id, "-")
		_, err := x509msp.LoadLocal(x509msp.LocalConfig{Dir: dir, MSPID: id, Type: tc.typ})
		want := strings.ReplaceAll(tc.want, "$", dir)
		if prefix, open := strings.CutSuffix(want, "…"); open {
			if err == nil || !strings.HasPrefix(err.Error(), prefix) {
				t.Errorf("%s: got %v, want %s", tc.name, err, want)
			}
		} else if text(err) != want {
			t.Errorf("%s:\n got %s\nwant %s", tc.name, text(err), want)
		}
	}
	dir := t.TempDir()
	expired.MSPID = "Org1MSP"
	org.WriteMSP(dir, expired)
	_, err := x509msp.LoadLocal(x509msp.LocalConfig{Dir: dir, MSPID: "Org1MSP"}, x509msp.WithClock(func() time.Time { return expired.Cert.NotAfter.Add(90 * time.Minute) }))
	if text(err) != "signing identity expired 1h30m0s ago" {
		t.Errorf("expired: %v", err)
	}
	_, err = x509msp.LoadLocal(x509msp.LocalConfig{Dir: dir, MSPID: "Org1MSP", BCCSP: csp.Config{Default: "X"}})
	if text(err) != "could not initialize BCCSP Factories: Could not find default `X` BCCSP" {
		t.Errorf("BCCSP: %v", err)
	}
}

func TestDirectoryDetails(t *testing.T) {
	t.Parallel()
	org := testpki.NewOrg(t, "Org1MSP")
	ca, tlsca, admin := string(org.CA.PEM()), string(org.TLSCA.PEM()), string(org.Admin("a").CertPEM())
	inter := org.CA.Intermediate("int")
	files := map[string]string{
		"cacerts/a.pem":               "some text\n" + ca + "more",
		"cacerts/b.txt":               "no certificate",
		"cacerts/sub/c.pem":           ca,
		"intermediatecerts/z":         string(inter.PEM()),
		"admincerts/a":                admin,
		"crls/c":                      string(org.CA.CRL()),
		"tlsintermediatecerts/ignore": tlsca,
		"config.yaml": `
Unknown: 1
OrganizationalUnitIdentifiers:
  - {Certificate: cacerts/a.pem, OrganizationalUnitIdentifier: dept}
NodeOUs:
  Enable: true
  ClientOUIdentifier: {Certificate: cacerts/missing.pem, OrganizationalUnitIdentifier: client}
  PeerOUIdentifier: {Certificate: cacerts/b.txt, OrganizationalUnitIdentifier: peer}
  AdminOUIdentifier: {OrganizationalUnitIdentifier: admin}
  OrdererOUIdentifier: {Certificate: cacerts/a.pem}
`,
	}
	dir := t.TempDir()
	write(t, dir, files)
	load := func() *mspproto.FabricMSPConfig {
		conf, err := x509msp.LoadConfig(dir, "Org1MSP")
		if err != nil {
			t.Fatal(err)
		}
		f := &mspproto.FabricMSPConfig{}
		if err := proto.Unmarshal(conf.Config, f); err != nil {
			t.Fatal(err)
		}
		return f
	}
	want := &mspproto.FabricMSPConfig{
		Name: "Org1MSP", RootCerts: [][]byte{[]byte(files["cacerts/a.pem"])}, IntermediateCerts: [][]byte{inter.PEM()},
		Admins: [][]byte{[]byte(admin)}, RevocationList: [][]byte{[]byte(files["crls/c"])},
		CryptoConfig: &mspproto.FabricCryptoConfig{SignatureHashFamily: "SHA2", IdentityIdentifierHashFunction: "SHA256"},
		OrganizationalUnitIdentifiers: []*mspproto.FabricOUIdentifier{
			{Certificate: []byte(files["cacerts/a.pem"]), OrganizationalUnitIdentifier: "dept"},
		},
		FabricNodeOus: &mspproto.FabricNodeOUs{
			Enable:             true,
			ClientOuIdentifier: &mspproto.FabricOUIdentifier{OrganizationalUnitIdentifier: "client"},
			PeerOuIdentifier:   &mspproto.FabricOUIdentifier{Certificate: []byte("no certificate"), OrganizationalUnitIdentifier: "peer"},
			AdminOuIdentifier:  &mspproto.FabricOUIdentifier{OrganizationalUnitIdentifier: "admin"},
		},
	}
	if got := load(); !proto.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	write(t, dir, map[string]string{"tlscacerts/t": tlsca, "config.yaml": "NodeOUs: {Enable: false, ClientOUIdentifier: {OrganizationalUnitIdentifier: client}}"})
	got := load()
	if len(got.TlsIntermediateCerts) != 1 || len(got.TlsRootCerts) != 1 || got.FabricNodeOus != nil {
		t.Errorf("got %v", got)
	}
}

// TestSharedSignatures shows that a channel does not verify anew what the local MSP signed.
func TestSharedSignatures(t *testing.T) {
	t.Parallel()
	org := testpki.NewOrg(t, "Org1MSP")
	dir := t.TempDir()
	org.WriteMSP(dir, org.Peer("p"))
	sigs := msp.NewSignatureCache(1 << 20)
	l, err := x509msp.LoadLocal(x509msp.LocalConfig{Dir: dir, MSPID: "Org1MSP", Signatures: sigs})
	if err != nil {
		t.Fatal(err)
	}
	channel, err := x509msp.New(org.MSPConfig(), msp.V1_4_3)
	if err != nil {
		t.Fatal(err)
	}
	m := msp.NewManager([]msp.MSP{channel}, msp.WithSignatureCache(sigs))
	sig, err := l.SigningIdentity().Sign([]byte("m"))
	if err != nil {
		t.Fatal(err)
	}
	if n := sigs.Len(); n != 1 {
		t.Errorf("%d signatures remembered", n)
	}
	id, err := m.DeserializeIdentity(l.SigningIdentity().Serialize())
	if err != nil {
		t.Fatal(err)
	}
	if err := id.Verify([]byte("m"), sig); err != nil {
		t.Error(err)
	}
	if n := sigs.Len(); n != 1 {
		t.Errorf("%d signatures remembered: the channel's key for it differs", n)
	}
}

func TestSigningIdentityInChannelConfig(t *testing.T) {
	t.Parallel()
	org := testpki.NewOrg(t, "Org1MSP")
	peer := org.Peer("p")
	conf := func(material string) *mspproto.MSPConfig {
		f := org.FabricConfig()
		f.SigningIdentity = &mspproto.SigningIdentityInfo{PublicSigner: peer.CertPEM(), PrivateSigner: &mspproto.KeyInfo{KeyMaterial: []byte(material)}}
		raw, err := proto.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		return &mspproto.MSPConfig{Config: raw}
	}
	garbage := string(pem.EncodeToMemory(&pem.Block{Type: "X", Bytes: []byte("x")}))
	for material, want := range map[string]string{
		"":                    "KeyMaterial not found in SigningIdentityInfo",
		"x":                   "getIdentityFromBytes error: Failed to import EC private key: ",
		garbage:               "getIdentityFromBytes error: Failed to import EC private key: ",
		string(peer.KeyPEM()): "OK",
	} {
		if _, err := x509msp.New(conf(material), msp.V1_4_3); !strings.HasPrefix(text(err), want) {
			t.Errorf("%.20q: %v", material, err)
		}
	}
}

func TestRefusedTypes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		conf *mspproto.MSPConfig
		want string
	}{
		{nil, "Setup error: nil conf reference"},
		{&mspproto.MSPConfig{}, "expected at least one CA certificate"},
		{&mspproto.MSPConfig{Type: 1}, x509msp.ErrIdemix.Error()},
		{&mspproto.MSPConfig{Type: 2}, "Setup error: unsupported msp type 2"},
	} {
		if _, err := x509msp.New(tc.conf, msp.V1_4_3); text(err) != tc.want {
			t.Errorf("%v: %v", tc.conf, err)
		}
	}
	if _, err := x509msp.New(&mspproto.MSPConfig{Config: []byte{1}}, msp.V1_4_3); err == nil {
		t.Error("garbage was accepted")
	}
}
