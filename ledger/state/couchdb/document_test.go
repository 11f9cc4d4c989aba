package couchdb

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heddle-ledger/heddle/ledger/state"
	"github.com/heddle-ledger/heddle/ledger/state/couchdb/couchtest"
)

// roundTrip encodes a value and decodes the document as a server would send it.
func roundTrip(t *testing.T, value string) string {
	t.Helper()
	w := state.Write{Key: "k", Value: []byte(value), Metadata: []byte("m"), Version: state.Version{Block: 300, Tx: 7}}
	out, err := encodeDocument("cc", &w)
	if err != nil {
		t.Fatalf("%s: %v", value, err)
	}
	raw := out.appendTo(nil, "1-x")
	doc, err := decodeDocument(raw, nil)
	if err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	if doc.id != "k" || doc.rev != "1-x" || doc.value.Version != w.Version || string(doc.value.Metadata) != "m" {
		t.Errorf("%s: %+v", raw, doc)
	}
	v, err := decodeVersioned(raw)
	if err != nil || v.rev != "1-x" || v.version != w.Version {
		t.Errorf("%s: %+v, %v", raw, v, err)
	}
	return string(doc.value.Value)
}

func TestValues(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat(`{"a":`, 20000) + "1" + strings.Repeat("}", 20000)
	for value, want := range map[string]string{
		// JSON objects: kept as members
		`{}`:                              `{}`,
		" {\n\"b\" : 1, \"a\" : [ 2 ] } ": `{"a":[2],"b":1}`,
		`{"n":12345678901234567890}`:      `{"n":12345678901234567000}`,
		`{"n":1e21,"m":1e-7,"k":0.10}`:    `{"k":0.1,"m":1e-7,"n":1e+21}`,
		`{"n":-0}`:                        `{"n":-0}`,
		`{"t":"<&>\u2028é"}`:              `{"t":"\u003c\u0026\u003e\u2028é"}`,
		`{"a":1,"a":2}`:                   `{"a":2}`,
		"{\"a\":\"\xff\"}":                "{\"a\":\"\ufffd\"}",
		`{"":1}`:                          `{"":1}`,
		`{"~VERSION":"x","~Version":1}`:   `{"~VERSION":"x","~Version":1}`,
		`{"sub":{"_id":1,"~version":2}}`:  `{"sub":{"_id":1,"~version":2}}`,
		// anything else: an attachment, byte for byte
		`null`: `null`, ` [1]`: ` [1]`, `"x"`: `"x"`, `12`: `12`, ``: ``, `{`: `{`, `{"a":1}}`: `{"a":1}}`, `{"a":1e999}`: `{"a":1e999}`,
		"\x00\xff": "\x00\xff", `{'a':1}`: `{'a':1}`, "\ufeff{}": "\ufeff{}", deep: deep,
	} {
		if got := roundTrip(t, value); got != want {
			t.Errorf("%.100q came back as %.100q", value, got)
		}
	}
}

func TestForbiddenWrites(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ key, value, want string }{
		{"k", `{"a":1}`, ""},
		{"k", ``, ""},
		{"k", `{"_id"`, ""},
		{"k", `["_id"]`, ""},
		{"k", `{"x":{"_id":1}}`, ""},
		{"~version", "v", ""},
		{"\xff\xfe", "v", "invalid key [fffe], must be a UTF-8 string"},
		{"_x", "v", `invalid key [_x], cannot begin with "_"`},
		{"", "v", "invalid key. Empty string is not supported as a key by couchdb"},
		{"k", `{"_id":1}`, "field [_id] is not valid for the CouchDB state database"},
		{"k", ` {"~version":1,"z":2}`, "field [~version] is not valid for the CouchDB state database"},
		{"k", `{"b":1,"_b":1,"_a":1}`, "field [_a] is not valid for the CouchDB state database"},
	} {
		err := (*DB)(nil).CheckWrite(c.key, []byte(c.value))
		if got := text(err); got != c.want {
			t.Errorf("%q %s: %s", c.key, c.value, got)
		}
		_, err = encodeDocument("cc", &state.Write{Key: c.key, Value: []byte(c.value)})
		if c.key != "\xff\xfe" && (err != nil) != (c.want != "") {
			t.Errorf("%q %s: written, %v", c.key, c.value, err)
		}
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestVersions(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]state.Version{
		"5:7": {Block: 5, Tx: 7}, "0:0": {}, "18446744073709551615:1": {Block: 1<<64 - 1, Tx: 1},
		"\x00CgIAAA==": {}, "\x00CgMBAQA=": {Block: 1},
		"\x00CgMBAgASHRIbChRWQUxJREFUSU9OX1BBUkFNRVRFUhIDcG9s": {Block: 2},
	} {
		if got, _, err := decodeVersion(text); err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "5", ":", "5:", "-1:0", "1:2:3", "\x00", "\x00!", "\x00CgI", "\x00/////w==", "\x00CgMJAQA="} {
		if v, _, err := decodeVersion(text); err == nil {
			t.Errorf("%q: %v", text, v)
		}
	}
	if got := encodeVersion(state.Version{Block: 1}, nil); got != "\x00CgMBAQA=" {
		t.Errorf("%q", got)
	}
}

func TestMalformedDocuments(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{
		``, `null`, `[]`, `{`, `"x"`, `{"_id":"k"}`, `{"_id":"k","~version":1}`, `{"_id":"k","~version":"x"}`,
		`{"_id":"k","~VERSION":"1:2"}`,
		`{"_id":"k","~version":"1:2","_attachments":{"valueBytes":{"data":"!"}}}`,
	} {
		if doc, err := decodeDocument([]byte(raw), nil); err == nil {
			t.Errorf("%s: %+v", raw, doc)
		}
		if v, err := decodeVersioned([]byte(raw)); err == nil && !strings.Contains(raw, "!") {
			t.Errorf("%s: %+v", raw, v)
		}
	}
	doc, err := decodeDocument([]byte(`{"_id":"k","~version":"1:2","_attachments":{"valueBytes":{"stub":true}},"a":1}`), nil)
	if err != nil || !doc.stub {
		t.Errorf("%+v, %v", doc, err)
	}
	// Attachments that are not ours do not make a value.
	doc, err = decodeDocument([]byte(`{"_id":"k","~version":"1:2","_attachments":{"other":{"data":"eA=="}},"a":1}`), nil)
	if err != nil || string(doc.value.Value) != `{"a":1}` {
		t.Errorf("%+v, %v", doc, err)
	}
}

func FuzzDecodeDocument(f *testing.F) {
	f.Add([]byte(`{"_id":"k","_rev":"1-x","~version":"\u0000CgMBAQA=","a":{"b":[1,null]}}`))
	f.Add([]byte(`{"_id":"k","_rev":"1-x","~version":"3:4","_attachments":{"valueBytes":{"data":"eA=="}}}`))
	f.Add([]byte(`{"_id":"k","_deleted":true}`))
	f.Add([]byte(`{"~version":"1:1","n":1e400}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		doc, err := decodeDocument(raw, nil)
		v, verr := decodeVersioned(raw)
		if err == nil && !doc.deleted && verr == nil && v.version != doc.value.Version {
			t.Errorf("versions %v and %v", v.version, doc.value.Version)
		}
		if err == nil && doc.value.Value != nil && !strings.Contains(string(raw), memberAttachments) && !json.Valid(doc.value.Value) {
			t.Errorf("value %q", doc.value.Value)
		}
	})
}

func FuzzDecodeVersion(f *testing.F) {
	for _, s := range []string{"1:2", "\x00CgMBAQA=", "\x00CgMBAgASHRIb", ":", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, metadata, err := decodeVersion(s)
		if err != nil {
			return
		}
		again, m, err := decodeVersion(encodeVersion(v, metadata))
		if err != nil || again != v || string(m) != string(metadata) {
			t.Errorf("%v became %v, %v", v, again, err)
		}
	})
}

// FuzzWrite: whatever is accepted comes back as the same JSON or the same bytes.
func FuzzWrite(f *testing.F) {
	for _, s := range []string{`{"a":1}`, `{"a":1e999}`, `x`, `{"_a":1}`, "{\"\xff\":1}", `{"a":{"b":"<"}}`} {
		f.Add("k", []byte(s))
	}
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		w := state.Write{Key: key, Value: value, Version: state.Version{Block: 1}}
		out, err := encodeDocument("cc", &w)
		if err != nil {
			if checkWrite(key, value) == nil {
				t.Errorf("accepted, but not written: %v", err)
			}
			return
		}
		doc, err := decodeDocument(out.appendTo(nil, ""), nil)
		if err != nil {
			t.Fatal(err)
		}
		if checkWrite(key, value) == nil && doc.id != key {
			t.Errorf("key %q became %q", key, doc.id)
		}
		if string(doc.value.Value) == string(value) {
			return
		}
		second, err := encodeDocument("cc", &state.Write{Key: key, Value: doc.value.Value, Version: state.Version{Block: 1}})
		if err != nil || string(second.members) != string(out.members) {
			t.Errorf("%s became %s, %v", out.members, second.members, err)
		}
	})
}

// FuzzAnswer has a hostile server answer everything with the same bytes.
func FuzzAnswer(f *testing.F) {
	f.Add("application/json", []byte(`{"rows":[{"key":"k","id":"k","doc":{"~version":"1:1"}}],"docs":[],"version":"3.0"}`))
	f.Add("application/json", []byte(`[{"id":"k","rev":"1-x"}]`))
	f.Add("multipart/related; boundary=b", []byte("--b\r\n\r\n{\"~version\":\"1:1\",\"_attachments\":{\"valueBytes\":{\"follows\":true}}}\r\n--b\r\nContent-Encoding: gzip\r\n\r\nx\r\n--b--"))
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		db := openHostile(t, 200, contentType, body)
		useAll(db)
	})
}

// FuzzDecodeAlike: documents are what they are to encoding/json.
func FuzzDecodeAlike(f *testing.F) {
	for _, text := range []string{
		`{"_id":"k","_rev":"1-x","~version":"1:2","b":1.50,"a":[{"z":"<"},null]}`,
		`{"_id":"k","~version":"1:2","_attachments":{"valueBytes":{"data":"aGk="},"other":{"data":"eA=="}},"x":1}`,
		`{"_id":"k","~version":"1:2","_attachments":{"valueBytes":{"data":"aG\/p"}}}`,
		`{"_id":"k","~version":"1:2","_attachments":{"valueBytes":{"stub":true,"data":null}}}`,
		`{"_id":"k","~version":"1:2","_deleted":true}`, `{"_deleted":false,"~version":"\u0000CgMBAgA="}`, `{"~VERSION":"1:2"}`, `{"\u007eversion":"3:4","a":1,"a":2}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		want := generic(raw)
		got, err := decodeDocument(raw, nil)
		if want == nil { // what is passed over need not be JSON
			return
		}
		if err != nil {
			t.Fatalf("%q: %v", raw, err)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(document{})); diff != "" {
			t.Errorf("%q: %s", raw, diff)
		}
		if v, err := decodeVersioned(raw); !want.deleted && (err != nil || v.rev != want.rev || v.version != want.value.Version) {
			t.Errorf("%q: %+v, %v", raw, v, err)
		}
	})
}

// generic decodes a document without any haste; nil if it is none.
func generic(raw []byte) *document {
	var all map[string]any
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if !json.Valid(raw) || dec.Decode(&all) != nil || all == nil {
		return nil
	}
	d, ok := &document{}, true
	take := func(name string, into any) {
		switch into := into.(type) {
		case *string:
			*into, ok = all[name].(string)
		case *bool:
			*into, ok = all[name].(bool)
		}
		if !ok && all[name] != nil {
			d = nil // another type: nobody writes that
		}
	}
	var version string
	for name, into := range map[string]any{memberID: &d.id, memberRev: &d.rev, memberDeleted: &d.deleted} {
		if take(name, into); d == nil {
			return nil
		}
	}
	if d.deleted {
		return d
	}
	if take(memberVersion, &version); d == nil || !ok {
		return nil
	}
	var err error
	if d.value.Version, d.value.Metadata, err = decodeVersion(version); err != nil {
		return nil
	}
	attachments, _ := all[memberAttachments].(map[string]any)
	if attachment, ok := attachments[attachmentName].(map[string]any); ok {
		data, ok := attachment["data"].(string)
		if !ok {
			d.stub = true
			return d
		}
		if d.value.Value, err = base64.StdEncoding.DecodeString(data); err != nil {
			return nil
		}
		return d
	}
	for _, name := range []string{memberID, memberRev, memberVersion, memberAttachments} {
		delete(all, name)
	}
	d.value.Value, _ = json.Marshal(all)
	return d
}

// FuzzCheckWrite: what is looked at in haste is judged as if it were decoded.
func FuzzCheckWrite(f *testing.F) {
	for _, text := range []string{`{"\u005fx":1}`, `{"~version":1e999}`, `{"_a":`, `{"a":{"_b":1}}`, `{"~versio\u006e":[1}`, `[{"_a":1}]`, ` {"_":0} `} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		var want error
		var object map[string]any
		if json.Unmarshal(value, &object) == nil && object != nil {
			if name, ok := reserved(object); ok {
				want = reservedError(name)
			}
		}
		if got := checkWrite("k", value); (got == nil) != (want == nil) || got != nil && got.Error() != want.Error() {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	})
}

// TestReadBack: what is known of values that come back is so.
func TestReadBack(t *testing.T) {
	db := openFake(t, couchtest.New())
	for value, known := range map[string]bool{
		`plain`: true, `[1,2]`: true, `null`: true, `{`: true, `{"a":1e999}`: true, `{}`: true,
		`{"z":1, "a":[{"y":2,"b":"<é>"},null,true], "z":3}`: true,
		`{"n":12345678901234567890,"m":-7,"k":100e2}`:       true,
		`{"n":1.5}`: false, `{"n":{"m":[1e21]}}`: false, `{"n":-0}`: false, `{"_n":1}`: false,
	} {
		back, told := ReadBack([]byte(value))
		if told != known {
			t.Errorf("%s: known %v", value, told)
		}
		if !known {
			continue
		}
		mustWrite(t, db, 1, "k", value)
		expect(t, db, "k", string(back))
		if again, told := ReadBack(back); string(again) != string(back) || !told {
			t.Errorf("%s comes back as %s, and that as %s", value, back, again)
		}
	}
}
