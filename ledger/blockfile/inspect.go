package blockfile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/ledger/kv"
)

// What follows looks at block files and index as they lie on disk, for who wants
// to know what is wrong with them: nothing is repaired, created or changed.

// ErrPartial is returned for a record that is longer than what is left of its
// file, ErrMalformed for bytes that are no record, ErrEntry for bytes that are no
// index entry.
var (
	ErrPartial   = errPartial
	ErrMalformed = errRecord
	ErrEntry     = errMalformed
)

// FileInfo is one block file.
type FileInfo struct {
	Number int
	Path   string
	Size   int64 // bytes
}

// Files are the block files of one channel, opened for reading only. They are
// safe for concurrent use.
type Files struct{ files *files }

// OpenFiles looks at a directory of block files (chains/<channel>).
func OpenFiles(fsys vfs.FS, dir string) *Files { return &Files{files: newFiles(fsys, dir)} }

// Close closes what was opened for reading.
func (f *Files) Close() { f.files.close() }

// Path is the name of a file.
func (f *Files) Path(number int) string { return f.files.path(number) }

// List returns the files in the order of their numbers.
func (f *Files) List() ([]FileInfo, error) {
	nums, err := f.files.list()
	if err != nil {
		return nil, err
	}
	out := make([]FileInfo, 0, len(nums))
	for _, n := range nums {
		size, _, err := f.files.size(n)
		if err != nil {
			return nil, err
		}
		out = append(out, FileInfo{Number: n, Path: f.files.path(n), Size: size})
	}
	return out, nil
}

// Body reads the body of the record at an offset, and tells where the record
// ends. Nothing at or after limit belongs to it: a record that reaches beyond is
// ErrPartial, and nothing is allocated for it.
func (f *Files) Body(file int, offset, limit int64) (body []byte, end int64, err error) {
	return f.files.body(file, offset, limit)
}

// End tells where the record at an offset ends, without reading it; see Body.
func (f *Files) End(file int, offset, limit int64) (int64, error) {
	h, err := f.files.acquire(file)
	if err != nil {
		return 0, err
	}
	defer f.files.release(h)
	_, end, err := bodyAt(h.f, offset, limit)
	return end, err
}

// Resync searches a file from an offset on for a complete record whose block has
// a number of at least want and true data hash. At most the next 256 MiB are
// searched.
func (f *Files) Resync(file int, offset, limit int64, want uint64) (at int64, found bool, err error) {
	limit = min(limit, offset+maxResync)
	if offset >= limit {
		return 0, false, nil
	}
	tail, err := f.files.read(file, offset, limit)
	if err != nil {
		return 0, false, err
	}
	i, found := resync(tail, want)
	return offset + int64(i), found, nil
}

// ParseBody decodes the body of a record. The block shares the body's memory.
func ParseBody(body []byte) (*common.Block, error) {
	rec, err := parseRecord(body)
	if err != nil {
		return nil, err
	}
	return rec.block(), nil
}

// Place is where a record lies: from its length prefix to its end.
type Place struct {
	File        int
	Offset, End int64
}

// IndexSpec says what of a block the index holds.
type IndexSpec struct {
	Block *protoutil.Block
	Body  []byte // that the block was parsed from
	At    Place
	Items IndexItems
	// First tells whether a transaction is the first of its id in the chain,
	// seen in its own block only if nil is given.
	First func(tx int, id string) bool
}

// IndexEntries visits the index entries of a block, except those that tell how
// far the index goes (LEDGER §3.5, §3.6). Keys and values are valid during the
// call only.
func IndexEntries(s IndexSpec, visit func(key, value []byte)) {
	var keyBuf, locBuf, txBuf [128]byte
	num, flags := s.Block.Number(), s.Block.Flags()
	loc := location{file: s.At.File, offset: s.At.Offset}.append(locBuf[:0])
	visit(numberKey(keyBuf[:], num), loc)
	if s.Items != IndexAll {
		return
	}
	visit(hashKey(keyBuf[:], protoutil.BlockHash(s.Block.Proto().GetHeader())), loc)
	seen := make(map[string]struct{}, s.Block.Len())
	for i, tx := range TxLocations(s.Body, s.At, s.Block.Len()) {
		txLoc := location{file: tx.File, offset: tx.Offset, length: tx.Length}.append(txBuf[:0])
		visit(blockTxKey(keyBuf[:], num, uint64(i)), txLoc)
		id := s.Block.Tx(i).ID()
		if _, dup := seen[id]; dup || s.First != nil && !s.First(i, id) {
			continue
		}
		seen[id] = struct{}{}
		visit(txKey(keyBuf[:], prefixTx, id), txLoc)
		visit(txKey(keyBuf[:], prefixTxBlock, id), loc)
		visit(txKey(keyBuf[:], prefixCode, id), []byte{codeOf(flags, i)})
	}
}

// Location is where the index says that a block's record, or a transaction's
// bytes field, begins; the length is 0 for a block.
type Location struct {
	File   int
	Offset int64
	Length int
}

// TxLocations are the places of the transactions of a record.
func TxLocations(body []byte, at Place, txs int) []Location {
	prefix := int(at.End-at.Offset) - len(body)
	fr := fieldReader{rest: body}
	parseHead(&fr)
	fr.uvarint()
	out := make([]Location, txs)
	for i := range out {
		begin := len(body) - len(fr.rest)
		fr.bytes()
		out[i] = Location{
			File: at.File, Offset: at.Offset + int64(prefix+begin),
			Length: len(body) - len(fr.rest) - begin,
		}
	}
	return out
}

// Tx reads the envelope at a location.
func (f *Files) Tx(at Location) ([]byte, error) {
	size, ok, err := f.files.size(at.File)
	if err != nil {
		return nil, err
	}
	if !ok || at.Offset > size || int64(at.Length) > size-at.Offset {
		return nil, fmt.Errorf("%s at %d: %w", f.files.path(at.File), at.Offset, errPartial)
	}
	field, err := f.files.read(at.File, at.Offset, at.Offset+int64(at.Length))
	if err != nil {
		return nil, err
	}
	return txOfField(field)
}

// FirstNumber is the block number at the beginning of a file; ok is false if the
// file is too short to hold one.
func (f *Files) FirstNumber(file int) (number uint64, ok bool, err error) {
	size, _, err := f.files.size(file)
	if err != nil {
		return 0, false, err
	}
	head, err := f.files.read(file, 0, min(size, 2*binary.MaxVarintLen64))
	if err != nil {
		return 0, false, err
	}
	fr := fieldReader{rest: head}
	fr.uvarint()
	number = fr.uvarint()
	return number, !fr.bad, nil
}

// IndexView is the index of one channel, for reading only.
type IndexView struct{ db *kv.Store }

// ViewIndex looks at a channel's part of an index.
func ViewIndex(db *kv.Database, channelID string) *IndexView {
	return &IndexView{db: db.Store(channelID)}
}

// Checkpoint says up to where block files are recorded to be complete.
type Checkpoint struct {
	File   int
	Size   int64  // of complete records in it, in bytes
	Height uint64 // number of blocks
}

// Checkpoint reads what is recorded of the block files; nil if nothing is.
func (v *IndexView) Checkpoint() (*Checkpoint, error) {
	raw, err := v.db.Get([]byte(keyCheckpoint))
	if err != nil || raw == nil {
		return nil, err
	}
	c, err := parseCheckpoint(raw)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	return &Checkpoint{File: c.file, Size: c.size, Height: c.height()}, nil
}

// Height is the number of blocks that are indexed.
func (v *IndexView) Height() (uint64, error) {
	raw, err := v.db.Get([]byte(keyIndexed))
	if err != nil || raw == nil {
		return 0, err
	}
	last, n := binary.Uvarint(raw)
	if n <= 0 || n != len(raw) || last+1 == 0 {
		return 0, fmt.Errorf("last indexed block: %w", errMalformed)
	}
	return last + 1, nil
}

// Entry is one entry of the index, taken apart.
type Entry struct {
	Kind      byte   // 'n', 'h', 't', 'a', 'b', 'v' as in the key; 0 for others
	Block, Tx uint64 // of 'n' and 'a'
	Hash      []byte // of 'h'
	TxID      string // of 't', 'b', 'v'
	At        Location
	Code      peer.TxValidationCode // of 'v'
}

// ParseEntry takes an entry apart.
func ParseEntry(key, value []byte) (Entry, error) {
	e := Entry{}
	if len(key) == 0 || !slices.Contains([]byte("nhtabv"), key[0]) {
		return e, fmt.Errorf("key %q: %w", key, errMalformed)
	}
	e.Kind = key[0]
	rest := key[1:]
	var err error
	switch e.Kind {
	case prefixNumber:
		e.Block, rest, err = kv.ReadOPV(rest)
	case prefixBlockTx:
		var h kv.Height
		h, rest, err = kv.ReadHeight(rest)
		e.Block, e.Tx = h.Block, h.Tx
	case prefixHash:
		e.Hash, rest = rest, nil
	default:
		e.TxID, rest = string(rest), nil
	}
	if err == nil && len(rest) > 0 {
		err = errMalformed
	}
	if err != nil {
		return e, fmt.Errorf("key %q: %w", key, err)
	}
	if e.Kind == prefixCode {
		if len(value) != 1 {
			return e, fmt.Errorf("value of %q: %w", key, errMalformed)
		}
		e.Code = peer.TxValidationCode(value[0])
		return e, nil
	}
	loc, err := parseLocation(value)
	if err != nil {
		return e, fmt.Errorf("value of %q: %w", key, err)
	}
	e.At = loc.exported()
	return e, nil
}

// Scan visits all entries but those that tell how far the index goes. Keys and
// values are valid during the call only.
func (v *IndexView) Scan(visit func(key, value []byte) error) error {
	it := v.db.Scan(nil, nil)
	defer it.Close()
	for it.Next() {
		if k := string(it.Key()); k == keyIndexed || k == keyCheckpoint {
			continue
		}
		if err := visit(it.Key(), it.Value()); err != nil {
			return err
		}
	}
	return it.Err()
}

// Get reads one entry by its key; nil if it is absent.
func (v *IndexView) Get(key []byte) ([]byte, error) { return v.db.Get(key) }

// Block finds the record of a block; ErrNotFound if the index does not know it.
func (v *IndexView) Block(number uint64) (Location, error) {
	return v.locate(numberKey(nil, number))
}

// Tx finds the first transaction of an id.
func (v *IndexView) Tx(txid string) (Location, error) {
	return v.locate(txKey(nil, prefixTx, txid))
}

// TxAt finds a transaction by block and place in it.
func (v *IndexView) TxAt(block, tx uint64) (Location, error) {
	return v.locate(blockTxKey(nil, block, tx))
}

// BlockOfTx finds the record of the block that holds the first transaction of an
// id.
func (v *IndexView) BlockOfTx(txid string) (Location, error) {
	return v.locate(txKey(nil, prefixTxBlock, txid))
}

func (v *IndexView) locate(key []byte) (Location, error) {
	raw, err := v.db.Get(key)
	if err == nil && raw == nil {
		err = ErrNotFound
	}
	if err != nil {
		return Location{}, err
	}
	loc, err := parseLocation(raw)
	if err != nil {
		return Location{}, errors.Join(fmt.Errorf("index entry %q", key), err)
	}
	return loc.exported(), nil
}

func (l location) exported() Location {
	return Location{File: l.file, Offset: l.offset, Length: l.length}
}
