package ledger

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-protos-go-apiv2/common"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/internal/vfs/errorfs"
	"github.com/heddle-ledger/heddle/ledger/blockfile"
	"github.com/heddle-ledger/heddle/ledger/kv"
)

// drops and rebuilds are the two forms of the command.
func drops(cfg Config) error    { return DropDatabases(context.Background(), cfg) }
func rebuilds(cfg Config) error { return RebuildDatabases(context.Background(), cfg) }

// TestRebuild drops the databases of the recorded directory, which then opens
// with the contents that it had.
func TestRebuild(t *testing.T) {
	kept := []string{"./ledgersData/chains/chains/vecch/blockfile_000000", "./ledgersData/chains/chains/vecch.two/blockfile_000000", "ledgersData/fileLock", "ledgersData/ledgerProvider", "ledgersData/pvtdataStore", "transientStore"}
	slices.Sort(kept)
	for name, run := range map[string]func(Config) error{"drop": drops, "now": rebuilds} {
		for _, late := range []int{0, 1, 2, 5} {
			t.Run(fmt.Sprint(name, " ", late), func(t *testing.T) {
				fsys := untar(t, "ledger_root.tar.gz")
				cfg := vectorConfig(t, fsys)
				cfg.maxLateBlocks = late
				must(t, run(cfg))
				if name == "drop" {
					if d := cmp.Diff(kept, left(t, fsys, "/root")); d != "" {
						t.Error(d)
					}
				}
				opensWhole(t, cfg, finalDump(t))
			})
		}
	}
}

// opensWhole opens the channels of the recorded directory and lets them do what is
// left to do; the contents must be those given.
func opensWhole(t *testing.T, cfg Config, want map[string]map[string]string) {
	t.Helper()
	p := openProvider(t, cfg)
	for id, height := range map[string]uint64{"vecch": 11, "vecch.two": 3} {
		l := openLedger(t, p, id)
		must(t, l.ReplayDifference())
		must(t, l.private.Work(t.Context()))
		if h := l.Height(); h != height {
			t.Errorf("channel %s has height %d", id, h)
		}
	}
	recorded, err := p.PreResetHeights()
	if err != nil || len(recorded) > 0 {
		t.Errorf("heights recorded: %v, %v", recorded, err)
	}
	must(t, p.Close())
	compareDumps(t, want, dump(t, cfg.FS))
}

// TestRebuildKilledAnywhere stops both forms of the command at every operation
// on files. Whether the peer is started then or the command repeated, the stores
// are those that there were.
func TestRebuildKilledAnywhere(t *testing.T) {
	start := untar(t, "ledger_root.tar.gz")
	want := finalDump(t)
	for name, run := range map[string]func(Config) error{"drop": drops, "now": rebuilds} {
		t.Run(name, func(t *testing.T) {
			tc := takenBack{run: func(c Config) error { c.maxLateBlocks = 3; return run(c) }}
			ops, _ := tc.stopAt(t, start, 0)
			picked := stride(6)
			for n := 1; n <= ops; n++ {
				if !picked(n) {
					continue
				}
				mode := vfs.CrashMode(n) % (vfs.GarbageUnsynced + 1)
				_, stopped := tc.stopAt(t, start, n)
				opensWhole(t, vectorConfig(t, stopped.Crash(mode, uint64(n))), want)
				again := vectorConfig(t, stopped.Crash(mode, uint64(n)))
				must(t, run(again))
				opensWhole(t, again, want)
				if t.Failed() {
					t.Fatalf("stopped at operation %d of %d, %s", n, ops, crashMode(mode))
				}
			}
			t.Logf("%d operations", ops)
		})
	}
}

// tellRebuild is a story in which the databases are dropped, and rebuilt, between
// all kinds of transactions; see TestTortureCrash.
func tellRebuild(t testing.TB) *story {
	s := newTeller(t, 6000)
	defer func() { must(t, s.stop()) }()
	s.create("alpha", genesisOf("alpha"))
	s.block("alpha", s.deploys("alpha", "1", false))
	late := s.everyKind()
	s.create("beta", genesisOf("beta"))
	s.block("beta", s.puts("beta", "cc2", "b", "1"), s.deploys("beta", "1", true))
	s.reconcile("of block 4", "alpha", 0, old(4, 1, late.eligible), old(4, 3, late.expiring))
	s.same("drop the databases", drops)
	s.block("beta", s.private("beta", "collB", "p", "beta 1"), s.reads("beta", "cc2", "b", "2"))
	s.upgradeAndExpiry(late)
	s.same("rebuild the databases", rebuilds)
	s.block("beta", s.puts("beta", "cc2", "d", "4"), s.private("beta", "collA", "q", "beta 2"))
	return s.story
}

// same does something to the directory after which a start leads to what there
// was before.
func (s *storyTeller) same(name string, do func(Config) error) {
	s.t.Helper()
	before := readVault(s.t, s.fs)
	s.offline(name, do)
	checkVault(s.t, name, before, readVault(s.t, s.fs))
}

// TestRebuildRefusals: nothing is dropped of a directory that is in use, or that
// a later version wrote, or whose state elsewhere cannot be dropped.
func TestRebuildRefusals(t *testing.T) {
	fsys := untar(t, "ledger_root.tar.gz")
	want := left(t, fsys, "/root")
	check := func(cfg Config, text string) {
		t.Helper()
		for _, run := range []func(Config) error{drops, rebuilds} {
			if err := run(cfg); err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("%q expected, got %v", text, err)
			}
		}
		if d := cmp.Diff(want, left(t, fsys, "/root")); d != "" {
			t.Error(d)
		}
	}
	cfg := vectorConfig(t, fsys)
	p := openProvider(t, cfg)
	want = left(t, fsys, "/root")
	check(cfg, "as another peer node command is executing, wait for that command to complete its execution or terminate it before retrying: lock is already acquired on file /root/ledgersData/fileLock")
	must(t, p.Close())

	var asked [][]string
	cfg.DropState = func(_ context.Context, ids []string) error {
		asked = append(asked, ids)
		return errCrash
	}
	check(cfg, "drop the states of the channels: crash")
	ids := []string{"vecch", "vecch.two"}
	if d := cmp.Diff([][]string{ids, ids}, asked); d != "" {
		t.Error(d)
	}

	db, err := kv.Open(kv.Config{Dir: path.Join(testDir, dirProvider), FS: fsys})
	must(t, err)
	must(t, db.Raw().Put([]byte(keyLaterFormat), []byte("2.0"), true))
	must(t, db.Close())
	check(vectorConfig(t, fsys), "data format = [2.0]")
}

// TestNothingToRebuild is a directory that is not there yet, and one with a
// channel whose creation was cut short.
func TestNothingToRebuild(t *testing.T) {
	fsys := vfs.NewMem()
	must(t, drops(vectorConfig(t, fsys)))
	must(t, rebuilds(vectorConfig(t, fsys)))
	p := openProvider(t, vectorConfig(t, fsys))
	must(t, p.list.Put([]byte(keyUnderConstruction), []byte("new"), true))
	must(t, p.Close())
	cfg := vectorConfig(t, fsys)
	var asked []string
	cfg.DropState = func(_ context.Context, ids []string) error { asked = ids; return nil }
	must(t, drops(cfg))
	if d := cmp.Diff([]string{"new"}, asked); d != "" {
		t.Error(d)
	}
	must(t, rebuilds(vectorConfig(t, fsys)))
}

// recordOf is the place of a block's record in the recorded block file.
func recordOf(t *testing.T, raw []byte, number uint64) (begin, end int) {
	t.Helper()
	for range number + 1 {
		size, n := binary.Uvarint(raw[end:])
		begin, end = end, end+n+int(size)
	}
	return begin, end
}

// editBlockFile changes the bytes of the recorded block file.
func editBlockFile(t *testing.T, fsys vfs.FS, change func(raw []byte) []byte) {
	t.Helper()
	raw, err := vfs.ReadFile(fsys, blockFile)
	must(t, err)
	must(t, vfs.WriteFile(fsys, blockFile, change(raw), 0o660))
}

// TestReplayOfDamage: a block that is found damaged in a replay keeps its channel
// closed; the error says where, and the other channels open. With the index gone
// it is found when that is rebuilt, which stops the process (LEDGER §2.3, §3.8).
func TestReplayOfDamage(t *testing.T) {
	damaged := func(t *testing.T) (fsys *vfs.Mem, offset int64) {
		fsys = untar(t, "ledger_root.tar.gz")
		editBlockFile(t, fsys, func(raw []byte) []byte {
			begin, end := recordOf(t, raw, 4)
			raw[(begin+end)/2] ^= 1
			offset = int64(begin)
			return raw
		})
		return fsys, offset
	}
	t.Run("index kept", func(t *testing.T) {
		fsys, offset := damaged(t)
		must(t, fsys.RemoveAll(path.Join(testDir, dirState)))
		p := openProvider(t, vectorConfig(t, fsys))
		_, err := p.Open("vecch")
		var damage *blockfile.DamageError
		if !errors.As(err, &damage) || damage.File != blockFile || damage.Offset != offset || IsFatal(err) {
			t.Errorf("got %v", err)
		}
		if want := fmt.Sprintf("replay the blocks of channel [vecch]: channel [vecch]: block file %s is damaged at offset %d: block [4] expected: its transactions are not those of its header", blockFile, offset); err == nil || err.Error() != want {
			t.Errorf("got %v", err)
		}
		if h := openLedger(t, p, "vecch.two").Height(); h != 3 {
			t.Errorf("height %d of the other channel", h)
		}
	})
	t.Run("rebuild", func(t *testing.T) {
		fsys, offset := damaged(t)
		err := rebuilds(vectorConfig(t, fsys))
		var damage *blockfile.DamageError
		if !errors.As(err, &damage) || damage.File != blockFile || damage.Offset != offset || !IsFatal(err) {
			t.Errorf("got %v", err)
		}
	})
}

// changeMetadata rewrites the metadata of a block of the recorded file, which no
// hash protects.
func changeMetadata(t *testing.T, fsys vfs.FS, number uint64, change func(slots [][]byte)) {
	t.Helper()
	editBlockFile(t, fsys, func(raw []byte) []byte {
		begin, end := recordOf(t, raw, number)
		b := storedBlock(t, fsys, number)
		tail := func() (out []byte) {
			out = binary.AppendUvarint(out, uint64(len(b.Metadata.Metadata)))
			for _, m := range b.Metadata.Metadata {
				out = append(binary.AppendUvarint(out, uint64(len(m))), m...)
			}
			return out
		}
		old := tail()
		if !bytes.HasSuffix(raw[:end], old) {
			t.Fatal("the metadata are not where they should be")
		}
		_, n := binary.Uvarint(raw[begin:])
		body := raw[begin+n : end-len(old)]
		change(b.Metadata.Metadata)
		body = append(bytes.Clone(body), tail()...)
		return slices.Concat(raw[:begin], binary.AppendUvarint(nil, uint64(len(body))), body, raw[end:])
	})
}

func storedBlock(t *testing.T, fsys vfs.FS, number uint64) *common.Block {
	t.Helper()
	look := fsys.(*vfs.Mem).Crash(vfs.KeepUnsynced, 0)
	must(t, look.RemoveAll(path.Join(testDir, dirIndex))) // what was changed before has moved the blocks
	p, err := OpenProvider(vectorConfig(t, look))
	must(t, err)
	defer p.Close()
	b, err := openLedger(t, p, "vecch").BlockByNumber(number)
	must(t, err)
	return b
}

// TestReplayComparesCommitHashes changes validation codes and commit hashes of
// stored blocks. The channel opens, as it does with the reference, and what
// differs is told.
func TestReplayComparesCommitHashes(t *testing.T) {
	const filter, hash = int(common.BlockMetadataIndex_TRANSACTIONS_FILTER), protoutil.CommitHashSlot
	wrong := protoutil.Marshal(&common.Metadata{Value: []byte("somebody else's")})
	for name, tc := range map[string]struct {
		change map[uint64]func(slots [][]byte)
		block  uint64 // the first that differs; 0: none
		more   int
	}{
		"as recorded":           {},
		"a code":                {map[uint64]func([][]byte){3: func(s [][]byte) { s[filter][0] ^= 255 }}, 3, 0},
		"a hash":                {map[uint64]func([][]byte){4: func(s [][]byte) { s[hash] = wrong }}, 4, 1}, // and the next, over it
		"no hash":               {map[uint64]func([][]byte){1: func(s [][]byte) { s[hash] = wrong }}, 1, 1},
		"a hash is not there":   {map[uint64]func([][]byte){4: func(s [][]byte) { s[hash] = nil }}, 0, 0},
		"a hash does not parse": {map[uint64]func([][]byte){4: func(s [][]byte) { s[hash] = []byte{0xff} }}, 4, 1},
		"a hash after none": {map[uint64]func([][]byte){
			4: func(s [][]byte) { s[hash] = nil }, 5: func(s [][]byte) { s[hash] = wrong }, 6: func(s [][]byte) { s[hash] = nil },
		}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			fsys := untar(t, "ledger_root.tar.gz")
			for n, change := range tc.change {
				changeMetadata(t, fsys, n, change)
			}
			cfg := vectorConfig(t, fsys)
			err := rebuilds(cfg)
			var found *CommitHashError
			switch errors.As(err, &found); {
			case tc.block == 0 && err != nil, tc.block > 0 && found == nil:
				t.Fatalf("got %v", err)
			case found != nil && (found.Block != tc.block || found.More != tc.more || found.Channel != "vecch" || IsFatal(err)):
				t.Errorf("got %+v", found)
			}
			t.Log(err)
			l := openLedger(t, openProvider(t, cfg), "vecch")
			if h := l.Height(); h != 11 || l.ReplayDifference() != nil {
				t.Errorf("height %d, %v", h, l.ReplayDifference())
			}
		})
	}
}

// TestReplayIsInterrupted: the end of the context ends a rebuilding, of the index
// as of the state, and the next opening goes on.
func TestReplayIsInterrupted(t *testing.T) {
	for _, at := range []string{"index 0", "index 7", "replay 1", "replay 6", "replay 9"} {
		t.Run(at, func(t *testing.T) {
			fsys := untar(t, "ledger_root.tar.gz")
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			cfg := vectorConfig(t, fsys)
			cfg.maxLateBlocks = 3
			walks := &walks{at: func(w blockfile.Walk, n uint64) {
				if w.Channel == "vecch" && fmt.Sprint(w.Work, " ", n) == at {
					cancel(errCrash)
				}
			}}
			cfg.Progress = walks.begin
			if err := RebuildDatabases(ctx, cfg); !errors.Is(err, errCrash) || IsFatal(err) {
				t.Fatalf("got %v", err)
			}
			opensWhole(t, cfg, finalDump(t))
			if at == "replay 9" && !slices.Contains(walks.begun, blockfile.Walk{Channel: "vecch", Work: workReplay, From: 9, Total: 11}) {
				t.Errorf("did not go on where it ended: %v", walks.begun)
			}
			if walks.open != 0 {
				t.Errorf("%d walks have no end", walks.open)
			}
		})
	}
}

// walks remembers what is shown of progress.
type walks struct {
	begun []blockfile.Walk
	open  int
	at    func(w blockfile.Walk, n uint64)
}

func (w *walks) begin(walk blockfile.Walk) blockfile.Watch {
	w.begun = append(w.begun, walk)
	w.open++
	return oneWalk{w, walk}
}

type oneWalk struct {
	*walks
	walk blockfile.Walk
}

func (w oneWalk) Set(n uint64) { w.at(w.walk, n) }
func (w oneWalk) Done()        { w.open-- }

// TestReplaySyncsSeldom: what must be durable before the state is synced once for
// many blocks.
func TestReplaySyncsSeldom(t *testing.T) {
	var counts []int64
	for _, late := range []int{1, 0} {
		inner := untar(t, "ledger_root.tar.gz")
		cfg := vectorConfig(t, inner)
		must(t, drops(cfg))
		var syncs atomic.Int64
		cfg.FS = errorfs.New(inner, func(op errorfs.Op, name string) error {
			if op == errorfs.OpSync && (strings.Contains(name, dirBookkeeper) || strings.Contains(name, dirState)) {
				syncs.Add(1)
			}
			return nil
		})
		cfg.maxLateBlocks = late
		p := openProvider(t, cfg)
		syncs.Store(0)
		openLedger(t, p, "vecch")
		counts = append(counts, syncs.Load())
		must(t, p.Close())
	}
	if counts[0] < 4 || counts[1] > 2 {
		t.Errorf("syncs: %d if every block is written at once, %d else", counts[0], counts[1])
	}
}
