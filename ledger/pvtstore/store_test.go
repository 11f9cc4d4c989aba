package pvtstore

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/failpoint"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/vfs"
)

type step struct {
	Step    string
	Block   *uint64
	Sets    map[uint64]string
	Missing map[uint64][]struct {
		Ns, Coll string
		Eligible bool
	}
	Eligible map[string][]string
	Supplied *struct {
		Block, Tx uint64
		Set       string
	}
	Changes []struct{ Op, Key, Value string }
}

type vectors struct {
	Steps []step
	Read  map[uint64][]struct {
		Tx       uint64
		WriteSet string
	}
	Bitmaps []struct {
		Bytes         string
		Set           []uint64
		AfterClearing *uint64 `json:"after_clearing"`
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func readVectors(t testing.TB) vectors {
	t.Helper()
	raw, err := os.ReadFile("testdata/vectors.json")
	must(t, err)
	var v vectors
	must(t, json.Unmarshal(raw, &v))
	return v
}

// vectorBTL is the block to live of the recorded chain's collections.
func vectorBTL(ns, coll string) (uint64, error) {
	btl, ok := map[string]uint64{"collA": 0, "collB": 2, "collX": 0, "collY": 3}[coll]
	if !ok || ns != "cc1" {
		return 0, &UnknownCollectionError{ns, coll}
	}
	return btl, nil
}

func parseSet(t testing.TB, s string) *rwset.TxPvtReadWriteSet {
	t.Helper()
	raw, err := hex.DecodeString(s)
	must(t, err)
	set := &rwset.TxPvtReadWriteSet{}
	must(t, proto.Unmarshal(raw, set))
	return set
}

func (s *step) data(t testing.TB) (Sets, map[uint64][]MissingCollection) {
	sets, missing := Sets{}, map[uint64][]MissingCollection{}
	for tx, raw := range s.Sets {
		sets[tx] = parseSet(t, raw)
	}
	for tx, list := range s.Missing {
		for _, m := range list {
			missing[tx] = append(missing[tx], MissingCollection{m.Ns, m.Coll, m.Eligible})
		}
	}
	return sets, missing
}

// apply does one step as the ledger would.
func (s *step) apply(t testing.TB, st *Store) error {
	if s.Supplied != nil {
		old := map[uint64]Sets{s.Supplied.Block: {s.Supplied.Tx: parseSet(t, s.Supplied.Set)}}
		return errors.Join(st.CommitOld(old), st.OldApplied())
	}
	if *s.Block < st.NextBlock() {
		return nil
	}
	sets, missing := s.data(t)
	if s.Eligible != nil {
		if err := st.BecameEligible(*s.Block, s.Eligible); err != nil {
			return err
		}
	}
	if err := st.Prepare(*s.Block, sets, missing, true); err != nil {
		return err
	}
	if err := st.Commit(); err != nil {
		return err
	}
	return st.Work(t.Context())
}

func (s *step) change(dump map[string]string) {
	for _, c := range s.Changes {
		if c.Op == "delete" {
			delete(dump, c.Key)
		} else {
			dump[c.Key] = c.Value
		}
	}
}

func open(t testing.TB, cfg Config, btl BlockToLive) (*Provider, *Store) {
	t.Helper()
	cfg.Dir, cfg.PurgeInterval = "/p", 5
	p, err := OpenProvider(cfg)
	must(t, err)
	t.Cleanup(func() { p.Close() })
	s, err := p.Open("vecch", btl)
	must(t, err)
	return p, s
}

func dump(t testing.TB, p *Provider) map[string]string {
	t.Helper()
	out := map[string]string{}
	it := p.db.Raw().Scan(nil, nil)
	defer it.Close()
	for it.Next() {
		out[hex.EncodeToString(it.Key())] = hex.EncodeToString(it.Value())
	}
	must(t, it.Err())
	return out
}

// The recorded chain makes the same changes step by step.
func TestStepsMatchReference(t *testing.T) {
	t.Parallel()
	v := readVectors(t)
	p, s := open(t, Config{FS: vfs.NewMem()}, vectorBTL)
	want := map[string]string{}
	for i := range v.Steps {
		must(t, v.Steps[i].apply(t, s))
		v.Steps[i].change(want)
		if d := cmp.Diff(want, dump(t, p)); d != "" {
			t.Fatalf("%s (-reference +ours):\n%s", v.Steps[i].Step, d)
		}
		if old, err := s.OldBlocks(); len(old) != 0 || err != nil {
			t.Errorf("old blocks: %v, %v", old, err)
		}
	}
	for block, list := range v.Read {
		sets, err := s.Read(block, nil)
		must(t, err)
		if len(sets) != len(list) {
			t.Errorf("block %d: %d sets, want %d", block, len(sets), len(list))
		}
		for _, e := range list {
			if got := protoutil.Text(sets[e.Tx]); got != e.WriteSet && got+" " != e.WriteSet {
				t.Errorf("block %d tx %d:\n%q\n%q", block, e.Tx, got, e.WriteSet)
			}
		}
	}
}

// The store is closed and opened at each crash point, with what was not synced
// lost or kept, and ends the same.
func TestCrashes(t *testing.T) {
	t.Parallel()
	v := readVectors(t)
	want := map[string]string{}
	for i := range v.Steps {
		v.Steps[i].change(want)
	}
	points := &failpoint.Points{}
	_, s := open(t, Config{FS: vfs.NewMem(), Points: points}, vectorBTL)
	for i := range v.Steps {
		must(t, v.Steps[i].apply(t, s))
	}
	for _, seen := range points.Seen() {
		for hit := 1; hit <= seen.Hits; hit++ {
			for _, mode := range []vfs.CrashMode{vfs.LoseUnsynced, vfs.KeepUnsynced, vfs.TearUnsynced} {
				t.Run(fmt.Sprint(seen.Name, hit, mode), func(t *testing.T) {
					t.Parallel()
					got := crashAt(t, v, seen.Name, hit, mode)
					if d := cmp.Diff(want, got); d != "" {
						t.Errorf("(-undisturbed +crashed):\n%s", d)
					}
				})
			}
		}
	}
}

var errCrash = errors.New("crash")

func crashAt(t *testing.T, v vectors, point string, hit int, mode vfs.CrashMode) map[string]string {
	fsys := vfs.NewMem()
	points := &failpoint.Points{}
	points.Arm(point, func(n int) error {
		if n == hit {
			return errCrash
		}
		return nil
	})
	p, s := open(t, Config{FS: fsys, Points: points}, vectorBTL)
	crashed := false
	for i := 0; i < len(v.Steps); i++ {
		st := &v.Steps[i]
		err := st.apply(t, s)
		if err == nil {
			continue
		}
		if crashed || !errors.Is(err, errCrash) {
			t.Fatalf("%s: %v", st.Step, err)
		}
		crashed = true
		fsys = fsys.Crash(mode, uint64(hit))
		p, s = open(t, Config{FS: fsys}, vectorBTL)
		must(t, s.Work(t.Context()))
		if old, err := s.OldBlocks(); err != nil || len(old) > 0 {
			must(t, errors.Join(err, s.OldApplied()))
		}
		i-- // a block that is covered is not prepared again
	}
	must(t, s.Work(t.Context()))
	// The last purge may have been lost; one more removes what it left.
	s.work.purge = true
	must(t, s.Work(t.Context()))
	return dump(t, p)
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	_, s := open(t, Config{FS: vfs.NewMem()}, vectorBTL)
	if _, err := s.Read(0, nil); !errors.Is(err, ErrEmpty) || err.Error() != "The store is empty" {
		t.Errorf("read of an empty store: %v", err)
	}
	if m, err := s.Missing(3); len(m) != 0 || err != nil {
		t.Errorf("missing data of an empty store: %v, %v", m, err)
	}
	if err := s.Prepare(1, nil, nil, true); err == nil || err.Error() != "Expected block number=0, received block number=1" {
		t.Errorf("wrong block: %v", err)
	}
	if err := s.Commit(); !errors.Is(err, ErrNothing) {
		t.Errorf("commit of nothing: %v", err)
	}
	must(t, s.Prepare(0, nil, nil, true))
	if err := s.Prepare(0, nil, nil, true); !errors.Is(err, ErrPending) {
		t.Errorf("second prepare: %v", err)
	}
	must(t, s.Commit())
	if _, err := s.Read(1, nil); err == nil || err.Error() != "Last committed block=0, block requested=1" {
		t.Errorf("read beyond the end: %v", err)
	}
	must(t, s.CommitOld(nil))
	if err := s.CommitOld(nil); !errors.Is(err, ErrOldData) {
		t.Errorf("second reconciliation: %v", err)
	}
	if err := s.Skip(3); err == nil {
		t.Error("skip on a store with blocks")
	}
	if err := s.Prepare(1, Sets{1 << 40: {NsPvtRwset: nil}}, nil, true); err == nil {
		t.Error("absurd transaction number accepted")
	}
	if err := s.Prepare(1, nil, map[uint64][]MissingCollection{1 << 40: nil}, true); err == nil {
		t.Error("absurd transaction number accepted")
	}
}

func TestSkipAndAbandon(t *testing.T) {
	t.Parallel()
	v := readVectors(t)
	p, s := open(t, Config{FS: vfs.NewMem()}, vectorBTL)
	must(t, s.Skip(0))
	must(t, s.Skip(3))
	if s.NextBlock() != 3 {
		t.Errorf("next = %d", s.NextBlock())
	}
	before := dump(t, p)
	sets, missing := v.Steps[3].data(t)
	must(t, s.Prepare(3, sets, missing, true))
	if len(dump(t, p)) < len(before)+7 {
		t.Error("nothing prepared")
	}
	must(t, s.Abandon())
	must(t, s.Abandon())
	if d := cmp.Diff(before, dump(t, p)); d != "" {
		t.Errorf("abandoned batch left:\n%s", d)
	}
	must(t, s.Prepare(3, sets, missing, true))
	must(t, s.Commit())
}

// TestCover: covered blocks count as known at once and as committed when they
// are; a crash in between leaves a store that is ahead, as after a rollback.
func TestCover(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	p, s := open(t, Config{FS: fs}, vectorBTL)
	must(t, s.Cover(9))
	must(t, s.Cover(5)) // known already
	if s.NextBlock() != 10 || s.Height() != 0 {
		t.Fatalf("next %d, height %d", s.NextBlock(), s.Height())
	}
	if _, err := s.Read(0, nil); !errors.Is(err, ErrEmpty) {
		t.Errorf("read before anything is committed: %v", err)
	}
	for n := range uint64(5) {
		s.Settle(n)
	}
	s.work.purge = false
	s.Settle(5)
	s.Settle(2)  // long ago
	s.Settle(10) // not known
	if s.NextBlock() != 10 || s.Height() != 6 || !s.work.purge {
		t.Errorf("next %d, height %d, purge %v", s.NextBlock(), s.Height(), s.work.purge)
	}
	if err := s.Prepare(7, nil, nil, true); err == nil || err.Error() != "Expected block number=10, received block number=7" {
		t.Errorf("prepare of a covered block: %v", err)
	}
	must(t, s.Prepare(10, nil, nil, true))
	if err := s.Cover(11); !errors.Is(err, ErrPending) {
		t.Errorf("cover beside a prepared batch: %v", err)
	}
	must(t, s.Commit())
	if s.NextBlock() != 11 || s.Height() != 11 {
		t.Errorf("next %d, height %d", s.NextBlock(), s.Height())
	}
	must(t, s.Cover(12))
	after := fs.Crash(vfs.LoseUnsynced, 0)
	must(t, p.Close())
	_, s = open(t, Config{FS: after}, vectorBTL)
	if s.NextBlock() != 13 || s.Height() != 13 {
		t.Errorf("after a crash: next %d, height %d", s.NextBlock(), s.Height())
	}
}

func TestFilterAndExpiry(t *testing.T) {
	t.Parallel()
	v := readVectors(t)
	_, s := open(t, Config{FS: vfs.NewMem()}, vectorBTL)
	for i := range 5 {
		must(t, v.Steps[i].apply(t, s))
	}
	missing, err := s.Missing(10)
	must(t, err)
	want := map[uint64]map[uint64][]MissingCollection{3: {5: {{"cc1", "collA", true}, {"cc1", "collY", true}}}}
	if d := cmp.Diff(want, missing); d != "" {
		t.Error(d)
	}
	only := CollectionFilter{"cc1": {"collB": true}}
	sets, err := s.Read(3, only)
	must(t, err)
	if len(sets) != 1 || len(sets[3].NsPvtRwset) != 1 || len(sets[3].NsPvtRwset[0].CollectionPvtRwset) != 1 {
		t.Errorf("filtered: %v", sets)
	}
	must(t, v.Steps[5].apply(t, s)) // block 5
	must(t, v.Steps[7].apply(t, s)) // block 6: collB of block 3 has expired and is not purged yet
	if sets, err = s.Read(3, only); err != nil || len(sets) != 0 {
		t.Errorf("expired data: %v, %v", sets, err)
	}
	must(t, v.Steps[8].apply(t, s)) // block 7: the missing collY has expired
	missing, err = s.Missing(10)
	must(t, err)
	want = map[uint64]map[uint64][]MissingCollection{3: {4: {{"cc1", "collX", true}}, 5: {{"cc1", "collA", true}}}}
	if d := cmp.Diff(want, missing); d != "" {
		t.Error(d)
	}
}

func TestMissingCountsBlocks(t *testing.T) {
	t.Parallel()
	_, s := open(t, Config{FS: vfs.NewMem()}, func(string, string) (uint64, error) { return 0, nil })
	for n := range uint64(300) {
		m := map[uint64][]MissingCollection{}
		if n%2 == 0 {
			m[n%7] = []MissingCollection{{"cc", "a", true}, {"cc", "b", true}, {"cc", "c", false}}
		}
		must(t, s.Prepare(n, nil, m, false))
		must(t, s.Commit())
	}
	got, err := s.Missing(3)
	must(t, err)
	blocks := map[uint64]bool{}
	for b, txs := range got {
		blocks[b] = len(txs[b%7]) == 2
	}
	if d := cmp.Diff(map[uint64]bool{298: true, 296: true, 294: true}, blocks); d != "" {
		t.Error(d)
	}
}

// Moving many entries is done in batches, and block 0 stays as it is.
func TestMoveInBatches(t *testing.T) {
	t.Parallel()
	p, s := open(t, Config{FS: vfs.NewMem(), MoveBatch: 3, MovePause: 1}, func(string, string) (uint64, error) { return 0, nil })
	for n := range uint64(20) {
		must(t, s.Prepare(n, nil, map[uint64][]MissingCollection{0: {{"cc", "a", false}, {"cc", "ab", false}}}, false))
		must(t, s.Commit())
	}
	must(t, s.BecameEligible(15, map[string][]string{"cc": {"a"}}))
	must(t, s.Work(t.Context()))
	got, err := s.Missing(100)
	must(t, err)
	if len(got) != 15 || got[16] != nil || got[0] != nil {
		t.Errorf("%d blocks moved", len(got))
	}
	want := map[string]string{}
	maps.Copy(want, dump(t, p))
	must(t, s.Work(t.Context()))
	if d := cmp.Diff(want, dump(t, p)); d != "" {
		t.Error(d)
	}
}

// TestMoveLeavesOtherCollections: a name that an endorser made up, so that its
// entries lie among those of another collection, neither moves nor keeps anything.
func TestMoveLeavesOtherCollections(t *testing.T) {
	t.Parallel()
	made := []string{"a\x00\x07\u00e9", "a\x00\x07\u00e9\x01", "a\x00\x07\u00e9\x02", "a\x00\x06\u00e9"}
	p, s := open(t, Config{FS: vfs.NewMem(), MoveBatch: 2, MovePause: 1}, func(string, string) (uint64, error) { return 0, nil })
	for n := range uint64(90) {
		missing := []MissingCollection{{"cc", "a", n == 60}}
		if n%10 == 9 {
			for _, name := range made {
				missing = append(missing, MissingCollection{"cc", name, false})
			}
		}
		must(t, s.Prepare(n, nil, map[uint64][]MissingCollection{n: missing}, false))
		must(t, s.Commit())
	}
	before := dump(t, p)
	must(t, s.BecameEligible(85, map[string][]string{"cc": {"a"}}))
	must(t, s.Work(t.Context()))
	got, err := s.Missing(100)
	must(t, err)
	for n := uint64(1); n <= 85; n++ { // not block 0
		if d := cmp.Diff(map[uint64][]MissingCollection{n: {{"cc", "a", true}}}, got[n]); d != "" {
			t.Errorf("block %d: %s", n, d)
		}
	}
	after := dump(t, p)
	left := 0
	for k, v := range before {
		if raw, err := hex.DecodeString(k); err == nil && bytes.Contains(raw, []byte("\u00e9")) {
			left++
			if after[k] != v {
				t.Errorf("%q: %q", raw, after[k])
			}
		}
	}
	if len(got) != 85 || left != 9*len(made) || len(after) != len(before) {
		t.Errorf("%d blocks, %d entries of other names, %d entries of %d", len(got), left, len(after), len(before))
	}
}

func TestOldFormat(t *testing.T) {
	t.Parallel()
	v := readVectors(t)
	_, s := open(t, Config{FS: vfs.NewMem()}, vectorBTL)
	for i := range 4 {
		must(t, v.Steps[i].apply(t, s))
	}
	set := parseSet(t, v.Steps[3].Sets[3])
	must(t, s.db.Put(heightKey(nil, 1, 7), protoutil.Marshal(set), true))
	got, err := s.Read(1, nil)
	must(t, err)
	if !proto.Equal(got[7], set) {
		t.Errorf("got %v", got)
	}
	got, err = s.Read(1, CollectionFilter{"cc1": {"none": true}})
	must(t, err)
	if set, ok := got[7]; !ok || set != nil {
		t.Errorf("filtered to nothing: %v", got)
	}
}

func TestUnknownCollectionIsStoredForever(t *testing.T) {
	t.Parallel()
	_, s := open(t, Config{FS: vfs.NewMem()}, vectorBTL)
	set := &rwset.TxPvtReadWriteSet{NsPvtRwset: []*rwset.NsPvtReadWriteSet{{
		Namespace: "no", CollectionPvtRwset: []*rwset.CollectionPvtReadWriteSet{{CollectionName: "c", Rwset: []byte{1}}},
	}}}
	must(t, s.Prepare(0, Sets{0: set}, nil, true))
	must(t, s.Commit())
	got, err := s.Read(0, nil)
	must(t, err)
	if !proto.Equal(got[0], set) {
		t.Errorf("got %v", got)
	}
	bad := errors.New("bad disk")
	s.btl = func(string, string) (uint64, error) { return 0, bad }
	if err := s.Prepare(1, Sets{0: set}, nil, true); !errors.Is(err, bad) {
		t.Errorf("prepare: %v", err)
	}
}

func TestBitmaps(t *testing.T) {
	t.Parallel()
	for _, tc := range readVectors(t).Bitmaps {
		var b bitmap
		for _, i := range tc.Set {
			b.set(i)
		}
		if tc.AfterClearing != nil {
			b.set(*tc.AfterClearing)
			b.clear(*tc.AfterClearing)
		}
		if got := hex.EncodeToString(b.bytes()); got != tc.Bytes {
			t.Errorf("%v: %s, want %s", tc.Set, got, tc.Bytes)
		}
		back, err := parseBitmap(b.bytes())
		must(t, err)
		if d := cmp.Diff(tc.Set, back.members()); d != "" {
			t.Error(d)
		}
	}
}

func TestExpiringBlock(t *testing.T) {
	t.Parallel()
	for _, tc := range [][3]uint64{{5, 0, math.MaxUint64}, {5, 2, 8}, {5, math.MaxUint64, math.MaxUint64}, {5, math.MaxUint64 - 3, math.MaxUint64}, {0, 1, 2}} {
		if got := expiringBlock(tc[0], tc[1]); got != tc[2] {
			t.Errorf("expiringBlock(%d, %d) = %d, want %d", tc[0], tc[1], got, tc[2])
		}
	}
}

func FuzzEntries(f *testing.F) {
	f.Add([]byte{2, 1, 3, 1, 3, 'c', 0, 'd'})
	f.Add([]byte{3, 1, 6, 1, 3})
	f.Add([]byte{4, 7, 0xfc, 'c', 0, 'd'})
	f.Add((&bitmap{length: 3, words: []uint64{5}}).bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := parseBitmap(b); err == nil && string(m.bytes()) != string(b) {
			t.Errorf("bitmap %x came back as %x", b, m.bytes())
		}
		parseBlocks(b)
		if len(b) == 0 {
			return
		}
		if h, c, old, err := parseDataKey(b); err == nil && !old && b[0] == prefixData {
			if h2, c2, _, err := parseDataKey(dataKey(h.Block, h.Tx, c)); err != nil || h2 != h || c2 != c {
				t.Errorf("key %x: %v %v", b, h2, c2)
			}
		}
		parseExpiryKey(b)
		parseMissingKey(b)
	})
}

func BenchmarkPrepareCommitEmpty(b *testing.B) {
	_, s := open(b, Config{FS: vfs.NewMem()}, vectorBTL)
	b.ReportAllocs()
	for n := uint64(0); b.Loop(); n++ {
		must(b, s.Prepare(n, nil, nil, true))
		must(b, s.Commit())
	}
}
