package ledger

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math"
	"slices"

	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset/kvrwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/ledger/bookkeeper"
	"github.com/heddle-ledger/heddle/ledger/mvcc"
	"github.com/heddle-ledger/heddle/ledger/state"
	"github.com/heddle-ledger/heddle/protos/ledgerstore"
)

// ReconciledData is private data of an old block that arrived late.
type ReconciledData struct {
	Block uint64
	Sets  map[uint64]*rwset.TxPvtReadWriteSet // by transaction number
}

// HashMismatch is reconciled data that was not what the block names.
type HashMismatch struct {
	Block, Tx             uint64
	Namespace, Collection string
	ExpectedHash          []byte
}

// Crash points of CommitReconciled.
const (
	PointAfterOldPrivate     = "ledger/after-old-private-data"
	PointAfterOldBookkeeping = "ledger/after-old-bookkeeping"
	PointAfterOldState       = "ledger/after-old-state"
)

// CommitReconciled adds private data of old blocks that were missing (LEDGER
// §16). Data whose hash is not the one in the block are dropped and reported. Data
// of one transaction may come in several parts.
func (l *Ledger) CommitReconciled(data []ReconciledData) ([]HashMismatch, error) {
	l.commitMu.Lock()
	defer l.commitMu.Unlock()
	if reason := l.stopReason(); reason != nil {
		return nil, reason
	}
	defer l.packages.forget()
	if err := l.finishOld(); err != nil { // of an earlier call that failed
		return nil, err
	}
	var mismatches []HashMismatch
	verified := map[uint64]map[uint64]*rwset.TxPvtReadWriteSet{}
	for _, d := range data {
		for tx, set := range d.Sets {
			good, bad, err := l.verifyOld(d.Block, tx, set)
			if err != nil {
				return nil, err
			}
			mismatches = append(mismatches, bad...)
			if good == nil {
				continue
			}
			sets := verified[d.Block]
			if sets == nil {
				sets = map[uint64]*rwset.TxPvtReadWriteSet{}
				verified[d.Block] = sets
			}
			sets[tx] = joinVerified(sets[tx], good)
		}
	}
	if len(verified) == 0 {
		return mismatches, nil
	}
	if err := l.private.CommitOld(verified); err != nil {
		return nil, err
	}
	if err := l.points.Hit(PointAfterOldPrivate); err != nil {
		return nil, err
	}
	return mismatches, l.applyOld(verified)
}

// verifyOld keeps the collections whose hash is the one that the transaction
// names.
func (l *Ledger) verifyOld(block, number uint64, set *rwset.TxPvtReadWriteSet) (*rwset.TxPvtReadWriteSet, []HashMismatch, error) {
	raw, err := l.blocks.TxBytesByBlockTx(block, number)
	if err != nil && !isNotFound(err) {
		return nil, nil, fmt.Errorf("transaction [%d] of block [%d]: %w", number, block, err)
	}
	var public *protoutil.TxRWSet
	if err == nil {
		public, err = protoutil.ParseTx(raw).RWSet()
	}
	if err != nil {
		l.log.Warningf("[%s] Private data of transaction [%d] of block [%d] dropped: %s", l.id, number, block, err)
		return nil, nil, nil
	}
	var bad []HashMismatch
	good := &rwset.TxPvtReadWriteSet{DataModel: set.GetDataModel()}
	for _, ns := range set.GetNsPvtRwset() {
		kept := &rwset.NsPvtReadWriteSet{Namespace: ns.GetNamespace()}
		for _, c := range ns.GetCollectionPvtRwset() {
			want := mvcc.PrivateHash(public, ns.GetNamespace(), c.GetCollectionName())
			got := sha256.Sum256(c.GetRwset())
			switch {
			case len(want) == 0:
				l.log.Warningf("[%s] No hash of private data of collection [%s:%s] in transaction [%d] of block [%d]: data dropped",
					l.id, ns.GetNamespace(), c.GetCollectionName(), number, block)
			case !bytes.Equal(want, got[:]):
				bad = append(bad, HashMismatch{Block: block, Tx: number, Namespace: ns.GetNamespace(), Collection: c.GetCollectionName(), ExpectedHash: want})
			default:
				kept.CollectionPvtRwset = append(kept.CollectionPvtRwset, c)
			}
		}
		if len(kept.CollectionPvtRwset) > 0 {
			good.NsPvtRwset = append(good.NsPvtRwset, kept)
		}
	}
	if len(good.NsPvtRwset) == 0 {
		return nil, bad, nil
	}
	return good, bad, nil
}

// joinVerified adds the collections of one part of a transaction's data to those of
// another, nil if there is none. What both have is the same, as it has the same
// hash.
func joinVerified(old, part *rwset.TxPvtReadWriteSet) *rwset.TxPvtReadWriteSet {
	if old == nil {
		return part
	}
	for _, ns := range part.NsPvtRwset {
		i := slices.IndexFunc(old.NsPvtRwset, func(o *rwset.NsPvtReadWriteSet) bool { return o.Namespace == ns.Namespace })
		if i < 0 {
			old.NsPvtRwset = append(old.NsPvtRwset, ns)
			continue
		}
		known := old.NsPvtRwset[i]
		for _, c := range ns.CollectionPvtRwset {
			if !slices.ContainsFunc(known.CollectionPvtRwset, func(o *rwset.CollectionPvtReadWriteSet) bool { return o.CollectionName == c.CollectionName }) {
				known.CollectionPvtRwset = append(known.CollectionPvtRwset, c)
			}
		}
	}
	return old
}

// applyOld brings reconciled data, which the private store has already, into
// the state, and then forgets that this was to be done.
func (l *Ledger) applyOld(data map[uint64]map[uint64]*rwset.TxPvtReadWriteSet) error {
	latest, err := l.latestOldWrites(data)
	if err != nil {
		return err
	}
	batch := state.NewBatch()
	books := &bookkeeper.Changes{Merge: true}
	for key, w := range latest {
		if err := l.applyOldWrite(batch, books, key, w); err != nil {
			return err
		}
	}
	if err := l.books.Write(books); err != nil {
		return err
	}
	if err := l.points.Hit(PointAfterOldBookkeeping); err != nil {
		return err
	}
	// The note that this is still to be done must outlive the data (LEDGER
	// §15.3 e).
	if batch.Len() > 0 {
		if err := l.state.Apply(batch, nil, true); err != nil {
			return err
		}
	}
	if err := l.points.Hit(PointAfterOldState); err != nil {
		return err
	}
	return l.private.OldApplied()
}

type privateKey struct{ ns, coll, key string }

// latestOldWrites are the writes of valid transactions, the one of highest
// version per key.
func (l *Ledger) latestOldWrites(data map[uint64]map[uint64]*rwset.TxPvtReadWriteSet) (map[privateKey]state.Write, error) {
	latest := map[privateKey]state.Write{}
	for block, sets := range data {
		b, err := l.blocks.BlockByNumber(block)
		if err != nil {
			return nil, err
		}
		flags := protoutil.ParseBlock(b).Flags()
		for tx, set := range sets {
			if tx >= uint64(len(flags)) || flags[tx] != byte(peer.TxValidationCode_VALID) {
				continue
			}
			version := state.Version{Block: block, Tx: tx}
			l.eachPrivateWrite(set, func(k privateKey, w *kvrwset.KVWrite) {
				if old, ok := latest[k]; ok && !older(old.Version, version) {
					return
				}
				latest[k] = state.Write{Key: k.key, Value: w.Value, Delete: w.IsDelete || len(w.Value) == 0, Version: version}
			})
		}
	}
	return latest, nil
}

func older(a, b state.Version) bool { return a.Block < b.Block || a.Block == b.Block && a.Tx < b.Tx }

// eachPrivateWrite visits the writes of a set. Collections that do not decode are
// passed over: their hash may be in the block all the same (mvcc.ApplyPrivate),
// and data that are noted as to be applied must not keep the channel from opening.
func (l *Ledger) eachPrivateWrite(set *rwset.TxPvtReadWriteSet, visit func(privateKey, *kvrwset.KVWrite)) {
	for _, ns := range set.GetNsPvtRwset() {
		for _, c := range ns.GetCollectionPvtRwset() {
			kv := &kvrwset.KVRWSet{}
			if err := unmarshal(c.GetRwset(), kv); err != nil {
				l.log.Warningf("[%s] Reconciled data of collection [%s:%s] have no effect: %s", l.id, flog.Foreign(ns.GetNamespace()), flog.Foreign(c.GetCollectionName()), err)
				continue
			}
			for _, w := range kv.Writes {
				visit(privateKey{ns.GetNamespace(), c.GetCollectionName(), w.GetKey()}, w)
			}
		}
	}
}

// applyOldWrite adds one reconciled write to the batch unless it is stale, and
// its key to the schedule if it expires.
func (l *Ledger) applyOldWrite(batch *state.Batch, books *bookkeeper.Changes, k privateKey, w state.Write) error {
	keyHash := sha256.Sum256([]byte(k.key))
	hashed, err := l.state.Get(state.HashedNamespace(k.ns, k.coll), string(keyHash[:]))
	if err != nil {
		return err
	}
	switch {
	case hashed == nil:
		if !w.Delete {
			return nil
		}
	case hashed.Version == w.Version:
	default:
		valueHash := sha256.Sum256(w.Value)
		if w.Delete || !bytes.Equal(valueHash[:], hashed.Value) {
			return nil
		}
		w.Version = hashed.Version
	}
	if err := l.validator.RefusesPrivate(k.ns, k.coll, k.key, w.Value); err != nil {
		l.log.Warningf("[%s] Reconciled data of collection [%s:%s] are not what the state database can take: %s", l.id, flog.Foreign(k.ns), flog.Foreign(k.coll), flog.ForeignError(err))
		return nil
	}
	batch.Put(state.PrivateNamespace(k.ns, k.coll), w)
	if w.Delete {
		return nil
	}
	btl, _, err := l.lifeOf(k.ns, k.coll)
	if err != nil {
		return err
	}
	expiring := expiringBlock(w.Version.Block, btl)
	if expiring == math.MaxUint64 {
		return nil
	}
	books.Add(bookkeeper.Key{Expiring: expiring, Committing: w.Version.Block}, k.ns, k.coll, &ledgerstore.KeyAndHash{Key: k.key, Hash: keyHash[:]})
	return nil
}
