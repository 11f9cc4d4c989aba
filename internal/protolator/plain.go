package protolator

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

func sortedKeys(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }

// plainFields fills fields of m by the usual JSON mapping of protobuf: names as
// in the .proto file or in camel case, bytes in base64.
func (e encoder) plainFields(typeName string, m protoreflect.Message, tree map[string]any) error {
	fields := m.Descriptor().Fields()
	for _, key := range sortedKeys(tree) {
		f := fields.ByName(protoreflect.Name(key))
		if f == nil {
			f = fields.ByJSONName(key)
			if f == nil {
				return fmt.Errorf("unknown field %q in %s", key, typeName)
			}
			if _, ok := tree[string(f.Name())]; ok {
				continue // given twice; the name of the .proto file wins
			}
		}
		switch v := tree[key]; {
		case v != nil:
			if err := e.plainField(f, m, v); err != nil {
				return err
			}
		case f.ContainingOneof() != nil:
			return ErrOneofNil
		}
	}
	return nil
}

func (e encoder) plainField(f protoreflect.FieldDescriptor, m protoreflect.Message, v any) error {
	switch {
	case f.IsMap():
		members, ok := v.(map[string]any)
		if !ok {
			return into(v, new(map[string]json.RawMessage))
		}
		for _, key := range sortedKeys(members) {
			value, err := e.plainValue(f.MapValue(), members[key])
			if err != nil {
				return err
			}
			m.Mutable(f).Map().Set(protoreflect.ValueOfString(key).MapKey(), value)
		}
		return nil
	case f.IsList():
		elements, ok := v.([]any)
		if !ok {
			return into(v, new([]json.RawMessage))
		}
		for _, element := range elements {
			value, err := e.plainValue(f, element)
			if err != nil {
				return err
			}
			m.Mutable(f).List().Append(value)
		}
		return nil
	}
	value, err := e.plainValue(f, v)
	if err != nil {
		return err
	}
	m.Set(f, value)
	return nil
}

func (e encoder) plainValue(f protoreflect.FieldDescriptor, v any) (protoreflect.Value, error) {
	switch f.Kind() {
	case protoreflect.MessageKind:
		return e.plainMessage(f.Message(), v)
	case protoreflect.EnumKind:
		if name, ok := v.(string); ok {
			value := f.Enum().Values().ByName(protoreflect.Name(name))
			if value == nil {
				return protoreflect.Value{}, fmt.Errorf("unknown value %q for enum %s", name, enumName(f.Enum()))
			}
			return protoreflect.ValueOfEnum(value.Number()), nil
		}
		var n int32
		err := into(v, &n)
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(n)), err
	case protoreflect.BytesKind:
		var b []byte
		err := into(v, &b)
		return protoreflect.ValueOfBytes(b), err
	case protoreflect.StringKind:
		var s string
		err := into(v, &s)
		return protoreflect.ValueOfString(s), err
	case protoreflect.BoolKind:
		var b bool
		err := into(v, &b)
		return protoreflect.ValueOfBool(b), err
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		var n int32
		err := number(v, &n)
		return protoreflect.ValueOfInt32(n), err
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		var n uint32
		err := number(v, &n)
		return protoreflect.ValueOfUint32(n), err
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		var n int64
		err := number(v, &n)
		return protoreflect.ValueOfInt64(n), err
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		var n uint64
		err := number(v, &n)
		return protoreflect.ValueOfUint64(n), err
	}
	return protoreflect.Value{}, fmt.Errorf("field %s is of unsupported kind %s", f.FullName(), f.Kind())
}

func (e encoder) plainMessage(md protoreflect.MessageDescriptor, v any) (protoreflect.Value, error) {
	e, err := e.deeper()
	if err != nil {
		return protoreflect.Value{}, err
	}
	m := dynamicpb.NewMessage(md)
	if md.FullName() == timestampName {
		return protoreflect.ValueOfMessage(m), parseTimestamp(m, v)
	}
	tree, ok := v.(map[string]any)
	if !ok {
		if v == nil {
			return protoreflect.Value{}, errors.New("a list or map of messages may not contain null")
		}
		return protoreflect.Value{}, into(v, new(map[string]json.RawMessage))
	}
	return protoreflect.ValueOfMessage(m), e.plainFields(goName(md), m, tree)
}

func parseTimestamp(m protoreflect.Message, v any) error {
	var s string
	if err := into(v, &s); err != nil {
		return err
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return fmt.Errorf("bad Timestamp: %w", err)
	}
	fields := m.Descriptor().Fields()
	m.Set(fields.ByName("seconds"), protoreflect.ValueOfInt64(t.Unix()))
	m.Set(fields.ByName("nanos"), protoreflect.ValueOfInt32(int32(t.Nanosecond())))
	return nil
}

// number parses an integer that may be in quotes.
func number(v any, p any) error {
	if s, ok := v.(string); ok {
		return json.Unmarshal([]byte(s), p)
	}
	return into(v, p)
}

// into parses a value by the rules, and with the error texts, of encoding/json.
func into(v any, p any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, p)
}
