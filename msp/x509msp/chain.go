package x509msp

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/heddle-ledger/heddle/internal/csp"
)

// verifyOptions asks for the default extended key usage, serverAuth, on purpose: so does the reference.
func verifyOptions(roots, intermediates []*x509.Certificate) x509.VerifyOptions {
	opts := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool()}
	for _, c := range roots {
		opts.Roots.AddCert(c)
	}
	for _, c := range intermediates {
		opts.Intermediates.AddCert(c)
	}
	return opts
}

// uniqueChain builds the one chain from c to a root. The rules are those of Go's crypto/x509 today; beside
// texts they differ from those the reference was built with in what has since been found unsafe: a
// certificate signed with SHA-1 has no chain, one with a negative serial number does not parse.
func uniqueChain(c *x509.Certificate, opts x509.VerifyOptions) ([]*x509.Certificate, error) {
	chains, err := c.Verify(opts)
	if err != nil {
		return nil, fmt.Errorf("the supplied identity is not valid: %w", err)
	}
	if len(chains) != 1 {
		return nil, fmt.Errorf("this MSP only supports a single validation chain, got %d", len(chains))
	}
	return chains[0], nil
}

// sanitize makes the signature on an ECDSA-signed certificate low-S, so that a certificate has one form
// (IDENTITY-CONFIG §2.2). chain is that of the result; nil when the certificate is not ECDSA-signed.
func (m *MSP) sanitize(c *x509.Certificate) (clean *x509.Certificate, chain []*x509.Certificate, err error) {
	if !ecdsaSigned(c) {
		return c, nil, nil
	}
	chain, err = uniqueChain(c, atIssue(m.pools, c))
	if err != nil {
		return nil, nil, err
	}
	issuer := c
	if len(chain) > 1 {
		issuer = chain[1]
	} else if !c.IsCA {
		// The reference dies here.
		return nil, nil, noCAAttribute(c)
	}
	pub, ok := issuer.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return nil, nil, errors.New("the supplied identity is not valid: an ECDSA signature by a key that is not ECDSA")
	}
	low, changed, err := csp.LowS(pub, c.Signature)
	if err != nil {
		return nil, nil, err
	}
	if !changed {
		return c, chain, nil
	}
	if c, err = withSignature(c, low); err != nil {
		return nil, nil, err
	}
	return c, append([]*x509.Certificate{c}, chain[1:]...), nil
}

func ecdsaSigned(c *x509.Certificate) bool {
	switch c.SignatureAlgorithm {
	case x509.ECDSAWithSHA1, x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512:
		return true
	default:
		return false
	}
}

// withSignature is the same certificate with another signature; the signed part stays byte for byte.
func withSignature(c *x509.Certificate, sig []byte) (*x509.Certificate, error) {
	var outer struct {
		TBS, Algorithm asn1.RawValue
		Signature      asn1.BitString
	}
	if _, err := asn1.Unmarshal(c.Raw, &outer); err != nil {
		return nil, fmt.Errorf("re-encode certificate: %w", err)
	}
	outer.Signature = asn1.BitString{Bytes: sig, BitLength: 8 * len(sig)}
	der, err := asn1.Marshal(outer)
	if err != nil {
		return nil, fmt.Errorf("re-encode certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}

func innerCAError(c *x509.Certificate) error {
	return fmt.Errorf("invalid validation chain. Parent certificate should be a leaf of the certification tree [%v]", c.Raw)
}

// chainDigest is the certifiers identifier of a chain of CAs (IDENTITY-CONFIG §2.5).
func (m *MSP) chainDigest(chain []*x509.Certificate) []byte {
	h := m.identityHash.New()
	for _, c := range chain {
		h.Write(c.Raw)
	}
	return h.Sum(nil)
}

// Object identifiers of certificate extensions.
const (
	oidSubjectKeyID   = "2.5.29.14"
	oidAuthorityKeyID = "2.5.29.35"
)

func subjectKeyID(c *x509.Certificate) ([]byte, error) {
	for _, e := range c.Extensions {
		if e.Id.String() == oidSubjectKeyID {
			return c.SubjectKeyId, nil
		}
	}
	return nil, errors.New("subjectKeyIdentifier not found in certificate")
}

// revocationList is a parsed CRL. Its dates do not matter.
type revocationList struct {
	list    *pkix.CertificateList
	issuer  []byte // authority key identifier
	err     error  // why there is no issuer
	serials map[string]bool
}

func parseCRL(raw []byte) (*revocationList, error) {
	// x509.ParseRevocationList would refuse lists that the reference takes.
	list, err := x509.ParseCRL(raw) //nolint:staticcheck // see above
	if err != nil {
		return nil, err
	}
	l := &revocationList{list: list, serials: make(map[string]bool, len(list.TBSCertList.RevokedCertificates))}
	l.issuer, l.err = authorityKeyID(list.TBSCertList.Extensions)
	for _, r := range list.TBSCertList.RevokedCertificates {
		l.serials[r.SerialNumber.String()] = true
	}
	return l, nil
}

func authorityKeyID(exts []pkix.Extension) ([]byte, error) {
	for _, e := range exts {
		if e.Id.String() != oidAuthorityKeyID {
			continue
		}
		var id struct {
			KeyID []byte `asn1:"optional,tag:0"`
			// The rest of the extension does not matter.
		}
		if _, err := asn1.Unmarshal(e.Value, &id); err != nil {
			return nil, fmt.Errorf("failed to unmarshal AKI: %w", err)
		}
		return id.KeyID, nil
	}
	return nil, errors.New("authorityKeyIdentifier not found in certificate")
}

// checkRevocation looks c up in the lists of its issuer (IDENTITY-CONFIG §2.4, step 5).
func (m *MSP) checkRevocation(c, issuer *x509.Certificate) error {
	ski, err := subjectKeyID(issuer)
	if err != nil {
		return fmt.Errorf("could not obtain Subject Key Identifier for signer cert: %w", err)
	}
	serial := ""
	for _, l := range m.crls {
		if l.err != nil {
			return fmt.Errorf("could not obtain Authority Key Identifier for crl: %w", l.err)
		}
		if !bytes.Equal(l.issuer, ski) {
			continue
		}
		if serial == "" {
			serial = c.SerialNumber.String()
		}
		if !l.serials[serial] {
			continue
		}
		if err := issuer.CheckCRLSignature(l.list); err != nil { //nolint:staticcheck // goes with ParseCRL
			m.log.Warningf("Invalid signature over the identified CRL, so it is ignored: %s", err)
			continue
		}
		return errors.New("The certificate has been revoked")
	}
	return nil
}
