package kv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
)

// AppendOPV appends the order-preserving encoding of a number: a count byte and
// that many significant big-endian bytes (LEDGER §1.2).
func AppendOPV(dst []byte, n uint64) []byte {
	size := (bits.Len64(n) + 7) / 8
	dst = append(dst, byte(size))
	for i := size - 1; i >= 0; i-- {
		dst = append(dst, byte(n>>(8*i)))
	}
	return dst
}

// ReadOPV decodes a number and returns the bytes after it. The error texts are
// the reference's (LEDGER §1.2).
func ReadOPV(b []byte) (n uint64, rest []byte, err error) {
	size, consumed := binary.Uvarint(b)
	if consumed != 1 {
		return 0, nil, fmt.Errorf("number of consumed bytes from DecodeVarint is invalid, expected 1, but got %d", max(consumed, 0))
	}
	if size > 8 {
		return 0, nil, fmt.Errorf("decoded size from DecodeVarint is invalid, expected <=8, but got %d", size)
	}
	if uint64(len(b)-1) < size {
		return 0, nil, fmt.Errorf("decoded size (%d) from DecodeVarint is more than available bytes (%d)", size, len(b)-1)
	}
	for _, c := range b[1 : 1+size] {
		n = n<<8 | uint64(c)
	}
	return n, b[1+size:], nil
}

// AppendRPV appends the encoding by which larger numbers sort first (LEDGER
// §1.3).
func AppendRPV(dst []byte, n uint64) []byte {
	lead := bits.LeadingZeros64(n) / 8 // leading ff bytes of the complement
	dst = append(dst, byte(lead))
	for i := 7 - lead; i >= 0; i-- {
		dst = append(dst, ^byte(n>>(8*i)))
	}
	return dst
}

// ReadRPV decodes a number written by AppendRPV and returns the bytes after it.
func ReadRPV(b []byte) (n uint64, rest []byte, err error) {
	if len(b) == 0 || b[0] > 8 || len(b) < 9-int(b[0]) {
		return 0, nil, errors.New("malformed reverse-ordered number")
	}
	size := 8 - int(b[0])
	for _, c := range b[1 : 1+size] {
		n = n<<8 | uint64(^c)
	}
	return n, b[1+size:], nil
}

// Height is the place of a transaction in a chain: the version of a value.
type Height struct {
	Block, Tx uint64
}

// AppendHeight appends the height bytes of LEDGER §1.4.
func AppendHeight(dst []byte, h Height) []byte {
	return AppendOPV(AppendOPV(dst, h.Block), h.Tx)
}

// ReadHeight decodes height bytes and returns the bytes after them.
func ReadHeight(b []byte) (h Height, rest []byte, err error) {
	if h.Block, b, err = ReadOPV(b); err != nil {
		return Height{}, nil, fmt.Errorf("block number of height: %w", err)
	}
	if h.Tx, b, err = ReadOPV(b); err != nil {
		return Height{}, nil, fmt.Errorf("tx number of height: %w", err)
	}
	return h, b, nil
}
