package ledger

import (
	"encoding/hex"
	"errors"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/ledger/kv"
	"github.com/heddle-ledger/heddle/protos/ledgerstore"
)

// useAll opens the channel of the vectors and asks its stores for all they hold;
// then it lets them go on.
func useAll(t *testing.T, fsys *vfs.Mem) (errs []error) {
	t.Helper()
	note := func(err error) bool {
		if err != nil {
			errs = append(errs, err)
		}
		return err == nil
	}
	p, err := OpenProvider(vectorConfig(t, fsys))
	if !note(err) {
		return errs
	}
	defer func() { note(p.Close()) }()
	_, err = p.Genesis("vecch")
	note(err)
	l, err := p.Open("vecch")
	if !note(err) {
		return errs
	}
	_, err = l.ChannelConfig(t.Context())
	note(err)
	for n := range l.Height() + 1 {
		_, err = l.PrivateDataOf(n, nil)
		if err == nil || !strings.HasPrefix(err.Error(), "Last committed block=") {
			note(err)
		}
		_, _, err = l.CollectionConfigBelow(n+1, "cc1")
		note(err)
	}
	_, err = l.MissingPrivateData(10)
	note(err)
	q, err := l.NewQueryExecutor()
	must(t, err)
	defer q.Done()
	for _, ns := range []string{"cc1", "cc2", "lscc", "cc1$$pcollA", "cc1$$hcollA"} {
		it, err := q.GetStateRange(ns, "", "")
		if !note(err) {
			continue
		}
		for {
			r, err := it.Next()
			if !note(err) || r == nil {
				break
			}
		}
		it.Close()
	}
	for _, key := range []string{"p1", "p2", "p9"} {
		_, err = q.GetPrivateDataHash("cc1", "collA", key)
		note(err)
		_, err = q.GetPrivateDataMetadata("cc1", "collA", key)
		note(err)
	}
	note(l.private.Work(t.Context()))
	last, err := l.BlockByNumber(l.Height() - 1)
	must(t, err)
	_, err = l.CommitReconciled([]ReconciledData{{Block: 3, Sets: map[uint64]*rwset.TxPvtReadWriteSet{5: suppliedSet(t)}}})
	note(err)
	note(l.Commit(stampBlock(t, last)))
	return errs
}

// suppliedSet is private data of the recorded chain that came late.
func suppliedSet(t *testing.T) *rwset.TxPvtReadWriteSet {
	t.Helper()
	for _, st := range readScript(t).steps {
		if st.Supplied.Set != "" {
			return privateSet(t, st.Supplied.Set)
		}
	}
	t.Fatal("nothing was supplied")
	return nil
}

// TestDamagedEntries: whatever bytes stand in a database, nothing panics, and an
// error names the database and the entry.
func TestDamagedEntries(t *testing.T) {
	base := untar(t, "ledger_root.tar.gz")
	all := dump(t, untar(t, "ledger_root.tar.gz"))
	for _, db := range databases {
		values := map[string][]byte{
			"empty": {}, "letters": []byte("zzzz"), "zero": {0}, "ones": {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		}
		keys := slices.Sorted(maps.Keys(all[db]))
		keys = slices.DeleteFunc(keys, func(k string) bool {
			return !strings.Contains(string(unhex(t, k)), "vecch") || strings.Contains(string(unhex(t, k)), "vecch.two")
		})
		if step := len(keys) / 15; step > 1 { // a sample
			var some []string
			for i := 0; i < len(keys); i += step {
				some = append(some, keys[i])
			}
			keys = some
		}
		for _, key := range keys {
			for what, value := range values {
				if testing.Short() && what != "ones" {
					continue
				}
				fsys := base.Crash(vfs.KeepUnsynced, 0)
				edit(t, fsys, db, func(s *kv.Store, b *kv.Batch) { b.Put(unhex(t, key), value) })
				for _, err := range useAll(t, fsys) {
					checkNamed(t, err, db, unhex(t, key), what)
				}
			}
		}
	}
}

func edit(t *testing.T, fsys vfs.FS, db string, change func(*kv.Store, *kv.Batch)) {
	t.Helper()
	d, err := kv.Open(kv.Config{Dir: path.Join(testDir, db), FS: fsys})
	must(t, err)
	s := d.Raw()
	b := s.NewBatch()
	change(s, b)
	must(t, s.Write(b, true))
	must(t, d.Close())
}

// checkNamed wants an error to tell what is damaged.
func checkNamed(t *testing.T, err error, db string, key []byte, what string) {
	t.Helper()
	text := err.Error()
	var entry *kv.EntryError
	switch {
	case errors.As(err, &entry):
		if entry.Dir == path.Join(testDir, db) {
			return
		}
	case db == "chains/index" && (strings.Contains(text, "block index of channel [vecch], entry ") || strings.Contains(text, blockFile)):
		return
	case strings.Contains(text, "is ahead of the block store"), strings.Contains(text, "is behind the block store"): // a savepoint, or last block, that can be read
		return
	case db == "configHistory" && strings.Contains(text, "config history of channel [vecch], chaincode [cc1]"):
		return
	case strings.HasPrefix(text, "collection config not defined"), strings.HasPrefix(text, "collection ["), strings.Contains(text, "collections of chaincode [cc1]"):
		return // collections that decode, or do not, are what a transaction wrote
	}
	t.Errorf("%s: %q is %s: %v", db, key, what, err)
}

// TestShortFilterInBlockFile: codes are in the metadata, which no hash protects;
// a stored block that has too few is refused when it is replayed, into the history
// alone too.
func TestShortFilterInBlockFile(t *testing.T) {
	for _, drop := range [][]string{{"historyLeveldb"}, {"stateLeveldb", "bookkeeper", "configHistory"}} {
		fsys := vfs.NewMem()
		p := openProvider(t, vectorConfig(t, fsys))
		create(t, p, genesisOf("ch"))
		l := openLedger(t, p, "ch")
		genesis, err := l.BlockByNumber(0)
		must(t, err)
		must(t, l.Commit(stampBlock(t, genesis)))
		must(t, p.Close())
		name := testDir + "/chains/chains/ch/blockfile_000000"
		raw, err := vfs.ReadFile(fsys, name)
		must(t, err)
		// The metadata are the end of the record: five of them, the codes with
		// their length before them.
		long, short := append([]byte{5, 0, 0, 10}, make([]byte, 10)...), append([]byte{5, 0, 10}, make([]byte, 10)...)
		i := strings.LastIndex(string(raw), string(long))
		if i < 0 {
			t.Fatalf("no codes in %x", raw[len(raw)-80:])
		}
		raw = append(append(raw[:i:i], append(short, 0)...), raw[i+len(long):]...)
		must(t, vfs.WriteFile(fsys, name, raw, 0o660))
		for _, db := range drop {
			must(t, fsys.RemoveAll(path.Join(testDir, db)))
		}
		p = openProvider(t, vectorConfig(t, fsys))
		if _, err := p.Open("ch"); err == nil || !strings.Contains(err.Error(), "block [1] has 10 transactions but 0 validation codes") {
			t.Errorf("%v: %v", drop, err)
		}
	}
}

// TestOldStateValues: state written before 1.3 has no metadata; it is read as it
// is, compared by version, and written anew when it changes (LEDGER §4.2).
func TestOldStateValues(t *testing.T) {
	t.Parallel()
	fsys := untar(t, "ledger_root_after_block9.tar.gz")
	blocks := allBlocks(t, "ledger_root.tar.gz", "vecch")
	want := dump(t, untar(t, "ledger_root_after_block10.tar.gz"))
	const db = "stateLeveldb"
	older := map[string]string{}
	edit(t, fsys, db, func(s *kv.Store, b *kv.Batch) {
		it := s.Scan(nil, nil)
		defer it.Close()
		for it.Next() {
			v := &ledgerstore.VersionedValue{}
			if len(it.Key()) < len("vecch\x00x") || it.Value()[0] != 0 || proto.Unmarshal(it.Value()[1:], v) != nil || len(v.Metadata) > 0 {
				continue
			}
			old := append(append([]byte(nil), v.VersionBytes...), v.Value...)
			older[hex.EncodeToString(it.Key())] = hex.EncodeToString(old)
			b.Put(it.Key(), old)
		}
	})
	if len(older) < 100 {
		t.Fatalf("%d old values", len(older))
	}
	p := openProvider(t, vectorConfig(t, fsys))
	l := openLedger(t, p, "vecch")
	if cfg, err := l.ChannelConfig(t.Context()); err != nil || cfg == nil {
		t.Errorf("configuration: %v, %v", cfg, err)
	}
	b := proto.CloneOf(blocks[10])
	b.Metadata.Metadata[protoutil.CommitHashSlot] = nil
	must(t, l.Commit(protoutil.ParseBlock(b)))
	if string(b.Metadata.Metadata[protoutil.CommitHashSlot]) != string(blocks[10].Metadata.Metadata[protoutil.CommitHashSlot]) {
		t.Error("another commit hash")
	}
	must(t, l.private.Work(t.Context()))
	must(t, p.Close())
	got := dump(t, fsys)
	for key, old := range older {
		if got[db][key] == old { // not rewritten
			got[db][key] = want[db][key]
		}
	}
	compareDumps(t, want, got)
}

// TestConfigMissingInState: data of 1.0 have no configuration in the state (LEDGER
// §4.3).
func TestConfigMissingInState(t *testing.T) {
	t.Parallel()
	fsys := untar(t, "ledger_root.tar.gz")
	edit(t, fsys, "stateLeveldb", func(_ *kv.Store, b *kv.Batch) {
		b.Delete([]byte("vecch\x00\x00resourcesconfigtx.CHANNEL_CONFIG_KEY"))
	})
	l := openLedger(t, openProvider(t, vectorConfig(t, fsys)), "vecch")
	if cfg, err := l.ChannelConfig(t.Context()); cfg != nil || err != nil {
		t.Errorf("got %v, %v", cfg, err)
	}
}
