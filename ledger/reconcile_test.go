package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	mspproto "github.com/hyperledger/fabric-protos-go-apiv2/msp"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/ledger/bookkeeper"
	"github.com/heddle-ledger/heddle/ledger/kv"
	sets "github.com/heddle-ledger/heddle/ledger/rwset"
	"github.com/heddle-ledger/heddle/ledger/state"
	"github.com/heddle-ledger/heddle/protos/ledgerstore"
)

// privateChain is a channel with chaincode cc, whose collections are forever and
// other, which do not expire, and short, whose data live for two blocks. This
// peer's organisation is a member of all but other.
type privateChain struct {
	t    *testing.T
	l    *Ledger
	prev *common.BlockHeader
	sets map[uint64]map[uint64]*rwset.TxPvtReadWriteSet // by block and transaction
}

// ptx is a transaction of a privateChain.
type ptx struct {
	write func(*sets.Builder)
	code  peer.TxValidationCode
	given bool // its private data come with the block; else they are missing
}

func put(coll, key, value string) func(*sets.Builder) {
	return func(b *sets.Builder) { b.WritePrivate("cc", coll, key, []byte(value)) }
}

func collections(member ...string) []byte {
	pkg := &peer.CollectionConfigPackage{}
	for _, c := range []struct {
		name string
		life uint64
	}{{"forever", 0}, {"short", 2}, {"other", 0}} {
		org := "org2"
		for _, m := range member {
			if m == c.name {
				org = "org1"
			}
		}
		policy := &common.SignaturePolicyEnvelope{Identities: []*mspproto.MSPPrincipal{{Principal: []byte(org)}}}
		pkg.Config = append(pkg.Config, &peer.CollectionConfig{Payload: &peer.CollectionConfig_StaticCollectionConfig{
			StaticCollectionConfig: &peer.StaticCollectionConfig{
				Name: c.name, BlockToLive: c.life,
				MemberOrgsPolicy: &peer.CollectionPolicyConfig{Payload: &peer.CollectionPolicyConfig_SignaturePolicy{SignaturePolicy: policy}},
			},
		}})
	}
	return protoutil.Marshal(pkg)
}

func deployCC(member ...string) func(*sets.Builder) {
	return func(b *sets.Builder) {
		b.Write("lscc", "cc", []byte("definition"))
		b.Write("lscc", "cc~collection", collections(member...))
	}
}

func newPrivateChain(t *testing.T, cfg Config) *privateChain {
	t.Helper()
	genesis := genesisOf("ch")
	c := &privateChain{t: t, prev: genesis.Header, sets: map[uint64]map[uint64]*rwset.TxPvtReadWriteSet{}}
	p := openProvider(t, cfg)
	create(t, p, genesis)
	c.l = openLedger(t, p, "ch")
	c.block(ptx{write: deployCC("forever", "short")})
	return c
}

// block commits a block with these transactions.
func (c *privateChain) block(txs ...ptx) {
	c.t.Helper()
	b := protoutil.NewBlock(c.prev.Number+1, protoutil.BlockHash(c.prev))
	var codes []byte
	data := &PrivateData{Sets: map[uint64]*rwset.TxPvtReadWriteSet{}, Missing: map[uint64][]MissingCollection{}}
	c.sets[b.Header.Number] = map[uint64]*rwset.TxPvtReadWriteSet{}
	for i, tx := range txs {
		r := sets.NewBuilder()
		tx.write(r)
		public, err := r.Public()
		must(c.t, err)
		private, err := r.Private()
		must(c.t, err)
		b.Data.Data = append(b.Data.Data, benchEnvelope(fmt.Sprintf("tx-%d-%d", b.Header.Number, i), protoutil.Marshal(public)))
		codes = append(codes, byte(tx.code))
		if private == nil {
			continue
		}
		c.sets[b.Header.Number][uint64(i)] = private
		if tx.given {
			data.Sets[uint64(i)] = private
			continue
		}
		for _, ns := range private.NsPvtRwset {
			for _, coll := range ns.CollectionPvtRwset {
				data.Missing[uint64(i)] = append(data.Missing[uint64(i)], MissingCollection{
					Namespace: ns.Namespace, Collection: coll.CollectionName, Eligible: coll.CollectionName != "other",
				})
			}
		}
	}
	b.Header.DataHash = protoutil.DataHash(b.Data.Data)
	v := protoutil.ParseBlock(b)
	v.SetFlags(codes)
	must(c.t, c.l.CommitWithPrivateData(v, data))
	c.prev = b.Header
}

// late is the private data of a transaction, as another peer would send it.
func (c *privateChain) late(block uint64, txs ...uint64) ReconciledData {
	c.t.Helper()
	d := ReconciledData{Block: block, Sets: map[uint64]*rwset.TxPvtReadWriteSet{}}
	for _, tx := range txs {
		if d.Sets[tx] = c.sets[block][tx]; d.Sets[tx] == nil {
			c.t.Fatalf("transaction %d of block %d has no private data", tx, block)
		}
	}
	return d
}

// value is the private value of a key as value@block:tx, "" if there is none.
func (c *privateChain) value(coll, key string) string {
	c.t.Helper()
	v, err := c.l.state.Get(state.PrivateNamespace("cc", coll), key)
	must(c.t, err)
	if v == nil {
		return ""
	}
	return fmt.Sprintf("%s@%d:%d", v.Value, v.Version.Block, v.Version.Tx)
}

// stored lists the transactions of a block of which the private store has data.
func (c *privateChain) stored(block uint64) map[uint64]bool {
	c.t.Helper()
	data, err := c.l.PrivateDataOf(block, nil)
	must(c.t, err)
	out := map[uint64]bool{}
	for tx := range data {
		out[tx] = true
	}
	return out
}

// TestReconciliation goes through the rules of LEDGER §16 one by one.
func TestReconciliation(t *testing.T) {
	t.Parallel()
	cfg := vectorConfig(t, vfs.NewMem())
	cfg.PurgeInterval = 1000
	c := newPrivateChain(t, cfg)
	c.block(
		ptx{write: put("forever", "same", "1")},
		ptx{write: put("forever", "invalid", "1"), code: peer.TxValidationCode_MVCC_READ_CONFLICT},
		ptx{write: put("forever", "rewritten", "1")},
		ptx{write: put("forever", "stale", "1")},
		ptx{write: put("forever", "deleted", "")},
		ptx{write: put("forever", "gone", "1")},
		ptx{write: put("short", "expiring", "1")},
		ptx{write: put("other", "not for us", "1")},
		ptx{write: put("forever", "twice", "1")},
		ptx{write: put("forever", "known", "1"), given: true},
		ptx{write: func(b *sets.Builder) { b.Write("cc", "public", []byte("1")) }},
	)
	c.block(
		ptx{write: put("forever", "rewritten", "1")},
		ptx{write: put("forever", "stale", "2")},
		ptx{write: put("forever", "gone", "")},
		ptx{write: put("forever", "twice", "2")},
	)
	// A private value that should not be there, so that the delete shows.
	batch := state.NewBatch()
	batch.Put(state.PrivateNamespace("cc", "forever"), state.Write{Key: "deleted", Value: []byte("x"), Version: state.Version{Block: 1}})
	must(t, c.l.state.Apply(batch, nil, true))

	mismatches, err := c.l.CommitReconciled([]ReconciledData{c.late(2, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9), c.late(3, 3)})
	if err != nil || len(mismatches) != 0 {
		t.Fatal(mismatches, err)
	}
	for key, want := range map[string]string{
		"same": "1@2:0", "invalid": "", "rewritten": "1@3:0", "stale": "", "deleted": "", "gone": "", "twice": "2@3:3", "known": "1@2:9",
	} {
		if got := c.value("forever", key); got != want {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
	if got := c.value("short", "expiring"); got != "1@2:6" {
		t.Errorf("expiring: %q", got)
	}
	// The private store takes what was missing and this peer may have, whatever
	// the state makes of it. The state asks the hashes only.
	if got := c.value("other", "not for us"); got != "1@2:7" {
		t.Errorf("not for us: %q", got)
	}
	if d := cmp.Diff(map[uint64]bool{0: true, 1: true, 2: true, 3: true, 4: true, 5: true, 6: true, 8: true, 9: true}, c.stored(2)); d != "" {
		t.Error(d)
	}
	missing, err := c.l.MissingPrivateData(10)
	must(t, err)
	if len(missing) != 1 || len(missing[3]) != 3 || missing[3][3] != nil {
		t.Errorf("still missing: %v", missing)
	}
	if old, err := c.l.private.OldBlocks(); len(old) != 0 || err != nil {
		t.Errorf("old blocks %v, %v", old, err)
	}
	c.checkSchedule()
}

// checkSchedule: the key of reconciled data that expire is appended to what the
// schedule has under its hash.
func (c *privateChain) checkSchedule() {
	c.t.Helper()
	var got []string
	must(c.t, c.l.books.Due(5, func(k bookkeeper.Key, keys *ledgerstore.PvtdataKeys) error {
		for ns, colls := range keys.Map {
			for coll, list := range colls.Map {
				for _, e := range list.List {
					got = append(got, fmt.Sprintf("%d %s %s %q %x", k.Committing, ns, coll, e.Key, e.Hash[:4]))
				}
			}
		}
		return nil
	}))
	hash := sha256.Sum256([]byte("expiring"))
	short := hex.EncodeToString(hash[:4])
	if d := cmp.Diff([]string{`2 cc short "" ` + short, `2 cc short "expiring" ` + short}, got); d != "" {
		c.t.Error(d)
	}
}

// TestReconciliationRefused: data that are not what the chain names are dropped,
// and reported if it is the hash that differs; the rest is taken.
func TestReconciliationRefused(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	logging, err := flog.New(&out, "%{message}", "")
	must(t, err)
	cfg := vectorConfig(t, vfs.NewMem())
	cfg.Log = logging.Logger("ledger")
	c := newPrivateChain(t, cfg)
	c.block(
		ptx{write: put("forever", "a", "1")},
		ptx{write: put("forever", "b", "1")},
		ptx{write: func(b *sets.Builder) { b.ReadPrivate("cc", "forever", "c", nil) }},
		ptx{write: func(b *sets.Builder) { b.Write("cc", "public", []byte("1")) }},
	)
	c.sets[2][2], c.sets[2][3], c.sets[2][9] = c.sets[2][0], c.sets[2][0], c.sets[2][0]
	c.sets[7] = c.sets[2]
	c.sets[2][1] = c.sets[2][0] // not what the transaction names
	mismatches, err := c.l.CommitReconciled([]ReconciledData{c.late(2, 0, 1, 2, 3, 9), c.late(7, 0)})
	must(t, err)
	want := sha256.Sum256(nil)
	if len(mismatches) == 1 {
		public, perr := c.l.blocks.TxBytesByBlockTx(2, 1)
		must(t, perr)
		set, perr := protoutil.ParseTx(public).RWSet()
		must(t, perr)
		copy(want[:], set.Namespaces[0].Collections[0].PvtHash)
	}
	if d := cmp.Diff([]HashMismatch{{Block: 2, Tx: 1, Namespace: "cc", Collection: "forever", ExpectedHash: want[:]}}, mismatches); d != "" {
		t.Error(d)
	}
	if c.value("forever", "a") != "1@2:0" || len(c.stored(2)) != 1 {
		t.Errorf("value %q, stored %v", c.value("forever", "a"), c.stored(2))
	}
	for _, line := range []string{
		"No hash of private data of collection [cc:forever] in transaction [2] of block [2]: data dropped",
		"No hash of private data of collection [cc:forever] in transaction [3] of block [2]: data dropped",
		"Private data of transaction [9] of block [2] dropped: Entry not found in index",
		"Private data of transaction [0] of block [7] dropped: Entry not found in index",
	} {
		if !strings.Contains(out.String(), "[ch] "+line+"\n") {
			t.Errorf("no line %q in:\n%s", line, out.String())
		}
	}
}

// TestReconciliationOfExpired: what has expired is not stored any more, purged or
// not; nor are data that nobody misses.
func TestReconciliationOfExpired(t *testing.T) {
	t.Parallel()
	cfg := vectorConfig(t, vfs.NewMem())
	cfg.PurgeInterval = 6
	c := newPrivateChain(t, cfg)
	c.block(ptx{write: put("short", "k", "1")}, ptx{write: put("forever", "k", "1")})
	for range 4 { // the data of block 2 expire with block 5 and are purged with block 6
		c.block(ptx{write: func(b *sets.Builder) { b.Write("cc", "public", []byte("1")) }})
	}
	must(t, c.l.private.Work(t.Context()))
	mismatches, err := c.l.CommitReconciled([]ReconciledData{c.late(2, 0)})
	if err != nil || len(mismatches) != 0 {
		t.Fatal(mismatches, err)
	}
	if len(c.stored(2)) != 0 || c.value("short", "k") != "" {
		t.Errorf("stored %v, value %q", c.stored(2), c.value("short", "k"))
	}
	for range 2 {
		if _, err := c.l.CommitReconciled([]ReconciledData{c.late(2, 1)}); err != nil {
			t.Fatal(err)
		}
	}
	if d := cmp.Diff(map[uint64]bool{1: true}, c.stored(2)); d != "" || c.value("forever", "k") != "1@2:1" {
		t.Errorf("%s, value %q", d, c.value("forever", "k"))
	}
}

// TestReconciliationInterrupted: data that are in the private store and not in the
// state are applied at the next opening, or before the next reconciliation; blocks
// that the block store does not have are passed over (LEDGER §16).
func TestReconciliationInterrupted(t *testing.T) {
	t.Parallel()
	fsys := vfs.NewMem()
	cfg := vectorConfig(t, fsys)
	c := newPrivateChain(t, cfg)
	c.block(ptx{write: put("forever", "a", "1")}, ptx{write: put("forever", "b", "1")})
	old := map[uint64]map[uint64]*rwset.TxPvtReadWriteSet{2: {0: c.sets[2][0]}}
	must(t, c.l.private.CommitOld(old))
	if c.value("forever", "a") != "" {
		t.Fatal("in the state already")
	}
	after := fsys.Crash(vfs.LoseUnsynced, 0)
	edit(t, after, "pvtdataStore", func(_ *kv.Store, b *kv.Batch) {
		b.Put([]byte("ch\x00\x07"), []byte{2, 2, 99}) // and a block of another time
	})

	_, err := c.l.CommitReconciled([]ReconciledData{c.late(2, 1)})
	must(t, err)
	if a, b := c.value("forever", "a"), c.value("forever", "b"); a != "1@2:0" || b != "1@2:1" {
		t.Errorf("values %q, %q", a, b)
	}
	cfg.FS = after
	c.l = openLedger(t, openProvider(t, cfg), "ch")
	if a := c.value("forever", "a"); a != "1@2:0" {
		t.Errorf("after reopening: %q", a)
	}
	if blocks, err := c.l.private.OldBlocks(); len(blocks) != 0 || err != nil {
		t.Errorf("old blocks %v, %v", blocks, err)
	}
}

// TestBlockToLiveIsRemembered: the block to live of a collection is that of its
// first use, as long as the process runs (LEDGER §8.3).
func TestBlockToLiveIsRemembered(t *testing.T) {
	t.Parallel()
	fsys := vfs.NewMem()
	cfg := vectorConfig(t, fsys)
	c := newPrivateChain(t, cfg)
	life := func() uint64 {
		t.Helper()
		n, err := c.l.blockToLive("cc", "short")
		must(t, err)
		return n
	}
	if n := life(); n != 2 {
		t.Errorf("block to live %d", n)
	}
	pkg, err := parseCollections(collections("forever"))
	must(t, err)
	pkg.Config[1].GetStaticCollectionConfig().BlockToLive = 9
	c.block(ptx{write: func(b *sets.Builder) {
		b.Write("lscc", "cc", []byte("definition"))
		b.Write("lscc", "cc~collection", protoutil.Marshal(pkg))
	}})
	if n := life(); n != 2 {
		t.Errorf("after an upgrade: %d", n)
	}
	after := fsys.Crash(vfs.KeepUnsynced, 0)
	cfg.FS = after
	c.l = openLedger(t, openProvider(t, cfg), "ch")
	if n := life(); n != 9 {
		t.Errorf("after a restart: %d", n)
	}
	if _, err := c.l.blockToLive("cc", "none"); err == nil || err.Error() != "collection /cc/none could not be found" {
		t.Errorf("unknown collection: %v", err)
	}
}

// TestConfigHistoryBounds: answers are of the chaincode asked about, and of blocks
// that exist (LEDGER §7).
func TestConfigHistoryBounds(t *testing.T) {
	t.Parallel()
	c := newPrivateChain(t, vectorConfig(t, vfs.NewMem()))
	pkg := collections("forever")
	c.block(ptx{write: func(b *sets.Builder) {
		for _, cc := range []string{"c", "cca", "cc\x00x"} { // neighbours of cc
			b.Write("lscc", cc, []byte("definition"))
			b.Write("lscc", cc+"~collection", pkg)
		}
	}})
	c.block(ptx{write: func(b *sets.Builder) { b.Write("lscc", "cc", []byte("again")) }})              // the package stays
	c.block(ptx{write: func(b *sets.Builder) { b.Write("lscc", "cc~collection", nil) }})               // a delete is passed over
	c.block(ptx{write: func(b *sets.Builder) { b.Write("lscc", "cc", []byte("without collection")) }}) // nothing to record
	c.block(ptx{write: func(b *sets.Builder) { b.Write("other", "cc~collection", pkg) }})
	for _, tc := range []struct {
		chaincode string
		below, at uint64
	}{
		{"cc", 1, 0},
		{"cc", 2, 1},
		{"cc", 3, 1},
		{"cc", 4, 3},
		{"cc", 100, 3},
		{"b", 100, 0},
		{"cb", 100, 0},
		{"c", 100, 2},
		{"c", 2, 0},
		{"cca", 3, 2},
		{"cca", 2, 0},
		{"cc~collection", 100, 0},
		{"", 100, 0},
		{"zz", 100, 0},
	} {
		got, at, err := c.l.CollectionConfigBelow(tc.below, tc.chaincode)
		if err != nil || at != tc.at || (got != nil) != (tc.at > 0) {
			t.Errorf("%s below %d: %d, %v, %v", tc.chaincode, tc.below, at, got != nil, err)
		}
	}
	if _, _, err := c.l.CollectionConfigBelow(0, "cc"); !errors.Is(err, ErrBlockZero) || err.Error() != "blockNum should be greater than 0" {
		t.Errorf("below 0: %v", err)
	}
	for block, want := range map[uint64]bool{0: false, 1: true, 2: false, 3: true, 4: false, 5: false, 6: false} {
		if got, err := c.l.CollectionConfigAt(block, "cc"); err != nil || (got != nil) != want {
			t.Errorf("at %d: %v, %v", block, got, err)
		}
	}
	for _, block := range []uint64{7, 8} {
		var notYet *NotYetError
		if _, err := c.l.CollectionConfigAt(block, "cc"); !errors.As(err, &notYet) || notYet.Last != 6 ||
			err.Error() != fmt.Sprintf("The maximum block number committed [6] is less than the requested block number [%d]", block) {
			t.Errorf("at %d: %v", block, err)
		}
	}
}

// TestEligibilityEvents: an event is raised when this organisation becomes a
// member of a collection that was there before, and for nothing else (LEDGER
// §8.7).
func TestEligibilityEvents(t *testing.T) {
	t.Parallel()
	fsys := vfs.NewMem()
	c := newPrivateChain(t, vectorConfig(t, fsys))
	events := func() (out []string) {
		t.Helper()
		for key, value := range dump(t, fsys.Crash(vfs.KeepUnsynced, 0))["pvtdataStore"] {
			key, ok := strings.CutPrefix(key, hex.EncodeToString([]byte("ch\x00")))
			if !ok || !strings.HasPrefix(key, "06") {
				continue
			}
			info := &ledgerstore.CollElgInfo{}
			must(t, unmarshal(unhex(t, value), info))
			for ns, names := range info.NsCollMap {
				out = append(out, fmt.Sprintf("%s %s %v", key, ns, names.Entries))
			}
		}
		return out
	}
	if got := events(); len(got) != 0 {
		t.Errorf("first deployment: %v", got)
	}
	c.block(ptx{write: deployCC("forever")})                                                          // leaves short
	c.block(ptx{write: deployCC("forever", "other"), code: peer.TxValidationCode_MVCC_READ_CONFLICT}) // invalid
	c.block(ptx{write: func(b *sets.Builder) { b.Write("lscc", "cc", []byte("definition only")) }})
	if got := events(); len(got) != 0 {
		t.Errorf("before: %v", got)
	}
	c.block(ptx{write: put("other", "k", "1")}, ptx{write: deployCC("forever", "short", "other")})
	if d := cmp.Diff([]string{"0607fa cc [short other]"}, events()); d != "" {
		t.Error(d)
	}
	must(t, c.l.private.Work(t.Context()))
	if got := events(); len(got) != 0 {
		t.Errorf("afterwards: %v", got)
	}
	missing, err := c.l.MissingPrivateData(10)
	must(t, err)
	if len(missing[5][0]) != 1 { // of the event's own block
		t.Errorf("missing: %v", missing)
	}
}

// TestNewCollectionsRaiseNoEvent: of a collection that was not there nothing can be
// missing (LEDGER §8.7).
func TestNewCollectionsRaiseNoEvent(t *testing.T) {
	t.Parallel()
	fsys := vfs.NewMem()
	c := newPrivateChain(t, vectorConfig(t, fsys))
	before := &peer.CollectionConfigPackage{}
	must(t, unmarshal(collections("forever"), before))
	before.Config = before.Config[:2] // without collection other
	c.block(ptx{write: func(b *sets.Builder) { b.Write("lscc", "cc~collection", protoutil.Marshal(before)) }})
	c.block(ptx{write: deployCC("forever", "other")})
	for key := range dump(t, fsys.Crash(vfs.KeepUnsynced, 0))["pvtdataStore"] {
		if strings.HasPrefix(key, hex.EncodeToString([]byte("ch\x00\x06"))) {
			t.Errorf("event %s", key)
		}
	}
}

// TestReconciledDataOfInvalidTransactions go into the private store and not into the
// state, where they would stand in the way of valid ones (LEDGER §16).
func TestReconciledDataOfInvalidTransactions(t *testing.T) {
	t.Parallel()
	c := newPrivateChain(t, vectorConfig(t, vfs.NewMem()))
	c.block(
		ptx{write: put("forever", "k", "v")},
		ptx{write: put("forever", "k", "no"), code: peer.TxValidationCode_ENDORSEMENT_POLICY_FAILURE},
	)
	mismatches, err := c.l.CommitReconciled([]ReconciledData{c.late(2, 0, 1)})
	if err != nil || len(mismatches) > 0 {
		t.Fatal(mismatches, err)
	}
	if v := c.value("forever", "k"); v != "v@2:0" {
		t.Errorf("k is %q", v)
	}
	if data, err := c.l.PrivateDataOf(2, nil); err != nil || len(data) != 2 {
		t.Errorf("private store: %v, %v", data, err)
	}
}

// Data of one block may come from several peers: in parts, some of them twice.
func TestReconciledDataInParts(t *testing.T) {
	t.Parallel()
	c := newPrivateChain(t, vectorConfig(t, vfs.NewMem()))
	c.block(
		ptx{write: func(b *sets.Builder) {
			put("forever", "a", "1")(b)
			put("short", "b", "2")(b)
			b.WritePrivate("cc2", "coll", "c", []byte("3"))
		}},
		ptx{write: put("forever", "d", "4")},
	)
	whole := c.sets[2][0]
	if len(whole.NsPvtRwset) != 2 || len(whole.NsPvtRwset[0].CollectionPvtRwset) != 2 {
		t.Fatal(whole)
	}
	part := func(ns, coll int) ReconciledData {
		return ReconciledData{Block: 2, Sets: map[uint64]*rwset.TxPvtReadWriteSet{0: {NsPvtRwset: []*rwset.NsPvtReadWriteSet{{
			Namespace:          whole.NsPvtRwset[ns].Namespace,
			CollectionPvtRwset: whole.NsPvtRwset[ns].CollectionPvtRwset[coll : coll+1],
		}}}}}
	}
	mismatches, err := c.l.CommitReconciled([]ReconciledData{part(0, 0), part(0, 1), part(0, 0), c.late(2, 1), part(1, 0)})
	if err != nil || len(mismatches) != 0 {
		t.Fatal(mismatches, err)
	}
	if a, b, d := c.value("forever", "a"), c.value("short", "b"), c.value("forever", "d"); a != "1@2:0" || b != "2@2:0" || d != "4@2:1" {
		t.Errorf("a %q, b %q, d %q", a, b, d)
	}
	data, err := c.l.PrivateDataOf(2, nil)
	must(t, err)
	var got []string
	for _, ns := range data[0].GetNsPvtRwset() {
		for _, coll := range ns.CollectionPvtRwset {
			got = append(got, ns.Namespace+"/"+coll.CollectionName)
		}
	}
	if d := cmp.Diff([]string{"cc/forever", "cc/short", "cc2/coll"}, got); d != "" {
		t.Error(d)
	}
	if len(whole.NsPvtRwset[0].CollectionPvtRwset) != 2 {
		t.Error("the caller's data were changed")
	}
}
