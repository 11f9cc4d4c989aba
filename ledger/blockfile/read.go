package blockfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/protoutil"
)

// lookup returns the value of an index key, or ErrNotFound.
func (s *Store) lookup(key []byte) ([]byte, error) {
	v, err := s.index.Get(key)
	if err != nil {
		return nil, fmt.Errorf("read block index of channel [%s]: %w", s.id, err)
	}
	if v == nil {
		return nil, ErrNotFound
	}
	return v, nil
}

func (s *Store) locate(key []byte) (location, error) {
	v, err := s.lookup(key)
	if err != nil {
		return location{}, err
	}
	loc, err := parseLocation(v)
	if err != nil {
		return location{}, s.entryError(key, err)
	}
	return loc, nil
}

// entryError names an index entry that cannot be used.
func (s *Store) entryError(key []byte, err error) error {
	return fmt.Errorf("block index of channel [%s], entry %q: %w", s.id, key, err)
}

// limit is where the complete records of a file end.
func (s *Store) limit(file int) (int64, error) {
	if t := s.currentTip(); t.file == file {
		return t.size, nil
	}
	size, ok, err := s.files.size(file)
	if err == nil && !ok {
		err = &DamageError{Channel: s.id, File: s.files.path(file), Reason: "file is missing"}
	}
	return size, err
}

func (s *Store) bodyAt(loc location) (body []byte, next int64, err error) {
	limit, err := s.limit(loc.file)
	if err != nil {
		return nil, 0, err
	}
	body, next, err = s.files.body(loc.file, loc.offset, limit)
	if errors.Is(err, errPartial) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = s.damage(loc.file, loc.offset, "a record is cut or its length is wrong")
	}
	return body, next, err
}

func (s *Store) recordAt(loc location) (*record, error) {
	body, _, err := s.bodyAt(loc)
	if err != nil {
		return nil, err
	}
	rec, err := parseRecord(body)
	if err != nil {
		return nil, s.damage(loc.file, loc.offset, "%v", err)
	}
	return rec, nil
}

// numbered is recordAt for a block whose number is known.
func (s *Store) numbered(n uint64, loc location) (*record, error) {
	rec, err := s.recordAt(loc)
	if err == nil && rec.number != n {
		return nil, s.damage(loc.file, loc.offset, "block [%d] is here, the index says block [%d]", rec.number, n)
	}
	return rec, err
}

func (s *Store) blockOfKey(key []byte) (*common.Block, error) {
	loc, err := s.locate(key)
	if err != nil {
		return nil, err
	}
	rec, err := s.recordAt(loc)
	if err != nil {
		return nil, err
	}
	return rec.block(), nil
}

// locateNumber finds a block; MaxUint64 means the last one.
func (s *Store) locateNumber(n uint64) (uint64, location, error) {
	height := s.Height()
	if n == math.MaxUint64 {
		n = height - 1
	}
	if n >= height {
		return 0, location{}, ErrNotFound
	}
	var buf [16]byte
	loc, err := s.locate(numberKey(buf[:], n))
	return n, loc, err
}

// BlockByNumber returns a block; the number 2^64-1 means the last one (LEDGER
// §3.10). Parts of the block share memory; they must not be changed.
func (s *Store) BlockByNumber(n uint64) (*common.Block, error) {
	n, loc, err := s.locateNumber(n)
	if err != nil {
		return nil, err
	}
	rec, err := s.numbered(n, loc)
	if err != nil {
		return nil, err
	}
	return rec.block(), nil
}

// RawBlock is BlockByNumber in marshalled form, put together without decoding
// transactions. Recent blocks are kept, so that many readers at the tip share
// one copy; it must not be changed.
func (s *Store) RawBlock(n uint64) ([]byte, error) {
	if raw := s.recent.get(s, n); raw != nil {
		return raw, nil
	}
	n, loc, err := s.locateNumber(n)
	if err != nil {
		return nil, err
	}
	rec, err := s.numbered(n, loc)
	if err != nil {
		return nil, err
	}
	return s.keepRaw(n, rec.marshal()), nil
}

// keepRaw remembers blocks close to the tip.
func (s *Store) keepRaw(n uint64, raw []byte) []byte {
	if n+maxRecent >= s.Height() {
		s.recent.put(s, n, raw)
	}
	return raw
}

func (s *Store) needFullIndex() error {
	if s.items != IndexAll {
		return ErrNotIndexed
	}
	return nil
}

// BlockByHash returns the block with the given header hash.
func (s *Store) BlockByHash(hash []byte) (*common.Block, error) {
	if err := s.needFullIndex(); err != nil {
		return nil, err
	}
	b, err := s.blockOfKey(hashKey(nil, hash))
	if err == nil && !bytes.Equal(protoutil.BlockHash(b.Header), hash) {
		return nil, s.entryError(hashKey(nil, hash), fmt.Errorf("it names block [%d], which has another hash", b.Header.Number))
	}
	return b, err
}

// BlockByTxID returns the block that holds the first transaction of that id.
func (s *Store) BlockByTxID(txid string) (*common.Block, error) {
	if err := s.needFullIndex(); err != nil {
		return nil, err
	}
	return s.blockOfKey(txKey(nil, prefixTxBlock, txid))
}

// TxByID returns the first transaction of that id.
func (s *Store) TxByID(txid string) (*common.Envelope, error) {
	return s.envelope(txKey(nil, prefixTx, txid))
}

// TxBytesByBlockTx returns a transaction by block and place in it, not decoded.
func (s *Store) TxBytesByBlockTx(block, tx uint64) ([]byte, error) {
	return s.txBytes(blockTxKey(nil, block, tx))
}

func (s *Store) txBytes(key []byte) ([]byte, error) {
	if err := s.needFullIndex(); err != nil {
		return nil, err
	}
	loc, err := s.locate(key)
	if err != nil {
		return nil, err
	}
	limit, err := s.limit(loc.file)
	if err != nil {
		return nil, err
	}
	if loc.offset > limit || int64(loc.length) > limit-loc.offset {
		return nil, &DamageError{Channel: s.id, File: s.files.path(loc.file), Offset: loc.offset, Reason: "transaction lies beyond the end"}
	}
	field, err := s.files.read(loc.file, loc.offset, loc.offset+int64(loc.length))
	if err != nil {
		return nil, err
	}
	tx, err := txOfField(field)
	if err != nil {
		return nil, s.damage(loc.file, loc.offset, "no transaction of %d bytes is here, as the index says", loc.length)
	}
	return tx, nil
}

func (s *Store) envelope(key []byte) (*common.Envelope, error) {
	raw, err := s.txBytes(key)
	if err != nil {
		return nil, err
	}
	env := &common.Envelope{}
	if err := proto.Unmarshal(raw, env); err != nil {
		return nil, fmt.Errorf("error unmarshaling Envelope: %w", err)
	}
	return env, nil
}

// ValidationCode is the final code of the first transaction of that id.
func (s *Store) ValidationCode(txid string) (peer.TxValidationCode, error) {
	if err := s.needFullIndex(); err != nil {
		return 0, err
	}
	v, err := s.lookup(txKey(nil, prefixCode, txid))
	if err != nil {
		return 0, err
	}
	if len(v) != 1 {
		return 0, s.entryError(txKey(nil, prefixCode, txid), errMalformed)
	}
	return peer.TxValidationCode(v[0]), nil
}

// HasTx tells whether a transaction of that id is in the chain, valid or not.
func (s *Store) HasTx(txid string) (bool, error) {
	if err := s.needFullIndex(); err != nil {
		return false, err
	}
	if s.ids.isNew(txid) {
		return false, nil
	}
	var buf [128]byte
	has, err := s.index.Has(txKey(buf[:], prefixTx, txid))
	if err != nil {
		return false, fmt.Errorf("read block index of channel [%s]: %w", s.id, err)
	}
	return has, nil
}

// maxRecent is how far behind the tip a block counts as recent, maxRecentBytes
// bounds the marshalled ones that are kept, of all channels together.
const (
	maxRecent      = 32
	maxRecentBytes = 64 << 20
)

// rawCache keeps marshalled blocks of all channels in the order in which they
// came.
type rawCache struct {
	mu    sync.Mutex // guards the fields
	raw   map[rawKey][]byte
	order []rawKey
	bytes int
}

type rawKey struct {
	store  *Store
	number uint64
}

// rawOverhead is what a block takes in the cache besides its bytes, about.
const rawOverhead = 100

func newRawCache() *rawCache { return &rawCache{raw: map[rawKey][]byte{}} }

func (c *rawCache) get(s *Store, n uint64) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.raw[rawKey{s, n}]
}

func (c *rawCache) put(s *Store, n uint64, raw []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := rawKey{s, n}
	if c.raw[k] != nil || len(raw) > maxRecentBytes/4 {
		return
	}
	c.raw[k] = raw
	c.order = append(c.order, k)
	c.bytes += len(raw) + rawOverhead
	for c.bytes > maxRecentBytes {
		c.drop(c.order[0])
		c.order = c.order[1:]
	}
}

// drop needs c.mu, and leaves order to its caller.
func (c *rawCache) drop(k rawKey) {
	c.bytes -= len(c.raw[k]) + rawOverhead
	delete(c.raw, k)
}

// forget drops the blocks of a store that is closed.
func (c *rawCache) forget(s *Store) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.order = slices.DeleteFunc(c.order, func(k rawKey) bool {
		if k.store == s {
			c.drop(k)
		}
		return k.store == s
	})
}
