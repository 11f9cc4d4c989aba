// Package e2e drives the built commands as a user would: it builds them once
// into a temporary directory, makes key material, starts daemons on free local
// ports and talks to them with the command line and over gRPC.
//
// A network belongs to one test and ends with it; no file outlives the tests.
package e2e

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"google.golang.org/grpc/grpclog"
)

// bin holds the built commands; set once by TestMain.
var bin string

func TestMain(m *testing.M) {
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard))
	dir, err := os.MkdirTemp("", "heddle-e2e")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := 1
	if err := build(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		code = m.Run()
	}
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

func build(dir string) error {
	bin = filepath.Join(dir, "bin")
	args := []string{"build", "-o", bin + string(filepath.Separator)}
	for _, c := range []string{"peer", "orderer", "cryptogen", "configtxgen", "configtxlator"} {
		args = append(args, "../../cmd/"+c)
	}
	out, err := exec.Command("go", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("build the commands: %w\n%s", err, out)
	}
	return nil
}
