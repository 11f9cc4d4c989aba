package ledger

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
)

// The model is a ledger of one channel in the plainest form: whole copies of maps,
// nothing incremental, no hashes. It knows what a transaction did from the calls
// that made it, not from its bytes, and applies LEDGER §12, §14 and §16.

type modelVersion struct{ block, tx uint64 }

// modelValue is a committed value.
type modelValue struct {
	value, metadata string
	version         modelVersion
}

// modelWorld is the state after a block, by space and key.
type modelWorld map[modelKey]modelValue

// modelKey names a key. The space is a chaincode, or one of a collection's two: in
// that of the hashes the plain keys and values stand for theirs.
type modelKey struct{ space, key string }

func hashedSpace(ns, coll string) string  { return ns + "#" + coll }
func privateSpace(ns, coll string) string { return ns + "!" + coll }

// modelTx is what a transaction did.
type modelTx struct {
	id       string
	config   bool
	preset   byte
	spaces   map[string]*modelSpace
	withheld bool // its private data are not given with the block
	late     bool // … and were brought later
}

// modelSpace is what a transaction did in one chaincode.
type modelSpace struct {
	reads   map[modelKey]*modelVersion // of public and hashed keys; nil if absent
	ranges  []modelRange
	writes  map[modelKey]string // of public and hashed keys; empty means delete
	meta    map[string]string   // metadata of public keys
	private map[modelKey]string // of private keys
}

// modelRange is a range scan and what it saw.
type modelRange struct {
	start, end string
	stopped    bool // the scan was not read to its end; then end is what it saw last
	saw        []modelSeen
}

type modelSeen struct {
	key     string
	version modelVersion
}

func (tx *modelTx) space(ns string) *modelSpace {
	s := tx.spaces[ns]
	if s == nil {
		s = &modelSpace{reads: map[modelKey]*modelVersion{}, writes: map[modelKey]string{}, meta: map[string]string{}, private: map[modelKey]string{}}
		tx.spaces[ns] = s
	}
	return s
}

// modelBlock is a committed block with the state after it.
type modelBlock struct {
	txs   []*modelTx
	codes []byte
	world modelWorld
}

// modelExpiry is a private key that expires.
type modelExpiry struct {
	expiring, committing uint64
	ns, coll, key        string
	known                bool // the key itself is known here, not only its hash
}

// model is the channel. Blocks that a rollback has taken away stay in it: they
// come again.
type model struct {
	blocks  []*modelBlock
	expiry  []modelExpiry
	lives   map[string]uint64 // block to live of collections
	decodes bool              // the state database normalises JSON
}

func (m *model) world() modelWorld { return m.blocks[len(m.blocks)-1].world }

// asRead is a value as it comes back from the state.
func (m *model) asRead(v string) string {
	var members map[string]any
	if !m.decodes || json.Unmarshal([]byte(v), &members) != nil || members == nil {
		return v
	}
	out, err := json.Marshal(members)
	if err != nil {
		return v
	}
	return string(out)
}

// pendingWorld is the state with the effects of a block's valid transactions so
// far; a nil value is a key deleted by one.
type pendingWorld map[modelKey]*modelValue

// commit judges a block and applies it.
func (m *model) commit(txs []*modelTx) *modelBlock {
	number := uint64(len(m.blocks))
	before := modelWorld{}
	if number > 0 {
		before = m.world()
	}
	b := &modelBlock{txs: txs, codes: make([]byte, len(txs))}
	pending := pendingWorld{}
	for i, tx := range txs {
		if b.codes[i] = tx.preset; tx.preset != 0 || tx.config {
			continue
		}
		if b.codes[i] = judgeModel(before, pending, tx); b.codes[i] == 0 {
			m.apply(before, pending, tx, modelVersion{number, uint64(i)})
		}
	}
	m.schedule(number, pending)
	m.purge(number, before, pending)
	b.world = maps.Clone(before)
	for k, v := range pending {
		if v == nil {
			delete(b.world, k)
		} else {
			b.world[k] = *v
		}
	}
	m.blocks = append(m.blocks, b)
	return b
}

func judgeModel(before modelWorld, pending pendingWorld, tx *modelTx) byte {
	for _, ns := range slices.Sorted(maps.Keys(tx.spaces)) {
		s := tx.spaces[ns]
		conflict := func(public bool) bool {
			for k, v := range s.reads {
				if public != (k.space == ns) {
					continue
				}
				if _, touched := pending[k]; touched {
					return true
				}
				now, exists := before[k]
				if exists != (v != nil) || v != nil && now.version != *v {
					return true
				}
			}
			return false
		}
		if conflict(true) {
			return byte(peer.TxValidationCode_MVCC_READ_CONFLICT)
		}
		for _, r := range s.ranges {
			if !slices.Equal(r.saw, scanModel(before, pending, ns, r)) {
				return byte(peer.TxValidationCode_PHANTOM_READ_CONFLICT)
			}
		}
		if conflict(false) {
			return byte(peer.TxValidationCode_MVCC_READ_CONFLICT)
		}
	}
	return 0
}

// scanModel is what a range scan sees now.
func scanModel(before modelWorld, pending pendingWorld, ns string, r modelRange) []modelSeen {
	var out []modelSeen
	take := func(k modelKey, v modelVersion) {
		if k.space == ns && k.key >= r.start && (r.end == "" || k.key < r.end) {
			out = append(out, modelSeen{k.key, v})
		}
	}
	for k, v := range before {
		if _, touched := pending[k]; !touched {
			take(k, v.version)
		}
	}
	for k, v := range pending {
		if v != nil {
			take(k, v.version)
		}
	}
	slices.SortFunc(out, func(a, b modelSeen) int { return strings.Compare(a.key, b.key) })
	if !r.stopped {
		return out
	}
	// The last key counts, also the empty one of a scan that was never read.
	last := modelKey{ns, r.end}
	if v, touched := pending[last]; touched {
		if v != nil {
			out = append(out, modelSeen{r.end, v.version})
		}
	} else if v, ok := before[last]; ok {
		out = append(out, modelSeen{r.end, v.version})
	}
	return out
}

func (m *model) apply(before modelWorld, pending pendingWorld, tx *modelTx, version modelVersion) {
	latest := func(k modelKey) *modelValue {
		if v, touched := pending[k]; touched {
			return v
		}
		if v, ok := before[k]; ok {
			return &v
		}
		return nil
	}
	for ns, s := range tx.spaces {
		for k, v := range s.writes {
			meta, withMeta := "", false
			if k.space == ns {
				meta, withMeta = s.meta[k.key]
			}
			if old := latest(k); !withMeta && old != nil {
				meta = old.metadata
			}
			if v == "" {
				pending[k] = nil
			} else {
				pending[k] = &modelValue{v, meta, version}
			}
		}
		for key, meta := range s.meta {
			k := modelKey{ns, key}
			if _, written := s.writes[k]; written {
				continue
			}
			if old := latest(k); old != nil {
				pending[k] = &modelValue{old.value, meta, version}
			}
		}
		if tx.withheld {
			continue
		}
		for k, v := range s.private {
			if v == "" {
				pending[k] = nil
			} else {
				pending[k] = &modelValue{value: v, version: version}
			}
		}
	}
}

// splitSpace takes the name of a collection's space apart.
func splitSpace(space string) (ns, coll string, kind byte) {
	i := strings.IndexAny(space, "#!")
	if i < 0 {
		return space, "", 0
	}
	return space[:i], space[i+1:], space[i]
}

// schedule notes what a block has written that expires.
func (m *model) schedule(number uint64, pending pendingWorld) {
	for k, v := range pending {
		ns, coll, kind := splitSpace(k.space)
		if kind != '#' || v == nil || m.lives[coll] == 0 {
			continue
		}
		private, known := pending[modelKey{privateSpace(ns, coll), k.key}]
		m.expiry = append(m.expiry, modelExpiry{number + m.lives[coll] + 1, number, ns, coll, k.key, known && private != nil})
	}
}

// purge deletes what expires in a block and is not written by it.
func (m *model) purge(number uint64, before modelWorld, pending pendingWorld) {
	for _, e := range m.expiry {
		if e.expiring != number {
			continue
		}
		h, p := modelKey{hashedSpace(e.ns, e.coll), e.key}, modelKey{privateSpace(e.ns, e.coll), e.key}
		hashed, there := before[h]
		expired := there && hashed.version.block == e.committing
		if _, written := pending[h]; expired && !written {
			pending[h] = nil
		}
		if !e.known {
			continue
		}
		if private, there := before[p]; !expired && there {
			expired = private.version.block == e.committing
		}
		if _, written := pending[p]; expired && !written {
			pending[p] = nil
		}
	}
}

// reconcile brings the private data of an old transaction.
func (m *model) reconcile(block, number uint64) {
	tx := m.blocks[block].txs[number]
	tx.late = true
	if m.blocks[block].codes[number] != 0 {
		return
	}
	world := m.world()
	for _, s := range tx.spaces {
		for k, v := range s.private {
			ns, coll, _ := splitSpace(k.space)
			if hashed, ok := world[modelKey{hashedSpace(ns, coll), k.key}]; ok && hashed.version == (modelVersion{block, number}) {
				world[k] = modelValue{value: v, version: hashed.version}
				for i := range m.expiry {
					if e := &m.expiry[i]; e.committing == block && e.ns == ns && e.coll == coll && e.key == k.key {
						e.known = true
					}
				}
			}
		}
	}
}

// missing lists the collections that a block misses data of, by transaction,
// leaving out what has expired.
func (m *model) missing(block uint64) map[uint64][]string {
	out := map[uint64][]string{}
	last := uint64(len(m.blocks) - 1)
	for i, tx := range m.blocks[block].txs {
		if !tx.withheld || tx.late {
			continue
		}
		for _, coll := range tx.collections() {
			if live := m.lives[coll]; live == 0 || block+live+1 > last {
				out[uint64(i)] = append(out[uint64(i)], coll)
			}
		}
	}
	return out
}

// collections lists those of which a transaction has written private data.
func (tx *modelTx) collections() []string {
	found := map[string]bool{}
	for _, s := range tx.spaces {
		for k := range s.private {
			_, coll, _ := splitSpace(k.space)
			found[coll] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// history lists what valid transactions of the blocks below a height did to a
// public key, oldest first.
func (m *model) history(ns, key string, below uint64) []string {
	var out []string
	for _, b := range m.blocks[:below] {
		for i, tx := range b.txs {
			if b.codes[i] != 0 || tx.spaces[ns] == nil {
				continue
			}
			if v, ok := tx.spaces[ns].writes[modelKey{ns, key}]; ok {
				out = append(out, tx.id+"="+v)
			}
		}
	}
	return out
}

// find looks for the first transaction of an id.
func (m *model) find(txid string) (block, tx int, ok bool) {
	for n, b := range m.blocks {
		for i := range b.txs {
			if b.txs[i].id == txid {
				return n, i, true
			}
		}
	}
	return 0, 0, false
}

// keys lists the keys of a space in order.
func (w modelWorld) keys(space string) []string {
	var out []string
	for k := range w {
		if k.space == space {
			out = append(out, k.key)
		}
	}
	slices.SortFunc(out, cmp.Compare[string])
	return out
}
