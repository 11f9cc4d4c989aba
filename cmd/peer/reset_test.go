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

// TestDamagedBlocks: the error of each command tells how to go on.
func TestDamagedBlocks(t *testing.T) {
	sample(t)
	t.Setenv("FABRIC_LOGGING_SPEC", "error")
	dir := recorded(t)
	t.Setenv("CORE_PEER_FILESYSTEMPATH", dir)
	file := filepath.Join(dir, "ledgersData/chains/chains/vecch/blockfile_000000")
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	raw[0] ^= 0x55
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"reset", "rollback -c vecch -b 5", "rebuild-dbs --now", "start"} {
		stdout, stderr, code := execute(t, append([]string{"node"}, strings.Fields(line)...)...)
		if code == 0 || stdout != "" || !strings.Contains(stderr, file+" is damaged at offset 0: ") ||
			!strings.Contains(stderr, ". Run `peer ledger verify`: it tells how far the damage goes and what to do\n") {
			t.Errorf("%s: exit code %d, %s%s", line, code, stdout, stderr)
		}
	}
}

// TestRebuildNamesNoChannel: who names a channel does not expect that the
// databases of all are dropped.
func TestRebuildNamesNoChannel(t *testing.T) {
	sample(t)
	dir := recorded(t)
	t.Setenv("CORE_PEER_FILESYSTEMPATH", dir)
	_, stderr, code := execute(t, "node", "rebuild-dbs", "vecch")
	if code != 1 || !strings.HasPrefix(stderr, "Error: unexpected argument \"vecch\": the databases of all channels are dropped\n") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
	if _, err := os.Stat(filepath.Join(dir, "ledgersData/stateLeveldb")); err != nil {
		t.Error(err)
	}
}
