package ledger

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset/kvrwset"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/vfs"
	sets "github.com/heddle-ledger/heddle/ledger/rwset"
	"github.com/heddle-ledger/heddle/ledger/state/couchdb"
	"github.com/heddle-ledger/heddle/ledger/state/couchdb/couchtest"
)

const (
	ofAlice = `{"selector":{"owner":"alice"}}`
	anIndex = `{"index":{"fields":["owner"]},"ddoc":"d","name":"n","type":"json"}`
)

// couchLedger is a ledger on a fake CouchDB with documents in mycc and in its
// collection.
func couchLedger(t *testing.T) (l *Ledger, server string) {
	t.Helper()
	server = couchtest.Server(t)
	cfg := Config{
		Dir: testDir, FS: vfs.NewMem(), manual: true,
		Artifacts: func(chaincode string, _ []byte) (map[string][]byte, bool, error) {
			return map[string][]byte{dirIndexes + "i.json": []byte(anIndex), dirCollections + "coll/indexes/i.json": []byte(anIndex)}, chaincode == "mycc", nil
		},
	}
	onCouchDB(t, &cfg, couchdb.Config{Address: server, InternalQueryLimit: 2})
	p := openProvider(t, cfg)
	l, err := p.Create(genesisOf("ch"))
	must(t, err)
	deploy, docs := sets.NewBuilder(), sets.NewBuilder()
	deployed(deploy, "org1")
	for i, owner := range []string{"alice", "bob", "alice", "alice", "bob", "alice", "alice"} {
		doc := []byte(`{"owner":"` + owner + `"}`)
		docs.Write("mycc", "k"+string(rune('0'+i)), doc)
		docs.WritePrivate("mycc", "coll", "p"+string(rune('0'+i)), doc)
	}
	prev, err := l.BlockByNumber(0)
	must(t, err)
	for _, r := range []*sets.Builder{deploy, docs} {
		b, private := blockOf(t, prev, r)
		must(t, l.CommitWithPrivateData(b, private))
		prev = b.Proto()
	}
	return l, server
}

func keysOf(t *testing.T, it Iterator, err error) string {
	t.Helper()
	must(t, err)
	defer it.Close()
	var keys []string
	for {
		kv, err := it.Next()
		must(t, err)
		if kv == nil {
			return strings.Join(keys, " ")
		}
		keys = append(keys, kv.Key)
	}
}

// public is what a simulation recorded, by namespace.
func public(t *testing.T, s *Simulator) map[string]*kvrwset.KVRWSet {
	t.Helper()
	r, err := s.Results()
	must(t, err)
	set := &rwset.TxReadWriteSet{}
	must(t, proto.Unmarshal(r.Public, set))
	out := map[string]*kvrwset.KVRWSet{}
	for _, ns := range set.NsRwset {
		kv := &kvrwset.KVRWSet{}
		must(t, proto.Unmarshal(ns.Rwset, kv))
		out[ns.Namespace] = kv
	}
	return out
}

// TestRichQueriesAreRecorded: one read for each result that was returned, and
// nothing else (LEDGER §11.2).
func TestRichQueriesAreRecorded(t *testing.T) {
	t.Parallel()
	l, _ := couchLedger(t)
	s, err := l.NewSimulator("tx")
	must(t, err)
	defer s.Done()
	it, err := s.ExecuteQuery("mycc", ofAlice)
	if got := keysOf(t, it, err); got != "k0 k2 k3 k5 k6" {
		t.Errorf("found %s", got)
	}
	must(t, s.SetState("mycc", "k9", []byte("after"))) // allowed after a query without pages
	got := public(t, s)["mycc"]
	var reads []string
	for _, r := range got.Reads {
		if r.Version.GetBlockNum() != 2 {
			t.Errorf("%s is read at %v", r.Key, r.Version)
		}
		reads = append(reads, r.Key)
	}
	if d := cmp.Diff([]string{"k0", "k2", "k3", "k5", "k6"}, reads); d != "" || len(got.RangeQueriesInfo) != 0 || len(got.Writes) != 1 {
		t.Errorf("%s, %v", d, got)
	}
}

// TestPagesOfRichQueries: bookmarks lead from page to page, and only results
// that were pulled are read.
func TestPagesOfRichQueries(t *testing.T) {
	t.Parallel()
	l, _ := couchLedger(t)
	s, err := l.NewSimulator("tx")
	must(t, err)
	defer s.Done()
	var pages []string
	for bookmark, n := "", 0; n < 4; n++ {
		it, err := s.ExecuteQueryPage("mycc", ofAlice, 3, bookmark)
		must(t, err)
		var keys []string
		for len(keys) < 3 {
			kv, err := it.Next()
			must(t, err)
			if kv == nil {
				break
			}
			keys = append(keys, kv.Key)
		}
		bookmark = it.Bookmark()
		it.Close()
		if len(keys) == 0 {
			break
		}
		pages = append(pages, strings.Join(keys, " "))
	}
	if d := cmp.Diff([]string{"k0 k2 k3", "k5 k6"}, pages); d != "" {
		t.Error(d)
	}
	if err := s.SetState("mycc", "k", []byte("1")); err == nil || err.Error() != "txid [tx]: Transaction has already performed a paginated query. Writes are not allowed" {
		t.Errorf("got %v", err)
	}
	if n := len(public(t, s)["mycc"].Reads); n != 5 {
		t.Errorf("%d reads", n)
	}
}

// TestQueriesOfPrivateData are for transactions that only read, and leave no
// trace but that of the collection's look-up (LEDGER §11.5, §11.6).
func TestQueriesOfPrivateData(t *testing.T) {
	t.Parallel()
	l, _ := couchLedger(t)
	s, err := l.NewSimulator("tx")
	must(t, err)
	defer s.Done()
	it, err := s.ExecuteQueryOnPrivateData("mycc", "coll", ofAlice)
	if got := keysOf(t, it, err); got != "p0 p2 p3 p5 p6" {
		t.Errorf("found %s", got)
	}
	it, err = s.GetPrivateDataRange("mycc", "coll", "p1", "p4")
	if got := keysOf(t, it, err); got != "p1 p2 p3" {
		t.Errorf("range %s", got)
	}
	const refusal = "txid [tx]: Transaction has already performed queries on pvt data. Writes are not allowed"
	for _, err := range []error{s.SetState("mycc", "k", []byte("1")), s.SetPrivateData("mycc", "coll", "p", []byte("1"))} {
		if err == nil || err.Error() != refusal {
			t.Errorf("got %v", err)
		}
	}
	_, err = s.ExecuteQueryOnPrivateData("mycc", "none", ofAlice)
	if err == nil || !strings.HasPrefix(err.Error(), "collection [none] not defined in the collection config for chaincode [mycc]") {
		t.Errorf("got %v", err)
	}
	got := public(t, s)
	if len(got) != 1 || len(got["lscc"].Reads) != 2 {
		t.Errorf("recorded %v", got)
	}

	w, err := l.NewSimulator("tx")
	must(t, err)
	defer w.Done()
	must(t, w.SetState("mycc", "k", []byte("1")))
	_, err = w.ExecuteQueryOnPrivateData("mycc", "coll", ofAlice)
	_, paged := w.ExecuteQueryPage("mycc", ofAlice, 1, "")
	want := []string{
		"txid [tx]: Queries on pvt data is supported only in a read-only transaction",
		"txid [tx]: Paginated queries are supported only in a read-only transaction",
	}
	if err == nil || paged == nil || !slices.Equal(want, []string{err.Error(), paged.Error()}) {
		t.Errorf("got %v, %v", err, paged)
	}
}

// TestQueryErrorsSpoilNothingElse: a query that the server refuses is the
// chaincode's affair.
func TestQueryErrorsSpoilNothingElse(t *testing.T) {
	t.Parallel()
	l, _ := couchLedger(t)
	s, err := l.NewSimulator("tx")
	must(t, err)
	defer s.Done()
	for _, query := range []string{"nonsense", `{"fields":1}`, `{"selector":{"$no":1}}`} {
		if it, err := s.ExecuteQuery("mycc", query); err == nil {
			if _, err = it.Next(); err == nil {
				t.Errorf("%s is a query", query)
			}
			it.Close()
		}
	}
	if v, err := s.GetState("mycc", "k0"); err != nil || len(v) == 0 {
		t.Errorf("got %s, %v", v, err)
	}
}

// TestIndexesReachCouchDB in the databases of chaincode and collection.
func TestIndexesReachCouchDB(t *testing.T) {
	t.Parallel()
	_, server := couchLedger(t)
	for _, db := range []string{"ch_mycc", "ch_mycc$$pcoll"} {
		resp, err := http.Get("http://" + server + "/" + db + "/_index")
		must(t, err)
		body, err := io.ReadAll(resp.Body)
		must(t, errors.Join(err, resp.Body.Close()))
		if resp.StatusCode != http.StatusOK || !strings.Contains(string(body), "_design/d") {
			t.Errorf("%s: %d %s", db, resp.StatusCode, body)
		}
	}
}
