package audit

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/ledger"
	"github.com/heddle-ledger/heddle/ledger/blockfile"
)

const ledgerRoot = "../testdata/ledger_root.tar.gz"

// checks lists the results of a channel's checks.
func checks(c *Channel) map[string]string {
	out := map[string]string{}
	for _, check := range c.Checks {
		out[check.Name] = string(check.Result) + ": " + check.Detail
	}
	return out
}

// TestSound verifies a signed chain with all kinds of transactions, in as many
// workers as it can get and in one with little memory.
func TestSound(t *testing.T) {
	for _, o := range []Options{{State: true}, {State: true, Workers: 1, Memory: 1}, {Workers: 7}} {
		r := verify(t, peerCopy(t), o)
		c := r.Channels[0]
		if !r.Sound || len(c.Findings) > 0 || c.Blocks != chainLength || c.Height != chainLength || c.Transactions != 31 {
			t.Fatal(show(r))
		}
		want := map[string]string{
			checkChain: "ok: ", checkData: "ok: 31 transactions", checkSignatures: "ok: 13 blocks",
			checkConfig: "ok: last in block [5]", checkMetadata: "ok: 31 validation codes", checkCommit: "ok: 13 blocks",
			checkIndex: "ok: 149 entries", checkList: "ok: ", checkHistory: "ok: 44 entries", checkPrivate: "ok: 4 write sets, 7 entries",
			checkBooks: "ok: 1 schedule entries compared with a rebuild", checkState: "ok: 15 keys compared with a rebuild",
		}
		if !o.State {
			want[checkBooks] = "ok: 1 schedule entries read"
			want[checkState] = "ok: 15 keys read; not compared with the blocks (see --state)"
		}
		got := checks(c)
		delete(got, checkFiles)
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	}
}

func TestSoundOrderer(t *testing.T) {
	r := verify(t, ordererCopy(t), Options{})
	want := map[string]string{
		checkChain: "ok: ", checkData: "ok: 31 transactions", checkSignatures: "ok: 13 blocks", checkConfig: "ok: last in block [5]",
		checkIndex: "ok: 14 entries",
	}
	got := checks(r.Channels[0])
	delete(got, checkFiles)
	if d := cmp.Diff(want, got); d != "" || !r.Sound || r.Kind != Orderer {
		t.Error(d, show(r))
	}
}

// TestRecorded verifies what Fabric has written: test envelopes that nobody has
// signed.
func TestRecorded(t *testing.T) {
	r := verify(t, untar(t, ledgerRoot), Options{State: true})
	if !r.Sound || len(r.Channels) != 2 {
		t.Fatal(show(r))
	}
	for i, c := range r.Channels {
		if len(c.Findings) != 2-i || !strings.HasPrefix(c.Findings[len(c.Findings)-1].Problem, "no signatures: none of the") {
			t.Error(show(c.Findings))
		}
		for name, result := range checks(c) {
			if !strings.HasPrefix(result, "ok") && name != checkSignatures && name != checkConfig {
				t.Errorf("%s: %s", name, result)
			}
		}
	}
	if got := r.Channels[0].CommitHash; got != "96c7166d6525df24a7f3db8af94ded7b3650c5da1edb3553a8233304e62068b2" {
		t.Errorf("commit hash %s", got)
	}
}

// replaceDirs takes some of the databases of one directory from another.
func replaceDirs(t *testing.T, dir, from string, names ...string) {
	t.Helper()
	for _, name := range names {
		to := filepath.Join(dir, "ledgersData", name)
		must(t, os.RemoveAll(to))
		must(t, os.CopyFS(to, os.DirFS(filepath.Join(from, "ledgersData", name))))
	}
}

// TestInterrupted verifies the states that a crash leaves, as recorded: all of
// them sound, since the next start repairs them, which is then shown.
func TestInterrupted(t *testing.T) {
	const nine, ten = "../testdata/ledger_root_after_block9.tar.gz", "../testdata/ledger_root_after_block10.tar.gz"
	for name, c := range map[string]struct {
		stale []string // databases as after block 9
		want  []string
	}{
		"after the block": {
			stale: []string{"stateLeveldb", "historyLeveldb", "bookkeeper", "configHistory", "chains/index"},
			want:  []string{"block [10] are not indexed", "the checkpoint ends before block [10]", "the state database ends before block [10]", "the history database ends before block [10]"},
		},
		"after the index": {
			stale: []string{"stateLeveldb", "historyLeveldb", "bookkeeper", "configHistory"},
			want:  []string{"the state database ends before block [10]", "the history database ends before block [10]"},
		},
		"after the state": {stale: []string{"historyLeveldb"}, want: []string{"the history database ends before block [10]"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := untar(t, ten)
			replaceDirs(t, dir, untar(t, nine), c.stale...)
			r := verify(t, dir, Options{State: true, Channels: []string{"vecch"}})
			if !r.Sound {
				t.Error(show(r))
			}
			for _, want := range c.want {
				found := false
				for _, f := range r.Channels[0].Findings {
					found = found || f.Severity == Repair && strings.HasPrefix(f.Problem, want) && f.Consequence != ""
				}
				if !found {
					t.Errorf("not found: %s in %s", want, show(r.Channels[0].Findings))
				}
			}
			restart(t, dir, "vecch")
			r = verify(t, dir, Options{State: true, Channels: []string{"vecch"}})
			for _, f := range r.Channels[0].Findings {
				if f.Severity == Damage || f.Severity == Repair {
					t.Errorf("after a start: %s", show(f))
				}
			}
		})
	}
}

// restart opens and closes the ledger as a peer does.
func restart(t *testing.T, dir, channel string) {
	t.Helper()
	p, err := ledger.OpenProvider(ledger.Config{Dir: filepath.Join(dir, "ledgersData"), History: true})
	must(t, err)
	_, err = p.Open(channel)
	must(t, err)
	must(t, p.Close())
}

func TestLocks(t *testing.T) {
	dir := peerCopy(t)
	held, err := ledger.Lock(filepath.Join(dir, "ledgersData"), vfs.OS())
	must(t, err)
	_, err = Open(dir)
	want := "the peer is running, or another command on its data, so they cannot be looked at: stop it, or look at a copy or a snapshot: lock is already acquired on file " +
		filepath.Join(dir, "ledgersData", "fileLock")
	if err == nil || err.Error() != want {
		t.Error(err)
	}
	must(t, held.Close())
	first, err := Open(dir)
	must(t, err)
	second, err := Open(dir) // readers do not keep each other out
	must(t, err)
	if _, err := ledger.Lock(filepath.Join(dir, "ledgersData"), vfs.OS()); err == nil {
		t.Error("a peer could start")
	}
	must(t, first.Close())
	must(t, second.Close())

	dir = ordererCopy(t)
	p, err := blockfile.OpenProvider(blockfile.Config{Dir: dir, Index: blockfile.IndexNumber})
	must(t, err)
	if _, err := Open(dir); err == nil || !strings.HasPrefix(err.Error(), "the orderer is running") {
		t.Error(err)
	}
	must(t, p.Close())
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(dir); !errors.Is(err, ErrLayout) {
		t.Error(err)
	}
	if _, err := Open(filepath.Join(dir, "absent")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	file := filepath.Join(dir, "file")
	must(t, os.WriteFile(file, nil, 0o600))
	if _, err := Open(file); err == nil || errors.Is(err, ErrLayout) {
		t.Error(err)
	}
	d, err := Open(peerCopy(t))
	must(t, err)
	defer d.Close()
	if _, err := Verify(t.Context(), d, Options{Channels: []string{"nobody"}}); !errors.Is(err, ErrNoChannel) {
		t.Error(err)
	}
}

// TestLayouts opens a peer's directory by both its names.
func TestLayouts(t *testing.T) {
	dir := peerCopy(t)
	for _, name := range []string{dir, filepath.Join(dir, "ledgersData")} {
		if r := verify(t, name, Options{}); r.Kind != Peer || !r.Sound || len(r.Channels) != 1 {
			t.Error(show(r))
		}
	}
}

func TestCancelled(t *testing.T) {
	d, err := Open(peerCopy(t))
	must(t, err)
	defer d.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	temp := t.TempDir()
	if _, err := Verify(ctx, d, Options{TempDir: temp, State: true}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Error(left, err)
	}
}

// TestEmpty verifies a directory without channels, and a peer that never had a
// history.
func TestEmpty(t *testing.T) {
	dir := t.TempDir()
	p, err := ledger.OpenProvider(ledger.Config{Dir: filepath.Join(dir, "ledgersData")})
	must(t, err)
	must(t, p.Close())
	if r := verify(t, dir, Options{}); !r.Sound || len(r.Channels) > 0 {
		t.Error(show(r))
	}
	dir = peerCopy(t)
	must(t, os.RemoveAll(filepath.Join(dir, "ledgersData/historyLeveldb")))
	off := false
	r := verify(t, dir, Options{History: &off, CouchDB: true})
	if got := checks(r.Channels[0]); !r.Sound || got[checkHistory] != "skipped: there is none that can be read" || got[checkState] != "skipped: the state is in CouchDB, which was not looked at" {
		t.Error(show(r))
	}
}
