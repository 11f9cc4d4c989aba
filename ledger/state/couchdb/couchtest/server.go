package couchtest

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var databaseName = regexp.MustCompile(`^(_users|_replicator|_global_changes|[a-z][a-z0-9_$()+/-]*)$`)

// call is one request on its way.
type call struct {
	f     *Fake
	w     http.ResponseWriter
	r     *http.Request
	query url.Values
	body  []byte
	db    *store
	name  string
}

// ServeHTTP implements http.Handler.
func (f *Fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if f.Intercept != nil && f.Intercept(w, r) {
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	c := &call{f: f, w: w, r: r, query: r.URL.Query(), body: body}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := c.serve(); err != nil {
		var refused *refusal
		if !errors.As(err, &refused) {
			refused = &refusal{500, "internal_server_error", err.Error()}
		}
		c.answer(refused.status, map[string]string{"error": refused.code, "reason": refused.reason})
	}
}

func (c *call) answer(status int, v any) error {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	c.w.Header().Set("Content-Type", "application/json")
	c.w.Header().Set("Content-Length", strconv.Itoa(buf.Len()))
	c.w.WriteHeader(status)
	_, err := c.w.Write(buf.Bytes())
	return err
}

func ok() map[string]any { return map[string]any{"ok": true} }

func (c *call) serve() error {
	if c.f.Username != "" {
		if user, pass, _ := c.r.BasicAuth(); user != c.f.Username || pass != c.f.Password {
			return &refusal{401, "unauthorized", "Name or password is incorrect."}
		}
	}
	var path []string
	for _, p := range strings.Split(strings.TrimPrefix(c.r.URL.EscapedPath(), "/"), "/") {
		p, err := url.PathUnescape(p)
		if err != nil {
			return &refusal{400, "bad_request", "malformed path"}
		}
		path = append(path, p)
	}
	switch {
	case path[0] == "":
		return c.answer(200, map[string]any{"couchdb": "Welcome", "version": c.f.Version, "vendor": map[string]string{"name": "test"}})
	case path[0] == "_all_dbs":
		return c.answer(200, slices.Sorted(maps.Keys(c.f.dbs)))
	}
	c.name = path[0]
	if !databaseName.MatchString(c.name) {
		return &refusal{400, "illegal_database_name", "Name: '" + c.name + "'. Only lowercase characters (a-z), digits (0-9), and any of the characters _, $, (, ), +, -, and / are allowed. Must begin with a letter."}
	}
	c.db = c.f.dbs[c.name]
	if len(path) == 1 || len(path) == 2 && path[1] == "" {
		return c.database()
	}
	if c.db == nil {
		return &refusal{404, "not_found", "Database does not exist."}
	}
	return c.within(path[1:])
}

func (c *call) database() error {
	switch {
	case c.r.Method == http.MethodPut && c.db != nil:
		return &refusal{412, "file_exists", "The database could not be created, the file already exists."}
	case c.r.Method == http.MethodPut:
		c.f.dbs[c.name] = newStore()
		return c.answer(201, ok())
	case c.db == nil:
		return &refusal{404, "not_found", "Database does not exist."}
	case c.r.Method == http.MethodDelete:
		delete(c.f.dbs, c.name)
		return c.answer(200, ok())
	}
	return c.answer(200, map[string]any{"db_name": c.name, "doc_count": len(c.db.ids)})
}

func (c *call) within(path []string) error {
	post := c.r.Method == http.MethodPost
	switch {
	case path[0] == "_security" && c.r.Method == http.MethodPut:
		c.db.security = c.body
		return c.answer(200, ok())
	case path[0] == "_security":
		return c.answer(200, c.db.security)
	case path[0] == "_ensure_full_commit" && post && !c.f.NoFullCommit:
		return c.answer(201, map[string]any{"ok": true, "instance_start_time": "0"})
	case path[0] == "_all_docs":
		return c.allDocs()
	case path[0] == "_bulk_docs" && post:
		return c.bulkDocs()
	case path[0] == "_find" && post:
		return c.find()
	case path[0] == "_index" && post:
		return c.createIndex()
	case path[0] == "_index":
		return c.listIndexes()
	case path[0] == "_design" && len(path) == 4 && path[2] == "_view":
		return c.view(path[1], path[3])
	case path[0] == "_design" && len(path) == 3 && path[2] == "_info":
		pending := map[string]int{"minimum": c.f.Pending, "preferred": 0, "total": c.f.Pending}
		return c.answer(200, map[string]any{"name": path[1], "view_index": map[string]any{"updates_pending": pending}})
	case path[0] == "_design" && len(path) == 2:
		return c.document("_design/" + path[1])
	case len(path) == 1 && !strings.HasPrefix(path[0], "_"):
		return c.document(path[0])
	}
	return &refusal{404, "not_found", "missing"}
}

func (c *call) document(id string) error {
	now := c.db.docs[id]
	switch c.r.Method {
	case http.MethodGet, http.MethodHead:
		if now == nil || now.deleted {
			reason := "missing"
			if now != nil {
				reason = "deleted"
			}
			return &refusal{404, "not_found", reason}
		}
		c.w.Header().Set("ETag", `"`+now.rev()+`"`)
		if c.query.Get("attachments") != "true" {
			return c.answer(200, now.members(id, stubs))
		}
		if len(now.atts) > 0 && !c.f.Inline && strings.Contains(c.r.Header.Get("Accept"), "multipart/related") {
			return c.parts(id, now)
		}
		return c.answer(200, now.members(id, bodies))
	case http.MethodPut, http.MethodDelete:
		return c.save(id)
	}
	return &refusal{405, "method_not_allowed", "Only DELETE,GET,HEAD,PUT,COPY allowed"}
}

func (c *call) save(id string) error {
	members := map[string]any{}
	if c.r.Method == http.MethodPut {
		v, err := parse(c.body)
		if err != nil {
			return err
		}
		var isObject bool
		if members, isObject = v.(map[string]any); !isObject {
			return &refusal{400, "bad_request", "Document must be a JSON object"}
		}
	}
	_, rev, d, err := take(members)
	if err != nil {
		return err
	}
	if q := c.query.Get("rev"); q != "" {
		rev = q
	}
	if h := strings.Trim(c.r.Header.Get("If-Match"), `"`); h != "" {
		rev = h
	}
	if c.r.Method == http.MethodDelete {
		d.deleted = true
		if now := c.db.docs[id]; now == nil || now.deleted {
			return &refusal{404, "not_found", "missing"}
		}
	}
	if err := c.db.update(id, rev, d); err != nil {
		return err
	}
	status := 201
	if d.deleted {
		status = 200
	}
	return c.answer(status, map[string]any{"ok": true, "id": id, "rev": d.rev()})
}

// parts answers with a document and its attachments.
func (c *call) parts(id string, d *doc) error {
	var buf bytes.Buffer
	mw := multipart.NewWriter(&buf)
	text, err := json.Marshal(d.members(id, following))
	if err != nil {
		return err
	}
	part, err := mw.CreatePart(textproto.MIMEHeader{"Content-Type": {"application/json"}})
	if err != nil {
		return err
	}
	part.Write(text)
	for name, a := range d.atts {
		header := textproto.MIMEHeader{
			"Content-Disposition": {fmt.Sprintf("attachment; filename=%q", name)},
			"Content-Type":        {a.contentType},
		}
		data := a.data
		if c.f.Gzip {
			var zipped bytes.Buffer
			zip := gzip.NewWriter(&zipped)
			zip.Write(data)
			zip.Close()
			data = zipped.Bytes()
			header.Set("Content-Encoding", "gzip")
		}
		header.Set("Content-Length", strconv.Itoa(len(data)))
		part, err := mw.CreatePart(header)
		if err != nil {
			return err
		}
		part.Write(data)
	}
	mw.Close()
	c.w.Header().Set("Content-Type", "multipart/related; boundary="+strconv.Quote(mw.Boundary()))
	c.w.WriteHeader(200)
	_, err = c.w.Write(buf.Bytes())
	return err
}
