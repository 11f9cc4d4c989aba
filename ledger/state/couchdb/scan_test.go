package couchdb

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func membersOf(text string) (map[string]string, error) {
	out := map[string]string{}
	err := members([]byte(text), func(name string, value []byte) error {
		out[name] = string(value)
		return nil
	})
	return out, err
}

func TestMembers(t *testing.T) {
	for text, want := range map[string]map[string]string{
		`{}`:                                 {},
		" { } \n":                            {},
		`{"a":1}`:                            {"a": "1"},
		"{ \"a\" : -1e5 ,\t\"b\":\"x\"\r\n}": {"a": "-1e5", "b": `"x"`},
		`{"a":{"b":[1,{"c":"}]"}]},"d":[],"e":null}`: {"a": `{"b":[1,{"c":"}]"}]}`, "d": "[]", "e": "null"},
		`{"a":"\"","b":"\\","c":"\\\"","":0}`:        {"a": `"\""`, "b": `"\\"`, "c": `"\\\""`, "": "0"},
		`{"\u007eversion":1,"a\"b":2,"ü":3}`:         {"~version": "1", `a"b`: "2", "ü": "3"},
		`{"a":1,"a":2}`:                              {"a": "2"},
	} {
		got, err := membersOf(text)
		if d := cmp.Diff(want, got); d != "" || err != nil {
			t.Errorf("%s: %v, %s", text, err, d)
		}
	}
	for _, text := range []string{
		``, ` `, `null`, `[]`, `1`, `"a"`, `{`, `}`, `{"a"}`, `{"a":}`, `{"a":1`, `{"a":1,}`, `{"a":1}}`, `{"a":1 2}`, `{"a":"x}`, `{"a":[}`, `{"a":[1}`,
		`{a:1}`, `{"a":{"b"}`, `{"\`, `{"a\":1}`, `{"\q":1}`, `{,}`,
	} {
		if got, err := membersOf(text); err == nil {
			t.Errorf("%s has members %v", text, got)
		}
	}
}

func TestElements(t *testing.T) {
	var got []string
	err := elements([]byte(` [ 1, "a,]" ,[2,[3]],{"b":4},true ] `), func(v []byte) error {
		got = append(got, string(v))
		return nil
	})
	if d := cmp.Diff([]string{"1", `"a,]"`, "[2,[3]]", `{"b":4}`, "true"}, got); d != "" || err != nil {
		t.Error(err, d)
	}
	for _, text := range []string{``, `{}`, `[`, `[1`, `[1,]`, `[1]]`, `[,]`, `["]`} {
		if elements([]byte(text), func([]byte) error { return nil }) == nil {
			t.Errorf("%s is an array", text)
		}
	}
}

// FuzzMembers: what encoding/json takes as an object has the same members here, and
// nothing makes it panic.
func FuzzMembers(f *testing.F) {
	for _, text := range []string{`{"a":{"b":"\\\""}}`, `{"a":[1,2,{"x":"y"}],"~version":"\u0000Cg=="}`, `{"a":1,"a":"b"}`, `{"\ud800":1}`, "{\"\xff\":1}", strings.Repeat(`{"a":`, 50)} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var want map[string]json.RawMessage
		valid := json.Unmarshal(text, &want) == nil && want != nil
		got := map[string]string{}
		err := members(text, func(name string, value []byte) error {
			// Names that are no UTF-8 are nobody's whom we look for.
			got[strings.ToValidUTF8(name, "\ufffd")] = string(value)
			return nil
		})
		if !valid {
			return
		}
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		for _, name := range []string{memberID, memberRev, memberDeleted, memberAttachments, memberVersion, "a", "b", ""} {
			if string(want[name]) != got[name] {
				t.Errorf("%q: member %q is %s, want %s", text, name, got[name], want[name])
			}
		}
		for _, raw := range want {
			var s string
			errWant := json.Unmarshal(raw, &s)
			plain, err := unquote(raw)
			if (err == nil) != (errWant == nil) || plain != s {
				t.Errorf("%s: %q, %v; want %q", raw, plain, err, s)
			}
		}
	})
}
