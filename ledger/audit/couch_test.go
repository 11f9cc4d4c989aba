package audit

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset/kvrwset"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/testnet/testchain"
	"github.com/heddle-ledger/heddle/ledger"
	"github.com/heddle-ledger/heddle/ledger/mvcc"
	"github.com/heddle-ledger/heddle/ledger/state"
	"github.com/heddle-ledger/heddle/ledger/state/couchdb"
	"github.com/heddle-ledger/heddle/ledger/state/couchdb/couchtest"
)

// couchHeight is the height of the chain over CouchDB, and couchKeys the keys of
// its state.
const (
	couchHeight = chainLength + 2
	couchKeys   = 27
)

// couchPeer is a copy of the made peer whose state lies on a server, with values of
// all forms in two more blocks.
func couchPeer(t *testing.T, address string) string {
	t.Helper()
	m := madeChain(t)
	dir := peerCopy(t)
	must(t, os.RemoveAll(filepath.Join(dir, "ledgersData", dbState)))
	p, err := ledger.OpenProvider(ledger.Config{
		Dir: filepath.Join(dir, "ledgersData"), History: true, Log: flog.Nop(),
		OpenState: func() (state.Provider, error) {
			return couchdb.OpenProvider(context.Background(), couchdb.Config{Address: address, MaxRetries: 2})
		},
	})
	must(t, err)
	l, err := p.OpenContext(t.Context(), channelID)
	must(t, err)
	prev := m.blocks[chainLength-1].Header
	commit := func(set *kvrwset.KVRWSet) {
		t.Helper()
		number := prev.Number + 1
		tx := m.net.Tx(testchain.Tx{
			Channel: channelID, Chaincode: "Marbles", Nonce: fmt.Appendf(nil, "nonce of %d", number),
			Set: []*rwset.NsReadWriteSet{testchain.Namespace("Marbles", set)},
		})
		b := m.net.Block(number, prev, configBlock, tx)
		parsed := protoutil.ParseBlock(b)
		parsed.SetFlags([]byte{0})
		must(t, l.Commit(parsed))
		prev = b.Header
	}
	commit(&kvrwset.KVRWSet{
		Writes: []*kvrwset.KVWrite{
			set("binary", "\x00\xff"), set("blob", strings.Repeat("blob", 2000)), set("car", `{"b": 1, "a": {"x": [1, 2.50, "<"]}, "n": 12345678901234567890}`),
			set("dup", `{"a":1,"a":2}`), set("empty", `{}`), set("list", `[1]`), set("x/y+z w%", `{"a":"b"}`), set("é", "é"), set("\x00color\x00blue\x00m1\x00", "\x00"),
			set("\x00color\x00red\x00m2\x00", `{"v":1e-7}`), set("~", "tilde"), set("gone", "gone"),
		},
		MetadataWrites: []*kvrwset.KVMetadataWrite{testchain.Parameter("car", []byte("policy"))},
	})
	commit(&kvrwset.KVRWSet{
		Writes:         []*kvrwset.KVWrite{{Key: "gone", IsDelete: true}, set("late", `{"z":true}`)},
		MetadataWrites: []*kvrwset.KVMetadataWrite{testchain.Parameter("dup", []byte("policy"))},
	})
	must(t, p.Close())
	return dir
}

// viewer looks at a server, by pages of few documents.
func viewer(t testing.TB, cfg couchdb.Config) *couchdb.Viewer {
	t.Helper()
	cfg.InternalQueryLimit, cfg.MaxBatchUpdateSize = 4, 3
	v, err := couchdb.OpenViewer(t.Context(), cfg)
	must(t, err)
	t.Cleanup(func() { v.Close() })
	return v
}

// onlyReads fails the test at requests that may change anything.
func onlyReads(t testing.TB, f *couchtest.Fake) {
	f.Intercept = func(_ http.ResponseWriter, r *http.Request) bool {
		path := r.URL.Path
		reads := (r.Method == http.MethodGet || r.Method == http.MethodHead) && !strings.Contains(path, "/_view") ||
			r.Method == http.MethodPost && strings.HasSuffix(path, "/_all_docs")
		if !reads {
			t.Errorf("%s %s", r.Method, path)
		}
		return false
	}
}

// documents is everything on a server.
func documents(f *couchtest.Fake) map[string]any {
	out := map[string]any{}
	for _, db := range f.Databases() {
		out[db] = f.Documents(db)
	}
	return out
}

// verifyCouch verifies, and makes sure that nothing on the server has changed.
func verifyCouch(t testing.TB, dir string, f *couchtest.Fake, address string, full bool) *Channel {
	t.Helper()
	before := documents(f)
	onlyReads(t, f)
	defer func() { f.Intercept = nil }()
	r := verify(t, dir, Options{State: full, Server: viewer(t, couchdb.Config{Address: address})})
	if d := cmp.Diff(before, documents(f)); d != "" {
		t.Errorf("the server has changed: %s", d)
	}
	return r.Channels[0]
}

func TestCouchSound(t *testing.T) {
	f := couchtest.New()
	address := couchtest.Start(t, f)
	dir := couchPeer(t, address)
	f.Put("other_", "statedb_savepoint", map[string]any{"BlockNum": 7, "TxNum": 0}) // of another channel
	f.Put("other_cc", "k", map[string]any{"what": "ever"})
	f.Put("ch_asked", "k", nil)
	remove(t, address, "ch_asked", "k") // an empty one, of a query that found nothing
	for _, full := range []bool{false, true} {
		c := verifyCouch(t, dir, f, address, full)
		if !c.Sound || len(c.Findings) > 0 || c.Height != couchHeight {
			t.Fatal(show(c))
		}
		want := fmt.Sprintf("ok: %d keys in %d databases at http://%s read; not compared with the blocks (see --state)", couchKeys, 9, address)
		if full {
			want = fmt.Sprintf("ok: %d keys in 9 databases at http://%s compared with a rebuild", couchKeys, address)
		}
		if got := checks(c)[checkState]; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// request sends a request as an administrator might with curl.
func request(t testing.TB, method, address, db, id, rev string, body any) {
	t.Helper()
	raw, err := json.Marshal(body)
	must(t, err)
	url := "http://" + address + "/" + db + "/" + escape(id)
	if rev != "" {
		url += "?rev=" + rev
	}
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(raw))
	must(t, err)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	defer resp.Body.Close()
	if told, _ := io.ReadAll(resp.Body); resp.StatusCode > 299 {
		t.Fatalf("%s %s: %s %s", method, url, resp.Status, told)
	}
}

func escape(id string) string {
	var b strings.Builder
	for _, c := range []byte(id) {
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String()
}

// fetched is a document as it is.
func fetched(t testing.TB, address, db, id string) map[string]any {
	t.Helper()
	resp, err := http.Get("http://" + address + "/" + db + "/" + escape(id) + "?attachments=true")
	must(t, err)
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("document [%s] of %s: %s", id, db, resp.Status)
	}
	out := map[string]any{}
	must(t, json.NewDecoder(resp.Body).Decode(&out))
	return out
}

func remove(t testing.TB, address, db, id string) {
	t.Helper()
	request(t, http.MethodDelete, address, db, id, fetched(t, address, db, id)["_rev"].(string), nil)
}

// alter changes members of a document and leaves the others; nil takes one away.
func alter(t testing.TB, address, db, id string, change map[string]any) {
	t.Helper()
	doc := fetched(t, address, db, id)
	for name, v := range change {
		if v == nil {
			delete(doc, name)
		} else {
			doc[name] = v
		}
	}
	request(t, http.MethodPut, address, db, id, "", doc)
}

// versionText is a member ~version with some content.
func versionText(raw string) string { return "\x00" + base64.StdEncoding.EncodeToString([]byte(raw)) }

// hashOf is the document of a private key's hash.
func hashOf(key string) string {
	ns, _ := privateWrite("stays", key)
	h := &kvrwset.HashedRWSet{}
	if err := unmarshal(ns.CollectionHashedRwset[0].HashedRwset, h); err != nil {
		panic(err)
	}
	return base64.StdEncoding.EncodeToString(h.HashedWrites[0].KeyHash)
}

// couchDamages are things that somebody does to the server, and what is found.
// Findings are "severity database document key: problem".
func couchDamages() map[string]struct {
	do          func(t testing.TB, address string)
	found, full []string // without --state, and what it finds besides
} {
	const db, config = "ch_$marbles", mvcc.ConfigKey
	savepoint := func(members map[string]any) func(testing.TB, string) {
		return func(t testing.TB, address string) { alter(t, address, "ch_", couchdb.SavepointID, members) }
	}
	change := func(id string, members map[string]any) func(testing.TB, string) {
		return func(t testing.TB, address string) { alter(t, address, db, id, members) }
	}
	return map[string]struct {
		do          func(t testing.TB, address string)
		found, full []string
	}{
		"value": {change("car", map[string]any{"b": 2}), nil, []string{
			`damage ch_$marbles "car" "Marbles/car": the state has value "{\"a\":{\"x\":[1,2.5`,
		}},
		"new member": {change("late", map[string]any{"more": 1}), nil, []string{`damage ch_$marbles "late" "Marbles/late": the state has value "{\"more\":1,\"z\":true}" of version {BlockNum: 15`}},
		"no version": {
			change("late", map[string]any{"~version": nil}),
			[]string{`damage ch_$marbles "late" "Marbles/late": the document does not decode: document [late]: no version of a key: the member ~version is missing`},
			nil,
		},
		"bad version":     {change("late", map[string]any{"~version": "what?"}), []string{`damage ch_$marbles "late" "Marbles/late": the document does not decode: document [late]: no version`}, nil},
		"version no text": {change("late", map[string]any{"~version": 5}), []string{`damage ch_$marbles "late" "Marbles/late": the document does not decode: malformed document`}, nil},
		"old version":     {change("late", map[string]any{"~version": "15:0"}), nil, nil},
		"other version":   {change("late", map[string]any{"~version": "14:0"}), nil, []string{`damage ch_$marbles "late" "Marbles/late": the state has value "{\"z\":true}" of version {BlockNum: 14, TxNum: 0}, a rebuild`}},
		"future version":  {change("late", map[string]any{"~version": "16:0"}), []string{`damage ch_$marbles "late" "Marbles/late": the value is of block [16], but there are 16 blocks`}, []string{`damage ch_$marbles "late" "Marbles/late": the state has`}},
		"metadata": {
			change("late", map[string]any{"~version": versionText("\x0a\x03\x01\x0f\x00\x12\x02\xff\xff")}),
			[]string{`damage ch_$marbles "late" "Marbles/late": the metadata of the key do not decode: ffff`},
			[]string{`damage ch_$marbles "late" "Marbles/late": the state has`},
		},
		"no attachment":    {change("binary", map[string]any{"_attachments": nil}), nil, []string{`damage ch_$marbles "binary" "Marbles/binary": the state has value "{}" of`}},
		"other attachment": {change("binary", map[string]any{"_attachments": map[string]any{"valueBytes": map[string]any{"data": "AAA=", "content_type": "x/y"}}}), nil, []string{`damage ch_$marbles "binary" "Marbles/binary": the state has value "\x00\x00"`}},
		"beside attachment": {
			change("binary", map[string]any{"owner": "me"}),
			[]string{`warning ch_$marbles "binary" "Marbles/binary": the document has member "owner", which no peer writes beside its value`},
			nil,
		},
		"composite key": {change("\x00color\x00red\x00m2\x00", map[string]any{"v": 2}), nil, []string{`damage ch_$marbles "\x00color\x00red\x00m2\x00" "Marbles/\x00color\x00red\x00m2\x00": the state has value "{\"v\":2}"`}},
		"lost": {
			func(t testing.TB, address string) {
				remove(t, address, db, "~")
				remove(t, address, db, "\x00color\x00blue\x00m1\x00")
			},
			nil,
			[]string{
				`damage ch_$marbles "\x00color\x00blue\x00m1\x00" "Marbles/\x00color\x00blue\x00m1\x00": the state has no such key, a rebuild from the blocks gives value "\x00"`,
				`damage ch_$marbles "~" "Marbles/~": the state has no such key`,
			},
		},
		"strange document": {
			func(t testing.TB, address string) {
				request(t, http.MethodPut, address, db, "stray", "", map[string]any{"a": 1, "~version": "3:0"})
			},
			nil,
			[]string{`damage ch_$marbles "stray" "Marbles/stray": the state has value "{\"a\":1}" of version {BlockNum: 3, TxNum: 0}, a rebuild from the blocks gives no such key`},
		},
		"lost hash": {
			func(t testing.TB, address string) { remove(t, address, "ch_cc$$hstays", hashOf("p3")) },
			nil,
			[]string{`damage ch_cc$$hstays "` + hashOf("p3") + `" "cc$$hstays/`},
		},
		"lost private": {
			func(t testing.TB, address string) { remove(t, address, "ch_cc$$pstays", "p3") },
			nil,
			[]string{`damage ch_cc$$pstays "p3" "cc$$pstays/p3": the state has no such key, a rebuild from the blocks gives value "secret p3"`},
		},
		"no hash": {
			func(t testing.TB, address string) {
				request(t, http.MethodPut, address, "ch_cc$$hstays", "plain key", "", map[string]any{"~version": "3:0"})
			},
			[]string{`damage ch_cc$$hstays "plain key" "cc$$hstays/plain key": the document does not decode: the identifier is no hash in base64`},
			nil,
		},
		"database": {
			func(t testing.TB, address string) { request(t, http.MethodDelete, address, "ch_cc", "", "", nil) },
			[]string{`damage ch_cc  : the database is missing, though block [2] wrote to it`},
			nil,
		},
		"private database": {
			func(t testing.TB, address string) {
				request(t, http.MethodDelete, address, "ch_cc$$pstays", "", "", nil)
			},
			nil,
			[]string{`damage ch_cc$$pstays  : the database is missing, though a rebuild from the blocks has 2 keys in it`},
		},
		"behind": {
			savepoint(map[string]any{"BlockNum": 10}), []string{`repair ch_ "statedb_savepoint" : the state database ends before blocks [11] to [15]`}, nil,
		},
		"ahead": {
			savepoint(map[string]any{"BlockNum": 20}), []string{`damage ch_ "statedb_savepoint" : the state database [height=21] is ahead of the block store [height=16]`}, nil,
		},
		"transaction of the savepoint": {
			savepoint(map[string]any{"TxNum": 3}), []string{`damage ch_ "statedb_savepoint" : the savepoint names transaction [3] of block [15], whose last is [0]`}, nil,
		},
		"savepoint": {
			savepoint(map[string]any{"BlockNum": "x"}), []string{`damage ch_ "statedb_savepoint" : the savepoint does not decode: state savepoint: `}, nil,
		},
		"no savepoint": {
			func(t testing.TB, address string) { remove(t, address, "ch_", couchdb.SavepointID) },
			[]string{`repair ch_ "statedb_savepoint" : there is no savepoint, but 27 keys in 9 databases at http://`},
			nil,
		},
		"no savepoint, of another chain": {
			func(t testing.TB, address string) {
				remove(t, address, "ch_", couchdb.SavepointID)
				alter(t, address, db, "late", map[string]any{"~version": "99:0"})
			},
			[]string{
				`damage ch_$marbles "late" "Marbles/late": the value is of block [99], but there are 16 blocks`,
				`repair ch_ "statedb_savepoint" : there is no savepoint, but 27 keys in 9 databases at http://`,
			},
			nil,
		},
		"another network": {
			func(t testing.TB, address string) {
				raw := protoutil.Marshal(&common.Config{Sequence: 77})
				alter(t, address, "ch_", config, map[string]any{"_attachments": map[string]any{"valueBytes": map[string]any{"data": raw, "content_type": "x/y"}}})
			},
			[]string{`damage ch_ "` + config + `" : the configuration in the state is not that of the last configuration block: the databases may be of another network's channel`},
			[]string{`damage ch_ "` + config + `" "/` + config + `": the state has`},
		},
		"stranger": {
			func(t testing.TB, address string) {
				request(t, http.MethodPut, address, "ch_stranger", "", "", nil)
				request(t, http.MethodPut, address, "ch_stranger", "k", "", map[string]any{"a": 1})
			},
			[]string{`warning ch_stranger  : by its name the database, with 1 documents, is of this channel, but no block writes to its namespace`},
			nil,
		},
	}
}

func (f *Finding) line(address string) string {
	return fmt.Sprintf("%s %s %s %s: %s", f.Severity, strings.TrimPrefix(f.Database, "http://"+address+"/"), f.Document, f.Key, f.Problem)
}

// match compares findings with their beginnings.
func match(c *Channel, address string, want []string) string {
	var got []string
	for i := range c.Findings {
		got = append(got, c.Findings[i].line(address))
	}
	left := slices.Clone(got)
	for _, w := range want {
		at := slices.IndexFunc(left, func(l string) bool { return strings.HasPrefix(l, w) })
		if at < 0 {
			return fmt.Sprintf("not found: %s\nin %s", w, strings.Join(got, "\n   "))
		}
		left = slices.Delete(left, at, at+1)
	}
	if len(left) > 0 {
		return "found besides: " + strings.Join(left, "\n")
	}
	return ""
}

func TestCouchDamage(t *testing.T) {
	// One peer, whose server is put back after each case.
	f := couchtest.New()
	address := couchtest.Start(t, f)
	dir := couchPeer(t, address)
	for name, c := range couchDamages() {
		t.Run(name, func(t *testing.T) {
			f := f.Clone()
			address := couchtest.Start(t, f)
			c.do(t, address)
			got := verifyCouch(t, dir, f, address, false)
			if d := match(got, address, c.found); d != "" {
				t.Errorf("without --state: %s", d)
			}
			damaged := slices.ContainsFunc(c.found, func(s string) bool { return strings.HasPrefix(s, "damage") })
			if got.Sound == damaged {
				t.Errorf("without --state: sound %v", got.Sound)
			}
			got = verifyCouch(t, dir, f, address, true)
			if d := match(got, address, append(slices.Clone(c.found), c.full...)); d != "" {
				t.Errorf("with --state: %s", d)
			}
		})
	}
}

// TestCouchIndexLag tells of indexes that are behind.
func TestCouchIndexLag(t *testing.T) {
	f := couchtest.New()
	address := couchtest.Start(t, f)
	dir := couchPeer(t, address)
	post := func(method, path, body string) {
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+address+path, strings.NewReader(body))
		must(t, err)
		resp, err := http.DefaultClient.Do(req)
		must(t, err)
		resp.Body.Close()
	}
	post(http.MethodPost, "/ch_$marbles/_index", `{"index":{"fields":["a"]},"ddoc":"byA","name":"a","type":"json"}`)
	for pending, want := range map[int][]string{
		0: nil, 12: {`note ch_$marbles "_design/byA" : index [a] lacks the last 12 changes`},
	} {
		f.Pending = pending
		c := verifyCouch(t, dir, f, address, true)
		if d := match(c, address, want); d != "" || !c.Sound || checks(c)[checkState] != fmt.Sprintf("see findings: %d keys in 9 databases at http://%s compared with a rebuild", couchKeys, address) && pending > 0 {
			t.Error(d, show(c))
		}
	}
}

// TestCouchErrors: what keeps from looking is an error that says where, why and
// what to do, and tells no password.
func TestCouchErrors(t *testing.T) {
	f := couchtest.New()
	address := couchtest.Start(t, f)
	dir := couchPeer(t, address)
	locked := f.Clone()
	locked.Username, locked.Password = "admin", "adminpw"
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	secure := httptest.NewTLSServer(f)
	t.Cleanup(secure.Close)
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})
	page := couchtest.Start(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadGateway)
		io.WriteString(w, "<html>")
	}))
	old := f.Clone()
	old.Version = "1.7.2"
	lockedAt := couchtest.Start(t, locked)
	for name, c := range map[string]struct {
		cfg  couchdb.Config
		want []string
	}{
		"down":           {couchdb.Config{Address: gone.URL}, []string{"CouchDB at " + gone.URL + " cannot be reached: ", "connection refused", "Start it, or set ledger.state.couchDBConfig.couchDBAddress"}},
		"wrong password": {couchdb.Config{Address: lockedAt, Username: "admin", Password: "secret"}, []string{"CouchDB at http://" + lockedAt + " refuses user [admin]", "Name or password is incorrect", "Set ledger.state.couchDBConfig.username and password"}},
		"no password":    {couchdb.Config{Address: lockedAt}, []string{"refuses whoever has no user name and password"}},
		"untrusted":      {couchdb.Config{Address: secure.URL}, []string{"CouchDB at " + secure.URL + ": its certificate is not trusted: ", "Set ledger.state.couchDBConfig.tls.rootCert.file"}},
		"no CouchDB":     {couchdb.Config{Address: page}, []string{"at http://" + page + " something answers that is not CouchDB: ", "couchDBAddress"}},
		"too old":        {couchdb.Config{Address: couchtest.Start(t, old)}, []string{"CouchDB must be at least version 2.0.0. Detected version 1.7.2"}},
		"no address":     {couchdb.Config{Address: "ftp://x"}, []string{"address of CouchDB must be"}},
	} {
		_, err := couchdb.OpenViewer(t.Context(), c.cfg)
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%s: %v, want %s", name, err, want)
			}
		}
	}
	// https, and a user.
	safe := viewer(t, couchdb.Config{Address: secure.URL, RootCAs: [][]byte{cert}})
	if r := verify(t, dir, Options{Server: safe}); !r.Sound {
		t.Error(show(r))
	}
	if r := verify(t, dir, Options{Server: viewer(t, couchdb.Config{Address: lockedAt, Username: "admin", Password: "adminpw"})}); !r.Sound {
		t.Error(show(r))
	}
}

// TestCouchGoesAway: errors on the way, and a peer that goes on with the state.
func TestCouchGoesAway(t *testing.T) {
	f := couchtest.New()
	address := couchtest.Start(t, f)
	dir := couchPeer(t, address)
	run := func(intercept func(w http.ResponseWriter, r *http.Request) bool) error {
		t.Helper()
		server := viewer(t, couchdb.Config{Address: address})
		f.Intercept = intercept
		defer func() { f.Intercept = nil }()
		d, err := Open(dir)
		must(t, err)
		defer d.Close()
		temp := t.TempDir()
		_, err = Verify(t.Context(), d, Options{Server: server, State: true, TempDir: temp})
		if left, _ := os.ReadDir(temp); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
		return err
	}
	answer := func(match string, status int, body string) func(w http.ResponseWriter, r *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, match) {
				return false
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			io.WriteString(w, body)
			return true
		}
	}
	for name, c := range map[string]struct {
		intercept func(w http.ResponseWriter, r *http.Request) bool
		want      string
	}{
		"savepoint": {answer("/ch_/statedb_savepoint", 500, `{"error":"e","reason":"r"}`), "CouchDB at http://" + address + ": error handling CouchDB request. Error:e,  Status Code:500,  Reason:r"},
		"refused":   {answer("/ch_cc/_all_docs", 403, `{"error":"forbidden","reason":"no"}`), "CouchDB at http://" + address + " refuses whoever"},
		"gone":      {answer("/ch_cc/_all_docs", 404, `{"error":"not_found","reason":"Database does not exist."}`), "a database went away while it was read"},
		"malformed": {answer("/ch_cc/_all_docs", 200, `{"rows":`), "malformed answer to _all_docs"},
		"garbage":   {answer("/ch_cc/_all_docs", 200, `{"rows":[{"value":{}}]}`), "a row without identifier"},
	} {
		if err := run(c.intercept); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	reads := 0
	err := run(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/"+couchdb.SavepointID) {
			if reads++; reads > 1 {
				return answer("", 200, `{"_id":"statedb_savepoint","_rev":"9-9","BlockNum":16,"TxNum":0}`)(w, r)
			}
		}
		return false
	})
	if err == nil || !strings.Contains(err.Error(), "the savepoint of channel [ch] has moved while the state was read: a peer uses the server") {
		t.Error(err)
	}
	// A server that does not show its list.
	f.Intercept = nil
	server := viewer(t, couchdb.Config{Address: address})
	f.Intercept = answer("/_all_dbs", 403, `{"error":"forbidden","reason":"no"}`)
	if c := verify(t, dir, Options{Server: server}).Channels[0]; !c.Sound || len(c.Findings) != 1 || !strings.Contains(c.Findings[0].Problem, "does not list its databases") {
		t.Error(show(c))
	}
}

// TestCouchEmptyServer: another server than the peer's, or one that is new.
func TestCouchEmptyServer(t *testing.T) {
	dir := couchPeer(t, couchtest.Server(t))
	f := couchtest.New()
	address := couchtest.Start(t, f)
	for _, full := range []bool{false, true} {
		c := verifyCouch(t, dir, f, address, full)
		if d := match(c, address, []string{`repair ch_ "statedb_savepoint" : there is no state of the channel on the server: neither database nor savepoint`}); d != "" || !c.Sound {
			t.Error(d, show(c))
		}
	}
	if dbs := f.Databases(); len(dbs) > 0 {
		t.Errorf("made: %v", dbs)
	}
}

// TestAfterDropping: what is built anew with the state is not damaged if all are
// gone, as after `peer node rebuild-dbs`.
func TestAfterDropping(t *testing.T) {
	f := couchtest.New()
	address := couchtest.Start(t, f)
	dir := couchPeer(t, address)
	inFiles := peerCopy(t)
	drop := func(dir string, names ...string) {
		for _, name := range names {
			must(t, os.RemoveAll(filepath.Join(dir, "ledgersData", name)))
		}
	}
	judge := func(dir string, server *couchdb.Viewer, couch bool, want Severity) {
		t.Helper()
		r := verify(t, dir, Options{Server: server, CouchDB: couch})
		for _, f := range r.Findings {
			if f.Kind == checkBooks && (f.Severity != want || f.Problem != "the database is missing") {
				t.Error(show(r.Findings))
			}
		}
		if r.Sound != (want != Damage) || len(r.Findings) < 2 {
			t.Error(show(r))
		}
	}
	drop(dir, dbBookkeeper, dbConfHistory)
	drop(inFiles, dbBookkeeper, dbConfHistory)
	judge(inFiles, nil, false, Damage)
	judge(dir, viewer(t, couchdb.Config{Address: address}), false, Damage)
	judge(dir, nil, true, Warning)
	drop(inFiles, dbState, dbHistory, dbIndex)
	judge(inFiles, nil, false, Repair)
	judge(dir, viewer(t, couchdb.Config{Address: couchtest.Server(t)}), false, Repair)
}

// TestCouchCompare compares states on two servers, and one with a state in files.
func TestCouchCompare(t *testing.T) {
	f := couchtest.New()
	address := couchtest.Start(t, f)
	dir := couchPeer(t, address)
	inFiles := copyDir(t, dir)
	p, err := ledger.OpenProvider(ledger.Config{Dir: filepath.Join(inFiles, "ledgersData"), Log: flog.Nop()})
	must(t, err)
	_, err = p.OpenContext(t.Context(), channelID)
	must(t, err)
	must(t, p.Close())
	compare := func(dirs [2]string, fakes [2]*couchtest.Fake) *ChannelComparison {
		t.Helper()
		o := CompareOptions{State: true}
		var d [2]*Dir
		for i := range dirs {
			d[i], err = Open(dirs[i])
			must(t, err)
			defer d[i].Close()
			if fakes[i] != nil {
				onlyReads(t, fakes[i])
				o.Servers[i] = viewer(t, couchdb.Config{Address: couchtest.Start(t, fakes[i])})
			}
		}
		c, err := Compare(t.Context(), d[0], d[1], o)
		must(t, err)
		return c.Channels[0]
	}
	for name, c := range map[string]struct {
		dirs  [2]string
		fakes func(changed *couchtest.Fake) [2]*couchtest.Fake
	}{
		"two servers":      {[2]string{dir, copyDir(t, dir)}, func(f2 *couchtest.Fake) [2]*couchtest.Fake { return [2]*couchtest.Fake{f.Clone(), f2} }},
		"server and files": {[2]string{inFiles, dir}, func(f2 *couchtest.Fake) [2]*couchtest.Fake { return [2]*couchtest.Fake{nil, f2} }},
		"files and server": {[2]string{dir, inFiles}, func(f2 *couchtest.Fake) [2]*couchtest.Fake { return [2]*couchtest.Fake{f2, nil} }},
	} {
		if r := compare(c.dirs, c.fakes(f.Clone())); !r.Same || r.StateKeys != couchKeys {
			t.Errorf("%s: %s", name, show(r))
		}
		for what, change := range map[string]struct {
			do   func(address string)
			want string
		}{
			"value":   {func(at string) { alter(t, at, "ch_$marbles", "car", map[string]any{"b": 2}) }, `key "car" of namespace "Marbles"`},
			"lost":    {func(at string) { remove(t, at, "ch_cc$$hstays", hashOf("p3")) }, `of namespace "cc$$hstays"`},
			"garbage": {func(at string) { alter(t, at, "ch_$marbles", "late", map[string]any{"~version": nil}) }, `key "late" of namespace "Marbles"`},
			"private": {func(at string) { remove(t, at, "ch_cc$$pstays", "p3") }, ""},
		} {
			f2 := f.Clone()
			change.do(couchtest.Start(t, f2))
			r := compare(c.dirs, c.fakes(f2))
			switch {
			case change.want == "" && (!r.Same || len(r.Notes) != 1 || r.Notes[0] != "1 keys of private data differ: each organisation has its own"):
				t.Errorf("%s, %s: %s", name, what, show(r))
			case change.want != "" && (r.Same || r.StateDifference == nil || !strings.Contains(r.StateDifference.Field, change.want)):
				t.Errorf("%s, %s: %s", name, what, show(r))
			}
		}
	}
}

// TestCouchReal does it with the server that is run by Node.
func TestCouchReal(t *testing.T) {
	if testing.Short() {
		t.Skip("the CouchDB test server takes seconds to start")
	}
	address := couchtest.Real(t)
	dir := couchPeer(t, address)
	for _, full := range []bool{false, true} {
		if r := verify(t, dir, Options{State: full, Server: viewer(t, couchdb.Config{Address: address})}); !r.Sound || len(r.Channels[0].Findings) > 0 {
			t.Fatal(show(r))
		}
	}
	alter(t, address, "ch_$marbles", "car", map[string]any{"b": 2})
	alter(t, address, "ch_$marbles", "late", map[string]any{"~version": nil})
	c := verify(t, dir, Options{State: true, Server: viewer(t, couchdb.Config{Address: address})}).Channels[0]
	if d := match(c, address, []string{
		`damage ch_$marbles "car" "Marbles/car": the state has value`,
		`damage ch_$marbles "late" "Marbles/late": the document does not decode`,
	}); d != "" || c.Sound {
		t.Error(d)
	}
}
