package e2e

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// rebuild drops and rebuilds the databases of a peer, with and without --now,
// kills it meanwhile, and expects that the peer always answers as before.
func (r *running) rebuild(t *testing.T) {
	r.invoke(`{"Args":["create","rebuilt","dora","7"]}`, "--waitForEvent")
	const list, one = `{"Args":["list"]}`, `{"Args":["read","rebuilt"]}`
	info, all := r.info(0), r.query(0, list)
	check := func(when string) {
		t.Helper()
		if got := r.info(0); got != info {
			t.Errorf("%s: %s, before %s", when, got, info)
		}
		if got := r.query(0, list); got != all {
			t.Errorf("%s: %d bytes of keys, before %d", when, len(got), len(all))
		}
		if got, want := r.query(0, one), `{"id":"rebuilt","owner":"dora","value":7}`; got != want {
			t.Errorf("%s: %s, want %s", when, got, want)
		}
	}
	command := func(code int, args ...string) result {
		t.Helper()
		got := execute(t, r.dir, r.peerEnv(0), "peer", append([]string{"node", "rebuild-dbs"}, args...)...)
		if got.code != code || got.stdout != "" {
			t.Fatalf("peer node rebuild-dbs %v: exit code %d\n%s%s", args, got.code, got.stdout, got.stderr)
		}
		return got
	}
	data := r.path("peer1", "ledgersData")
	lock := "Error: as another peer node command is executing, wait for that command to complete its execution or terminate it before retrying: lock is already acquired on file " + filepath.Join(data, "fileLock") + "\n"
	for _, flags := range [][]string{nil, {"--now"}} {
		if got := command(1, flags...); !strings.Contains(got.stderr, lock) {
			t.Errorf("of a running peer: %s", got.stderr)
		}
	}

	r.peers[0].stop()
	command(0)
	for dir, there := range map[string]bool{
		"stateLeveldb": false, "configHistory": false, "bookkeeper": false, "historyLeveldb": false, "chains/index": false,
		"chains/chains/mychannel/blockfile_000000": true, "ledgerProvider": true, "pvtdataStore": true,
		"chains/chains/mychannel/__preResetHeight": false,
	} {
		if _, err := os.Stat(filepath.Join(data, dir)); (err == nil) != there {
			t.Errorf("%s: %v", dir, err)
		}
	}
	command(0)
	r.peers[0] = r.startPeer(0)
	for _, line := range []string{"[mychannel] index: block ", "[mychannel] replay: block "} {
		if !strings.Contains(r.peers[0].log.String(), line) {
			t.Errorf("the start does not log %q", line)
		}
	}
	check("after rebuild-dbs")

	r.peers[0].stop()
	if got := command(0, "--now"); !strings.Contains(got.stderr, "[mychannel] replay: block ") || !strings.Contains(got.stderr, ", 100%") {
		t.Errorf("no progress:\n%s", got.stderr)
	}
	r.peers[0] = r.startPeer(0)
	if strings.Contains(r.peers[0].log.String(), "replay: block") {
		t.Error("the start rebuilds again")
	}
	check("after rebuild-dbs --now")

	for _, text := range []string{"Dropping database [stateLeveldb]", "Dropping database [chains/index]", "indexing blocks", "Replaying blocks"} {
		r.peers[0].stop()
		d := start(t, r.dir, r.peerEnv(0), "peer", "node", "rebuild-dbs", "--now")
		d.waitFor(text)
		d.kill()
		r.peers[0] = r.startPeer(0)
		check("killed at " + text)
	}

	r.peers[0].stop()
	command(0)
	d := start(t, r.dir, r.peerEnv(0), "peer", "node", "start")
	d.waitFor("Replaying blocks")
	d.kill()
	r.peers[0] = r.startPeer(0)
	check("killed while it was rebuilding")
	r.invoke(`{"Args":["transfer","rebuilt","emil"]}`, "--waitForEvent")
	for i := range r.peers {
		if got := r.query(i, `{"Args":["byOwner","emil"]}`); got != `["rebuilt"]` {
			t.Errorf("peer %d: assets of emil: %s", i, got)
		}
	}
}

// rebuild drops and rebuilds the state in CouchDB too, and nobody else's
// databases.
func (c *couchNetwork) rebuild(t *testing.T) {
	if code, body := c.servers[0].get("PUT", "/mychannel2_foreign"); code != http.StatusCreated {
		t.Fatalf("%d %s", code, body)
	}
	databases := func() (ours int, foreign bool) {
		_, all := c.servers[0].get("GET", "/_all_dbs")
		var names []string
		if err := json.Unmarshal([]byte(all), &names); err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if strings.HasPrefix(name, "mychannel_") {
				ours++
			}
		}
		return ours, slices.Contains(names, "mychannel2_foreign")
	}
	before, _ := databases()
	command := func(env []string, args ...string) result {
		t.Helper()
		c.peers[0].stop()
		got := execute(t, c.dir, env, "peer", append([]string{"node", "rebuild-dbs"}, args...)...)
		if got.stdout != "" {
			t.Errorf("standard output: %s", got.stdout)
		}
		return got
	}
	check := func(when string) {
		t.Helper()
		c.peers[0] = c.startPeer(0)
		c.sameAnswers(t)
		c.hasIndex(t, 0)
		if now, foreign := databases(); now != before || !foreign {
			t.Errorf("%s: %d databases, before %d; the foreign one: %t", when, now, before, foreign)
		}
	}

	if got := command(c.peerEnv(0)); got.code != 0 {
		t.Fatalf("exit code %d\n%s", got.code, got.stderr)
	}
	if now, foreign := databases(); now != 0 || !foreign {
		t.Errorf("%d databases left; the foreign one: %t", now, foreign)
	}
	check("rebuild-dbs")

	if got := command(c.peerEnv(0), "--now"); got.code != 0 || !strings.Contains(got.stderr, "[mychannel] replay: block ") {
		t.Fatalf("exit code %d\n%s", got.code, got.stderr)
	}
	c.hasIndex(t, 0)
	check("rebuild-dbs --now")

	// Without the server nothing is dropped.
	c.peers[0].stop()
	c.servers[0].cut()
	got := execute(t, c.dir, c.peerEnv(0, "CORE_LEDGER_STATE_COUCHDBCONFIG_MAXRETRIESONSTARTUP=1"), "peer", "node", "rebuild-dbs", "--now")
	if _, err := os.Stat(c.path("peer1", "ledgersData", "historyLeveldb")); err != nil || got.code != 1 || !strings.Contains(got.stderr, "Error: drop the states of the channels: ") {
		t.Errorf("without server: exit code %d, %v\n%s", got.code, err, got.stderr)
	}
	c.servers[0].mend()
	d := start(t, c.dir, c.peerEnv(0), "peer", "node", "rebuild-dbs", "--now")
	d.waitFor("Replaying blocks")
	d.kill()
	check("killed")
}
