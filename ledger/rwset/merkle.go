package rwset

import (
	"crypto/sha256"
	"hash"

	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset/kvrwset"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/heddle-ledger/heddle/ledger/state"
)

// MaxDegree is the degree of the Merkle summaries that simulations make
// (LEDGER §11.4).
const MaxDegree = 50

// MinDegree is the smallest degree a summary may have; the reference does not
// survive smaller ones (LEDGER §12.5).
const MinDegree = 2

// Merkle summarises the results of a range query, fed in order (LEDGER §11.4).
// It keeps no results, only hashes: less than one group per level.
type Merkle struct {
	degree   int
	group    hash.Hash // over the encoded QueryReads of the results not yet in a leaf
	inGroup  int
	scratch  []byte
	levels   [][][]byte // levels[0] is level 1
	maxLevel int
}

// NewMerkle returns a summary of the given degree, at least MinDegree.
func NewMerkle(degree uint32) *Merkle { return &Merkle{degree: int(degree), group: sha256.New()} }

// Add feeds the next result.
func (m *Merkle) Add(key string, v state.Version) {
	m.scratch = appendQueryRead(m.scratch[:0], key, v)
	m.group.Write(m.scratch)
	m.inGroup++
	if m.inGroup == m.degree+1 {
		m.leaf()
	}
}

func (m *Merkle) leaf() {
	h := m.group.Sum(nil)
	m.group.Reset()
	m.inGroup = 0
	m.push(1, h)
}

// push adds a hash to a level and folds full levels upwards.
func (m *Merkle) push(level int, hash []byte) {
	for {
		for len(m.levels) < level {
			m.levels = append(m.levels, nil)
		}
		m.maxLevel = max(m.maxLevel, level)
		m.levels[level-1] = append(m.levels[level-1], hash)
		if len(m.levels[level-1]) <= m.degree {
			return
		}
		hash = concatHash(m.levels[level-1])
		m.levels[level-1] = nil
		level++
	}
}

// Summary ends the feeding. It is nil if the results never filled a group, in
// which case they are listed one by one instead.
func (m *Merkle) Summary() *kvrwset.QueryReadsMerkleSummary {
	if m.maxLevel == 0 {
		return nil
	}
	if m.inGroup > 0 {
		m.leaf()
	}
	top := m.maxLevel
	for level := 1; level < top; level++ {
		hashes := m.levels[level-1]
		m.levels[level-1] = nil
		switch len(hashes) {
		case 0:
			continue
		case 1:
			m.levels[level] = append(m.levels[level], hashes[0])
		default:
			m.levels[level] = append(m.levels[level], concatHash(hashes))
		}
	}
	hashes := m.levels[top-1]
	if len(hashes) > m.degree {
		hashes = [][]byte{concatHash(hashes)}
		top++
	}
	return &kvrwset.QueryReadsMerkleSummary{MaxDegree: uint32(m.degree), MaxLevel: uint32(top), MaxLevelHashes: hashes}
}

func concatHash(hashes [][]byte) []byte {
	h := sha256.New()
	for _, x := range hashes {
		h.Write(x)
	}
	return h.Sum(nil)
}

// appendQueryRead appends one element of QueryReads.kv_reads.
func appendQueryRead(out []byte, key string, v state.Version) []byte {
	version := 0
	if v.Block != 0 {
		version += 1 + protowire.SizeVarint(v.Block)
	}
	if v.Tx != 0 {
		version += 1 + protowire.SizeVarint(v.Tx)
	}
	n := 1 + protowire.SizeBytes(version)
	if key != "" {
		n += 1 + protowire.SizeBytes(len(key))
	}
	out = protowire.AppendTag(out, 1, protowire.BytesType)
	out = protowire.AppendVarint(out, uint64(n))
	if key != "" {
		out = protowire.AppendTag(out, 1, protowire.BytesType)
		out = protowire.AppendString(out, key)
	}
	out = protowire.AppendTag(out, 2, protowire.BytesType)
	out = protowire.AppendVarint(out, uint64(version))
	if v.Block != 0 {
		out = protowire.AppendTag(out, 1, protowire.VarintType)
		out = protowire.AppendVarint(out, v.Block)
	}
	if v.Tx != 0 {
		out = protowire.AppendTag(out, 2, protowire.VarintType)
		out = protowire.AppendVarint(out, v.Tx)
	}
	return out
}
