// Package acl decides whether the sender of a request may use a resource of the
// peer: the policy that the channel's config, or else the default table, names
// for the resource, or a role of the local MSP (IDENTITY-CONFIG §4.6).
//
// It owns no state and starts no goroutine; it is safe for concurrent use. Rooms
// of peer import it.
package acl

import (
	"errors"
	"fmt"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	mspproto "github.com/hyperledger/fabric-protos-go-apiv2/msp"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/internal/chanconfig"
	"github.com/heddle-ledger/heddle/internal/policy"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/msp"
	"github.com/heddle-ledger/heddle/peer/proposal"
)

// The resources of a 1.4 peer that channel policies guard.
const (
	ChaincodeExists           = "lscc/ChaincodeExists"
	GetDeploymentSpec         = "lscc/GetDeploymentSpec"
	GetChaincodeData          = "lscc/GetChaincodeData"
	GetInstantiatedChaincodes = "lscc/GetInstantiatedChaincodes"
	GetCollectionsConfig      = "lscc/GetCollectionsConfig"
	GetConfigBlock            = "cscc/GetConfigBlock"
	GetConfigTree             = "cscc/GetConfigTree"
	SimulateConfigTreeUpdate  = "cscc/SimulateConfigTreeUpdate"
	Propose                   = "peer/Propose"
	ChaincodeToChaincode      = "peer/ChaincodeToChaincode"
	EventBlock                = "event/Block"
	EventFilteredBlock        = "event/FilteredBlock"
)

// Roles of the local MSP.
const (
	Admins  = "Admins"
	Members = "Members"
)

const (
	readers = "/Channel/Application/Readers"
	writers = "/Channel/Application/Writers"
)

// defaultPolicy is the policy of a resource for which the channel's config names
// none; empty for an unknown resource. (A switch rather than a table: no
// package variable.)
func defaultPolicy(resource string) string {
	switch resource {
	case ChaincodeExists, GetDeploymentSpec, GetChaincodeData, GetInstantiatedChaincodes, GetCollectionsConfig,
		"qscc/GetChainInfo", "qscc/GetBlockByNumber", "qscc/GetBlockByHash", "qscc/GetTransactionByID", "qscc/GetBlockByTxID",
		GetConfigBlock, GetConfigTree, EventBlock, EventFilteredBlock, "token/List":
		return readers
	case SimulateConfigTreeUpdate, Propose, ChaincodeToChaincode, "token/Issue", "token/Transfer":
		return writers
	}
	return ""
}

// Config is what a Checker needs.
type Config struct {
	// Channels gives the config in force of a joined channel.
	Channels func(channelID string) (*chanconfig.Bundle, bool)
	// Local judges identities of the peer's own organisation, LocalMSPID names it.
	Local      msp.Deserializer
	LocalMSPID string
}

// Checker checks requests.
type Checker struct{ cfg Config }

// New returns a Checker.
func New(cfg Config) *Checker { return &Checker{cfg: cfg} }

// CheckACL checks the sender of a proposal.
func (c *Checker) CheckACL(resource, channelID string, sp *peer.SignedProposal) error {
	sd, err := signedDataOf(sp)
	if err != nil {
		return err
	}
	return c.Check(resource, channelID, sd)
}

// CheckEnvelope checks the sender of an envelope.
func (c *Checker) CheckEnvelope(resource, channelID string, env *common.Envelope) error {
	sd, err := policy.EnvelopeSignedData(env)
	if err != nil {
		return err
	}
	if len(sd) == 0 {
		return errors.New("the envelope carries no signature")
	}
	return c.Check(resource, channelID, sd[0])
}

// Check checks the signer of sd: the policy that the channel's config maps the
// resource to, or else the default one.
func (c *Checker) Check(resource, channelID string, sd policy.SignedData) error {
	bundle, known := c.cfg.Channels(channelID)
	if known {
		if app, ok := bundle.Application(); ok {
			if name := app.ACLPolicy(resource); name != "" {
				return evaluateMapped(bundle, name, sd)
			}
		}
	}
	name := defaultPolicy(resource)
	switch {
	case name == "":
		return fmt.Errorf("Unmapped policy for %s", resource)
	case channelID == "":
		// The reference takes the policy's name for a local role here, which fails.
		return c.checkLocal(name, sd)
	case !known:
		return fmt.Errorf("Failed to get policy manager for channel [%s]", channelID)
	}
	p, _ := bundle.PolicyManager().Policy(name)
	if err := p.Evaluate([]policy.SignedData{sd}); err != nil {
		return fmt.Errorf("Failed evaluating policy on signed data during check policy on channel [%s] with policy [%s]: [%w]", channelID, name, err)
	}
	return nil
}

func evaluateMapped(bundle *chanconfig.Bundle, name string, sd policy.SignedData) error {
	p, ok := bundle.PolicyManager().Policy(name)
	err := fmt.Errorf("policy %s not found", name)
	if ok {
		err = p.Evaluate([]policy.SignedData{sd})
	}
	if err != nil {
		return fmt.Errorf("failed evaluating policy on signed data during check policy [%s]: [%w]", name, err)
	}
	return nil
}

// CheckLocal checks that the sender of a proposal has a role of the local MSP,
// Admins or Members, and that its signature is good.
func (c *Checker) CheckLocal(role string, sp *peer.SignedProposal) error {
	sd, err := signedDataOf(sp)
	if err != nil {
		return err
	}
	return c.checkLocal(role, sd)
}

func (c *Checker) checkLocal(role string, sd policy.SignedData) error {
	id, err := c.cfg.Local.DeserializeIdentity(sd.Identity)
	if err != nil {
		return fmt.Errorf("Failed deserializing proposal creator during channelless check policy with policy [%s]: [%w]", role, err)
	}
	principal, err := c.localPrincipal(role)
	if err != nil {
		return fmt.Errorf("Failed getting local MSP principal during channelless check policy with policy [%s]: [%w]", role, err)
	}
	if err := id.SatisfiesPrincipal(principal); err != nil {
		return fmt.Errorf("Failed verifying that proposal's creator satisfies local MSP principal during channelless check policy with policy [%s]: [%w]", role, err)
	}
	return id.Verify(sd.Data, sd.Signature)
}

func (c *Checker) localPrincipal(role string) (*mspproto.MSPPrincipal, error) {
	var r mspproto.MSPRole_MSPRoleType
	switch role {
	case Admins:
		r = mspproto.MSPRole_ADMIN
	case Members:
		r = mspproto.MSPRole_MEMBER
	default:
		return nil, fmt.Errorf("MSP Principal role [%s] not recognized", role)
	}
	return &mspproto.MSPPrincipal{
		PrincipalClassification: mspproto.MSPPrincipal_ROLE,
		Principal:               protoutil.Marshal(&mspproto.MSPRole{Role: r, MspIdentifier: c.cfg.LocalMSPID}),
	}, nil
}

// signedDataOf is what the creator of a proposal signed.
func signedDataOf(sp *peer.SignedProposal) (policy.SignedData, error) {
	if sp == nil {
		return policy.SignedData{}, errors.New("the signed proposal is missing")
	}
	v := proposal.Parse(sp)
	if _, err := v.SignatureHeader(); err != nil {
		return policy.SignedData{}, err
	}
	return v.SignedData(), nil
}
