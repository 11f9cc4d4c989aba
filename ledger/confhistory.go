package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/ledger/kv"
)

// ErrBlockZero refuses a question for what was before the first block.
var ErrBlockZero = errors.New("blockNum should be greater than 0")

// NotYetError says that a block asked about is not committed yet (LEDGER §7).
type NotYetError struct {
	Last, Requested uint64
}

func (e *NotYetError) Error() string {
	return fmt.Sprintf("The maximum block number committed [%d] is less than the requested block number [%d]", e.Last, e.Requested)
}

// confKeyPrefix begins the config history keys of a chaincode.
func confKeyPrefix(chaincode string) []byte {
	return append([]byte("s"+lifecycleNamespace+"\x00"), collectionKey(chaincode)...)
}

func confKey(chaincode string, block uint64) []byte {
	return binary.BigEndian.AppendUint64(confKeyPrefix(chaincode), math.MaxUint64-block)
}

// CollectionConfigBelow returns the collection package of a chaincode that was
// in force before a block, and the block that set it; nil if there was none.
func (l *Ledger) CollectionConfigBelow(block uint64, chaincode string) (*peer.CollectionConfigPackage, uint64, error) {
	if block == 0 {
		return nil, 0, ErrBlockZero
	}
	prefix := confKeyPrefix(chaincode)
	it := l.conf.Scan(confKey(chaincode, block-1), binary.BigEndian.AppendUint64(prefix[:len(prefix):len(prefix)], math.MaxUint64))
	defer it.Close()
	for it.Next() {
		if len(it.Key()) != len(prefix)+8 {
			continue // of a chaincode whose name begins like this one's
		}
		at := math.MaxUint64 - binary.BigEndian.Uint64(it.Key()[len(prefix):])
		pkg, err := parseCollections(it.Value())
		return pkg, at, err
	}
	// The upper bound leaves out block 0, which deploys nothing.
	return nil, 0, it.Err()
}

// CollectionConfigAt returns the collection package that a block set for a
// chaincode, nil if it set none.
func (l *Ledger) CollectionConfigAt(block uint64, chaincode string) (*peer.CollectionConfigPackage, error) {
	if h := l.Height(); block >= h {
		return nil, &NotYetError{Last: h - 1, Requested: block}
	}
	raw, err := l.conf.Get(confKey(chaincode, block))
	if err != nil || raw == nil {
		return nil, err
	}
	return parseCollections(raw)
}

// recordConfigs writes the collection packages in force after a block, for the
// chaincodes it touched. They must be durable before its state is (LEDGER
// §15.3 c).
func recordConfigs(store *kv.Store, block uint64, changes []lifecycleChange) error {
	batch := store.NewBatch()
	for i := range changes {
		if len(changes[i].collections) > 0 {
			batch.Put(confKey(changes[i].chaincode, block), changes[i].collections)
		}
	}
	if err := store.Write(batch, true); err != nil {
		return fmt.Errorf("write config history: %w", err)
	}
	return nil
}
