package blockfile

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"sync"

	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/ledger/kv"
)

// indexedBlock is a block whose place is known.
type indexedBlock struct {
	block *protoutil.Block
	hash  []byte
	spans []span
	at    location
}

// addEntries adds the index entries of one block to a batch (LEDGER §3.5). seen
// holds the transaction ids that the batch has entries for; the first
// occurrence of an id wins forever (LEDGER §3.6).
func (s *Store) addEntries(batch *kv.Batch, seen map[string]struct{}, e indexedBlock) error {
	var keyBuf, blockBuf [128]byte
	num := e.block.Number()
	blockLoc := e.at.append(blockBuf[:0])
	batch.Put(numberKey(keyBuf[:], num), blockLoc)
	if s.items == IndexAll {
		batch.Put(hashKey(keyBuf[:], e.hash), blockLoc)
		if err := s.addTxEntries(batch, seen, e, blockLoc); err != nil {
			return err
		}
	}
	batch.Put([]byte(keyIndexed), binary.AppendUvarint(keyBuf[:0], num))
	return nil
}

// addTxEntries adds the entries of a block's transactions. Those under
// transaction ids go in by order of the ids, which spares the database's table
// in memory many cache misses.
func (s *Store) addTxEntries(batch *kv.Batch, seen map[string]struct{}, e indexedBlock, blockLoc []byte) error {
	var keyBuf, txBuf [128]byte
	num, flags := e.block.Number(), e.block.Flags()
	firsts := s.firsts[:0]
	for i := range e.block.Len() {
		batch.Put(blockTxKey(keyBuf[:], num, uint64(i)), e.txLocation(i).append(txBuf[:0]))
		id := e.block.Tx(i).ID()
		first, err := s.firstOccurrence(id, seen, keyBuf[:])
		if err != nil {
			return fmt.Errorf("look up transaction [%s]: %w", id, err)
		}
		if first {
			seen[id] = struct{}{}
			firsts = append(firsts, firstTx{id, i})
		}
	}
	slices.SortFunc(firsts, func(a, b firstTx) int { return strings.Compare(a.id, b.id) })
	for _, f := range firsts {
		batch.Put(txKey(keyBuf[:], prefixTxBlock, f.id), blockLoc)
	}
	for _, f := range firsts {
		batch.Put(txKey(keyBuf[:], prefixTx, f.id), e.txLocation(f.tx).append(txBuf[:0]))
	}
	for _, f := range firsts {
		batch.Put(txKey(keyBuf[:], prefixCode, f.id), []byte{codeOf(flags, f.tx)})
	}
	s.firsts = firsts
	return nil
}

// firstTx is a transaction whose id is new to the chain.
type firstTx struct {
	id string
	tx int
}

func (e indexedBlock) txLocation(i int) location {
	return location{file: e.at.file, offset: e.at.offset + int64(e.spans[i].offset), length: e.spans[i].length}
}

func codeOf(flags []byte, i int) byte {
	if i >= len(flags) {
		return byte(peer.TxValidationCode_NOT_VALIDATED)
	}
	return flags[i]
}

func (s *Store) firstOccurrence(id string, seen map[string]struct{}, keyBuf []byte) (bool, error) {
	if id == "" {
		s.log.Warningf("Channel [%s]: a transaction without a readable id is indexed under the empty id", s.id)
	}
	if _, dup := seen[id]; dup {
		return false, nil
	}
	if s.rebuilt.isNew(id) || s.absent.known(id) {
		return true, nil
	}
	has, err := s.index.Has(txKey(keyBuf, prefixTx, id))
	return !has, err
}

// Size of an idFilter in bytes, and the number of probes: up to ten million ids
// it is wrong for one new id in two hundred.
const (
	idFilterSize   = 16 << 20
	idFilterProbes = 4
)

// idFilter is a Bloom filter over the transaction ids of an index that is built
// from nothing, which spares most searches for earlier occurrences. It may take
// a new id for an old one, never the other way round.
type idFilter struct {
	seed maphash.Seed
	bits []uint64
}

func newIDFilter() *idFilter {
	return &idFilter{seed: maphash.MakeSeed(), bits: make([]uint64, idFilterSize/8)}
}

// isNew tells whether an id certainly comes for the first time. It is taken in.
// The nil filter knows nothing.
func (f *idFilter) isNew(id string) bool {
	if f == nil {
		return false
	}
	h, fresh := maphash.String(f.seed, id), false
	step := h>>32 | 1
	for range idFilterProbes {
		i := h % (idFilterSize * 8)
		if bit := uint64(1) << (i % 64); f.bits[i/64]&bit == 0 {
			f.bits[i/64] |= bit
			fresh = true
		}
		h += step
	}
	return fresh
}

// Bounds of the remembered transaction ids, together about 10 MiB. Ids have 64
// bytes unless somebody means mischief.
const (
	maxAbsent   = 1 << 16
	maxAbsentID = 128
)

// absentIDs remembers transaction ids that were looked up and are not in the
// index. Validation asks for every id of a block shortly before Write has to;
// the answer, kept true by Write, saves the second search.
type absentIDs struct {
	mu    sync.Mutex // guards the fields
	ids   map[string]struct{}
	epoch uint64 // counts calls of forget
}

func newAbsentIDs() *absentIDs { return &absentIDs{ids: map[string]struct{}{}} }

func (a *absentIDs) known(id string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, ok := a.ids[id]
	return ok
}

func (a *absentIDs) now() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.epoch
}

// note records the result of a search that began at the given epoch. It is
// dropped if a block was indexed meanwhile.
func (a *absentIDs) note(id string, epoch uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if epoch != a.epoch || len(id) > maxAbsentID {
		return
	}
	if len(a.ids) >= maxAbsent {
		clear(a.ids)
	}
	a.ids[id] = struct{}{}
}

// forget drops the ids that the index holds from now on.
func (a *absentIDs) forget(ids map[string]struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.epoch++
	for id := range ids {
		delete(a.ids, id)
	}
}
