// Package syscc has what the system chaincodes share: the form of their answers.
// The chaincodes themselves are its sub-folders, each a
// function of the peer without any stream in between (CHAINCODE §4).
//
// It owns no state and starts no goroutine. Only its sub-folders import it.
package syscc

import (
	"fmt"

	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

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
