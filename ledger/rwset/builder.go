// Package rwset collects what a simulation reads and writes and serialises it
// as every endorser must (LEDGER §11): the public read-write set with its range
// query infos and Merkle summaries, and the private write sets.
//
// It owns no state beyond a Builder and starts no goroutine. It may be imported
// by the ledger room only.
package rwset

import (
	"crypto/sha256"

	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset/kvrwset"

	"github.com/heddle-ledger/heddle/ledger/state"
)

// Builder collects one simulation. It is not safe for concurrent use.
type Builder struct {
	spaces map[string]*space
}

type space struct {
	reads    map[string]*kvrwset.KVRead
	writes   map[string]*kvrwset.KVWrite
	metadata map[string]*kvrwset.KVMetadataWrite
	ranges   []*Range
	colls    map[string]*coll
}

// coll keeps everything under the plain key, by which the hashed parts are
// sorted too (LEDGER §11.7).
type coll struct {
	reads          map[string]*kvrwset.KVReadHash
	hashedWrites   map[string]*kvrwset.KVWriteHash
	hashedMetadata map[string]*kvrwset.KVMetadataWriteHash
	writes         map[string]*kvrwset.KVWrite
	metadata       map[string]*kvrwset.KVMetadataWrite
}

// NewBuilder returns an empty builder.
func NewBuilder() *Builder { return &Builder{spaces: map[string]*space{}} }

func (b *Builder) space(ns string) *space {
	s := b.spaces[ns]
	if s == nil {
		s = &space{
			reads:  map[string]*kvrwset.KVRead{},
			writes: map[string]*kvrwset.KVWrite{},
		}
		b.spaces[ns] = s
	}
	return s
}

func (b *Builder) coll(ns, name string) *coll {
	s := b.space(ns)
	c := s.colls[name]
	if c == nil {
		c = &coll{
			reads:          map[string]*kvrwset.KVReadHash{},
			hashedWrites:   map[string]*kvrwset.KVWriteHash{},
			hashedMetadata: map[string]*kvrwset.KVMetadataWriteHash{},
			writes:         map[string]*kvrwset.KVWrite{},
			metadata:       map[string]*kvrwset.KVMetadataWrite{},
		}
		if s.colls == nil {
			s.colls = map[string]*coll{}
		}
		s.colls[name] = c
	}
	return c
}

func versionOf(v *state.Version) *kvrwset.Version {
	if v == nil {
		return nil
	}
	return v.Proto()
}

// Read records a read of a public key; version nil means the key is absent. A
// later read of the same key replaces an earlier one.
func (b *Builder) Read(ns, key string, version *state.Version) {
	b.space(ns).reads[key] = &kvrwset.KVRead{Key: key, Version: versionOf(version)}
}

// Write records a write; an empty value is a delete.
func (b *Builder) Write(ns, key string, value []byte) {
	b.space(ns).writes[key] = newWrite(key, value)
}

func newWrite(key string, value []byte) *kvrwset.KVWrite {
	if len(value) == 0 {
		return &kvrwset.KVWrite{Key: key, IsDelete: true}
	}
	return &kvrwset.KVWrite{Key: key, Value: value}
}

// WriteMetadata records that the metadata of a key are replaced; an empty map
// removes them.
func (b *Builder) WriteMetadata(ns, key string, metadata map[string][]byte) {
	s := b.space(ns)
	if s.metadata == nil {
		s.metadata = map[string]*kvrwset.KVMetadataWrite{}
	}
	s.metadata[key] = &kvrwset.KVMetadataWrite{Key: key, Entries: metadataEntries(metadata)}
}

func digest(b []byte) []byte {
	h := sha256.Sum256(b)
	return h[:]
}

// ReadPrivate records a read of the hash of a private key.
func (b *Builder) ReadPrivate(ns, collection, key string, version *state.Version) {
	b.coll(ns, collection).reads[key] = &kvrwset.KVReadHash{KeyHash: digest([]byte(key)), Version: versionOf(version)}
}

// WritePrivate records a private write and its hashed counterpart.
func (b *Builder) WritePrivate(ns, collection, key string, value []byte) {
	c := b.coll(ns, collection)
	c.writes[key] = newWrite(key, value)
	h := &kvrwset.KVWriteHash{KeyHash: digest([]byte(key))}
	if len(value) == 0 {
		h.IsDelete = true
	} else {
		h.ValueHash = digest(value)
	}
	c.hashedWrites[key] = h
}

// WritePrivateMetadata records that the metadata of a private key are replaced.
// The entries go into the hashed set; the private one names the key only.
func (b *Builder) WritePrivateMetadata(ns, collection, key string, metadata map[string][]byte) {
	c := b.coll(ns, collection)
	c.metadata[key] = &kvrwset.KVMetadataWrite{Key: key}
	c.hashedMetadata[key] = &kvrwset.KVMetadataWriteHash{KeyHash: digest([]byte(key)), Entries: metadataEntries(metadata)}
}

// OpenRange records that a range query over [start, end) was opened. The
// results the caller pulls are reported to the Range returned.
func (b *Builder) OpenRange(ns, start, end string) *Range {
	r := &Range{start: start, end: end, merkle: NewMerkle(MaxDegree)}
	s := b.space(ns)
	s.ranges = append(s.ranges, r)
	return r
}

// Range records one range query (LEDGER §11.3).
type Range struct {
	start, end string
	last       string
	exhausted  bool
	raw        []*kvrwset.KVRead
	overflow   bool
	merkle     *Merkle
}

// Add reports a result that the caller pulled.
func (r *Range) Add(key string, v state.Version) {
	r.last = key
	r.merkle.Add(key, v)
	switch {
	case r.overflow:
	case len(r.raw) == MaxDegree:
		r.overflow, r.raw = true, nil
	default:
		r.raw = append(r.raw, &kvrwset.KVRead{Key: key, Version: v.Proto()})
	}
}

// End reports that a pull found no more results.
func (r *Range) End() { r.exhausted = true }

type rangeKey struct {
	start, end string
	exhausted  bool
}

func (r *Range) key() rangeKey {
	if r.exhausted {
		return rangeKey{r.start, r.end, true}
	}
	return rangeKey{r.start, r.last, false}
}

func (r *Range) info() *kvrwset.RangeQueryInfo {
	k := r.key()
	q := &kvrwset.RangeQueryInfo{StartKey: k.start, EndKey: k.end, ItrExhausted: k.exhausted}
	if summary := r.merkle.Summary(); summary != nil {
		q.ReadsInfo = &kvrwset.RangeQueryInfo_ReadsMerkleHashes{ReadsMerkleHashes: summary}
	} else if len(r.raw) > 0 {
		q.ReadsInfo = &kvrwset.RangeQueryInfo_RawReads{RawReads: &kvrwset.QueryReads{KvReads: r.raw}}
	}
	return q
}
