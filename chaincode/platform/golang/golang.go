// Package golang packs Go chaincodes (CHAINCODE §6.1): below a GOPATH exactly
// as the reference does, and from inside a Go module in the layout of 2.x
// tools, which the process runtime builds (§6.6). It asks the Go tool for
// imports. Only chaincode/platform and tests import it.
package golang

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/heddle-ledger/heddle/chaincode/packaging"
)

// providedPackages are never packed when the chaincode itself imports them:
// the builder has them.
var providedPackages = [...]string{
	"github.com/hyperledger/fabric/core/chaincode/shim",
	"github.com/hyperledger/fabric/protos/peer",
}

// Tool is the Go tool and the environment it runs in; the zero value is "go"
// from PATH in this process's environment.
type Tool struct {
	Go      string
	Environ []string
}

// Source is a chaincode found on this machine.
type Source struct {
	Path   string // import path, for the chaincode id
	tool   Tool
	dir    string
	module string // root directory of the module; empty in GOPATH mode
}

// file is one entry of the package to be.
type file struct{ name, path string }

// Find locates a chaincode: an import path below the first element of GOPATH,
// or else a directory inside a Go module.
func Find(tool Tool, chaincodePath string) (*Source, error) {
	if tool.Go == "" {
		tool.Go = "go"
	}
	out, err := tool.run("", nil, "env", "GOPATH")
	if err != nil {
		return nil, fmt.Errorf("find GOPATH: %w", err)
	}
	gopath := filepath.SplitList(strings.TrimSpace(string(out)))
	if len(gopath) == 0 {
		return nil, errors.New("GOPATH is empty")
	}
	s := &Source{Path: chaincodePath, tool: tool, dir: filepath.Join(gopath[0], "src", filepath.FromSlash(chaincodePath))}
	if u, err := url.Parse(chaincodePath); err == nil && u.Scheme != "" {
		return s, nil // not looked for; packing will fail, as with the reference
	}
	if info, err := os.Stat(s.dir); err == nil && info.IsDir() {
		return s, nil
	}
	if info, err := os.Stat(chaincodePath); err == nil && info.IsDir() {
		return s.inModule(chaincodePath)
	}
	return nil, fmt.Errorf("path to chaincode does not exist: %s", s.dir)
}

// Pack makes the code package.
func (s *Source) Pack() ([]byte, error) {
	collect := s.gopathFiles
	if s.module != "" {
		collect = s.moduleFiles
	}
	files, err := collect()
	if err != nil {
		return nil, err
	}
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.name, b.name) })
	a := packaging.NewArchive()
	own := "src/" + s.Path + "/"
	for _, f := range files {
		if metadata, ok := strings.CutPrefix(f.name, own); ok && strings.HasPrefix(metadata, "META-INF") {
			// The name is cut only here: it takes no part in the order.
			if err := a.AddMetadata(metadata, f.path); err != nil {
				return nil, err
			}
			continue
		}
		if err := a.Add(f.name, f.path); err != nil {
			return nil, fmt.Errorf("Error writing Chaincode package contents: %w", err) //nolint:staticcheck // the reference's text
		}
	}
	return a.Close()
}

// listed is what the Go tool tells of a package.
type listed struct {
	ImportPath, Dir string
	Standard        bool
	EmbedFiles      []string
	Module          *struct {
		Dir  string
		Main bool
	}
}

func (s *Source) gopathFiles() ([]file, error) {
	if _, err := os.Stat(s.dir); err != nil {
		return nil, fmt.Errorf("code does not exist %s", s.dir)
	}
	env := []string{"GO111MODULE=off", "GOFLAGS="}
	out, err := s.tool.run(s.dir, env, "list", "-f", `{{join .Imports "\n"}}`, s.Path)
	if err != nil {
		return nil, fmt.Errorf("Error obtaining imports: %w", err) //nolint:staticcheck // the reference's text
	}
	var imports []string
	for _, name := range strings.Fields(string(out)) {
		if name != "C" && !slices.Contains(providedPackages[:], name) {
			imports = append(imports, name)
		}
	}
	files, err := sources(s.dir, s.Path)
	if err != nil {
		return nil, err
	}
	metadata, err := s.metadata()
	if err != nil {
		return nil, err
	}
	files = append(files, metadata...)
	if len(imports) == 0 {
		return files, nil
	}
	packages, err := s.tool.list(s.dir, env, imports...)
	if err != nil {
		return nil, fmt.Errorf("Error obtaining dependencies for %s: %w", s.Path, err) //nolint:staticcheck // the reference's text
	}
	for _, p := range packages {
		if p.Standard || p.Dir == "" || p.ImportPath == s.Path {
			continue // a dependency that is nowhere is skipped silently
		}
		more, err := sources(p.Dir, p.ImportPath)
		if err != nil {
			return nil, err
		}
		for i := range more {
			more[i].name = s.vendored(more[i].name)
		}
		files = append(files, more...)
	}
	return files, nil
}

// vendored moves what lies outside of the chaincode into its vendor directory.
// The comparison is one of strings, not of path elements.
func (s *Source) vendored(name string) string {
	if strings.HasPrefix(name, "src/"+s.Path) {
		return name
	}
	for dir := s.Path; dir != "." && dir != "/"; dir = path.Dir(dir) {
		if strings.HasPrefix(name, "src/"+dir+"/vendor") {
			return name
		}
	}
	return "src/" + s.Path + "/vendor" + strings.TrimPrefix(name, "src")
}

// sources returns the files directly in a package's directory that count as
// source, by extension only.
func sources(dir, importPath string) ([]file, error) {
	if info, err := os.Lstat(dir); err != nil || !info.IsDir() {
		return nil, err // a linked directory gives nothing
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read package %s: %w", importPath, err)
	}
	var files []file
	for _, e := range entries {
		if info, err := os.Stat(filepath.Join(dir, e.Name())); err == nil && info.Mode().IsRegular() && isSource(e.Name()) {
			files = append(files, file{"src/" + importPath + "/" + e.Name(), filepath.Join(dir, e.Name())})
		}
	}
	return files, nil
}

func isSource(name string) bool {
	switch filepath.Ext(name) {
	case ".c", ".h", ".s", ".go", ".yaml", ".json":
		return true
	default:
		return false
	}
}

// metadata returns the files below META-INF of the main package, without
// hidden ones.
func (s *Source) metadata() ([]file, error) {
	dirs, err := filepath.Glob(filepath.Join(s.dir, "META-INF*"))
	if err != nil {
		return nil, fmt.Errorf("look for metadata: %w", err)
	}
	var files []file
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() || !isSource(p) || strings.HasPrefix(d.Name(), ".") {
				return err
			}
			rel, err := filepath.Rel(s.dir, p)
			if err != nil {
				return err
			}
			files = append(files, file{"src/" + s.Path + "/" + filepath.ToSlash(rel), p})
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("look for metadata: %w", err)
		}
	}
	return files, nil
}

func (t Tool) list(dir string, env []string, packages ...string) ([]listed, error) {
	args := append([]string{"list", "-e", "-deps", "-json=ImportPath,Dir,Standard,EmbedFiles,Module"}, packages...)
	out, err := t.run(dir, env, args...)
	if err != nil {
		return nil, err
	}
	var all []listed
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("understand go list: %w", err)
		}
		all = append(all, p)
	}
}

func (t Tool) run(dir string, env []string, args ...string) ([]byte, error) {
	cmd := exec.Command(t.Go, args...)
	cmd.Dir = dir
	cmd.Env = t.Environ
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(slices.Clip(cmd.Env), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return out, nil
}
