package ledger

import (
	"errors"
	"fmt"

	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/ledger/confhistory"
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

// CollectionConfigBelow returns the collection package of a chaincode that was
// in force before a block, and the block that set it; nil if there was none.
func (l *Ledger) CollectionConfigBelow(block uint64, chaincode string) (*peer.CollectionConfigPackage, uint64, error) {
	if block == 0 {
		return nil, 0, ErrBlockZero
	}
	raw, at, err := l.conf.Below(block, chaincode)
	if err != nil || raw == nil {
		return nil, 0, err
	}
	pkg, err := l.parseRecorded(raw, at, chaincode)
	return pkg, at, err
}

// CollectionConfigAt returns the collection package that a block set for a
// chaincode, nil if it set none.
func (l *Ledger) CollectionConfigAt(block uint64, chaincode string) (*peer.CollectionConfigPackage, error) {
	if h := l.Height(); block >= h {
		return nil, &NotYetError{Last: h - 1, Requested: block}
	}
	raw, err := l.conf.At(block, chaincode)
	if err != nil || raw == nil {
		return nil, err
	}
	return l.parseRecorded(raw, block, chaincode)
}

func (l *Ledger) parseRecorded(raw []byte, block uint64, chaincode string) (*peer.CollectionConfigPackage, error) {
	pkg, err := parseCollections(raw)
	if err != nil {
		return nil, fmt.Errorf("config history of channel [%s], chaincode [%s] after block [%d]: %w", l.id, chaincode, block, err)
	}
	return pkg, nil
}

// recordConfigs notes the collection packages in force after a block, for the
// chaincodes it touched.
func (l *Ledger) recordConfigs(block uint64, changes []lifecycleChange) error {
	var entries []confhistory.Entry
	for i := range changes {
		if len(changes[i].collections) > 0 {
			entries = append(entries, confhistory.Entry{Chaincode: changes[i].chaincode, Collections: changes[i].collections})
		}
	}
	return l.conf.Record(block, entries)
}
