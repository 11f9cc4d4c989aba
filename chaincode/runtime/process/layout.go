package process

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// plan is how an unpacked package is built.
type plan struct {
	dir    string   // where the Go tool runs
	args   []string // of go build, after -o OUT
	gopath bool     // GOPATH mode, see extraGOPATH
}

// planOf chooses the first layout of CHAINCODE §6.6 that matches.
func planOf(dir, path string) (plan, error) {
	for _, prefix := range []string{"http://", "https://"} {
		path = strings.TrimPrefix(path, prefix)
	}
	path = strings.TrimSuffix(path, "/")
	// "..." is a pattern to the Go tool.
	if path == "" || strings.HasPrefix(path, "-") || strings.Contains(path, "...") || !filepath.IsLocal(filepath.FromSlash(path)) {
		return plan{}, fmt.Errorf("illegal chaincode path %q", path)
	}
	src := filepath.Join(dir, "src")
	own := filepath.Join(src, filepath.FromSlash(path))
	switch {
	case exists(src, "go.mod") && exists(src, "vendor"):
		return plan{dir: src, args: []string{"-mod=vendor", path}}, nil
	case exists(src, "go.mod"):
		return plan{dir: src, args: []string{"-mod=readonly", path}}, nil
	case exists(own, "go.mod") && exists(own, "vendor"):
		return plan{dir: own, args: []string{"-mod=vendor", "."}}, nil
	case exists(own, "go.mod"):
		return plan{dir: own, args: []string{"-mod=readonly", "."}}, nil
	case !exists(own):
		// The Go tool would look in the standard library and in the GOPATH of
		// the shim.
		return plan{}, buildError(1, fmt.Sprintf("cannot find package %q in the code package\n", path))
	default:
		return plan{dir: dir, args: []string{path}, gopath: true}, nil
	}
}

// buildError is a failed build as a build container reports it.
func buildError(code int, output string) error {
	return fmt.Errorf("Error returned from build: %d \"%s\"", code, output) //nolint:staticcheck // the reference's text
}

func exists(elem ...string) bool {
	_, err := os.Lstat(filepath.Join(elem...))
	return err == nil
}
