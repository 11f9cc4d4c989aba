package pvtstore

import (
	"context"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/ledger/kv"
)

// keysOf lists the keys of a channel that begin with a prefix, without it.
func keysOf(t *testing.T, p *Provider, prefix byte) []string {
	t.Helper()
	var out []string
	for _, key := range slices.Sorted(maps.Keys(dump(t, p))) {
		raw, err := hex.DecodeString(key)
		must(t, err)
		if rest, ok := strings.CutPrefix(string(raw), "vecch\x00"+string(rune(prefix))); ok {
			out = append(out, rest)
		}
	}
	return out
}

func oneWrite(ns string, colls ...string) *rwset.TxPvtReadWriteSet {
	set := &rwset.NsPvtReadWriteSet{Namespace: ns}
	for _, c := range colls {
		set.CollectionPvtRwset = append(set.CollectionPvtRwset, &rwset.CollectionPvtReadWriteSet{CollectionName: c, Rwset: []byte(c)})
	}
	return &rwset.TxPvtReadWriteSet{NsPvtRwset: []*rwset.NsPvtReadWriteSet{set}}
}

// TestPurge removes, at multiples of the interval, what has expired: data, missing
// entries of both kinds, and the note of it. What does not expire, or not yet,
// stays (LEDGER §8.5).
func TestPurge(t *testing.T) {
	t.Parallel()
	p, s := open(t, Config{FS: vfs.NewMem()}, vectorBTL) // collB 2, collY 3, collA never; interval 5
	commit := func(n uint64, sets Sets, missing map[uint64][]MissingCollection) {
		t.Helper()
		must(t, s.Prepare(n, sets, missing, true))
		must(t, s.Commit())
		must(t, s.Work(t.Context()))
	}
	commit(0, nil, nil)
	commit(1,
		Sets{0: oneWrite("cc1", "collA", "collB"), 3: oneWrite("cc1", "collB", "collY"), 4: oneWrite("none", "coll")},
		map[uint64][]MissingCollection{
			1: {{"cc1", "collB", true}, {"cc1", "collY", false}, {"cc1", "collA", false}},
			2: {{"cc1", "collB", false}, {"none", "coll", true}},
		})
	if got := keysOf(t, p, prefixExpiry); !slices.Equal(got, []string{"\x01\x04\x01\x01", "\x01\x05\x01\x01"}) {
		t.Errorf("notes of expiry: %q", got)
	}
	commit(2, nil, nil)
	commit(3, nil, nil)
	commit(4, nil, nil) // collB has expired, but this is no multiple of the interval
	if got := keysOf(t, p, prefixData); len(got) != 5 {
		t.Errorf("purged early: %q", got)
	}
	if sets, err := s.Read(1, CollectionFilter{"cc1": {"collB": true}}); err != nil || len(sets) != 0 {
		t.Errorf("expired data are shown: %v, %v", sets, err)
	}
	commit(5, nil, nil) // collY expires with this block
	for prefix, want := range map[byte][]string{
		prefixData:       {"\x01\x01\x00cc1\x00collA", "\x01\x01\x01\x04none\x00coll"},
		prefixExpiry:     nil,
		prefixMissing:    {"\x07\xfenone\x00coll"},
		prefixIneligible: {"cc1\x00collA\x00\x07\xfe"},
	} {
		if d := cmp.Diff(want, keysOf(t, p, prefix)); d != "" {
			t.Errorf("prefix %d: %s", prefix, d)
		}
	}
}

// TestPurgeRepeats: deletes that a crash took back are made again.
func TestPurgeRepeats(t *testing.T) {
	t.Parallel()
	fsys := vfs.NewMem()
	p, s := open(t, Config{FS: fsys}, vectorBTL)
	for n := range uint64(6) {
		var sets Sets
		if n == 1 {
			sets = Sets{0: oneWrite("cc1", "collB")}
		}
		must(t, s.Prepare(n, sets, nil, true))
		must(t, s.Commit())
	}
	before := dump(t, p)
	must(t, s.Work(t.Context()))
	after := fsys.Crash(vfs.LoseUnsynced, 0)
	must(t, p.Close())
	p, s = open(t, Config{FS: after}, vectorBTL)
	if len(dump(t, p)) < len(before)-1 { // at most the marker, which Commit does not sync
		t.Fatal("the purge was synced; the test shows nothing")
	}
	must(t, s.Work(t.Context()))
	if got := keysOf(t, p, prefixData); len(got) != 0 {
		t.Errorf("left: %q", got)
	}
}

// TestMovePauses: the batches of a move are apart, and a move that is stopped goes
// on at the next opening (LEDGER §8.7).
func TestMovePauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := vfs.NewMem()
		cfg := Config{Dir: "/p", FS: fsys, MoveBatch: 4, MovePause: 700 * time.Millisecond}
		never := func(string, string) (uint64, error) { return 0, nil }
		p, err := OpenProvider(cfg)
		must(t, err)
		s, err := p.Open("vecch", never)
		must(t, err)
		for n := range uint64(11) {
			must(t, s.Prepare(n, nil, map[uint64][]MissingCollection{0: {{"cc", "a", false}}}, false))
			must(t, s.Commit())
		}
		must(t, s.BecameEligible(9, map[string][]string{"cc": {"a"}}))
		moved := func() int {
			m, err := s.Missing(100)
			must(t, err)
			return len(m)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Work(ctx) }()
		for _, want := range []int{4, 8} {
			synctest.Wait()
			if got := moved(); got != want {
				t.Errorf("moved %d, want %d", got, want)
			}
			if want == 4 {
				time.Sleep(cfg.MovePause)
			}
		}
		cancel()
		if err := <-done; err == nil {
			t.Error("a stopped move reports success")
		}
		must(t, p.Close())
		p, err = OpenProvider(cfg)
		must(t, err)
		s, err = p.Open("vecch", never)
		must(t, err)
		begun := time.Now()
		must(t, s.Work(t.Context()))
		if got := moved(); got != 9 || time.Since(begun) != 0 { // blocks 1 to 9; one is left, which needs no pause
			t.Errorf("moved %d in %v", got, time.Since(begun))
		}
		if got := keysOf(t, p, prefixEligible); len(got) != 0 {
			t.Errorf("event left: %q", got)
		}
		must(t, p.Close())
		time.Sleep(2 * time.Second) // goleveldb's last goroutine
	})
}

// TestPendingBatch: the marker alone makes the store complete the next block,
// block 0 too (LEDGER §17.2).
func TestPendingBatch(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		last []byte
		next uint64
	}{"empty store": {nil, 1}, "after block 0": {[]byte{0}, 2}, "after block 300": {[]byte{0xac, 2}, 302}} {
		fsys := vfs.NewMem()
		db, err := kv.Open(kv.Config{Dir: "/p", FS: fsys})
		must(t, err)
		must(t, db.Store("vecch").Put([]byte{prefixPending}, nil, true))
		if tc.last != nil {
			must(t, db.Store("vecch").Put([]byte{prefixLast}, tc.last, true))
		}
		must(t, db.Close())
		p, s := open(t, Config{FS: fsys}, vectorBTL)
		if s.NextBlock() != tc.next || s.Height() != tc.next {
			t.Errorf("%s: next %d", name, s.NextBlock())
		}
		if got := keysOf(t, p, prefixPending); len(got) != 0 {
			t.Errorf("%s: the marker is left", name)
		}
		must(t, s.Prepare(tc.next, nil, nil, true))
		must(t, s.Commit())
	}
}

// TestOldFormatBesidePurge: data of 1.1 stay and are shown, whatever the block to
// live (LEDGER §8.1).
func TestOldFormatBesidePurge(t *testing.T) {
	t.Parallel()
	p, s := open(t, Config{FS: vfs.NewMem()}, vectorBTL)
	old := oneWrite("cc1", "collB", "collY")
	for n := range uint64(11) {
		must(t, s.Prepare(n, nil, nil, true))
		if n == 1 {
			must(t, s.db.Put(heightKey(nil, 1, 0), protoutil.Marshal(old), true))
		}
		must(t, s.Commit())
		must(t, s.Work(t.Context()))
	}
	got, err := s.Read(1, CollectionFilter{"cc1": {"collY": true}})
	must(t, err)
	if len(got) != 1 || len(got[0].NsPvtRwset[0].CollectionPvtRwset) != 1 || got[0].NsPvtRwset[0].CollectionPvtRwset[0].CollectionName != "collY" {
		t.Errorf("got %v", got)
	}
	if keys := keysOf(t, p, prefixData); !slices.Equal(keys, []string{"\x01\x01\x00"}) {
		t.Errorf("keys %q", keys)
	}
}

// TestPurgeInBatches: what fills several batches goes whole, and others have their
// turn in between.
func TestPurgeInBatches(t *testing.T) {
	t.Parallel()
	p, s := open(t, Config{FS: vfs.NewMem()}, func(string, string) (uint64, error) { return 1, nil })
	for n := range uint64(8) {
		var sets Sets
		if n < 6 {
			sets = Sets{0: oneWrite("cc", strings.Repeat("c", maxPurgeBatch*2/3), "d")}
		}
		must(t, s.Prepare(n, sets, map[uint64][]MissingCollection{1: {{"cc", "e", true}}}, true))
		must(t, s.Commit())
	}
	next, end := expiryRange(7)
	batches := 0
	for next != nil {
		var err error
		next, err = s.purgeBatch(next, end)
		must(t, err)
		if !s.entries.TryLock() {
			t.Fatal("nobody else has a turn")
		}
		s.entries.Unlock()
		batches++
	}
	if batches < 3 {
		t.Errorf("%d batches", batches)
	}
	// Blocks 6 and 7 have not expired.
	if data, notes, missing := keysOf(t, p, prefixData), keysOf(t, p, prefixExpiry), keysOf(t, p, prefixMissing); len(data) != 0 || len(notes) != 2 || len(missing) != 2 {
		t.Errorf("left: %d data, %q, %q", len(data), notes, missing)
	}
	must(t, s.Work(t.Context()))
}
