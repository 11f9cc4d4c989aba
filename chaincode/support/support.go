package support

import (
	"context"
	"errors"

	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/chaincode/stream"
)

// Support runs chaincodes for the endorser. It implements the service
// protos.ChaincodeSupport.
type Support struct {
	cfg Config
}

// TxParams is the transaction an execution belongs to.
type TxParams struct {
	ChannelID, TxID string
	SignedProposal  *peer.SignedProposal
	Proposal        *peer.Proposal
	Simulator       stream.Simulator     // nil: the chaincode has no ledger context
	History         stream.HistoryReader // nil without a simulator
}

// New wires a Support; it starts nothing.
func New(cfg Config) *Support { return &Support{cfg: cfg} }

// Run ends the launches in progress when ctx ends, and returns when they have.
func (s *Support) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// Register serves one chaincode stream (CHAINCODE §1, §2).
func (s *Support) Register(st peer.ChaincodeSupport_RegisterServer) error {
	return errors.New("being written")
}

// Execute runs a transaction on a chaincode, which is launched when necessary.
func (s *Support) Execute(ctx context.Context, p *TxParams, name, version string, input *peer.ChaincodeInput) (*peer.Response, *peer.ChaincodeEvent, error) {
	return nil, nil, errors.New("being written")
}

// ExecuteInit launches the chaincode of a deployment and runs its Init.
func (s *Support) ExecuteInit(ctx context.Context, p *TxParams, def *Definition, input *peer.ChaincodeInput) (*peer.Response, *peer.ChaincodeEvent, error) {
	return nil, nil, errors.New("being written")
}

// IsSystem tells whether name belongs to a system chaincode, enabled or not,
// or is reserved for one.
func (s *Support) IsSystem(name string) bool { return false }

// InvokableByProposal is false for system chaincodes closed to clients.
func (s *Support) InvokableByProposal(name string) bool { return false }
