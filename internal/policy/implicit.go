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

// implicitMeta asks a policy of each child group (IDENTITY-CONFIG §4.3).
type implicitMeta struct {
	path      string // of the policy, for the log
	subPolicy string
	children  []string // names of the groups asked
	subs      []rule   // their policies, in the same order
	threshold int
	// exact is for rule numbers that do not exist: they are satisfied when no child is.
	exact bool
	d     msp.Deserializer
	log   *flog.Logger
}

func newImplicitMeta(path string, raw []byte, children map[string]*Manager, d msp.Deserializer, log *flog.Logger) (*implicitMeta, error) {
	conf := &common.ImplicitMetaPolicy{}
	if err := proto.Unmarshal(raw, conf); err != nil {
		return nil, fmt.Errorf("Error unmarshaling to ImplicitMetaPolicy: %w", err)
	}
	p := &implicitMeta{path: path, subPolicy: conf.SubPolicy, d: d, log: log}
	for _, name := range slices.Sorted(maps.Keys(children)) {
		sub, _ := children[name].Policy(conf.SubPolicy)
		p.children, p.subs = append(p.children, name), append(p.subs, sub.(rule))
	}
	switch conf.Rule {
	case common.ImplicitMetaPolicy_ANY:
		p.threshold = 1
	case common.ImplicitMetaPolicy_ALL:
		p.threshold = len(p.subs)
	case common.ImplicitMetaPolicy_MAJORITY:
		p.threshold = len(p.subs)/2 + 1
	default:
		p.exact = true
	}
	if len(p.subs) == 0 {
		p.threshold = 0
	}
	return p, nil
}

// Evaluate implements Policy.
func (p *implicitMeta) Evaluate(set []SignedData) error {
	var c candidates
	c.fill(set, p.d)
	held, ok := p.count(&c)
	if ok {
		return nil
	}
	if explains(p.log) {
		p.explain(&c, set)
	}
	return fmt.Errorf("implicit policy evaluation failed - %d sub-policies were satisfied, "+
		"but this policy requires %d of the '%s' sub-policies to be satisfied", held, p.threshold, p.subPolicy)
}

func (p *implicitMeta) satisfied(c *candidates) bool {
	_, ok := p.count(c)
	return ok
}

// count stops as soon as enough children hold; signatures are offered to each child anew.
func (p *implicitMeta) count(c *candidates) (held int, ok bool) {
	for _, sub := range p.subs {
		if held >= p.threshold && !p.exact {
			return held, true
		}
		if sub.satisfied(c) {
			held++
		}
	}
	if p.exact {
		return held, held == 0
	}
	return held, held >= p.threshold
}

// explain logs which children held, and why the others did not.
func (p *implicitMeta) explain(c *candidates, set []SignedData) {
	for i, sub := range p.subs {
		asked := p.children[i] + "/" + p.subPolicy
		if sub.satisfied(c) {
			p.log.Debugf("policy %s: %s is satisfied", p.path, asked)
			continue
		}
		switch s := sub.(type) {
		case *signaturePolicy:
			explain(s, set)
		case *implicitMeta:
			s.explain(c, set)
		case missing:
			p.log.Debugf("policy %s: %s does not exist", p.path, asked)
			continue
		}
		p.log.Debugf("policy %s: %s is not satisfied", p.path, asked)
	}
}

// ImplicitMetaFromString compiles "<ANY|ALL|MAJORITY> <name>" (IDENTITY-CONFIG §4.5).
func ImplicitMetaFromString(rule string) (*common.ImplicitMetaPolicy, error) {
	parts := strings.Split(rule, " ")
	if len(parts) != 2 {
		return nil, fmt.Errorf("expected two space separated tokens, but got %d", len(parts))
	}
	p := &common.ImplicitMetaPolicy{SubPolicy: parts[1]}
	switch parts[0] {
	case "ANY":
		p.Rule = common.ImplicitMetaPolicy_ANY
	case "ALL":
		p.Rule = common.ImplicitMetaPolicy_ALL
	case "MAJORITY":
		p.Rule = common.ImplicitMetaPolicy_MAJORITY
	default:
		return nil, fmt.Errorf("unknown rule type '%s', expected ALL, ANY, or MAJORITY", parts[0])
	}
	return p, nil
}
