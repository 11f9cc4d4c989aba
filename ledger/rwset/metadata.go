package rwset

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset/kvrwset"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// EncodeMetadata is the form in which the state keeps the metadata of a key: a
// KVMetadataWrite with the entries in the given order and no key
// (LEDGER §4.4). No entries give nil.
func EncodeMetadata(entries []*kvrwset.KVMetadataEntry) []byte {
	var out []byte
	for _, e := range entries {
		n := 0
		if e.GetName() != "" {
			n += 1 + protowire.SizeBytes(len(e.Name))
		}
		if len(e.GetValue()) > 0 {
			n += 1 + protowire.SizeBytes(len(e.Value))
		}
		out = protowire.AppendTag(out, 2, protowire.BytesType)
		out = protowire.AppendVarint(out, uint64(n))
		if e.GetName() != "" {
			out = protowire.AppendTag(out, 1, protowire.BytesType)
			out = protowire.AppendString(out, e.Name)
		}
		if len(e.GetValue()) > 0 {
			out = protowire.AppendTag(out, 2, protowire.BytesType)
			out = protowire.AppendBytes(out, e.Value)
		}
	}
	return out
}

// DecodeMetadata reads what EncodeMetadata wrote. No bytes give a nil map.
func DecodeMetadata(raw []byte) (map[string][]byte, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	m := &kvrwset.KVMetadataWrite{}
	if err := proto.Unmarshal(raw, m); err != nil {
		return nil, fmt.Errorf("unmarshal state metadata: %w", err)
	}
	out := make(map[string][]byte, len(m.Entries))
	for _, e := range m.Entries {
		out[e.Name] = e.Value
	}
	return out, nil
}

// metadataEntries turns a map into entries sorted by name.
func metadataEntries(m map[string][]byte) []*kvrwset.KVMetadataEntry {
	if len(m) == 0 {
		return nil
	}
	out := make([]*kvrwset.KVMetadataEntry, 0, len(m))
	for name, value := range m {
		out = append(out, &kvrwset.KVMetadataEntry{Name: name, Value: value})
	}
	slices.SortFunc(out, func(a, b *kvrwset.KVMetadataEntry) int { return strings.Compare(a.Name, b.Name) })
	return out
}
