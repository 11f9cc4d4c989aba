package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/heddle-ledger/heddle/ledger/state/couchdb/couchtest"
)

// TestCouchDB runs a network whose peers keep their state in CouchDB.
func TestCouchDB(t *testing.T) {
	r := &running{network: newNetwork(t, options{batchTimeout: "100ms"})}
	c := &couchNetwork{running: r}
	operations := freePorts(t, len(r.peers))
	for i := range r.peers {
		c.servers[i] = newCouch(t)
		c.operations[i] = address(operations[i])
		r.settings[i] = []string{
			"CORE_LEDGER_STATE_STATEDATABASE=CouchDB",
			"CORE_LEDGER_STATE_COUCHDBCONFIG_COUCHDBADDRESS=" + c.servers[i].address,
			"CORE_LEDGER_STATE_COUCHDBCONFIG_USERNAME=admin",
			"CORE_LEDGER_STATE_COUCHDBCONFIG_PASSWORD=adminpw",
			"CORE_LEDGER_STATE_COUCHDBCONFIG_INTERNALQUERYLIMIT=7",
			"CORE_OPERATIONS_LISTENADDRESS=" + c.operations[i],
			"CORE_METRICS_PROVIDER=prometheus",
		}
	}
	t.Run("start without server", c.startWithoutServer)
	r.deploy()
	t.Run("queries", c.queries)
	t.Run("operations", c.observed)
	t.Run("server comes back", c.serverComesBack)
	t.Run("peer dies", c.peerDies)
	t.Run("server stays away", c.serverStaysAway)
	t.Run("rebuild", c.rebuild)
	t.Run("reset", c.reset)
	t.Run("rollback", c.rollback)
}

// couchNetwork is a network with a CouchDB for each peer.
type couchNetwork struct {
	*running
	servers    [2]*couch
	operations [2]string
}

// couch is the way to a server, which can be cut.
type couch struct {
	t       *testing.T
	address string // where the way begins
	server  string

	mu       sync.Mutex // guards what follows
	listener net.Listener
	conns    map[net.Conn]struct{}
}

func newCouch(t *testing.T) *couch {
	t.Helper()
	c := &couch{t: t, address: address(freePorts(t, 1)[0]), server: startCouch(t), conns: map[net.Conn]struct{}{}}
	c.mend()
	t.Cleanup(c.cut)
	return c
}

// couchVariable, set to "node", has the Node server take the place of the fake.
const couchVariable = "HEDDLE_E2E_COUCHDB"

func startCouch(t *testing.T) string {
	if os.Getenv(couchVariable) == "node" {
		return couchtest.Real(t)
	}
	return couchtest.Server(t)
}

// mend opens the way.
func (c *couch) mend() {
	l, err := net.Listen("tcp", c.address)
	if err != nil {
		c.t.Fatal(err)
	}
	c.mu.Lock()
	c.listener = l
	c.mu.Unlock()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go c.forward(l, conn)
		}
	}()
}

func (c *couch) forward(l net.Listener, conn net.Conn) {
	to, err := net.Dial("tcp", c.server)
	if err != nil {
		conn.Close()
		return
	}
	c.mu.Lock()
	if c.listener != l { // cut in the meantime
		c.mu.Unlock()
		conn.Close()
		to.Close()
		return
	}
	c.conns[conn], c.conns[to] = struct{}{}, struct{}{}
	c.mu.Unlock()
	go func() {
		io.Copy(to, conn) //nolint:errcheck // ends with either side
		to.Close()
	}()
	io.Copy(conn, to) //nolint:errcheck // ends with either side
	conn.Close()
	c.mu.Lock()
	delete(c.conns, conn)
	delete(c.conns, to)
	c.mu.Unlock()
}

// cut closes the way at once.
func (c *couch) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.listener == nil {
		return
	}
	c.listener.Close()
	c.listener = nil
	for conn := range c.conns {
		conn.Close()
	}
	clear(c.conns)
}

// get asks the server itself.
func (c *couch) get(method, path string) (int, string) {
	c.t.Helper()
	req, err := http.NewRequest(method, "http://"+c.server+path, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	req.SetBasicAuth("admin", "adminpw")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// startWithoutServer: the peer says what it cannot reach, and where that is set.
func (c *couchNetwork) startWithoutServer(t *testing.T) {
	c.servers[0].cut()
	defer c.servers[0].mend()
	d := start(t, c.dir, c.peerEnv(0, "CORE_LEDGER_STATE_COUCHDBCONFIG_MAXRETRIESONSTARTUP=1"), "peer", "node", "start")
	code := d.wait()
	log := d.log.String()
	for _, want := range []string{
		"unable to connect to CouchDB, check the hostname and port: http error calling couchdb: Get \"http://" + c.servers[0].address + "\": ",
		"connection refused", "(ledger.state.couchDBConfig.couchDBAddress is " + c.servers[0].address + ")", "Attempt:1",
	} {
		if !strings.Contains(log, want) {
			t.Errorf("no %q in\n%s", want, log)
		}
	}
	if code != 2 || strings.Contains(log, "Attempt:2") {
		t.Errorf("exit code %d\n%s", code, log)
	}
	// SIGTERM ends the waiting.
	d = start(t, c.dir, c.peerEnv(0), "peer", "node", "start")
	d.waitFor("Attempt:1")
	d.stop()
	c.noLevelDB(t)
}

func (c *couchNetwork) noLevelDB(t *testing.T) {
	for i := range c.peers {
		if _, err := os.Stat(c.path(fmt.Sprintf("peer%d/ledgersData/stateLeveldb", i+1))); !os.IsNotExist(err) {
			t.Errorf("peer %d has a directory for a state that is elsewhere: %v", i, err)
		}
	}
}

// found is a page of the sample chaincode.
type found struct {
	Keys     []string
	Bookmark string
	Count    int
}

func (c *couchNetwork) page(t *testing.T, i int, args ...string) found {
	t.Helper()
	call, err := json.Marshal(map[string][]string{"Args": args})
	if err != nil {
		t.Fatal(err)
	}
	var f found
	out := c.query(i, string(call))
	if err := json.Unmarshal([]byte(out), &f); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	if f.Count != len(f.Keys) {
		t.Errorf("%d keys, counted as %d", len(f.Keys), f.Count)
	}
	return f
}

const ofAlice = `{"selector":{"owner":"alice"},"use_index":["_design/indexOwnerDoc","indexOwner"]}`

// queries makes documents and finds them again.
func (c *couchNetwork) queries(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cl := c.client(0, "User1")
	events := watch(ctx, t, cl, 0)
	var ids []string
	for i := range 24 {
		id, err := cl.invoke(ctx, "create", fmt.Sprintf("doc%02d", i), []string{"alice", "bob"}[i%2], fmt.Sprint(i))
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	events.all(t, ids)
	for i := range c.peers {
		c.caughtUp(t, i)
		var all []string
		f := c.page(t, i, "queryPage", ofAlice, "5", "")
		for len(f.Keys) > 0 {
			all = append(all, f.Keys...)
			f = c.page(t, i, "queryPage", ofAlice, "5", f.Bookmark)
		}
		whole := []string{"doc00", "doc02", "doc04", "doc06", "doc08", "doc10", "doc12", "doc14", "doc16", "doc18", "doc20", "doc22"}
		if fmt.Sprint(all) != fmt.Sprint(whole) {
			t.Errorf("peer %d: pages %v", i, all)
		}
		if got := c.query(i, `{"Args":["query",`+quote(ofAlice)+`]}`); got != asJSON(whole) {
			t.Errorf("peer %d: %s", i, got)
		}
		if got := c.query(i, `{"Args":["list","doc03","doc06"]}`); got != `["doc03","doc04","doc05"]` {
			t.Errorf("peer %d: range %s", i, got)
		}
		if got := c.page(t, i, "page", "10", "doc05"); len(got.Keys) != 10 || got.Keys[0] != "doc05" || got.Bookmark != "doc15" {
			t.Errorf("peer %d: page of a range %v", i, got)
		}
		if got := c.query(i, `{"Args":["read","doc07"]}`); got != `{"id":"doc07","owner":"bob","value":7}` {
			t.Errorf("peer %d: %s", i, got)
		}
		if got := c.query(i, `{"Args":["byOwner","bob"]}`); strings.Count(got, "doc") != 12 {
			t.Errorf("peer %d: composite keys %s", i, got)
		}
		c.hasIndex(t, i)
	}
	bad := c.user(0, "User1").try("chaincode", "query", "-C", "mychannel", "-n", "asset", "-c", `{"Args":["query","nonsense"]}`)
	if bad.code != 1 || !strings.Contains(bad.stderr, "GET_QUERY_RESULT failed: transaction ID: ") {
		t.Errorf("bad query: %d, %s", bad.code, bad.stderr)
	}
	c.noLevelDB(t)
}

func quote(s string) string { return asJSON(s) }

func asJSON(v any) string {
	raw, _ := json.Marshal(v) //nolint:errcheck // plain values
	return string(raw)
}

// caughtUp waits until a peer has the height of the other.
func (c *couchNetwork) caughtUp(t *testing.T, i int) {
	t.Helper()
	eventually(t, "the same height", func() bool { return c.info(i) == c.info(1-i) })
}

// health is what /healthz says.
func (c *couchNetwork) health(t *testing.T, i int) (int, string) {
	t.Helper()
	return httpGet(t, "http://"+c.operations[i]+"/healthz")
}

func httpGet(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// observed: the server is part of the peer's health and metrics.
func (c *couchNetwork) observed(t *testing.T) {
	if code, body := c.health(t, 0); code != http.StatusOK {
		t.Errorf("%d %s", code, body)
	}
	_, metrics := httpGet(t, "http://"+c.operations[0]+"/metrics")
	if !strings.Contains(metrics, `couchdb_processing_time_count{database="mychannel_asset",function_name=`) {
		t.Error("no times of requests in the metrics")
	}
	c.servers[0].cut()
	code, body := c.health(t, 0)
	c.servers[0].mend()
	if code != http.StatusServiceUnavailable || !strings.Contains(body, `"component":"couchdb","reason":"failed to connect to couch db [http error calling couchdb: Head \"http://`+c.servers[0].address) {
		t.Errorf("%d %s", code, body)
	}
	if code, body := c.health(t, 0); code != http.StatusOK {
		t.Errorf("%d %s", code, body)
	}
}

// serverComesBack: an interruption shorter than the repetitions costs nothing
// but time. Rich queries, for which blocks have to wait, go on all the while.
func (c *couchNetwork) serverComesBack(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cl := c.client(0, "User1")
	events := watch(ctx, t, cl, 0)
	l := startLoad(ctx, cl, "back", 2)
	l.reach(t, 10)
	querying, stop := context.WithCancel(ctx)
	var queries sync.WaitGroup
	for i := range c.peers {
		queries.Go(func() {
			n := 0
			for ; querying.Err() == nil; n++ {
				if _, err := cl.Call(ctx, i, "mychannel", "asset", []byte("queryPage"), []byte(ofAlice), []byte("5"), nil); err != nil {
					t.Errorf("query of peer %d: %v", i, err)
				}
			}
			t.Logf("%d queries of peer %d", n, i)
		})
	}
	for range 3 {
		c.servers[0].cut()
		time.Sleep(100 * time.Millisecond)
		c.servers[0].mend()
		l.reach(t, l.count()+5)
	}
	stop()
	queries.Wait()
	if l.failures > 0 {
		t.Errorf("%d failures, the last: %v", l.failures, l.lastErr)
	}
	events.all(t, l.stop())
	if c.peers[0].ended() {
		t.Error("the peer has ended")
	}
}

// peerDies at any moment and comes back to the same state.
func (c *couchNetwork) peerDies(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cl := c.client(0, "User1")
	events := watch(ctx, t, cl, 0)
	l := startLoad(ctx, cl, "dies", 4)
	for range 2 {
		l.reach(t, l.count()+20)
		c.peers[1].kill()
		c.peers[1] = c.startPeer(1)
	}
	l.reach(t, l.count()+10)
	accepted := l.stop()
	last, err := cl.invoke(ctx, "create", "last", "x", "1")
	if err != nil {
		t.Fatal(err)
	}
	accepted = append(accepted, last)
	events.all(t, accepted)
	c.compareChains(ctx, t, cl, events.seen(), accepted)
	c.sameAnswers(t)
}

// sameAnswers: both peers have the same state.
func (c *couchNetwork) sameAnswers(t *testing.T) {
	t.Helper()
	c.caughtUp(t, 1)
	for _, call := range []string{`{"Args":["list"]}`, `{"Args":["query",` + quote(`{"selector":{"value":{"$gt":0}}}`) + `]}`} {
		one, two := c.query(0, call), c.query(1, call)
		if one != two || len(one) < 100 {
			t.Errorf("%s: %s, %s", call, one, two)
		}
	}
}

// serverStaysAway: the peer waits for a server that is away for longer than the
// repetitions last, says so, and goes on with the same block without a restart.
func (c *couchNetwork) serverStaysAway(t *testing.T) {
	for i, work := range []string{"committing", "validating", "validating"} {
		c.peers[1].stop()
		c.peers[1] = c.startPeer(1, "CORE_LEDGER_STATE_COUCHDBCONFIG_MAXRETRIES=1")
		id := fmt.Sprintf("doc%02d", 4*i)
		if work == "committing" { // validation knows the chaincode then
			c.invoke(`{"Args":["transfer","`+id+`","carol"]}`, "--waitForEvent")
		}
		before := c.info(1)
		c.servers[1].cut()
		// Not valid with one endorsement, but a block.
		c.user(0, "User1").peer(c.ordered("chaincode", "invoke", "-C", "mychannel", "-n", "asset", "-c", `{"Args":["transfer","`+id+`","carol"]}`)...)
		c.peers[1].waitFor("is out of reach while " + work + " block [")
		c.peers[1].waitFor("Attempt 2 has failed and is repeated in 1s: ")
		c.seenToBeAway(t, before)
		if i == 2 { // SIGTERM ends the waiting
			begun := time.Now()
			c.peers[1].stop()
			if took := time.Since(begun); took > 5*time.Second {
				t.Errorf("the peer took %s to end", took)
			}
			c.servers[1].mend()
			c.peers[1] = c.startPeer(1)
		} else {
			c.servers[1].mend()
			c.peers[1].waitFor("is there again after ")
		}
		c.caughtUp(t, 1)
	}
	c.invoke(`{"Args":["transfer","doc02","carol"]}`, "--waitForEvent")
	c.sameAnswers(t)
}

// seenToBeAway: whoever asks a peer whose server is away is told so at once.
func (c *couchNetwork) seenToBeAway(t *testing.T, before string) {
	t.Helper()
	if got := c.info(1); got != before {
		t.Errorf("the chain has moved: %s, %s", before, got)
	}
	if code, body := c.health(t, 1); code != http.StatusServiceUnavailable || !strings.Contains(body, `"component":"couchdb"`) {
		t.Errorf("%d %s", code, body)
	}
	r := c.user(1, "User1").try("chaincode", "query", "-C", "mychannel", "-n", "asset", "-c", `{"Args":["read","doc05"]}`)
	if r.code != 1 || !strings.Contains(r.stderr, "http error calling couchdb: ") {
		t.Errorf("query: %d, %s", r.code, r.stderr)
	}
}

// reset leaves the databases of CouchDB alone, as the reference does; the peer
// then says what to do.
func (c *couchNetwork) reset(t *testing.T) {
	_, savepoint := c.servers[1].get("GET", "/mychannel_/statedb_savepoint")
	c.peers[1].stop()
	if r := execute(t, c.dir, c.peerEnv(1), "peer", "node", "reset"); r.code != 0 {
		t.Fatalf("reset: exit code %d\n%s", r.code, r.stderr)
	}
	d := c.startPeer(1)
	d.waitFor("the state database [height=")
	d.stop()
	c.dropByHand(t, c.databases(t, 1)...)
	c.peers[1] = c.startPeer(1)
	var at struct{ BlockNum, TxNum int }
	if err := json.Unmarshal([]byte(savepoint), &at); err != nil || at.BlockNum == 0 {
		t.Fatalf("%s: %v", savepoint, err)
	}
	want := fmt.Sprintf(`"BlockNum":%d,"TxNum":%d`, at.BlockNum, at.TxNum)
	eventually(t, want, func() bool {
		_, savepoint := c.servers[1].get("GET", "/mychannel_/statedb_savepoint")
		return strings.Contains(savepoint, want)
	})
	c.hasIndex(t, 1)
}

// databases lists those of the channel.
func (c *couchNetwork) databases(t *testing.T, i int) []string {
	t.Helper()
	_, all := c.servers[i].get("GET", "/_all_dbs")
	var names []string
	if err := json.Unmarshal([]byte(all), &names); err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, "mychannel_") })
}

// dropByHand does what the documentation tells to do after a reset or rollback.
func (c *couchNetwork) dropByHand(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if code, body := c.servers[1].get("DELETE", "/"+name); code != http.StatusOK {
			t.Fatalf("%s: %d %s", name, code, body)
		}
	}
}

// rollback takes one peer back. Whether its databases are dropped by hand or by
// rebuild-dbs, it comes to the state of the other one again; and before that it
// takes no part in the channel.
func (c *couchNetwork) rollback(t *testing.T) {
	back := func(to string) {
		t.Helper()
		c.peers[1].stop()
		if r := execute(t, c.dir, c.peerEnv(1), "peer", "node", "rollback", "-c", "mychannel", "-b", to); r.code != 0 {
			t.Fatalf("rollback: exit code %d\n%s", r.code, r.stderr)
		}
		d := c.startPeer(1)
		d.waitFor("is ahead of the block store [height=")
		d.stop()
	}
	back("5")
	c.dropByHand(t, "mychannel_")
	d := c.startPeer(1)
	d.waitFor("Failed to load ledger mychannel(the state database was dropped in part only: it has no savepoint, but document [")
	d.stop()
	c.dropByHand(t, c.databases(t, 1)...)
	c.peers[1] = c.startPeer(1)
	c.sameDocuments(t)

	back("3")
	if r := execute(t, c.dir, c.peerEnv(1), "peer", "node", "rebuild-dbs"); r.code != 0 {
		t.Fatalf("rebuild-dbs: exit code %d\n%s", r.code, r.stderr)
	}
	if left := c.databases(t, 1); len(left) != 0 {
		t.Errorf("left: %s", left)
	}
	c.peers[1] = c.startPeer(1)
	c.sameDocuments(t)
	c.hasIndex(t, 1)
}

// sameDocuments waits until the second peer has the documents of the first one.
func (c *couchNetwork) sameDocuments(t *testing.T) {
	t.Helper()
	names := c.databases(t, 0)
	if len(names) < 3 {
		t.Fatalf("only databases %s", names)
	}
	savepoint := func(i int) string { return c.documents(t, i, "mychannel_") }
	eventually(t, "the same savepoint", func() bool { return savepoint(0) == savepoint(1) })
	for _, name := range names {
		if one, two := c.documents(t, 0, name), c.documents(t, 1, name); one != two {
			t.Errorf("%s: %s, %s", name, one, two)
		}
	}
}

// documents are those of a database, as far as all peers have the same.
func (c *couchNetwork) documents(t *testing.T, i int, name string) string {
	t.Helper()
	_, body := c.servers[i].get("GET", "/"+name+"/_all_docs?include_docs=true&attachments=true")
	return regexp.MustCompile(`"_?rev":"[^"]*"|"revpos":[0-9]+|"digest":"[^"]*"`).ReplaceAllString(body, "")
}

func (c *couchNetwork) hasIndex(t *testing.T, i int) {
	t.Helper()
	if code, index := c.servers[i].get("GET", "/mychannel_asset/_index"); code != http.StatusOK || !strings.Contains(index, "_design/indexOwnerDoc") {
		t.Errorf("peer %d: %d, indexes %s", i, code, index)
	}
}
