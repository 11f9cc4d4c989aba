package bookkeeper

import "github.com/heddle-ledger/heddle/protos/ledgerstore"

// Changes is what one block, or reconciled data, changes in the bookkeeper
// (LEDGER §9, §14): new schedule entries and hints go in before the state batch,
// processed entries out after it. Most blocks have none. The zero value is
// ready.
type Changes struct {
	Merge     bool     // additions go behind what an entry has already (LEDGER §16)
	Hints     []string // namespaces with their first metadata
	Processed []Key    // entries that were due

	additions map[Key]*ledgerstore.PvtdataKeys
}

// Add adds keys of a collection to an entry.
func (c *Changes) Add(k Key, ns, coll string, list ...*ledgerstore.KeyAndHash) {
	if c.additions == nil {
		c.additions = map[Key]*ledgerstore.PvtdataKeys{}
	}
	if c.additions[k] == nil {
		c.additions[k] = &ledgerstore.PvtdataKeys{}
	}
	addKeys(c.additions[k], ns, coll, list)
}

func addKeys(to *ledgerstore.PvtdataKeys, ns, coll string, list []*ledgerstore.KeyAndHash) {
	if to.Map == nil {
		to.Map = map[string]*ledgerstore.KeyCollections{}
	}
	colls := to.Map[ns]
	if colls.GetMap() == nil { // also an entry on disk may have none
		colls = &ledgerstore.KeyCollections{Map: map[string]*ledgerstore.KeysAndHashes{}}
		to.Map[ns] = colls
	}
	keys := colls.Map[coll]
	if keys == nil {
		keys = &ledgerstore.KeysAndHashes{}
		colls.Map[coll] = keys
	}
	keys.List = append(keys.List, list...)
}
