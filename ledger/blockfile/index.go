package blockfile

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

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
	if _, dup := seen[id]; dup {
		return false, nil
	}
	if id == "" { // once for a block, which may have nothing else
		s.log.Warningf("Channel [%s]: a transaction without a readable id is indexed under the empty id", s.id)
	}
	if s.ids.admit(id) {
		return true, nil
	}
	has, err := s.index.Has(txKey(keyBuf, prefixTx, id))
	return !has, err
}
