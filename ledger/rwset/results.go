package rwset

import (
	"maps"
	"slices"

	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset/kvrwset"
	"google.golang.org/protobuf/proto"
)

// Public is the public read-write set of what was recorded (LEDGER §11.7).
func (b *Builder) Public() (*rwset.TxReadWriteSet, error) {
	out := &rwset.TxReadWriteSet{DataModel: rwset.TxReadWriteSet_KV}
	for _, ns := range slices.Sorted(maps.Keys(b.spaces)) {
		s := b.spaces[ns]
		raw, err := marshal(s.public())
		if err != nil {
			return nil, err
		}
		set := &rwset.NsReadWriteSet{Namespace: ns, Rwset: raw}
		for _, name := range slices.Sorted(maps.Keys(s.colls)) {
			c, err := s.colls[name].hashed(name)
			if err != nil {
				return nil, err
			}
			set.CollectionHashedRwset = append(set.CollectionHashedRwset, c)
		}
		out.NsRwset = append(out.NsRwset, set)
	}
	return out, nil
}

// Private is the set of private writes, nil if there are none.
func (b *Builder) Private() (*rwset.TxPvtReadWriteSet, error) {
	out := &rwset.TxPvtReadWriteSet{DataModel: rwset.TxReadWriteSet_KV}
	for _, ns := range slices.Sorted(maps.Keys(b.spaces)) {
		s := b.spaces[ns]
		set := &rwset.NsPvtReadWriteSet{Namespace: ns}
		for _, name := range slices.Sorted(maps.Keys(s.colls)) {
			raw, err := s.colls[name].private()
			if err != nil {
				return nil, err
			}
			if raw != nil {
				set.CollectionPvtRwset = append(set.CollectionPvtRwset, &rwset.CollectionPvtReadWriteSet{CollectionName: name, Rwset: raw})
			}
		}
		if len(set.CollectionPvtRwset) > 0 {
			out.NsPvtRwset = append(out.NsPvtRwset, set)
		}
	}
	if len(out.NsPvtRwset) == 0 {
		return nil, nil
	}
	return out, nil
}

func (s *space) public() *kvrwset.KVRWSet {
	kv := &kvrwset.KVRWSet{
		Reads:          sorted(s.reads),
		Writes:         sorted(s.writes),
		MetadataWrites: sorted(s.metadata),
	}
	seen := make(map[rangeKey]bool, len(s.ranges))
	for _, r := range s.ranges {
		if k := r.key(); !seen[k] {
			seen[k] = true
			kv.RangeQueriesInfo = append(kv.RangeQueriesInfo, r.info())
		}
	}
	return kv
}

func (c *coll) hashed(name string) (*rwset.CollectionHashedReadWriteSet, error) {
	raw, err := marshal(&kvrwset.HashedRWSet{
		HashedReads:    sorted(c.reads),
		HashedWrites:   sorted(c.hashedWrites),
		MetadataWrites: sorted(c.hashedMetadata),
	})
	if err != nil {
		return nil, err
	}
	out := &rwset.CollectionHashedReadWriteSet{CollectionName: name, HashedRwset: raw}
	private, err := c.private()
	if err != nil {
		return nil, err
	}
	if private != nil {
		out.PvtRwsetHash = digest(private)
	}
	return out, nil
}

// private is the marshalled private write set, nil if only reads were recorded.
func (c *coll) private() ([]byte, error) {
	if len(c.writes) == 0 && len(c.metadata) == 0 {
		return nil, nil
	}
	return marshal(&kvrwset.KVRWSet{Writes: sorted(c.writes), MetadataWrites: sorted(c.metadata)})
}

func sorted[T any](m map[string]*T) []*T {
	if len(m) == 0 {
		return nil
	}
	out := make([]*T, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[k])
	}
	return out
}

func marshal(m proto.Message) ([]byte, error) {
	return proto.MarshalOptions{Deterministic: true}.Marshal(m)
}
