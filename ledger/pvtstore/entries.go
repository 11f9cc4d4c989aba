package pvtstore

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/ledger/kv"
	"github.com/heddle-ledger/heddle/protos/ledgerstore"
)

// entries collects what the store keeps about one block.
type entries struct {
	block      uint64
	btl        BlockToLive
	data       []dataEntry
	expiry     map[uint64]*ledgerstore.ExpiryData // by expiring block
	missing    map[collection]*bitmap
	ineligible map[collection]*bitmap
	expiring   map[collection]uint64 // answers of btl
}

type dataEntry struct {
	tx   uint64
	coll collection
	set  *rwset.CollectionPvtReadWriteSet
}

func newEntries(block uint64, btl BlockToLive) *entries {
	return &entries{
		block: block, btl: btl,
		expiry:  map[uint64]*ledgerstore.ExpiryData{},
		missing: map[collection]*bitmap{}, ineligible: map[collection]*bitmap{},
		expiring: map[collection]uint64{},
	}
}

// expiringOf is the block in which a collection's data of this block expire. A
// collection that is not deployed has no expiry entry (LEDGER §8.3).
func (e *entries) expiringOf(c collection) (uint64, error) {
	if v, ok := e.expiring[c]; ok {
		return v, nil
	}
	v, err := expiringOf(e.btl, e.block, c)
	if err != nil {
		return 0, err
	}
	e.expiring[c] = v
	return v, nil
}

func expiringOf(btl BlockToLive, block uint64, c collection) (uint64, error) {
	n, err := btl(c.ns, c.name)
	var unknown *UnknownCollectionError
	if errors.As(err, &unknown) {
		return math.MaxUint64, nil
	}
	if err != nil {
		return 0, fmt.Errorf("block to live of collection [%s:%s]: %w", c.ns, c.name, err)
	}
	return expiringBlock(block, n), nil
}

func (e *entries) add(sets Sets, missing map[uint64][]MissingCollection) error {
	for _, tx := range slices.Sorted(maps.Keys(sets)) {
		if tx >= maxTxNumber {
			return fmt.Errorf("private data of transaction [%d]: no such number", tx)
		}
		for _, ns := range sets[tx].GetNsPvtRwset() {
			for _, set := range ns.GetCollectionPvtRwset() {
				if err := e.addData(tx, collection{ns.GetNamespace(), set.GetCollectionName()}, set); err != nil {
					return err
				}
			}
		}
	}
	for _, tx := range slices.Sorted(maps.Keys(missing)) {
		if tx >= maxTxNumber {
			return fmt.Errorf("missing data of transaction [%d]: no such number", tx)
		}
		for _, m := range missing[tx] {
			if err := e.addMissing(tx, m); err != nil {
				return err
			}
		}
	}
	return nil
}

func (e *entries) addData(tx uint64, c collection, set *rwset.CollectionPvtReadWriteSet) error {
	e.data = append(e.data, dataEntry{tx, c, set})
	expiring, err := e.expiringOf(c)
	if err != nil || expiring == math.MaxUint64 {
		return err
	}
	notePresent(e.expiryData(expiring), c, tx)
	return nil
}

func (e *entries) addMissing(tx uint64, m MissingCollection) error {
	c := collection{m.Namespace, m.Collection}
	maps := e.ineligible
	if m.Eligible {
		maps = e.missing
	}
	if maps[c] == nil {
		maps[c] = &bitmap{}
	}
	maps[c].set(tx)
	expiring, err := e.expiringOf(c)
	if err != nil || expiring == math.MaxUint64 {
		return err
	}
	colls := collectionsOf(e.expiryData(expiring), c.ns)
	if colls.MissingDataMap == nil {
		colls.MissingDataMap = map[string]bool{}
	}
	colls.MissingDataMap[c.name] = true
	return nil
}

func (e *entries) expiryData(expiring uint64) *ledgerstore.ExpiryData {
	if e.expiry[expiring] == nil {
		e.expiry[expiring] = &ledgerstore.ExpiryData{}
	}
	return e.expiry[expiring]
}

func collectionsOf(d *ledgerstore.ExpiryData, ns string) *ledgerstore.Collections {
	if d.Map == nil {
		d.Map = map[string]*ledgerstore.Collections{}
	}
	if d.Map[ns] == nil {
		d.Map[ns] = &ledgerstore.Collections{}
	}
	return d.Map[ns]
}

// notePresent lists a transaction whose data are to go when the entry expires.
func notePresent(d *ledgerstore.ExpiryData, c collection, tx uint64) {
	colls := collectionsOf(d, c.ns)
	if colls.Map == nil {
		colls.Map = map[string]*ledgerstore.TxNums{}
	}
	if colls.Map[c.name] == nil {
		colls.Map[c.name] = &ledgerstore.TxNums{}
	}
	colls.Map[c.name].List = append(colls.Map[c.name].List, tx)
}

// write adds the entries to a batch and returns their keys.
func (e *entries) write(b *kv.Batch) (keys [][]byte) {
	put := func(key, value []byte) {
		b.Put(key, value)
		keys = append(keys, key)
	}
	for _, d := range e.data {
		put(dataKey(e.block, d.tx, d.coll), protoutil.Marshal(d.set))
	}
	for expiring, d := range e.expiry {
		put(expiryKey(expiring, e.block), protoutil.Marshal(d))
	}
	for c, m := range e.missing {
		put(missingKey(e.block, c), m.bytes())
	}
	for c, m := range e.ineligible {
		put(ineligibleKey(e.block, c), m.bytes())
	}
	return keys
}
