// Package syscc has what the system chaincodes share: their answers, and their
// way to the ledger. The chaincodes themselves are its sub-folders, each a
// function of the peer without any stream in between (CHAINCODE §4).
//
// It owns no state and starts no goroutine. Only its sub-folders import it.
package syscc

import (
	"fmt"

	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/queryresult"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/chaincode/support"
	"github.com/heddle-ledger/heddle/peer/proposal"
)

// OK is the answer of a call that succeeded.
func OK(payload []byte) *peer.Response {
	return &peer.Response{Status: 200, Payload: payload}
}

// Fail is the answer of a call that failed (CHAINCODE §4.2).
func Fail(err error) *peer.Response {
	return &peer.Response{Status: 500, Message: proposal.ValidText(err.Error())}
}

// ErrNoProposal is the cause when a call comes without a signed proposal.
type ErrNoProposal struct{ Function string }

// Error is the reference's text.
func (e ErrNoProposal) Error() string {
	return fmt.Sprintf("Failed retrieving signed proposal on executing %s with error: no signed proposal", e.Function)
}

// State is the simulator of a call with the error texts of the chaincode
// protocol, since in the reference system chaincodes speak it.
type State struct{ inv *support.Invocation }

// StateOf is the state that a call may read and write.
func StateOf(inv *support.Invocation) State { return State{inv} }

func (s State) wrap(request string, err error) error {
	return fmt.Errorf("%s failed: transaction ID: %s: %w", request, s.inv.TxID, err)
}

func (s State) noContext(request string) error {
	return fmt.Errorf("%s failed: transaction ID: %s: no ledger context", request, s.inv.TxID)
}

// Get reads a key, nil if it does not exist.
func (s State) Get(ns, key string) ([]byte, error) {
	if s.inv.Simulator == nil {
		return nil, s.noContext("GET_STATE")
	}
	v, err := s.inv.Simulator.GetState(ns, key)
	if err != nil {
		return nil, s.wrap("GET_STATE", err)
	}
	return v, nil
}

// Put writes a key.
func (s State) Put(ns, key string, value []byte) error {
	if s.inv.Simulator == nil {
		return s.noContext("PUT_STATE")
	}
	if err := s.inv.Simulator.SetState(ns, key, value); err != nil {
		return s.wrap("PUT_STATE", err)
	}
	return nil
}

// Each calls f for every key of a namespace in key order. As with the
// reference's shim the range begins at U+0001 and is read to its end.
func (s State) Each(ns string, f func(*queryresult.KV) error) error {
	if s.inv.Simulator == nil {
		return s.noContext("GET_STATE_BY_RANGE")
	}
	it, err := s.inv.Simulator.GetStateRange(ns, "\x01", "")
	if err != nil {
		return s.wrap("GET_STATE_BY_RANGE", err)
	}
	defer it.Close()
	for {
		kv, err := it.Next()
		if err != nil {
			return s.wrap("GET_STATE_BY_RANGE", err)
		}
		if kv == nil {
			return nil
		}
		if err := f(kv); err != nil {
			return err
		}
	}
}
