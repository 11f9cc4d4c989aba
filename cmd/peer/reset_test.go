package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/ledger"
)

// TestResetAndRollback runs the recorded commands, first on an empty directory,
// then on one that another process has (LEDGER §18, §2.4).
func TestResetAndRollback(t *testing.T) {
	sample(t)
	t.Setenv("FABRIC_LOGGING_SPEC", "error")
	dir := t.TempDir()
	t.Setenv("CORE_PEER_FILESYSTEMPATH", dir)
	cases := readTranscripts(t, "testdata/reset.txt")
	run := func(tc transcript) {
		t.Helper()
		stdout, stderr, code := execute(t, strings.Fields(tc.command)[1:]...)
		want := strings.ReplaceAll(tc.stderr, "$DIR/pd", dir)
		if d := cmp.Diff(want, stderr); d != "" || stdout != "" || (code == 0) != (tc.rc == "0") {
			t.Errorf("%s: exit code %d, stdout %q, stderr (-want +got):\n%s", tc.command, code, stdout, d)
		}
	}
	for _, tc := range cases[:3] {
		run(tc)
	}
	held, err := ledger.Lock(filepath.Join(dir, "ledgersData"), vfs.OS())
	if err != nil {
		t.Fatal(err)
	}
	run(cases[3])
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	run(cases[0])
	if left, err := os.ReadDir(filepath.Join(dir, "ledgersData")); err != nil || len(left) != 1 || left[0].Name() != "fileLock" {
		t.Errorf("left %v, %v", left, err)
	}
}
