package stream

import (
	"errors"
	"fmt"

	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
)

// ErrTerminated ends the executions of a stream that has gone.
var ErrTerminated = errors.New("chaincode stream terminated")

// phase is the state of a stream (CHAINCODE §2); "established" is passed
// through within one step and never seen.
type phase string

const (
	created phase = "created"
	ready   phase = "ready"
	ended   phase = "ended"
)

// action says what to do about a received message.
type action int

const (
	ignore   action = iota
	register        // ask the registry; on success call registered
	request         // carry out a request of tx
	refuse          // answer a request that belongs to no live transaction
	drop            // log and forget: tx has a request outstanding
	deliver         // hand the result to the waiter of tx
	end             // end the stream with err
)

// verdict is the outcome of one step.
type verdict struct {
	action action
	tx     *transaction
	err    error
}

type txKey struct{ channelID, txID string }

// machine is the pure core of a stream: which messages are legal, and which
// transactions live. It does no I/O, has no clock and takes no lock.
type machine struct {
	phase phase
	txs   map[txKey]*transaction
}

func newMachine() *machine { return &machine{phase: created, txs: map[txKey]*transaction{}} }

// receive decides about a message from the chaincode.
func (m *machine) receive(typ peer.ChaincodeMessage_Type, key txKey) verdict {
	if typ == peer.ChaincodeMessage_KEEPALIVE || m.phase == ended {
		return verdict{action: ignore}
	}
	if m.phase == created {
		if typ == peer.ChaincodeMessage_REGISTER {
			return verdict{action: register}
		}
		return m.illegal(typ, key)
	}
	switch {
	case typ == peer.ChaincodeMessage_COMPLETED || typ == peer.ChaincodeMessage_ERROR:
		tx := m.txs[key]
		if tx == nil || tx.finished {
			return verdict{action: ignore}
		}
		tx.finished = true
		return verdict{action: deliver, tx: tx}
	case isRequest(typ):
		tx := m.txs[key]
		if tx == nil || tx.finished {
			return verdict{action: refuse}
		}
		if tx.busy {
			return verdict{action: drop, tx: tx}
		}
		tx.busy = true
		return verdict{action: request, tx: tx}
	default:
		return m.illegal(typ, key)
	}
}

func (m *machine) illegal(typ peer.ChaincodeMessage_Type, key txKey) verdict {
	return verdict{action: end, err: fmt.Errorf(
		"error handling message, ending stream: [%s] Fabric side handler cannot handle message (%s) while in %s state",
		shortTxID(key.txID), typeName(typ), m.phase)}
}

// registered moves the stream to ready.
func (m *machine) registered() { m.phase = ready }

// begin adds a transaction.
func (m *machine) begin(key txKey, tx *transaction) error {
	if m.phase == ended {
		return ErrTerminated
	}
	if m.txs[key] != nil {
		return fmt.Errorf("txid: %s(%s) exists", key.txID, key.channelID)
	}
	m.txs[key] = tx
	return nil
}

// answered clears the mark of the outstanding request; it is called just
// before the reply is queued.
func (m *machine) answered(tx *transaction) { tx.busy = false }

// remove forgets a transaction.
func (m *machine) remove(key txKey) { delete(m.txs, key) }

// terminate ends the stream.
func (m *machine) terminate() { m.phase = ended }

func isRequest(typ peer.ChaincodeMessage_Type) bool {
	switch typ {
	case peer.ChaincodeMessage_GET_STATE, peer.ChaincodeMessage_PUT_STATE, peer.ChaincodeMessage_DEL_STATE,
		peer.ChaincodeMessage_GET_STATE_BY_RANGE, peer.ChaincodeMessage_GET_QUERY_RESULT,
		peer.ChaincodeMessage_GET_HISTORY_FOR_KEY, peer.ChaincodeMessage_QUERY_STATE_NEXT,
		peer.ChaincodeMessage_QUERY_STATE_CLOSE, peer.ChaincodeMessage_INVOKE_CHAINCODE,
		peer.ChaincodeMessage_GET_STATE_METADATA, peer.ChaincodeMessage_PUT_STATE_METADATA,
		peer.ChaincodeMessage_GET_PRIVATE_DATA_HASH:
		return true
	default:
		return false
	}
}

// typeName prints a message type as a 1.4 peer does, which knows no type
// beyond GET_PRIVATE_DATA_HASH: those are numbers to it.
func typeName(typ peer.ChaincodeMessage_Type) string {
	if typ > peer.ChaincodeMessage_GET_PRIVATE_DATA_HASH {
		return fmt.Sprint(int32(typ))
	}
	return typ.String()
}

func shortTxID(txID string) string {
	if len(txID) > 8 {
		return txID[:8]
	}
	return txID
}
