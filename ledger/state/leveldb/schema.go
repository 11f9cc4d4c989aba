package leveldb

import (
	"encoding/binary"
	"errors"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/heddle-ledger/heddle/ledger/kv"
	"github.com/heddle-ledger/heddle/ledger/state"
)

func appendKey(dst []byte, ns, key string) []byte {
	dst = append(dst, ns...)
	dst = append(dst, 0)
	return append(dst, key...)
}

// appendValue encodes a value in the form written since 1.3: 00 and a
// VersionedValueProto (LEDGER §4.1, §22).
func appendValue(dst []byte, v state.Version, value, metadata []byte) []byte {
	var buf [18]byte
	height := kv.AppendHeight(buf[:0], kv.Height(v))
	dst = append(dst, 0)
	dst = appendField(dst, 1, height)
	dst = appendField(dst, 2, value)
	return appendField(dst, 3, metadata)
}

func appendField(dst []byte, num byte, v []byte) []byte {
	if len(v) == 0 {
		return dst
	}
	dst = append(dst, num<<3|byte(protowire.BytesType))
	dst = binary.AppendUvarint(dst, uint64(len(v)))
	return append(dst, v...)
}

// isOld tells values written before 1.3, height bytes and value, apart: a new
// value begins with 00, an old one only if its block number is 0, and then the
// transaction number, 0 too, follows at once (LEDGER §4.2).
func isOld(raw []byte) bool {
	return raw[0] != 0 || len(raw) > 1 && raw[1] == 0
}

var errValue = errors.New("malformed value")

// decodeValue decodes a stored value. The result refers to raw. An empty value
// is empty, not nil.
func decodeValue(raw []byte) (state.Value, error) {
	if len(raw) == 0 {
		return state.Value{}, errValue
	}
	if isOld(raw) {
		h, rest, err := kv.ReadHeight(raw)
		if err != nil {
			return state.Value{}, err
		}
		return state.Value{Value: notNil(rest), Version: state.Version(h)}, nil
	}
	var height, value, metadata []byte
	err := fields(raw[1:], func(num protowire.Number, v []byte) {
		switch num {
		case 1:
			height = v
		case 2:
			value = v
		case 3:
			metadata = v
		}
	})
	if err != nil {
		return state.Value{}, err
	}
	h, _, err := kv.ReadHeight(height)
	if err != nil {
		return state.Value{}, err
	}
	return state.Value{Value: notNil(value), Metadata: metadata, Version: state.Version(h)}, nil
}

// decodeVersion decodes the version of a stored value only.
func decodeVersion(raw []byte) (state.Version, error) {
	if len(raw) == 0 {
		return state.Version{}, errValue
	}
	height := raw
	if !isOld(raw) {
		height = nil
		err := fields(raw[1:], func(num protowire.Number, v []byte) {
			if num == 1 {
				height = v
			}
		})
		if err != nil {
			return state.Version{}, err
		}
	}
	h, _, err := kv.ReadHeight(height)
	return state.Version(h), err
}

// fields walks the length-delimited fields of a message and skips all others.
func fields(b []byte, visit func(protowire.Number, []byte)) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		if typ != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
				return protowire.ParseError(n)
			}
			b = b[n:]
			continue
		}
		v, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		visit(num, v)
		b = b[n:]
	}
	return nil
}

func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
