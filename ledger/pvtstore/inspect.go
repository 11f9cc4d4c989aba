package pvtstore

import (
	"encoding/binary"
	"fmt"

	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/ledger/kv"
)

// View looks at the private data of one channel as they lie on disk, expired ones
// included. Unlike a Store it changes nothing.
type View struct{ db *kv.Store }

// OpenView looks at a channel's part of a database.
func OpenView(db *kv.Database, channelID string) *View { return &View{db: db.Store(channelID)} }

// Heads tell how far a private data store is.
type Heads struct {
	Next      uint64   // the first block not covered
	Pending   bool     // block Next is prepared and will be completed
	OldBlocks []uint64 // their reconciled data may not be in the state yet
}

// Heads reads how far the store is.
func (v *View) Heads() (Heads, error) {
	h := Heads{}
	raw, err := v.db.Get([]byte{prefixLast})
	if err != nil {
		return h, err
	}
	if raw != nil {
		last, n := binary.Uvarint(raw)
		if n <= 0 {
			return h, fmt.Errorf("last committed block: %w", errMalformed)
		}
		h.Next = last + 1
	}
	if h.Pending, err = v.db.Has([]byte{prefixPending}); err != nil {
		return h, err
	}
	if raw, err = v.db.Get([]byte{prefixOldBlocks}); err != nil || raw == nil {
		return h, err
	}
	if h.OldBlocks, err = parseBlocks(raw); err != nil {
		return h, fmt.Errorf("list of reconciled blocks: %w", err)
	}
	return h, nil
}

// Item is the private write set of one collection in one transaction.
type Item struct {
	Block, Tx             uint64
	Namespace, Collection string
	RWSet                 []byte // marshalled KVRWSet
	Err                   error  // set if the entry could not be decoded; the rest is then as far as known
}

// Walk goes through the data of all blocks in order.
type Walk struct {
	it      *kv.Iterator
	pending []Item // of an entry that holds several
}

// Walk begins with the first block. It must be closed.
func (v *View) Walk() *Walk {
	return &Walk{it: v.db.Scan([]byte{prefixData}, []byte{prefixData + 1})}
}

// Next returns the next write set; ok is false at the end. An entry that does
// not decode is an Item with Err, not an error.
func (w *Walk) Next() (item Item, ok bool, err error) {
	for len(w.pending) == 0 {
		if !w.it.Next() {
			return Item{}, false, w.it.Err()
		}
		w.read()
	}
	item, w.pending = w.pending[0], w.pending[1:]
	return item, true, nil
}

func (w *Walk) read() {
	h, c, old, err := parseDataKey(w.it.Key())
	item := Item{Block: h.Block, Tx: h.Tx, Namespace: c.ns, Collection: c.name, Err: err}
	if err != nil {
		w.pending = append(w.pending, item)
		return
	}
	if !old {
		set := &rwset.CollectionPvtReadWriteSet{}
		item.Err = proto.Unmarshal(w.it.Value(), set)
		if item.Err == nil && set.GetCollectionName() != c.name {
			item.Err = fmt.Errorf("it names collection [%s]: %w", set.GetCollectionName(), errMalformed)
		}
		item.RWSet = set.GetRwset()
		w.pending = append(w.pending, item)
		return
	}
	set, err := readOld(w.it.Value(), nil)
	if err != nil {
		item.Err = err
		w.pending = append(w.pending, item)
		return
	}
	for _, ns := range set.GetNsPvtRwset() {
		for _, coll := range ns.GetCollectionPvtRwset() {
			one := item
			one.Namespace, one.Collection, one.RWSet = ns.GetNamespace(), coll.GetCollectionName(), coll.GetRwset()
			w.pending = append(w.pending, one)
		}
	}
}

// Close ends the walk.
func (w *Walk) Close() { w.it.Close() }

// IsMissing tells whether a write set is listed as missing, for an eligible peer
// or another.
func (v *View) IsMissing(block, tx uint64, ns, coll string) (bool, error) {
	c := collection{ns, coll}
	for _, key := range [][]byte{missingKey(block, c), ineligibleKey(block, c)} {
		raw, err := v.db.Get(key)
		if err != nil {
			return false, err
		}
		if raw == nil {
			continue
		}
		bits, err := parseBitmap(raw)
		if err != nil {
			return false, fmt.Errorf("missing data of block [%d]: %w", block, err)
		}
		if bits.has(tx) {
			return true, nil
		}
	}
	return false, nil
}

// ExpiringBlock is the block from which on data are hidden, MaxUint64 if there is
// none (LEDGER §8.3).
func ExpiringBlock(committing, btl uint64) uint64 { return expiringBlock(committing, btl) }

// CheckEntries reads the entries other than data and tells the first that does
// not decode.
func (v *View) CheckEntries() (entries uint64, err error) {
	it := v.db.Scan(nil, nil)
	defer it.Close()
	for it.Next() {
		key := it.Key()
		if len(key) == 0 {
			return entries, fmt.Errorf("empty key: %w", errMalformed)
		}
		switch key[0] {
		case prefixExpiry:
			_, _, err = parseExpiryKey(key)
		case prefixMissing:
			if _, _, err = parseMissingKey(key); err == nil {
				_, err = parseBitmap(it.Value())
			}
		case prefixIneligible:
			_, err = parseBitmap(it.Value())
		case prefixEligible:
			_, _, err = kv.ReadRPV(key[1:])
		}
		if err != nil {
			return entries, fmt.Errorf("entry %x: %w", key, err)
		}
		entries++
	}
	return entries, it.Err()
}
