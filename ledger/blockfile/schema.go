package blockfile

import (
	"encoding/binary"
	"errors"

	"github.com/heddle-ledger/heddle/ledger/kv"
)

// Keys of the index, one database per channel (LEDGER §3.5).
const (
	prefixNumber  = 'n' // OPV(block) -> location of block
	prefixHash    = 'h' // block hash -> location of block
	prefixTx      = 't' // txid -> location of tx
	prefixBlockTx = 'a' // OPV(block) OPV(tx) -> location of tx
	prefixTxBlock = 'b' // txid -> location of block
	prefixCode    = 'v' // txid -> validation code, one byte
)

// keyIndexed holds the last indexed block, keyCheckpoint the checkpoint of the
// block files (LEDGER §3.7).
const (
	keyIndexed    = "indexCheckpointKey"
	keyCheckpoint = "blkMgrInfo"
)

func numberKey(buf []byte, n uint64) []byte {
	return kv.AppendOPV(append(buf[:0], prefixNumber), n)
}

func blockTxKey(buf []byte, block, tx uint64) []byte {
	return kv.AppendOPV(kv.AppendOPV(append(buf[:0], prefixBlockTx), block), tx)
}

func hashKey(buf, hash []byte) []byte {
	return append(append(buf[:0], prefixHash), hash...)
}

func txKey(buf []byte, prefix byte, txid string) []byte {
	return append(append(buf[:0], prefix), txid...)
}

// location is where a block's record, or a transaction's bytes field, begins
// (LEDGER §3.5). The length is 0 for a block.
type location struct {
	file   int
	offset int64
	length int
}

func (l location) append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(l.file))
	dst = binary.AppendUvarint(dst, uint64(l.offset))
	return binary.AppendUvarint(dst, uint64(l.length))
}

var errMalformed = errors.New("malformed index entry")

func parseLocation(b []byte) (location, error) {
	v, err := uvarints(b, 3)
	if err != nil || v[0] > 1<<31 || v[1] > 1<<62 || v[2] > 1<<31 {
		return location{}, errMalformed
	}
	return location{file: int(v[0]), offset: int64(v[1]), length: int(v[2])}, nil
}

// uvarints reads exactly n numbers that fit a file position.
func uvarints(b []byte, n int) ([4]uint64, error) {
	var out [4]uint64
	for i := range n {
		v, size := binary.Uvarint(b)
		if size <= 0 {
			return out, errMalformed
		}
		out[i], b = v, b[size:]
	}
	if len(b) != 0 {
		return out, errMalformed
	}
	return out, nil
}

// checkpoint says up to where the block files are known to be complete.
type checkpoint struct {
	file  int
	size  int64 // bytes of complete records in that file
	last  uint64
	empty bool // the chain has no block; last means nothing
}

func (c checkpoint) height() uint64 {
	if c.empty {
		return 0
	}
	return c.last + 1
}

func (c checkpoint) bytes() []byte {
	b := binary.AppendUvarint(nil, uint64(c.file))
	b = binary.AppendUvarint(b, uint64(c.size))
	b = binary.AppendUvarint(b, c.last)
	if c.empty {
		return append(b, 1)
	}
	return append(b, 0)
}

func parseCheckpoint(b []byte) (checkpoint, error) {
	v, err := uvarints(b, 4)
	if err != nil || v[0] > 1<<31 || v[1] > 1<<62 {
		return checkpoint{}, errMalformed
	}
	return checkpoint{file: int(v[0]), size: int64(v[1]), last: v[2], empty: v[3] == 1}, nil
}
