package blockfile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"runtime"
	"strings"
	"testing"

	"github.com/heddle-ledger/heddle/internal/vfs"
)

// damagedFile is a directory of which one file is damaged.
type damagedFile struct {
	name   string
	file   string // that the error has to name
	from   int64  // the offset that the error has to name is in [from, to]
	to     int64
	damage func(t *testing.T, f vfs.FS)
	ask    func(s *Store) error // nil: the damage shows when the store is opened
}

func edit(file string, change func([]byte) []byte) func(*testing.T, vfs.FS) {
	return func(t *testing.T, f vfs.FS) {
		data, err := vfs.ReadFile(f, path.Join(bfDir, file))
		must(t, err)
		must(t, vfs.WriteFile(f, path.Join(bfDir, file), change(append([]byte{}, data...)), 0o660))
	}
}

func flipAt(off int) func([]byte) []byte {
	return func(b []byte) []byte {
		b[off] ^= 0x55
		return b
	}
}

func cutBy(n int) func([]byte) []byte { return func(b []byte) []byte { return b[:len(b)-n] } }

func both(a, b func(*testing.T, vfs.FS)) func(*testing.T, vfs.FS) {
	return func(t *testing.T, f vfs.FS) {
		a(t, f)
		b(t, f)
	}
}

func withoutIndex(t *testing.T, f vfs.FS) { removeIndex(t, f) }

// TestDamageIsNamed: whatever is damaged, the error says in which file and at
// which offset. Files of the recorded directory hold blocks 0-1, 2, 3, 4-6, 7 and
// 8 (see TestFilesOfTheVector).
func TestDamageIsNamed(t *testing.T) {
	t.Parallel()
	size := map[string]int64{}
	starts := map[uint64]location{}
	{
		fsys := vfs.NewMem()
		untar(t, "testdata/peer_small_files.tar.gz", fsys, "/d")
		for name, data := range dumpFiles(t, fsys, bfDir) {
			size[name] = int64(len(data))
		}
		_, s := openBF(t, testConfig(t, fsys))
		for n := range s.Height() {
			var buf [16]byte
			starts[n] = get[location](t)(s.locate(numberKey(buf[:], n)))
		}
	}
	name := func(n uint64) string { return fmt.Sprintf("%s%06d", filePrefix, starts[n].file) }
	last := name(8)
	block := func(n uint64) func(*Store) error {
		return func(s *Store) error {
			_, err := s.BlockByNumber(n)
			return err
		}
	}
	tx := func(n uint64) func(*Store) error {
		return func(s *Store) error {
			_, err := s.TxBytesByBlockTx(n, 0)
			return err
		}
	}
	at := func(n uint64) int { return int(starts[n].offset) }
	for _, tc := range []damagedFile{
		{"last file missing", last, 0, 0, func(t *testing.T, f vfs.FS) { must(t, f.Remove(bfDir+"/"+last)) }, nil},
		{"last file cut", last, 0, size[last], edit(last, cutBy(3)), nil},
		{"last file empty", last, 0, 0, edit(last, func([]byte) []byte { return nil }), nil},
		{"last block garbled", last, 0, size[last], edit(last, flipAt(at(8)+200)), nil},
		{"last block's length", last, 0, size[last], edit(last, flipAt(at(8))), nil},
		{"file before cut, no index", name(7), 0, size[name(7)], both(edit(name(7), cutBy(5)), withoutIndex), nil},
		{"file before missing, no index", "blockfile_", 0, 1 << 20, both(func(t *testing.T, f vfs.FS) { must(t, f.Remove(bfDir+"/"+name(7))) }, withoutIndex), nil},
		{"block in the middle garbled, no index", name(4), starts[4].offset, size[name(4)], both(edit(name(4), flipAt(at(4)+300)), withoutIndex), nil},
		{"length in the middle, no index", name(4), starts[4].offset, size[name(4)], both(edit(name(4), flipAt(at(4))), withoutIndex), nil},
		{"first file missing, no index", "blockfile_000001", 0, 0, both(func(t *testing.T, f vfs.FS) { must(t, f.Remove(bfDir+"/blockfile_000000")) }, withoutIndex), nil},
		{"file missing when read", name(4), 0, 0, func(t *testing.T, f vfs.FS) { must(t, f.Remove(bfDir+"/"+name(4))) }, block(4)},
		{"file cut when read", name(6), starts[6].offset, size[name(6)], edit(name(6), cutBy(4)), block(6)},
		{"length when read", name(4), starts[4].offset, size[name(4)], edit(name(4), func(b []byte) []byte {
			copy(b[at(4):], []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f})
			return b
		}), block(4)},
		{"form when read", name(5), starts[5].offset, starts[5].offset, edit(name(5), flipAt(at(5)+3)), block(5)},
		{"number when read", name(5), starts[5].offset, starts[5].offset, edit(name(5), func(b []byte) []byte {
			_, n := binary.Uvarint(b[at(5):])
			b[at(5)+n] = 77
			return b
		}), block(5)},
		{"transaction beyond the end", name(6), starts[6].offset, size[name(6)], edit(name(6), func(b []byte) []byte { return b[:at(6)+80] }), tx(6)},
		{"transaction's length", name(5), starts[5].offset, size[name(5)], edit(name(5), flipAt(at(5)+2+1+33+33+1)), tx(5)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			fsys := vfs.NewMem()
			untar(t, "testdata/peer_small_files.tar.gz", fsys, "/d")
			tc.damage(t, fsys)
			cfg := testConfig(t, fsys)
			cfg.Log = nil
			p := get[*Provider](t)(OpenProvider(cfg))
			defer p.Close()
			s, err := p.Open("bf")
			if tc.ask != nil {
				must(t, err)
				err = tc.ask(s)
			}
			var damage *DamageError
			if !errors.As(err, &damage) {
				t.Fatalf("no damage: %v", err)
			}
			if !strings.HasPrefix(path.Base(damage.File), tc.file) || path.Dir(damage.File) != bfDir || damage.Offset < tc.from || damage.Offset > tc.to {
				t.Errorf("%s at %d, want %s at %d to %d: %v", damage.File, damage.Offset, tc.file, tc.from, tc.to, err)
			}
			if text := err.Error(); !strings.Contains(text, "channel [bf]") || !strings.Contains(text, damage.File) || !strings.Contains(text, fmt.Sprintf("at offset %d", damage.Offset)) {
				t.Errorf("text: %s", text)
			}
		})
	}
}

// TestHugeLengths: lengths and counts of 2^60 in a small file do not make anybody
// allocate for them.
func TestHugeLengths(t *testing.T) {
	huge := binary.AppendUvarint(nil, 1<<60)
	record := func(parts ...[]byte) []byte {
		var b []byte
		for _, p := range parts {
			b = append(b, p...)
		}
		return append(binary.AppendUvarint(nil, uint64(len(b))), b...)
	}
	for name, data := range map[string][]byte{
		"record":       huge,
		"data hash":    record([]byte{0}, huge),
		"transactions": record([]byte{0, 0, 0}, huge, make([]byte, 100)),
		"transaction":  record([]byte{0, 0, 0, 1}, huge, make([]byte, 100)),
		"metadata":     record([]byte{0, 0, 0, 0}, huge, make([]byte, 100)),
		"longest":      append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, make([]byte, 100)...),
	} {
		fsys := vfs.NewMem()
		fsys.SetMaxBuffer(64 << 10)
		must(t, fsys.MkdirAll(bfDir, 0o755))
		must(t, vfs.WriteFile(fsys, bfDir+"/blockfile_000000", data, 0o660))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		p := get[*Provider](t)(OpenProvider(crashConfig(fsys, nil)))
		s, err := p.Open("bf")
		runtime.ReadMemStats(&after)
		if err != nil || s.Height() != 0 {
			t.Errorf("%s: %v", name, err)
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > 8<<20 {
			t.Errorf("%s: %d bytes allocated", name, used)
		}
		must(t, p.Close())
	}
}

// FuzzOpen changes bytes of the recorded directory, cuts its files, and lets the
// index know them or not: the store opens with blocks that are those of the chain,
// or refuses, naming file and offset; and what was opened answers every question
// or names the damage.
func FuzzOpen(f *testing.F) {
	f.Add(uint8(5), uint32(0), []byte{0xff}, uint32(0), true)
	f.Add(uint8(4), uint32(100), []byte{0, 0, 0, 0}, uint32(7), false)
	f.Add(uint8(3), uint32(1), []byte{0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10}, uint32(0), true)
	f.Add(uint8(9), uint32(0), []byte("\x8a\x01garbage"), uint32(0), true)
	base := vfs.NewMem()
	base.SetMaxBuffer(64 << 10)
	untar(f, "testdata/peer_small_files.tar.gz", base, "/d")
	bare := base.Crash(vfs.KeepUnsynced, 0)
	must(f, bare.RemoveAll("/d/index"))
	blocks := vectorBlocks(f)
	f.Fuzz(func(t *testing.T, file uint8, off uint32, patch []byte, cut uint32, indexed bool) {
		if len(patch) > 1<<16 {
			return
		}
		fsys := bare.Crash(vfs.KeepUnsynced, 0)
		if indexed {
			fsys = base.Crash(vfs.KeepUnsynced, 0)
		}
		name := fmt.Sprintf("%s/%s%06d", bfDir, filePrefix, file%8)
		data, _ := vfs.ReadFile(fsys, name) // may be a new file
		data = append([]byte{}, data[:len(data)-int(min(cut, uint32(len(data))))]...)
		at := int(off) % (len(data) + 1)
		data = append(data, make([]byte, max(0, at+len(patch)-len(data)))...)
		copy(data[at:], patch)
		must(t, vfs.WriteFile(fsys, name, data, 0o660))
		p, err := OpenProvider(Config{Dir: "/d", FS: fsys, MaxFileSize: 3000})
		must(t, err)
		defer p.Close()
		s, err := p.Open("bf")
		if err != nil {
			var damage *DamageError
			if !errors.As(err, &damage) || !strings.HasPrefix(path.Base(damage.File), filePrefix) || damage.Offset < 0 {
				t.Fatalf("%v", err)
			}
			return
		}
		if s.Height() > uint64(len(blocks)) {
			t.Fatalf("height %d", s.Height())
		}
		for n := range s.Height() {
			b, err := s.BlockByNumber(n)
			if err == nil && b.Header.Number != n {
				t.Fatalf("block %d where %d is asked for", b.Header.Number, n)
			}
			for i := range b.GetData().GetData() {
				s.TxBytesByBlockTx(n, uint64(i)) //nolint:errcheck // that it does not panic
			}
		}
	})
}

// FuzzLocations decodes what might be in the index.
func FuzzLocations(f *testing.F) {
	f.Add(location{file: 3, offset: 4000, length: 77}.append(nil))
	f.Add(checkpoint{file: 1, size: 1 << 40, last: 7}.bytes())
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0, 0})
	fsys := vfs.NewMem()
	fsys.SetMaxBuffer(64 << 10)
	untar(f, "testdata/peer_small_files.tar.gz", fsys, "/d")
	p, err := OpenProvider(Config{Dir: "/d", FS: fsys})
	must(f, err)
	s, err := p.Open("bf")
	must(f, err)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if l, err := parseLocation(raw); err == nil {
			if l.file < 0 || l.offset < 0 || l.length < 0 {
				t.Errorf("%x: %v", raw, l)
			}
			if back, err := parseLocation(l.append(nil)); err != nil || back != l {
				t.Errorf("%x: %v came back as %v, %v", raw, l, back, err)
			}
		}
		if c, err := parseCheckpoint(raw); err == nil {
			if back, err := parseCheckpoint(c.bytes()); err != nil || back.height() != c.height() || c.size < 0 {
				t.Errorf("%x: %v came back as %v, %v", raw, c, back, err)
			}
		}
		// An entry of the index that names any place whatever.
		b := s.index.NewBatch()
		b.Put(numberKey(nil, 3), raw)
		b.Put(blockTxKey(nil, 3, 0), raw)
		b.Put(txKey(nil, prefixTx, "x"), raw)
		b.Put(txKey(nil, prefixCode, "x"), raw)
		must(t, s.index.Write(b, false))
		if b, err := s.BlockByNumber(3); err == nil && b.Header.Number != 3 {
			t.Errorf("block %d for 3", b.Header.Number)
		}
		s.TxBytesByBlockTx(3, 0) //nolint:errcheck // that it does not panic
		s.TxByID("x")            //nolint:errcheck // as above
		s.ValidationCode("x")    //nolint:errcheck // as above
		s.BlockByTxID("x")       //nolint:errcheck // as above
	})
}
