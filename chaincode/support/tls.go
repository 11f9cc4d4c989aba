package support

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
	"sync"
	"time"

	"github.com/heddle-ledger/heddle/chaincode/runtime"
)

// certLifetime is how long the certificate of a launch is good for connecting.
const certLifetime = 10 * time.Minute

const tenYears = 10 * 365 * 24 * time.Hour

// Authority is the in-memory CA of the chaincode listener, made afresh at
// every start (CHAINCODE §1.2).
type Authority struct {
	cert       *x509.Certificate
	key        *ecdsa.PrivateKey
	certPEM    []byte
	serverCert []byte
	serverKey  []byte

	mu     sync.Mutex // guards issued
	issued map[[sha256.Size]byte]certOwner
}

type certOwner struct {
	cname string
	until time.Time
}

// NewAuthority makes a CA and a server certificate for the host of the
// endpoint told to chaincodes.
func NewAuthority(endpoint string) (*Authority, error) {
	host, _, err := net.SplitHostPort(endpoint)
	if err != nil {
		return nil, fmt.Errorf("endpoint for chaincodes: %w", err)
	}
	a := &Authority{issued: map[[sha256.Size]byte]certOwner{}}
	ca, err := template(-time.Minute, tenYears)
	if err != nil {
		return nil, err
	}
	ca.IsCA, ca.BasicConstraintsValid = true, true
	ca.KeyUsage |= x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	ca.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
	var keyPEM []byte
	if a.certPEM, keyPEM, err = a.sign(ca); err != nil {
		return nil, err
	}
	if a.cert, a.key, err = parsePair(a.certPEM, keyPEM); err != nil {
		return nil, err
	}
	server, err := template(-time.Minute, tenYears)
	if err != nil {
		return nil, err
	}
	server.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	if ip := net.ParseIP(host); ip != nil {
		server.IPAddresses = []net.IP{ip}
	} else {
		server.DNSNames = []string{host}
	}
	if a.serverCert, a.serverKey, err = a.sign(server); err != nil {
		return nil, err
	}
	return a, nil
}

// ServerTLS returns the server's PEM certificate and key and the CA that
// clients must be certified by.
func (a *Authority) ServerTLS() (cert, key, clientCA []byte) {
	return a.serverCert, a.serverKey, a.certPEM
}

// issue makes the key pair of one launch and remembers whose it is.
func (a *Authority) issue(cname string) (*runtime.TLS, error) {
	client, err := template(-24*time.Hour, 24*time.Hour)
	if err != nil {
		return nil, err
	}
	client.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	cert, key, err := a.sign(client)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(cert)
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	for hash, o := range a.issued {
		if now.After(o.until) {
			delete(a.issued, hash)
		}
	}
	a.issued[sha256.Sum256(block.Bytes)] = certOwner{cname, now.Add(certLifetime)}
	return &runtime.TLS{ClientKey: key, ClientCert: cert, RootCert: a.certPEM}, nil
}

// owner returns the chaincode that a certificate was made for.
func (a *Authority) owner(hash []byte) (string, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	o, ok := a.issued[[sha256.Size]byte(hash)]
	if !ok || time.Now().After(o.until) {
		return "", false
	}
	return o.cname, true
}

// sign makes a key pair and certifies it; the first one certifies itself.
func (a *Authority) sign(t *x509.Certificate) (certPEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("generate key: %w", err)
	}
	parent, parentKey := a.cert, a.key
	if parent == nil {
		parent, parentKey = t, key
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, &key.PublicKey, parentKey)
	if err != nil {
		return nil, nil, fmt.Errorf("certify key: %w", err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("encode key: %w", err)
	}
	certPEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	// PKCS#8 under this type is what the reference writes and shims expect.
	keyPEM = pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: pkcs8})
	return certPEM, keyPEM, nil
}

func template(from, to time.Duration) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("generate serial number: %w", err)
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{SerialNumber: serial.String()},
		NotBefore:    now.Add(from),
		NotAfter:     now.Add(to),
		KeyUsage:     x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
	}, nil
}

func parsePair(certPEM, keyPEM []byte) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	cert, _ := pem.Decode(certPEM)
	key, _ := pem.Decode(keyPEM)
	c, err := x509.ParseCertificate(cert.Bytes)
	if err != nil {
		return nil, nil, fmt.Errorf("parse certificate: %w", err)
	}
	k, err := x509.ParsePKCS8PrivateKey(key.Bytes)
	if err != nil {
		return nil, nil, fmt.Errorf("parse key: %w", err)
	}
	return c, k.(*ecdsa.PrivateKey), nil
}
