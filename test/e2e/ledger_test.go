package e2e

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// offline looks at the data of all nodes while they are down, with `peer ledger`
// (docs/ledger-tool.md), and starts them again on directories in which nothing
// has changed.
func (r *running) offline(t *testing.T) {
	tool := func(code int, args ...string) result {
		t.Helper()
		got := execute(t, r.dir, r.peerEnv(0), "peer", append([]string{"ledger"}, args...)...)
		if got.code != code {
			t.Fatalf("peer ledger %v: exit code %d\n%s%s", args, got.code, got.stdout, got.stderr)
		}
		return got
	}
	running := tool(2, "verify")
	if want := "lock is already acquired on file " + r.path("peer1", "ledgersData", "fileLock"); !strings.Contains(running.stderr, want) {
		t.Errorf("of a running peer: %s", running.stderr)
	}
	if got := tool(2, "inspect", "--path", r.path("orderer")); !strings.Contains(got.stderr, "the orderer is running") {
		t.Errorf("of a running orderer: %s", got.stderr)
	}
	info := r.info(0)
	eventually(t, "both peers at one height", func() bool { return r.info(0) == r.info(1) && r.info(0) == info })
	r.peers[0].stop()
	r.peers[1].stop()
	r.orderer.stop()
	dirs := []string{r.path("peer1"), r.path("peer2"), r.path("orderer")}
	before := fingerprint(t, dirs)

	r.verifyAll(t, tool, info)
	for _, other := range dirs[1:] {
		got := tool(0, "compare", "--state", dirs[0], other)
		if !strings.Contains(got.stdout, "mychannel: the same, ") {
			t.Errorf("compare: %s", got.stdout)
		}
		t.Log(got.stdout)
	}
	r.inspect(t, tool)
	if d := cmp.Diff(before, fingerprint(t, dirs)); d != "" {
		t.Errorf("the directories have changed: %s", d)
	}
	r.damage(t, tool)

	r.orderer = r.startOrderer()
	r.peers = [2]*daemon{r.startPeer(0), r.startPeer(1)}
	if after := r.info(0); after != info {
		t.Errorf("after a start %s, before %s", after, info)
	}
}

type toolFunc func(code int, args ...string) result

// verifyAll verifies all directories; they are of the height that the peer told.
func (r *running) verifyAll(t *testing.T, tool toolFunc, info string) {
	var told struct{ Height uint64 }
	if err := json.Unmarshal([]byte(strings.TrimPrefix(info, "Blockchain info: ")), &told); err != nil {
		t.Fatal(err)
	}
	text := tool(0, "verify")
	if want := fmt.Sprintf("mychannel: %d blocks, ", told.Height); !strings.HasPrefix(text.stdout, want) || !strings.Contains(text.stderr, "mychannel: block ") {
		t.Errorf("%s%s, want %s", text.stdout, text.stderr, want)
	}
	t.Log(text.stdout + text.stderr)
	for _, dir := range []string{"peer1", "peer2", "orderer"} {
		var report struct {
			Kind     string
			Channels []struct {
				Channel string
				Height  uint64
				Checks  []struct{ Name, Result, Detail string }
				Sound   bool
			}
			Sound bool
		}
		out := tool(0, "verify", "--json", "--quiet", "--state", "--path", r.path(dir))
		if err := json.Unmarshal([]byte(out.stdout), &report); err != nil || !report.Sound || out.stderr != "" {
			t.Fatalf("%s: %v, %s%s", dir, err, out.stdout, out.stderr)
		}
		if want := map[string]int{"peer": 1, "orderer": 2}[report.Kind]; len(report.Channels) != want {
			t.Errorf("%s: %s", dir, out.stdout)
		}
		c := report.Channels[0]
		if c.Channel != "mychannel" || c.Height != told.Height {
			t.Errorf("%s: %s of height %d, want %d", dir, c.Channel, c.Height, told.Height)
		}
		for _, check := range c.Checks {
			if check.Result != "ok" {
				t.Errorf("%s: %v", dir, check)
			}
			if check.Name == "block signatures" && check.Detail != fmt.Sprintf("%d blocks", told.Height-1) {
				t.Errorf("%s: %v", dir, check)
			}
		}
	}
}

// inspect looks at a block, a transaction and a key.
func (r *running) inspect(t *testing.T, tool toolFunc) {
	for _, dir := range []string{"peer1", "orderer"} {
		if got := tool(0, "inspect", "--path", r.path(dir)); !strings.Contains(got.stdout, "mychannel\n  height ") {
			t.Errorf("%s", got.stdout)
		} else {
			t.Log(got.stdout)
		}
		file := r.path("block.json")
		tool(0, "inspect", "--path", r.path(dir), "-c", "mychannel", "-b", "newest", "-o", file)
		var block struct {
			Number       uint64
			Transactions []struct{ TxID, Validation string }
			Signers      []struct{ MSPID string }
			Block        json.RawMessage
		}
		if err := json.Unmarshal([]byte(readFile(t, file)), &block); err != nil || len(block.Signers) != 1 || block.Signers[0].MSPID != "OrdererMSP" {
			t.Fatalf("%v, %+v", err, block)
		}
		writeFile(t, r.path("proto.json"), string(block.Block))
		r.do("configtxlator", "proto_encode", "--type", "common.Block", "--input", r.path("proto.json"), "--output", r.path("block.pb"))
		id := block.Transactions[0].TxID
		tx := tool(0, "inspect", "--quiet", "--path", r.path(dir), "-c", "mychannel", "-t", id)
		if !strings.Contains(tx.stdout, fmt.Sprintf("%q: %d", "block", block.Number)) || !strings.Contains(tx.stdout, id) {
			t.Errorf("transaction %s: %s", id, tx.stdout)
		}
	}
	key := tool(0, "inspect", "--key", "asset/car1")
	if !strings.Contains(key.stdout, `"text": "{\"id\":\"car1\",\"owner\":\"carol\",\"value\":100}"`) || strings.Count(key.stdout, `"txid"`) != 2 {
		t.Errorf("key: %s", key.stdout)
	}
	tool(2, "inspect", "-b", "1000000")
	tool(2, "inspect", "--path", r.path("orderer"), "-b", "1")
	tool(2, "inspect", "-b", "x")
	tool(2, "inspect", "-b", "1", "-t", "x")
	tool(2, "verify", "-c", "nobody")
	tool(2, "verify", "--path", r.path("config"))
	tool(2, "compare", "one")
	tool(2, "verify", "--bogus")
}

// damage flips a bit in a copy.
func (r *running) damage(t *testing.T, tool toolFunc) {
	dir := r.path("copy")
	if err := os.CopyFS(dir, os.DirFS(r.path("peer2"))); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "ledgersData/chains/chains/mychannel/blockfile_000000")
	raw := []byte(readFile(t, file))
	raw[len(raw)/2] ^= 1
	writeFile(t, file, string(raw))
	got := tool(1, "verify", "--path", dir)
	if !strings.Contains(got.stdout, "DAMAGED") || !strings.Contains(got.stdout, file+", offset ") || !strings.Contains(got.stdout, "remedy: ") {
		t.Errorf("%s", got.stdout)
	}
	t.Log(got.stdout)
	got = tool(1, "compare", r.path("peer1"), dir)
	if !strings.Contains(got.stdout, "mychannel: DIFFERENT at block ") {
		t.Errorf("%s", got.stdout)
	}
	t.Log(got.stdout)
}

// fingerprint is names, times and contents of all files of directories.
func fingerprint(t *testing.T, dirs []string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			info, err := e.Info()
			if err != nil {
				return err
			}
			out[name] = fmt.Sprintf("%s %x", info.ModTime(), sha256.Sum256([]byte(readFile(t, name))))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}
