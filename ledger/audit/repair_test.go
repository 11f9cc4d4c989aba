package audit

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/heddle-ledger/heddle/ledger/kv"
)

// TestRepairVectors judges the recorded damages of block files as opening them
// does (LEDGER §3.8): what is repaired at the next start is sound.
func TestRepairVectors(t *testing.T) {
	raw, err := os.ReadFile("../blockfile/testdata/repair.json")
	must(t, err)
	var vectors struct {
		Cases []struct{ Case, Heddle string }
	}
	must(t, json.Unmarshal(raw, &vectors))
	tail := func(data string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			appendTo(t, filepath.Join(dir, "chains/bf/blockfile_000005"), []byte(data))
		}
	}
	noIndex := func(t *testing.T, dir string) { must(t, os.RemoveAll(filepath.Join(dir, "index"))) }
	cut := func(t *testing.T, dir string) {
		must(t, os.Truncate(filepath.Join(dir, "chains/bf/blockfile_000005"), 850))
	}
	noFile := func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, "chains/bf/blockfile_000005"))) }
	empty := func(t *testing.T, dir string) {
		must(t, os.WriteFile(filepath.Join(dir, "chains/bf/blockfile_000006"), nil, 0o600))
	}
	both := func(a, b func(*testing.T, string)) func(*testing.T, string) {
		return func(t *testing.T, dir string) { a(t, dir); b(t, dir) }
	}
	bf := func(change func(*kv.Store)) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			edit(t, dir, "index", func(raw, _ *kv.Store) { change(raw) })
		}
	}
	want := map[string]struct {
		harm   func(*testing.T, string)
		finds  string // part of a finding; empty: nothing is to be said
		height uint64
	}{
		"undamaged":                    {func(*testing.T, string) {}, "", 9},
		"partial-prefix":               {tail("\x80"), "1 bytes behind the last block", 9},
		"partial-record":               {tail("\xac\x02" + strings.Repeat("\x01", 10)), "12 bytes behind the last block", 9},
		"zero-tail":                    {tail(string(make([]byte, 100))), "100 bytes behind the last block", 9},
		"garbage-record":               {tail("\x05\x01\x02\x03\x04\x05"), "6 bytes behind the last block", 9},
		"index-dir-removed":            {noIndex, "the database is missing", 9},
		"index-removed-partial-record": {both(noIndex, tail("\xac\x02"+strings.Repeat("\x01", 10))), "12 bytes behind the last block", 9},
		"blkMgrInfo-removed": {
			bf(func(s *kv.Store) { must(t, s.Delete([]byte("bf\x00blkMgrInfo"), true)) }),
			"there is no checkpoint of the block files", 9,
		},
		"file-cut-3":                      {cut, "block [8] cannot be read", 8},
		"file-cut-3-index-removed":        {both(cut, noIndex), "850 bytes behind the last block", 8},
		"last-file-missing":               {noFile, "the file is missing, and with it block [8], which the index knows", 8},
		"last-file-missing-index-removed": {both(noFile, noIndex), "the database is missing", 8},
		"empty-next-file":                 {empty, "", 9},
		"empty-next-file-index-removed":   {both(empty, noIndex), "the database is missing", 9},
		"foreign-files": {func(t *testing.T, dir string) {
			must(t, os.WriteFile(filepath.Join(dir, "chains/bf/notes.txt"), []byte("x"), 0o600))
		}, "", 9},
		"stale-file-number": {bf(func(s *kv.Store) {
			must(t, s.Put([]byte("bf\x00blkMgrInfo"), []byte("\x04\xa7\x15\x07\x00"), true))
			must(t, s.Put([]byte("bf\x00indexCheckpointKey"), []byte{7}, true))
		}), "the checkpoint ends before block [8]", 9},
	}
	for _, c := range vectors.Cases {
		t.Run(c.Case, func(t *testing.T) {
			w, ok := want[c.Case]
			if !ok {
				t.Fatal("unknown case")
			}
			dir := filepath.Join(untar(t, "../blockfile/testdata/peer_small_files.tar.gz"), "peer_small_files")
			w.harm(t, dir)
			r := verify(t, dir, Options{})
			refused := strings.HasPrefix(c.Heddle, "refuse")
			if c.Case == "stale-file-number" {
				// The entries of the last block are there, as a lost write would not
				// leave them.
				refused = true
			}
			if r.Sound == refused || r.Channels[0].Height != w.height {
				t.Errorf("%s: %s", c.Heddle, show(r))
			}
			var all []string
			for _, f := range slices.Concat(r.Findings, r.Channels[0].Findings) {
				if f.Kind != checkSignatures {
					all = append(all, f.Problem)
				}
			}
			text := strings.Join(all, "\n")
			if (w.finds == "") != (text == "") || !strings.Contains(text, w.finds) {
				t.Errorf("found:\n%s", text)
			}
		})
	}
}

// FuzzDirectory verifies, shows and compares directories of which anything may
// have been changed: there must be an answer, without end of memory or time.
func FuzzDirectory(f *testing.F) {
	m := madeChain(f)
	files, err := filepath.Glob(filepath.Join(m.orderer, "chains/ch/blockfile_*"))
	must(f, err)
	last, err := os.ReadFile(files[len(files)-1])
	must(f, err)
	f.Add(0, 0, []byte{})
	f.Add(3, 100, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Add(len(files)-1, len(last), bytes.Repeat([]byte{0}, 500))
	f.Add(1, 0, last)
	f.Add(len(files), 60, []byte("garbage"))
	f.Fuzz(func(t *testing.T, which, at int, data []byte) {
		dir := copyDir(t, m.orderer)
		tables, err := filepath.Glob(filepath.Join(dir, "index/*"))
		must(t, err)
		names, err := filepath.Glob(filepath.Join(dir, "chains/ch/blockfile_*"))
		must(t, err)
		names = append(names, tables...)
		name := names[abs(which)%len(names)]
		raw, err := os.ReadFile(name)
		must(t, err)
		at = abs(at) % (len(raw) + 1)
		raw = append(raw[:at:at], append(data, raw[min(len(raw), at+len(data)):]...)...)
		must(t, os.WriteFile(name, raw, 0o600))
		d, err := Open(dir)
		if err != nil {
			return
		}
		defer d.Close()
		if _, err := Verify(t.Context(), d, Options{TempDir: t.TempDir()}); err != nil {
			t.Logf("verify: %v", err)
		}
		if _, err := Inspect(t.Context(), d, nil); err != nil {
			t.Logf("inspect: %v", err)
		}
		for n := range uint64(chainLength) {
			if _, err := Block(t.Context(), d, channelID, n); err != nil {
				t.Logf("block: %v", err)
			}
		}
		sound, err := Open(m.orderer)
		must(t, err)
		defer sound.Close()
		if _, err := Compare(t.Context(), sound, d, CompareOptions{}); err != nil {
			t.Logf("compare: %v", err)
		}
	})
}

func abs(n int) int { return max(n, -(n + 1)) }

// FuzzRecord lets any bytes be a block of a peer.
func FuzzRecord(f *testing.F) {
	m := madeChain(f)
	for _, n := range []uint64{0, deployBlock, privateBlock, configBlock, mixedBlock} {
		f.Add(find(f, m.peer, n).body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		dir := filepath.Join(t.TempDir(), "ledgersData")
		chain := filepath.Join(dir, "chains/chains/ch")
		must(t, os.MkdirAll(chain, 0o755))
		record := append(binary.AppendUvarint(nil, uint64(len(body))), body...)
		must(t, os.WriteFile(filepath.Join(chain, "blockfile_000000"), append(record, record...), 0o600))
		d, err := Open(dir)
		must(t, err)
		defer d.Close()
		_, err = Verify(t.Context(), d, Options{TempDir: t.TempDir()})
		must(t, err)
		if _, err := NewestBlock(t.Context(), d, channelID); err != nil {
			t.Log(err)
		}
	})
}
