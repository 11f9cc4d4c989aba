package validation

import (
	"context"
	"crypto/sha256"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset/kvrwset"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/peer/validation/vscc"
)

// Scan is a decoded block with what is known of it without judging it: what it
// may change that later blocks look at, and what it looks at itself. It is
// immutable once made, except that Judge notes its reasons.
type Scan struct {
	block *protoutil.Block
	took  time.Duration
	deps  *vscc.Dependencies

	ids     map[string]struct{}   // transaction ids the ledger will know
	changes map[vscc.Key]struct{} // keys whose key-level policy may change
	barrier bool                  // config, or writes in lscc: later blocks must wait
	config  bool
	hashed  bool // writes keys of collections
	reasons []error
}

// Block is the scanned block.
func (s *Scan) Block() *protoutil.Block { return s.block }

// IsBarrier tells whether the block changes configuration or chaincode
// definitions.
func (s *Scan) IsBarrier() bool { return s.barrier }

// IsConfig tells whether the block has a transaction of type CONFIG.
func (s *Scan) IsConfig() bool { return s.config }

// Reason is why transaction i was found invalid by Judge, nil if it was not.
func (s *Scan) Reason(i int) error { return s.reasons[i] }

// txScan is what one transaction contributes to a Scan.
type txScan struct {
	id      string
	config  bool
	lscc    bool
	hashed  bool
	params  []vscc.Key // metadata writes
	changes []vscc.Key // metadata writes, deletions, and keys written twice
}

// Scan decodes a block in parallel. It cannot fail for what the block contains,
// only when ctx ends.
func (v *Validator) Scan(ctx context.Context, b *protoutil.Block) (*Scan, error) {
	start := time.Now()
	n := b.Len()
	txs := make([]txScan, n)
	if err := v.cfg.Pool.Run(ctx, n, 16, func(i int) { txs[i].read(b.Tx(i)) }); err != nil {
		return nil, err
	}
	s := &Scan{
		block: b, deps: vscc.NewDependencies(),
		ids: make(map[string]struct{}, n), changes: map[vscc.Key]struct{}{}, reasons: make([]error, n),
	}
	for i := range txs {
		t := &txs[i]
		if t.id != "" {
			s.ids[t.id] = struct{}{}
		}
		s.config = s.config || t.config
		s.barrier = s.barrier || t.lscc || t.config
		s.hashed = s.hashed || t.hashed
		for _, k := range t.params {
			s.deps.Add(i, k)
		}
		for _, k := range t.changes {
			s.changes[k] = struct{}{}
		}
	}
	s.took = time.Since(start)
	return s, nil
}

// read decodes everything that Judge will ask for, and collects what matters to
// other transactions. It looks at raw content, before any check.
func (t *txScan) read(tx *protoutil.Tx) {
	t.id = tx.ID()
	if ch, err := tx.ChannelHeader(); err == nil && ch.Type == int32(common.HeaderType_CONFIG) {
		t.config = true
	}
	_, _ = tx.Extension()
	set, err := tx.RWSet()
	if err != nil {
		return
	}
	for i := range set.Namespaces {
		t.readNamespace(&set.Namespaces[i])
	}
}

func (t *txScan) readNamespace(ns *protoutil.NsRWSet) {
	if ns.Namespace == "lscc" && (len(ns.KV.GetWrites()) > 0 || len(ns.KV.GetMetadataWrites()) > 0 || len(ns.Collections) > 0) {
		t.lscc = true
	}
	last := ""
	for i, w := range ns.KV.GetWrites() {
		// A key that does not follow its predecessor may be one that is written
		// twice, which has odd effects on its metadata (LEDGER §12.5).
		if w.GetIsDelete() || len(w.GetValue()) == 0 || (i > 0 && w.GetKey() <= last) {
			t.changes = append(t.changes, vscc.Key{Namespace: ns.Namespace, Key: w.GetKey()})
		}
		last = w.GetKey()
	}
	for _, w := range ns.KV.GetMetadataWrites() {
		t.param(vscc.Key{Namespace: ns.Namespace, Key: w.GetKey()})
	}
	for i := range ns.Collections {
		t.readCollection(ns.Namespace, &ns.Collections[i])
	}
}

func (t *txScan) readCollection(ns string, c *protoutil.CollRWSet) {
	writes := c.Hashed.GetHashedWrites()
	if len(writes) > 0 || len(c.Hashed.GetMetadataWrites()) > 0 {
		t.hashed = true
	}
	// Hashed keys are sorted by the plain keys, so their order says nothing.
	var seen map[string]bool
	if len(writes) > 1 {
		seen = make(map[string]bool, len(writes))
	}
	for _, w := range writes {
		k := vscc.Key{Namespace: ns, Collection: c.Name, Key: string(w.GetKeyHash())}
		if hashedDelete(w) || seen[k.Key] {
			t.changes = append(t.changes, k)
		}
		if seen != nil {
			seen[k.Key] = true
		}
	}
	for _, w := range c.Hashed.GetMetadataWrites() {
		t.param(vscc.Key{Namespace: ns, Collection: c.Name, Key: string(w.GetKeyHash())})
	}
}

func (t *txScan) param(k vscc.Key) {
	t.params = append(t.params, k)
	t.changes = append(t.changes, k)
}

var emptyHash = sha256.Sum256(nil)

// hashedDelete is the delete test of LEDGER §12.4.
func hashedDelete(w *kvrwset.KVWriteHash) bool {
	return w.GetIsDelete() || len(w.GetValueHash()) == 0 || string(w.GetValueHash()) == string(emptyHash[:])
}

// WaitFor tells which earlier block must be committed before this one can be
// judged, given the scans of the blocks before it that may not be, in order;
// false if none. keyLevel tells whether key-level policies are on under the
// configuration this block will be judged by, as far as it is known.
//
// After a barrier everything waits. With key-level policies, a block that writes
// a key whose policy is possibly changed by a pending block waits for that; one
// that writes keys of collections waits for its predecessor, because collections
// with a limited life lose keys at every block (LEDGER §14).
func (s *Scan) WaitFor(pending []*Scan, keyLevel bool) (uint64, bool) {
	if len(pending) == 0 {
		return 0, false
	}
	newest := pending[len(pending)-1].block.Number()
	if keyLevel && s.hashed {
		return newest, true
	}
	for i := len(pending) - 1; i >= 0; i-- {
		p := pending[i]
		if p.barrier || (keyLevel && len(p.changes) > 0 && s.writesAny(p.changes)) {
			return p.block.Number(), true
		}
	}
	return 0, false
}

func (s *Scan) writesAny(keys map[vscc.Key]struct{}) bool {
	found := false
	for i := range s.block.Len() {
		set, err := s.block.Tx(i).RWSet()
		if err != nil {
			continue
		}
		for n := range set.Namespaces {
			vscc.Keys(&set.Namespaces[n], func(k vscc.Key, _ bool) bool {
				_, found = keys[k]
				return !found
			})
			if found {
				return true
			}
		}
	}
	return false
}
