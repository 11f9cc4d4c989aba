package couchtest

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
)

// indexDef is one Mango index.
type indexDef struct {
	Design string   `json:"ddoc"`
	Name   string   `json:"name"`
	Fields []string `json:"-"`
	Def    any      `json:"def"`
	Type   string   `json:"type"`
}

func (c *call) createIndex() error {
	v, err := parse(c.body)
	if err != nil {
		return err
	}
	request, _ := v.(map[string]any)
	def, isObject := request["index"].(map[string]any)
	if !isObject {
		return &refusal{400, "missing_required_key", "Missing required key: index"}
	}
	fields, err := sortFields(def["fields"])
	if err != nil || len(fields) == 0 {
		return &refusal{400, "invalid_index", "fields must be a non-empty array"}
	}
	sum := fmt.Sprintf("%08x", crc32.ChecksumIEEE(c.body))
	i := indexDef{Design: "_design/" + sum, Name: sum, Def: def, Type: "json"}
	if s, ok := request["ddoc"].(string); ok && s != "" {
		i.Design = "_design/" + strings.TrimPrefix(s, "_design/")
	}
	if s, ok := request["name"].(string); ok && s != "" {
		i.Name = s
	}
	for _, f := range fields {
		i.Fields = append(i.Fields, f.name)
	}
	result := "created"
	at := slices.IndexFunc(c.db.indexes, func(o indexDef) bool { return o.Design == i.Design && o.Name == i.Name })
	if at >= 0 {
		result = "exists"
	} else {
		c.db.indexes = append(c.db.indexes, i)
		d := &doc{number: 1, body: map[string]any{"language": "query", "views": map[string]any{i.Name: def}}}
		if now := c.db.docs[i.Design]; now != nil {
			d.number = now.number + 1
		}
		c.db.store(i.Design, d)
	}
	return c.answer(200, map[string]string{"result": result, "id": i.Design, "name": i.Name})
}

func (c *call) listIndexes() error {
	list := []any{map[string]any{"ddoc": nil, "name": "_all_docs", "type": "special", "def": map[string]any{"fields": []any{map[string]any{"_id": "asc"}}}}}
	for _, i := range c.db.indexes {
		list = append(list, i)
	}
	return c.answer(200, map[string]any{"total_rows": len(list), "indexes": list})
}

func (c *call) view(design, name string) error {
	known := slices.ContainsFunc(c.db.indexes, func(i indexDef) bool { return i.Design == "_design/"+design && i.Name == name })
	if !known {
		return &refusal{404, "not_found", "missing_named_view"}
	}
	return c.answer(200, map[string]any{"total_rows": 0, "offset": 0, "rows": []any{}})
}

type sortField struct {
	name string
	desc bool
}

func sortFields(v any) ([]sortField, error) {
	if v == nil {
		return nil, nil
	}
	list, isList := v.([]any)
	if !isList {
		return nil, &refusal{400, "invalid_sort_json", "sort must be an array"}
	}
	var out []sortField
	for _, e := range list {
		switch e := e.(type) {
		case string:
			out = append(out, sortField{name: e})
		case map[string]any:
			for name, dir := range e {
				if dir != "asc" && dir != "desc" {
					return nil, &refusal{400, "invalid_sort_json", "bad direction"}
				}
				out = append(out, sortField{name, dir == "desc"})
			}
		default:
			return nil, &refusal{400, "invalid_sort_json", "bad field"}
		}
	}
	return out, nil
}

// hit is a document that a query finds.
type hit struct {
	id      string
	members map[string]any
	sort    []any
}

// mark is the content of a bookmark: the place of the last result.
type mark struct {
	ID   string
	Sort []any
}

func (c *call) find() error {
	v, err := parse(c.body)
	if err != nil {
		return err
	}
	query, _ := v.(map[string]any)
	selector, isObject := query["selector"].(map[string]any)
	if !isObject {
		return &refusal{400, "missing_required_key", "Missing required key: selector"}
	}
	order, err := sortFields(query["sort"])
	if err != nil {
		return err
	}
	if err := c.sortable(order); err != nil {
		return err
	}
	hits, err := c.hits(selector, order)
	if err != nil {
		return err
	}
	if hits, err = after(hits, order, query["bookmark"]); err != nil {
		return err
	}
	skip, limit := integer(query["skip"], 0), integer(query["limit"], 25)
	hits = hits[min(skip, len(hits)):]
	hits = hits[:min(limit, len(hits))]
	bookmark, given := query["bookmark"].(string) // if nothing is found it stays where it was
	if !given || bookmark == "" {
		bookmark = "nil"
	}
	docs := make([]any, len(hits))
	for i, h := range hits {
		docs[i] = project(h.members, query["fields"])
		raw, _ := json.Marshal(mark{h.id, h.sort})
		bookmark = base64.URLEncoding.EncodeToString(raw)
	}
	return c.answer(200, map[string]any{"docs": docs, "bookmark": bookmark})
}

// sortable tells whether an index gives the order.
func (c *call) sortable(order []sortField) error {
	if len(order) == 0 || len(order) == 1 && order[0].name == "_id" {
		return nil
	}
	for _, i := range c.db.indexes {
		fits := len(i.Fields) >= len(order)
		for k := 0; fits && k < len(order); k++ {
			fits = i.Fields[k] == order[k].name
		}
		if fits {
			return nil
		}
	}
	return &refusal{400, "no_usable_index", "No index exists for this sort, try indexing by the sort fields."}
}

func (c *call) hits(selector map[string]any, order []sortField) ([]hit, error) {
	var out []hit
	for _, id := range c.db.ids {
		if strings.HasPrefix(id, "_design/") {
			continue
		}
		members := c.db.docs[id].members(id, stubs)
		ok, err := matches(selector, members)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		h := hit{id: id, members: members}
		complete := true
		for _, f := range order {
			v, ok := field(members, f.name)
			complete = complete && ok
			h.sort = append(h.sort, v)
		}
		if complete { // an index has only documents with all its fields
			out = append(out, h)
		}
	}
	slices.SortFunc(out, func(a, b hit) int { return compareHits(a, b, order) })
	return out, nil
}

func compareHits(a, b hit, order []sortField) int {
	for i, f := range order {
		n := compare(a.sort[i], b.sort[i])
		if f.desc {
			n = -n
		}
		if n != 0 {
			return n
		}
	}
	n := cmp.Compare(a.id, b.id)
	if len(order) > 0 && order[0].desc {
		n = -n
	}
	return n
}

// after leaves out what a bookmark has behind it.
func after(hits []hit, order []sortField, bookmark any) ([]hit, error) {
	text, _ := bookmark.(string)
	if text == "" || text == "nil" {
		return hits, nil
	}
	var m mark
	raw, err := base64.URLEncoding.DecodeString(text)
	if err == nil {
		dec := json.NewDecoder(strings.NewReader(string(raw)))
		dec.UseNumber()
		err = dec.Decode(&m)
	}
	if err != nil || len(m.Sort) != len(order) {
		return nil, &refusal{400, "invalid_bookmark", fmt.Sprintf("Invalid bookmark value: %q", text)}
	}
	at := hit{id: m.ID, sort: m.Sort}
	return slices.DeleteFunc(hits, func(h hit) bool { return compareHits(h, at, order) <= 0 }), nil
}

func integer(v any, otherwise int) int {
	n, isNumber := v.(json.Number)
	if !isNumber {
		return otherwise
	}
	i, err := n.Int64()
	if err != nil || i < 0 {
		return otherwise
	}
	return int(i)
}

func project(members map[string]any, fields any) map[string]any {
	list, isList := fields.([]any)
	if !isList || len(list) == 0 {
		return members
	}
	out := map[string]any{}
	for _, f := range list {
		name, _ := f.(string)
		if v, ok := field(members, name); ok {
			put(out, strings.Split(name, "."), v)
		}
	}
	return out
}

func put(into map[string]any, path []string, v any) {
	if len(path) == 1 {
		into[path[0]] = v
		return
	}
	next, isObject := into[path[0]].(map[string]any)
	if !isObject {
		next = map[string]any{}
		into[path[0]] = next
	}
	put(next, path[1:], v)
}
