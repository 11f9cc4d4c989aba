package blockfile

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/ledger/kv"
)

const bfDir = "/d/chains/bf"

func lastFile() string { return bfDir + "/blockfile_000005" }

func appendBytes(t *testing.T, fsys vfs.FS, name string, data ...byte) {
	t.Helper()
	f, err := fsys.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o660)
	must(t, err)
	defer f.Close()
	_, err = f.Write(data)
	must(t, err)
	must(t, f.Sync())
}

func truncateBy(t *testing.T, fsys vfs.FS, name string, n int64) {
	t.Helper()
	f, err := fsys.OpenFile(name, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	info, err := f.Stat()
	must(t, err)
	must(t, f.Truncate(info.Size()-n))
	must(t, f.Sync())
}

func editIndex(t *testing.T, fsys vfs.FS, edit func(s *kv.Store, b *kv.Batch)) {
	t.Helper()
	db, err := kv.Open(kv.Config{Dir: "/d/index", FS: fsys})
	must(t, err)
	s := db.Store("bf")
	b := s.NewBatch()
	edit(s, b)
	must(t, s.Write(b, true))
	must(t, db.Close())
}

func fromHex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// damages are the mutations of repair.json by case name.
var damages = map[string]func(t *testing.T, fsys vfs.FS){
	"undamaged":         func(*testing.T, vfs.FS) {},
	"partial-prefix":    func(t *testing.T, f vfs.FS) { appendBytes(t, f, lastFile(), 0x80) },
	"partial-record":    partialRecord,
	"zero-tail":         func(t *testing.T, f vfs.FS) { appendBytes(t, f, lastFile(), make([]byte, 100)...) },
	"garbage-record":    func(t *testing.T, f vfs.FS) { appendBytes(t, f, lastFile(), 5, 1, 2, 3, 4, 5) },
	"index-dir-removed": removeIndex,
	"index-removed-partial-record": func(t *testing.T, f vfs.FS) {
		removeIndex(t, f)
		partialRecord(t, f)
	},
	"blkMgrInfo-removed": func(t *testing.T, f vfs.FS) {
		editIndex(t, f, func(_ *kv.Store, b *kv.Batch) { b.Delete([]byte(keyCheckpoint)) })
	},
	"file-cut-3": func(t *testing.T, f vfs.FS) { truncateBy(t, f, lastFile(), 3) },
	"file-cut-3-index-removed": func(t *testing.T, f vfs.FS) {
		truncateBy(t, f, lastFile(), 3)
		removeIndex(t, f)
	},
	"last-file-missing": func(t *testing.T, f vfs.FS) { must(t, f.Remove(lastFile())) },
	"last-file-missing-index-removed": func(t *testing.T, f vfs.FS) {
		must(t, f.Remove(lastFile()))
		removeIndex(t, f)
	},
	"empty-next-file": func(t *testing.T, f vfs.FS) { appendBytes(t, f, bfDir+"/blockfile_000006") },
	"empty-next-file-index-removed": func(t *testing.T, f vfs.FS) {
		appendBytes(t, f, bfDir+"/blockfile_000006")
		removeIndex(t, f)
	},
	"foreign-files": func(t *testing.T, f vfs.FS) {
		appendBytes(t, f, bfDir+"/__preResetHeight", '3')
		appendBytes(t, f, bfDir+"/notes.txt", 'x')
	},
	"stale-file-number": func(t *testing.T, f vfs.FS) {
		editIndex(t, f, func(_ *kv.Store, b *kv.Batch) { b.Put([]byte(keyCheckpoint), fromHex("04a7150700")) })
	},
}

func partialRecord(t *testing.T, f vfs.FS) {
	appendBytes(t, f, lastFile(), append([]byte{0xac, 2}, []byte("\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01")...)...)
}

func removeIndex(t *testing.T, f vfs.FS) { must(t, f.RemoveAll("/d/index")) }

type repairCase struct {
	Case       string
	Height     uint64
	Sizes      map[string]int64 `json:"file_sizes_after"`
	Checkpoint string           `json:"blkMgrInfo_hex_after"`
	Indexed    string           `json:"indexCheckpointKey_hex_after"`
	SameIndex  bool             `json:"other_index_entries_same_as_undamaged"`
	Stops      string           `json:"fabric_stops_with"`
	Heddle     string
}

// ours turns what the reference left into what Heddle must leave, where its
// rule differs (the "heddle" column).
func (c repairCase) ours(undamaged repairCase) (want repairCase, refused bool) {
	switch {
	case strings.HasPrefix(c.Heddle, "as Fabric"):
		return c, false
	case strings.HasPrefix(c.Heddle, "refuse"):
		return c, true
	}
	undamaged.Case = c.Case
	return undamaged, false
}

func TestRepairCases(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("testdata/repair.json")
	must(t, err)
	var golden struct{ Cases []repairCase }
	must(t, json.Unmarshal(raw, &golden))
	if len(golden.Cases) != len(damages) {
		t.Errorf("%d cases, %d mutations", len(golden.Cases), len(damages))
	}
	for _, tc := range golden.Cases {
		t.Run(tc.Case, func(t *testing.T) {
			t.Parallel()
			fsys := vfs.NewMem()
			untar(t, "testdata/peer_small_files.tar.gz", fsys, "/d")
			damages[tc.Case](t, fsys)
			want, refused := tc.ours(golden.Cases[0])
			if refused {
				checkRefused(t, fsys, tc)
				return
			}
			checkRepaired(t, fsys, want)
		})
		// A 1.4 peer has met the damage first and has saved a checkpoint that
		// counts it.
		if tc.Stops != "" && !strings.HasPrefix(tc.Heddle, "refuse") {
			t.Run(tc.Case+"-after-reference", func(t *testing.T) {
				t.Parallel()
				fsys := vfs.NewMem()
				untar(t, "testdata/peer_small_files.tar.gz", fsys, "/d")
				damages[tc.Case](t, fsys)
				editIndex(t, fsys, func(_ *kv.Store, b *kv.Batch) { b.Put([]byte(keyCheckpoint), fromHex(tc.Checkpoint)) })
				want, _ := tc.ours(golden.Cases[0])
				checkRepaired(t, fsys, want)
			})
		}
	}
}

func checkRefused(t *testing.T, fsys *vfs.Mem, tc repairCase) {
	t.Helper()
	before := dumpFiles(t, fsys, bfDir)
	p := get[*Provider](t)(OpenProvider(testConfig(t, fsys)))
	index := dumpIndex(t, p)
	_, err := p.Open("bf")
	var damage *DamageError
	if !errors.As(err, &damage) || damage.File != lastFile() || damage.Offset != 0 || !strings.Contains(err.Error(), "committed block [8]") {
		t.Errorf("open: %v", err)
	}
	if d := cmp.Diff(before, dumpFiles(t, fsys, bfDir)); d != "" {
		t.Errorf("files changed:\n%s", d)
	}
	if d := cmp.Diff(index, dumpIndex(t, p)); d != "" {
		t.Errorf("index changed:\n%s", d)
	}
	must(t, p.Close())
}

func checkRepaired(t *testing.T, fsys *vfs.Mem, want repairCase) {
	t.Helper()
	p, s := openBF(t, testConfig(t, fsys))
	if s.Height() != want.Height {
		t.Errorf("height = %d, want %d", s.Height(), want.Height)
	}
	sizes := map[string]int64{}
	for name, data := range dumpFiles(t, fsys, bfDir) {
		sizes[name] = int64(len(data))
	}
	if d := cmp.Diff(want.Sizes, sizes); d != "" {
		t.Errorf("sizes:\n%s", d)
	}
	index := dumpIndex(t, p)
	cpKey := hex.EncodeToString([]byte("bf\x00" + keyCheckpoint))
	ixKey := hex.EncodeToString([]byte("bf\x00" + keyIndexed))
	if index[cpKey] != want.Checkpoint || index[ixKey] != want.Indexed {
		t.Errorf("checkpoint %s, indexed %s; want %s, %s", index[cpKey], index[ixKey], want.Checkpoint, want.Indexed)
	}
	if want.SameIndex {
		ref := golden(t, "peer_small_files")
		delete(ref, cpKey)
		delete(index, cpKey)
		delete(ref, ixKey)
		delete(index, ixKey)
		if d := cmp.Diff(ref, index); d != "" {
			t.Errorf("index (-reference +ours):\n%s", d)
		}
	}
	// The chain goes on, and opens again.
	blocks := vectorBlocks(t)
	appendAll(t, s, blocks[want.Height:])
	must(t, p.Close())
	_, s = openBF(t, testConfig(t, fsys))
	checkQueries(t, s, blocks, IndexAll)
}

// Damage in the middle of what must be scanned is refused, whatever its kind.
func TestDamageInTheMiddleIsRefused(t *testing.T) {
	t.Parallel()
	flip := func(name string, off int) func(*testing.T, vfs.FS) {
		return func(t *testing.T, f vfs.FS) {
			data, err := vfs.ReadFile(f, path.Join(bfDir, name))
			must(t, err)
			data[off] ^= 0x55
			must(t, vfs.WriteFile(f, path.Join(bfDir, name), data, 0o660))
			removeIndex(t, f)
		}
	}
	for name, damage := range map[string]func(*testing.T, vfs.FS){
		"length of the first record of the last two": flip("blockfile_000003", 0),
		"header of a record":                         flip("blockfile_000003", 5),
		"end of a file that is not the last":         flip("blockfile_000004", 2727-1),
		"file in the middle missing": func(t *testing.T, f vfs.FS) {
			must(t, f.Remove(bfDir+"/blockfile_000002"))
			removeIndex(t, f)
		},
		"file before the last missing": func(t *testing.T, f vfs.FS) {
			must(t, f.Remove(bfDir+"/blockfile_000004"))
			removeIndex(t, f)
		},
		"name without number": func(t *testing.T, f vfs.FS) { appendBytes(t, f, bfDir+"/blockfile_x") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fsys := vfs.NewMem()
			untar(t, "testdata/peer_small_files.tar.gz", fsys, "/d")
			damage(t, fsys)
			before := dumpFiles(t, fsys, bfDir)
			p := get[*Provider](t)(OpenProvider(testConfig(t, fsys)))
			defer p.Close()
			if _, err := p.Open("bf"); err == nil {
				t.Error("opened")
			} else {
				t.Log(err)
			}
			if d := cmp.Diff(before, dumpFiles(t, fsys, bfDir)); d != "" {
				t.Errorf("files changed:\n%s", d)
			}
		})
	}
}

// A stale checkpoint, every record of one file damaged in turn: either the tail
// is cut (only the last record of the chain may be lost so, and only while the
// index does not know it) or the store refuses.
func TestDamageBehindTheCheckpoint(t *testing.T) {
	t.Parallel()
	blocks := vectorBlocks(t)
	base := vfs.NewMem()
	cfg := testConfig(t, base)
	cfg.MaxFileSize = 0
	p, s := openBF(t, cfg)
	var ends []int64
	for _, b := range blocks {
		must(t, s.Append(protoutil.ParseBlock(b)))
		ends = append(ends, s.tip.size)
	}
	must(t, p.Close())
	must(t, base.RemoveAll("/d/index"))
	file := bfDir + "/blockfile_000000"
	clean, err := vfs.ReadFile(base, file)
	must(t, err)
	for off := 0; off < len(clean); off += 7 {
		fsys := base.Crash(vfs.KeepUnsynced, 0)
		data := append([]byte{}, clean...)
		data[off] ^= 0xff
		must(t, vfs.WriteFile(fsys, file, data, 0o660))
		quiet := cfg
		quiet.FS, quiet.Log = fsys, nil
		p := get[*Provider](t)(OpenProvider(quiet))
		s, err := p.Open("bf")
		lastStart := ends[len(ends)-2]
		switch {
		case err == nil && s.Height() == 9: // within the bytes of a transaction or of metadata
		case err == nil && s.Height() == 8 && int64(off) >= lastStart:
		case err != nil && int64(off) < lastStart:
			var damage *DamageError
			if !errors.As(err, &damage) {
				t.Errorf("offset %d: %v", off, err)
			}
		default:
			t.Errorf("offset %d: %v", off, err)
			if err == nil {
				t.Errorf("height %d", s.Height())
			}
		}
		must(t, p.Close())
	}
}

// A committed block that cannot be read any more is not cut off, because the
// index remembers it.
func TestIndexedBlockIsNotCut(t *testing.T) {
	t.Parallel()
	fsys := vfs.NewMem()
	untar(t, "testdata/peer_small_files.tar.gz", fsys, "/d")
	data, err := vfs.ReadFile(fsys, lastFile())
	must(t, err)
	data[0]++ // length prefix
	must(t, vfs.WriteFile(fsys, lastFile(), data, 0o660))
	before := fmt.Sprint(dumpFiles(t, fsys, bfDir))
	p := get[*Provider](t)(OpenProvider(testConfig(t, fsys)))
	defer p.Close()
	var damage *DamageError
	if _, err := p.Open("bf"); !errors.As(err, &damage) {
		t.Errorf("open: %v", err)
	}
	if before != fmt.Sprint(dumpFiles(t, fsys, bfDir)) {
		t.Error("files changed")
	}
}

// TestGarbledTransactions: bytes changed within a transaction leave the form of
// the record as it is; the data hash tells, for the last block at every open and
// for all blocks when the index is built anew.
func TestGarbledTransactions(t *testing.T) {
	t.Parallel()
	blocks := vectorBlocks(t)
	base := vfs.NewMem()
	cfg := testConfig(t, base)
	cfg.MaxFileSize = 0
	p, s := openBF(t, cfg)
	for _, b := range blocks {
		must(t, s.Append(protoutil.ParseBlock(b)))
	}
	must(t, p.Close())
	file := bfDir + "/blockfile_000000"
	for _, tc := range []struct {
		block   int
		noIndex bool
		refused bool
	}{
		{8, false, true},
		{8, true, false}, // a write that was cut short looks the same: it is cut off
		{4, false, false},
		{4, true, true},
		{0, true, false}, // taken as it was joined
	} {
		fsys := base.Crash(vfs.KeepUnsynced, 0)
		data := get[[]byte](t)(vfs.ReadFile(fsys, file))
		at := bytes.Index(data, blocks[tc.block].Data.Data[0])
		data[at+20] ^= 0xff
		must(t, vfs.WriteFile(fsys, file, data, 0o660))
		if tc.noIndex {
			removeIndex(t, fsys)
		}
		quiet := cfg
		quiet.FS, quiet.Log = fsys, nil
		p := get[*Provider](t)(OpenProvider(quiet))
		_, err := p.Open("bf")
		var damage *DamageError
		if errors.As(err, &damage) != tc.refused || (err != nil) != tc.refused {
			t.Errorf("block %d, without index %v: %v", tc.block, tc.noIndex, err)
		}
		must(t, p.Close())
	}
}
