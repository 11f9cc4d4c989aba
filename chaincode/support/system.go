package support

import (
	"context"
	"errors"
	"fmt"

	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/chaincode/stream"
)

// SystemChaincode is a system chaincode: a function of the peer. It runs in
// the goroutine of the proposal; ctx ends with the client's request.
type SystemChaincode func(ctx context.Context, inv *Invocation) *peer.Response

// System is one entry of the table of system chaincodes (CHAINCODE §4.1).
type System struct {
	Run      SystemChaincode // nil: known but disabled
	External bool            // a client's proposal may call it
	CC2CC    bool            // another chaincode may call it
}

// Invocation is one call of a system chaincode.
type Invocation struct {
	Name            string
	ChannelID, TxID string
	Args            [][]byte
	SignedProposal  *peer.SignedProposal
	Proposal        *peer.Proposal
	Simulator       stream.Simulator // nil on channel-less calls, and for cscc and qscc
	Caller          string           // name of the calling chaincode; empty for a client's call

	event *peer.ChaincodeEvent
}

// GetState reads a key of the chaincode's own namespace. The error texts are
// those a chaincode behind a stream would see (CHAINCODE §2.3).
func (inv *Invocation) GetState(key string) ([]byte, error) {
	if inv.Simulator == nil {
		return nil, inv.failed(peer.ChaincodeMessage_GET_STATE, errNoLedger)
	}
	value, err := inv.Simulator.GetState(inv.Name, key)
	return value, inv.failed(peer.ChaincodeMessage_GET_STATE, err)
}

// PutState writes a key of the chaincode's own namespace.
func (inv *Invocation) PutState(key string, value []byte) error {
	if inv.Simulator == nil {
		return inv.failed(peer.ChaincodeMessage_PUT_STATE, errNoLedger)
	}
	return inv.failed(peer.ChaincodeMessage_PUT_STATE, inv.Simulator.SetState(inv.Name, key, value))
}

// GetStateByRange opens a range query on the chaincode's own namespace. An
// empty start becomes U+0001, as in the shim.
func (inv *Invocation) GetStateByRange(start, end string) (stream.Iterator, error) {
	if inv.Simulator == nil {
		return nil, inv.failed(peer.ChaincodeMessage_GET_STATE_BY_RANGE, errNoLedger)
	}
	if start == "" {
		start = "\x01"
	}
	it, err := inv.Simulator.GetStateRange(inv.Name, start, end)
	return it, inv.failed(peer.ChaincodeMessage_GET_STATE_BY_RANGE, err)
}

// SetEvent sets the event of the transaction; the last one counts.
func (inv *Invocation) SetEvent(name string, payload []byte) {
	inv.event = &peer.ChaincodeEvent{EventName: name, Payload: payload}
}

var errNoLedger = errors.New("no ledger context")

func (inv *Invocation) failed(typ peer.ChaincodeMessage_Type, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s failed: transaction ID: %s: %w", typ, inv.TxID, err)
}

func (s *Support) invocation(p *TxParams, name string, input *peer.ChaincodeInput) *Invocation {
	return &Invocation{
		Name: name, ChannelID: p.ChannelID, TxID: p.TxID, Args: input.GetArgs(),
		SignedProposal: p.SignedProposal, Proposal: p.Proposal, Simulator: p.Simulator,
	}
}
