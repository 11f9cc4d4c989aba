package pvtstore

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/ledger/kv"
	"github.com/heddle-ledger/heddle/protos/ledgerstore"
)

// CommitOld adds reconciled data of old blocks, of which the caller has checked
// the hashes, in one durable batch (LEDGER §16). It takes what has not expired
// and is listed as missing, and notes the blocks until OldApplied is called; before
// that, another call is ErrOldData.
func (s *Store) CommitOld(data map[uint64]Sets) error {
	s.entries.Lock()
	defer s.entries.Unlock()
	if has, err := s.db.Has([]byte{prefixOldBlocks}); err != nil || has {
		if err != nil {
			return err
		}
		return ErrOldData
	}
	u := &oldUpdate{s: s, batch: s.db.NewBatch(), expiry: map[string]*ledgerstore.ExpiryData{}, missing: map[string]*bitmap{}}
	var accepted []uint64
	for _, block := range slices.Sorted(maps.Keys(data)) {
		took, err := u.block(block, data[block])
		if err != nil {
			return err
		}
		if took {
			accepted = append(accepted, block)
		}
	}
	u.finish()
	u.batch.Put([]byte{prefixOldBlocks}, appendBlocks(nil, accepted))
	if err := s.db.Write(u.batch, true); err != nil {
		return fmt.Errorf("store reconciled private data: %w", err)
	}
	return s.p.cfg.Points.Hit(PointAfterOld)
}

// oldUpdate collects the changed entries, each of which may be touched by
// several transactions.
type oldUpdate struct {
	s       *Store
	batch   *kv.Batch
	expiry  map[string]*ledgerstore.ExpiryData // by key
	missing map[string]*bitmap
}

func (u *oldUpdate) block(block uint64, sets Sets) (took bool, err error) {
	for _, tx := range slices.Sorted(maps.Keys(sets)) {
		for _, ns := range sets[tx].GetNsPvtRwset() {
			for _, set := range ns.GetCollectionPvtRwset() {
				c := collection{ns.GetNamespace(), set.GetCollectionName()}
				ok, err := u.collection(block, tx, c)
				if err != nil {
					return took, err
				}
				if ok {
					u.batch.Put(dataKey(block, tx, c), protoutil.Marshal(set))
					took = true
				}
			}
		}
	}
	return took, nil
}

// collection updates the entries for one collection of one transaction; ok tells
// whether its data are wanted.
func (u *oldUpdate) collection(block, tx uint64, c collection) (ok bool, err error) {
	missing, err := u.missingOf(string(missingKey(block, c)))
	if err != nil || missing == nil || !missing.has(tx) {
		return false, err
	}
	expiring, err := expiringOf(u.s.btl, block, c)
	if err != nil {
		return false, err
	}
	if expiring != math.MaxUint64 {
		expiry, err := u.expiryOf(string(expiryKey(expiring, block)))
		if err != nil || expiry == nil {
			return false, err // purged
		}
		notePresent(expiry, c, tx)
	}
	missing.clear(tx)
	return true, nil
}

func (u *oldUpdate) missingOf(key string) (*bitmap, error) {
	if m, ok := u.missing[key]; ok {
		return m, nil
	}
	raw, err := u.s.db.Get([]byte(key))
	if err != nil || raw == nil {
		return nil, err
	}
	m, err := parseBitmap(raw)
	if err != nil {
		return nil, u.s.db.EntryError([]byte(key), err)
	}
	u.missing[key] = m
	return m, nil
}

func (u *oldUpdate) expiryOf(key string) (*ledgerstore.ExpiryData, error) {
	if d, ok := u.expiry[key]; ok {
		return d, nil
	}
	raw, err := u.s.db.Get([]byte(key))
	if err != nil || raw == nil {
		return nil, err
	}
	d := &ledgerstore.ExpiryData{}
	if err := proto.Unmarshal(raw, d); err != nil {
		return nil, u.s.db.EntryError([]byte(key), err)
	}
	u.expiry[key] = d
	return d, nil
}

func (u *oldUpdate) finish() {
	for key, m := range u.missing {
		if m.isEmpty() {
			u.batch.Delete([]byte(key))
		} else {
			u.batch.Put([]byte(key), m.bytes())
		}
	}
	for key, d := range u.expiry {
		u.batch.Put([]byte(key), protoutil.Marshal(d))
	}
}

// OldBlocks are the blocks whose reconciled data may not be in the state yet. Nil
// means that there is nothing to do; empty, that OldApplied is to be called.
func (s *Store) OldBlocks() ([]uint64, error) {
	raw, err := s.db.Get([]byte{prefixOldBlocks})
	if err != nil || raw == nil {
		return nil, err
	}
	blocks, err := parseBlocks(raw)
	return blocks, s.db.EntryError([]byte{prefixOldBlocks}, err)
}

// OldApplied forgets them; the state that has their data must be durable
// (LEDGER §15.3 e).
func (s *Store) OldApplied() error { return s.db.Delete([]byte{prefixOldBlocks}, true) }
