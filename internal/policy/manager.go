package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/msp"
)

// Manager holds the policies of a group of a channel configuration and of all groups below
// (IDENTITY-CONFIG §4.4).
type Manager struct {
	path string // without leading slash: "Channel/Application"
	subs map[string]*Manager
	// policies are by relative path: "Admins", "Org1/Admins".
	policies map[string]rule
}

// NewManager compiles all policies of a group and of those below. path is where the group stands:
// "Channel" for the root.
func NewManager(path string, root *common.ConfigGroup, d msp.Deserializer, log *flog.Logger) (*Manager, error) {
	if log == nil {
		log = flog.Nop()
	}
	m := &Manager{path: path, subs: make(map[string]*Manager), policies: make(map[string]rule)}
	for _, name := range slices.Sorted(maps.Keys(root.GetGroups())) {
		sub, err := NewManager(path+"/"+name, root.Groups[name], d, log)
		if err != nil {
			return nil, err
		}
		m.subs[name] = sub
		for below, p := range sub.policies {
			m.policies[name+"/"+below] = p
		}
	}
	own := make(map[string]rule, len(root.GetPolicies()))
	for _, name := range slices.Sorted(maps.Keys(root.GetPolicies())) {
		p, err := m.compile(name, root.Policies[name].GetPolicy(), d, log)
		if err != nil {
			return nil, err
		}
		own[name] = p
	}
	maps.Copy(m.policies, own)
	m.warn(log)
	return m, nil
}

func (m *Manager) absolute(name string) string { return "/" + m.path + "/" + name }

func (m *Manager) compile(name string, p *common.Policy, d msp.Deserializer, log *flog.Logger) (rule, error) {
	if p == nil {
		return nil, fmt.Errorf("policy %s at path %s was nil", name, m.path)
	}
	switch common.Policy_PolicyType(p.Type) {
	case common.Policy_SIGNATURE:
		env := &common.SignaturePolicyEnvelope{}
		if err := proto.Unmarshal(p.Value, env); err != nil {
			return nil, fmt.Errorf("policy %s at path %s did not compile: Error unmarshaling to SignaturePolicy: %w", name, m.path, err)
		}
		s, err := newSignaturePolicy(m.absolute(name), env, d, log)
		if err != nil {
			return nil, fmt.Errorf("policy %s at path %s did not compile: %w", name, m.path, err)
		}
		return s, nil
	case common.Policy_IMPLICIT_META:
		i, err := newImplicitMeta(m.absolute(name), p.Value, m.subs, d, log)
		if err != nil {
			return nil, fmt.Errorf("implicit policy %s at path %s did not compile: %w", name, m.path, err)
		}
		return i, nil
	default:
		return nil, fmt.Errorf("policy %s at path %s has unknown policy type: %d", name, m.path, p.Type)
	}
}

// warn tells of standard policies that are missing.
func (m *Manager) warn(log *flog.Logger) {
	var names []string
	switch m.path {
	case "Channel":
		names = []string{"Readers", "Writers", "Admins"}
		if m.subs["Application"] != nil {
			names = append(names, "Application/Readers", "Application/Writers", "Application/Admins")
		}
		if m.subs["Orderer"] != nil {
			names = append(names, "Orderer/BlockValidation", "Orderer/Admins", "Orderer/Writers", "Orderer/Readers")
		}
	}
	for _, name := range names {
		if m.policies[name] == nil {
			log.Warningf("Current configuration has no policy '/%s/%s', this will likely cause problems in production systems", m.path, name)
		}
	}
}

// Policy returns the named policy. A missing one is a policy that always fails, and false.
func (m *Manager) Policy(name string) (Policy, bool) {
	if m == nil || name == "" {
		return missing(name), false
	}
	relative := name
	if name[0] == '/' {
		rest, ok := strings.CutPrefix(name[1:], m.path)
		if !ok || rest == "" {
			return missing(name), false
		}
		relative = rest[1:] // whatever follows the path, normally a slash
	}
	if p, ok := m.policies[relative]; ok {
		return p, true
	}
	return missing(relative), false
}

// Sub returns the manager of a group below; nil and false if there is none.
func (m *Manager) Sub(path ...string) (*Manager, bool) {
	for _, name := range path {
		if m == nil {
			return nil, false
		}
		m = m.subs[name]
	}
	return m, m != nil
}

// missing is the policy that nobody satisfies because it does not exist.
type missing string

func (n missing) Evaluate([]SignedData) error  { return fmt.Errorf("No such policy: '%s'", string(n)) }
func (n missing) satisfied(c *candidates) bool { return false }
