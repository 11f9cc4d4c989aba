package x509msp

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha3"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	mspproto "github.com/hyperledger/fabric-protos-go-apiv2/msp"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/csp"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/msp"
)

// identity is an X.509 identity; it is immutable.
type identity struct {
	msp        *MSP
	cert       *x509.Certificate // sanitised
	pub        *ecdsa.PublicKey  // nil for RSA
	id         msp.Identifier
	serialized []byte
	verifyKey  [32]byte

	// chain is the certificate chain, or chainErr why there is none.
	chain    []*x509.Certificate
	chainErr error
	ous      []ou
}

// newIdentity sanitises a certificate and finds its place in the MSP. It fails for an ECDSA-signed
// certificate without a chain; for others Validate tells.
func (m *MSP) newIdentity(c *x509.Certificate) (*identity, error) {
	var pub *ecdsa.PublicKey
	switch k := c.PublicKey.(type) {
	case *ecdsa.PublicKey:
		pub = k
	case *rsa.PublicKey:
	default:
		return nil, errors.New("failed to import certificate's public key: Certificate's public key type not recognized. Supported keys: [ECDSA, RSA]")
	}
	c, chain, err := m.sanitize(c)
	if err != nil {
		return nil, err
	}
	id := &identity{msp: m, cert: c, pub: pub, chain: chain}
	if chain == nil {
		id.chain, id.chainErr = uniqueChain(c, atIssue(m.pools, c))
	}
	h := m.identityHash.New()
	h.Write(c.Raw)
	id.id = msp.Identifier{MSPID: m.name, ID: hex.EncodeToString(h.Sum(nil))}
	id.serialized = protoutil.Marshal(&mspproto.SerializedIdentity{
		Mspid:   m.name,
		IdBytes: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}),
	})
	// The digest kind is part of the key: the same bytes mean another message under another hash.
	id.verifyKey = sha256.Sum256(append([]byte(m.digest+"\x00"), c.RawSubjectPublicKeyInfo...))
	id.setOUs()
	return id, nil
}

// DeserializeIdentity implements msp.Deserializer (IDENTITY-CONFIG §2.1).
func (m *MSP) DeserializeIdentity(b []byte) (msp.Identity, error) {
	id, err := m.deserialize(b)
	if err != nil {
		return nil, err
	}
	return id, nil
}

func (m *MSP) deserialize(b []byte) (*identity, error) {
	sid := &mspproto.SerializedIdentity{}
	if err := proto.Unmarshal(b, sid); err != nil {
		return nil, fmt.Errorf("could not deserialize a SerializedIdentity: %w", err)
	}
	if sid.Mspid != m.name {
		return nil, fmt.Errorf("expected MSP ID %s, received %s", m.name, sid.Mspid)
	}
	block, _ := pem.Decode(sid.IdBytes)
	if block == nil {
		return nil, errors.New("could not decode the PEM structure")
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parseCertificate failed: %w", err)
	}
	return m.newIdentity(c)
}

// IsWellFormed implements msp.Deserializer (IDENTITY-CONFIG §2.3). The MSP id is not looked at.
func (m *MSP) IsWellFormed(b []byte) error {
	sid := &mspproto.SerializedIdentity{}
	if err := proto.Unmarshal(b, sid); err != nil {
		return fmt.Errorf("could not deserialize a SerializedIdentity: %w", err)
	}
	block, rest := pem.Decode(sid.IdBytes)
	if block == nil {
		return errors.New("PEM decoding resulted in an empty block")
	}
	if len(rest) > 0 {
		return fmt.Errorf("identity %s for MSP %s has trailing bytes", sid.IdBytes, sid.Mspid)
	}
	if block.Type != "CERTIFICATE" && block.Type != "" {
		return fmt.Errorf("pem type is %s, should be 'CERTIFICATE' or missing", block.Type)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return err
	}
	if !ecdsaSigned(c) {
		return nil
	}
	canonical, err := csp.CanonicalDER(c.Signature)
	if err != nil {
		return err
	}
	if !canonical {
		return fmt.Errorf("identity %s for MSP %s has a non canonical signature", sid.IdBytes, sid.Mspid)
	}
	return nil
}

func (id *identity) Identifier() msp.Identifier { return id.id }
func (id *identity) MSPID() string              { return id.id.MSPID }
func (id *identity) Serialize() []byte          { return id.serialized }
func (id *identity) ExpiresAt() time.Time       { return id.cert.NotAfter }

// Validate implements msp.Identity (IDENTITY-CONFIG §2.4).
func (id *identity) Validate() error {
	chain, err := id.certificationChain()
	if err != nil {
		return fmt.Errorf("could not obtain certification chain: %w", err)
	}
	if err := id.msp.checkRevocation(id.cert, chain[1]); err != nil {
		return fmt.Errorf("could not validate identity against certification chain: %w", err)
	}
	if err := id.msp.checkOUs(id); err != nil {
		return fmt.Errorf("could not validate identity's OUs: %w", err)
	}
	return nil
}

// certificationChain is the chain of an identity: at least two long, from a CA that may issue identities.
func (id *identity) certificationChain() ([]*x509.Certificate, error) {
	if id.cert.BasicConstraintsValid && id.cert.IsCA {
		return nil, errors.New("An X509 certificate with Basic Constraint: Certificate Authority equals true cannot be used as an identity")
	}
	if id.chainErr != nil {
		return nil, fmt.Errorf("failed getting validation chain: %w", id.chainErr)
	}
	if len(id.chain) < 2 {
		return nil, fmt.Errorf("expected a chain of length at least 2, got %d", len(id.chain))
	}
	if id.msp.innerCAs[string(id.chain[1].Raw)] {
		return nil, innerCAError(id.cert)
	}
	return id.chain, nil
}

// Verify implements msp.Identity (IDENTITY-CONFIG §1.3).
func (id *identity) Verify(msg, sig []byte) error {
	digest, err := id.msp.digest.sum(msg)
	if err != nil {
		return err
	}
	return id.VerifyDigest(digest, sig)
}

// The three methods below let package msp remember verified signatures.

// VerifyKey names what a signature is verified with: the public key and the digest.
func (id *identity) VerifyKey() *[32]byte { return &id.verifyKey }

// Digest is what a signature over msg is made over.
func (id *identity) Digest(msg []byte) ([32]byte, error) { return id.msp.digest.sum(msg) }

// VerifyDigest is Verify with the digest made already.
func (id *identity) VerifyDigest(digest [32]byte, sig []byte) error {
	if id.pub == nil {
		if len(sig) == 0 {
			return errors.New("could not determine the validity of the signature: Invalid signature. Cannot be empty.")
		}
		return errors.New("could not determine the validity of the signature: Failed verifing with opts [<nil>]: Invalid options. It must not be nil.")
	}
	return csp.VerifyECDSA(id.pub, digest[:], sig)
}

// signingIdentity is the identity of this node.
type signingIdentity struct {
	*identity
	key crypto.Signer
}

// Sign implements msp.SigningIdentity.
func (s *signingIdentity) Sign(msg []byte) ([]byte, error) {
	digest, err := s.msp.digest.sum(msg)
	if err != nil {
		return nil, err
	}
	return csp.Sign(s.key, digest[:])
}

// digestKind is crypto_config.signature_hash_family. An unknown one shows only when a signature is made or
// verified, as in the reference.
type digestKind string

func (k digestKind) sum(msg []byte) ([32]byte, error) {
	switch k {
	case "", "SHA2":
		return sha256.Sum256(msg), nil
	case "SHA3":
		return sha3.Sum256(msg), nil
	default:
		return [32]byte{}, fmt.Errorf("failed getting hash function options: hash familiy not recognized [%s]", string(k))
	}
}

// ExpiresAtOf is the end of validity of raw creator bytes; zero means "does not expire", also when the
// bytes cannot be understood (IDENTITY-CONFIG §2.7).
func ExpiresAtOf(serialized []byte) time.Time {
	sid := &mspproto.SerializedIdentity{}
	if proto.Unmarshal(serialized, sid) != nil {
		return time.Time{}
	}
	block, _ := pem.Decode(sid.IdBytes)
	if block == nil {
		return time.Time{}
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return time.Time{}
	}
	return c.NotAfter
}
