package protolator

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// maxDepth bounds how deeply messages may be nested, opaque bytes included, so
// that neither time nor memory grow faster than the input. Real messages need
// about twenty levels.
const maxDepth = 200

var errDepth = errors.New("messages are nested too deeply")

// Type is a message type of 1.4.
type Type struct{ node node }

// Lookup finds a type by its full proto name, such as "common.Block" or
// "protos.Transaction".
func Lookup(name string) (Type, bool) {
	md, ok := descriptor(protoreflect.FullName(name))
	if !ok {
		return Type{}, false
	}
	return Type{plainNode(md)}, true
}

// ConsortiumOrg is the type of the group of an organization as it is below a
// consortium, with its values shown as messages.
func ConsortiumOrg() Type { return Type{groupNode(consortiumOrgKind())} }

// Message is a parsed message of a Type.
type Message struct {
	node node
	m    *dynamicpb.Message
}

// Unmarshal parses the bytes of a message.
func (t Type) Unmarshal(raw []byte) (*Message, error) {
	m := dynamicpb.NewMessage(t.node.md)
	if err := unmarshal(raw, m); err != nil {
		return nil, err
	}
	return &Message{t.node, m}, nil
}

// unmarshal parses a message. The library dies of a map entry whose key is there
// twice, the second time with the wrong wire type, when it knows the message by
// its descriptor only; the reference says it is malformed.
func unmarshal(raw []byte, m *dynamicpb.Message) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("proto: malformed map entry: %v", r)
		}
	}()
	return proto.Unmarshal(raw, m)
}

// WriteJSON writes the message in the form of IDENTITY-CONFIG §9.2.
func (m *Message) WriteJSON(w io.Writer) error {
	tree, err := decoder{}.message(m.node, m.m)
	if err != nil {
		return err
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "\t")
	return enc.Encode(tree)
}

// WriteJSON writes a message in the form of IDENTITY-CONFIG §9.2.
func WriteJSON(w io.Writer, m proto.Message) error {
	t, ok := Lookup(string(m.ProtoReflect().Descriptor().FullName()))
	if !ok {
		return fmt.Errorf("message of type %s unknown", m.ProtoReflect().Descriptor().FullName())
	}
	return t.WriteJSON(w, m)
}

// WriteJSON writes a message as one of this type.
func (t Type) WriteJSON(w io.Writer, m proto.Message) error {
	raw, err := proto.Marshal(m)
	if err != nil {
		return fmt.Errorf("marshal %s: %w", m.ProtoReflect().Descriptor().FullName(), err)
	}
	parsed, err := t.Unmarshal(raw)
	if err != nil {
		return err
	}
	return parsed.WriteJSON(w)
}

// decoder turns messages into trees of the JSON encoder's types.
type decoder struct{ depth int }

func (d decoder) deeper() (decoder, error) {
	if d.depth >= maxDepth {
		return d, errDepth
	}
	return decoder{d.depth + 1}, nil
}

// message shows a message with the messages in its bytes.
func (d decoder) message(n node, m protoreflect.Message) (map[string]any, error) {
	d, err := d.deeper()
	if err != nil {
		return nil, err
	}
	fields := n.md.Fields()
	out := make(map[string]any, fields.Len())
	for i := range fields.Len() {
		f := fields.Get(i)
		var v any
		switch {
		case f.ContainingOneof() != nil:
			if !m.Has(f) {
				continue
			}
			v, err = d.plainField(f, m)
		case f.IsMap():
			v, err = d.mapField(n, f, m)
		case f.IsList():
			v, err = d.listField(n, f, m)
		default:
			v, err = d.singleField(n, f, m)
		}
		if err != nil {
			return nil, fmt.Errorf("*%s: %w", n.name, err)
		}
		out[string(f.Name())] = v
	}
	return out, nil
}

func (d decoder) singleField(n node, f protoreflect.FieldDescriptor, m protoreflect.Message) (any, error) {
	nested := isNested(f)
	if !nested && !n.opaque(f) {
		return d.plainField(f, m)
	}
	if !m.Has(f) {
		return nil, nil
	}
	var v any
	var err error
	if nested {
		v, err = d.nested(n, slot{field: f, parent: m}, m.Get(f).Message())
	} else {
		v, err = d.opaque(n, f, m, m.Get(f).Bytes())
	}
	if err != nil {
		return nil, fmt.Errorf("error in PopulateTo for field %s for message *%s: %w", f.Name(), n.name, err)
	}
	return v, nil
}

func (d decoder) listField(n node, f protoreflect.FieldDescriptor, m protoreflect.Message) (any, error) {
	nested := isNested(f)
	if !nested && !n.opaque(f) {
		return d.plainField(f, m)
	}
	list := m.Get(f).List()
	out := make([]any, list.Len())
	for i := range list.Len() {
		var err error
		if nested {
			out[i], err = d.nested(n, slot{field: f, parent: m}, list.Get(i).Message())
		} else {
			out[i], err = d.opaque(n, f, m, list.Get(i).Bytes())
		}
		if err != nil {
			return nil, fmt.Errorf("error in PopulateTo for slice field %s at index %d for message *%s: %w", f.Name(), i, n.name, err)
		}
	}
	return out, nil
}

func (d decoder) mapField(n node, f protoreflect.FieldDescriptor, m protoreflect.Message) (any, error) {
	isolated := f.FullName() == isolatedData
	if !isolated && !isNestedMessage(f.MapValue()) {
		return d.plainField(f, m)
	}
	members := m.Get(f).Map()
	out := make(map[string]any, members.Len())
	for _, key := range mapKeys(members) {
		var err error
		if isolated {
			err = fmt.Errorf("Unknown map key: %s", key)
		} else {
			out[key], err = d.nested(n, slot{f, m, key}, members.Get(protoreflect.ValueOfString(key).MapKey()).Message())
		}
		if err != nil {
			return nil, fmt.Errorf("error in PopulateTo for map field %s and key %s for message *%s: %w", f.Name(), key, n.name, err)
		}
	}
	return out, nil
}

// isolatedData is a map whose values could be messages, but none is defined.
const isolatedData protoreflect.FullName = "common.ConfigUpdate.isolated_data"

// mapKeys returns the keys of a map with string keys, sorted.
func mapKeys(m protoreflect.Map) []string {
	keys := make([]string, 0, m.Len())
	m.Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
		keys = append(keys, k.String())
		return true
	})
	slices.Sort(keys)
	return keys
}

func (d decoder) nested(n node, s slot, m protoreflect.Message) (any, error) {
	c, err := n.child(s, m.Descriptor())
	if err != nil {
		return nil, err
	}
	return d.message(c, m)
}

func (d decoder) opaque(n node, f protoreflect.FieldDescriptor, parent protoreflect.Message, raw []byte) (any, error) {
	c, err := n.content(f, parent)
	if err != nil {
		return nil, err
	}
	m := dynamicpb.NewMessage(c.md)
	if err := unmarshal(raw, m); err != nil {
		return nil, err
	}
	return d.message(c, m)
}

// isNested tells whether a field holds messages that are shown expanded.
func isNested(f protoreflect.FieldDescriptor) bool { return !f.IsMap() && isNestedMessage(f) }

func isNestedMessage(f protoreflect.FieldDescriptor) bool {
	return f.Message() != nil && f.Message().FullName() != timestampName
}

const timestampName = "google.protobuf.Timestamp"

// plainMessage shows a message without looking into its bytes.
func (d decoder) plainMessage(m protoreflect.Message) (any, error) {
	d, err := d.deeper()
	if err != nil {
		return nil, err
	}
	if m.Descriptor().FullName() == timestampName {
		return timestampText(m)
	}
	fields := m.Descriptor().Fields()
	out := make(map[string]any, fields.Len())
	for i := range fields.Len() {
		f := fields.Get(i)
		if f.ContainingOneof() != nil && !m.Has(f) {
			continue
		}
		if out[string(f.Name())], err = d.plainField(f, m); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (d decoder) plainField(f protoreflect.FieldDescriptor, m protoreflect.Message) (any, error) {
	v := m.Get(f)
	switch {
	case f.IsMap():
		out := make(map[string]any, v.Map().Len())
		var err error
		v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
			out[k.String()], err = d.plainValue(f.MapValue(), v)
			return err == nil
		})
		return out, err
	case f.IsList():
		out := make([]any, v.List().Len())
		for i := range out {
			var err error
			if out[i], err = d.plainValue(f, v.List().Get(i)); err != nil {
				return nil, err
			}
		}
		return out, nil
	case f.Message() != nil && !m.Has(f), f.Kind() == protoreflect.BytesKind && len(v.Bytes()) == 0 && f.ContainingOneof() == nil:
		return nil, nil
	}
	return d.plainValue(f, v)
}

func (d decoder) plainValue(f protoreflect.FieldDescriptor, v protoreflect.Value) (any, error) {
	switch f.Kind() {
	case protoreflect.BytesKind:
		return base64.StdEncoding.EncodeToString(v.Bytes()), nil
	case protoreflect.EnumKind:
		if e := f.Enum().Values().ByNumber(v.Enum()); e != nil {
			return string(e.Name()), nil
		}
		return int32(v.Enum()), nil
	case protoreflect.MessageKind:
		return d.plainMessage(v.Message())
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return strconv.FormatUint(v.Uint(), 10), nil
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return strconv.FormatInt(v.Int(), 10), nil
	}
	return v.Interface(), nil // bool, string, 32-bit numbers
}

// timestampText is RFC 3339 in UTC with 0, 3, 6 or 9 digits of a second.
func timestampText(m protoreflect.Message) (any, error) {
	fields := m.Descriptor().Fields()
	seconds, nanos := m.Get(fields.ByName("seconds")).Int(), m.Get(fields.ByName("nanos")).Int()
	if nanos < 0 || nanos >= int64(time.Second) {
		return nil, fmt.Errorf("ns out of range [0, %v)", int64(time.Second))
	}
	layout := "2006-01-02T15:04:05"
	switch {
	case nanos == 0:
	case nanos%1e6 == 0:
		layout += ".000"
	case nanos%1e3 == 0:
		layout += ".000000"
	default:
		layout += ".000000000"
	}
	return time.Unix(seconds, nanos).UTC().Format(layout) + "Z", nil
}
