package blockfile

import (
	"encoding/binary"
	"fmt"
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
	var keyBuf, blockBuf, txBuf [128]byte
	num := e.block.Number()
	blockLoc := e.at.append(blockBuf[:0])
	batch.Put(numberKey(keyBuf[:], num), blockLoc)
	if s.items == IndexAll {
		batch.Put(hashKey(keyBuf[:], e.hash), blockLoc)
		flags := e.block.Flags()
		for i := range e.block.Len() {
			loc := location{file: e.at.file, offset: e.at.offset + int64(e.spans[i].offset), length: e.spans[i].length}
			txLoc := loc.append(txBuf[:0])
			batch.Put(blockTxKey(keyBuf[:], num, uint64(i)), txLoc)

			id := e.block.Tx(i).ID()
			first, err := s.firstOccurrence(id, seen, keyBuf[:])
			if err != nil {
				return fmt.Errorf("look up transaction [%s]: %w", id, err)
			}
			if !first {
				continue
			}
			seen[id] = struct{}{}
			batch.Put(txKey(keyBuf[:], prefixTx, id), txLoc)
			batch.Put(txKey(keyBuf[:], prefixTxBlock, id), blockLoc)
			batch.Put(txKey(keyBuf[:], prefixCode, id), []byte{codeOf(flags, i)})
		}
	}
	batch.Put([]byte(keyIndexed), binary.AppendUvarint(keyBuf[:0], num))
	return nil
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
	if s.absent.known(id) {
		return true, nil
	}
	has, err := s.index.Has(txKey(keyBuf, prefixTx, id))
	return !has, err
}

// maxAbsent bounds the remembered transaction ids, about 10 MiB.
const maxAbsent = 1 << 16

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
	if epoch != a.epoch {
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
