package protoutil

import (
	"sort"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Text is the compact text form of a message as clients of the reference know
// it from `peer chaincode invoke` and many error texts, for example
// `status:200 payload:"OK" `. The form is stable: fields in the order of the
// .proto file, every field followed by one blank, messages in angle brackets,
// bytes and strings quoted byte by byte with octal escapes. (The protobuf
// library's own String() inserts blanks at random.)
func Text(m proto.Message) string {
	if m == nil {
		return "<nil>"
	}
	r := m.ProtoReflect()
	if !r.IsValid() {
		return "<nil>"
	}
	var b strings.Builder
	writeText(&b, r)
	return b.String()
}

func writeText(b *strings.Builder, m protoreflect.Message) {
	fields := m.Descriptor().Fields()
	for i := 0; i < fields.Len(); i++ {
		f := fields.Get(i)
		if !m.Has(f) {
			continue
		}
		name := string(f.Name())
		v := m.Get(f)
		switch {
		case f.IsMap():
			writeTextMap(b, name, f, v.Map())
		case f.IsList():
			l := v.List()
			for j := 0; j < l.Len(); j++ {
				writeTextField(b, name, f, l.Get(j))
			}
		default:
			writeTextField(b, name, f, v)
		}
	}
}

func writeTextMap(b *strings.Builder, name string, f protoreflect.FieldDescriptor, m protoreflect.Map) {
	var keys []protoreflect.MapKey
	m.Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
		keys = append(keys, k)
		return true
	})
	sort.Slice(keys, func(i, j int) bool {
		if f.MapKey().Kind() == protoreflect.StringKind {
			return keys[i].String() < keys[j].String()
		}
		return keys[i].Int() < keys[j].Int()
	})
	for _, k := range keys {
		b.WriteString(name)
		b.WriteString(":<")
		writeTextField(b, "key", f.MapKey(), k.Value())
		writeTextField(b, "value", f.MapValue(), m.Get(k))
		b.WriteString("> ")
	}
}

func writeTextField(b *strings.Builder, name string, f protoreflect.FieldDescriptor, v protoreflect.Value) {
	b.WriteString(name)
	b.WriteByte(':')
	switch f.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		b.WriteByte('<')
		writeText(b, v.Message())
		b.WriteByte('>')
	case protoreflect.StringKind:
		quoteText(b, v.String())
	case protoreflect.BytesKind:
		quoteText(b, string(v.Bytes()))
	case protoreflect.EnumKind:
		if e := f.Enum().Values().ByNumber(v.Enum()); e != nil {
			b.WriteString(string(e.Name()))
		} else {
			b.WriteString(strconv.Itoa(int(v.Enum())))
		}
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		b.WriteString(strconv.FormatFloat(v.Float(), 'g', -1, 64))
	default:
		b.WriteString(v.String())
	}
	b.WriteByte(' ')
}

func quoteText(b *strings.Builder, s string) {
	const digits = "01234567"
	b.WriteByte('"')
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\r':
			b.WriteString(`\r`)
		case c == '\t':
			b.WriteString(`\t`)
		case c == '"':
			b.WriteString(`\"`)
		case c == '\\':
			b.WriteString(`\\`)
		case c >= 0x20 && c < 0x7f:
			b.WriteByte(c)
		default:
			b.WriteByte('\\')
			b.WriteByte(digits[c>>6])
			b.WriteByte(digits[c>>3&7])
			b.WriteByte(digits[c&7])
		}
	}
	b.WriteByte('"')
}
