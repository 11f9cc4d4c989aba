package chaincodecmd

import (
	"context"
	"fmt"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"github.com/spf13/cobra"

	"github.com/heddle-ledger/heddle/cmd/peer/cli"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/txbuild"
)

func (g *group) instantiateCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "instantiate", Short: "Deploy the specified chaincode to the network.",
		Long: "Deploy the specified chaincode to the network.",
		RunE: func(cmd *cobra.Command, _ []string) error { return g.deploy(cmd, "instantiate", "deploy") },
	}
	g.flags(cmd.Flags(), "lang", "ctor", "name", "channel", "version", "policy", "escc", "vscc", "collections", "peers")
	return cmd
}

func (g *group) upgradeCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "upgrade", Short: "Upgrade chaincode.",
		Long: "Upgrade an existing chaincode with the specified one. The new chaincode will immediately replace the existing chaincode upon the transaction committed.",
		RunE: func(cmd *cobra.Command, _ []string) error { return g.deploy(cmd, "upgrade", "upgrade") },
	}
	g.flags(cmd.Flags(), "lang", "ctor", "path", "name", "channel", "version", "policy", "escc", "vscc", "collections", "peers")
	return cmd
}

// deploy proposes an lscc function to one peer and submits the transaction.
func (g *group) deploy(cmd *cobra.Command, verb, function string) error {
	if g.channel == "" {
		return errNoChannel
	}
	cli.Checked(cmd)
	f, err := g.InitCmdFactory(cmd.Context(), verb, true)
	if err != nil {
		return err
	}
	defer f.close()
	if err := g.checked(cmd, verb); err != nil {
		return err
	}
	spec, err := g.spec()
	if err != nil {
		return err
	}
	env, err := g.proposeDeploy(cmd.Context(), f, function, spec)
	if err != nil {
		return err
	}
	return cli.Broadcast(cmd.Context(), f.orderer, env)
}

func (g *group) proposeDeploy(ctx context.Context, f *factory, function string, spec *peer.ChaincodeSpec) (*common.Envelope, error) {
	args := [][]byte{
		[]byte(function), []byte(g.channel),
		protoutil.Marshal(&peer.ChaincodeDeploymentSpec{ChaincodeSpec: spec}),
		g.policyBytes, []byte(g.escc), []byte(g.vscc),
	}
	if g.collections != nil {
		args = append(args, g.collections)
	}
	prop, responses, err := g.propose(ctx, f, lsccProposal(g.channel, args...))
	if err != nil {
		return nil, fmt.Errorf("error endorsing chaincode: %w", err)
	}
	env, err := txbuild.Transaction(prop.Proposal, g.env.Signer(), responses...)
	if err != nil {
		return nil, fmt.Errorf("could not assemble transaction, err %w", err)
	}
	return env, nil
}

// lsccProposal is a call of the lifecycle system chaincode.
func lsccProposal(channel string, args ...[]byte) txbuild.ProposalSpec {
	return txbuild.ProposalSpec{
		Type: common.HeaderType_ENDORSER_TRANSACTION, ChannelID: channel,
		Spec: &peer.ChaincodeSpec{
			Type: peer.ChaincodeSpec_GOLANG, ChaincodeId: &peer.ChaincodeID{Name: "lscc"}, Input: &peer.ChaincodeInput{Args: args},
		},
	}
}
