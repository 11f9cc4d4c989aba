// Package x509msp judges X.509 identities (IDENTITY-CONFIG §2, §3).
package x509msp

import (
	"errors"
	"time"

	mspproto "github.com/hyperledger/fabric-protos-go-apiv2/msp"

	"github.com/heddle-ledger/heddle/internal/csp"
	"github.com/heddle-ledger/heddle/msp"
)

// MSP is a verifying X.509 MSP; it implements msp.MSP.
type MSP struct{}

// Option changes how New sets up an MSP.
type Option func(*MSP)

// New sets up a verifying MSP.
func New(conf *mspproto.MSPConfig, version msp.Version, opts ...Option) (*MSP, error) {
	return nil, errors.New("not ready")
}

func (m *MSP) ID() string                     { return "" }
func (m *MSP) Type() int32                    { return msp.TypeX509 }
func (m *MSP) Version() msp.Version           { return msp.V1_4_3 }
func (m *MSP) TLSRootCerts() [][]byte         { return nil }
func (m *MSP) TLSIntermediateCerts() [][]byte { return nil }
func (m *MSP) DeserializeIdentity(b []byte) (msp.Identity, error) {
	return nil, errors.New("not ready")
}
func (m *MSP) IsWellFormed(b []byte) error { return errors.New("not ready") }

// LoadConfig reads an MSP directory into a verifying MSPConfig (IDENTITY-CONFIG §3.1, §3.2).
func LoadConfig(dir, mspID string) (*mspproto.MSPConfig, error) {
	return nil, errors.New("not ready")
}

// LocalConfig says where the local MSP is.
type LocalConfig struct {
	Dir   string
	MSPID string
	BCCSP csp.Config
}

// Local is the MSP of this node; it implements msp.MSP.
type Local struct{ *MSP }

// LoadLocal reads and sets up the local MSP (IDENTITY-CONFIG §3.4).
func LoadLocal(cfg LocalConfig, opts ...Option) (*Local, error) { return nil, errors.New("not ready") }

// SigningIdentity is the identity this node signs with.
func (l *Local) SigningIdentity() msp.SigningIdentity { return nil }

// ExpiresAtOf is the end of validity of raw creator bytes; zero means "does not expire" (IDENTITY-CONFIG §2.7).
func ExpiresAtOf(serialized []byte) time.Time { return time.Time{} }
