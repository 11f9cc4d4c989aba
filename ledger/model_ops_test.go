package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/vfs"
)

// modelOps are the operations with their weights.
var modelOps = []struct {
	name   string
	weight int
	do     func(*modelRun, *rand.Rand)
	// snapshots is set for what only a state database with snapshots can do,
	// onDisk for what needs the state in the directory.
	snapshots, onDisk bool
}{
	{"simulate", 30, (*modelRun).simulate, false, false},
	{"block", 16, (*modelRun).block, false, false},
	{"query", 10, (*modelRun).query, false, false},
	{"history", 5, (*modelRun).askHistory, false, false},
	{"blocks", 5, (*modelRun).askBlocks, false, false},
	{"hold", 5, (*modelRun).hold, true, false},
	{"read held", 8, (*modelRun).readHeld, true, false},
	{"reconcile", 5, (*modelRun).reconcile, false, false},
	{"missing", 3, (*modelRun).askMissing, false, false},
	{"reopen", 2, (*modelRun).reopen, false, false},
	{"crash", 4, (*modelRun).crash, false, false},
	{"rollback", 1, (*modelRun).rollback, false, true},
	{"rebuild", 1, (*modelRun).rebuild, false, true},
}

func pick[T any](rng *rand.Rand, list []T) T { return list[rng.IntN(len(list))] }

func (r *modelRun) space(rng *rand.Rand) string { return pick(rng, []string{"cc1", "cc1", "cc2"}) }

func (r *modelRun) key(rng *rand.Rand) string { return pick(rng, r.keys) }

// value is any value but an empty one.
func (r *modelRun) value(rng *rand.Rand) string {
	n := rng.IntN(1000)
	return pick(rng, []string{
		fmt.Sprint("v", n), fmt.Sprintf(`{"n":%d}`, n), fmt.Sprintf(`{"z":"<%d>","a":[1,{"b":null}],"ü":1.50}`, n),
		fmt.Sprintf("\x00\xff%d", n), fmt.Sprintf(`[%d]`, n), fmt.Sprintf(`{"n":%d} `, n), "null", "{}",
	})
}

// simulatedTx is a transaction that waits for a block.
type simulatedTx struct {
	*modelTx
	envelope []byte
	private  *rwset.TxPvtReadWriteSet
}

// simulate makes a transaction on the present state.
func (r *modelRun) simulate(rng *rand.Rand) {
	if len(r.pool) > 8 {
		r.pool = r.pool[1:]
	}
	r.ids++
	tx := &modelTx{id: fmt.Sprintf("%064x", r.ids), spaces: map[string]*modelSpace{}}
	sim, err := r.l.NewSimulator(tx.id)
	r.must(err)
	defer sim.Done()
	if tx.withheld = rng.IntN(6) == 0; tx.withheld {
		// Nobody else knows these keys, so that it does not matter when they come.
		coll := pick(rng, []string{"collA", "collB"})
		r.setPrivate(sim, tx, coll, "w"+tx.id[56:], r.value(rng))
	}
	for range 1 + rng.IntN(5) {
		if !r.call(rng, sim, tx) {
			return // a call was refused, as it should be
		}
	}
	res, err := sim.Results()
	r.must(err)
	r.pool = append(r.pool, &simulatedTx{tx, storyEnvelope("ch", tx.id, res.Public), res.Private})
}

// call makes one call of a simulation; false means that it is spoilt.
func (r *modelRun) call(rng *rand.Rand, sim *Simulator, tx *modelTx) bool {
	ns, key := r.space(rng), r.key(rng)
	s, k := tx.space(ns), modelKey{ns, key}
	coll := pick(rng, []string{"collA", "collB"})
	private := !tx.withheld
	switch n := rng.IntN(14); {
	case n < 2:
		got, err := sim.GetState(ns, key)
		r.must(err)
		r.sameValue("state", k, r.m.world(), got)
		s.reads[k] = versionIn(r.m.world(), k)
	case n < 4:
		v := r.value(rng)
		r.must(sim.SetState(ns, key, []byte(v)))
		s.writes[k] = v
	case n < 5:
		r.must(sim.DeleteState(ns, key))
		s.writes[k] = ""
	case n < 6:
		v := pick(rng, []string{"", "1", "2"})
		if v == "" {
			r.must(sim.DeleteStateMetadata(ns, key))
		} else {
			r.must(sim.SetStateMetadata(ns, key, metadata("m", v)))
		}
		s.meta[key] = v
	case n < 7:
		r.scan(rng, sim, ns, s)
	case n < 11 && private:
		v := r.value(rng)
		if rng.IntN(4) == 0 {
			v = ""
		}
		// Few keys, so that they are written again before they expire. An empty one
		// counts as not known in the schedule (LEDGER §9.1).
		r.setPrivate(sim, tx, coll, r.keys[rng.IntN(4)], v)
	case n < 13:
		got, err := sim.GetPrivateData("cc1", coll, key)
		if !r.samePrivate(coll, key, r.m.world(), got, err) {
			return false
		}
		h := modelKey{hashedSpace("cc1", coll), key}
		tx.space("cc1").reads[h] = versionIn(r.m.world(), h)
	default:
		h := modelKey{hashedSpace("cc1", coll), key}
		got, err := sim.GetPrivateDataHash("cc1", coll, key)
		r.must(err)
		want := ""
		if v, ok := r.m.world()[h]; ok {
			want = sha(v.value)
		}
		if string(got) != want {
			r.failf("hash of %v is %x, want %x", h, got, want)
		}
		tx.space("cc1").reads[h] = versionIn(r.m.world(), h)
	}
	return true
}

func (r *modelRun) setPrivate(sim *Simulator, tx *modelTx, coll, key, v string) {
	r.must(sim.SetPrivateData("cc1", coll, key, []byte(v)))
	s := tx.space("cc1")
	s.writes[modelKey{hashedSpace("cc1", coll), key}] = v
	s.private[modelKey{privateSpace("cc1", coll), key}] = v
}

// scan pulls some or all results of a range.
func (r *modelRun) scan(rng *rand.Rand, sim *Simulator, ns string, s *modelSpace) {
	q := modelRange{start: r.key(rng), end: r.key(rng)}
	if rng.IntN(3) == 0 {
		q.start, q.end = "", ""
	}
	all := scanModel(r.m.world(), nil, ns, q)
	pulls := rng.IntN(len(all) + 3)
	it, err := sim.GetStateRange(ns, q.start, q.end)
	r.must(err)
	for i := range pulls {
		kv, err := it.Next()
		r.must(err)
		if i >= len(all) {
			if kv != nil {
				r.failf("range %q to %q of %s goes on with %q", q.start, q.end, ns, kv.Key)
			}
			q.saw = all
			s.ranges = append(s.ranges, q)
			return
		}
		if kv == nil || kv.Key != all[i].key {
			r.failf("range %q to %q of %s has %v in place %d, want %q", q.start, q.end, ns, kv, i, all[i].key)
		}
		r.sameValue("range", modelKey{ns, kv.Key}, r.m.world(), kv.Value)
	}
	q.saw, q.stopped, q.end = all[:pulls], true, ""
	if pulls > 0 {
		q.end = all[pulls-1].key
	}
	s.ranges = append(s.ranges, q)
}

func versionIn(w modelWorld, k modelKey) *modelVersion {
	if v, ok := w[k]; ok {
		return &v.version
	}
	return nil
}

// sameValue compares a public value.
func (r *modelRun) sameValue(what string, k modelKey, w modelWorld, got []byte) {
	v, ok := w[k]
	if want := r.m.asRead(v.value); ok != (got != nil) || string(got) != want {
		r.failf("%s: %v is %q, want %q (there: %v)", what, k, got, want, ok)
	}
}

// samePrivate compares a private value; false means that it could not be had, as
// it should be.
func (r *modelRun) samePrivate(coll, key string, w modelWorld, got []byte, err error) bool {
	h, hashed := w[modelKey{hashedSpace("cc1", coll), key}]
	p, there := w[modelKey{privateSpace("cc1", coll), key}]
	if hashed != there || hashed && h.version != p.version {
		var unavailable *PrivateDataUnavailableError
		if !errors.As(err, &unavailable) {
			r.failf("private %s %q is %q, %v; want it to be unavailable", coll, key, got, err)
		}
		return false
	}
	r.must(err)
	if want := r.m.asRead(p.value); string(got) != want {
		r.failf("private %s %q is %q, want %q", coll, key, got, want)
	}
	return true
}

// block commits some of the transactions that wait.
func (r *modelRun) block(rng *rand.Rand) {
	r.dropHeld()
	var txs []*simulatedTx
	for range rng.IntN(6) {
		switch n := rng.IntN(12); {
		case n == 0:
			txs = append(txs, &simulatedTx{
				modelTx: &modelTx{config: true}, envelope: envelopeOf(common.HeaderType_CONFIG, "ch", "",
					protoutil.Marshal(&common.ConfigEnvelope{Config: &common.Config{Sequence: uint64(len(r.m.blocks))}})),
			})
		case n == 1 && len(r.used) > 0:
			old := pick(rng, r.used)
			again := *old.modelTx
			again.preset, again.withheld = byte(peer.TxValidationCode_DUPLICATE_TXID), false
			txs = append(txs, &simulatedTx{&again, old.envelope, nil})
		case len(r.pool) > 0:
			i := rng.IntN(len(r.pool))
			tx := r.pool[i]
			r.pool = slices.Delete(r.pool, i, i+1)
			if n == 2 {
				tx.preset = byte(peer.TxValidationCode_ENDORSEMENT_POLICY_FAILURE)
			}
			txs = append(txs, tx)
			r.used = append(r.used, tx)
		}
	}
	r.commit(txs)
}

func (r *modelRun) commit(txs []*simulatedTx) {
	prev, err := r.l.BlockByNumber(uint64(len(r.m.blocks) - 1))
	r.must(err)
	b := protoutil.NewBlock(uint64(len(r.m.blocks)), protoutil.BlockHash(prev.Header))
	private := &PrivateData{Sets: map[uint64]*rwset.TxPvtReadWriteSet{}, Missing: map[uint64][]MissingCollection{}}
	flags := make([]byte, len(txs))
	var model []*modelTx
	for i, tx := range txs {
		b.Data.Data = append(b.Data.Data, tx.envelope)
		flags[i] = tx.preset
		model = append(model, tx.modelTx)
		r.late[modelVersion{b.Header.Number, uint64(i)}] = tx.private
		switch {
		case tx.private == nil:
		case tx.withheld:
			for _, coll := range tx.collections() {
				private.Missing[uint64(i)] = append(private.Missing[uint64(i)], MissingCollection{Namespace: "cc1", Collection: coll, Eligible: true})
			}
		default:
			private.Sets[uint64(i)] = tx.private
		}
	}
	b.Header.DataHash = protoutil.DataHash(b.Data.Data)
	protoutil.PadMetadata(b)
	setFlags(b, flags)
	r.raw = append(r.raw, b)
	r.give(b, private)
	r.sameCodes(r.m.commit(model))
	r.must(r.l.private.Work(r.t.Context()))
}

func (r *modelRun) give(b *common.Block, private *PrivateData) {
	r.must(r.l.CommitWithPrivateData(protoutil.ParseBlock(proto.Clone(b).(*common.Block)), private))
}

func (r *modelRun) sameCodes(want *modelBlock) {
	b, err := r.l.BlockByNumber(uint64(len(r.m.blocks) - 1))
	r.must(err)
	if got := protoutil.ParseBlock(b).Flags(); !bytes.Equal(got, want.codes) {
		r.failf("block %d has codes %v, want %v", b.Header.Number, got, want.codes)
	}
}

// query asks a fresh executor for a few things, or for everything.
func (r *modelRun) query(rng *rand.Rand) {
	q, err := r.l.NewQueryExecutor()
	r.must(err)
	defer q.Done()
	r.compareSome(rng, q, r.m.world())
	if rng.IntN(5) == 0 {
		r.compareAll(q)
	}
}

func (r *modelRun) compareSome(rng *rand.Rand, q *QueryExecutor, w modelWorld) {
	for range 3 {
		k := modelKey{r.space(rng), r.key(rng)}
		got, err := q.GetState(k.space, k.key)
		r.must(err)
		r.sameValue("query", k, w, got)
		meta, err := q.GetStateMetadata(k.space, k.key)
		r.must(err)
		if string(meta["m"]) != w[k].metadata {
			r.failf("metadata of %v are %q, want %q", k, meta, w[k].metadata)
		}
		coll := pick(rng, []string{"collA", "collB"})
		got, err = q.GetPrivateData("cc1", coll, k.key)
		r.samePrivate(coll, k.key, w, got, err)
	}
	keys := r.keys[:1+rng.IntN(len(r.keys))]
	values, err := q.GetStateMultiple("cc1", keys)
	r.must(err)
	for i, key := range keys {
		r.sameValue("multiple", modelKey{"cc1", key}, w, values[i])
	}
	ns, start, end := r.space(rng), r.key(rng), r.key(rng)
	r.pages(rng, q, ns, start, end, w)
}

// pages walks over a range page by page.
func (r *modelRun) pages(rng *rand.Rand, q *QueryExecutor, ns, start, end string, w modelWorld) {
	var got, want []string
	for _, s := range scanModel(w, nil, ns, modelRange{start: start, end: end}) {
		want = append(want, s.key)
	}
	size := int32(1 + rng.IntN(5))
	for at, more := start, true; more; {
		it, err := q.GetStateRangePage(ns, at, end, size)
		r.must(err)
		n := int32(0)
		for kv, err := it.Next(); kv != nil || err != nil; kv, err = it.Next() {
			r.must(err)
			got = append(got, kv.Key)
			n++
		}
		mark := it.Bookmark()
		more = n == size && mark != "" && mark != end
		at = mark
		it.Close()
	}
	if !slices.Equal(got, want) {
		r.failf("pages of %s from %q to %q: %q, want %q", ns, start, end, got, want)
	}
}

// compareAll compares the whole state.
func (r *modelRun) compareAll(q *QueryExecutor) {
	w := r.m.world()
	for _, ns := range []string{"cc1", "cc2"} {
		it, err := q.GetStateRange(ns, "", "")
		r.must(err)
		var got []string
		for kv, err := it.Next(); kv != nil || err != nil; kv, err = it.Next() {
			r.must(err)
			r.sameValue("everything", modelKey{ns, kv.Key}, w, kv.Value)
			got = append(got, kv.Key)
		}
		it.Close()
		if want := w.keys(ns); !slices.Equal(got, want) {
			r.failf("keys of %s: %q, want %q", ns, got, want)
		}
		for _, key := range got {
			meta, err := q.GetStateMetadata(ns, key)
			r.must(err)
			if k := (modelKey{ns, key}); string(meta["m"]) != w[k].metadata {
				r.failf("metadata of %v are %q, want %q", k, meta, w[k].metadata)
			}
		}
	}
	for _, coll := range []string{"collA", "collB"} {
		keys := append(w.keys(hashedSpace("cc1", coll)), w.keys(privateSpace("cc1", coll))...)
		for _, key := range append(keys, r.keys...) {
			got, err := q.GetPrivateData("cc1", coll, key)
			r.samePrivate(coll, key, w, got, err)
			hash, err := q.GetPrivateDataHash("cc1", coll, key)
			r.must(err)
			if v, ok := w[modelKey{hashedSpace("cc1", coll), key}]; ok != (hash != nil) || ok && string(hash) != sha(v.value) {
				r.failf("hash of %s %q is %x, want that of %q", coll, key, hash, v.value)
			}
		}
	}
}

func (r *modelRun) askHistory(rng *rand.Rand) {
	below := uint64(len(r.m.blocks))
	if rng.IntN(2) == 0 {
		below = rng.Uint64N(below + 1)
	}
	h, err := r.l.NewHistoryExecutor(below)
	r.must(err)
	defer h.Done()
	for range 4 {
		ns, key := r.space(rng), r.key(rng)
		it, err := h.GetHistoryForKey(ns, key)
		r.must(err)
		var got []string
		for m, err := it.Next(); m != nil || err != nil; m, err = it.Next() {
			r.must(err)
			if m.IsDelete != (len(m.Value) == 0) {
				r.failf("history of %s %q: %v", ns, key, m)
			}
			got = append(got, m.TxId+"="+string(m.Value))
		}
		it.Close()
		if want := r.m.history(ns, key, below); !slices.Equal(got, want) {
			r.failf("history of %s %q: %q, want %q", ns, key, got, want)
		}
	}
}

func (r *modelRun) askBlocks(rng *rand.Rand) {
	height := uint64(len(r.m.blocks))
	if info := r.l.Info(); info.Height != height || r.l.Height() != height {
		r.failf("height %d, %d; want %d", info.Height, r.l.Height(), height)
	}
	n := rng.Uint64N(height)
	b, err := r.l.BlockByNumber(n)
	r.must(err)
	byHash, err := r.l.BlockByHash(protoutil.BlockHash(b.Header))
	r.must(err)
	if b.Header.Number != n || !proto.Equal(b, byHash) || n > 0 && !proto.Equal(b.Data, r.raw[n].Data) {
		r.failf("block %d is %v, by hash %v", n, b.Header, byHash.Header)
	}
	if _, err := r.l.BlockByNumber(height); !errors.Is(err, ErrNotFound) {
		r.failf("block %d: %v", height, err)
	}
	txid := fmt.Sprintf("%064x", 1+rng.IntN(r.ids+2))
	at, i, known := r.m.find(txid)
	tx, err := r.l.TransactionByID(txid)
	if !known {
		if has, herr := r.l.HasTx(txid); !errors.Is(err, ErrNotFound) || herr != nil || has {
			r.failf("transaction %s: %v, %v", txid, err, has)
		}
		return
	}
	r.must(err)
	of, err := r.l.BlockByTxID(txid)
	r.must(err)
	if code := r.m.blocks[at].codes[i]; tx.ValidationCode != int32(code) || of.Header.Number != uint64(at) {
		r.failf("transaction %s has code %d in block %d, want %d in %d", txid, tx.ValidationCode, of.Header.Number, code, at)
	}
}

// hold opens an executor that stays open while blocks are committed.
func (r *modelRun) hold(*rand.Rand) {
	if len(r.held) == 3 {
		r.held[0].q.Done()
		r.held = r.held[1:]
	}
	q, err := r.l.NewQueryExecutor()
	r.must(err)
	r.held = append(r.held, heldQuery{q, maps.Clone(r.m.world())})
}

// readHeld reads the state of some time ago.
func (r *modelRun) readHeld(rng *rand.Rand) {
	if len(r.held) == 0 {
		return
	}
	h := pick(rng, r.held)
	// The hints that spare look-ups of metadata are of today.
	r.compareSome(rng, h.q, h.world)
}

// dropHeld ends executors where a commit would wait for them.
func (r *modelRun) dropHeld() {
	if !r.snapshots {
		r.release()
	}
}

func (r *modelRun) release() {
	for _, h := range r.held {
		h.q.Done()
	}
	r.held = nil
}

// reconcile brings data that were missing, some of them false.
func (r *modelRun) reconcile(rng *rand.Rand) {
	r.dropHeld()
	var wanted []modelVersion
	for n := range r.m.blocks {
		for tx := range r.m.missing(uint64(n)) {
			wanted = append(wanted, modelVersion{uint64(n), tx})
		}
	}
	if len(wanted) == 0 {
		return
	}
	slices.SortFunc(wanted, func(a, b modelVersion) int { return int(a.block*1000+a.tx) - int(b.block*1000+b.tx) })
	at := pick(rng, wanted)
	set := r.late[at]
	if rng.IntN(4) == 0 {
		bad, err := r.l.CommitReconciled([]ReconciledData{old(at.block, at.tx, falsified(set))})
		r.must(err)
		if len(bad) != 1 || bad[0].Block != at.block || bad[0].Tx != at.tx {
			r.failf("false data of %v: %v", at, bad)
		}
	}
	bad, err := r.l.CommitReconciled([]ReconciledData{old(at.block, at.tx, set)})
	r.must(err)
	if len(bad) != 0 {
		r.failf("data of %v: %v", at, bad)
	}
	r.m.reconcile(at.block, at.tx)
}

func (r *modelRun) askMissing(*rand.Rand) {
	got, err := r.l.MissingPrivateData(1000)
	r.must(err)
	for n := range uint64(len(r.m.blocks)) {
		want := r.m.missing(n)
		have := map[uint64][]string{}
		for tx, colls := range got[n] {
			for _, c := range colls {
				have[tx] = append(have[tx], c.Collection)
			}
			slices.Sort(have[tx])
		}
		if !maps.EqualFunc(want, have, slices.Equal[[]string]) {
			r.failf("missing of block %d: %v, want %v", n, have, want)
		}
	}
}

func (r *modelRun) reopen(rng *rand.Rand) {
	r.close()
	r.open()
	r.checkEverything(rng)
}

// crash ends the machine or the process between two operations: everything that
// was acknowledged must be there.
func (r *modelRun) crash(rng *rand.Rand) {
	mode := vfs.CrashMode(rng.IntN(4))
	after := r.fs.Crash(mode, rng.Uint64())
	r.close()
	r.fs = after
	r.open()
	r.checkEverything(rng)
}

func (r *modelRun) rollback(rng *rand.Rand) {
	if len(r.m.blocks) < 4 {
		return
	}
	r.close()
	target := 1 + rng.Uint64N(uint64(len(r.m.blocks)-2))
	r.must(Rollback(r.cfg, "ch", target))
	r.open()
	if h := r.l.Height(); h != target+1 {
		r.failf("height %d after a rollback to block %d", h, target)
	}
	for _, b := range r.raw[target+1:] {
		r.give(b, nil)
	}
	r.sameCodes(r.m.blocks[len(r.m.blocks)-1])
	r.must(r.l.private.Work(r.t.Context()))
	r.checkEverything(rng)
}

// rebuild drops what is made from the blocks.
func (r *modelRun) rebuild(rng *rand.Rand) {
	r.close()
	for _, dir := range []string{dirState, dirBookkeeper, dirConfHistory, dirHistory, "chains/index"} {
		r.must(r.fs.RemoveAll(path.Join(testDir, dir)))
	}
	r.open()
	r.checkEverything(rng)
}

func (r *modelRun) checkEverything(rng *rand.Rand) {
	if h := r.l.Height(); h != uint64(len(r.m.blocks)) {
		r.failf("height %d, want %d", h, len(r.m.blocks))
	}
	q, err := r.l.NewQueryExecutor()
	r.must(err)
	r.compareAll(q)
	q.Done()
	r.askHistory(rng)
	r.askBlocks(rng)
	r.askMissing(rng)
}
