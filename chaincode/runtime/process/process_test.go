package process_test

import (
	"os"
	"testing"

	"github.com/heddle-ledger/heddle/chaincode/runtime/process"
	"github.com/heddle-ledger/heddle/chaincode/runtimetest"
	"github.com/heddle-ledger/heddle/chaincode/support"
	"github.com/heddle-ledger/heddle/internal/flog"
)

func open(t testing.TB) *process.Runtime {
	t.Helper()
	r, err := process.Open(process.Config{Dir: t.TempDir(), Environ: append(os.Environ(), "CORE_PEER_ID=secret"), Log: flog.ForTest(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func TestConformance(t *testing.T) {
	t.Parallel()
	probes := runtimetest.Probes()
	if testing.Short() {
		probes = probes[:1] // each costs a build of its shim
	}
	runtimetest.Run(t, runtimetest.Options{
		Open:        func(t testing.TB) support.Runtime { return open(t) },
		Probes:      probes,
		Environment: true,
	})
}
