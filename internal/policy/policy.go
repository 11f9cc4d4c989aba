// Package policy evaluates policies over signature sets (IDENTITY-CONFIG §4).
package policy

import (
	"errors"
	"strings"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/msp"
)

// SignedData is one signature with what it was made over and by whom.
type SignedData struct{ Data, Identity, Signature []byte }

// Policy judges a set of signatures.
type Policy interface {
	Evaluate(set []SignedData) error
}

// NewSignaturePolicy compiles a signature policy (IDENTITY-CONFIG §4.2).
func NewSignaturePolicy(env *common.SignaturePolicyEnvelope, d msp.Deserializer, log *flog.Logger) (Policy, error) {
	return nil, errors.New("not ready")
}

// FromString compiles an expression of the policy language (IDENTITY-CONFIG §4.5).
func FromString(expr string) (*common.SignaturePolicyEnvelope, error) {
	return nil, errors.New("not ready")
}

// ImplicitMetaFromString compiles "<ANY|ALL|MAJORITY> <name>".
func ImplicitMetaFromString(rule string) (*common.ImplicitMetaPolicy, error) {
	return nil, errors.New("not ready")
}

// Manager is the tree of policies of a channel (IDENTITY-CONFIG §4.4).
type Manager struct{ path string }

// NewManager compiles all policies of a config tree.
func NewManager(path string, root *common.ConfigGroup, d msp.Deserializer, log *flog.Logger) (*Manager, error) {
	return &Manager{path: path}, nil
}

// Policy returns the named policy; a missing one is a policy that always fails, and false.
func (m *Manager) Policy(name string) (Policy, bool) { return missing(name), false }

// Sub returns the manager of a group below.
func (m *Manager) Sub(path ...string) (*Manager, bool) {
	return &Manager{path: m.path + "/" + strings.Join(path, "/")}, false
}

type missing string

func (n missing) Evaluate([]SignedData) error {
	return errors.New("No such policy: '" + string(n) + "'")
}

// EnvelopeSignedData is the signed data of an envelope.
func EnvelopeSignedData(env *common.Envelope) ([]SignedData, error) {
	return nil, errors.New("not ready")
}
