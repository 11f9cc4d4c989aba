package policy

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// kind is the kind of a token; its names are part of error texts.
type kind uint8

const (
	kStart kind = iota
	kPrefix
	kNumeric
	kBoolean
	kString
	kVariable
	kFunction
	kSeparator
	kModifier
	kLogical
	kClause
	kClauseClose
	kinds
)

func (k kind) String() string {
	return [kinds]string{
		"UNKNOWN", "PREFIX", "NUMERIC", "BOOLEAN", "STRING", "VARIABLE", "FUNCTION", "SEPARATOR",
		"MODIFIER", "LOGICALOP", "CLAUSE", "CLAUSE_CLOSE",
	}[k]
}

type token struct {
	kind  kind
	value any
}

// text is the value as error texts show it. The reference prints the address of a function; nobody can
// rely on that, so the name stands there instead.
func (t token) text() string { return fmt.Sprint(t.value) }

func set(ks ...kind) (m uint16) {
	for _, k := range ks {
		m |= 1 << k
	}
	return m
}

// follows lists what may come after a token of each kind.
func follows(k kind) uint16 {
	operators := set(kModifier, kLogical, kClauseClose, kSeparator)
	values := set(kPrefix, kNumeric, kBoolean, kString, kVariable, kFunction, kClause)
	switch k {
	case kStart, kModifier, kLogical, kSeparator:
		return values
	case kClause:
		return values | set(kClauseClose)
	case kPrefix:
		return set(kNumeric, kBoolean, kVariable, kFunction, kClause)
	case kFunction:
		return set(kClause)
	default: // a value, or the end of a clause
		return operators
	}
}

// mayEnd tells whether an expression may end with a token of this kind.
func mayEnd(k kind) bool {
	switch k {
	case kStart, kPrefix, kModifier, kLogical, kFunction:
		return false
	default:
		return true
	}
}

// lexer cuts an expression into tokens.
type lexer struct {
	in        []rune
	pos       int
	functions map[string]function
}

// tokens cuts all of the text, then checks brackets, then the order of tokens: errors come in that order.
func tokens(text string, functions map[string]function) ([]token, error) {
	if len(text) > maxExpression {
		return nil, errTooLong
	}
	l := &lexer{in: []rune(text), functions: functions}
	var out []token
	last := kStart
	for {
		t, ok, err := l.next(last)
		if err != nil {
			return nil, err
		}
		if !ok {
			break
		}
		out = append(out, t)
		last = t.kind
	}
	if err := checkBrackets(out); err != nil {
		return nil, err
	}
	return out, checkOrder(out)
}

func checkBrackets(ts []token) error {
	depth := 0
	for _, t := range ts {
		switch t.kind {
		case kClause:
			depth++
		case kClauseClose:
			depth--
		}
	}
	if depth != 0 {
		return errors.New("Unbalanced parenthesis")
	}
	return nil
}

func checkOrder(ts []token) error {
	last := token{kind: kStart}
	for _, t := range ts {
		if follows(last.kind)&set(t.kind) == 0 {
			if last.kind == kVariable && t.kind == kClause {
				return fmt.Errorf("Undefined function %s", last.text())
			}
			return fmt.Errorf("Cannot transition token types from %s [%s] to %s [%s]", last.kind, last.text(), t.kind, t.text())
		}
		last = t
	}
	if !mayEnd(last.kind) {
		return errors.New("Unexpected end of expression")
	}
	return nil
}

func (l *lexer) next(last kind) (t token, ok bool, err error) {
	for l.pos < len(l.in) && unicode.IsSpace(l.in[l.pos]) {
		l.pos++
	}
	if l.pos == len(l.in) {
		return token{}, false, nil
	}
	switch c := l.in[l.pos]; {
	case isNumeric(c):
		t, err = l.number()
	case c == ',':
		l.pos++
		t = token{kSeparator, ","}
	case c == '(':
		l.pos++
		t = token{kClause, int('(')}
	case c == ')':
		l.pos++
		t = token{kClauseClose, int(')')}
	case isQuote(c):
		t, err = l.str()
	case unicode.IsLetter(c):
		t = l.word()
	default:
		t, err = l.symbol(last)
	}
	return t, true, err
}

func isNumeric(c rune) bool { return unicode.IsDigit(c) || c == '.' }
func isQuote(c rune) bool   { return c == '\'' || c == '"' }

func (l *lexer) while(in func(rune) bool) string {
	start := l.pos
	for l.pos < len(l.in) && in(l.in[l.pos]) {
		l.pos++
	}
	return string(l.in[start:l.pos])
}

func (l *lexer) number() (token, error) {
	s := l.while(isNumeric)
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return token{}, fmt.Errorf("Unable to parse numeric value '%v' to float64\n", s)
	}
	return token{kNumeric, f}, nil
}

// str reads a string; either quote ends it, a backslash takes the next character as it is.
func (l *lexer) str() (token, error) {
	var b strings.Builder
	for l.pos++; l.pos < len(l.in); l.pos++ {
		switch c := l.in[l.pos]; {
		case isQuote(c):
			l.pos++
			return token{kString, b.String()}, nil
		case c == '\\' && l.pos+1 < len(l.in):
			l.pos++
			b.WriteRune(l.in[l.pos])
		default:
			b.WriteRune(c)
		}
	}
	return token{}, errors.New("Unclosed string literal")
}

func (l *lexer) word() token {
	s := l.while(func(c rune) bool { return unicode.IsLetter(c) || unicode.IsDigit(c) || c == '_' })
	if _, ok := l.functions[s]; ok {
		return token{kFunction, s}
	}
	switch s {
	case "true":
		return token{kBoolean, true}
	case "false":
		return token{kBoolean, false}
	}
	return token{kVariable, s}
}

func (l *lexer) symbol(last kind) (token, error) {
	s := l.while(func(c rune) bool {
		return !unicode.IsDigit(c) && !unicode.IsLetter(c) && !unicode.IsSpace(c) && !isQuote(c) && !strings.ContainsRune("()[]", c)
	})
	if s == "" { // a bracket
		s = string(l.in[l.pos])
		l.pos++
	}
	switch {
	case s == "-" && follows(last)&set(kPrefix) != 0:
		return token{kPrefix, s}, nil
	case s == "+", s == "-", s == "*", s == "/":
		return token{kModifier, s}, nil
	case s == "&&", s == "||":
		return token{kLogical, s}, nil
	}
	return token{}, fmt.Errorf("Invalid token: '%s'", s)
}
