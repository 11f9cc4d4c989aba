package mvcc

import (
	"bytes"
	"crypto/sha256"
	"fmt"

	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset/kvrwset"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/ledger/state"
)

// PrivateSets are the private write sets of a block by transaction number.
type PrivateSets map[uint64]*rwset.TxPvtReadWriteSet

// HashMismatchError aborts the commit of a block whose private data were not
// what its transactions name (LEDGER §12.7).
type HashMismatchError struct {
	Namespace, Collection string
	Public, Private       []byte
}

func (e *HashMismatchError) Error() string {
	return fmt.Sprintf("Hash of pvt data for collection [%s:%s] does not match with the corresponding hash in the public data.\n\tpublic hash = [%#v], pvt data hash = [%#v]",
		e.Namespace, e.Collection, e.Public, e.Private)
}

// Refusal is a private write that the state database cannot take, and why; or a
// whole write set that does not decode, without Key.
type Refusal struct {
	Namespace, Collection, Key string
	Err                        error
}

// ApplyPrivate adds the private writes of the valid transactions to the
// updates. Sets of other transactions and missing ones are passed over. So are,
// as if they were missing, sets that do not decode and writes that the state
// database cannot take: an endorser can make them and have them in a valid
// transaction, since their hashes do not tell, and the reference stops for good at
// them (LEDGER §5.4).
func (v *Validator) ApplyPrivate(r *Result, block uint64, sets PrivateSets) error {
	if len(sets) == 0 {
		return nil
	}
	var bumps []bump
	for i, public := range r.RWSets {
		set := sets[uint64(i)]
		if public == nil || set == nil || !hasPrivateHash(public) {
			continue
		}
		b, err := v.applyPrivateTx(r, public, set, state.Version{Block: block, Tx: uint64(i)})
		if err != nil {
			return fmt.Errorf("private data of transaction [%d] of block [%d]: %w", i, block, err)
		}
		bumps = append(bumps, b...)
	}
	for _, b := range bumps {
		if err := v.bumpPrivate(r.Updates, b); err != nil {
			return err
		}
	}
	return nil
}

// RefusesPrivate is why the state database cannot take a private write; nil if it
// can.
func (v *Validator) RefusesPrivate(ns, coll, key string, value []byte) error {
	if v.CheckWrite != nil {
		if err := v.CheckWrite(key, value); err != nil {
			return err
		}
	}
	if v.CheckKey != nil {
		return v.CheckKey(state.PrivateNamespace(ns, coll), key)
	}
	return nil
}

func hasPrivateHash(set *protoutil.TxRWSet) bool {
	for i := range set.Namespaces {
		for k := range set.Namespaces[i].Collections {
			if len(set.Namespaces[i].Collections[k].PvtHash) > 0 {
				return true
			}
		}
	}
	return false
}

// PrivateHash is the hash that a transaction names for a collection's private
// write set, nil if it names none.
func PrivateHash(set *protoutil.TxRWSet, ns, coll string) []byte {
	for i := range set.Namespaces {
		if set.Namespaces[i].Namespace != ns {
			continue
		}
		for k := range set.Namespaces[i].Collections {
			if c := &set.Namespaces[i].Collections[k]; c.Name == coll {
				return c.PvtHash
			}
		}
	}
	return nil
}

// bump is a private metadata write: the private value may have to follow the
// version of its hashed key.
type bump struct{ ns, coll, key string }

func (v *Validator) applyPrivateTx(r *Result, public *protoutil.TxRWSet, set *rwset.TxPvtReadWriteSet, version state.Version) ([]bump, error) {
	var bumps []bump
	for _, ns := range set.GetNsPvtRwset() {
		for _, c := range ns.GetCollectionPvtRwset() {
			got := sha256.Sum256(c.GetRwset())
			if want := PrivateHash(public, ns.Namespace, c.CollectionName); !bytes.Equal(want, got[:]) {
				return nil, &HashMismatchError{Namespace: ns.Namespace, Collection: c.CollectionName, Public: want, Private: got[:]}
			}
			writes := &kvrwset.KVRWSet{}
			if err := proto.Unmarshal(c.Rwset, writes); err != nil {
				r.Refused = append(r.Refused, Refusal{Namespace: ns.Namespace, Collection: c.CollectionName, Err: fmt.Errorf("error unmarshaling KVRWSet: %w", err)})
				continue
			}
			for _, w := range writes.Writes {
				if err := v.RefusesPrivate(ns.Namespace, c.CollectionName, w.Key, w.Value); err != nil {
					r.Refused = append(r.Refused, Refusal{ns.Namespace, c.CollectionName, w.Key, err})
					continue
				}
				isDelete := w.IsDelete || len(w.Value) == 0
				r.Updates.PutPrivate(ns.Namespace, c.CollectionName, state.Write{Key: w.Key, Value: w.Value, Delete: isDelete, Version: version})
			}
			for _, m := range writes.MetadataWrites {
				bumps = append(bumps, bump{ns.Namespace, c.CollectionName, m.Key})
			}
		}
	}
	return bumps, nil
}

// bumpPrivate rewrites the latest private value of a key at the version of its
// hashed key, if it is the value that the hash belongs to.
func (v *Validator) bumpPrivate(u *Updates, b bump) error {
	keyHash := sha256.Sum256([]byte(b.key))
	hashed := u.Hashed(b.ns, b.coll).Get(string(keyHash[:]))
	if hashed == nil || hashed.Delete {
		return nil
	}
	var value []byte
	var version state.Version
	if w := u.Private(b.ns, b.coll).Get(b.key); w != nil {
		if w.Delete {
			return nil
		}
		value, version = w.Value, w.Version
	} else {
		c, err := v.State.Get(state.PrivateNamespace(b.ns, b.coll), b.key)
		if err != nil || c == nil {
			return err
		}
		value, version = c.Value, c.Version
	}
	valueHash := sha256.Sum256(value)
	if version == hashed.Version || !bytes.Equal(valueHash[:], hashed.Value) {
		return nil
	}
	u.PutPrivate(b.ns, b.coll, state.Write{Key: b.key, Value: value, Version: hashed.Version})
	return nil
}
