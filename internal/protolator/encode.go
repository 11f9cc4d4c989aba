package protolator

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// ErrOneofNil is returned for a null member of a oneof. The reference finds this
// mistake only when it marshals the message, and says so.
var ErrOneofNil = errors.New("proto: oneof field has nil value")

// ReadJSON reads the first JSON value of r and makes a message of it
// (IDENTITY-CONFIG §9.3).
func (t Type) ReadJSON(r io.Reader) (*Message, error) {
	dec := json.NewDecoder(r)
	dec.UseNumber()
	tree := make(map[string]any)
	if err := dec.Decode(&tree); err != nil {
		return nil, fmt.Errorf("error unmarshaling intermediate JSON: %w", err)
	}
	m := dynamicpb.NewMessage(t.node.md)
	err := encoder{}.message(t.node, m, tree)
	switch {
	case errors.Is(err, ErrOneofNil):
		return nil, ErrOneofNil
	case err != nil:
		return nil, err
	}
	return &Message{t.node, m}, nil
}

// Marshal returns the bytes of the message, with maps sorted by key.
func (m *Message) Marshal() ([]byte, error) { return marshal(m.m) }

// marshal sorts maps by key, so that what is signed does not change at random.
func marshal(m proto.Message) ([]byte, error) {
	return proto.MarshalOptions{Deterministic: true}.Marshal(m)
}

// encoder fills messages from trees of the JSON decoder's types.
type encoder struct{ depth int }

func (e encoder) deeper() (encoder, error) {
	if e.depth >= maxDepth {
		return e, errDepth
	}
	return encoder{e.depth + 1}, nil
}

// message fills m. Fields that hold messages or opaque bytes are found by their
// proto name only; all others are plain and may also have their camel-case name.
// Fields whose bytes depend on other fields come last.
func (e encoder) message(n node, m protoreflect.Message, tree map[string]any) error {
	e, err := e.deeper()
	if err != nil {
		return err
	}
	plain := make(map[string]any, len(tree))
	for key, v := range tree {
		plain[key] = v
	}
	var expanded, variable []protoreflect.FieldDescriptor
	fields := n.md.Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if _, ok := tree[string(f.Name())]; !ok || !n.expands(f) {
			continue
		}
		delete(plain, string(f.Name()))
		if n.variableField(f.FullName()) || f.FullName() == "rwset.TxReadWriteSet.ns_rwset" {
			variable = append(variable, f)
		} else {
			expanded = append(expanded, f)
		}
	}
	if err := e.plainFields(n.name, m, plain); err != nil {
		return fmt.Errorf("*%s: %w", n.name, err)
	}
	for _, f := range append(expanded, variable...) {
		if err := e.field(n, f, m, tree[string(f.Name())]); err != nil {
			return fmt.Errorf("*%s: %w", n.name, err)
		}
	}
	return nil
}

// expands tells whether a field is not plain.
func (n node) expands(f protoreflect.FieldDescriptor) bool {
	switch {
	case f.ContainingOneof() != nil:
		return false
	case f.IsMap():
		return f.FullName() == isolatedData || isNestedMessage(f.MapValue())
	}
	return isNested(f) || n.opaque(f)
}

func (e encoder) field(n node, f protoreflect.FieldDescriptor, m protoreflect.Message, v any) error {
	switch {
	case f.IsMap():
		return e.mapField(n, f, m, v)
	case f.IsList():
		return e.listField(n, f, m, v)
	case v == nil:
		return nil
	}
	tree, ok := v.(map[string]any)
	if !ok {
		return fmt.Errorf("expected field %s for message *%s to be assignable from map[string]interface {} but was not.  Is %T", f.Name(), n.name, v)
	}
	value, err := e.value(n, slot{field: f, parent: m}, tree)
	if err != nil {
		return fmt.Errorf("error in PopulateFrom for field %s for message *%s: %w", f.Name(), n.name, err)
	}
	m.Set(f, value)
	return nil
}

func (e encoder) listField(n node, f protoreflect.FieldDescriptor, m protoreflect.Message, v any) error {
	elements, ok := v.([]any)
	if !ok {
		return fmt.Errorf("expected slice field %s for message *%s to be assignable from []interface{} but was not. Got %T", f.Name(), n.name, v)
	}
	list := m.Mutable(f).List()
	for i, element := range elements {
		tree, ok := element.(map[string]any)
		if !ok {
			return fmt.Errorf("expected slice field %s value at index %d for message *%s to be assignable from map[string]interface {} but was not.  Is %T", f.Name(), i, n.name, element)
		}
		value, err := e.value(n, slot{field: f, parent: m}, tree)
		if err != nil {
			return fmt.Errorf("error in PopulateFrom for slice field %s at index %d for message *%s: %w", f.Name(), i, n.name, err)
		}
		list.Append(value)
	}
	return nil
}

func (e encoder) mapField(n node, f protoreflect.FieldDescriptor, m protoreflect.Message, v any) error {
	members, ok := v.(map[string]any)
	if !ok {
		return fmt.Errorf("expected map field %s for message *%s to be assignable from map[string]interface{} but was not. Got %T", f.Name(), n.name, v)
	}
	for _, key := range sortedKeys(members) {
		tree, ok := members[key].(map[string]any)
		if !ok {
			return fmt.Errorf("expected map field %s value for %s for message *%s to be assignable from map[string]interface {} but was not.  Is %T", f.Name(), key, n.name, members[key])
		}
		var value protoreflect.Value
		err := fmt.Errorf("Unknown map key: %s", key)
		if f.FullName() != isolatedData {
			value, err = e.value(n, slot{f, m, key}, tree)
		}
		if err != nil {
			return fmt.Errorf("error in PopulateFrom for map field %s with key %s for message *%s: %w", f.Name(), key, n.name, err)
		}
		m.Mutable(f).Map().Set(protoreflect.ValueOfString(key).MapKey(), value)
	}
	return nil
}

// value makes one nested or opaque message.
func (e encoder) value(n node, s slot, tree map[string]any) (protoreflect.Value, error) {
	f := s.field
	if n.opaque(f) {
		c, err := n.content(f, s.parent)
		if err != nil {
			return protoreflect.Value{}, err
		}
		m := dynamicpb.NewMessage(c.md)
		if err := e.message(c, m, tree); err != nil {
			return protoreflect.Value{}, err
		}
		raw, err := marshal(m)
		return protoreflect.ValueOfBytes(raw), err
	}
	md := f.Message()
	if f.IsMap() {
		md = f.MapValue().Message()
	}
	c, err := n.child(s, md)
	if err != nil {
		return protoreflect.Value{}, err
	}
	m := dynamicpb.NewMessage(md)
	if err := e.message(c, m, tree); err != nil {
		return protoreflect.Value{}, err
	}
	return protoreflect.ValueOfMessage(m), nil
}
