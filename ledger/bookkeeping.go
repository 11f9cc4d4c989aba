package ledger

import (
	"crypto/sha256"
	"errors"
	"maps"
	"math"
	"slices"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/ledger/bookkeeper"
	"github.com/heddle-ledger/heddle/ledger/mvcc"
	"github.com/heddle-ledger/heddle/ledger/pvtstore"
	"github.com/heddle-ledger/heddle/ledger/state"
	"github.com/heddle-ledger/heddle/protos/ledgerstore"
)

// planBookkeeping finds out what the block changes in the bookkeeper and adds
// the purges that are due to its updates.
func (c *commit) planBookkeeping() error {
	l, u := c.l, c.result.Updates
	c.books = &bookkeeper.Changes{}
	if err := l.schedule(u, c.number, c.books); err != nil {
		return err
	}
	c.books.Hints = newHints(u, l.metadataUsed)
	return l.purgeExpired(u, c.number, c.books)
}

// newHints lists the namespaces in which the updates set metadata for the first
// time; for a collection also its chaincode's (LEDGER §9.2).
func newHints(u *mvcc.Updates, used func(string) bool) []string {
	found := map[string]bool{}
	for _, ns := range u.Namespaces() {
		if !used(ns) && anyMetadata(u.Public(ns)) {
			found[ns] = true
		}
	}
	for _, coll := range u.Collections() {
		full := state.HashedNamespace(coll.Namespace, coll.Name)
		if (used(full) && used(coll.Namespace)) || !anyMetadata(u.Hashed(coll.Namespace, coll.Name)) {
			continue
		}
		found[full] = true
		found[coll.Namespace] = true
	}
	return slices.Sorted(maps.Keys(found))
}

func anyMetadata(s *state.Space) bool {
	for _, w := range s.Sorted() {
		if len(w.Metadata) > 0 {
			return true
		}
	}
	return false
}

// schedule adds the private keys and key hashes that the updates write to the
// schedule (LEDGER §14.2).
func (l *Ledger) schedule(u *mvcc.Updates, block uint64, b *bookkeeper.Changes) error {
	var unknown []mvcc.Collection
	defer func() {
		if len(unknown) > 0 {
			l.log.Warningf("[%s] Valid transactions of block [%d] write to [%d] collections that are not deployed. The first one is [%s:%s]",
				l.id, block, len(unknown), flog.Foreign(unknown[0].Namespace), flog.Foreign(unknown[0].Name))
		}
	}()
	for _, c := range u.AllCollections() {
		btl, known, err := l.lifeOf(c.Namespace, c.Name)
		if err != nil {
			return err
		}
		if !known {
			unknown = append(unknown, c)
		}
		expiring := expiringBlock(block, btl)
		if expiring == math.MaxUint64 {
			continue
		}
		if list := scheduleList(u, c); len(list) > 0 {
			b.Add(bookkeeper.Key{Expiring: expiring, Committing: block}, c.Namespace, c.Name, list...)
		}
	}
	return nil
}

func scheduleList(u *mvcc.Updates, c mvcc.Collection) []*ledgerstore.KeyAndHash {
	var list []*ledgerstore.KeyAndHash
	known := map[string]bool{}
	for _, w := range u.Private(c.Namespace, c.Name).Sorted() {
		hash := sha256.Sum256([]byte(w.Key))
		known[string(hash[:])] = true
		if !w.Delete {
			list = append(list, &ledgerstore.KeyAndHash{Key: w.Key, Hash: hash[:]})
		}
	}
	for _, w := range u.Hashed(c.Namespace, c.Name).Sorted() {
		if !w.Delete && !known[w.Key] {
			list = append(list, &ledgerstore.KeyAndHash{Hash: []byte(w.Key)})
		}
	}
	return list
}

// expiringBlock is the block in which data committed in a block expire;
// MaxUint64 means never (LEDGER §8.3).
func expiringBlock(committing, btl uint64) uint64 {
	if btl == 0 {
		return math.MaxUint64
	}
	expiring := committing + btl + 1
	if expiring <= committing {
		return math.MaxUint64
	}
	return expiring
}

// purgeExpired adds deletes of the keys that expire in the block to its updates
// (LEDGER §14.1).
func (l *Ledger) purgeExpired(u *mvcc.Updates, block uint64, b *bookkeeper.Changes) error {
	return l.books.Due(block, func(k bookkeeper.Key, entry *ledgerstore.PvtdataKeys) error {
		b.Processed = append(b.Processed, k)
		for ns, colls := range entry.GetMap() {
			for coll, keys := range colls.GetMap() {
				if err := l.purgeKeys(u, mvcc.Collection{Namespace: ns, Name: coll}, k.Committing, keys.GetList()); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func (l *Ledger) purgeKeys(u *mvcc.Updates, c mvcc.Collection, committing uint64, list []*ledgerstore.KeyAndHash) error {
	names := make(map[string]string, len(list)) // hash -> key; the last entry of a hash counts
	for _, k := range list {
		names[string(k.Hash)] = k.Key
	}
	hashes := slices.Sorted(maps.Keys(names))
	expired, err := l.writtenIn(committing, state.HashedNamespace(c.Namespace, c.Name), hashes)
	if err != nil {
		return err
	}
	writtenHashed, writtenPrivate := u.Hashed(c.Namespace, c.Name), u.Private(c.Namespace, c.Name)
	var keys, unsure []string
	for i, hash := range hashes {
		if expired[i] && writtenHashed.Get(hash) == nil {
			u.PutHashed(c.Namespace, c.Name, state.Write{Key: hash, Delete: true})
		}
		switch key := names[hash]; {
		case key == "" || writtenPrivate.Get(key) != nil:
		case expired[i]:
			keys = append(keys, key)
		default:
			unsure = append(unsure, key)
		}
	}
	if expired, err = l.writtenIn(committing, state.PrivateNamespace(c.Namespace, c.Name), unsure); err != nil {
		return err
	}
	for i, key := range unsure {
		if expired[i] {
			keys = append(keys, key)
		}
	}
	for _, key := range keys {
		u.PutPrivate(c.Namespace, c.Name, state.Write{Key: key, Delete: true})
	}
	return nil
}

// writtenIn tells which of the keys have their version from that block.
func (l *Ledger) writtenIn(block uint64, ns string, keys []string) ([]bool, error) {
	lookups := make([]state.Lookup, len(keys))
	for i, key := range keys {
		lookups[i] = state.Lookup{Namespace: ns, Key: key}
	}
	if len(lookups) > 0 {
		if err := l.latest.Versions(lookups); err != nil {
			return nil, err
		}
	}
	out := make([]bool, len(keys))
	for i := range lookups {
		out[i] = lookups[i].Found && lookups[i].Version.Block == block
	}
	return out, nil
}

// lifeOf is the block-to-live of a collection that a block writes. Validation
// does not ask whether a collection is deployed, so any endorser can get writes
// to one that is not into a valid transaction. A 1.4 peer stops at such a block
// for good (LEDGER §14.3); here what was written never expires.
func (l *Ledger) lifeOf(ns, coll string) (btl uint64, known bool, err error) {
	btl, err = l.blockToLive(ns, coll)
	var unknown *pvtstore.UnknownCollectionError
	if errors.As(err, &unknown) {
		return 0, false, nil
	}
	return btl, true, err
}

// blockToLive is the block-to-live of a collection as it was deployed when
// first asked for (LEDGER §8.3). Only the committer and the private store ask.
func (l *Ledger) blockToLive(ns, coll string) (uint64, error) {
	key := mvcc.Collection{Namespace: ns, Name: coll}
	l.btlMu.Lock()
	defer l.btlMu.Unlock()
	if btl, ok := l.btl[key]; ok {
		return btl, nil
	}
	v, err := l.latest.Get(lifecycleNamespace, collectionKey(ns))
	if err != nil {
		return 0, err
	}
	if v != nil {
		if c, ok := l.deployedCollection(ns, v.Value, coll); ok {
			l.btl[key] = c.GetBlockToLive()
			return c.GetBlockToLive(), nil
		}
	}
	return 0, &pvtstore.UnknownCollectionError{Namespace: ns, Collection: coll}
}
