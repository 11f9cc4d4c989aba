package cryptogen

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/heddle-ledger/heddle/internal/csp"
)

// Validity of every certificate.
const (
	validity  = 3650 * 24 * time.Hour
	backdated = 5 * time.Minute
)

// Default subject fields.
const (
	defaultCountry  = "US"
	defaultProvince = "California"
	defaultLocality = "San Francisco"
)

// authority is a certificate authority that can sign.
type authority struct {
	subject pkix.Name // the fields that leaves inherit
	unit    string
	cert    *x509.Certificate
	key     crypto.Signer
}

func or(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

func list(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// subjectOf is the part of the subject that an authority and its leaves share.
func subjectOf(ca Node) pkix.Name {
	return pkix.Name{
		Country:       []string{or(ca.Country, defaultCountry)},
		Province:      []string{or(ca.Province, defaultProvince)},
		Locality:      []string{or(ca.Locality, defaultLocality)},
		StreetAddress: list(ca.StreetAddress),
		PostalCode:    list(ca.PostalCode),
	}
}

func newCert() (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 128))
	if err != nil {
		return nil, fmt.Errorf("make a serial number: %w", err)
	}
	begin := time.Now().Round(time.Minute).Add(-backdated).UTC()
	return &x509.Certificate{
		SerialNumber: serial, NotBefore: begin, NotAfter: begin.Add(validity).UTC(), BasicConstraintsValid: true,
	}, nil
}

// lowSigner makes signatures with a low S, which verifiers of identities insist
// on (IDENTITY-CONFIG §2.2).
type lowSigner struct{ crypto.Signer }

func (l lowSigner) Sign(_ io.Reader, digest []byte, _ crypto.SignerOpts) ([]byte, error) {
	return csp.Sign(l.Signer, digest)
}

// newAuthority makes a certificate authority in a directory.
func newAuthority(dir, domain, name string, ca Node) (*authority, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	key, err := newKey(dir)
	if err != nil {
		return nil, err
	}
	t, err := newCert()
	if err != nil {
		return nil, err
	}
	t.IsCA = true
	t.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	if t.SubjectKeyId, err = csp.SKI(key.Public()); err != nil {
		return nil, err
	}
	a := &authority{subject: subjectOf(ca), unit: ca.OrganizationalUnit, key: key}
	t.Subject = a.subject
	t.Subject.Organization = []string{domain}
	t.Subject.OrganizationalUnit = list(a.unit)
	t.Subject.CommonName = name
	a.cert, err = sign(t, t, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return a, writeCert(filepath.Join(dir, name+"-cert.pem"), a.cert)
}

// loadAuthority reads a certificate authority from a directory: the last key
// and the last certificate in name order. Subject fields come from the
// configuration.
func loadAuthority(dir string, ca Node) (*authority, error) {
	a := &authority{subject: subjectOf(ca), unit: ca.OrganizationalUnit}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		switch {
		case strings.HasSuffix(e.Name(), "_sk"):
			text, err := os.ReadFile(path)
			if err != nil {
				return nil, err
			}
			if a.key, err = csp.ParsePrivateKey(text); err != nil {
				return nil, fmt.Errorf("key %s: %w", path, err)
			}
		case strings.HasSuffix(e.Name(), ".pem"):
			if a.cert, err = readCert(path); err != nil {
				return nil, err
			}
		}
	}
	if a.key == nil || a.cert == nil {
		return nil, fmt.Errorf("directory %s holds no certificate authority: it needs a key file ending in _sk and a certificate ending in .pem", dir)
	}
	return a, nil
}

// leaf describes a certificate to be issued.
type leaf struct {
	name  string
	units []string // besides the authority's own
	sans  []string
	tls   bool
}

// issue makes a key (written by store) and a certificate for it.
func (a *authority) issue(l leaf, pub crypto.PublicKey) (*x509.Certificate, error) {
	t, err := newCert()
	if err != nil {
		return nil, err
	}
	t.KeyUsage = x509.KeyUsageDigitalSignature
	if l.tls {
		t.KeyUsage |= x509.KeyUsageKeyEncipherment
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	}
	t.Subject = a.subject
	t.Subject.OrganizationalUnit = append(list(a.unit), l.units...)
	t.Subject.CommonName = l.name
	for _, s := range l.sans {
		if ip := net.ParseIP(s); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, s)
		}
	}
	return sign(t, a.cert, pub, a.key)
}

func sign(t, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, t, parent, pub, lowSigner{key})
	if err != nil {
		return nil, fmt.Errorf("create certificate of %s: %w", t.Subject.CommonName, err)
	}
	return x509.ParseCertificate(der)
}

func generateKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate key: %w", err)
	}
	return key, nil
}

// newKey makes a P-256 key and stores it under its subject key identifier.
func newKey(dir string) (*ecdsa.PrivateKey, error) {
	key, err := generateKey()
	if err != nil {
		return nil, err
	}
	if _, err := (csp.KeyStore{Dir: dir}).Store(key); err != nil {
		return nil, err
	}
	return key, nil
}

func writeCert(path string, cert *x509.Certificate) error {
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
	return os.WriteFile(path, text, 0o644)
}

func readCert(path string) (*x509.Certificate, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s holds no PEM block", path)
	}
	return x509.ParseCertificate(block.Bytes)
}
