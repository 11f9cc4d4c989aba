package pvtstore

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/protos/ledgerstore"
)

// reconciled commits data of collB in one transaction of block 1, as if it had
// arrived late.
func reconciled(t *testing.T, s *Store, tx uint64) {
	t.Helper()
	must(t, s.CommitOld(map[uint64]Sets{1: {tx: oneWrite("cc1", "collB")}}))
	must(t, s.OldApplied())
}

// withMissing is a store whose block 1 has data of collB, which expire in block 4,
// in transaction 0, and misses those of transactions 1 and, not being eligible, 2.
func withMissing(t *testing.T) (*Provider, *Store) {
	t.Helper()
	p, s := open(t, Config{FS: vfs.NewMem()}, vectorBTL)
	must(t, s.Prepare(0, nil, nil, true))
	must(t, s.Commit())
	must(t, s.Prepare(1, Sets{0: oneWrite("cc1", "collB")}, map[uint64][]MissingCollection{
		1: {{"cc1", "collB", true}}, 2: {{"cc1", "collB", false}},
	}, true))
	must(t, s.Commit())
	return p, s
}

// TestOldDataNotMissed: of late data only those are taken that are listed as
// missing and due, each once (LEDGER §16).
func TestOldDataNotMissed(t *testing.T) {
	t.Parallel()
	p, s := withMissing(t)
	before := dump(t, p)
	for what, tx := range map[string]uint64{"present": 0, "not eligible": 2, "never heard of": 3} {
		reconciled(t, s, tx)
		if d := cmp.Diff(before, dump(t, p)); d != "" {
			t.Errorf("%s:\n%s", what, d)
		}
	}
	reconciled(t, s, 1)
	raw, err := s.db.Get(expiryKey(4, 1))
	must(t, err)
	expiry := &ledgerstore.ExpiryData{}
	must(t, proto.Unmarshal(raw, expiry))
	if d := cmp.Diff([]uint64{0, 1}, expiry.Map["cc1"].Map["collB"].List); d != "" {
		t.Errorf("transactions that expire: %s", d)
	}
	if has, err := s.db.Has(missingKey(1, collection{"cc1", "collB"})); has || err != nil {
		t.Errorf("still missing: %v, %v", has, err)
	}
	after := dump(t, p)
	reconciled(t, s, 1)
	if d := cmp.Diff(after, dump(t, p)); d != "" {
		t.Errorf("taken twice:\n%s", d)
	}
}

// TestOldDataPurged: what has no entry in the list of expiry any more has expired,
// whatever else is left (LEDGER §16).
func TestOldDataPurged(t *testing.T) {
	t.Parallel()
	p, s := withMissing(t)
	must(t, s.db.Delete(expiryKey(4, 1), true))
	before := dump(t, p)
	reconciled(t, s, 1)
	if d := cmp.Diff(before, dump(t, p)); d != "" {
		t.Error(d)
	}
}

// TestEligibilityIsDurable: an event is on the disk before its block can be, by
// itself and not by what follows (LEDGER §15.3 c).
func TestEligibilityIsDurable(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	_, s := open(t, Config{FS: fs}, vectorBTL)
	must(t, s.BecameEligible(7, map[string][]string{"cc1": {"collX"}}))
	_, s = open(t, Config{FS: fs.Crash(vfs.LoseUnsynced, 0)}, vectorBTL)
	events, err := s.events()
	if err != nil || len(events) != 1 || events[0].block != 7 {
		t.Errorf("after a crash: %v, %v", events, err)
	}
}
