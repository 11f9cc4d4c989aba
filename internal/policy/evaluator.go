package policy

import (
	"errors"
	"fmt"
)

// function is a function of an expression. Its arguments are float64, bool, string, *common.SignaturePolicy,
// or []any for a list in brackets.
type function func(args []any) (any, error)

// evaluator evaluates the expressions the policy language consists of.
type evaluator struct {
	functions map[string]function
	tokens    []token
	pos       int
	depth     int
}

// maxDepth bounds how deep brackets nest.
const maxDepth = 256

func (e *evaluator) run(text string) (any, error) {
	ts, err := tokens(text, e.functions)
	if err != nil {
		return nil, err
	}
	e.tokens, e.pos = ts, 0
	root, err := e.list()
	if err != nil {
		return nil, err
	}
	if e.pos != len(ts) {
		return nil, errors.New("Unbalanced parenthesis")
	}
	// The reference looks up words before it compiles.
	if name := unknownWord(root); name != "" {
		return nil, fmt.Errorf("unrecognized token '%s' in policy string", name)
	}
	return e.eval(root)
}

// expression is a node of the tree of an expression.
type expression struct {
	token token // a value, a function, or an operator
	// args are the operands; of a function, or of an opening bracket (a list), one or none.
	args []*expression
}

func (e *evaluator) peek() (token, bool) {
	if e.pos == len(e.tokens) {
		return token{}, false
	}
	return e.tokens[e.pos], true
}

// list is one or more expressions with commas between; binding is from weak to strong: comma, logical
// operators, sums, products, sign.
func (e *evaluator) list() (*expression, error) { return e.binary(0) }

func level(t token) int {
	switch {
	case t.kind == kSeparator:
		return 0
	case t.kind == kLogical && t.value == "||":
		return 1
	case t.kind == kLogical:
		return 2
	case t.kind == kModifier && (t.value == "+" || t.value == "-"):
		return 3
	case t.kind == kModifier:
		return 4
	default:
		return -1
	}
}

const operand = 5

func (e *evaluator) binary(at int) (*expression, error) {
	if at == operand {
		return e.operand()
	}
	left, err := e.binary(at + 1)
	if err != nil {
		return nil, err
	}
	for {
		t, ok := e.peek()
		if !ok || level(t) != at {
			return left, nil
		}
		e.pos++
		right, err := e.binary(at + 1)
		if err != nil {
			return nil, err
		}
		if at == 0 && left.token.kind == kSeparator {
			left.args = append(left.args, right) // a, b, c is one list
			continue
		}
		left = &expression{t, []*expression{left, right}}
	}
}

func (e *evaluator) operand() (*expression, error) {
	t, ok := e.peek()
	if !ok {
		return nil, errors.New("Unexpected end of expression")
	}
	switch t.kind {
	case kPrefix:
		e.pos++
		of, err := e.operand()
		if err != nil {
			return nil, err
		}
		return &expression{t, []*expression{of}}, nil
	case kFunction:
		e.pos++
		args, err := e.operand()
		if err != nil {
			return nil, err
		}
		return &expression{t, []*expression{args}}, nil
	case kClause:
		return e.clause(t)
	case kClauseClose: // "(OR('A.member')))(" is balanced, but no expression
		return nil, errors.New("Unbalanced parenthesis")
	default:
		e.pos++
		return &expression{token: t}, nil
	}
}

func (e *evaluator) clause(open token) (*expression, error) {
	if e.depth++; e.depth > maxDepth {
		return nil, errors.New("policy string is nested too deep")
	}
	defer func() { e.depth-- }()
	e.pos++
	x := &expression{token: open}
	if t, ok := e.peek(); ok && t.kind != kClauseClose {
		inner, err := e.list()
		if err != nil {
			return nil, err
		}
		x.args = []*expression{inner}
	}
	if t, ok := e.peek(); !ok || t.kind != kClauseClose {
		return nil, errors.New("Unbalanced parenthesis")
	}
	e.pos++
	return x, nil
}

// unknownWord is the first word, in the order of evaluation, that means nothing.
func unknownWord(x *expression) string {
	if x.token.kind == kVariable {
		return x.token.text()
	}
	for _, a := range x.args {
		if w := unknownWord(a); w != "" {
			return w
		}
	}
	return ""
}

func (e *evaluator) eval(x *expression) (any, error) {
	args := make([]any, len(x.args))
	for i, a := range x.args {
		v, err := e.eval(a)
		if err != nil {
			return nil, err
		}
		args[i] = v
		if err := checkOperand(x.token, v); err != nil {
			return nil, err
		}
	}
	switch x.token.kind {
	case kClause:
		if len(args) == 0 {
			return nil, nil
		}
		return args[0], nil
	case kSeparator:
		return join(args), nil
	case kFunction:
		switch v := args[0].(type) {
		case nil:
			return e.functions[x.token.text()](nil)
		case []any:
			return e.functions[x.token.text()](v)
		default:
			return e.functions[x.token.text()](args)
		}
	case kPrefix:
		return -args[0].(float64), nil
	case kModifier:
		return calculate(x.token.text(), args[0], args[1]), nil
	case kLogical:
		if x.token.value == "||" {
			return args[0].(bool) || args[1].(bool), nil
		}
		return args[0].(bool) && args[1].(bool), nil
	default:
		return x.token.value, nil
	}
}

// join makes the list of "a, b, c". A list in brackets that comes first runs into it.
func join(args []any) []any {
	if first, ok := args[0].([]any); ok {
		return append(append(make([]any, 0, len(first)+len(args)-1), first...), args[1:]...)
	}
	return args
}

func checkOperand(op token, v any) error {
	switch op.kind {
	case kLogical:
		if _, ok := v.(bool); !ok {
			return fmt.Errorf("Value '%v' cannot be used with the logical operator '%v', it is not a bool", v, op.value)
		}
	case kModifier, kPrefix:
		if _, ok := v.(float64); !ok {
			return fmt.Errorf("Value '%v' cannot be used with the modifier '%v', it is not a number", v, op.value)
		}
	}
	return nil
}

func calculate(op string, a, b any) float64 {
	x, y := a.(float64), b.(float64)
	switch op {
	case "+":
		return x + y
	case "-":
		return x - y
	case "*":
		return x * y
	default:
		return x / y
	}
}
