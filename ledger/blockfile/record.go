package blockfile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"google.golang.org/protobuf/encoding/protowire"
)

// errRecord is returned for bytes that are not the body of a record.
var errRecord = errors.New("malformed block record")

// span is the place of a transaction's bytes field within a record, counted
// from the record's length prefix.
type span struct {
	offset, length int
}

func uvarintSize(n uint64) int { return (bits.Len64(n|1) + 6) / 7 }

func fieldSize(b []byte) int { return uvarintSize(uint64(len(b))) + len(b) }

func bodySize(b *common.Block) int {
	h, data, meta := b.GetHeader(), b.GetData().GetData(), b.GetMetadata().GetMetadata()
	n := uvarintSize(h.GetNumber()) + fieldSize(h.GetDataHash()) + fieldSize(h.GetPreviousHash())
	n += uvarintSize(uint64(len(data))) + uvarintSize(uint64(len(meta)))
	for _, d := range data {
		n += fieldSize(d)
	}
	for _, m := range meta {
		n += fieldSize(m)
	}
	return n
}

func appendField(dst, b []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(b))), b...)
}

// appendRecord appends the record of a block, length prefix included (LEDGER
// §3.2, §3.3), and the places of its transactions. dst must be empty.
func appendRecord(dst []byte, spans []span, b *common.Block) ([]byte, []span) {
	size := bodySize(b)
	if need := size + binary.MaxVarintLen64; cap(dst) < need {
		dst = make([]byte, 0, need)
	}
	h, data, meta := b.GetHeader(), b.GetData().GetData(), b.GetMetadata().GetMetadata()
	dst = binary.AppendUvarint(dst, uint64(size))
	dst = binary.AppendUvarint(dst, h.GetNumber())
	dst = appendField(dst, h.GetDataHash())
	dst = appendField(dst, h.GetPreviousHash())
	dst = binary.AppendUvarint(dst, uint64(len(data)))
	for _, d := range data {
		at := len(dst)
		dst = appendField(dst, d)
		spans = append(spans, span{at, len(dst) - at})
	}
	dst = binary.AppendUvarint(dst, uint64(len(meta)))
	for _, m := range meta {
		dst = appendField(dst, m)
	}
	return dst, spans
}

// record is a decoded body. Its slices share the body's memory.
type record struct {
	number             uint64
	dataHash, prevHash []byte
	txs, metadata      [][]byte
}

// fieldReader takes a body apart. Once it has failed it stays failed.
type fieldReader struct {
	rest []byte
	bad  bool
}

func (r *fieldReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.bad, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *fieldReader) bytes() []byte {
	n := r.uvarint()
	if n > uint64(len(r.rest)) {
		r.bad, r.rest = true, nil
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

// maxTrusted bounds the room made for a list because of its count alone.
const maxTrusted = 4096

// list reads a count and that many fields. A field takes a byte at least, so a
// count that is too large is told before anything is allocated.
func (r *fieldReader) list() [][]byte {
	n := r.uvarint()
	if n > uint64(len(r.rest)) {
		r.bad, r.rest = true, nil
		return nil
	}
	out := make([][]byte, 0, min(n, maxTrusted))
	for range n {
		b := r.bytes()
		if r.bad {
			return nil
		}
		out = append(out, b)
	}
	return out
}

// parseRecord decodes a body completely or not at all.
func parseRecord(body []byte) (*record, error) {
	r := fieldReader{rest: body}
	rec := parseHead(&r)
	rec.txs = r.list()
	rec.metadata = r.list()
	if r.bad || len(r.rest) != 0 {
		return nil, errRecord
	}
	return rec, nil
}

func parseHead(r *fieldReader) *record {
	rec := &record{number: r.uvarint()}
	if rec.dataHash = r.bytes(); len(rec.dataHash) == 0 {
		rec.dataHash = nil
	}
	if rec.prevHash = r.bytes(); len(rec.prevHash) == 0 {
		rec.prevHash = nil
	}
	return rec
}

func (r *record) header() *common.BlockHeader {
	return &common.BlockHeader{Number: r.number, PreviousHash: r.prevHash, DataHash: r.dataHash}
}

func (r *record) block() *common.Block {
	return &common.Block{
		Header:   r.header(),
		Data:     &common.BlockData{Data: r.txs},
		Metadata: &common.BlockMetadata{Metadata: r.metadata},
	}
}

// marshal is the marshalled common.Block, put together without decoding any
// transaction.
func (r *record) marshal() []byte {
	const one, two, three = 1, 2, 3
	head := 0
	if r.number != 0 {
		head += 1 + uvarintSize(r.number)
	}
	for _, b := range [][]byte{r.prevHash, r.dataHash} {
		if len(b) > 0 {
			head += 1 + fieldSize(b)
		}
	}
	data, meta := listSize(r.txs), listSize(r.metadata)
	out := make([]byte, 0, head+data+meta+3*(1+10))

	out = protowire.AppendTag(out, one, protowire.BytesType)
	out = protowire.AppendVarint(out, uint64(head))
	if r.number != 0 {
		out = protowire.AppendTag(out, one, protowire.VarintType)
		out = protowire.AppendVarint(out, r.number)
	}
	if len(r.prevHash) > 0 {
		out = protowire.AppendTag(out, two, protowire.BytesType)
		out = protowire.AppendBytes(out, r.prevHash)
	}
	if len(r.dataHash) > 0 {
		out = protowire.AppendTag(out, three, protowire.BytesType)
		out = protowire.AppendBytes(out, r.dataHash)
	}
	out = appendList(protowire.AppendTag(out, two, protowire.BytesType), data, r.txs)
	return appendList(protowire.AppendTag(out, three, protowire.BytesType), meta, r.metadata)
}

func listSize(items [][]byte) int {
	n := 0
	for _, b := range items {
		n += 1 + fieldSize(b)
	}
	return n
}

func appendList(out []byte, size int, items [][]byte) []byte {
	out = protowire.AppendVarint(out, uint64(size))
	for _, b := range items {
		out = protowire.AppendTag(out, 1, protowire.BytesType)
		out = protowire.AppendBytes(out, b)
	}
	return out
}

// txOfField strips the length from a transaction's bytes field.
func txOfField(field []byte) ([]byte, error) {
	r := fieldReader{rest: field}
	tx := r.bytes()
	if r.bad || len(r.rest) != 0 {
		return nil, fmt.Errorf("transaction field: %w", errRecord)
	}
	return tx, nil
}
