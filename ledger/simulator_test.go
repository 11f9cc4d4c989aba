package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/vfs"
	sets "github.com/heddle-ledger/heddle/ledger/rwset"
	"github.com/heddle-ledger/heddle/ledger/state"
)

// simLedger is a ledger whose state holds chaincode cc with collections c1 and
// c2, public keys k0..k4 and two private keys: one complete, one of which only
// the hash is here.
func simLedger(t *testing.T) *Ledger {
	t.Helper()
	p := openProvider(t, Config{Dir: testDir, FS: vfs.NewMem(), Log: testLog(t)})
	l, err := p.Create(genesisOf("ch"))
	if err != nil {
		t.Fatal(err)
	}
	at := state.Version{Block: 1, Tx: 2}
	pkg := &peer.CollectionConfigPackage{}
	for _, name := range []string{"c1", "c2"} {
		pkg.Config = append(pkg.Config, &peer.CollectionConfig{Payload: &peer.CollectionConfig_StaticCollectionConfig{
			StaticCollectionConfig: &peer.StaticCollectionConfig{Name: name},
		}})
	}
	b := state.NewBatch()
	put := func(ns, key string, value []byte, v state.Version) {
		b.Put(ns, state.Write{Key: key, Value: value, Version: v})
	}
	put("lscc", "cc", []byte("definition"), at)
	put("lscc", "cc~collection", protoutil.Marshal(pkg), at)
	put("lscc", "bare", []byte("definition"), at)
	for i := range 5 {
		put("cc", fmt.Sprintf("k%d", i), fmt.Appendf(nil, "v%d", i), state.Version{Block: 2, Tx: uint64(i)})
	}
	b.Put("cc", state.Write{Key: "m", Value: []byte("x"), Version: at, Metadata: []byte("\x12\x06\x0a\x01a\x12\x011")})
	put("cc$$pc1", "p", []byte("secret"), at)
	put("cc$$hc1", sha("p"), []byte(sha("secret")), at)
	put("cc$$hc1", sha("gone"), []byte(sha("other")), at)
	if err := l.state.Apply(b, nil, false); err != nil {
		t.Fatal(err)
	}
	return l
}

func sha(s string) string {
	h := protoutil.DataHash([][]byte{[]byte(s)})
	return string(h)
}

func simulator(t *testing.T, l *Ledger) *Simulator {
	t.Helper()
	s, err := l.NewSimulator("tx1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Done)
	return s
}

func resultsOf(t *testing.T, s *Simulator) (*protoutil.TxRWSet, *rwset.TxPvtReadWriteSet) {
	t.Helper()
	r, err := s.Results()
	if err != nil {
		t.Fatal(err)
	}
	set, err := protoutil.ParseRWSet(r.Public)
	if err != nil {
		t.Fatal(err)
	}
	return set, r.Private
}

func namespaces(set *protoutil.TxRWSet) []string {
	var out []string
	for _, ns := range set.Namespaces {
		out = append(out, ns.Namespace)
	}
	return out
}

func TestReadsDoNotSeeOwnWrites(t *testing.T) {
	s := simulator(t, simLedger(t))
	must(t, s.SetState("cc", "k1", []byte("mine")))
	if v, err := s.GetState("cc", "k1"); err != nil || string(v) != "v1" {
		t.Errorf("got %q, %v", v, err)
	}
	must(t, s.DeleteState("cc", "k2"))
	it, err := s.GetStateRange("cc", "k1", "k4")
	if err != nil {
		t.Fatal(err)
	}
	if got := pull(t, it, -1); fmt.Sprint(got) != "[k1=v1 k2=v2 k3=v3]" {
		t.Errorf("got %v", got)
	}
	set, _ := resultsOf(t, s)
	kv := set.Namespaces[0].KV
	if len(kv.Writes) != 2 || !kv.Writes[1].IsDelete || len(kv.Reads) != 1 || kv.Reads[0].Version.TxNum != 1 {
		t.Errorf("got %v", kv)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// pull reads so many results, all if n is negative.
func pull(t *testing.T, it Iterator, n int) []string {
	t.Helper()
	var out []string
	for n < 0 || len(out) < n {
		kv, err := it.Next()
		if err != nil {
			t.Fatal(err)
		}
		if kv == nil {
			break
		}
		out = append(out, kv.Key+"="+string(kv.Value))
	}
	return out
}

func TestRangeQueryInfo(t *testing.T) {
	s := simulator(t, simLedger(t))
	for _, c := range []struct {
		start, end string
		pull       int
	}{{"k1", "k4", 2}, {"k1", "k4", -1}, {"k", "", 0}, {"x", "", -1}, {"k1", "k4", -1}} {
		it, err := s.GetStateRange("cc", c.start, c.end)
		must(t, err)
		pull(t, it, c.pull)
		it.Close()
		it.Close()
	}
	set, _ := resultsOf(t, s)
	var got []string
	for _, q := range set.Namespaces[0].KV.RangeQueriesInfo {
		got = append(got, fmt.Sprintf("%s..%s %t %d", q.StartKey, q.EndKey, q.ItrExhausted, len(q.GetRawReads().GetKvReads())))
	}
	want := []string{"k1..k2 false 2", "k1..k4 true 3", "k.. false 0", "x.. true 0"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestPages(t *testing.T) {
	l := simLedger(t)
	q, err := l.NewQueryExecutor()
	must(t, err)
	defer q.Done()
	it, err := q.GetStateRangePage("cc", "k", "l", 2)
	must(t, err)
	if got := fmt.Sprint(pull(t, it, 2)); got != "[k0=v0 k1=v1]" {
		t.Error(got)
	}
	if b := it.Bookmark(); b != "k2" {
		t.Errorf("bookmark %q", b)
	}
	it, err = q.GetStateRangePage("cc", "k3", "l", 2)
	must(t, err)
	pull(t, it, 2)
	if b := it.Bookmark(); b != "" {
		t.Errorf("bookmark at the end %q", b)
	}
}

func TestRefusals(t *testing.T) {
	l := simLedger(t)
	text := func(err error) string {
		if err == nil {
			return "nil"
		}
		return err.Error()
	}
	expect := func(err error, want string) {
		t.Helper()
		if text(err) != want {
			t.Errorf("got  %s\nwant %s", text(err), want)
		}
	}
	s := simulator(t, l)
	_, err := s.GetPrivateDataRange("cc", "c1", "", "")
	must(t, err)
	expect(s.SetState("cc", "a", []byte("1")), "txid [tx1]: Transaction has already performed queries on pvt data. Writes are not allowed")
	expect(s.SetPrivateData("cc", "c1", "a", []byte("1")), "txid [tx1]: Transaction has already performed queries on pvt data. Writes are not allowed")

	s = simulator(t, l)
	_, err = s.GetStateRangePage("cc", "", "", 3)
	must(t, err)
	expect(s.SetStateMetadata("cc", "a", nil), "txid [tx1]: Transaction has already performed a paginated query. Writes are not allowed")

	s = simulator(t, l)
	must(t, s.DeleteStateMetadata("cc", "a"))
	_, err = s.GetStateRangePage("cc", "", "", 3)
	expect(err, "txid [tx1]: Paginated queries are supported only in a read-only transaction")
	_, err = s.ExecuteQueryPage("cc", "{}", 3, "")
	expect(err, "txid [tx1]: Paginated queries are supported only in a read-only transaction")
	_, err = s.GetPrivateDataRange("cc", "c1", "", "")
	expect(err, "txid [tx1]: Queries on pvt data is supported only in a read-only transaction")
	_, err = s.ExecuteQueryOnPrivateData("cc", "c1", "{}")
	expect(err, "txid [tx1]: Queries on pvt data is supported only in a read-only transaction")
	_, err = s.ExecuteQuery("cc", "{}")
	expect(err, "ExecuteQuery not supported for leveldb")
	var unsupported *UnsupportedTxError
	if _, err := s.GetStateRangePage("cc", "", "", 3); !errors.As(err, &unsupported) {
		t.Errorf("got %T", err)
	}
	_, err = s.GetPrivateDataMetadataByHash("cc", "c1", []byte(sha("p")))
	expect(err, "retrieving private data metadata by keyhash is not supported in simulation. This function is only available for query as yet")

	s = simulator(t, l)
	_, err = s.ExecuteQueryPage("cc", "{}", 3, "")
	expect(err, "ExecuteQueryWithMetadata not supported for leveldb")
	_, err = s.Results()
	must(t, err)
	_, err = s.Results()
	expect(err, "this function should only be called once on a transaction simulator instance")
	it, err := s.GetStateRange("cc", "", "")
	must(t, err)
	s.Done()
	s.Done()
	_, err = it.Next()
	expect(err, "this instance should not be used after calling Done()")
	it.Close()
	_, err = s.GetState("cc", "k1")
	expect(err, "this instance should not be used after calling Done()")
	expect(s.SetState("cc", "k1", nil), "this instance should not be used after calling Done()")
}

func TestPrivateReads(t *testing.T) {
	l := simLedger(t)
	s := simulator(t, l)
	if v, err := s.GetPrivateData("cc", "c1", "p"); err != nil || string(v) != "secret" {
		t.Errorf("got %q, %v", v, err)
	}
	_, err := s.GetPrivateData("cc", "c1", "gone")
	if err == nil || err.Error() != "private data matching public hash version is not available. Public hash version = {BlockNum: 1, TxNum: 2}, Private data version = <nil>" {
		t.Error(err)
	}
	if h, err := s.GetPrivateDataHash("cc", "c1", "gone"); err != nil || !bytes.Equal(h, []byte(sha("other"))) {
		t.Errorf("got %x, %v", h, err)
	}
	if v, err := s.GetPrivateData("cc", "c2", "none"); v != nil || err != nil {
		t.Errorf("got %q, %v", v, err)
	}
	_, err = s.GetPrivateData("cc", "nope", "p")
	if err == nil || err.Error() != "collection [nope] not defined in the collection config for chaincode [cc]" {
		t.Error(err)
	}
	for _, cc := range []string{"bare", "unknown"} {
		_, err = s.GetPrivateData(cc, "c", "p")
		if err == nil || err.Error() != "collection config not defined for chaincode ["+cc+"], pass the collection configuration upon chaincode definition/instantiation" {
			t.Error(err)
		}
	}
	set, private := resultsOf(t, s)
	if private != nil {
		t.Error("reads must not give a private set")
	}
	if diff := cmp.Diff([]string{"cc", "lscc"}, namespaces(set)); diff != "" {
		t.Fatal(diff)
	}
	var reads []string
	for _, r := range set.Namespaces[1].KV.Reads {
		reads = append(reads, r.Key)
	}
	if diff := cmp.Diff([]string{"bare", "bare~collection", "cc", "cc~collection", "unknown"}, reads); diff != "" {
		t.Error(diff)
	}
	if colls := set.Namespaces[0].Collections; len(colls) != 2 || len(colls[0].Hashed.HashedReads) != 2 || colls[0].PvtHash != nil {
		t.Errorf("got %v", colls)
	}
}

func TestPrivateWrites(t *testing.T) {
	s := simulator(t, simLedger(t))
	must(t, s.SetPrivateData("cc", "c1", "p", []byte("new")))
	must(t, s.DeletePrivateData("cc", "c2", "q"))
	must(t, s.SetPrivateDataMetadata("cc", "c1", "p", map[string][]byte{"a": []byte("1")}))
	if err := s.SetPrivateData("cc", "nope", "p", nil); err == nil {
		t.Error("wrote to an unknown collection")
	}
	set, private := resultsOf(t, s)
	if private == nil || len(private.NsPvtRwset) != 1 || len(private.NsPvtRwset[0].CollectionPvtRwset) != 2 {
		t.Fatalf("private set %v", private)
	}
	c := set.Namespaces[0].Collections[0]
	if len(c.Hashed.HashedWrites) != 1 || len(c.Hashed.MetadataWrites) != 1 || len(c.PvtHash) != 32 {
		t.Errorf("got %v", c)
	}
}

func TestMetadata(t *testing.T) {
	l := simLedger(t)
	s := simulator(t, l)
	want := map[string][]byte{"a": []byte("1")}
	if m, err := s.GetStateMetadata("cc", "m"); err != nil || !cmp.Equal(m, want) {
		t.Errorf("got %v, %v", m, err)
	}
	if m, err := s.GetStateMetadata("cc", "k1"); err != nil || m != nil {
		t.Errorf("got %v, %v", m, err)
	}
	must(t, s.SetStateMetadata("cc", "k1", map[string][]byte{"b": []byte("2"), "a": []byte("1")}))
	set, _ := resultsOf(t, s)
	kv := set.Namespaces[0].KV
	if len(kv.Reads) != 2 || len(kv.MetadataWrites) != 1 || kv.MetadataWrites[0].Entries[0].Name != "a" {
		t.Errorf("got %v", kv)
	}
	if m, err := s.GetPrivateDataMetadata("cc", "c1", "p"); err != nil || m != nil {
		t.Errorf("got %v, %v", m, err)
	}
}

// TestSnapshot reads an old state while blocks are committed.
func TestSnapshot(t *testing.T) {
	l := simLedger(t)
	s := simulator(t, l)
	b := sets.NewBuilder()
	b.Write("cc", "k1", []byte("later"))
	set, err := b.Public()
	must(t, err)
	genesis, err := l.BlockByNumber(0)
	must(t, err)
	next := protoutil.NewBlock(1, protoutil.BlockHash(genesis.Header))
	next.Data.Data = [][]byte{benchEnvelope("t", protoutil.Marshal(set))}
	v := protoutil.ParseBlock(next)
	v.SetFlags([]byte{0})
	must(t, l.Commit(v))
	if got, err := s.GetState("cc", "k1"); err != nil || string(got) != "v1" {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := simulator(t, l).GetState("cc", "k1"); err != nil || string(got) != "later" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestCreateTwice(t *testing.T) {
	p := openProvider(t, Config{Dir: testDir, FS: vfs.NewMem()})
	genesis := genesisOf("ch")
	before := proto.Clone(genesis)
	_, err := p.Create(genesis)
	must(t, err)
	if !proto.Equal(before, genesis) {
		t.Error("the genesis block given was changed")
	}
	if _, err := p.Create(genesis); !errors.Is(err, ErrLedgerExists) || err.Error() != "LedgerID already exists" {
		t.Error(err)
	}
	if _, err := p.Open("other"); !errors.Is(err, ErrLedgerUnknown) || err.Error() != "LedgerID does not exist" {
		t.Error(err)
	}
	stored, err := p.Genesis("ch")
	must(t, err)
	if string(protoutil.ParseBlock(stored).Flags()) != "\x00" {
		t.Errorf("stored filter %x", protoutil.ParseBlock(stored).Flags())
	}
}

func TestLock(t *testing.T) {
	fs := vfs.NewMem()
	openProvider(t, Config{Dir: testDir, FS: fs})
	_, err := OpenProvider(Config{Dir: testDir, FS: fs})
	want := "as another peer node command is executing, wait for that command to complete its execution or terminate it before retrying: lock is already acquired on file " + testDir + "/fileLock"
	if err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
	dir := t.TempDir()
	openProvider(t, Config{Dir: dir})
	if _, err := OpenProvider(Config{Dir: dir}); err == nil || err.Error()[:40] != want[:40] {
		t.Errorf("got %v", err)
	}
}
