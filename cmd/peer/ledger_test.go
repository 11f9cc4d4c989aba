package main

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/ledger"
	"github.com/heddle-ledger/heddle/ledger/state"
	"github.com/heddle-ledger/heddle/ledger/state/couchdb"
	"github.com/heddle-ledger/heddle/ledger/state/couchdb/couchtest"
)

// recorded unpacks the data that Fabric has written.
func recorded(t *testing.T) string {
	t.Helper()
	f, err := os.Open("../../ledger/testdata/ledger_root.tar.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	r := tar.NewReader(z)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return dir
		}
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, h.Name)
		if h.Typeflag == tar.TypeDir {
			err = os.MkdirAll(to, 0o755)
		} else if err = os.MkdirAll(filepath.Dir(to), 0o755); err == nil {
			var data []byte
			if data, err = io.ReadAll(r); err == nil {
				err = os.WriteFile(to, data, 0o600)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestLedgerIsHidden keeps the group out of the help of `peer`, which is the
// reference's, and in its own.
func TestLedgerIsHidden(t *testing.T) {
	root, _, _ := execute(t, "--help")
	if strings.Contains(root, "ledger ") {
		t.Errorf("%s", root)
	}
	for _, args := range [][]string{{"ledger", "--help"}, {"ledger"}} {
		if out, stderr, code := execute(t, args...); code != 0 || stderr != "" || !strings.Contains(out, "verify      Says whether the data of a node are sound.") {
			t.Errorf("%d %s %s", code, out, stderr)
		}
	}
	for _, verb := range []string{"verify", "inspect", "compare"} {
		if out, _, code := execute(t, "ledger", verb, "--help"); code != 0 || !strings.Contains(out, "Exit code 0: ") || !strings.Contains(out, "--channelID string") {
			t.Errorf("%s: %d %s", verb, code, out)
		}
	}
}

func TestLedgerVerify(t *testing.T) {
	dir := recorded(t)
	out, stderr, code := execute(t, "ledger", "verify", "--path", dir, "-c", "vecch.two")
	want := `vecch.two: 3 blocks, 3 transactions, ok
  checked: block files (3 blocks, 16151 bytes), hash chain, data hashes (3 transactions),
    configuration (last in block [0]), block metadata (3 validation codes),
    commit hashes (2 blocks), index (18 entries), channel list, history (2 entries),
    private data (0 write sets, 1 entries), bookkeeping (0 schedule entries read),
    state (3 keys read; not compared with the blocks (see --state))
  skipped: block signatures (no block is signed)
  warning [block signatures]:
    no signatures: none of the blocks after the first (2) is signed
    consequence: nobody vouches for the blocks; only test networks have such
`
	if d := cmp.Diff(want, out); d != "" || code != 0 || !strings.HasPrefix(stderr, "vecch.two: block 3/3, 100%") {
		t.Errorf("exit code %d, stderr %s\n%s", code, stderr, d)
	}
	file := filepath.Join(dir, "ledgersData/chains/chains/vecch.two/blockfile_000000")
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)-10] ^= 1 // in the commit hash of the last block
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	out, stderr, code = execute(t, "ledger", "verify", "--path", dir, "-q")
	if code != 1 || stderr != "" || !strings.Contains(out, "vecch: 11 blocks, 22 transactions, ok\n") ||
		!strings.Contains(out, "vecch.two: 3 blocks, 3 transactions, DAMAGED\n") || !strings.Contains(out, "  damage [") || !strings.HasSuffix(out, dir+": DAMAGED\n") {
		t.Errorf("exit code %d, %s%s", code, out, stderr)
	}
	out, _, code = execute(t, "ledger", "verify", "--path", dir, "-q", "--json")
	var report struct {
		Sound    bool
		Channels []struct{ Findings []struct{ Severity string } }
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || code != 1 || report.Sound || report.Channels[1].Findings[0].Severity != "damage" {
		t.Errorf("exit code %d, %v, %s", code, err, out)
	}
}

// TestLedgerDefaultPath looks at the peer of the configuration, and heeds its
// lock.
func TestLedgerDefaultPath(t *testing.T) {
	dir := recorded(t)
	sample(t)
	t.Setenv("CORE_PEER_FILESYSTEMPATH", dir)
	if out, stderr, code := execute(t, "ledger", "inspect"); code != 0 || stderr != "" || !strings.HasPrefix(out, dir+" of a peer: 2 channels\nvecch\n  height               11\n") {
		t.Errorf("exit code %d, %s%s", code, out, stderr)
	}
	held, err := ledger.Lock(filepath.Join(dir, "ledgersData"), vfs.OS())
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	want := "Error: the peer is running, or another command on its data, so they cannot be looked at: stop it, or look at a copy or a snapshot: lock is already acquired on file " +
		filepath.Join(dir, "ledgersData/fileLock") + "\n"
	for _, verb := range []string{"verify", "inspect"} {
		if out, stderr, code := execute(t, "ledger", verb); code != 2 || out != "" || stderr != want {
			t.Errorf("%s: exit code %d, %s%s", verb, code, out, stderr)
		}
	}
}

func TestLedgerInspect(t *testing.T) {
	dir := recorded(t)
	for name, c := range map[string]struct {
		args []string
		want []string
	}{
		"overview as JSON": {[]string{"--json"}, []string{`"channel": "vecch.two"`, `"height": 3`}},
		"block":            {[]string{"-c", "vecch", "-b", "3"}, []string{`"validation": "MVCC_READ_CONFLICT"`, `"commit_hash": "`, `"block_bytes": "`}},
		"oldest":           {[]string{"-c", "vecch", "-b", "oldest"}, []string{`"number": 0,`, `"block": {`}},
		"newest":           {[]string{"-c", "vecch", "-b", "newest"}, []string{`"number": 10,`}},
		"config":           {[]string{"-c", "vecch", "-b", "config"}, []string{`"number": 5,`, `"type": "CONFIG"`, `"commit_hash": "`}},
		"transaction": {
			[]string{"-c", "vecch", "-t", "9c4025b482aacbb9c6842dd052bce0fece529c94dbe1687988bc157aabcbf394"},
			[]string{`"block": 3,`, `"index": 1,`, `"validation": "MVCC_READ_CONFLICT"`, `"envelope_bytes": "`},
		},
		"key": {[]string{"-c", "vecch", "--key", "cc1/k1"}, []string{`"text": "v1b"`, `"history": [`}},
	} {
		t.Run(name, func(t *testing.T) {
			out, stderr, code := execute(t, append([]string{"ledger", "inspect", "--path", dir}, c.args...)...)
			if code != 0 || stderr != "" {
				t.Fatalf("exit code %d, %s%s", code, out, stderr)
			}
			for _, want := range c.want {
				if !strings.Contains(out, want) {
					t.Errorf("no %s in %.2000s", want, out)
				}
			}
		})
	}
	file := filepath.Join(t.TempDir(), "block.json")
	if out, _, code := execute(t, "ledger", "inspect", "--path", dir, "-c", "vecch", "-b", "1", "-o", file); code != 0 || out != "" {
		t.Errorf("exit code %d, %s", code, out)
	}
	if raw, err := os.ReadFile(file); err != nil || !json.Valid(raw) {
		t.Errorf("%v, %s", err, raw)
	}
}

func TestLedgerCompare(t *testing.T) {
	a, b := recorded(t), recorded(t)
	out, stderr, code := execute(t, "ledger", "compare", a, b, "--state", "-q")
	if want := "vecch: the same, 11 blocks, 129 keys of the state\nvecch.two: the same, 3 blocks, 3 keys of the state\n"; out != want || code != 0 || stderr != "" {
		t.Errorf("exit code %d, %s%s", code, out, stderr)
	}
	if err := os.RemoveAll(filepath.Join(b, "ledgersData/chains/chains/vecch.two")); err != nil {
		t.Fatal(err)
	}
	out, _, code = execute(t, "ledger", "compare", a, b, "-q")
	if want := "vecch: the same, 11 blocks\nvecch.two: only in " + a + "\n"; out != want || code != 1 {
		t.Errorf("exit code %d, %s", code, out)
	}
	file := filepath.Join(b, "ledgersData/chains/chains/vecch/blockfile_000000")
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)-1] ^= 1
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	out, _, code = execute(t, "ledger", "compare", a, b, "-q", "-c", "vecch")
	if !strings.HasPrefix(out, "vecch: DIFFERENT at block 10, commit hash (the 10 blocks before it are the same)\n  "+a+": 96c7166d") || code != 1 {
		t.Errorf("exit code %d, %s", code, out)
	}
	if out, _, code = execute(t, "ledger", "compare", a, b, "-q", "--json"); code != 1 || !json.Valid([]byte(out)) {
		t.Errorf("exit code %d, %s", code, out)
	}
}

// TestLedgerMisuse ends with exit code 2, and with the usage if that helps.
func TestLedgerMisuse(t *testing.T) {
	dir := recorded(t)
	t.Setenv("FABRIC_CFG_PATH", t.TempDir())
	for line, want := range map[string]struct {
		text  string
		usage bool
	}{
		"verify":                      {"Error: no --path is given, and the peer's configuration cannot be read: ", false},
		"verfy":                       {"Error: unknown command \"verfy\" for \"peer ledger\"\n", true},
		"verify x":                    {"Error: unexpected argument \"x\": a directory is named with --path\n", true},
		"verify --bogus":              {"Error: unknown flag: --bogus\n", true},
		"verify --path " + dir + "/x": {"Error: stat " + dir + "/x: no such file or directory\n", false},
		"verify --path " + dir + "/transientStore":     {"Error: " + dir + "/transientStore: neither a peer's data (with ledgersData) nor an orderer's (with chains and index)\n", false},
		"verify -c nobody --path " + dir:               {"Error: channel [nobody] in " + dir + ": there is no such channel, it has vecch, vecch.two\n", false},
		"verify --path " + dir + "/ledgersData/chains": {"Error: " + dir + "/ledgersData/chains is a part of the data of a peer: name " + dir + "/ledgersData\n", false},
		"inspect x":                                         {"Error: unexpected argument \"x\": a directory is named with --path\n", true},
		"inspect -b 1 --path " + dir:                        {"Error: name a channel with -c: " + dir + " has vecch, vecch.two\n", true},
		"inspect -c vecch -b 1 -t 2 --path " + dir:          {"Error: only one of -b, -t and --key can be given\n", true},
		"inspect -c vecch -b last --path " + dir:            {"Error: [last] is not a block: a number, oldest, newest or config\n", true},
		"inspect -c vecch -b 99 --path " + dir:              {"Error: block [99] of channel [vecch]: not found, the last is [10]\n", false},
		"inspect -q -c vecch -t x --path " + dir:            {"Error: transaction [x] in channel [vecch]: not found\n", false},
		"inspect -c vecch --key cc1/nothing --path " + dir:  {"Error: key \"nothing\" of namespace [cc1] in channel [vecch]: not found\n", false},
		"inspect -c vecch --key x --path " + dir:            {"Error: [x] is not of the form namespace/key\n", true},
		"inspect -c vecch -b 1 -o /nowhere/x --path " + dir: {"Error: open /nowhere/x: no such file or directory\n", false},
		"compare " + dir:                                    {"Error: two directories are needed\n", true},
		"compare " + dir + " " + dir + "/x":                 {"Error: stat " + dir + "/x: no such file or directory\n", false},
		"compare -c nobody " + dir + " " + dir:              {"Error: channel [nobody] in " + dir + " and " + dir + ": there is no such channel\n", false},
	} {
		out, stderr, code := execute(t, append([]string{"ledger"}, strings.Fields(line)...)...)
		if code != 2 || out != "" || !strings.HasPrefix(stderr, want.text) || strings.Contains(stderr, "Usage:") != want.usage {
			t.Errorf("%s: exit code %d, %s%s", line, code, out, stderr)
		}
	}
}

// overCouch is the recorded data with their state on a server, as Fabric had put
// it there.
func overCouch(t *testing.T) (dir string, f *couchtest.Fake, address string) {
	t.Helper()
	dir = recorded(t)
	f = couchtest.New()
	address = couchtest.Start(t, f)
	root := filepath.Join(dir, "ledgersData")
	if err := os.RemoveAll(filepath.Join(root, "stateLeveldb")); err != nil {
		t.Fatal(err)
	}
	p, err := ledger.OpenProvider(ledger.Config{Dir: root, History: true, OpenState: func() (state.Provider, error) {
		return couchdb.OpenProvider(t.Context(), couchdb.Config{Address: address})
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"vecch", "vecch.two"} {
		if _, err := p.Open(id); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	f.Username, f.Password = "admin", "adminpw"
	return dir, f, address
}

// TestLedgerCouchDB verifies and compares a state on a server: the one of the
// configuration, or one that is named.
func TestLedgerCouchDB(t *testing.T) {
	dir, f, address := overCouch(t)
	url := filepath.Join(t.TempDir(), "url")
	if err := os.WriteFile(url, []byte("http://admin:adminpw@"+address+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	sample(t)
	t.Setenv("CORE_PEER_FILESYSTEMPATH", dir)
	t.Setenv("CORE_LEDGER_STATE_STATEDATABASE", "CouchDB")
	t.Setenv("CORE_LEDGER_STATE_COUCHDBCONFIG_COUCHDBADDRESS", address)
	t.Setenv("CORE_LEDGER_STATE_COUCHDBCONFIG_USERNAME", "admin")
	t.Setenv("CORE_LEDGER_STATE_COUCHDBCONFIG_PASSWORD", "adminpw")
	check := func(line string, code int, stdout, stderr string) {
		t.Helper()
		out, errs, got := execute(t, append([]string{"ledger"}, strings.Fields(line)...)...)
		if got != code || !strings.Contains(out, stdout) || !strings.Contains(errs, stderr) || strings.Contains(out+errs, "adminpw") || strings.Contains(out+errs, "hunter2") {
			t.Errorf("%s: exit code %d, %s%s", line, got, out, errs)
		}
	}
	at := "at http://" + address
	check("verify -c vecch.two", 0, at+" read; not compared with the blocks (see --state)", "vecch.two: reading the state: key 3/3, 100%")
	check("verify -c vecch.two --state", 0, at+" compared with a rebuild", "vecch.two: comparing the state: key 3/3, 100%")
	check("verify -q --state", 0, "vecch: 11 blocks, 22 transactions, ok", "")
	check("verify -q --path "+dir+" --couchdb", 0, "the state is in CouchDB, which was not looked at", "")
	check("verify -q --path "+dir+" --couchdbURL @"+url, 0, at+" read", "")
	check("verify -q --couchdbURL http://admin:hunter2@"+address, 2, "", "Error: CouchDB "+at+" refuses user [admin]")
	check("verify -q --couchdbURL http://admin:hunter2@127.0.0.1:x", 2, "", "Error: --couchdbURL is not of the form http[s]://")
	check("verify -q --couchdbURL @/nowhere/x", 2, "", "Error: --couchdbURL: open /nowhere/x: no such file")
	check("verify -q --couchdbURL https://"+address+" --couchdbRootCert /nowhere/x", 2, "", "Error: --couchdbRootCert: open /nowhere/x: no such file")
	other := recorded(t)
	check("compare -q --state --couchdbURL1 @"+url+" "+dir+" "+other, 0, "vecch: the same, 11 blocks, 129 keys of the state\n", "")
	check("compare -q --state --couchdbURL1 @"+url+" --couchdbURL2 @"+url+" "+dir+" "+dir, 0, "vecch.two: the same, 3 blocks, 3 keys of the state\n", "")
	check("compare -q --state "+dir+" "+other, 2, "", "no such file or directory; if it is in CouchDB, name the server")

	f.Put("vecch_cc1", "k1", map[string]any{"~version": "none"})
	check("verify -q", 1, "damage [state] http://"+address+"/vecch_cc1, document \"k1\", key \"cc1/k1\":\n    the document does not decode: document [k1]: no version of a key\n", "")
	check("verify -q --json", 1, `"document": "\"k1\""`, "")
	check("compare -q --state -c vecch --couchdbURL2 @"+url+" "+other+" "+dir, 1, `DIFFERENT in the state at key "k1" of namespace "cc1"`, "")
	t.Setenv("CORE_LEDGER_STATE_COUCHDBCONFIG_PASSWORD", "hunter2")
	check("verify", 2, "", "Error: CouchDB "+at+" refuses user [admin] with the password given")
	t.Setenv("CORE_LEDGER_STATE_COUCHDBCONFIG_COUCHDBADDRESS", "127.0.0.1:1")
	check("verify", 2, "", "Error: CouchDB at http://127.0.0.1:1 cannot be reached: ")
	t.Setenv("CORE_LEDGER_STATE_COUCHDBCONFIG_COUCHDBADDRESS", "ftp://x")
	check("verify", 2, "", "Error: address of CouchDB must be host:port")
	held, err := ledger.Lock(filepath.Join(dir, "ledgersData"), vfs.OS())
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	check("verify", 2, "", "Error: the peer is running")
}
