package confhistory

import (
	"encoding/binary"
	"math"
)

// Keys of a channel's config history (LEDGER §7):
//
//	"s" lscc 00 <chaincode>~collection BE64(2^64-1 - block) -> CollectionConfigPackage
func prefixOf(chaincode string) []byte { return []byte("slscc\x00" + chaincode + "~collection") }

func entryKey(chaincode string, block uint64) []byte {
	return binary.BigEndian.AppendUint64(prefixOf(chaincode), math.MaxUint64-block)
}

// blockOf is the block of an entry whose key begins with a prefix; ok is false
// for an entry of another chaincode, whose name begins like this one's.
func blockOf(key, prefix []byte) (block uint64, ok bool) {
	if len(key) != len(prefix)+8 {
		return 0, false
	}
	return math.MaxUint64 - binary.BigEndian.Uint64(key[len(prefix):]), true
}
