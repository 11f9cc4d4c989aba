package couchdb

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// Answers hold documents that are large, and of which little is needed. They are
// taken apart without being decoded. Members have the names that encoding/json
// would give them; of several of one name the last counts.

var errJSON = errors.New("malformed JSON")

// decoder walks over JSON text as encoding/json takes it.
type decoder struct {
	*jsontext.Decoder
	text []byte
}

func decode(text []byte) *decoder {
	d := jsontext.NewDecoder(bytes.NewBuffer(text), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	return &decoder{d, text}
}

// value goes over a value, which it returns as a part of the text.
func (d *decoder) value() ([]byte, error) {
	v, err := d.ReadValue()
	if err != nil {
		return nil, malformed(err)
	}
	end := int(d.InputOffset())
	return d.text[end-len(v) : end : end], nil
}

// whole goes over an object or an array, which is all there is; each goes over one
// of its elements.
func (d *decoder) whole(kind jsontext.Kind, each func() error) error {
	if begin, err := d.ReadToken(); err != nil || begin.Kind() != kind {
		return malformed(err)
	}
	for {
		switch d.PeekKind() {
		case '}', ']':
			if _, err := d.ReadToken(); err != nil {
				return malformed(err)
			}
			if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
				return malformed(err)
			}
			return nil
		}
		if err := each(); err != nil {
			return err
		}
	}
}

func malformed(err error) error {
	if err == nil {
		return errJSON
	}
	return fmt.Errorf("%w: %w", errJSON, err)
}

// members visits the members of an object;
// the values are parts of the text.
func members(text []byte, visit func(name string, value []byte) error) error {
	d := decode(text)
	return d.whole('{', func() error {
		raw, err := d.value()
		if err != nil {
			return err
		}
		name, err := unquote(raw)
		if err != nil {
			return err
		}
		value, err := d.value()
		if err != nil {
			return err
		}
		return visit(name, value)
	})
}

// elements visits the elements of an array, parts of the text.
func elements(text []byte, visit func(value []byte) error) error {
	d := decode(text)
	return d.whole('[', func() error {
		value, err := d.value()
		if err != nil {
			return err
		}
		return visit(value)
	})
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
