package audit

import (
	"encoding/binary"
	"hash/maphash"
)

// setSum is a fingerprint of a set of entries that does not depend on their
// order: so what a database should hold is compared with what it holds without
// looking up each entry. It is keyed anew for each run, so nobody can make two
// sets collide on purpose; by chance they do once in 2^128.
type setSum struct{ A, B, N uint64 }

// summer adds entries to sums. It belongs to one goroutine.
type summer struct {
	seeds *[2]maphash.Seed
	buf   []byte
}

func newSeeds() *[2]maphash.Seed { return &[2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()} }

func (s *summer) add(sum *setSum, key, value []byte) {
	s.buf = binary.AppendUvarint(s.buf[:0], uint64(len(key)))
	s.buf = append(append(s.buf, key...), value...)
	sum.A += maphash.Bytes(s.seeds[0], s.buf)
	sum.B += maphash.Bytes(s.seeds[1], s.buf)
	sum.N++
}

func (s *setSum) join(o setSum) {
	s.A += o.A
	s.B += o.B
	s.N += o.N
}
