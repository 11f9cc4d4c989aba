package ledger

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/failpoint"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/ledger/kv"
)

// readList reads the list of channels of a closed directory.
func readList(t *testing.T, fsys vfs.FS) map[string]string {
	t.Helper()
	db, err := kv.Open(kv.Config{Dir: path.Join(testDir, dirProvider), FS: fsys})
	must(t, err)
	defer db.Close()
	out := map[string]string{}
	it := db.Raw().Scan(nil, nil)
	defer it.Close()
	for it.Next() {
		out[string(it.Key())] = string(it.Value())
	}
	must(t, it.Err())
	return out
}

// TestGenesisAsJoined: the first block keeps its metadata, whatever their number;
// only the codes are filled in (LEDGER §2.3, §15.2).
func TestGenesisAsJoined(t *testing.T) {
	t.Parallel()
	signature := []byte("signatures of the orderer")
	for _, tc := range []struct {
		name       string
		slots      [][]byte
		kept       int
		wantFilter []byte
	}{
		{"none", nil, 5, []byte{0}},
		{"too few", [][]byte{signature, {}}, 5, []byte{0}},
		{"of 1.0", [][]byte{signature, {}, {}, {}}, 4, []byte{0}},
		{"no more than needed", [][]byte{signature, {}, {}}, 3, []byte{0}},
		{"usual", [][]byte{signature, {}, {}, {}, {}}, 5, []byte{0}},
		{"with codes", [][]byte{signature, {}, {0}, {}}, 4, []byte{0}},
		{"of a later version", [][]byte{signature, {}, {}, {}, {}, {}, []byte("x")}, 7, []byte{0}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			fsys := vfs.NewMem()
			genesis := genesisOf("ch")
			genesis.Metadata = &common.BlockMetadata{Metadata: tc.slots}
			given := proto.CloneOf(genesis)
			p := openProvider(t, vectorConfig(t, fsys))
			create(t, p, genesis)
			if !proto.Equal(given, genesis) {
				t.Error("the caller's block was changed")
			}
			stored, err := openLedger(t, p, "ch").BlockByNumber(0)
			must(t, err)
			listed, err := p.Genesis("ch")
			must(t, err)
			for where, b := range map[string]*common.Block{"block file": stored, "list of channels": listed} {
				got := b.Metadata.Metadata
				if len(got) != tc.kept || string(got[2]) != string(tc.wantFilter) || len(tc.slots) > 0 && string(got[0]) != string(signature) {
					t.Errorf("%s: metadata %q", where, got)
				}
				if last := len(tc.slots) - 1; last > 2 && string(got[last]) != string(tc.slots[last]) {
					t.Errorf("%s: last slot %q", where, got[last])
				}
			}
			must(t, p.Close())
			list := readList(t, fsys)
			if len(list) != 1 || list["lch"] != string(protoutil.Marshal(listed)) {
				t.Errorf("list of channels: %q", slices.Sorted(maps.Keys(list)))
			}
		})
	}
}

// TestCreationStopped: what a start does about a channel whose creation was cut
// short (LEDGER §2.3).
func TestCreationStopped(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		point  string
		listed bool
	}{
		{PointAfterConstructionFlag, false}, // nothing was stored: forgotten
		{PointBeforePrepare, false},
		{PointAfterPrepare, false},
		{PointAfterBlock, true}, // the block is stored: completed
		{PointAfterState, true},
		{PointAfterGenesisCommit, true},
	} {
		t.Run(tc.point, func(t *testing.T) {
			t.Parallel()
			fsys, points := vfs.NewMem(), &failpoint.Points{}
			points.Arm(tc.point, func(int) error { return errCrash })
			cfg := vectorConfig(t, fsys)
			cfg.Points = points
			p := openProvider(t, cfg)
			if _, err := p.Create(genesisOf("ch")); !errors.Is(err, errCrash) {
				t.Fatalf("got %v", err)
			}
			after := fsys.Crash(vfs.LoseUnsynced, 0)
			must(t, p.Close())
			if list := readList(t, after); len(list) != 1 || list[keyUnderConstruction] != "ch" {
				t.Errorf("left: %q", list)
			}
			p = openProvider(t, vectorConfig(t, after))
			exists, err := p.Exists("ch")
			must(t, err)
			if exists != tc.listed {
				t.Errorf("listed: %v", exists)
			}
			if flagged, err := p.list.Has([]byte(keyUnderConstruction)); flagged || err != nil {
				t.Errorf("still under construction: %v, %v", flagged, err)
			}
			if !exists {
				if _, err := p.Open("ch"); !errors.Is(err, ErrLedgerUnknown) || err.Error() != "LedgerID does not exist" {
					t.Errorf("open: %v", err)
				}
				create(t, p, genesisOf("ch"))
			}
			if _, err := p.Create(genesisOf("ch")); !errors.Is(err, ErrLedgerExists) || err.Error() != "LedgerID already exists" {
				t.Errorf("create again: %v", err)
			}
			if h := openLedger(t, p, "ch").Height(); h != 1 {
				t.Errorf("height %d", h)
			}
			must(t, p.Close())
			if got := slices.Sorted(maps.Keys(readList(t, after))); !slices.Equal(got, []string{"lch"}) {
				t.Errorf("list of channels: %q", got)
			}
		})
	}
}

// TestCreationRefused: the flag goes if the stores cannot be opened, and stays if
// the block cannot be committed (LEDGER §2.3).
func TestCreationRefused(t *testing.T) {
	t.Parallel()
	fsys := vfs.NewMem()
	p := openProvider(t, vectorConfig(t, fsys))
	must(t, vfs.WriteFile(fsys, testDir+"/chains/chains/ch", []byte("a file where a directory should be"), 0o644))
	if _, err := p.Create(genesisOf("ch")); err == nil || !IsFatal(err) {
		t.Errorf("created: %v", err)
	}
	if has, err := p.list.Has([]byte(keyUnderConstruction)); has || err != nil {
		t.Errorf("flag %v, %v", has, err)
	}
	bad := genesisOf("two")
	bad.Header.Number = 3
	if _, err := p.Create(bad); err == nil || err.Error() != "block number should have been 0 but was 3" {
		t.Errorf("created: %v", err)
	}
	if flag, err := p.list.Get([]byte(keyUnderConstruction)); string(flag) != "two" || err != nil {
		t.Errorf("flag %q, %v", flag, err)
	}
	create(t, p, genesisOf("two")) // in the same process
	must(t, p.Close())
	if got := slices.Sorted(maps.Keys(readList(t, fsys))); !slices.Equal(got, []string{"ltwo"}) {
		t.Errorf("list of channels: %q", got)
	}
}

// TestSecondStart: the directory of a running peer is refused with the text of
// the offline commands, before anything else is opened (LEDGER §2.4).
func TestSecondStart(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]Config{
		"memory":  {Dir: testDir, FS: vfs.NewMem()},
		"machine": {Dir: t.TempDir(), FS: vfs.OS()},
	} {
		p := openProvider(t, cfg)
		want := "as another peer node command is executing, wait for that command to complete its execution or terminate it before retrying: lock is already acquired on file " + cfg.Dir + "/fileLock"
		if _, err := OpenProvider(cfg); err == nil || err.Error() != want {
			t.Errorf("%s: second start: %v", name, err)
		}
		must(t, p.Close())
		must(t, openProvider(t, cfg).Close())
	}
}

// modes is a file system that remembers with which permissions files and
// directories were made.
type modes struct {
	vfs.FS
	made map[string]fs.FileMode
}

func (m modes) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	if _, err := m.Stat(name); errors.Is(err, fs.ErrNotExist) {
		m.made[strings.TrimPrefix(name, testDir+"/")] = perm
	}
	return m.FS.OpenFile(name, flag, perm)
}

func (m modes) MkdirAll(name string, perm fs.FileMode) error {
	m.made[strings.TrimPrefix(name, testDir+"/")+"/"] = perm
	return m.FS.MkdirAll(name, perm)
}

func (m modes) Rename(from, to string) error {
	trim := func(s string) string { return strings.TrimPrefix(s, testDir+"/") }
	if perm, ok := m.made[trim(from)]; ok {
		delete(m.made, trim(from))
		m.made[trim(to)] = perm
	}
	return m.FS.Rename(from, to)
}

// TestModes: directories 0755, block files 0660, what reset leaves 0640 (LEDGER
// §2.2, §18.1, §18.3).
func TestModes(t *testing.T) {
	t.Parallel()
	m := modes{vfs.NewMem(), map[string]fs.FileMode{}}
	p := openProvider(t, vectorConfig(t, m))
	create(t, p, genesisOf("ch"))
	genesis, err := openLedger(t, p, "ch").BlockByNumber(0)
	must(t, err)
	must(t, openLedger(t, p, "ch").Commit(stampBlock(t, genesis)))
	must(t, p.Close())
	must(t, Reset(vectorConfig(t, m)))
	for name, perm := range m.made {
		want := fs.FileMode(0o644) // a file of goleveldb
		switch {
		case strings.HasSuffix(name, "/"):
			want = 0o755
		case strings.Contains(name, "/blockfile_"):
			want = 0o660
		case strings.Contains(name, "/__"):
			want = 0o640
		}
		if perm != want {
			t.Errorf("%s was made with mode %o", name, perm)
		}
	}
	for _, name := range []string{"chains/chains/ch/blockfile_000000", "chains/chains/ch/__preResetHeight", "chains/chains/ch/__backupGenesisBlockBytes", "stateLeveldb/"} {
		if _, ok := m.made[name]; !ok {
			t.Errorf("%s was not made", name)
		}
	}
}

// known are the files that a 1.4 peer has, below ledgersData (LEDGER §2, §18).
var known = regexp.MustCompile(`^(?:` +
	`(?:ledgerProvider|chains/index|stateLeveldb|historyLeveldb|pvtdataStore|configHistory|bookkeeper|fileLock)/` +
	`(?:CURRENT|LOCK|LOG|MANIFEST-\d{6}|\d{6}\.(?:log|ldb))|` +
	`chains/chains/vecch/(?:blockfile_\d{6}|__preResetHeight|__backupGenesisBlockBytes))$`)

// TestNothingElse: at every crash point of the recorded chain, and at its end,
// the directory holds the files of the reference and no others; a sub-directory of
// chains/chains, say, would be taken for a channel.
func TestNothingElse(t *testing.T) {
	t.Parallel()
	fsys, points := vfs.NewMem(), &failpoint.Points{}
	look := func(when string) {
		err := vfsWalk(fsys, testDir, func(name string) {
			if name = strings.TrimPrefix(name, testDir+"/"); !known.MatchString(name) {
				t.Errorf("%s: %s", when, name)
			}
		})
		must(t, err)
	}
	script := readScript(t)
	dry := &failpoint.Points{}
	runScript(t, script, vfs.NewMem(), dry, nil)
	for _, seen := range dry.Seen() {
		points.Arm(seen.Name, func(hit int) error {
			if hit%5 == 1 {
				look(fmt.Sprint(seen.Name, " ", hit))
			}
			return nil
		})
	}
	runScript(t, script, fsys, points, nil)
	look("closed")
	if got := slices.Sorted(maps.Keys(readList(t, fsys))); !slices.Equal(got, []string{"lvecch"}) {
		t.Errorf("list of channels: %q", got)
	}
	must(t, Rollback(vectorConfig(t, fsys), "vecch", 7))
	look("rolled back")
	reopen(t, fsys)
	must(t, Reset(vectorConfig(t, fsys)))
	look("reset")
	reopen(t, fsys)
	look("reopened")
}

func vfsWalk(fsys vfs.FS, dir string, visit func(string)) error {
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		if !e.IsDir() {
			visit(name)
		} else if err := vfsWalk(fsys, name, visit); err != nil {
			return err
		}
	}
	return nil
}

// TestNoForeignKeys: every key of every database belongs to a channel that the
// reference would look for, under a prefix that it knows.
func TestNoForeignKeys(t *testing.T) {
	t.Parallel()
	fsys := vfs.NewMem()
	script := readScript(t)
	script.ahead = 3
	runScript(t, script, fsys, nil, nil)
	forms := map[string]*regexp.Regexp{
		"bookkeeper":     regexp.MustCompile(`(?s)^vecch/(?:0\x001|1\x00)`),
		"chains/index":   regexp.MustCompile(`(?s)^vecch\x00(?:[nhtabv]|indexCheckpointKey$|blkMgrInfo$)`),
		"configHistory":  regexp.MustCompile(`(?s)^vecch\x00slscc\x00cc\d~collection.{8}$`),
		"historyLeveldb": regexp.MustCompile(`(?s)^vecch\x00(?:\x00$|(?:cc1|cc2|lscc|)\x00)`),
		"ledgerProvider": regexp.MustCompile(`^lvecch$`),
		"pvtdataStore":   regexp.MustCompile(`(?s)^vecch\x00[\x00-\x07]`),
		"stateLeveldb":   regexp.MustCompile(`(?s)^vecch\x00(?:\x00$|\x00resourcesconfigtx\.CHANNEL_CONFIG_KEY$|(?:cc1|cc2|lscc)(?:\$\$[hp]coll[ABXY])?\x00)`),
	}
	all := dump(t, fsys)
	if diff := cmp.Diff(slices.Sorted(maps.Keys(forms)), slices.Sorted(maps.Keys(all))); diff != "" {
		t.Fatal(diff)
	}
	for db, entries := range all {
		for key := range entries {
			if !forms[db].Match(unhex(t, key)) {
				t.Errorf("%s: %q", db, unhex(t, key))
			}
		}
	}
	db, err := kv.Open(kv.Config{Dir: path.Join(testDir, dirLock), FS: fsys})
	must(t, err)
	defer db.Close()
	if it := db.Raw().Scan(nil, nil); it.Next() {
		t.Errorf("fileLock holds %q", it.Key())
	}
}
