package support

import (
	"context"
	"fmt"

	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/chaincode/stream"
	"github.com/heddle-ledger/heddle/internal/protoutil"
)

// resourceCC2CC is the ACL resource of chaincode-to-chaincode calls, checked
// on the channel of the callee.
const resourceCC2CC = "peer/ChaincodeToChaincode"

// host is what Support is to its streams.
type host struct{ *Support }

// Register admits a stream to the registry.
func (h host) Register(st *stream.Stream) error { return h.registry.register(st) }

// Registered opens a stream for executions.
func (h host) Registered(st *stream.Stream) { h.registry.registered(st) }

// KeyLevelEndorsement asks for the capability of the channel.
func (h host) KeyLevelEndorsement(channelID string) error {
	return h.cfg.Channels.KeyLevelEndorsement(channelID)
}

// Invoke carries out a chaincode-to-chaincode call (CHAINCODE §3.7).
func (h host) Invoke(ctx context.Context, from *stream.Call, caller string, to stream.Target, input *peer.ChaincodeInput) (*peer.ChaincodeMessage, error) {
	if to.Channel == "" {
		to.Channel = from.ChannelID
	}
	if err := h.mayCall(from, caller, to); err != nil {
		return nil, err
	}
	p := &TxParams{
		ChannelID: to.Channel, TxID: from.TxID, SignedProposal: from.SignedProposal, Proposal: from.Proposal,
		Simulator: from.Simulator, History: from.History,
	}
	if to.Channel != from.ChannelID {
		// Read-only: whatever this simulator records is thrown away.
		sim, history, done, err := h.cfg.Channels.Simulator(to.Channel, from.TxID, from.Simulator)
		if err != nil {
			return nil, err
		}
		defer done()
		p.Simulator, p.History = sim, history
	}
	msg, err := h.call(ctx, p, caller, to, input)
	if err != nil {
		return nil, err
	}
	return msg, nil
}

func (h host) mayCall(from *stream.Call, caller string, to stream.Target) error {
	if h.IsSystem(to.Name) {
		if !h.cfg.System[to.Name].CC2CC {
			return fmt.Errorf("system chaincode %s cannot be invoked with a cc2cc invocation", to.Name)
		}
		return nil
	}
	if from.SignedProposal == nil {
		c := stream.ParseTarget(caller)
		return fmt.Errorf("signed proposal must not be nil from caller [%s.%s#%s]", from.ChannelID, c.Name, c.Version)
	}
	return h.cfg.Access.CheckACL(resourceCC2CC, to.Channel, from.SignedProposal)
}

func (h host) call(ctx context.Context, p *TxParams, caller string, to stream.Target, input *peer.ChaincodeInput) (*peer.ChaincodeMessage, error) {
	if sys, ok := h.cfg.System[to.Name]; ok && sys.Run != nil {
		inv := h.invocation(p, to.Name, input)
		inv.Caller = stream.ParseTarget(caller).Name
		resp := sys.Run(ctx, inv)
		return &peer.ChaincodeMessage{
			Type: peer.ChaincodeMessage_COMPLETED, Payload: protoutil.Marshal(resp),
			Txid: p.TxID, ChannelId: p.ChannelID, ChaincodeEvent: inv.event,
		}, nil
	}
	def, err := h.cfg.Lifecycle.Callee(p.ChannelID, to.Name, p.Simulator)
	if err != nil {
		return nil, err
	}
	msg, err := h.transact(ctx, p, def.Name, def.Version, input)
	if err != nil {
		return nil, fmt.Errorf("execute failed: %w", err)
	}
	return msg, nil
}
