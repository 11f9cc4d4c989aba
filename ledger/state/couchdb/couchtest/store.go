package couchtest

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// store is one database.
type store struct {
	docs     map[string]*doc // deleted ones included
	ids      []string        // of those that are not deleted, sorted
	security json.RawMessage
	indexes  []indexDef
}

func newStore() *store {
	return &store{docs: map[string]*doc{}, security: json.RawMessage(`{"members":{"roles":["_admin"]},"admins":{"roles":["_admin"]}}`)}
}

// doc is the winning revision of a document.
type doc struct {
	number  int
	hash    string
	deleted bool
	body    map[string]any // members that do not begin with an underscore
	atts    map[string]attachment
}

type attachment struct {
	contentType string
	data        []byte
	revpos      int
}

func (d *doc) rev() string { return fmt.Sprintf("%d-%s", d.number, d.hash) }

// refusal is an error as CouchDB puts it.
type refusal struct {
	status       int
	code, reason string
}

func (r *refusal) Error() string { return r.code + ": " + r.reason }

var errConflict = &refusal{409, "conflict", "Document update conflict."}

// parse decodes JSON, keeping the texts of integers as CouchDB does.
func parse(raw []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, &refusal{400, "bad_request", "invalid UTF-8 JSON"}
	}
	return normal(v), nil
}

// normal prints fractional numbers the way Erlang does.
func normal(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = normal(v[k])
		}
	case []any:
		for i := range v {
			v[i] = normal(v[i])
		}
	case json.Number:
		if !strings.ContainsAny(string(v), ".eE") {
			return v
		}
		f, err := v.Float64()
		if err != nil {
			return v
		}
		s := strconv.FormatFloat(f, 'g', -1, 64)
		mantissa, exponent, ok := strings.Cut(s, "e")
		if !strings.Contains(mantissa, ".") {
			mantissa += ".0"
		}
		if ok {
			mantissa += "e" + strings.TrimPrefix(exponent, "+")
		}
		return json.Number(mantissa)
	}
	return v
}

// take makes a revision of the members of a document that a client sent.
func take(members map[string]any) (id, rev string, d *doc, err error) {
	d = &doc{body: map[string]any{}}
	for name, v := range members {
		if !strings.HasPrefix(name, "_") {
			d.body[name] = v
			continue
		}
		ok := true
		switch name {
		case "_id":
			id, ok = v.(string)
		case "_rev":
			rev, ok = v.(string)
		case "_deleted":
			d.deleted, ok = v.(bool)
		case "_attachments":
			d.atts, err = takeAttachments(v)
		default:
			return "", "", nil, &refusal{400, "doc_validation", "Bad special document member: " + name}
		}
		if !ok {
			return "", "", nil, &refusal{400, "bad_request", "malformed member " + name}
		}
		if err != nil {
			return "", "", nil, err
		}
	}
	return id, rev, d, nil
}

func takeAttachments(v any) (map[string]attachment, error) {
	all, ok := v.(map[string]any)
	if !ok {
		return nil, &refusal{400, "bad_request", "malformed attachments"}
	}
	out := map[string]attachment{}
	for name, v := range all {
		a, _ := v.(map[string]any)
		text, ok := a["data"].(string)
		if !ok {
			return nil, &refusal{412, "missing_stub", "attachments are to be inline"}
		}
		data, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil, &refusal{400, "bad_request", "malformed base64"}
		}
		kind, _ := a["content_type"].(string)
		out[name] = attachment{contentType: kind, data: data}
	}
	return out, nil
}

func checkID(id string) error {
	switch {
	case id == "":
		return &refusal{400, "illegal_docid", "Document id must not be empty"}
	case strings.HasPrefix(id, "_") && !strings.HasPrefix(id, "_design/") && !strings.HasPrefix(id, "_local/"):
		return &refusal{400, "illegal_docid", "Only reserved document ids may start with underscore."}
	}
	return nil
}

// update writes a revision over rev.
func (s *store) update(id, rev string, d *doc) error {
	if err := checkID(id); err != nil {
		return err
	}
	now := s.docs[id]
	switch {
	case now == nil && rev != "", now != nil && !now.deleted && rev != now.rev(), now != nil && now.deleted && rev != "" && rev != now.rev():
		return errConflict
	}
	d.number = 1
	if now != nil {
		d.number = now.number + 1
	}
	s.store(id, d)
	return nil
}

func (s *store) store(id string, d *doc) {
	text, _ := json.Marshal(d.body)
	for _, name := range slices.Sorted(maps.Keys(d.atts)) {
		a := d.atts[name]
		a.revpos = d.number
		d.atts[name] = a
		text = append(text, a.data...)
	}
	d.hash = fmt.Sprintf("%x", md5.Sum(fmt.Appendf(text, "%d %v %s", d.number, d.deleted, id)))
	s.docs[id] = d
	i, found := slices.BinarySearch(s.ids, id)
	switch {
	case found && d.deleted:
		s.ids = slices.Delete(s.ids, i, i+1)
	case !found && !d.deleted:
		s.ids = slices.Insert(s.ids, i, id)
	}
}

// The forms in which attachments stand in a document.
const (
	stubs = iota
	bodies
	following
)

// members is the document as a client gets it.
func (d *doc) members(id string, form int) map[string]any {
	out := maps.Clone(d.body)
	if out == nil {
		out = map[string]any{}
	}
	out["_id"], out["_rev"] = id, d.rev()
	if d.deleted {
		out["_deleted"] = true
	}
	if len(d.atts) == 0 {
		return out
	}
	atts := map[string]any{}
	for name, a := range d.atts {
		sum := md5.Sum(a.data)
		m := map[string]any{
			"content_type": a.contentType, "revpos": a.revpos,
			"digest": "md5-" + base64.StdEncoding.EncodeToString(sum[:]),
		}
		switch form {
		case stubs:
			m["stub"], m["length"] = true, len(a.data)
		case following:
			m["follows"], m["length"] = true, len(a.data)
		case bodies:
			m["data"] = base64.StdEncoding.EncodeToString(a.data)
		}
		atts[name] = m
	}
	out["_attachments"] = atts
	return out
}
