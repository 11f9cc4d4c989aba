package policy

import (
	"errors"
	"fmt"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	mspproto "github.com/hyperledger/fabric-protos-go-apiv2/msp"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/msp"
)

// ErrNotSatisfied is the failure of a signature policy. Why is in the log, at level DEBUG.
var ErrNotSatisfied = errors.New("signature set did not satisfy policy")

// signaturePolicy is a compiled signature policy.
type signaturePolicy struct {
	path       string // in a channel's configuration, for the log
	root       gate
	principals []*mspproto.MSPPrincipal
	d          msp.Deserializer
	log        *flog.Logger
}

// gate is a rule: n of its rules, or, when leaf, one signature of the principal.
type gate struct {
	leaf      bool
	principal int32
	n         int32
	rules     []gate
}

// NewSignaturePolicy compiles a signature policy (IDENTITY-CONFIG §4.2).
func NewSignaturePolicy(env *common.SignaturePolicyEnvelope, d msp.Deserializer, log *flog.Logger) (Policy, error) {
	p, err := newSignaturePolicy("", env, d, log)
	if err != nil {
		return nil, err
	}
	return p, nil
}

func newSignaturePolicy(path string, env *common.SignaturePolicyEnvelope, d msp.Deserializer, log *flog.Logger) (*signaturePolicy, error) {
	if v := env.GetVersion(); v != 0 {
		return nil, fmt.Errorf("This evaluator only understands messages of version 0, but version was %d", v)
	}
	if log == nil {
		log = flog.Nop()
	}
	root, err := compile(env.GetRule(), len(env.GetIdentities()))
	if err != nil {
		return nil, err
	}
	return &signaturePolicy{path: path, root: root, principals: env.GetIdentities(), d: d, log: log}, nil
}

func compile(r *common.SignaturePolicy, principals int) (gate, error) {
	if r == nil {
		return gate{}, errors.New("Empty policy element")
	}
	switch t := r.Type.(type) {
	case *common.SignaturePolicy_SignedBy:
		if t.SignedBy < 0 || int(t.SignedBy) >= principals {
			return gate{}, fmt.Errorf("identity index out of range, requested %d, but identities length is %d", t.SignedBy, principals)
		}
		return gate{leaf: true, principal: t.SignedBy}, nil
	case *common.SignaturePolicy_NOutOf_:
		g := gate{n: t.NOutOf.GetN(), rules: make([]gate, len(t.NOutOf.GetRules()))}
		for i, sub := range t.NOutOf.GetRules() {
			var err error
			if g.rules[i], err = compile(sub, principals); err != nil {
				return gate{}, err
			}
		}
		return g, nil
	default:
		return gate{}, fmt.Errorf("Unknown type: %T:%v", t, t)
	}
}

// Evaluate implements Policy.
func (p *signaturePolicy) Evaluate(set []SignedData) error {
	var c candidates
	c.fill(set, p.d)
	if p.satisfied(&c) {
		return nil
	}
	explain(p, set)
	return ErrNotSatisfied
}

func (p *signaturePolicy) satisfied(c *candidates) bool {
	ok := p.open(&p.root, c)
	c.release(0)
	return ok
}

// open tells whether a gate opens, and leaves the signatures that opened it in use. When it does not open,
// the caller releases what was used on the way. Assignment is greedy and every rule of a gate is tried even
// when enough have held (IDENTITY-CONFIG §4.2, 2. and 3.). Work is bounded by rules × candidates.
func (p *signaturePolicy) open(g *gate, c *candidates) bool {
	if g.leaf {
		return p.take(g.principal, c)
	}
	held := int32(0)
	for i := range g.rules {
		mark := len(c.trail)
		if p.open(&g.rules[i], c) {
			held++
		} else {
			c.release(mark)
		}
	}
	return held >= g.n
}

// take uses the first free candidate that is the principal and whose signature verifies.
func (p *signaturePolicy) take(principal int32, c *candidates) bool {
	for i := range c.list {
		s := &c.list[i]
		if s.used || s.verdict == bad {
			continue
		}
		if s.identity.SatisfiesPrincipal(p.principals[principal]) != nil || !s.verifies() {
			continue
		}
		c.use(i)
		return true
	}
	return false
}
