package packaging

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"unicode"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// ErrNotAPackage is the answer to bytes that are neither form of a package.
var ErrNotAPackage = errors.New("could not unmarshal chaincode package to CDS or SignedCDS")

// Kind tells the two forms of a package apart.
type Kind int

// The kinds of package.
const (
	KindCDS       Kind = iota + 1 // a bare ChaincodeDeploymentSpec
	KindSignedCDS                 // an Envelope around a SignedChaincodeDeploymentSpec
)

// Package is an installed or installable chaincode package; immutable.
type Package struct {
	raw       []byte
	kind      Kind
	spec      *peer.ChaincodeDeploymentSpec
	specBytes []byte
	signed    *peer.SignedChaincodeDeploymentSpec // nil for a CDS
	data, id  []byte
}

// Parse decodes a package of either form and computes its hashes with SHA-256
// (CHAINCODE §6.4). raw is kept and must not change.
func Parse(raw []byte) (*Package, error) { return ParseWith(raw, sha256.New) }

// ParseWith is Parse with the hash family of the BCCSP; nil means SHA-256.
func ParseWith(raw []byte, newHash func() hash.Hash) (*Package, error) {
	if newHash == nil {
		newHash = sha256.New
	}
	// Bytes may decode as both forms; then the envelope is meant. It is the
	// printable name that keeps an envelope from passing as a CDS.
	if scds, err := openEnvelope(raw); err == nil && scds.InstantiationPolicy != nil {
		if spec, err := parseSpec(scds.ChaincodeDeploymentSpec); err == nil {
			p := &Package{raw: raw, kind: KindSignedCDS, spec: spec, specBytes: scds.ChaincodeDeploymentSpec, signed: scds}
			p.fingerprint(newHash)
			return p, nil
		}
	}
	spec, err := parseSpec(raw)
	if err != nil {
		return nil, ErrNotAPackage
	}
	p := &Package{raw: raw, kind: KindCDS, spec: spec, specBytes: raw}
	p.fingerprint(newHash)
	return p, nil
}

// Raw returns the bytes the package was parsed from, as they are installed.
func (p *Package) Raw() []byte { return p.raw }

// Kind returns the form of the package.
func (p *Package) Kind() Kind { return p.kind }

// Name returns the chaincode's name.
func (p *Package) Name() string { return p.spec.ChaincodeSpec.ChaincodeId.Name }

// Version returns the chaincode's version.
func (p *Package) Version() string { return p.spec.ChaincodeSpec.ChaincodeId.Version }

// Path returns the path recorded by whoever packaged.
func (p *Package) Path() string { return p.spec.ChaincodeSpec.ChaincodeId.Path }

// Type returns the chaincode's language.
func (p *Package) Type() peer.ChaincodeSpec_Type { return p.spec.ChaincodeSpec.Type }

// Spec returns the decoded deployment spec; shared, so it must not be changed.
func (p *Package) Spec() *peer.ChaincodeDeploymentSpec { return p.spec }

// SpecBytes returns the deployment spec as packaged; the inner one of a signed
// package.
func (p *Package) SpecBytes() []byte { return p.specBytes }

// CodePackage returns the compressed archive of the code.
func (p *Package) CodePackage() []byte { return p.spec.CodePackage }

// ID returns the fingerprint of the package.
func (p *Package) ID() []byte { return p.id }

// Data returns the hashes as recorded in ChaincodeData.Data.
func (p *Package) Data() []byte { return p.data }

// InstantiationPolicy returns the policy bytes of a signed package and nil for
// a CDS.
func (p *Package) InstantiationPolicy() []byte { return p.signed.GetInstantiationPolicy() }

// Owners returns the owner endorsements of a signed package, unverified: the
// peer never verifies them (CHAINCODE §6.3).
func (p *Package) Owners() []*peer.Endorsement { return p.signed.GetOwnerEndorsements() }

// CheckAgainst compares the package with the ledger's record of the chaincode
// (CHAINCODE §7.1, the cause of "chaincode fingerprint mismatch").
func (p *Package) CheckAgainst(d *ChaincodeData) error {
	if d.Name != p.Name() || d.Version != p.Version() {
		return fmt.Errorf("invalid chaincode data %s:%s", d.Name, d.Version)
	}
	if string(d.Data) != string(p.data) {
		return errors.New("data mismatch")
	}
	return nil
}

func (p *Package) fingerprint(newHash func() hash.Hash) {
	sum := func(parts ...[]byte) []byte {
		h := newHash()
		for _, part := range parts {
			h.Write(part)
		}
		return h.Sum(nil)
	}
	code := sum(p.spec.CodePackage)
	meta := sum([]byte(p.Name()), []byte(p.Version()))
	p.data = appendBytes(appendBytes(nil, 1, code), 2, meta)
	if p.signed == nil {
		p.id = sum(code, meta)
		return
	}
	parts := [][]byte{p.signed.InstantiationPolicy}
	for _, e := range p.signed.OwnerEndorsements {
		parts = append(parts, e.GetEndorser())
	}
	sig := sum(parts...)
	p.data = appendBytes(p.data, 3, sig)
	p.id = sum(code, meta, sig)
}

func parseSpec(raw []byte) (*peer.ChaincodeDeploymentSpec, error) {
	spec := &peer.ChaincodeDeploymentSpec{}
	if err := proto.Unmarshal(raw, spec); err != nil {
		return nil, fmt.Errorf("decode deployment spec: %w", err)
	}
	id := spec.GetChaincodeSpec().GetChaincodeId()
	if id == nil {
		return nil, errors.New("deployment spec without chaincode id")
	}
	for _, r := range id.Name {
		if !unicode.IsPrint(r) {
			return nil, fmt.Errorf("chaincode name %q is not printable", id.Name)
		}
	}
	return spec, nil
}

func openEnvelope(raw []byte) (*peer.SignedChaincodeDeploymentSpec, error) {
	env, payload := &common.Envelope{}, &common.Payload{}
	if err := proto.Unmarshal(raw, env); err != nil {
		return nil, fmt.Errorf("decode envelope: %w", err)
	}
	if err := proto.Unmarshal(env.Payload, payload); err != nil {
		return nil, fmt.Errorf("decode payload: %w", err)
	}
	header, scds := &common.ChannelHeader{}, &peer.SignedChaincodeDeploymentSpec{}
	if err := proto.Unmarshal(payload.GetHeader().GetChannelHeader(), header); err != nil {
		return nil, fmt.Errorf("decode channel header: %w", err)
	}
	if header.Type != int32(common.HeaderType_CHAINCODE_PACKAGE) {
		return nil, fmt.Errorf("envelope of type %d is no chaincode package", header.Type)
	}
	if err := proto.Unmarshal(payload.Data, scds); err != nil {
		return nil, fmt.Errorf("decode signed deployment spec: %w", err)
	}
	return scds, nil
}

func appendBytes(b []byte, field protowire.Number, v []byte) []byte {
	if len(v) == 0 {
		return b
	}
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), v)
}
