package channelcmd

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/spf13/cobra"

	"github.com/heddle-ledger/heddle/cmd/peer/cli"
	"github.com/heddle-ledger/heddle/internal/protoutil"
)

// pollPause is the time between two attempts to fetch the new channel's first
// block.
const pollPause = 200 * time.Millisecond

func (g *group) createCmd() *cobra.Command {
	var output string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "create", Short: "Create a channel", Long: "Create a channel and write the genesis block to a file.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if g.channel == "" {
				return errors.New("must supply channel ID")
			}
			cli.Checked(cmd)
			f, err := g.InitCmdFactory(cmd.Context(), connections{orderer: true})
			if err != nil {
				return err
			}
			defer func() { f.close() }()
			if err := g.sendCreate(cmd.Context()); err != nil {
				return err
			}
			block, err := g.genesisBlock(cmd.Context(), &f, timeout)
			if err != nil {
				return err
			}
			if output == "" {
				output = g.channel + ".block"
			}
			return os.WriteFile(output, protoutil.Marshal(block), 0o644)
		},
	}
	g.channelFlag(cmd.Flags())
	g.fileFlag(cmd.Flags())
	cmd.Flags().StringVar(&output, "outputBlock", "", "The path to write the genesis block for the channel. (default ./<channelID>.block)")
	cmd.Flags().DurationVarP(&timeout, "timeout", "t", 10*time.Second, "Channel creation timeout")
	return cmd
}

func (g *group) sendCreate(ctx context.Context) error {
	env, err := g.creationTx()
	if err != nil {
		return err
	}
	signed, err := g.signConfigTx(env)
	if err != nil {
		return err
	}
	return g.broadcast(ctx, "error", signed)
}

func (g *group) creationTx() (*common.Envelope, error) {
	if g.file != "" {
		return g.readConfigTx()
	}
	return g.defaultCreationTx()
}

// genesisBlock asks for block 0 until the orderer has it. Each failed attempt is
// followed by a new connection, which takes the place of the old one in f.
func (g *group) genesisBlock(ctx context.Context, f **factory, timeout time.Duration) (*common.Block, error) {
	deadline := time.Now().Add(timeout)
	for {
		if time.Now().After(deadline) {
			return nil, errors.New("timeout waiting for channel creation")
		}
		if block, err := (*f).deliver.Block(0); err == nil {
			return block, nil
		}
		(*f).close()
		next, err := g.InitCmdFactory(ctx, connections{orderer: true})
		if err != nil {
			*f = &factory{}
			return nil, err
		}
		*f = next
		select {
		case <-time.After(pollPause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
