package csp_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/heddle-ledger/heddle/internal/csp"
)

func newKey(t testing.TB, c elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func ski(t testing.TB, k *ecdsa.PrivateKey) []byte {
	t.Helper()
	s, err := csp.SKI(&k.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestOpenErrors(t *testing.T) {
	t.Parallel()
	const factories = "could not initialize BCCSP Factories: "
	for _, tc := range []struct {
		name string
		conf csp.Config
		want string
	}{
		{"absent", csp.Config{}, ""},
		{"default without section", csp.Config{Default: "SW"}, ""},
		{"empty section of a peer", csp.Config{Default: "SW", SW: &csp.SWConfig{}}, factories +
			"Failed initializing BCCSP: Could not initialize BCCSP SW [Failed initializing configuration at [0,]: Hash Family not supported []]"},
		{"no level", csp.Config{Default: "SW", SW: &csp.SWConfig{Hash: "SHA2"}}, factories +
			"Failed initializing BCCSP: Could not initialize BCCSP SW [Failed initializing configuration at [0,SHA2]: Security level not supported [0]]"},
		{"md5", csp.Config{Default: "SW", SW: &csp.SWConfig{Hash: "MD5", Security: 256}}, factories +
			"Failed initializing BCCSP: Could not initialize BCCSP SW [Failed initializing configuration at [256,MD5]: Hash Family not supported [MD5]]"},
		{"sha3", csp.Config{Default: "SW", SW: &csp.SWConfig{Hash: "SHA3", Security: 384}}, ""},
		{"orderer's defaults", csp.Config{SW: &csp.SWConfig{}}.WithDefaults(), ""},
		{"unknown", csp.Config{Default: "sw"}, factories + "Could not find default `sw` BCCSP"},
		{"plugin", csp.Config{Default: "PLUGIN"}, factories + "Could not find default `PLUGIN` BCCSP"},
		{"hsm without section", csp.Config{Default: "PKCS11"}, factories + "Could not find default `PKCS11` BCCSP"},
	} {
		dir := t.TempDir()
		_, err := csp.Open(tc.conf, dir)
		if got := text(err); got != tc.want {
			t.Errorf("%s:\n got %s\nwant %s", tc.name, got, tc.want)
		}
		if err == nil {
			if _, err := os.Stat(filepath.Join(dir, "keystore")); err != nil {
				t.Errorf("%s: the key store was not created: %s", tc.name, err)
			}
		}
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestKeyStoreOfSection(t *testing.T) {
	t.Parallel()
	mspDir, own := t.TempDir(), filepath.Join(t.TempDir(), "a", "b")
	key := newKey(t, elliptic.P256())
	if _, err := (csp.KeyStore{Dir: filepath.Join(mspDir, "keystore")}).Store(key); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name  string
		conf  csp.Config
		found bool
	}{
		{"absent section", csp.Config{}, true},
		{"Default SW", csp.Config{Default: "SW", SW: &csp.SWConfig{Hash: "SHA2", Security: 256}}, true},
		{"section without Default", csp.Config{SW: &csp.SWConfig{Hash: "SHA2", Security: 256}}, false},
		{"own key store", csp.Config{Default: "SW", SW: &csp.SWConfig{Hash: "SHA2", Security: 256, KeyStore: own}}, false},
	} {
		p, err := csp.Open(tc.conf, mspDir)
		if err != nil {
			t.Fatalf("%s: %s", tc.name, err)
		}
		if _, err := p.Signer(ski(t, key)); (err == nil) != tc.found {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	if _, err := os.Stat(own); err != nil {
		t.Error(err)
	}
}

func TestKeyStoreLookup(t *testing.T) {
	t.Parallel()
	key, other := newKey(t, elliptic.P256()), newKey(t, elliptic.P384())
	name := hex.EncodeToString(ski(t, key))
	pkcs8, err := csp.MarshalPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	sec1DER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	sec1 := pem.EncodeToMemory(&pem.Block{Type: "ANYTHING", Bytes: sec1DER})
	otherPEM, err := csp.MarshalPrivateKey(other)
	if err != nil {
		t.Fatal(err)
	}
	encrypted := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00"}, Bytes: sec1DER})
	big := append(append([]byte{}, pkcs8...), make([]byte, 1<<16)...)
	for _, tc := range []struct {
		what  string
		files map[string][]byte
		want  string // error, empty: found
	}{
		{"by name", map[string][]byte{name + "_sk": pkcs8}, ""},
		{"by name, SEC1", map[string][]byte{name + "_sk": sec1}, ""},
		{"any name", map[string][]byte{"aaa.pem": otherPEM, "b.txt": []byte("text"), "zzz": pkcs8}, ""},
		{"upper case is found by content", map[string][]byte{strings.ToUpper(name) + "_sk": pkcs8}, ""},
		{"odd suffix: by content", map[string][]byte{name: pkcs8}, ""},
		{"another suffix that ends in sk", map[string][]byte{name + ".disk": pkcs8}, "Failed loading secret key [" + name + "]"},
		{"public key hides it", map[string][]byte{name + "_pk": nil, name + "_sk": pkcs8}, "Failed loading public key [" + name + "]"},
		{"symmetric key hides it", map[string][]byte{name + "_key": nil, name + "_sk": pkcs8}, "Failed loading key [" + name + "]"},
		{"named but garbage", map[string][]byte{name + "_sk": []byte("x"), "zzz": pkcs8}, "Failed loading secret key [" + name + "]"},
		{"encrypted", map[string][]byte{name + "_sk": encrypted}, "Failed loading secret key [" + name + "] [Encrypted Key. Need a password]"},
		{"too big to scan", map[string][]byte{"zzz": big}, "Key with SKI " + name + " not found in "},
		{"empty", nil, "Key with SKI " + name + " not found in "},
	} {
		dir := t.TempDir()
		for f, content := range tc.files {
			if err := os.WriteFile(filepath.Join(dir, f), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Mkdir(filepath.Join(dir, "sub"), 0o700); err != nil {
			t.Fatal(err)
		}
		got, err := csp.KeyStore{Dir: dir}.Signer(ski(t, key))
		if tc.want != "" {
			if err == nil || !strings.HasPrefix(err.Error(), tc.want) {
				t.Errorf("%s: got %v, want %s", tc.what, err, tc.want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %s", tc.what, err)
		} else if !key.PublicKey.Equal(got.Public()) {
			t.Errorf("%s: another key", tc.what)
		}
	}
}

func TestSignIsLowS(t *testing.T) {
	t.Parallel()
	digest := sha256.Sum256([]byte("message"))
	for _, c := range []elliptic.Curve{elliptic.P224(), elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		key := newKey(t, c)
		for range 20 {
			sig, err := csp.Sign(key, digest[:])
			if err != nil {
				t.Fatal(err)
			}
			if err := csp.VerifyECDSA(&key.PublicKey, digest[:], sig); err != nil {
				t.Fatalf("%s: %s", c.Params().Name, err)
			}
			var rs struct{ R, S *big.Int }
			if _, err := asn1.Unmarshal(sig, &rs); err != nil {
				t.Fatal(err)
			}
			rs.S.Sub(c.Params().N, rs.S)
			high, err := asn1.Marshal(rs)
			if err != nil {
				t.Fatal(err)
			}
			if err := csp.VerifyECDSA(&key.PublicKey, digest[:], high); err == nil || !strings.Contains(err.Error(), "Invalid S. Must be smaller than half the order [") {
				t.Fatalf("%s: high S: %v", c.Params().Name, err)
			}
			low, changed, err := csp.LowS(&key.PublicKey, high)
			if err != nil || !changed || string(low) != string(sig) {
				t.Fatalf("%s: LowS: %x %v %v", c.Params().Name, low, changed, err)
			}
		}
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := csp.Sign(rsaKey, digest[:]); err == nil {
		t.Error("an RSA key signed")
	}
}

// TestFastAndSlowAgree compares the path without allocation with the general one, on signatures in all
// kinds of disorder.
func TestFastAndSlowAgree(t *testing.T) {
	t.Parallel()
	key := newKey(t, elliptic.P256())
	digest := sha256.Sum256([]byte("message"))
	sig, err := csp.Sign(key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	for i := range sig {
		for _, x := range []byte{1, 0x80, 0xff} {
			bent := append([]byte{}, sig...)
			bent[i] ^= x
			fast := csp.VerifyECDSA(&key.PublicKey, digest[:], bent)
			slow := csp.VerifySlow(&key.PublicKey, digest[:], bent)
			if text(fast) != text(slow) {
				t.Errorf("byte %d ^ %x: fast %v, slow %v", i, x, fast, slow)
			}
		}
	}
	if err := csp.VerifyECDSA(&key.PublicKey, digest[:], append(sig, 1, 2, 3)); err != nil {
		t.Errorf("bytes after the signature: %s", err)
	}
}

func FuzzVerifyECDSA(f *testing.F) {
	key := newKey(f, elliptic.P256())
	digest := sha256.Sum256([]byte("message"))
	sig, err := csp.Sign(key, digest[:])
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sig)
	f.Add(append(sig, 0))
	f.Add([]byte{0x30, 6, 2, 1, 1, 2, 1, 1})
	f.Fuzz(func(t *testing.T, sig []byte) {
		fast := csp.VerifyECDSA(&key.PublicKey, digest[:], sig)
		slow := csp.VerifySlow(&key.PublicKey, digest[:], sig)
		if text(fast) != text(slow) {
			t.Errorf("%x: fast %v, slow %v", sig, fast, slow)
		}
		if low, _, err := csp.LowS(&key.PublicKey, sig); err == nil && errors.Is(fast, nil) && string(low) != string(sig) {
			t.Errorf("%x verifies but is not low", sig)
		}
	})
}

func BenchmarkVerifyECDSA(b *testing.B) {
	key := newKey(b, elliptic.P256())
	digest := sha256.Sum256([]byte("message"))
	sig, err := csp.Sign(key, digest[:])
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := csp.VerifyECDSA(&key.PublicKey, digest[:], sig); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSign(b *testing.B) {
	key := newKey(b, elliptic.P256())
	digest := sha256.Sum256([]byte("message"))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := csp.Sign(key, digest[:]); err != nil {
			b.Fatal(err)
		}
	}
}
