package ledger

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/ledger/bookkeeper"
	"github.com/heddle-ledger/heddle/ledger/mvcc"
	sets "github.com/heddle-ledger/heddle/ledger/rwset"
	"github.com/heddle-ledger/heddle/ledger/state"
	"github.com/heddle-ledger/heddle/protos/ledgerstore"
)

// both is the version of the hash of key k in collection short and its plain
// value.
func (c *privateChain) both() string {
	c.t.Helper()
	v, err := c.l.state.Get(state.HashedNamespace("cc", "short"), sha("k"))
	must(c.t, err)
	hash := "none"
	if v != nil {
		hash = fmt.Sprintf("%d:%d", v.Version.Block, v.Version.Tx)
	}
	return hash + " " + c.value("short", "k")
}

// schedule lists the entries of the schedule up to a block.
func (c *privateChain) schedule(last uint64) map[bookkeeper.Key][]string {
	c.t.Helper()
	out := map[bookkeeper.Key][]string{}
	for n := range last + 1 {
		must(c.t, c.l.books.Due(n, func(k bookkeeper.Key, entry *ledgerstore.PvtdataKeys) error {
			for ns, colls := range entry.GetMap() {
				for coll, keys := range colls.GetMap() {
					for _, e := range keys.GetList() {
						name := e.Key
						if name == "" {
							name = "hash only"
						} else if sha(name) != string(e.Hash) {
							name += " with another's hash"
						}
						out[k] = append(out[k], ns+" "+coll+" "+name)
					}
				}
			}
			return nil
		}))
	}
	return out
}

// TestExpiry writes key k, which lives for two blocks, in block 2: it expires in
// block 5. What happens to it in between and in block 5 decides what goes, the
// hash and the plain value each by itself (LEDGER §14.1).
func TestExpiry(t *testing.T) {
	t.Parallel()
	write := func(v string, given bool) ptx { return ptx{write: put("short", "k", v), given: given} }
	remove := func(given bool) ptx {
		return ptx{write: func(b *sets.Builder) { b.WritePrivate("cc", "short", "k", nil) }, given: given}
	}
	metadata := func(given bool) ptx {
		return ptx{write: func(b *sets.Builder) {
			b.WritePrivateMetadata("cc", "short", "k", map[string][]byte{"m": []byte("1")})
		}, given: given}
	}
	read := func(v *state.Version) ptx {
		return ptx{write: func(b *sets.Builder) {
			b.ReadPrivate("cc", "short", "k", v)
			b.Write("cc", "read", []byte("current"))
		}}
	}
	invalid := write("no", true)
	invalid.code = peer.TxValidationCode_ENDORSEMENT_POLICY_FAILURE
	for _, tc := range []struct {
		name             string
		two, three, five []ptx
		four             []ptx
		before, after    string // block 5
	}{
		{name: "as it is", two: []ptx{write("v", true)}, before: "2:0 v@2:0", after: "none "},
		{name: "hash only", two: []ptx{write("v", false)}, before: "2:0 ", after: "none "},
		{name: "twice in the block", two: []ptx{write("v", true), write("w", true)}, before: "2:1 w@2:1", after: "none "},
		{name: "twice, the last one missing", two: []ptx{write("v", true), write("w", false)}, before: "2:1 v@2:0", after: "none "},
		{name: "rewritten", two: []ptx{write("v", true)}, three: []ptx{write("w", true)}, before: "3:0 w@3:0", after: "3:0 w@3:0"},
		{name: "rewritten, but missing", two: []ptx{write("v", true)}, three: []ptx{write("w", false)}, before: "3:0 v@2:0", after: "3:0 "},
		{name: "hash only, rewritten", two: []ptx{write("v", false)}, three: []ptx{write("w", true)}, before: "3:0 w@3:0", after: "3:0 w@3:0"},
		{name: "written in the block", two: []ptx{write("v", true)}, five: []ptx{write("w", true)}, before: "2:0 v@2:0", after: "5:0 w@5:0"},
		{name: "written in the block, but missing", two: []ptx{write("v", true)}, five: []ptx{write("w", false)}, before: "2:0 v@2:0", after: "5:0 "},
		{name: "written in the block, not validly", two: []ptx{write("v", true)}, five: []ptx{invalid}, before: "2:0 v@2:0", after: "none "},
		{name: "deleted", two: []ptx{write("v", true)}, three: []ptx{remove(true)}, before: "none ", after: "none "},
		{name: "deleted, but missing", two: []ptx{write("v", true)}, three: []ptx{remove(false)}, before: "none v@2:0", after: "none "},
		{name: "deleted in the block", two: []ptx{write("v", true)}, five: []ptx{remove(true)}, before: "2:0 v@2:0", after: "none "},
		{name: "deleted in the block, but missing", two: []ptx{write("v", true)}, five: []ptx{remove(false)}, before: "2:0 v@2:0", after: "none "},
		{name: "metadata", two: []ptx{write("v", true)}, three: []ptx{metadata(true)}, before: "3:0 v@3:0", after: "3:0 v@3:0"},
		{name: "metadata, but missing", two: []ptx{write("v", true)}, three: []ptx{metadata(false)}, before: "3:0 v@2:0", after: "3:0 "},
		{name: "metadata in the block", two: []ptx{write("v", true)}, five: []ptx{metadata(true)}, before: "2:0 v@2:0", after: "5:0 v@5:0"},
		{name: "metadata in the block, but missing", two: []ptx{write("v", true)}, five: []ptx{metadata(false)}, before: "2:0 v@2:0", after: "5:0 "},
		{name: "read in the block", two: []ptx{write("v", true)}, five: []ptx{read(&state.Version{Block: 2})}, before: "2:0 v@2:0", after: "none "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := newPrivateChain(t, vectorConfig(t, vfs.NewMem()))
			for _, txs := range [][]ptx{tc.two, tc.three, tc.four} {
				c.block(txs...)
			}
			if got := c.both(); got != tc.before {
				t.Errorf("before block 5: %s, want %s", got, tc.before)
			}
			c.block(tc.five...)
			if got := c.both(); got != tc.after {
				t.Errorf("after block 5: %s, want %s", got, tc.after)
			}
			if tc.name == "read in the block" {
				if b, err := c.l.BlockByNumber(5); err != nil || b.Metadata.Metadata[2][0] != 0 {
					t.Errorf("the block's transactions did not see the key: %v", err)
				}
			}
			for n := 6; n <= 8; n++ {
				c.block()
			}
			if got := c.both(); got != "none " {
				t.Errorf("in the end: %s", got)
			}
			if left := c.schedule(20); len(left) != 0 {
				t.Errorf("schedule in the end: %v", left)
			}
		})
	}
}

// TestSchedule: what a block adds to the schedule, one entry for all it writes to
// collections of one life, and what reconciliation adds (LEDGER §9.1, §14.2).
func TestSchedule(t *testing.T) {
	t.Parallel()
	c := newPrivateChain(t, vectorConfig(t, vfs.NewMem()))
	c.block(
		ptx{write: put("short", "a", "v"), given: true},
		ptx{write: put("short", "b", "v")},
		ptx{write: put("forever", "c", "v"), given: true},
		ptx{write: put("short", "gone", ""), given: true},
		ptx{write: put("short", "gone too", "")},
	)
	want := map[bookkeeper.Key][]string{{Expiring: 5, Committing: 2}: {"cc short a", "cc short hash only"}}
	if diff := cmp.Diff(want, c.schedule(20)); diff != "" {
		t.Error(diff)
	}
	_, err := c.l.CommitReconciled([]ReconciledData{c.late(2, 1)})
	must(t, err)
	want[bookkeeper.Key{Expiring: 5, Committing: 2}] = []string{"cc short a", "cc short hash only", "cc short b"}
	if diff := cmp.Diff(want, c.schedule(20)); diff != "" {
		t.Error(diff)
	}
	c.block()
	c.block(ptx{write: put("short", "a", "w"), given: true})
	want[bookkeeper.Key{Expiring: 7, Committing: 4}] = []string{"cc short a"}
	if diff := cmp.Diff(want, c.schedule(20)); diff != "" {
		t.Error(diff)
	}
	if v := c.value("short", "b"); v != "v@2:1" {
		t.Errorf("b is %s", v)
	}
	c.block() // 5: the name of b is known from the later entry
	if v := c.value("short", "b"); v != "" {
		t.Errorf("b is %s", v)
	}
	delete(want, bookkeeper.Key{Expiring: 5, Committing: 2})
	if diff := cmp.Diff(want, c.schedule(20)); diff != "" {
		t.Error(diff)
	}
}

// TestPurgesAreNotInTheCommitHash: it is over what the block's transactions do
// (LEDGER §13.3).
func TestPurgesAreNotInTheCommitHash(t *testing.T) {
	t.Parallel()
	c := newPrivateChain(t, vectorConfig(t, vfs.NewMem()))
	c.block(ptx{write: put("short", "k", "v"), given: true})
	c.block()
	c.block()
	before := c.l.commitHash
	c.block(ptx{write: func(b *sets.Builder) { b.Write("cc", "x", []byte("1")) }})
	if c.both() != "none " {
		t.Fatal("nothing was purged")
	}
	u := mvcc.NewUpdates(0)
	u.PutPublic("cc", state.Write{Key: "x", Value: []byte("1"), Version: state.Version{Block: 5}})
	if want := u.CommitHash([]byte{0}, before); !bytes.Equal(want, c.l.commitHash) {
		t.Errorf("commit hash %x, want %x", c.l.commitHash, want)
	}
}

// TestLifeOfNoCollection: what is written to a collection that is not deployed
// never expires, neither in the state nor in the private store, where the
// reference stops for good (LEDGER §14.3). Once it is deployed, later writes do.
func TestLifeOfNoCollection(t *testing.T) {
	t.Parallel()
	fsys := vfs.NewMem()
	genesis := genesisOf("ch")
	c := &privateChain{t: t, prev: genesis.Header, sets: map[uint64]map[uint64]*rwset.TxPvtReadWriteSet{}}
	p := openProvider(t, vectorConfig(t, fsys))
	create(t, p, genesis)
	c.l = openLedger(t, p, "ch")
	c.block(ptx{write: put("short", "k", "v"), given: true}) // not deployed yet
	c.block(ptx{write: deployCC("short")})
	c.block(ptx{write: put("short", "l", "v"), given: true})
	want := map[bookkeeper.Key][]string{{Expiring: 6, Committing: 3}: {"cc short l"}}
	if diff := cmp.Diff(want, c.schedule(20)); diff != "" {
		t.Error(diff)
	}
	for range 6 {
		c.block()
	}
	must(t, c.l.private.Work(t.Context()))
	if got := c.both(); got != "1:0 v@1:0" {
		t.Errorf("state: %s", got)
	}
	if v := c.value("short", "l"); v != "" {
		t.Errorf("l is %s", v)
	}
	must(t, p.Close())
	private := dump(t, fsys)["pvtdataStore"]
	if _, ok := private[hex.EncodeToString([]byte("ch\x00\x02\x01\x01\x00cc\x00short"))]; !ok || len(private) != 2 {
		t.Errorf("private store: %v", private) // the data of block 1 and the last block
	}
}
