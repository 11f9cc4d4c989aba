package couchdb

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// Answers hold documents that are large, and of which little is needed. They are
// taken apart without being decoded: what is passed over is looked at for quotes
// and brackets only. Members have the names that encoding/json would give them; of
// several of one name the last counts.

var errJSON = errors.New("malformed JSON")

// scanner walks over JSON text.
type scanner struct {
	text []byte
	at   int
}

// next is the next byte that is no space, 0 at the end. It stays.
func (s *scanner) next() byte {
	for ; s.at < len(s.text); s.at++ {
		switch c := s.text[s.at]; c {
		case ' ', '\t', '\r', '\n':
		default:
			return c
		}
	}
	return 0
}

// pass goes over a byte that has to be next.
func (s *scanner) pass(c byte) bool {
	if s.next() != c {
		return false
	}
	s.at++
	return true
}

// quoted goes over a string, which it returns with its quotes.
func (s *scanner) quoted() ([]byte, error) {
	if s.next() != '"' {
		return nil, errJSON
	}
	for end := s.at + 1; ; {
		i := bytes.IndexByte(s.text[end:], '"')
		if i < 0 {
			return nil, errJSON
		}
		end += i + 1
		escapes := 0
		for s.text[end-2-escapes] == '\\' {
			escapes++
		}
		if escapes%2 == 0 {
			out := s.text[s.at:end]
			s.at = end
			return out, nil
		}
	}
}

// value goes over a value.
func (s *scanner) value() ([]byte, error) {
	c := s.next()
	begin := s.at
	switch c {
	case '"':
		return s.quoted()
	case '{', '[':
	default:
		for s.at < len(s.text) && !bytes.ContainsRune([]byte(",]} \t\r\n"), rune(s.text[s.at])) {
			s.at++
		}
		if s.at == begin {
			return nil, errJSON
		}
		return s.text[begin:s.at], nil
	}
	for depth := 0; s.at < len(s.text); {
		switch s.text[s.at] {
		case '"':
			if _, err := s.quoted(); err != nil {
				return nil, err
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		s.at++
		if depth == 0 {
			return s.text[begin:s.at], nil
		}
	}
	return nil, errJSON
}

// list goes over an object or an array; item goes over one of its elements.
func (s *scanner) list(open, end byte, item func() error) error {
	if !s.pass(open) {
		return errJSON
	}
	if s.pass(end) {
		return nil
	}
	for {
		if err := item(); err != nil {
			return err
		}
		switch {
		case s.pass(','):
		case s.pass(end):
			return nil
		default:
			return errJSON
		}
	}
}

// done is an error if anything is left.
func (s *scanner) done(err error) error {
	if err == nil && s.next() != 0 {
		return errJSON
	}
	return err
}

// members visits the members of an object. The name is valid during the call only.
func members(text []byte, visit func(name, value []byte) error) error {
	s := &scanner{text: text}
	return s.done(s.list('{', '}', func() error {
		name, err := s.quoted()
		if err != nil {
			return err
		}
		if name = name[1 : len(name)-1]; bytes.IndexByte(name, '\\') >= 0 {
			plain, err := unquote(s.text[s.at-len(name)-2 : s.at])
			if err != nil {
				return err
			}
			name = []byte(plain)
		}
		if !s.pass(':') {
			return errJSON
		}
		value, err := s.value()
		if err != nil {
			return err
		}
		return visit(name, value)
	}))
}

// elements visits the elements of an array.
func elements(text []byte, visit func(value []byte) error) error {
	s := &scanner{text: text}
	return s.done(s.list('[', ']', func() error {
		value, err := s.value()
		if err != nil {
			return err
		}
		return visit(value)
	}))
}

// unquote decodes a string; null gives an empty one, as with encoding/json.
func unquote(raw []byte) (string, error) {
	if n := len(raw); n >= 2 && raw[0] == '"' && raw[n-1] == '"' && isPlain(raw[1:n-1]) {
		return string(raw[1 : n-1]), nil
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", fmt.Errorf("%w: %w", errJSON, err)
	}
	return s, nil
}

// isPlain tells whether the text of a string stands for itself.
func isPlain(s []byte) bool {
	for _, c := range s {
		if c < ' ' || c == '\\' || c == '"' {
			return false
		}
	}
	return utf8.Valid(s)
}
