package couchdb

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/heddle-ledger/heddle/ledger/state"
)

// outgoing is a document to be written.
type outgoing struct {
	key     string
	id      string
	members []byte // of the JSON object, without braces and without _rev
	write   *state.Write
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
	if object != nil {
		size += len(object)
	} else {
		size += base64.StdEncoding.EncodedLen(len(w.Value)) + 96
	}
	b := make([]byte, 0, size)
	b = append(b, `"_id":`...)
	b = appendString(b, doc.id)
	b = append(b, `,"~version":`...)
	b = appendString(b, encodeVersion(w.Version, w.Metadata))
	switch {
	case w.Delete:
		b = append(b, `,"_deleted":true`...)
	case object == nil:
		b = append(b, `,"_attachments":{"`+attachmentName+`":{"content_type":"`+attachmentType+`","data":"`...)
		b = base64.StdEncoding.AppendEncode(b, w.Value)
		b = append(b, `"}}`...)
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
	var members map[string]any
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := dec.Decode(&members); err != nil {
		return nil, fmt.Errorf("malformed document: %w", err)
	}
	if members == nil {
		return nil, fmt.Errorf("malformed document: no JSON object")
	}
	d := &document{}
	d.id, _ = members[memberID].(string)
	d.rev, _ = members[memberRev].(string)
	d.deleted, _ = members[memberDeleted].(bool)
	if d.deleted {
		return d, nil
	}
	version, ok := members[memberVersion].(string)
	if !ok {
		return nil, fmt.Errorf("document [%s]: %w: the member %s is missing", d.id, errVersion, memberVersion)
	}
	var err error
	if d.value.Version, d.value.Metadata, err = decodeVersion(version); err != nil {
		return nil, fmt.Errorf("document [%s]: %w", d.id, err)
	}
	if err := d.takeValue(members, parts); err != nil {
		return nil, fmt.Errorf("document [%s]: %w", d.id, err)
	}
	return d, nil
}

func (d *document) takeValue(members map[string]any, parts map[string][]byte) error {
	attachments, _ := members[memberAttachments].(map[string]any)
	if attachment, ok := attachments[attachmentName].(map[string]any); ok {
		return d.takeAttachment(attachment, parts)
	}
	for _, name := range []string{memberID, memberRev, memberVersion, memberAttachments} {
		delete(members, name)
	}
	var err error
	d.value.Value, err = json.Marshal(members)
	return err
}

func (d *document) takeAttachment(attachment map[string]any, parts map[string][]byte) error {
	if data, ok := attachment["data"].(string); ok {
		var err error
		if d.value.Value, err = base64.StdEncoding.AppendDecode([]byte{}, []byte(data)); err != nil {
			return fmt.Errorf("attachment: %w", err)
		}
		return nil
	}
	if follows, _ := attachment["follows"].(bool); follows && parts != nil {
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

// versioned is what version checks and writes need of a document.
type versioned struct {
	rev     string
	version state.Version
}

// decodeVersioned reads revision and version only. Members are looked up by
// their exact names, which decoding into a struct would not do: a value may have
// a member ~VERSION.
func decodeVersioned(raw []byte) (versioned, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(raw, &members); err != nil {
		return versioned{}, fmt.Errorf("malformed document: %w", err)
	}
	var v versioned
	var field *string
	if err := json.Unmarshal(orNull(members[memberRev]), &v.rev); err != nil {
		return v, fmt.Errorf("malformed document: revision: %w", err)
	}
	if err := json.Unmarshal(orNull(members[memberVersion]), &field); err != nil {
		return v, fmt.Errorf("%w: %w", errVersion, err)
	}
	if field == nil {
		return v, fmt.Errorf("%w: the member %s is missing", errVersion, memberVersion)
	}
	var err error
	v.version, _, err = decodeVersion(*field)
	return v, err
}

func orNull(raw json.RawMessage) json.RawMessage {
	if raw == nil {
		return json.RawMessage("null")
	}
	return raw
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
	if !startsObject(value) {
		return nil
	}
	var members map[string]any
	if json.Unmarshal(value, &members) != nil {
		return nil
	}
	if name, ok := reserved(members); ok {
		return reservedError(name)
	}
	return nil
}
