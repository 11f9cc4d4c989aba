package vscc

import (
	"fmt"
	"sync"

	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/internal/policy"
	"github.com/heddle-ledger/heddle/internal/protoutil"
)

// metadataParameter is the name of the metadata entry that holds a key's
// endorsement policy.
var metadataParameter = peer.MetaDataKeys_VALIDATION_PARAMETER.String()

// Key names a key of a namespace. For a key of a collection, Key is the raw key
// hash.
type Key struct{ Namespace, Collection, Key string }

// Keys calls visit for every key that a namespace's write set writes, in the
// order in which key-level policies are checked (ENDORSE-VALIDATE §6.6); it
// stops when visit says false.
func Keys(ns *protoutil.NsRWSet, visit func(k Key, metadata bool) bool) {
	for _, w := range ns.KV.GetWrites() {
		if !visit(Key{ns.Namespace, "", w.GetKey()}, false) {
			return
		}
	}
	for _, w := range ns.KV.GetMetadataWrites() {
		if !visit(Key{ns.Namespace, "", w.GetKey()}, true) {
			return
		}
	}
	for i := range ns.Collections {
		c := &ns.Collections[i]
		for _, w := range c.Hashed.GetHashedWrites() {
			if !visit(Key{ns.Namespace, c.Name, string(w.GetKeyHash())}, false) {
				return
			}
		}
		for _, w := range c.Hashed.GetMetadataWrites() {
			if !visit(Key{ns.Namespace, c.Name, string(w.GetKeyHash())}, true) {
				return
			}
		}
	}
}

// Dependencies knows which transactions of a block change which key-level
// policies, and what became of them.
//
// It is filled (Add) before the block is judged. While it is judged, every
// transaction that changes policies is either posted for each namespace in which
// the plugin ran, or not, and in any case finished in the end; so nobody waits
// for a verdict that is never given.
type Dependencies struct {
	changes  map[Key][]int // transactions with a metadata write of the key, ascending
	verdicts map[int]*verdict
}

type verdict struct {
	mu    sync.Mutex // guards valid
	valid map[string]bool
	done  chan struct{}
}

// NewDependencies returns the dependencies of a block without key-level policy
// changes.
func NewDependencies() *Dependencies { return &Dependencies{} }

// Add notes that a transaction carries a metadata write of the key. It is called
// in ascending order of transactions.
func (d *Dependencies) Add(tx int, k Key) {
	if d.changes == nil {
		d.changes = map[Key][]int{}
		d.verdicts = map[int]*verdict{}
	}
	if list := d.changes[k]; len(list) == 0 || list[len(list)-1] != tx {
		d.changes[k] = append(list, tx)
	}
	if d.verdicts[tx] == nil {
		d.verdicts[tx] = &verdict{valid: map[string]bool{}, done: make(chan struct{})}
	}
}

// Post records what the plugin said about a transaction in a namespace.
func (d *Dependencies) Post(tx int, namespace string, valid bool) {
	v := d.verdicts[tx]
	if v == nil {
		return
	}
	v.mu.Lock()
	v.valid[namespace] = valid
	v.mu.Unlock()
}

// Finish says that the transaction has been judged. It is called exactly once
// for every transaction of the block.
func (d *Dependencies) Finish(tx int) {
	if v := d.verdicts[tx]; v != nil {
		close(v.done)
	}
}

// ChangedBefore returns the first transaction before tx that changed the key's
// policy and was found valid for the key's namespace. It waits for the verdicts
// it needs.
func (d *Dependencies) ChangedBefore(tx int, k Key) (int, bool) {
	for _, i := range d.changes[k] {
		if i >= tx {
			break
		}
		v := d.verdicts[i]
		<-v.done
		v.mu.Lock()
		valid := v.valid[k.Namespace]
		v.mu.Unlock()
		if valid {
			return i, true
		}
	}
	return 0, false
}

// keyCheck judges the keys that one transaction writes in one namespace.
type keyCheck struct {
	*Call
	set       []policy.SignedData
	evaluated bool  // something has been evaluated
	common    bool  // the chaincode's policy has been evaluated
	commonErr error // ... with this result
}

// checkKeys is the rule from V1_3 on: key-level policies (ENDORSE-VALIDATE §6.6).
func (c *Call) checkKeys() error {
	set, err := signatureSet(c.Tx)
	if err != nil {
		return err
	}
	writes, err := c.Tx.RWSet()
	if err != nil {
		return err
	}
	kc := keyCheck{Call: c, set: set}
	for i := range writes.Namespaces {
		if writes.Namespaces[i].Namespace != c.Namespace {
			continue
		}
		Keys(&writes.Namespaces[i], func(k Key, _ bool) bool {
			err = kc.check(k)
			return err == nil
		})
		if err != nil {
			return err
		}
	}
	if kc.evaluated {
		return nil
	}
	return kc.chaincodePolicy()
}

func (kc *keyCheck) check(k Key) error {
	if i, changed := kc.Block.Deps.ChangedBefore(kc.TxNum, k); changed {
		return fmt.Errorf("validation parameters for key [%s] in namespace [%s:%s] have been changed in transaction %d of block %d",
			printable(k), k.Namespace, k.Collection, i, kc.Block.Number)
	}
	param, err := kc.parameter(k)
	if err != nil {
		return err
	}
	kc.evaluated = true
	if len(param) == 0 {
		return kc.chaincodePolicy()
	}
	if err := kc.Block.Policies.Evaluate(param, kc.set); err != nil {
		return fmt.Errorf("validation of key %s (coll'%s':ns'%s') in tx %d:%d failed: %w",
			printable(k), k.Collection, k.Namespace, kc.Block.Number, kc.TxNum, err)
	}
	return nil
}

func (kc *keyCheck) chaincodePolicy() error {
	if !kc.common {
		kc.common = true
		kc.commonErr = kc.Block.Policies.Evaluate(kc.Policy, kc.set)
	}
	if kc.commonErr != nil {
		return fmt.Errorf("validation of endorsement policy for chaincode %s in tx %d:%d failed: %w",
			kc.Namespace, kc.Block.Number, kc.TxNum, kc.commonErr)
	}
	return nil
}

// parameter is the key's own policy in committed state, empty if it has none.
func (kc *keyCheck) parameter(k Key) ([]byte, error) {
	var md map[string][]byte
	var err error
	if k.Collection == "" {
		md, err = kc.Block.State.GetStateMetadata(k.Namespace, k.Key)
	} else {
		var defined bool
		defined, err = kc.Block.Collections.Defines(k.Namespace, k.Collection)
		if err == nil && defined {
			md, err = kc.Block.State.GetPrivateDataMetadataByHash(k.Namespace, k.Collection, []byte(k.Key))
		}
	}
	if err != nil {
		return nil, execution("could not retrieve metadata for %s:%s, error %w", k.Namespace, printable(k), err)
	}
	return md[metadataParameter], nil
}

// printable is the key as texts show it.
func printable(k Key) string {
	if k.Collection == "" {
		return k.Key
	}
	return fmt.Sprintf("%x", k.Key)
}
