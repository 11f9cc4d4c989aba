package couchdb

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/heddle-ledger/heddle/ledger/state"
)

// outgoing is a document to be written.
type outgoing struct {
	key     string
	id      string
	members []byte // of the JSON object, without braces, _rev and attachment
	// attached tells that the write's value is no JSON object, but an attachment,
	// which is encoded when it is sent.
	attached bool
	write    *state.Write
}

// The text before and after an attachment's base64.
const (
	attachmentBegin = `,"_attachments":{"` + attachmentName + `":{"content_type":"` + attachmentType + `","data":"`
	attachmentEnd   = `"}}`
)

// size is the length of the document in bytes, but for its revision.
func (d *outgoing) size() int {
	n := len(d.members) + len("{}")
	if d.attached {
		n += len(attachmentBegin) + base64.StdEncoding.EncodedLen(len(d.write.Value)) + len(attachmentEnd)
	}
	return n
}

// encodeDocument makes the document of a write (LEDGER §5.3).
func encodeDocument(ns string, w *state.Write) (outgoing, error) {
	doc := outgoing{key: w.Key, id: documentID(ns, w.Key), write: w}
	if foreign(ns, doc.id) {
		return doc, fmt.Errorf("key [%s] can not be kept in CouchDB", w.Key)
	}
	size := len(doc.id) + len(w.Metadata)*4/3 + 64
	object, err := jsonObject(w)
	if err != nil {
		return doc, fmt.Errorf("value of key [%s]: %w", w.Key, err)
	}
	size += len(object)
	b := make([]byte, 0, size)
	b = append(b, `"_id":`...)
	b = appendString(b, doc.id)
	b = append(b, `,"~version":`...)
	b = appendString(b, encodeVersion(w.Version, w.Metadata))
	switch {
	case w.Delete:
		b = append(b, `,"_deleted":true`...)
	case object == nil:
		doc.attached = true
	case len(object) > len("{}"):
		b = append(b, ',')
		b = append(b, object[1:len(object)-1]...)
	}
	doc.members = b
	return doc, nil
}

// appendTo appends the whole document, with a revision if one is given.
func (d *outgoing) appendTo(b []byte, rev string) []byte {
	b = append(b, '{')
	if rev != "" {
		b = append(b, `"_rev":`...)
		b = appendString(b, rev)
		b = append(b, ',')
	}
	b = append(b, d.members...)
	if d.attached {
		b = append(b, attachmentBegin...)
		b = base64.StdEncoding.AppendEncode(b, d.write.Value)
		b = append(b, attachmentEnd...)
	}
	return append(b, '}')
}

func appendString(b []byte, s string) []byte {
	quoted, _ := json.Marshal(s) // a string has a JSON form
	return append(b, quoted...)
}

// jsonObject is the value of a write if it is to be kept as members of the
// document: what Go takes as a JSON object. Numbers go through double precision,
// as in the reference. It returns nil for a value that becomes an attachment.
func jsonObject(w *state.Write) ([]byte, error) {
	if w.Delete || !startsObject(w.Value) {
		return nil, nil
	}
	var members map[string]any
	if json.Unmarshal(w.Value, &members) != nil || members == nil {
		return nil, nil
	}
	if name, ok := reserved(members); ok {
		return nil, reservedError(name)
	}
	return json.Marshal(members)
}

// ReadBack is the form in which CouchDB gives a value back that was written (LEDGER
// §5.3). known is false if that is CouchDB's affair: it prints fractions in its own
// way.
func ReadBack(value []byte) (back []byte, known bool) {
	var members map[string]any
	if !startsObject(value) || json.Unmarshal(value, &members) != nil {
		return value, true
	}
	if _, ok := reserved(members); ok || !predictable(members) {
		return value, false
	}
	back, err := json.Marshal(members)
	return back, err == nil
}

// predictable tells whether all numbers in a value are printed by CouchDB as they
// are sent.
func predictable(v any) bool {
	switch v := v.(type) {
	case map[string]any:
		for _, member := range v {
			if !predictable(member) {
				return false
			}
		}
	case []any:
		return !slices.ContainsFunc(v, func(e any) bool { return !predictable(e) })
	case float64:
		return v == math.Trunc(v) && math.Abs(v) < 1e21 && !(v == 0 && math.Signbit(v))
	}
	return true
}

func startsObject(value []byte) bool {
	trimmed := bytes.TrimLeft(value, " \t\r\n")
	return len(trimmed) > 0 && trimmed[0] == '{'
}

// reserved finds a member that a value must not have: the first by name.
func reserved(members map[string]any) (string, bool) {
	var found []string
	for name := range members {
		if name == memberVersion || strings.HasPrefix(name, "_") {
			found = append(found, name)
		}
	}
	if found == nil {
		return "", false
	}
	return slices.Min(found), true
}

func reservedError(name string) error {
	return fmt.Errorf("field [%s] is not valid for the CouchDB state database", name)
}

// document is a document as it was read.
type document struct {
	id, rev string
	deleted bool
	// stub is set if the value is an attachment that did not come along.
	stub  bool
	value state.Value
}

// decodeDocument reads a document of JSON text. Its attachment, if it has one,
// may be in the text or among the parts of a multipart answer.
func decodeDocument(raw []byte, parts map[string][]byte) (*document, error) {
	d := &document{}
	var version *string
	var attachments []byte
	err := members(raw, func(name string, value []byte) (err error) {
		switch name {
		case memberID:
			d.id, err = unquote(value)
		case memberRev:
			d.rev, err = unquote(value)
		case memberDeleted:
			err = json.Unmarshal(value, &d.deleted)
		case memberVersion:
			err = json.Unmarshal(value, &version)
		case memberAttachments:
			attachments = value
		}
		return err
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("malformed document: %w", err)
	case d.deleted:
		return d, nil
	case version == nil:
		return nil, fmt.Errorf("document [%s]: %w: the member %s is missing", d.id, errVersion, memberVersion)
	}
	if d.value.Version, d.value.Metadata, err = decodeVersion(*version); err != nil {
		return nil, fmt.Errorf("document [%s]: %w", d.id, err)
	}
	if err := d.takeValue(raw, attachments, parts); err != nil {
		return nil, fmt.Errorf("document [%s]: %w", d.id, err)
	}
	return d, nil
}

// takeValue takes the attachment, or else the members that are the chaincode's.
func (d *document) takeValue(raw, attachments []byte, parts map[string][]byte) error {
	attachment, err := member(attachments, attachmentName)
	if err != nil {
		return fmt.Errorf("attachments: %w", err)
	}
	if startsObject(attachment) {
		return d.takeAttachment(attachment, parts)
	}
	var all map[string]any
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := dec.Decode(&all); err != nil {
		return fmt.Errorf("malformed document: %w", err)
	}
	for _, name := range []string{memberID, memberRev, memberVersion, memberAttachments} {
		delete(all, name)
	}
	d.value.Value, err = json.Marshal(all)
	return err
}

// member is one member of an object, nil if there is none or no object.
func member(object []byte, name string) (out []byte, err error) {
	if len(object) == 0 || object[0] != '{' {
		return nil, nil
	}
	err = members(object, func(n string, value []byte) error {
		if n == name {
			out = value
		}
		return nil
	})
	return out, err
}

func (d *document) takeAttachment(attachment []byte, parts map[string][]byte) error {
	data, err := member(attachment, "data")
	if err != nil {
		return fmt.Errorf("attachment: %w", err)
	}
	if len(data) > 0 && data[0] == '"' {
		d.value.Value, err = decodeData(data)
		return err
	}
	follows, err := member(attachment, "follows")
	if err != nil {
		return fmt.Errorf("attachment: %w", err)
	}
	if string(follows) == "true" && parts != nil {
		value, ok := parts[attachmentName]
		if !ok {
			return fmt.Errorf("attachment [%s] is missing in the answer", attachmentName)
		}
		d.value.Value = value
		return nil
	}
	d.stub = true
	return nil
}

// decodeData decodes the base64 in a string.
func decodeData(quoted []byte) ([]byte, error) {
	text := quoted
	if n := len(quoted); n >= 2 && quoted[0] == '"' && bytes.IndexByte(quoted, '\\') < 0 {
		text = quoted[1 : n-1]
	} else {
		plain, err := unquote(quoted)
		if err != nil {
			return nil, fmt.Errorf("attachment: %w", err)
		}
		text = []byte(plain)
	}
	out, err := base64.StdEncoding.AppendDecode(make([]byte, 0, base64.StdEncoding.DecodedLen(len(text))), text)
	if err != nil {
		return nil, fmt.Errorf("attachment: %w", err)
	}
	return out, nil
}

// versioned is what version checks and writes need of a document.
type versioned struct {
	rev     string
	version state.Version
}

// decodeVersioned reads revision and version only. Members are looked up by
// their exact names, which decoding into a struct would not do: a value may have
// a member ~VERSION.
func decodeVersioned(raw []byte) (versioned, error) {
	var v versioned
	var field *string
	err := members(raw, func(name string, value []byte) (err error) {
		switch name {
		case memberRev:
			v.rev, err = unquote(value)
		case memberVersion:
			err = json.Unmarshal(value, &field)
		}
		return err
	})
	if err != nil {
		return v, fmt.Errorf("malformed document: %w", err)
	}
	if field == nil {
		return v, fmt.Errorf("%w: the member %s is missing", errVersion, memberVersion)
	}
	v.version, _, err = decodeVersion(*field)
	return v, err
}

// mayHaveReserved tells whether a value may have a member that none must have. It
// takes less than decoding it.
func mayHaveReserved(value []byte) bool {
	found := false
	err := members(value, func(name string, _ []byte) error {
		found = found || name == memberVersion || len(name) > 0 && name[0] == '_'
		return nil
	})
	return found || err != nil
}

// checkWrite applies the rules for keys and values (LEDGER §5.4).
func checkWrite(key string, value []byte) error {
	switch {
	case !utf8.ValidString(key):
		return fmt.Errorf("invalid key [%x], must be a UTF-8 string", key)
	case strings.HasPrefix(key, "_"):
		return fmt.Errorf("invalid key [%s], cannot begin with \"_\"", key)
	case key == "":
		return fmt.Errorf("invalid key. Empty string is not supported as a key by couchdb")
	}
	if !startsObject(value) || !mayHaveReserved(value) {
		return nil
	}
	var object map[string]any
	if json.Unmarshal(value, &object) != nil {
		return nil
	}
	if name, ok := reserved(object); ok {
		return reservedError(name)
	}
	return nil
}
