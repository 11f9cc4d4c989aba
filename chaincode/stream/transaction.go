package stream

import (
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
)

// Call is one execution of a chaincode; it does not change once given to
// Execute.
type Call struct {
	Type            peer.ChaincodeMessage_Type // INIT or TRANSACTION
	ChannelID, TxID string
	Input           *peer.ChaincodeInput
	SignedProposal  *peer.SignedProposal // nil: sent without
	Proposal        *peer.Proposal
	Simulator       Simulator     // nil: no ledger context
	History         HistoryReader // nil without a simulator
}

func (c *Call) key() txKey { return txKey{c.ChannelID, c.TxID} }

// transaction is the context of a running Call. busy and finished belong to
// the machine (under the stream's lock), iterators to the executing goroutine.
type transaction struct {
	call *Call
	// inbox never blocks the receiver: there is at most one request
	// outstanding and one result.
	inbox          chan *peer.ChaincodeMessage
	busy, finished bool
	iterators      map[string]*iterator
	// written are the bytes of the values last written, by key, and total their
	// sum with the keys; both belong to the executing goroutine.
	written map[string]int
	total   int
}

func newTransaction(c *Call) *transaction {
	return &transaction{call: c, inbox: make(chan *peer.ChaincodeMessage, 2)}
}

// write counts what the transaction is about to write under a key, in place of
// what it wrote there before.
func (tx *transaction) write(key string, value []byte) error {
	before, again := tx.written[key]
	total := tx.total + len(value) - before
	if !again {
		total += len(key)
	}
	if total > maxBytes {
		return errTooLarge("the write set")
	}
	if tx.written == nil {
		tx.written = map[string]int{}
	}
	tx.written[key], tx.total = len(value), total
	return nil
}

func (tx *transaction) closeIterators() {
	for _, it := range tx.iterators {
		it.close()
	}
	tx.iterators = nil
}
