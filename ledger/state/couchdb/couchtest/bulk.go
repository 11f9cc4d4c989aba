package couchtest

import (
	"encoding/json"
	"slices"
	"strconv"
)

func (c *call) bulkDocs() error {
	v, err := parse(c.body)
	if err != nil {
		return err
	}
	request, _ := v.(map[string]any)
	docs, isList := request["docs"].([]any)
	if !isList {
		return &refusal{400, "bad_request", "POST body must include `docs` parameter."}
	}
	results := make([]any, 0, len(docs))
	for _, v := range docs {
		members, isObject := v.(map[string]any)
		if !isObject {
			return &refusal{400, "bad_request", "Document must be a JSON object"}
		}
		id, rev, d, err := take(members)
		if err != nil {
			return err
		}
		switch err := c.db.update(id, rev, d).(type) {
		case nil:
			results = append(results, map[string]any{"ok": true, "id": id, "rev": d.rev()})
		case *refusal:
			results = append(results, map[string]any{"id": id, "error": err.code, "reason": err.reason})
		}
	}
	return c.answer(201, results)
}

func (c *call) allDocs() error {
	var request struct{ Keys *[]string }
	if len(c.body) > 0 {
		if err := json.Unmarshal(c.body, &request); err != nil {
			return &refusal{400, "bad_request", "malformed body"}
		}
	}
	var rows []any
	var err error
	if request.Keys != nil {
		for _, id := range *request.Keys {
			rows = append(rows, c.keyRow(id))
		}
	} else if rows, err = c.rangeRows(); err != nil {
		return err
	}
	if rows == nil {
		rows = []any{}
	}
	return c.answer(200, map[string]any{"total_rows": len(c.db.ids), "offset": 0, "rows": rows})
}

func (c *call) keyRow(id string) any {
	d := c.db.docs[id]
	if d == nil {
		return map[string]any{"key": id, "error": "not_found"}
	}
	if d.deleted {
		return map[string]any{"id": id, "key": id, "value": map[string]any{"rev": d.rev(), "deleted": true}, "doc": nil}
	}
	return c.row(id, d)
}

func (c *call) row(id string, d *doc) any {
	row := map[string]any{"id": id, "key": id, "value": map[string]any{"rev": d.rev()}}
	if c.query.Get("include_docs") == "true" {
		form := stubs
		if c.query.Get("attachments") == "true" {
			form = bodies
		}
		row["doc"] = d.members(id, form)
	}
	return row
}

func (c *call) rangeRows() ([]any, error) {
	start, hasStart, err := c.key("startkey")
	if err != nil {
		return nil, err
	}
	end, hasEnd, err := c.key("endkey")
	if err != nil {
		return nil, err
	}
	if hasStart && hasEnd && start > end {
		return nil, &refusal{400, "query_parse_error", "No rows can match your key range, reverse your start_key and end_key or set descending=true"}
	}
	limit := len(c.db.ids)
	if s := c.query.Get("limit"); s != "" {
		if limit, err = strconv.Atoi(s); err != nil || limit < 0 {
			return nil, &refusal{400, "query_parse_error", "Invalid value for integer parameter: limit"}
		}
	}
	from, _ := slices.BinarySearch(c.db.ids, start)
	var rows []any
	for _, id := range c.db.ids[from:] {
		if len(rows) >= limit || hasEnd && (id > end || id == end && c.query.Get("inclusive_end") == "false") {
			break
		}
		rows = append(rows, c.row(id, c.db.docs[id]))
	}
	return rows, nil
}

func (c *call) key(name string) (key string, ok bool, err error) {
	text := c.query.Get(name)
	if text == "" {
		return "", false, nil
	}
	if json.Unmarshal([]byte(text), &key) != nil {
		return "", false, &refusal{400, "bad_request", "invalid UTF-8 JSON"}
	}
	return key, true, nil
}
