package support

import (
	"context"

	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/chaincode/stream"
)

// SystemChaincode is a system chaincode: a function of the peer.
type SystemChaincode func(ctx context.Context, inv *Invocation) *peer.Response

// System is one entry of the table of system chaincodes (CHAINCODE §4.1).
type System struct {
	Run      SystemChaincode // nil: known but disabled
	External bool            // a client's proposal may call it
	CC2CC    bool            // another chaincode may call it
}

// Invocation is one call of a system chaincode.
type Invocation struct {
	Name              string
	ChannelID, TxID   string
	Args              [][]byte
	SignedProposal    *peer.SignedProposal
	Proposal          *peer.Proposal
	Simulator         stream.Simulator // nil on channel-less calls
	CalledByChaincode string           // name of the calling chaincode; empty for a client's call

	event *peer.ChaincodeEvent
}
