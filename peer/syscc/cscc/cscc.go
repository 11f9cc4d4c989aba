// Package cscc is the configuration system chaincode: joining channels and
// reading their configuration (CHAINCODE §8.1, ENDORSE-VALIDATE §11.1).
//
// It owns no state and starts no goroutine; it is safe for concurrent use.
// peer/node puts it into the table of system chaincodes.
package cscc

import (
	"context"
	"errors"
	"fmt"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/chaincode/support"
	"github.com/heddle-ledger/heddle/internal/chanconfig"
	"github.com/heddle-ledger/heddle/peer/acl"
	"github.com/heddle-ledger/heddle/peer/syscc"
)

// Access checks the caller; *acl.Checker is one.
type Access interface {
	CheckACL(resource, channelID string, sp *peer.SignedProposal) error
	CheckLocal(role string, sp *peer.SignedProposal) error
}

// Channels are the channels of this peer; *channel.Registry is one.
type Channels interface {
	// Join creates the channel of a config block and starts its services.
	Join(block *common.Block) error
	// List gives the names of the joined channels, sorted.
	List() []string
	// Bundle is the config in force.
	Bundle(channelID string) (*chanconfig.Bundle, bool)
}

// Config is what a CSCC needs.
type Config struct {
	Channels Channels
	// ConfigBlock is the current config block of a channel as this peer stores
	// it; ok is false for a channel not joined.
	ConfigBlock func(channelID string) (b *common.Block, ok bool, err error)
	Access      Access
}

// CSCC is the configuration system chaincode of a peer.
type CSCC struct{ cfg Config }

// New returns a CSCC.
func New(cfg Config) *CSCC { return &CSCC{cfg: cfg} }

// Invoke runs one function.
func (c *CSCC) Invoke(_ context.Context, inv *support.Invocation) *peer.Response {
	payload, err := c.invoke(inv)
	if err != nil {
		return syscc.Fail(err)
	}
	return syscc.OK(payload)
}

func badCount(inv *support.Invocation) error {
	return fmt.Errorf("Incorrect number of arguments, %d", len(inv.Args))
}

const getChannels = "GetChannels"

func (c *CSCC) invoke(inv *support.Invocation) ([]byte, error) {
	if len(inv.Args) == 0 {
		return nil, badCount(inv)
	}
	function := string(inv.Args[0])
	if function != getChannels && len(inv.Args) < 2 {
		return nil, badCount(inv)
	}
	if inv.SignedProposal == nil {
		return nil, syscc.ErrNoProposal{Function: function}
	}
	switch function {
	case "JoinChain":
		return c.join(inv)
	case "GetConfigBlock":
		return c.withAccess(inv, acl.GetConfigBlock, c.configBlock)
	case "GetConfigTree":
		return c.withAccess(inv, acl.GetConfigTree, c.configTree)
	case "SimulateConfigTreeUpdate":
		return c.withAccess(inv, acl.SimulateConfigTreeUpdate, c.simulateUpdate)
	case getChannels:
		return c.channels(inv)
	}
	return nil, fmt.Errorf("Requested function %s not found.", function)
}

// join joins the channel of a config block. Whether the caller may is asked only
// after the block has been judged.
func (c *CSCC) join(inv *support.Invocation) ([]byte, error) {
	if inv.Args[1] == nil {
		return nil, errors.New("Cannot join the channel <nil> configuration block provided")
	}
	block := &common.Block{}
	if err := proto.Unmarshal(inv.Args[1], block); err != nil {
		return nil, fmt.Errorf("Failed to reconstruct the genesis block, error unmarshaling block: %w", err)
	}
	id, err := channelID(block)
	if err != nil {
		return nil, fmt.Errorf("\"JoinChain\" request failed to extract channel id from the block due to [%w]", err)
	}
	if err := validateConfigBlock(block); err != nil {
		return nil, fmt.Errorf("\"JoinChain\" for chainID = %s failed because of validation of configuration block, because of %w", id, err)
	}
	if err := c.cfg.Access.CheckLocal(acl.Admins, inv.SignedProposal); err != nil {
		return nil, fmt.Errorf("access denied for [JoinChain][%s]: [%w]", id, err)
	}
	return nil, c.cfg.Channels.Join(block)
}

// withAccess runs a function on the channel named by the first argument.
func (c *CSCC) withAccess(inv *support.Invocation, resource string, f func(inv *support.Invocation, channelID string) ([]byte, error)) ([]byte, error) {
	id := string(inv.Args[1])
	if err := c.cfg.Access.CheckACL(resource, id, inv.SignedProposal); err != nil {
		return nil, fmt.Errorf("access denied for [%s][%s]: %w", inv.Args[0], id, err)
	}
	return f(inv, id)
}

func (c *CSCC) configBlock(_ *support.Invocation, id string) ([]byte, error) {
	if id == "" {
		return nil, errors.New("ChainID must not be nil.")
	}
	b, ok, err := c.cfg.ConfigBlock(id)
	switch {
	case !ok:
		return nil, fmt.Errorf("Unknown chain ID, %s", id)
	case err != nil:
		return nil, err
	}
	return proto.Marshal(b)
}

func (c *CSCC) bundle(id string) (*chanconfig.Bundle, error) {
	b, ok := c.cfg.Channels.Bundle(id)
	if !ok {
		return nil, fmt.Errorf("Unknown chain ID, %s", id)
	}
	return b, nil
}

func (c *CSCC) configTree(_ *support.Invocation, id string) ([]byte, error) {
	b, err := c.bundle(id)
	if err != nil {
		return nil, err
	}
	return proto.MarshalOptions{Deterministic: true}.Marshal(&peer.ConfigTree{ChannelConfig: b.Config()})
}

// simulateUpdate tells whether a config update would be accepted. It changes
// nothing.
func (c *CSCC) simulateUpdate(inv *support.Invocation, id string) ([]byte, error) {
	if len(inv.Args) < 3 {
		return nil, badCount(inv)
	}
	b, err := c.bundle(id)
	if err != nil {
		return nil, err
	}
	env := &common.Envelope{}
	if err := proto.Unmarshal(inv.Args[2], env); err != nil {
		return nil, err
	}
	payload := &common.Payload{}
	if err := proto.Unmarshal(env.Payload, payload); err != nil {
		return nil, err
	}
	ch := &common.ChannelHeader{}
	if err := proto.Unmarshal(payload.GetHeader().GetChannelHeader(), ch); err != nil {
		return nil, err
	}
	if ch.Type != int32(common.HeaderType_CONFIG_UPDATE) {
		return nil, fmt.Errorf("invalid payload header type: %d", ch.Type)
	}
	if _, err := b.ProposeUpdate(env); err != nil {
		return nil, err
	}
	return []byte("Simulation is successful"), nil
}

func (c *CSCC) channels(inv *support.Invocation) ([]byte, error) {
	if err := c.cfg.Access.CheckLocal(acl.Members, inv.SignedProposal); err != nil {
		return nil, fmt.Errorf("access denied for [%s]: %w", inv.Args[0], err)
	}
	out := &peer.ChannelQueryResponse{}
	for _, id := range c.cfg.Channels.List() {
		out.Channels = append(out.Channels, &peer.ChannelInfo{ChannelId: id})
	}
	return proto.Marshal(out)
}
