package x509msp

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	mspproto "github.com/hyperledger/fabric-protos-go-apiv2/msp"

	"github.com/heddle-ledger/heddle/internal/csp"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/msp"
)

// setUp runs the checks of IDENTITY-CONFIG §3.3. Their order shows in which error is reported first.
func (m *MSP) setUp(conf *mspproto.FabricMSPConfig) error {
	steps := []func(*mspproto.FabricMSPConfig) error{
		m.setUpCrypto, m.setUpCAs, m.setUpAdmins, m.setUpCRLs, m.checkCAs, m.setUpSigner, m.setUpTLS, m.setUpOUs,
	}
	switch {
	case m.version >= msp.V1_4_3:
		steps = []func(*mspproto.FabricMSPConfig) error{
			m.setUpCrypto, m.setUpCAs, m.setUpCRLs, m.checkCAs, m.setUpSigner, m.setUpTLS, m.setUpOUs,
			m.setUpNodeOUs, m.setUpAdmins, m.requireAdmins,
		}
	case m.version >= msp.V1_1:
		steps = append(steps, m.setUpNodeOUs)
	}
	for _, step := range append(steps, m.checkAdmins) {
		if err := step(conf); err != nil {
			return err
		}
	}
	return nil
}

func (m *MSP) setUpCrypto(conf *mspproto.FabricMSPConfig) error {
	var ok bool
	name := conf.GetCryptoConfig().GetIdentityIdentifierHashFunction()
	if m.identityHash, ok = identityHashes(name); !ok {
		return fmt.Errorf("failed getting hash function options: hash function not recognized [%s]", name)
	}
	m.digest = digestKind(conf.GetCryptoConfig().GetSignatureHashFamily())
	return nil
}

func identityHashes(name string) (crypto.Hash, bool) {
	switch name {
	case "", "SHA256":
		return crypto.SHA256, true
	case "SHA384":
		return crypto.SHA384, true
	case "SHA3_256":
		return crypto.SHA3_256, true
	case "SHA3_384":
		return crypto.SHA3_384, true
	default:
		return 0, false
	}
}

func (m *MSP) setUpCAs(conf *mspproto.FabricMSPConfig) error {
	if len(conf.RootCerts) == 0 {
		return errors.New("expected at least one CA certificate")
	}
	roots, err := parseAll(conf.RootCerts)
	if err != nil {
		return err
	}
	intermediates, err := parseAll(conf.IntermediateCerts)
	if err != nil {
		return err
	}
	// The CAs are sanitised with the help of chains of themselves as given; only then come the pools
	// that count.
	m.pools = verifyOptions(roots, intermediates)
	if m.roots, err = m.sanitizeAll(roots); err != nil {
		return err
	}
	if m.intermediates, err = m.sanitizeAll(intermediates); err != nil {
		return err
	}
	m.pools = verifyOptions(m.roots, m.intermediates)
	return nil
}

func parseAll(pems [][]byte) ([]*x509.Certificate, error) {
	certs := make([]*x509.Certificate, len(pems))
	for i, p := range pems {
		c, err := parsePEM(p)
		if err != nil {
			return nil, err
		}
		certs[i] = c
	}
	return certs, nil
}

func parsePEM(raw []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(raw)
	if block == nil {
		return nil, fmt.Errorf("getCertFromPem error: could not decode pem bytes [%v]", raw)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("getCertFromPem error: failed to parse x509 cert: %w", err)
	}
	return c, nil
}

func (m *MSP) sanitizeAll(certs []*x509.Certificate) ([]*x509.Certificate, error) {
	clean := make([]*x509.Certificate, len(certs))
	for i, c := range certs {
		c, _, err := m.sanitize(c)
		if err != nil {
			return nil, err
		}
		clean[i] = c
	}
	return clean, nil
}

func (m *MSP) setUpAdmins(conf *mspproto.FabricMSPConfig) error {
	for _, raw := range conf.Admins {
		c, err := parsePEM(raw)
		if err != nil {
			return err
		}
		id, err := m.newIdentity(c)
		if err != nil {
			return err
		}
		m.admins = append(m.admins, id)
	}
	return nil
}

func (m *MSP) setUpCRLs(conf *mspproto.FabricMSPConfig) error {
	for _, raw := range conf.RevocationList {
		l, err := parseCRL(raw)
		if err != nil {
			return fmt.Errorf("could not parse RevocationList: %w", err)
		}
		m.crls = append(m.crls, l)
	}
	return nil
}

func (m *MSP) checkCAs(*mspproto.FabricMSPConfig) error {
	for _, group := range [][]*x509.Certificate{m.roots, m.intermediates} {
		for _, c := range group {
			if err := m.checkCA(c, atIssue(m.pools, c)); err != nil {
				return err
			}
		}
	}
	m.innerCAs = make(map[string]bool)
	for _, c := range m.intermediates {
		chain, err := uniqueChain(c, atIssue(m.pools, c))
		if err != nil {
			return err
		}
		for _, above := range chain[1:] {
			m.innerCAs[string(above.Raw)] = true
		}
	}
	return nil
}

func (m *MSP) checkCA(c *x509.Certificate, opts x509.VerifyOptions) error {
	if !c.IsCA {
		return noCAAttribute(c)
	}
	if _, err := subjectKeyID(c); err != nil {
		return fmt.Errorf("CA Certificate problem with Subject Key Identifier extension, (SN: %x): %w", c.SerialNumber, err)
	}
	chain, err := uniqueChain(c, opts)
	if err != nil {
		return fmt.Errorf("CA Certificate is not valid, (SN: %s): could not obtain certification chain: %w", c.SerialNumber, err)
	}
	if len(chain) > 1 {
		if err := m.checkRevocation(c, chain[1]); err != nil {
			return fmt.Errorf("CA Certificate is not valid, (SN: %s): %w", c.SerialNumber, err)
		}
	}
	return nil
}

func noCAAttribute(c *x509.Certificate) error {
	return fmt.Errorf("CA Certificate did not have the CA attribute, (SN: %x)", c.SerialNumber)
}

func (m *MSP) setUpSigner(conf *mspproto.FabricMSPConfig) error {
	info := conf.SigningIdentity
	if info == nil {
		return nil
	}
	c, err := parsePEM(info.PublicSigner)
	if err != nil {
		return err
	}
	id, err := m.newIdentity(c)
	if err != nil {
		return err
	}
	key, err := m.signerKey(id, info.GetPrivateSigner().GetKeyMaterial())
	if err != nil {
		return err
	}
	m.signer = &signingIdentity{identity: id, key: key}
	if now, end := m.now(), id.ExpiresAt(); !end.After(now) {
		return fmt.Errorf("signing identity expired %v ago", now.Sub(end))
	}
	return nil
}

func (m *MSP) signerKey(id *identity, material []byte) (crypto.Signer, error) {
	if m.keys != nil {
		ski, err := csp.SKI(id.cert.PublicKey)
		if err == nil {
			key, err := m.keys.Signer(ski)
			if err == nil {
				return key, nil
			}
			m.log.Debugf("could not find the private key of the signing identity: %s", err)
		}
	}
	if len(material) == 0 {
		return nil, errors.New("KeyMaterial not found in SigningIdentityInfo")
	}
	block, _ := pem.Decode(material)
	if block == nil {
		return nil, errors.New("getIdentityFromBytes error: Failed to import EC private key: could not decode the PEM structure")
	}
	key, err := csp.ParsePrivateKeyDER(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("getIdentityFromBytes error: Failed to import EC private key: %w", err)
	}
	if _, ok := key.(*ecdsa.PrivateKey); !ok {
		return nil, errors.New("getIdentityFromBytes error: Failed to import EC private key: Failed casting to ECDSA private key. Invalid raw material.")
	}
	return key, nil
}

// setUpTLS checks the TLS CAs at the present time, unlike every other chain.
func (m *MSP) setUpTLS(conf *mspproto.FabricMSPConfig) error {
	roots, err := parseAll(conf.TlsRootCerts)
	if err != nil {
		return err
	}
	intermediates, err := parseAll(conf.TlsIntermediateCerts)
	if err != nil {
		return err
	}
	opts := verifyOptions(roots, intermediates)
	opts.CurrentTime = m.now()
	for _, group := range [][]*x509.Certificate{roots, intermediates} {
		for _, c := range group {
			if err := m.checkCA(c, opts); err != nil {
				return err
			}
		}
	}
	m.tlsRoots, m.tlsIntermediates = conf.TlsRootCerts, conf.TlsIntermediateCerts
	return nil
}

func (m *MSP) setUpOUs(conf *mspproto.FabricMSPConfig) error {
	m.ouIDs = make(map[string][][]byte)
	for _, ou := range conf.OrganizationalUnitIdentifiers {
		id, err := m.certifiersID(ou.Certificate)
		if err != nil {
			return fmt.Errorf("failed getting certificate for [%s]: %w", protoutil.Text(ou), err)
		}
		m.ouIDs[ou.OrganizationalUnitIdentifier] = append(m.ouIDs[ou.OrganizationalUnitIdentifier], id)
	}
	return nil
}

// certifiersID is the certifiers identifier that a certificate in an OU definition stands for: the digest
// of the chain from that certificate up (IDENTITY-CONFIG §3.3, last line).
func (m *MSP) certifiersID(raw []byte) ([]byte, error) {
	c, err := parsePEM(raw)
	if err != nil {
		return nil, err
	}
	if c, _, err = m.sanitize(c); err != nil {
		return nil, err
	}
	same := func(o *x509.Certificate) bool { return bytes.Equal(o.Raw, c.Raw) }
	if !containsFunc(m.roots, same) && !containsFunc(m.intermediates, same) {
		return nil, fmt.Errorf("Failed adding OU. Certificate [%s] not in root or intermediate certs.", raw)
	}
	chain, err := uniqueChain(c, atIssue(m.pools, c))
	if err != nil {
		return nil, err
	}
	if m.innerCAs[string(c.Raw)] {
		return nil, innerCAError(c)
	}
	return m.chainDigest(chain), nil
}

func containsFunc(certs []*x509.Certificate, f func(*x509.Certificate) bool) bool {
	for _, c := range certs {
		if f(c) {
			return true
		}
	}
	return false
}

func (m *MSP) setUpNodeOUs(conf *mspproto.FabricMSPConfig) error {
	n := conf.FabricNodeOus
	if n == nil {
		return nil
	}
	old := m.version < msp.V1_4_3
	if old && n.ClientOuIdentifier == nil {
		return errors.New("Failed setting up NodeOUs. ClientOU must be different from nil.")
	}
	if old && n.PeerOuIdentifier == nil {
		return errors.New("Failed setting up NodeOUs. PeerOU must be different from nil.")
	}
	defs := map[mspproto.MSPRole_MSPRoleType]*mspproto.FabricOUIdentifier{
		mspproto.MSPRole_CLIENT: n.ClientOuIdentifier,
		mspproto.MSPRole_PEER:   n.PeerOuIdentifier,
	}
	if !old {
		defs[mspproto.MSPRole_ADMIN] = n.AdminOuIdentifier
		defs[mspproto.MSPRole_ORDERER] = n.OrdererOuIdentifier
	}
	for _, role := range nodeRoles {
		def := defs[role]
		if def == nil {
			continue
		}
		ou := &nodeOU{name: def.OrganizationalUnitIdentifier}
		if len(def.Certificate) != 0 {
			id, err := m.certifiersID(def.Certificate)
			if err != nil {
				return err
			}
			ou.certifiersID = id
		}
		m.nodeOUs.byRole[role] = ou
		m.nodeOUs.on = n.Enable
	}
	return nil
}

func (m *MSP) requireAdmins(*mspproto.FabricMSPConfig) error {
	adminOU := m.nodeOUs.on && m.nodeOUs.byRole[mspproto.MSPRole_ADMIN] != nil
	if len(m.admins) == 0 && !adminOU {
		return errors.New("administrators must be declared when no admin ou classification is set")
	}
	return nil
}

// checkAdmins is the last step: the listed administrators must be identities the MSP accepts.
func (m *MSP) checkAdmins(*mspproto.FabricMSPConfig) error {
	for i, admin := range m.admins {
		if !m.nodeOUs.on {
			if err := admin.Validate(); err != nil {
				return fmt.Errorf("admin %d is invalid: %w", i, err)
			}
			continue
		}
		if m.version < msp.V1_4_3 {
			if err := admin.satisfiesNodeRole(mspproto.MSPRole_CLIENT); err != nil {
				return fmt.Errorf("admin %d is invalid: %w", i, err)
			}
			continue
		}
		asClient := m.hasNodeOU(admin, mspproto.MSPRole_CLIENT)
		if asClient == nil {
			continue
		}
		if asAdmin := m.hasNodeOU(admin, mspproto.MSPRole_ADMIN); asAdmin != nil {
			return fmt.Errorf("admin %d is invalid [%w,%w]", i, asClient, asAdmin)
		}
	}
	return nil
}

// atIssue is the instant at which a chain is judged: one second into the life of its first certificate, so
// that expiry never matters (IDENTITY-CONFIG §2.4).
func atIssue(opts x509.VerifyOptions, c *x509.Certificate) x509.VerifyOptions {
	opts.CurrentTime = c.NotBefore.Add(time.Second)
	return opts
}
