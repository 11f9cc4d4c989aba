package ledger

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/ledger/blockfile"
	sets "github.com/heddle-ledger/heddle/ledger/rwset"
	"github.com/heddle-ledger/heddle/ledger/state"
	"github.com/heddle-ledger/heddle/ledger/state/leveldb"
)

// gatedState is a state database as CouchDB is one: without snapshots of its
// own, and with indexes.
type gatedState struct {
	state.Provider

	mu      sync.Mutex // guards what follows
	applies chan struct{}
	created []string // "channel namespace file content"
	refuse  error
}

func (p *gatedState) Open(id string) (state.DB, error) {
	db, err := p.Provider.Open(id)
	if err != nil {
		return nil, err
	}
	return &gatedDB{DB: db, p: p, id: id}, nil
}

// reported returns what was created since the last call.
func (p *gatedState) reported() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := p.created
	p.created = nil
	slices.Sort(out)
	return out
}

type gatedDB struct {
	state.DB
	p    *gatedState
	id   string
	gate state.Gate
}

func (d *gatedDB) Snapshot() (state.Snapshot, error)       { return d.snapshot(d.gate.Enter) }
func (d *gatedDB) NestedSnapshot() (state.Snapshot, error) { return d.snapshot(d.gate.EnterNested) }

func (d *gatedDB) snapshot(enter func()) (state.Snapshot, error) {
	enter()
	s, err := d.DB.Snapshot()
	if err != nil {
		d.gate.Leave()
		return nil, err
	}
	return &gatedSnapshot{s, &d.gate}, nil
}

type gatedSnapshot struct {
	state.Snapshot
	gate *state.Gate
}

func (s *gatedSnapshot) Release() {
	s.Snapshot.Release()
	s.gate.Leave()
}

func (d *gatedDB) Apply(b *state.Batch, savepoint *state.Version, sync bool) error {
	d.p.mu.Lock()
	applies := d.p.applies
	d.p.mu.Unlock()
	if applies != nil {
		applies <- struct{}{}
	}
	d.gate.Close()
	defer d.gate.Open()
	return d.DB.Apply(b, savepoint, sync)
}

func (d *gatedDB) CreateIndexes(ns string, files map[string][]byte) error {
	d.p.mu.Lock()
	defer d.p.mu.Unlock()
	if d.p.refuse != nil {
		return d.p.refuse
	}
	for name, content := range files {
		d.p.created = append(d.p.created, fmt.Sprintf("%s %s %s %s", d.id, ns, name, content))
	}
	return nil
}

// gatedConfig is a configuration with a gated state.
func gatedConfig(fs vfs.FS) (Config, *gatedState) {
	st := &gatedState{}
	return Config{Dir: testDir, FS: fs, History: true, OpenState: func() (state.Provider, error) {
		p, err := leveldb.OpenProvider(leveldb.Config{Dir: path.Join(testDir, dirState), FS: fs})
		st.Provider = p
		return st, err
	}}, st
}

// writes makes the next block of a ledger, with one transaction that writes keys
// of a namespace.
func writes(t testing.TB, l *Ledger, ns string, kvs ...string) *protoutil.Block {
	t.Helper()
	last, err := l.BlockByNumber(l.Height() - 1)
	if err != nil {
		t.Fatal(err)
	}
	n := last.GetHeader().GetNumber() + 1
	b := protoutil.NewBlock(n, protoutil.BlockHash(last.GetHeader()))
	set := sets.NewBuilder()
	for i := 0; i < len(kvs); i += 2 {
		set.Write(ns, kvs[i], []byte(kvs[i+1]))
	}
	public, err := set.Public()
	if err != nil {
		t.Fatal(err)
	}
	b.Data.Data = [][]byte{benchEnvelope(fmt.Sprintf("tx-%d", n), protoutil.Marshal(public))}
	v := protoutil.ParseBlock(b)
	v.SetFlags(make([]byte, 1))
	return v
}

// TestNobodyWaitsForTheCommitThatWaitsForHim: while a block waits for a
// simulation, the simulation can do all that a chaincode can ask for.
func TestNobodyWaitsForTheCommitThatWaitsForHim(t *testing.T) {
	t.Parallel()
	cfg, st := gatedConfig(vfs.NewMem())
	p := openProvider(t, cfg)
	l, err := p.Create(genesisOf("ch"))
	must(t, err)
	must(t, l.Commit(writes(t, l, "cc", "k", "1")))
	sim, err := l.NewSimulator("tx")
	must(t, err)
	st.applies = make(chan struct{})
	b := writes(t, l, "cc", "k", "2")
	committed := make(chan error)
	go func() { committed <- l.Commit(b) }()
	<-st.applies
	if h := l.blocks.Height(); h != 3 {
		t.Fatalf("height %d", h)
	}

	nested, err := l.NewNestedSimulator("tx")
	must(t, err)
	for _, s := range []*Simulator{sim, nested} {
		if v, err := s.GetState("cc", "k"); err != nil || string(v) != "1" {
			t.Errorf("got %s, %v", v, err)
		}
	}
	checkCommitted(t, l, b)
	done := p.Installing(Installation{Chaincode: "cc", Matches: func([]byte) bool { return true }, Files: map[string][]byte{"x": nil}})
	done()

	nested.Done()
	sim.Done()
	must(t, <-committed)
	if info := l.Committed().Info(); info.Height != 3 {
		t.Errorf("got %v", info)
	}
	if tx, err := l.Committed().TransactionByID("tx-2"); err != nil || tx.ValidationCode != int32(peer.TxValidationCode_VALID) {
		t.Errorf("got %v, %v", tx, err)
	}
}

// checkCommitted: block 2, which is under way, is not seen.
func checkCommitted(t *testing.T, l *Ledger, underWay *protoutil.Block) {
	t.Helper()
	c := l.Committed()
	first, err := l.blocks.BlockByNumber(1)
	must(t, err)
	info := c.Info()
	if info.Height != 2 || string(info.CurrentBlockHash) != string(protoutil.BlockHash(first.Header)) || string(info.PreviousBlockHash) != string(first.Header.PreviousHash) {
		t.Errorf("got %v", info)
	}
	seen := func(what string, want bool, err error) {
		t.Helper()
		if want && err != nil || !want && !errors.Is(err, blockfile.ErrNotFound) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for n, want := range map[uint64]bool{0: true, 1: true, 2: false, 3: false, ^uint64(0): true} {
		_, err := c.RawBlock(n)
		seen(fmt.Sprintf("block %d", n), want, err)
	}
	for b, want := range map[*common.Block]bool{first: true, underWay.Proto(): false} {
		_, err := c.BlockByHash(protoutil.BlockHash(b.Header))
		seen("block by hash", want, err)
	}
	for id, want := range map[string]bool{"tx-1": true, "tx-2": false, "none": false} {
		_, err := c.BlockByTxID(id)
		seen("block of "+id, want, err)
		_, err = c.TransactionByID(id)
		seen(id, want, err)
	}
}

// collectionsNamed is a package of collections.
func collectionsNamed(names ...string) string {
	pkg := &peer.CollectionConfigPackage{}
	for _, n := range names {
		pkg.Config = append(pkg.Config, &peer.CollectionConfig{Payload: &peer.CollectionConfig_StaticCollectionConfig{
			StaticCollectionConfig: &peer.StaticCollectionConfig{Name: n},
		}})
	}
	return string(protoutil.Marshal(pkg))
}

// someFiles are those of a package, with what is made of them on a channel.
func someFiles(channel string) (map[string][]byte, []string) {
	return map[string][]byte{
		"META-INF/statedb/couchdb/indexes/a.json":                []byte("A"),
		"META-INF/statedb/couchdb/collections/c1/indexes/b.json": []byte("B"),
		"META-INF/statedb/couchdb/collections/c2/indexes/c.json": []byte("C"),
		"META-INF/statedb/couchdb/collections/stray":             []byte("D"),
		"META-INF/statedb/other":                                 []byte("E"),
	}, []string{
		channel + " cc a.json A",
		channel + " cc$$pc1 b.json B",
	}
}

func expectCreated(t *testing.T, what string, st *gatedState, want ...string) {
	t.Helper()
	if got := st.reported(); !slices.Equal(got, want) {
		t.Errorf("%s: created %q, want %q", what, got, want)
	}
}

func TestIndexesOfDeployments(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	files, want := someFiles("ch")
	cfg, st := gatedConfig(fs)
	installed := map[string]bool{"v1": true}
	var asked []string
	cfg.Artifacts = func(chaincode string, definition []byte) (map[string][]byte, bool, error) {
		asked = append(asked, chaincode+" "+string(definition))
		if string(definition) == "bad" {
			return nil, false, errors.New("unreadable")
		}
		return files, installed[string(definition)], nil
	}
	p := openProvider(t, cfg)
	l, err := p.Create(genesisOf("ch"))
	must(t, err)
	commit := func(kvs ...string) {
		t.Helper()
		must(t, l.Commit(writes(t, l, "lscc", kvs...)))
	}
	commit("cc", "v1", "cc~collection", collectionsNamed("c1"))
	expectCreated(t, "deployment", st, want...)
	commit("cc~collection", collectionsNamed("c1", "c2"))
	expectCreated(t, "no deployment", st)
	commit("cc", "v2")
	expectCreated(t, "not installed", st)
	commit("cc", "bad")
	expectCreated(t, "unreadable", st)
	installed["v3"] = true
	st.refuse = errors.New("no CouchDB")
	commit("cc", "v3")
	st.refuse = nil
	expectCreated(t, "refused", st)
	if len(l.indexes.deploying) != 0 {
		t.Error("deployments are left")
	}
	if wantAsked := "cc v1,cc v2,cc bad,cc v3"; strings.Join(asked, ",") != wantAsked {
		t.Errorf("asked for %q", asked)
	}

	// Replay makes them again, with the collections of their time.
	must(t, p.Close())
	must(t, vfs.DropDir(fs, path.Join(testDir, dirState)))
	p = openProvider(t, cfg)
	openLedger(t, p, "ch")
	wantAgain := append(slices.Clone(want), "ch cc a.json A", "ch cc$$pc1 b.json B", "ch cc$$pc2 c.json C")
	slices.Sort(wantAgain)
	expectCreated(t, "replay", st, wantAgain...)
}

func TestIndexesOfInstallations(t *testing.T) {
	t.Parallel()
	cfg, st := gatedConfig(vfs.NewMem())
	p := openProvider(t, cfg)
	files, _ := someFiles("")
	in := Installation{Chaincode: "cc", Matches: func(d []byte) bool { return string(d) == "v1" }, Files: files}
	for id, definition := range map[string]string{"one": "v1", "two": "v2", "three": "v1"} {
		l, err := p.Create(genesisOf(id))
		must(t, err)
		must(t, l.Commit(writes(t, l, "lscc", "cc", definition, "cc~collection", collectionsNamed("c1"))))
	}
	p.Installing(in)()
	_, one := someFiles("one")
	_, three := someFiles("three")
	expectCreated(t, "installation", st, append(one, three...)...)
	in.Chaincode = "other"
	p.Installing(in)()
	expectCreated(t, "not deployed", st)
	if len(p.indexes.installing) != 0 {
		t.Error("installations are left")
	}
}

// TestInstallationDuringDeployment: whichever comes first, the other sees it.
func TestInstallationDuringDeployment(t *testing.T) {
	t.Parallel()
	cfg, st := gatedConfig(vfs.NewMem())
	files, want := someFiles("ch")
	in := Installation{Chaincode: "cc", Matches: func(d []byte) bool { return string(d) == "v1" }, Files: files}
	var p *Provider
	installs := true
	cfg.Artifacts = func(string, []byte) (map[string][]byte, bool, error) {
		if installs { // after the deployment has begun, before it is in the state
			p.Installing(in)()
		}
		return nil, false, nil // not saved yet
	}
	p = openProvider(t, cfg)
	l, err := p.Create(genesisOf("ch"))
	must(t, err)
	must(t, l.Commit(writes(t, l, "lscc", "cc", "v1", "cc~collection", collectionsNamed("c1"))))
	expectCreated(t, "deployment first", st, want...)

	installs = false
	done := p.Installing(in)
	expectCreated(t, "reinstallation", st, want...)
	must(t, l.Commit(writes(t, l, "lscc", "cc", "v1"))) // before the package is saved
	expectCreated(t, "installation first", st, want...)
	done()
	must(t, l.Commit(writes(t, l, "lscc", "cc", "v1")))
	expectCreated(t, "given up", st)
}

// TestReadersBesideCommitsWithGate is TestReadersBesideCommits without true
// snapshots.
func TestReadersBesideCommitsWithGate(t *testing.T) {
	t.Parallel()
	const blocks = 30
	cfg, _ := gatedConfig(vfs.NewMem())
	p := openProvider(t, cfg)
	l, err := p.Create(genesisOf("ch"))
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() { readWhole(t, ctx, l) })
	}
	wg.Go(func() { follow(t, ctx, l, blocks) })
	wg.Go(func() { poll(t, ctx, l) })
	prev, err := l.BlockByNumber(0)
	must(t, err)
	for range blocks {
		b := stampBlock(t, prev)
		must(t, l.Commit(b))
		prev = b.Proto()
	}
	cancel()
	wg.Wait()
}
