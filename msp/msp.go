// Package msp holds what the rest of the node knows of identities: the interfaces, the MSPs of one
// channel (Manager) and the caches in front of them. It does not know any kind of identity itself;
// those live in its sub-folders (x509msp).
//
// State owned: bounded caches, see Manager and SignatureCache. It starts no goroutine and everything
// in it is safe for concurrent use. Any package above layer 1 may import it.
package msp

import (
	"time"

	mspproto "github.com/hyperledger/fabric-protos-go-apiv2/msp"
)

// Version is the behaviour level of an MSP, chosen by the channel capability (IDENTITY-CONFIG §2.5).
type Version int

// The known levels. The local MSP is always V1_4_3.
const (
	V1_0 Version = iota
	V1_1
	V1_3
	V1_4_3
)

// Kinds of MSP, as in MSPConfig.type.
const (
	TypeX509   int32 = 0
	TypeIdemix int32 = 1
)

// Identifier names an identity: two identities are the same when their identifiers are equal (IDENTITY-CONFIG §2.1).
type Identifier struct {
	MSPID string
	// ID is the lower-case hex digest of the (sanitised) certificate.
	ID string
}

// Identity is somebody whose signatures can be judged.
type Identity interface {
	Identifier() Identifier
	MSPID() string
	// Serialize returns the marshalled SerializedIdentity. The caller must not change it.
	Serialize() []byte
	// Validate checks the identity against its MSP (IDENTITY-CONFIG §2.4); expiry does not matter.
	Validate() error
	// Verify checks a signature over msg (IDENTITY-CONFIG §1.3). It does not validate the identity.
	Verify(msg, sig []byte) error
	// SatisfiesPrincipal tells whether the identity is what p describes (IDENTITY-CONFIG §2.6).
	SatisfiesPrincipal(p *mspproto.MSPPrincipal) error
	// ExpiresAt is the end of validity; zero means never.
	ExpiresAt() time.Time
}

// SigningIdentity is an identity whose private key this node has.
type SigningIdentity interface {
	Identity
	Sign(msg []byte) ([]byte, error)
}

// Deserializer turns identity bytes into identities.
type Deserializer interface {
	// DeserializeIdentity parses a marshalled SerializedIdentity (IDENTITY-CONFIG §2.1). It keeps no reference to b.
	DeserializeIdentity(b []byte) (Identity, error)
	// IsWellFormed is the stricter form check of gossip and channel-level identity checks (IDENTITY-CONFIG §2.3).
	IsWellFormed(b []byte) error
}

// MSP judges the identities of one membership service provider.
type MSP interface {
	Deserializer
	ID() string
	// Type is TypeX509 or TypeIdemix.
	Type() int32
	Version() Version
	// TLSRootCerts are the PEM (as configured) of the TLS root CAs.
	TLSRootCerts() [][]byte
	TLSIntermediateCerts() [][]byte
}
