package pvtstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/heddle-ledger/heddle/ledger/kv"
)

// Keys of one channel (LEDGER §8).
const (
	prefixPending    = 0x00 // alone -> empty: a batch is prepared and not committed
	prefixLast       = 0x01 // alone -> varint last committed block
	prefixData       = 0x02 // OPV(block) OPV(tx) ns 00 coll -> CollectionPvtReadWriteSet
	prefixExpiry     = 0x03 // OPV(expiring) OPV(committing) -> ExpiryData
	prefixMissing    = 0x04 // RPV(block) ns 00 coll -> bitmap of txs, peer eligible
	prefixIneligible = 0x05 // ns 00 coll 00 RPV(block) -> bitmap of txs, not eligible
	prefixEligible   = 0x06 // RPV(block) -> CollElgInfo
	prefixOldBlocks  = 0x07 // alone -> varint count, varints: blocks not in state yet
)

// collection names a private data collection of a chaincode.
type collection struct{ ns, name string }

func (c collection) append(dst []byte) []byte {
	dst = append(append(dst, c.ns...), 0)
	return append(dst, c.name...)
}

func parseCollection(b []byte) (collection, error) {
	ns, name, ok := bytes.Cut(b, []byte{0})
	if !ok {
		return collection{}, errMalformed
	}
	return collection{string(ns), string(name)}, nil
}

func heightKey(dst []byte, block, tx uint64) []byte {
	return kv.AppendHeight(append(dst, prefixData), kv.Height{Block: block, Tx: tx})
}

func dataKey(block, tx uint64, c collection) []byte {
	return c.append(heightKey(nil, block, tx))
}

// parseDataKey takes a data key apart; old is set for a key in the format of
// 1.1, which names no collection (LEDGER §8.1).
func parseDataKey(key []byte) (h kv.Height, c collection, old bool, err error) {
	h, rest, err := kv.ReadHeight(key[1:])
	if err != nil {
		return h, c, false, fmt.Errorf("private data key: %w", err)
	}
	if len(rest) == 0 {
		return h, c, true, nil
	}
	c, err = parseCollection(rest)
	return h, c, false, err
}

func dataRange(block uint64) (start, end []byte) {
	start = kv.AppendOPV([]byte{prefixData}, block)
	return start, append(start[:len(start):len(start)], 0xff)
}

func expiryKey(expiring, committing uint64) []byte {
	return kv.AppendOPV(kv.AppendOPV([]byte{prefixExpiry}, expiring), committing)
}

func parseExpiryKey(key []byte) (expiring, committing uint64, err error) {
	h, rest, err := kv.ReadHeight(key[1:])
	if err == nil && len(rest) != 0 {
		err = errMalformed
	}
	return h.Block, h.Tx, err
}

// expiryRange covers the entries that have expired when a block is committed.
func expiryRange(block uint64) (start, end []byte) {
	return []byte{prefixExpiry}, append(kv.AppendOPV([]byte{prefixExpiry}, block), 0xff)
}

func missingKey(block uint64, c collection) []byte {
	return c.append(kv.AppendRPV([]byte{prefixMissing}, block))
}

func parseMissingKey(key []byte) (block uint64, c collection, err error) {
	block, rest, err := kv.ReadRPV(key[1:])
	if err != nil {
		return 0, c, fmt.Errorf("missing data key: %w", err)
	}
	c, err = parseCollection(rest)
	return block, c, err
}

func ineligiblePrefix(c collection) []byte {
	return append(c.append([]byte{prefixIneligible}), 0)
}

func ineligibleKey(block uint64, c collection) []byte {
	return kv.AppendRPV(ineligiblePrefix(c), block)
}

func eligibleKey(block uint64) []byte { return kv.AppendRPV([]byte{prefixEligible}, block) }

var errMalformed = errors.New("malformed entry of the private data store")

// expiringBlock is the block from which on data are hidden (LEDGER §8.3).
func expiringBlock(committing, btl uint64) uint64 {
	if btl == 0 || committing+btl+1 <= committing { // never, or beyond the last number
		return math.MaxUint64
	}
	return committing + btl + 1
}

// bitmap is a set of transaction numbers as the reference keeps it (LEDGER
// §1.5): the length in bits, which never shrinks, and 64-bit words.
type bitmap struct {
	length uint64
	words  []uint64
}

// maxTxNumber bounds what is accepted as a transaction's place in a block.
const maxTxNumber = 1 << 24

func (b *bitmap) set(i uint64) {
	if i >= b.length {
		b.length = i + 1
	}
	for uint64(len(b.words)) <= i/64 {
		b.words = append(b.words, 0)
	}
	b.words[i/64] |= 1 << (i % 64)
}

func (b *bitmap) clear(i uint64) {
	if b.has(i) {
		b.words[i/64] &^= 1 << (i % 64)
	}
}

func (b *bitmap) has(i uint64) bool {
	return i/64 < uint64(len(b.words)) && b.words[i/64]&(1<<(i%64)) != 0
}

func (b *bitmap) isEmpty() bool {
	for _, w := range b.words {
		if w != 0 {
			return false
		}
	}
	return true
}

// members lists the set's elements in order.
func (b *bitmap) members() []uint64 {
	var out []uint64
	for i := range b.length {
		if b.has(i) {
			out = append(out, i)
		}
	}
	return out
}

func (b *bitmap) bytes() []byte {
	out := binary.BigEndian.AppendUint64(nil, b.length)
	for _, w := range b.words {
		out = binary.BigEndian.AppendUint64(out, w)
	}
	return out
}

func parseBitmap(raw []byte) (*bitmap, error) {
	if len(raw) < 8 {
		return nil, errMalformed
	}
	b := &bitmap{length: binary.BigEndian.Uint64(raw)}
	raw = raw[8:]
	if b.length > maxTxNumber || uint64(len(raw)) != (b.length+63)/64*8 {
		return nil, errMalformed
	}
	for ; len(raw) > 0; raw = raw[8:] {
		b.words = append(b.words, binary.BigEndian.Uint64(raw))
	}
	return b, nil
}

func appendBlocks(dst []byte, blocks []uint64) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(blocks)))
	for _, b := range blocks {
		dst = binary.AppendUvarint(dst, b)
	}
	return dst
}

func parseBlocks(raw []byte) ([]uint64, error) {
	count, n := binary.Uvarint(raw)
	if n <= 0 || count > uint64(len(raw)) {
		return nil, errMalformed
	}
	raw = raw[n:]
	out := make([]uint64, 0, count)
	for range count {
		v, n := binary.Uvarint(raw)
		if n <= 0 {
			return nil, errMalformed
		}
		out, raw = append(out, v), raw[n:]
	}
	return out, nil
}
