// Package x509msp judges X.509 identities as one membership service provider of the reference does
// (IDENTITY-CONFIG §2, §3): set-up checks, sanitising, certificate chains, revocation, organizational
// units and principals, each by MSP version; and it loads MSP directories.
//
// An MSP is immutable once New has returned, keeps nothing but its configuration, starts no goroutine and
// is safe for concurrent use. Remembering results is the work of package msp (Manager, CachedDeserializer).
// Channel configuration, the node's composition and the command line tools import it.
package x509msp

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	mspproto "github.com/hyperledger/fabric-protos-go-apiv2/msp"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/csp"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/msp"
)

// MSP is a verifying X.509 MSP; it implements msp.MSP.
type MSP struct {
	name    string
	version msp.Version
	log     *flog.Logger
	now     func() time.Time
	keys    csp.Provider

	identityHash crypto.Hash
	digest       digestKind

	pools         x509.VerifyOptions // the CAs; without a time
	roots         []*x509.Certificate
	intermediates []*x509.Certificate
	// innerCAs holds the DER of every CA that has an intermediate below it.
	innerCAs map[string]bool
	crls     []*revocationList
	admins   []*identity
	// ouIDs are the organizational_unit_identifiers: certifier ids by name.
	ouIDs   map[string][][]byte
	nodeOUs nodeOUs
	signer  *signingIdentity

	tlsRoots, tlsIntermediates [][]byte
}

var _ msp.MSP = (*MSP)(nil)

// Option changes how New sets up an MSP.
type Option func(*MSP)

// WithLogger sets the logger; without it nothing is logged.
func WithLogger(log *flog.Logger) Option { return func(m *MSP) { m.log = log } }

// WithClock sets the clock against which the signing identity and TLS CAs are checked.
func WithClock(now func() time.Time) Option { return func(m *MSP) { m.now = now } }

// WithKeys sets where the private key of a signing identity is looked up.
func WithKeys(keys csp.Provider) Option { return func(m *MSP) { m.keys = keys } }

// ErrIdemix is the refusal of MSPs of type 1. A channel that contains one cannot be judged by this node,
// and treating it as valid would fork it from its peers (IDENTITY-CONFIG §3.5, docs/adr/0002-idemix.md).
var ErrIdemix = errors.New("Setup error: idemix MSPs (type 1) are not supported by this node, so it cannot serve a channel that has one")

// New sets up a verifying MSP: all checks of IDENTITY-CONFIG §3.3, in the order of the version.
func New(conf *mspproto.MSPConfig, version msp.Version, opts ...Option) (*MSP, error) {
	if conf == nil {
		return nil, errors.New("Setup error: nil conf reference")
	}
	switch conf.Type {
	case msp.TypeX509:
	case msp.TypeIdemix:
		return nil, ErrIdemix
	default:
		return nil, fmt.Errorf("Setup error: unsupported msp type %d", conf.Type)
	}
	fabric := &mspproto.FabricMSPConfig{}
	if err := proto.Unmarshal(conf.Config, fabric); err != nil {
		return nil, fmt.Errorf("failed unmarshalling fabric msp config: %w", err)
	}
	m := &MSP{name: fabric.Name, version: version, log: flog.Nop(), now: time.Now}
	for _, o := range opts {
		o(m)
	}
	if err := m.setUp(fabric); err != nil {
		return nil, err
	}
	return m, nil
}

// ID implements msp.MSP.
func (m *MSP) ID() string { return m.name }

// Type implements msp.MSP.
func (m *MSP) Type() int32 { return msp.TypeX509 }

// Version implements msp.MSP.
func (m *MSP) Version() msp.Version { return m.version }

// TLSRootCerts implements msp.MSP.
func (m *MSP) TLSRootCerts() [][]byte { return m.tlsRoots }

// TLSIntermediateCerts implements msp.MSP.
func (m *MSP) TLSIntermediateCerts() [][]byte { return m.tlsIntermediates }
