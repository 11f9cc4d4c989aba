package packaging

import (
	"errors"
	"hash"

	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
)

// Kind tells the two forms of a package apart.
type Kind int

// The kinds of package.
const (
	KindCDS Kind = iota + 1
	KindSignedCDS
)

// Package is an installed or installable chaincode package; immutable.
type Package struct {
	raw []byte
}

// Parse decodes a package of either form (CHAINCODE §6.4).
func Parse(raw []byte) (*Package, error) { return ParseWith(raw, nil) }

// ParseWith is Parse with the hash family of the BCCSP; nil means SHA-256.
func ParseWith(raw []byte, newHash func() hash.Hash) (*Package, error) {
	return nil, errors.New("being written")
}

func (p *Package) Raw() []byte                         { return p.raw }
func (p *Package) Kind() Kind                          { return 0 }
func (p *Package) Name() string                        { return "" }
func (p *Package) Version() string                     { return "" }
func (p *Package) Path() string                        { return "" }
func (p *Package) Type() peer.ChaincodeSpec_Type       { return 0 }
func (p *Package) Spec() *peer.ChaincodeDeploymentSpec { return nil } // shared, read only
func (p *Package) SpecBytes() []byte                   { return nil } // the (inner) CDS bytes
func (p *Package) CodePackage() []byte                 { return nil }
func (p *Package) ID() []byte                          { return nil }
func (p *Package) Data() []byte                        { return nil } // ChaincodeData.data
func (p *Package) InstantiationPolicy() []byte         { return nil } // nil for a CDS
