// Package testpki makes certificate authorities, identities and MSP material for tests.
//
// Certificates are valid from 1990 to 2100, so they serve inside a testing/synctest bubble (year 2000) and
// outside alike. Only tests import it; it owns no state.
package testpki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	mspproto "github.com/hyperledger/fabric-protos-go-apiv2/msp"

	"github.com/heddle-ledger/heddle/internal/csp"
	"github.com/heddle-ledger/heddle/internal/protoutil"
)

// TB is the part of testing.TB that this package needs.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
}

// CA is a certificate authority.
type CA struct {
	tb   TB
	Cert *x509.Certificate
	Key  *ecdsa.PrivateKey
}

// Identity is a certificate with its private key.
type Identity struct {
	tb    TB
	MSPID string
	Cert  *x509.Certificate
	Key   *ecdsa.PrivateKey
}

// Org is an organization with NodeOUs client, peer, admin and orderer.
type Org struct {
	tb    TB
	MSPID string
	CA    *CA
	TLSCA *CA
	// Admins are listed explicitly in the MSP; most tests need none, as the admin OU serves.
	Admins []*Identity
	// NoNodeOUs makes the MSP one without roles.
	NoNodeOUs bool
}

// NewOrg makes an organization with fresh CAs.
func NewOrg(tb TB, mspID string) *Org {
	tb.Helper()
	return &Org{tb: tb, MSPID: mspID, CA: NewCA(tb, "ca."+mspID), TLSCA: NewCA(tb, "tlsca."+mspID)}
}

// NewCA makes a self-signed CA.
func NewCA(tb TB, name string) *CA {
	tb.Helper()
	return newCA(tb, name, nil)
}

// Intermediate makes a CA under this one.
func (c *CA) Intermediate(name string) *CA {
	c.tb.Helper()
	return newCA(c.tb, name, c)
}

func newCA(tb TB, name string, parent *CA) *CA {
	tb.Helper()
	key := newKey(tb)
	t := template(tb, key, name, nil)
	t.IsCA = true
	t.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	ca := &CA{tb: tb, Key: key}
	if parent == nil {
		parent = &CA{Cert: t, Key: key}
	}
	ca.Cert = create(tb, t, parent.Cert, key, parent.Key)
	return ca
}

// PEM is the certificate.
func (c *CA) PEM() []byte { return certPEM(c.Cert) }

// Issue makes a certificate with those OUs. change may alter the template; nil leaves it.
func (c *CA) Issue(name string, ous []string, change func(*x509.Certificate)) *Identity {
	c.tb.Helper()
	key := newKey(c.tb)
	t := template(c.tb, key, name, ous)
	t.KeyUsage = x509.KeyUsageDigitalSignature
	if change != nil {
		change(t)
	}
	return &Identity{tb: c.tb, Cert: create(c.tb, t, c.Cert, key, c.Key), Key: key}
}

// CRL is a revocation list in PEM.
func (c *CA) CRL(revoked ...*x509.Certificate) []byte {
	c.tb.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: notBefore(), NextUpdate: notAfter()}
	for _, r := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: r.SerialNumber, RevocationTime: notBefore()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, c.Cert, c.Key)
	if err != nil {
		c.tb.Fatalf("create CRL: %s", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

// Identity makes an identity of the organization whose OU is role: client, peer, admin or orderer.
func (o *Org) Identity(name, role string) *Identity {
	o.tb.Helper()
	id := o.CA.Issue(name, []string{role}, nil)
	id.MSPID = o.MSPID
	return id
}

// Peer makes a peer.
func (o *Org) Peer(name string) *Identity { o.tb.Helper(); return o.Identity(name, "peer") }

// Client makes a client.
func (o *Org) Client(name string) *Identity { o.tb.Helper(); return o.Identity(name, "client") }

// Admin makes an administrator.
func (o *Org) Admin(name string) *Identity { o.tb.Helper(); return o.Identity(name, "admin") }

// Orderer makes an orderer.
func (o *Org) Orderer(name string) *Identity { o.tb.Helper(); return o.Identity(name, "orderer") }

// TLS makes a TLS certificate for client and server use, for those host names and addresses.
func (o *Org) TLS(name string, hosts ...string) *Identity {
	o.tb.Helper()
	return o.TLSCA.Issue(name, nil, func(t *x509.Certificate) {
		t.KeyUsage |= x509.KeyUsageKeyEncipherment
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
		for _, h := range hosts {
			if ip := net.ParseIP(h); ip != nil {
				t.IPAddresses = append(t.IPAddresses, ip)
			} else {
				t.DNSNames = append(t.DNSNames, h)
			}
		}
	})
}

// FabricConfig is the content of the organization's MSP.
func (o *Org) FabricConfig() *mspproto.FabricMSPConfig {
	conf := &mspproto.FabricMSPConfig{
		Name:         o.MSPID,
		RootCerts:    [][]byte{o.CA.PEM()},
		TlsRootCerts: [][]byte{o.TLSCA.PEM()},
		CryptoConfig: &mspproto.FabricCryptoConfig{SignatureHashFamily: "SHA2", IdentityIdentifierHashFunction: "SHA256"},
	}
	for _, a := range o.Admins {
		conf.Admins = append(conf.Admins, a.CertPEM())
	}
	if !o.NoNodeOUs {
		ou := func(name string) *mspproto.FabricOUIdentifier {
			return &mspproto.FabricOUIdentifier{Certificate: o.CA.PEM(), OrganizationalUnitIdentifier: name}
		}
		conf.FabricNodeOus = &mspproto.FabricNodeOUs{
			Enable: true, ClientOuIdentifier: ou("client"), PeerOuIdentifier: ou("peer"),
			AdminOuIdentifier: ou("admin"), OrdererOuIdentifier: ou("orderer"),
		}
	}
	return conf
}

// MSPConfig is the verifying MSP of the organization, as a channel configuration holds it.
func (o *Org) MSPConfig() *mspproto.MSPConfig {
	return &mspproto.MSPConfig{Config: protoutil.Marshal(o.FabricConfig())}
}

// WriteMSP writes the MSP directory of id; with nil, that of the organization without a signer.
func (o *Org) WriteMSP(dir string, id *Identity) {
	o.tb.Helper()
	files := map[string][]byte{
		"cacerts/ca.pem":       o.CA.PEM(),
		"tlscacerts/tlsca.pem": o.TLSCA.PEM(),
	}
	for i, a := range o.Admins {
		files[fmt.Sprintf("admincerts/admin%d.pem", i)] = a.CertPEM()
	}
	if !o.NoNodeOUs {
		yaml := "NodeOUs:\n  Enable: true\n"
		for _, role := range []string{"Client", "Peer", "Admin", "Orderer"} {
			yaml += fmt.Sprintf("  %sOUIdentifier: {Certificate: cacerts/ca.pem, OrganizationalUnitIdentifier: %s}\n",
				role, map[string]string{"Client": "client", "Peer": "peer", "Admin": "admin", "Orderer": "orderer"}[role])
		}
		files["config.yaml"] = []byte(yaml)
	}
	if id != nil {
		files["signcerts/cert.pem"] = id.CertPEM()
		files["keystore/key_sk"] = id.KeyPEM()
	}
	for name, content := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			o.tb.Fatalf("write MSP: %s", err)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			o.tb.Fatalf("write MSP: %s", err)
		}
	}
}

// CertPEM is the certificate.
func (i *Identity) CertPEM() []byte { return certPEM(i.Cert) }

// KeyPEM is the private key in PKCS#8.
func (i *Identity) KeyPEM() []byte {
	i.tb.Helper()
	raw, err := csp.MarshalPrivateKey(i.Key)
	if err != nil {
		i.tb.Fatalf("%s", err)
	}
	return raw
}

// Serialize is the marshalled SerializedIdentity.
func (i *Identity) Serialize() []byte {
	return protoutil.Marshal(&mspproto.SerializedIdentity{Mspid: i.MSPID, IdBytes: i.CertPEM()})
}

// Sign signs with SHA-256 and low S.
func (i *Identity) Sign(msg []byte) ([]byte, error) {
	digest := sha256.Sum256(msg)
	return csp.Sign(i.Key, digest[:])
}

// MustSign is Sign that ends the test when it fails.
func (i *Identity) MustSign(msg []byte) []byte {
	i.tb.Helper()
	sig, err := i.Sign(msg)
	if err != nil {
		i.tb.Fatalf("sign: %s", err)
	}
	return sig
}

func notBefore() time.Time { return time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC) }
func notAfter() time.Time  { return time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC) }

func newKey(tb TB) *ecdsa.PrivateKey {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatalf("generate key: %s", err)
	}
	return key
}

func template(tb TB, key *ecdsa.PrivateKey, name string, ous []string) *x509.Certificate {
	tb.Helper()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		tb.Fatalf("serial number: %s", err)
	}
	ski, err := csp.SKI(&key.PublicKey)
	if err != nil {
		tb.Fatalf("%s", err)
	}
	return &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{Country: []string{"US"}, OrganizationalUnit: ous, CommonName: name},
		NotBefore:             notBefore(),
		NotAfter:              notAfter(),
		BasicConstraintsValid: true,
		SubjectKeyId:          ski,
	}
}

func create(tb TB, t, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) *x509.Certificate {
	tb.Helper()
	for {
		der, err := x509.CreateCertificate(rand.Reader, t, parent, &key.PublicKey, signer)
		if err != nil {
			tb.Fatalf("create certificate: %s", err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			tb.Fatalf("parse certificate: %s", err)
		}
		// An MSP rewrites certificates with a high S; made low here, certificates keep their bytes.
		if _, changed, err := csp.LowS(&signer.PublicKey, c.Signature); err == nil && !changed {
			return c
		}
	}
}

func certPEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}
