package process

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strconv"
	"strings"
)

// The module whose vendor directory is a GOPATH with the 1.4 shim (CHAINCODE
// §6.6). The sums make its download independent of a checksum database.
var (
	//go:embed shimpath/go.mod.txt
	shimModule []byte
	//go:embed shimpath/go.sum.txt
	shimSums []byte
	//go:embed shimpath/shim.go.txt
	shimImports []byte
)

const (
	fabricPath = "github.com/hyperledger/fabric/"
	shimPath   = fabricPath + "core/chaincode/shim"
)

// gopath returns the GOPATH that a package without modules is built with.
// Packages of the 1.4 command line lack the shim, which the builder image of
// the reference provides.
func (b *builder) gopath(ctx context.Context, code string) (string, error) {
	needed, err := lacksFabric(code)
	if err != nil || !needed {
		return code, err
	}
	for _, dir := range filepath.SplitList(b.ownGOPATH()) {
		if exists(dir, "src", filepath.FromSlash(shimPath)) {
			return code + string(filepath.ListSeparator) + dir, nil
		}
	}
	extra, err := b.shimGOPATH(ctx)
	if err != nil {
		return "", fmt.Errorf("provide the 1.4 chaincode shim: %w", err)
	}
	return code + string(filepath.ListSeparator) + extra, nil
}

func (b *builder) ownGOPATH() string {
	if p := lookup(b.cfg.Environ, "GOPATH"); p != "" {
		return p
	}
	if home := lookup(b.cfg.Environ, "HOME"); home != "" {
		return filepath.Join(home, "go")
	}
	return ""
}

// shimGOPATH makes the GOPATH of the shim from modules, once.
func (b *builder) shimGOPATH(ctx context.Context) (string, error) {
	sum := sha256.New()
	sum.Write(shimModule)
	sum.Write(shimImports)
	dir := filepath.Join(b.cfg.Dir, "gopath-"+hex.EncodeToString(sum.Sum(nil)[:8]))
	if exists(dir, "src") {
		return dir, nil
	}
	return dir, b.once(ctx, dir, func(ctx context.Context) error {
		if exists(dir, "src") {
			return nil
		}
		return b.makeShimGOPATH(ctx, dir)
	})
}

func (b *builder) makeShimGOPATH(ctx context.Context, dir string) error {
	tmp, err := os.MkdirTemp(filepath.Join(b.cfg.Dir, "tmp"), "gopath")
	if err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	defer os.RemoveAll(tmp) //nolint:errcheck // cleared at the next open
	for name, content := range map[string][]byte{"go.mod": shimModule, "go.sum": shimSums, "shim.go": shimImports} {
		if err := os.WriteFile(filepath.Join(tmp, name), content, 0o600); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	if _, err := b.run(ctx, tmp, []string{"GOWORK=off", "GOFLAGS=", "GO111MODULE=on"}, "mod", "vendor"); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(tmp, "gopath"), 0o700); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	if err := os.Rename(filepath.Join(tmp, "vendor"), filepath.Join(tmp, "gopath", "src")); err != nil {
		return fmt.Errorf("arrange GOPATH: %w", err)
	}
	if err := os.Rename(filepath.Join(tmp, "gopath"), dir); err != nil && !exists(dir, "src") {
		return fmt.Errorf("keep GOPATH: %w", err)
	}
	return nil
}

// lacksFabric tells whether some file imports a package of the 1.4 tree that
// the code package does not hold.
func lacksFabric(code string) (bool, error) {
	var imports []string
	held := map[string]bool{} // import paths found, without what precedes a vendor element
	src := filepath.Join(code, "src")
	err := filepath.WalkDir(src, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		rel, err := filepath.Rel(src, filepath.Dir(path))
		if err != nil {
			return err
		}
		pkg := "/" + filepath.ToSlash(rel)
		if i := strings.LastIndex(pkg, "/vendor/"); i >= 0 {
			pkg = pkg[i+len("/vendor"):]
		}
		held[pkg[1:]] = true
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return nil // the build will say so, if the file is built at all
		}
		for _, spec := range f.Imports {
			if name, err := strconv.Unquote(spec.Path.Value); err == nil && strings.HasPrefix(name, fabricPath) {
				imports = append(imports, name)
			}
		}
		return nil
	})
	if err != nil && !os.IsNotExist(err) {
		return false, fmt.Errorf("look through code package: %w", err)
	}
	for _, name := range imports {
		if !held[name] {
			return true, nil
		}
	}
	return false, nil
}

// onOneThread runs f on a thread that outlives what f starts and waits for.
func onOneThread(f func() error) error {
	goruntime.LockOSThread()
	defer goruntime.UnlockOSThread()
	return f()
}
