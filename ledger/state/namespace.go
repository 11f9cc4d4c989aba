package state

import "strings"

// HashedNamespace is where the hashes of a collection's keys and values live
// (LEDGER §4.3).
func HashedNamespace(ns, coll string) string { return ns + "$$h" + coll }

// PrivateNamespace is where a collection's plain keys and values live.
func PrivateNamespace(ns, coll string) string { return ns + "$$p" + coll }

// SplitNamespace takes a namespace apart: kind is 0 for a public one, 'h' or
// 'p' for those of a collection.
func SplitNamespace(full string) (ns, coll string, kind byte) {
	i := strings.Index(full, "$$")
	if i < 0 || i+2 >= len(full) || full[i+2] != 'h' && full[i+2] != 'p' {
		return full, "", 0
	}
	return full[:i], full[i+3:], full[i+2]
}
