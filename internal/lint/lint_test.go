package lint

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

type listed struct {
	ImportPath string
	Dir        string
	Imports    []string
	GoFiles    []string
}

// packages lists every package of the module.
func packages(t *testing.T) []listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,Imports,GoFiles", "./...")
	cmd.Dir = filepath.Join("..", "..")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []listed
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func TestImportRules(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		path := strings.TrimPrefix(p.ImportPath, module)
		if _, layer, ok := room(path); ok && layer == testLayer {
			continue // test support and examples
		}
		for _, i := range p.Imports {
			if err := check(path, i); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestHouseRules looks for init functions and for libraries that end the
// process.
func TestHouseRules(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		path := strings.TrimPrefix(p.ImportPath, module)
		for _, name := range p.GoFiles {
			file := filepath.Join(p.Dir, name)
			if strings.HasSuffix(name, ".pb.go") {
				continue
			}
			tree, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			if _, layer, ok := room(path); !ok || layer != testLayer {
				checkFile(t, path, name, tree)
			}
		}
	}
}

func checkFile(t *testing.T, path, name string, tree *ast.File) {
	t.Helper()
	for _, d := range tree.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Name.Name == "init" && f.Recv == nil {
			t.Errorf("%s/%s has an init function", path, name)
		}
	}
	if under(path, "cmd") || under(path, "internal/flog") {
		return
	}
	ast.Inspect(tree, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		if s, ok := call.Fun.(*ast.SelectorExpr); ok {
			if x, ok := s.X.(*ast.Ident); ok && x.Name == "os" && s.Sel.Name == "Exit" {
				t.Errorf("%s/%s ends the process", path, name)
			}
			if strings.HasPrefix(s.Sel.Name, "Fatal") && !imports(tree, "testing") {
				t.Errorf("%s/%s calls %s", path, name, s.Sel.Name)
			}
		}
		return true
	})
}

// imports tells whether a file imports a package; those that import testing are
// conformance suites.
func imports(tree *ast.File, path string) bool {
	return slices.ContainsFunc(tree.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == strconv.Quote(path) })
}

func TestCheck(t *testing.T) {
	t.Parallel()
	cases := []struct {
		from, to string
		ok       bool
	}{
		{"ledger/blockfile", module + "internal/protoutil", true},
		{"ledger/blockfile", module + "gossip/wire", false},
		{"internal/policy", module + "msp", true},
		{"msp", module + "internal/policy", false},
		{"peer/endorser", module + "orderer/cutter", false},
		{"orderer/multichannel", module + "ledger/blockfile", true},
		{"orderer/multichannel", module + "ledger/history", false},
		{"cmd/peer", module + "peer/node", true},
		{"cmd/peer", module + "peer/endorser", false},
		{"cmd/peer", "github.com/spf13/viper", false},
		{"internal/config", "github.com/spf13/viper", true},
		{"nowhere", module + "msp", false},
	}
	for _, tc := range cases {
		if err := check(tc.from, tc.to); (err == nil) != tc.ok {
			t.Errorf("%s -> %s: %v", tc.from, tc.to, err)
		}
	}
}
