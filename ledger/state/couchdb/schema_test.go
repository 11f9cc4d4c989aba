package couchdb

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

func TestDatabaseNames(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("testdata/names.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct {
		Channel, Namespace string
		MetadataDB         string `json:"metadata_db"`
		NamespaceDB        string `json:"namespace_db"`
	}
	if err := json.Unmarshal(raw, &vectors); err != nil {
		t.Fatal(err)
	}
	dots := func(s string) string { return strings.ReplaceAll(s, ".", "$") }
	for _, v := range vectors {
		got, err := metadataDB(v.Channel)
		if err != nil || got != dots(v.MetadataDB) {
			t.Errorf("channel %s: metadata database %s, %v", v.Channel, got, err)
		}
		got, err = namespaceDB(v.Channel, v.Namespace)
		if err != nil || got != dots(v.NamespaceDB) {
			t.Errorf("channel %s, namespace %s: database %s, %v", v.Channel, v.Namespace, got, err)
		}
	}
	for _, channel := range []string{"", "Ch", "1ch", "ch/x", "chä", strings.Repeat("a", maxDatabaseName)} {
		if got, err := metadataDB(channel); err == nil {
			t.Errorf("channel %q: metadata database %s", channel, got)
		}
	}
	if got, err := namespaceDB("ch", "a b"); err == nil {
		t.Errorf("namespace with a blank: database %s", got)
	}
}

func TestEscapeUpper(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "cc", "MyCC", "marbles$$pcollectionMarbles", "A_b-C$$hX"} {
		if got := unescapeUpper(escapeUpper(s)); got != s {
			t.Errorf("%s came back as %s", s, got)
		}
	}
}

func TestSavepointNumbers(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]number{
		`0`: 0, `18446744073709551615`: 1<<64 - 1, `18446744073709552000`: 1<<64 - 1, `1.8446744073709552e19`: 1<<64 - 1, `12.0`: 12,
	} {
		var n number
		if err := json.Unmarshal([]byte(text), &n); err != nil || n != want {
			t.Errorf("%s: %d, %v", text, n, err)
		}
	}
	for _, text := range []string{`-1`, `1.5`, `"1"`, `null,`, `{}`} {
		var n number
		if err := json.Unmarshal([]byte(text), &n); err == nil {
			t.Errorf("%s: %d", text, n)
		}
	}
}
