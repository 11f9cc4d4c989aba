package history

import "github.com/heddle-ledger/heddle/ledger/kv"

// Keys of a channel's history (LEDGER §6.1); values are empty but for the
// savepoint's:
//
//	ns 00 key 00 OPV(block) OPV(tx)
//	00 -> height bytes (block, number of its transactions)
func savepointKey() []byte { return []byte{0} }

func appendPrefix(dst []byte, ns, key string) []byte {
	dst = append(append(dst, ns...), 0)
	return append(append(dst, key...), 0)
}

func appendEntry(dst []byte, ns, key string, h kv.Height) []byte {
	return kv.AppendHeight(appendPrefix(dst, ns, key), h)
}
