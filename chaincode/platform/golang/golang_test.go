package golang

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// write makes the files below dir.
func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		p := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// entries lists a code package and checks what all entries have in common.
func entries(t *testing.T, code []byte) []string {
	t.Helper()
	if !bytes.HasPrefix(code, []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff}) {
		t.Errorf("gzip header % x", code[:10])
	}
	gz, err := gzip.NewReader(bytes.NewReader(code))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for r := tar.NewReader(gz); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		got := fmt.Sprintf("%o %d %d %d %c %s", h.Mode, h.Uid, h.Gid, h.ModTime.Unix(), h.Typeflag, h.Format)
		if want := "100644 500 500 0 0 USTAR"; got != want {
			t.Errorf("%s: %s, want %s", h.Name, got, want)
		}
	}
}

func gopathTool(gopath string) Tool {
	return Tool{Environ: append(os.Environ(), "GOPATH="+gopath, "GOFLAGS=")}
}

func pack(t *testing.T, tool Tool, path string) (string, []string) {
	t.Helper()
	s, err := Find(tool, path)
	if err != nil {
		t.Fatal(err)
	}
	code, err := s.Pack()
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.Pack()
	if err != nil || !bytes.Equal(code, again) {
		t.Errorf("packing is not deterministic: %v", err)
	}
	return s.Path, entries(t, code)
}

// The files of the recorded package, around a small stand-in for the 1.4 tree.
func TestPackVector(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("testdata/packaging_golang.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Path    string
		Files   map[string]string
		Entries []string `json:"entries_outside_hyperledger"`
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	gopath := t.TempDir()
	src := filepath.Join(gopath, "src")
	write(t, src, v.Files)
	const fabric = "github.com/hyperledger/fabric/"
	write(t, src, map[string]string{
		fabric + "core/chaincode/shim/shim.go":           "package shim\nimport _ \"" + fabric + "unseen\"\ntype Chaincode interface{}\n",
		fabric + "unseen/u.go":                           "package unseen\n",
		fabric + "core/chaincode/shim/ext/entities/e.go": "package entities\nimport _ \"" + fabric + "bccsp\"\ntype Entity interface{}\n",
		fabric + "bccsp/b.go":                            "package bccsp\nimport _ \"example.org/log\"\nimport _ \"example.org/missing\"\n",
		fabric + "vendor/example.org/log/l.go":           "package log\n",
	})
	if err := os.Symlink(filepath.Join(src, "example.com/outer"), filepath.Join(src, "example.com/mycc/linked")); err != nil {
		t.Fatal(err)
	}
	path, got := pack(t, gopathTool(gopath), v.Path)
	if path != v.Path {
		t.Errorf("path %s", path)
	}
	own := "src/example.com/mycc/vendor/" + fabric
	want := append([]string{own + "bccsp/b.go", own + "core/chaincode/shim/ext/entities/e.go", own + "vendor/example.org/log/l.go"}, v.Entries...)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestPackMetadata(t *testing.T) {
	t.Parallel()
	gopath := t.TempDir()
	index := `{"index":{"fields":["a"]}}`
	dir := filepath.Join(gopath, "src/example.com/cc")
	write(t, dir, map[string]string{
		"main.go": "package main\nfunc main() {}\n", "README.md": "x",
		"META-INF/statedb/couchdb/indexes/i.json": index, "META-INF/statedb/couchdb/indexes/.h.json": "x", "META-INF/x.txt": "x",
	})
	_, got := pack(t, gopathTool(gopath), "example.com/cc")
	if diff := cmp.Diff([]string{"META-INF/statedb/couchdb/indexes/i.json", "src/example.com/cc/main.go"}, got); diff != "" {
		t.Error(diff)
	}
	write(t, dir, map[string]string{"META-INF/statedb/i.json": index})
	s, err := Find(gopathTool(gopath), "example.com/cc")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Pack(); err == nil || err.Error() != "metadata file path must include a database and index directory: META-INF/statedb/" {
		t.Error(err)
	}
}

func TestPackModule(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"go.mod":                    "module example.com/m\n\ngo 1.20\n\nrequire example.com/v v1.0.0\n",
		"vendor/modules.txt":        "# example.com/v v1.0.0\n## explicit\nexample.com/v\n",
		"vendor/example.com/v/v.go": "package v\n", "vendor/example.com/v/LICENSE": "x",
		"cmd/cc/main.go":  "package main\nimport (\n_ \"embed\"\n_ \"example.com/m/lib\"\n_ \"example.com/v\"\n)\n//go:embed text.txt\nvar s string\nfunc main() {}\n",
		"cmd/cc/text.txt": "x", "lib/l.go": "package lib\n", "unused/u.go": "package unused\n",
		"cmd/cc/META-INF/statedb/couchdb/indexes/i.json": `{"index":{"fields":["a"]}}`,
	})
	path, got := pack(t, Tool{Environ: append(os.Environ(), "GOFLAGS=")}, filepath.Join(dir, "cmd/cc"))
	if path != "example.com/m/cmd/cc" {
		t.Errorf("path %s", path)
	}
	slices.Sort(got)
	want := []string{
		"META-INF/statedb/couchdb/indexes/i.json", "src/cmd/cc/main.go", "src/cmd/cc/text.txt", "src/go.mod", "src/lib/l.go",
		"src/vendor/example.com/v/LICENSE", "src/vendor/example.com/v/v.go", "src/vendor/modules.txt",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestFindErrors(t *testing.T) {
	t.Parallel()
	gopath := t.TempDir()
	write(t, filepath.Join(gopath, "src"), map[string]string{"example.com/bad/main.go": "package main import\n", "example.com/empty/x.txt": ""})
	tool := gopathTool(gopath)
	if _, err := Find(tool, "no/such"); err == nil || err.Error() != "path to chaincode does not exist: "+filepath.Join(gopath, "src/no/such") {
		t.Error(err)
	}
	for path, want := range map[string]string{
		"example.com/empty": "Error obtaining imports: ", "example.com/bad": "Error obtaining imports: ", "https://example.com/x": "code does not exist ",
	} {
		s, err := Find(tool, path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Pack(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
