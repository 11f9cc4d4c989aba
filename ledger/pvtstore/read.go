package pvtstore

import (
	"fmt"

	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/ledger/kv"
)

// Read returns the private data of a block that have not expired, by
// transaction (LEDGER §8.4). It is ErrEmpty if no block is committed, and an error if
// this one is not.
func (s *Store) Read(block uint64, filter CollectionFilter) (Sets, error) {
	last, ok := s.last()
	if !ok {
		return nil, ErrEmpty
	}
	if block > last {
		return nil, fmt.Errorf("Last committed block=%d, block requested=%d", last, block) //nolint:staticcheck // the reference's text
	}
	start, end := dataRange(block)
	it := s.db.Scan(start, end)
	defer it.Close()
	out := Sets{}
	for it.Next() {
		h, c, old, err := parseDataKey(it.Key())
		if err != nil {
			return nil, it.EntryError(err)
		}
		if old {
			if out[h.Tx], err = readOld(it.Value(), filter); err != nil {
				return nil, it.EntryError(err)
			}
			continue
		}
		if !filter.has(c) {
			continue
		}
		if expired, err := s.expired(block, last, c); err != nil || expired {
			if err != nil {
				return nil, err
			}
			continue
		}
		set := &rwset.CollectionPvtReadWriteSet{}
		if err := proto.Unmarshal(it.Value(), set); err != nil {
			return nil, it.EntryError(err)
		}
		if out[h.Tx] == nil {
			out[h.Tx] = &rwset.TxPvtReadWriteSet{}
		}
		addTo(out[h.Tx], c.ns, set)
	}
	return out, it.Err()
}

// addTo adds a collection to the namespace that came last, or to a new one: keys
// come in order.
func addTo(set *rwset.TxPvtReadWriteSet, ns string, coll *rwset.CollectionPvtReadWriteSet) {
	n := len(set.NsPvtRwset)
	if n == 0 || set.NsPvtRwset[n-1].Namespace != ns {
		set.NsPvtRwset = append(set.NsPvtRwset, &rwset.NsPvtReadWriteSet{Namespace: ns})
		n++
	}
	last := set.NsPvtRwset[n-1]
	last.CollectionPvtRwset = append(last.CollectionPvtRwset, coll)
}

// readOld reads an entry in the format of 1.1. It does not expire; a filter that
// leaves nothing leaves the transaction without write set (LEDGER §8.1).
func readOld(raw []byte, filter CollectionFilter) (*rwset.TxPvtReadWriteSet, error) {
	set := &rwset.TxPvtReadWriteSet{}
	if err := proto.Unmarshal(raw, set); err != nil {
		return nil, fmt.Errorf("private data in the format of 1.1: %w", err)
	}
	return Trim(set, filter), nil
}

// Trim returns the part of a write set that a filter lets through, nil if that
// is none.
func Trim(set *rwset.TxPvtReadWriteSet, filter CollectionFilter) *rwset.TxPvtReadWriteSet {
	if filter == nil || set == nil {
		return set
	}
	out := &rwset.TxPvtReadWriteSet{DataModel: set.DataModel}
	for _, ns := range set.NsPvtRwset {
		for _, c := range ns.GetCollectionPvtRwset() {
			if filter.has(collection{ns.GetNamespace(), c.GetCollectionName()}) {
				addTo(out, ns.GetNamespace(), c)
			}
		}
	}
	if len(out.NsPvtRwset) == 0 {
		return nil
	}
	return out
}

func (s *Store) expired(committing, last uint64, c collection) (bool, error) {
	expiring, err := expiringOf(s.btl, committing, c)
	return expiring <= last, err
}

// Missing lists the data that are missing though this peer is eligible, by block
// and transaction, for the most recent blocks that have any (LEDGER §8.6).
func (s *Store) Missing(blocks int) (map[uint64]map[uint64][]MissingCollection, error) {
	last, ok := s.last()
	if !ok || blocks <= 0 {
		return nil, nil
	}
	out := map[uint64]map[uint64][]MissingCollection{}
	it := s.db.Scan(kv.AppendRPV([]byte{prefixMissing}, last), []byte{prefixMissing + 1})
	defer it.Close()
	for it.Next() {
		block, c, err := parseMissingKey(it.Key())
		if err != nil {
			return nil, it.EntryError(err)
		}
		expired, err := s.expired(block, last, c)
		if err != nil {
			return nil, err
		}
		if expired {
			continue
		}
		if out[block] == nil {
			if len(out) == blocks {
				break
			}
			out[block] = map[uint64][]MissingCollection{}
		}
		m, err := parseBitmap(it.Value())
		if err != nil {
			return nil, it.EntryError(err)
		}
		for _, tx := range m.members() {
			out[block][tx] = append(out[block][tx], MissingCollection{Namespace: c.ns, Collection: c.name, Eligible: true})
		}
	}
	return out, it.Err()
}
