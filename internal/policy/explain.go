package policy

import (
	"fmt"
	"strings"

	mspproto "github.com/hyperledger/fabric-protos-go-apiv2/msp"
	"go.uber.org/zap/zapcore"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/msp"
)

// maxExplained bounds how many principals and signatures an explanation lists.
const maxExplained = 32

// explain logs why a set of signatures did not satisfy a policy: what was wanted, who came, and who was
// dropped for which reason. Nothing is built unless the level is on.
func explain(p *signaturePolicy, set []SignedData) {
	if !explains(p.log) {
		return
	}
	name := "policy"
	if p.path != "" {
		name = "policy " + p.path
	}
	p.log.Debugf("signature set did not satisfy %s: %s", name, explanation(p, set))
}

// explains tells whether a logger writes at DEBUG. The first question is cheap, but answered with yes as soon
// as any logger of the process does.
func explains(log *flog.Logger) bool {
	return log.IsEnabledFor(zapcore.DebugLevel) && log.Zap().Check(zapcore.DebugLevel, "") != nil
}

func explanation(p *signaturePolicy, set []SignedData) string {
	var b strings.Builder
	fmt.Fprintf(&b, "wanted %s; %d signatures came", describeGate(p, &p.root, maxExplained), len(set))
	seen := make(map[msp.Identifier]int)
	for i := range set {
		if i == maxExplained {
			fmt.Fprintf(&b, "; and %d more", len(set)-i)
			break
		}
		fmt.Fprintf(&b, "; #%d ", i)
		id, err := p.d.DeserializeIdentity(set[i].Identity)
		if err != nil {
			fmt.Fprintf(&b, "dropped: its identity cannot be read: %s", err)
			continue
		}
		name := id.Identifier()
		fmt.Fprintf(&b, "%s/%.16s ", name.MSPID, name.ID)
		if first, again := seen[name]; again {
			fmt.Fprintf(&b, "dropped: same identity as #%d", first)
			continue
		}
		seen[name] = i
		if err := id.Verify(set[i].Data, set[i].Signature); err != nil {
			fmt.Fprintf(&b, "dropped: %s", err)
			continue
		}
		describeFit(&b, p, id)
	}
	return b.String()
}

func describeFit(b *strings.Builder, p *signaturePolicy, id msp.Identity) {
	b.WriteString("has a good signature; it")
	for i, want := range p.principals {
		if i == maxExplained {
			b.WriteString(", …")
			return
		}
		if i > 0 {
			b.WriteString(",")
		}
		if err := id.SatisfiesPrincipal(want); err != nil {
			fmt.Fprintf(b, " is not %s (%s)", describePrincipal(want), err)
		} else {
			fmt.Fprintf(b, " is %s", describePrincipal(want))
		}
	}
}

// describeGate writes a rule in the policy language, as far as the language goes.
func describeGate(p *signaturePolicy, g *gate, budget int) string {
	if g.leaf {
		return "'" + describePrincipal(p.principals[g.principal]) + "'"
	}
	parts := []string{fmt.Sprint(g.n)}
	for i := range g.rules {
		if budget <= len(g.rules) || i == maxExplained {
			parts = append(parts, "…")
			break
		}
		parts = append(parts, describeGate(p, &g.rules[i], budget/len(g.rules)))
	}
	return "OutOf(" + strings.Join(parts, ", ") + ")"
}

func describePrincipal(p *mspproto.MSPPrincipal) string {
	switch p.GetPrincipalClassification() {
	case mspproto.MSPPrincipal_ROLE:
		r := &mspproto.MSPRole{}
		if proto.Unmarshal(p.GetPrincipal(), r) == nil {
			return r.MspIdentifier + "." + strings.ToLower(r.Role.String())
		}
	case mspproto.MSPPrincipal_ORGANIZATION_UNIT:
		o := &mspproto.OrganizationUnit{}
		if proto.Unmarshal(p.GetPrincipal(), o) == nil {
			return fmt.Sprintf("%s.OU=%s", o.MspIdentifier, o.OrganizationalUnitIdentifier)
		}
	}
	return fmt.Sprintf("%s:%.40x", p.GetPrincipalClassification(), p.GetPrincipal())
}
