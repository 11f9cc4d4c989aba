//go:build pkcs11

package csp_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hyperledger/fabric-lib-go/bccsp"
	"github.com/hyperledger/fabric-lib-go/bccsp/pkcs11"
	"github.com/hyperledger/fabric-lib-go/bccsp/sw"

	"github.com/heddle-ledger/heddle/internal/csp"
	"github.com/heddle-ledger/heddle/msp/x509msp"
)

// softToken makes a token of SoftHSM 2, or skips the test where that is not installed.
func softToken(t *testing.T) *csp.PKCS11Config {
	t.Helper()
	tool, err := exec.LookPath("softhsm2-util")
	if err != nil {
		t.Skip("softhsm2-util is not installed")
	}
	library := ""
	for _, path := range []string{
		os.Getenv("PKCS11_LIB"), "/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/softhsm/libsofthsm.so",
		"/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so", "/usr/local/lib/softhsm/libsofthsm2.so",
	} {
		if _, err := os.Stat(path); err == nil && path != "" {
			library = path
			break
		}
	}
	if library == "" {
		t.Skip("no SoftHSM library found; set PKCS11_LIB")
	}
	dir := t.TempDir()
	conf := filepath.Join(dir, "softhsm2.conf")
	if err := os.WriteFile(conf, []byte("directories.tokendir = "+dir+"\nobjectstore.backend = file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	out, err := exec.CommandContext(t.Context(), tool, "--init-token", "--free", "--label", "heddle", "--pin", "98765432", "--so-pin", "1234").CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %s", err, out)
	}
	return &csp.PKCS11Config{Library: library, Label: "heddle", Pin: "98765432", Hash: "SHA2", Security: 256}
}

// keyInToken makes a key pair inside the token and returns its public half.
func keyInToken(t *testing.T, c *csp.PKCS11Config) *ecdsa.PublicKey {
	t.Helper()
	token, err := pkcs11.New(pkcs11.PKCS11Opts{Library: c.Library, Label: c.Label, Pin: c.Pin, Hash: c.Hash, Security: c.Security}, sw.NewDummyKeyStore())
	if err != nil {
		t.Fatal(err)
	}
	key, err := token.KeyGen(&bccsp.ECDSAP256KeyGenOpts{})
	if err != nil {
		t.Fatal(err)
	}
	pub, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	der, err := pub.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		t.Fatal(err)
	}
	return parsed.(*ecdsa.PublicKey)
}

// TestToken signs with a key that never leaves a PKCS#11 token: alone, and as the identity of a node.
func TestToken(t *testing.T) {
	c := softToken(t)
	files := t.TempDir()
	c.KeyStore = files
	pub := keyInToken(t, c)
	inFile := newKey(t, elliptic.P256())
	if _, err := (csp.KeyStore{Dir: files}).Store(inFile); err != nil {
		t.Fatal(err)
	}
	conf := csp.Config{Default: "PKCS11", PKCS11: c}
	p, err := csp.Open(conf, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("message"))
	for _, pub := range []*ecdsa.PublicKey{pub, &inFile.PublicKey} {
		ski, err := csp.SKI(pub)
		if err != nil {
			t.Fatal(err)
		}
		key, err := p.Signer(ski)
		if err != nil {
			t.Fatal(err)
		}
		for range 10 {
			sig, err := csp.Sign(key, digest[:])
			if err != nil {
				t.Fatal(err)
			}
			if err := csp.VerifyECDSA(pub, digest[:], sig); err != nil {
				t.Error(err)
			}
		}
	}
	if _, err := p.Signer(make([]byte, 32)); err == nil || !strings.HasPrefix(err.Error(), "Key with SKI 0000") {
		t.Errorf("unknown key: %v", err)
	}

	local, err := x509msp.LoadLocal(x509msp.LocalConfig{Dir: mspDir(t, pub), MSPID: "HSMMSP", BCCSP: conf})
	if err != nil {
		t.Fatal(err)
	}
	sig, err := local.SigningIdentity().Sign([]byte("message"))
	if err != nil {
		t.Fatal(err)
	}
	id, err := local.DeserializeIdentity(local.SigningIdentity().Serialize())
	if err != nil {
		t.Fatal(err)
	}
	if err := id.Verify([]byte("message"), sig); err != nil {
		t.Error(err)
	}
}

// TestTokenErrors: a token that cannot be opened stops the node with a reason.
func TestTokenErrors(t *testing.T) {
	c := softToken(t)
	const start = "could not initialize BCCSP Factories: Failed initializing BCCSP: Could not initialize BCCSP PKCS11 ["
	for name, edit := range map[string]func(*csp.PKCS11Config){
		"library": func(c *csp.PKCS11Config) { c.Library = "/nonexistent" },
		"label":   func(c *csp.PKCS11Config) { c.Label = "other" },
		"level":   func(c *csp.PKCS11Config) { c.Security = 1 },
	} {
		bad := *c
		edit(&bad)
		if _, err := csp.Open(csp.Config{Default: "PKCS11", PKCS11: &bad}, t.TempDir()); err == nil || !strings.HasPrefix(err.Error(), start) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// mspDir is the directory of a local MSP without a key store, whose certificate has the given key.
func mspDir(t *testing.T, pub *ecdsa.PublicKey) string {
	t.Helper()
	ca := newKey(t, elliptic.P256())
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, SubjectKeyId: []byte("ca"),
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "node"}, NotBefore: root.NotBefore, NotAfter: root.NotAfter,
	}
	dir := t.TempDir()
	for name, c := range map[string]struct {
		cert *x509.Certificate
		pub  *ecdsa.PublicKey
	}{"cacerts": {root, &ca.PublicKey}, "signcerts": {leaf, pub}, "admincerts": {leaf, pub}} {
		der, err := x509.CreateCertificate(rand.Reader, c.cert, root, c.pub, ca)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
		if err := os.WriteFile(filepath.Join(dir, name, "c.pem"), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
