package ledger

import (
	"errors"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/ledger/blockfile"
	"github.com/heddle-ledger/heddle/ledger/kv"
)

// recordedBlock is block n of the recorded chain as it was before its commit.
func recordedBlock(blocks []*common.Block, n int) *protoutil.Block {
	b := proto.CloneOf(blocks[n])
	b.Metadata.Metadata[protoutil.CommitHashSlot] = nil
	return protoutil.ParseBlock(b)
}

// TestHistoryOffAndOn: while the history is disabled it is left alone, wherever it
// stands; when it is enabled again it is brought level (LEDGER §6.3, §17.3).
func TestHistoryOffAndOn(t *testing.T) {
	t.Parallel()
	blocks := allBlocks(t, "ledger_root.tar.gz", "vecch")
	fsys := untar(t, "ledger_root_after_block9.tar.gz")
	before := dump(t, fsys)["historyLeveldb"]
	cfg := vectorConfig(t, fsys)
	cfg.History = false
	p := openProvider(t, cfg)
	l := openLedger(t, p, "vecch")
	must(t, l.Commit(recordedBlock(blocks, 10)))
	if _, err := l.NewHistoryExecutor(0); !errors.Is(err, ErrHistoryOff) || err.Error() != "history database not enabled" {
		t.Errorf("got %v", err)
	}
	must(t, p.Close())
	if !maps.Equal(before, dump(t, fsys)["historyLeveldb"]) {
		t.Error("a disabled history was written to")
	}
	p = openProvider(t, vectorConfig(t, fsys))
	openLedger(t, p, "vecch")
	must(t, p.Close())
	want := dump(t, untar(t, "ledger_root_after_block10.tar.gz"))["historyLeveldb"]
	if diff := cmp.Diff(want, dump(t, fsys)["historyLeveldb"]); diff != "" {
		t.Error(diff)
	}
}

// TestDisabledHistoryIsThere: the database is made even if nothing goes in (LEDGER
// §2).
func TestDisabledHistoryIsThere(t *testing.T) {
	t.Parallel()
	fsys := vfs.NewMem()
	cfg := vectorConfig(t, fsys)
	cfg.History = false
	p := openProvider(t, cfg)
	create(t, p, genesisOf("ch"))
	must(t, p.Close())
	if _, err := fsys.Stat(path.Join(testDir, "historyLeveldb/CURRENT")); err != nil {
		t.Error(err)
	}
	if got := dump(t, fsys)["historyLeveldb"]; len(got) != 0 {
		t.Errorf("history: %v", got)
	}
}

// TestHistoryAheadOfBlocks keeps the channel out, unless the history is disabled
// (LEDGER §17.3).
func TestHistoryAheadOfBlocks(t *testing.T) {
	t.Parallel()
	for _, enabled := range []bool{true, false} {
		fsys := untar(t, "ledger_root_after_block9.tar.gz")
		copyTree(t, untar(t, "ledger_root_after_block10.tar.gz"), fsys, testDir+"/historyLeveldb")
		cfg := vectorConfig(t, fsys)
		cfg.History = enabled
		_, err := openProvider(t, cfg).Open("vecch")
		want := "the history database [height=11] is ahead of the block store [height=10]. This is possible when the history database is not dropped after a ledger reset/rollback. The history database can safely be dropped and will be rebuilt up to block store height upon the next peer start."
		if enabled && (err == nil || err.Error() != want || IsFatal(err)) || !enabled && err != nil {
			t.Errorf("enabled %v: %v", enabled, err)
		}
	}
}

// TestPrivateDataAfterRollback: after a rollback the private store knows blocks that the
// block store does not; they are read from it, and nothing is reported missing
// until the block store has caught up (LEDGER §15.1, §17.4).
func TestPrivateDataAfterRollback(t *testing.T) {
	t.Parallel()
	blocks := allBlocks(t, "ledger_root.tar.gz", "vecch")
	fsys := untar(t, "ledger_root.tar.gz")
	edit(t, fsys, "pvtdataStore", func(_ *kv.Store, b *kv.Batch) { // something to miss
		b.Put(append(append([]byte("vecch\x00\x04"), kv.AppendRPV(nil, 2)...), "cc1\x00collA"...), []byte{0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1})
	})
	want := dump(t, fsys)
	must(t, Rollback(vectorConfig(t, fsys), "vecch", 3))
	p := openProvider(t, vectorConfig(t, fsys))
	l := openLedger(t, p, "vecch")
	for n := 4; n < 11; n++ {
		if missing, err := l.MissingPrivateData(10); len(missing) != 0 || err != nil {
			t.Errorf("height %d: missing %v, %v", n, missing, err)
		}
		if !l.PrivateDataExists(uint64(n)) {
			t.Errorf("private data of block %d would be collected again", n)
		}
		must(t, l.CommitWithPrivateData(recordedBlock(blocks, n), &PrivateData{ // not looked at
			Missing: map[uint64][]MissingCollection{0: {{Namespace: "cc1", Collection: "collA", Eligible: true}}},
		}))
	}
	if l.PrivateDataExists(11) {
		t.Error("block 11 is known already")
	}
	missing, err := l.MissingPrivateData(10)
	if err != nil || len(missing) != 1 || len(missing[2][0]) != 1 {
		t.Errorf("missing: %v, %v", missing, err)
	}
	must(t, l.private.Work(t.Context())) // block 6 has raised its event once more
	must(t, p.Close())
	compareDumps(t, map[string]map[string]string{"pvtdataStore": want["pvtdataStore"]}, map[string]map[string]string{"pvtdataStore": dump(t, fsys)["pvtdataStore"]})
}

// TestUpgradeFrom10: a chain older than private data gets an empty private store
// that begins after it, and a state without any of what came later (LEDGER §17.2).
func TestUpgradeFrom10(t *testing.T) {
	t.Parallel()
	fsys := untar(t, "ledger_root.tar.gz")
	for _, dir := range []string{"pvtdataStore", "bookkeeper", "configHistory"} {
		must(t, fsys.RemoveAll(path.Join(testDir, dir)))
	}
	p := openProvider(t, vectorConfig(t, fsys))
	l := openLedger(t, p, "vecch")
	if l.PrivateDataExists(11) || !l.PrivateDataExists(10) {
		t.Errorf("private store: next block %d", l.private.NextBlock())
	}
	last, err := l.BlockByNumber(10)
	must(t, err)
	must(t, l.Commit(stampBlock(t, last)))
	must(t, p.Close())
	got := dump(t, fsys)["pvtdataStore"]
	if diff := cmp.Diff(map[string]string{"7665636368" + "0001": "0b"}, got); diff != "" {
		t.Error(diff)
	}
}

// TestCarriedOverWithoutCommitHash: a ledger that was begun by code without commit
// hashes gets none; what a block brings in that slot stays as it came, and counts
// after the next start (LEDGER §13.1, §13.4, §21).
func TestCarriedOverWithoutCommitHash(t *testing.T) {
	t.Parallel()
	fsys := vfs.NewMem()
	p := openProvider(t, vectorConfig(t, fsys))
	create(t, p, genesisOf("ch"))
	must(t, p.Close())
	// Block 1, of an old peer: four slots, no hash.
	blocks, err := blockfile.OpenProvider(blockfile.Config{Dir: path.Join(testDir, "chains"), FS: fsys})
	must(t, err)
	store, err := blocks.Open("ch")
	must(t, err)
	old := stampBlock(t, get(store.BlockByNumber(0)))
	old.Proto().Metadata.Metadata = old.Proto().Metadata.Metadata[:4]
	must(t, store.Append(old))
	must(t, blocks.Close())
	edit(t, fsys, "pvtdataStore", func(_ *kv.Store, b *kv.Batch) { b.Put([]byte("ch\x00\x01"), []byte{1}) })

	p = openProvider(t, vectorConfig(t, fsys))
	l := openLedger(t, p, "ch")
	plain := stampBlock(t, old.Proto())
	plain.Proto().Metadata.Metadata = plain.Proto().Metadata.Metadata[:3]
	must(t, l.Commit(plain))
	if got := get(l.BlockByNumber(2)).Metadata.Metadata; len(got) != 3 {
		t.Errorf("block 2 has metadata %x", got)
	}
	given := protoutil.Marshal(&common.Metadata{Value: []byte("a hash of somebody")})
	with := stampBlock(t, plain.Proto())
	with.Proto().Metadata.Metadata[protoutil.CommitHashSlot] = given
	must(t, l.Commit(with))
	next := stampBlock(t, with.Proto())
	must(t, l.Commit(next))
	if got := get(l.BlockByNumber(3)).Metadata.Metadata[protoutil.CommitHashSlot]; string(got) != string(given) {
		t.Errorf("block 3 has commit hash %x", got)
	}
	if got := get(l.BlockByNumber(4)).Metadata.Metadata[protoutil.CommitHashSlot]; len(got) != 0 {
		t.Errorf("block 4 has commit hash %x", got)
	}
	again := stampBlock(t, next.Proto())
	again.Proto().Metadata.Metadata[protoutil.CommitHashSlot] = given
	must(t, l.Commit(again))
	must(t, p.Close())
	l = openLedger(t, openProvider(t, vectorConfig(t, fsys)), "ch")
	if string(l.commitHash) != "a hash of somebody" {
		t.Errorf("commit hash at the start: %q", l.commitHash)
	}
	must(t, l.Commit(stampBlock(t, again.Proto())))
	if got := get(l.BlockByNumber(6)).Metadata.Metadata[protoutil.CommitHashSlot]; len(got) != 34 {
		t.Errorf("block 6 has commit hash %x", got)
	}
}

func get(b *common.Block, err error) *common.Block {
	if err != nil {
		panic(err)
	}
	return b
}

// TestEmptyBlock: a block without transactions has a savepoint like no other
// (LEDGER §4.1, §6.1), which is read back.
func TestEmptyBlock(t *testing.T) {
	t.Parallel()
	fsys := vfs.NewMem()
	p := openProvider(t, vectorConfig(t, fsys))
	genesis := genesisOf("ch")
	create(t, p, genesis)
	b := protoutil.NewBlock(1, protoutil.BlockHash(genesis.Header))
	b.Header.DataHash = protoutil.DataHash(nil)
	v := protoutil.ParseBlock(b)
	v.SetFlags([]byte{})
	must(t, openLedger(t, p, "ch").Commit(v))
	must(t, p.Close())
	all := dump(t, fsys)
	if got := all["stateLeveldb"]["63680000"]; got != "010108ffffffffffffffff" {
		t.Errorf("state savepoint %s", got)
	}
	if got := all["historyLeveldb"]["63680000"]; got != "010100" {
		t.Errorf("history savepoint %s", got)
	}
	l := openLedger(t, openProvider(t, vectorConfig(t, fsys)), "ch")
	must(t, l.Commit(stampBlock(t, b)))
}

// TestChannelsAreApart: a channel whose name is the beginning of another's, and
// names with dots, share every database without harm (LEDGER §2.1).
func TestChannelsAreApart(t *testing.T) {
	t.Parallel()
	fsys := vfs.NewMem()
	ids := []string{"ch", "ch.two", "ch1", "c"}
	p := openProvider(t, vectorConfig(t, fsys))
	for i, id := range ids {
		genesis := genesisOf(id)
		create(t, p, genesis)
		prev := get(openLedger(t, p, id).BlockByNumber(0))
		for range i {
			b := stampBlock(t, prev)
			must(t, openLedger(t, p, id).Commit(b))
			prev = b.Proto()
		}
	}
	list, err := p.List()
	must(t, err)
	if !slices.Equal(list, []string{"c", "ch", "ch.two", "ch1"}) { // in the order of the keys
		t.Errorf("channels %v", list)
	}
	must(t, p.Close())
	must(t, Rollback(vectorConfig(t, fsys), "ch1", 0))
	heights, recorded := reopen(t, fsys)
	if diff := cmp.Diff(map[string]uint64{"ch": 1, "ch.two": 2, "ch1": 1, "c": 4}, heights); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]uint64{"ch1": 3}, recorded); diff != "" {
		t.Error(diff)
	}
	for db, entries := range dump(t, fsys) {
		for key := range entries {
			name, _, _ := strings.Cut(string(unhex(t, key)), "\x00")
			name = strings.TrimSuffix(strings.TrimSuffix(name, "/0"), "/1")
			if db == "ledgerProvider" {
				name = name[1:]
			}
			if !slices.Contains(ids, name) {
				t.Errorf("%s: %q", db, unhex(t, key))
			}
		}
	}
}

// TestOldBlocksForm: the list of blocks whose reconciled data may be missing
// in the state is read as it is written (LEDGER §8).
func TestOldBlocksForm(t *testing.T) {
	t.Parallel()
	fsys := vfs.NewMem()
	c := newPrivateChain(t, vectorConfig(t, fsys))
	c.block(ptx{write: put("forever", "a", "1")})
	must(t, c.l.private.CommitOld(nil))
	if got := dump(t, fsys.Crash(vfs.KeepUnsynced, 0))["pvtdataStore"]["636800"+"07"]; got != "00" {
		t.Errorf("nothing accepted: %s", got)
	}
	must(t, c.l.private.OldApplied())
	must(t, c.l.private.CommitOld(map[uint64]map[uint64]*rwset.TxPvtReadWriteSet{2: c.sets[2]}))
	if got := dump(t, fsys.Crash(vfs.KeepUnsynced, 0))["pvtdataStore"]["636800"+"07"]; got != "0102" {
		t.Errorf("one block accepted: %s", got)
	}
}
