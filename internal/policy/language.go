package policy

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	mspproto "github.com/hyperledger/fabric-protos-go-apiv2/msp"
)

// The policy language (IDENTITY-CONFIG §4.5) is what an expression evaluator makes of its text in two
// readings. The first knows the functions And, Or and OutOf in their spellings and yields program text that
// knows only outof; a string that is no principal is put into that text as it stands. The second reading
// compiles. So "OutOf('2', …)" is the same as "OutOf(2, …)", and a misspelt principal is complained about
// as a word nobody defined.

// FromString compiles an expression of the policy language.
func FromString(expr string) (*common.SignaturePolicyEnvelope, error) {
	first := &evaluator{functions: map[string]function{
		"And": gateText(all), "AND": gateText(all), "and": gateText(all),
		"Or": gateText(anyOne), "OR": gateText(anyOne), "or": gateText(anyOne),
		"OutOf": outOfText, "OUTOF": outOfText, "outof": outOfText,
	}}
	v, err := first.run(expr)
	if err != nil {
		return nil, err
	}
	text, ok := v.(string)
	if !ok {
		return nil, fmt.Errorf("invalid policy string '%s'", expr)
	}
	c := &compiler{}
	second := &evaluator{functions: map[string]function{"outof": c.outOf}}
	if v, err = second.run(text); err != nil {
		return nil, err
	}
	root, ok := v.(*common.SignaturePolicy)
	if !ok {
		return nil, fmt.Errorf("invalid policy string '%s'", expr)
	}
	return &common.SignaturePolicyEnvelope{Rule: root, Identities: c.identities}, nil
}

// splitPrincipal takes a principal apart; ok is false for any other string.
func splitPrincipal(s string) (mspID string, role mspproto.MSPRole_MSPRoleType, ok bool) {
	dot := strings.LastIndexByte(s, '.')
	if dot <= 0 {
		return "", 0, false
	}
	switch s[dot+1:] {
	case "member":
		role = mspproto.MSPRole_MEMBER
	case "admin":
		role = mspproto.MSPRole_ADMIN
	case "client":
		role = mspproto.MSPRole_CLIENT
	case "peer":
		role = mspproto.MSPRole_PEER
	case "orderer":
		role = mspproto.MSPRole_ORDERER
	default:
		return "", 0, false
	}
	for _, c := range []byte(s[:dot]) {
		switch {
		case c >= '0' && c <= '9', c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z', c == '.', c == '-':
		default:
			return "", 0, false
		}
	}
	return s[:dot], role, true
}

func all(n int) int  { return n }
func anyOne(int) int { return 1 }

// gateText is the first reading of And and Or.
func gateText(threshold func(items int) int) function {
	return func(args []any) (any, error) {
		return itemsText("outof("+strconv.Itoa(threshold(len(args))), args)
	}
}

// outOfText is the first reading of OutOf.
func outOfText(args []any) (any, error) {
	if len(args) == 0 {
		return "outof()", nil
	}
	var n string
	switch t := args[0].(type) {
	case float64:
		n = strconv.Itoa(int(t))
	case string:
		n = t
	default:
		return nil, fmt.Errorf("Unexpected type %T", t)
	}
	return itemsText("outof("+n, args[1:])
}

func itemsText(head string, items []any) (any, error) {
	var b strings.Builder
	b.WriteString(head)
	for _, item := range items {
		s, ok := item.(string)
		if !ok {
			return nil, fmt.Errorf("Unexpected type %T", item)
		}
		b.WriteString(", ")
		if _, _, isPrincipal := splitPrincipal(s); isPrincipal {
			s = "'" + s + "'"
		}
		b.WriteString(s)
		if b.Len() > maxExpression {
			return nil, errTooLong
		}
	}
	b.WriteString(")")
	return b.String(), nil
}

// compiler is the second reading: it collects the principals, one for each occurrence.
type compiler struct{ identities []*mspproto.MSPPrincipal }

func (c *compiler) outOf(args []any) (any, error) {
	if len(args) < 2 {
		return nil, fmt.Errorf("Expected at least two arguments to NOutOf. Given %d", len(args))
	}
	n, err := number(args[0])
	if err != nil {
		return nil, err
	}
	items := args[1:]
	if n < 0 || n > len(items)+1 {
		return nil, fmt.Errorf("Invalid t-out-of-n predicate, t %d, n %d", n, len(items))
	}
	rules := make([]*common.SignaturePolicy, 0, len(items))
	for _, item := range items {
		switch t := item.(type) {
		case string:
			mspID, role, ok := splitPrincipal(t)
			if !ok {
				return nil, fmt.Errorf("Error parsing principal %s", t)
			}
			rules = append(rules, SignedBy(int32(len(c.identities))))
			c.identities = append(c.identities, RolePrincipal(mspID, role))
		case *common.SignaturePolicy:
			rules = append(rules, t)
		default:
			return nil, fmt.Errorf("Unrecognized type, expected a principal or a policy, got %T", item)
		}
	}
	return NOutOf(int32(n), rules...), nil
}

func number(v any) (int, error) {
	switch t := v.(type) {
	case float64:
		return int(t), nil
	case string:
		n, err := strconv.Atoi(t)
		if err != nil {
			return 0, err
		}
		return n, nil
	default:
		return 0, fmt.Errorf("Unrecognized type, expected a number, got %T", v)
	}
}

// maxExpression bounds the text of either reading, so that nesting cannot make it explode.
const maxExpression = 4 << 20

var errTooLong = errors.New("policy string is too long")
