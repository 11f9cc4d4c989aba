package blockfile

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/heddle-ledger/heddle/internal/protoutil"
)

// errGarbled is about a record of which isGarbled is true.
var errGarbled = errors.New("its transactions are not those of its header")

// continues tells whether a record is the one after t.
func (t tip) continues(rec *record) bool {
	return rec.number == t.checkpoint.height() && bytes.Equal(rec.prevHash, t.hash)
}

// after is the tip that has rec as its last record, ending at end.
func (t tip) after(rec *record, end int64) tip {
	return tip{
		checkpoint: checkpoint{file: t.file, size: end, last: rec.number},
		hash:       protoutil.BlockHash(rec.header()), prevHash: rec.prevHash,
	}
}

// scanResult is how far the records of one file continue a chain.
type scanResult struct {
	tip   tip // at the end of the last record that counts
	prior tip // before that record
	last  *record
	count int
	size  int64 // of the file
}

// torn tells whether the last record found is not what its header promises: a
// crash can leave a hole in the middle of a record whose end is there. Only a
// record without successor can be torn.
func (r scanResult) torn() bool { return r.last != nil && r.last.differs() }

// differs tells whether the transactions of a record are not those that its
// header names.
func (r *record) differs() bool {
	return len(r.dataHash) == sha256.Size && !bytes.Equal(r.dataHash, protoutil.DataHash(r.txs))
}

// isGarbled is differs for a committed block. What came from an orderer was
// checked before it was written; a genesis block is taken as it is given.
func (r *record) isGarbled() bool { return r.number > 0 && r.differs() }

// scan reads the records of file t.file from t.size on, as long as they decode
// completely and continue the chain (LEDGER §3.8).
func (s *Store) scan(t tip) (scanResult, error) {
	size, _, err := s.files.size(t.file)
	if err != nil {
		return scanResult{}, err
	}
	res := scanResult{tip: t, prior: t, size: size}
	for res.tip.size < size {
		body, end, err := s.files.body(t.file, res.tip.size, size)
		if errors.Is(err, errPartial) {
			break
		}
		if err != nil {
			return res, err
		}
		rec, err := parseRecord(body)
		if err != nil || !res.tip.continues(rec) {
			break
		}
		res.prior, res.last = res.tip, rec
		res.tip = res.tip.after(rec, end)
		res.count++
	}
	return res, nil
}

// maxResync bounds the tail that is searched byte by byte.
const maxResync = 256 << 20

// laterBlock searches a file from off on for a complete record of a block that
// comes after t. Finding one means that the bytes before it are damaged, not
// merely left over from a write that was cut short.
func (s *Store) laterBlock(t tip, file int, off int64) (at int64, found bool, err error) {
	size, ok, err := s.files.size(file)
	if err != nil || !ok || off >= size {
		return 0, false, err
	}
	if at, found, err = s.laterByPrefix(t, file, off, size); found || err != nil {
		return at, found, err
	}
	if size-off > maxResync {
		return 0, false, nil
	}
	tail, err := s.files.read(file, off, size)
	if err != nil {
		return 0, false, err
	}
	if t.cutShort(tail) {
		return 0, false, nil
	}
	i, found := resync(tail, t.checkpoint.height())
	return off + int64(i), found, nil
}

// cutShort tells whether a tail is what the write of the next block leaves when it
// is interrupted: its record up to some place, or one that is long enough and
// garbled. There is no later block in it then, whatever its transactions look
// like, and who makes transactions must not be able to keep a peer from starting.
func (t tip) cutShort(tail []byte) bool {
	size, n := binary.Uvarint(tail)
	if n <= 0 || size < uint64(len(tail)-n) {
		return false
	}
	r := fieldReader{rest: tail[n:]}
	if rec := parseHead(&r); r.bad || !t.continues(rec) {
		return false
	}
	if size == uint64(len(tail)-n) {
		return true
	}
	// If all its fields are there, it is the length that is wrong, and more may
	// follow.
	r.list()
	r.list()
	return r.bad
}

// laterByPrefix follows the length prefixes.
func (s *Store) laterByPrefix(t tip, file int, off, size int64) (int64, bool, error) {
	first := true
	for off < size {
		body, end, err := s.files.body(file, off, size)
		if errors.Is(err, errPartial) {
			return 0, false, nil
		}
		if err != nil {
			return 0, false, err
		}
		// The first record is the one that does not count; it may carry the
		// right number and the wrong hash.
		want := t.checkpoint.height()
		if first {
			want++
		}
		if rec, err := parseRecord(body); err == nil && rec.number >= want && len(rec.dataHash) > 0 {
			return off, true, nil
		}
		off, first = end, false
	}
	return 0, false, nil
}

// resync searches for a record at any byte after the first. So that the bytes of
// a transaction are not taken for one, its hashes must have the right size and
// its data hash must be true.
func resync(tail []byte, want uint64) (int, bool) {
	for i := 1; i < len(tail); i++ {
		size, n := binary.Uvarint(tail[i:])
		if n <= 0 || size < 2*(1+sha256.Size)+3 || size > uint64(len(tail)-i-n) {
			continue
		}
		body := tail[i+n:][:size]
		num, m := binary.Uvarint(body)
		if m <= 0 || num < want || body[m] != sha256.Size || body[m+1+sha256.Size] != sha256.Size {
			continue
		}
		rec, err := parseRecord(body)
		if err == nil && bytes.Equal(rec.dataHash, protoutil.DataHash(rec.txs)) {
			return i, true
		}
	}
	return 0, false
}

// lastRecord finds the record that ends exactly at limit, by following the
// length prefixes from the beginning of the file; nil if there is none or it
// does not decode.
func (s *Store) lastRecord(file int, limit int64) (rec *record, off int64, err error) {
	h, err := s.files.acquire(file)
	if err != nil {
		return nil, 0, err
	}
	defer s.files.release(h)
	var begin, end int64
	for end < limit {
		off = end
		begin, end, err = bodyAt(h.f, off, limit)
		if errors.Is(err, errPartial) {
			return nil, off, nil
		}
		if err != nil {
			return nil, 0, err
		}
	}
	body := make([]byte, end-begin)
	if _, err := readFull(h.f, body, begin); err != nil {
		return nil, 0, fmt.Errorf("read %s at %d: %w", s.files.path(file), begin, err)
	}
	if rec, err = parseRecord(body); err != nil {
		return nil, off, nil //nolint:nilerr // a record that does not decode is no record
	}
	return rec, off, nil
}
