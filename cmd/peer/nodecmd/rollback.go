package nodecmd

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/heddle-ledger/heddle/cmd/peer/cli"
	"github.com/heddle-ledger/heddle/ledger"
)

// rollback is `peer node rollback` (LEDGER §18.2). The usage follows every
// error, so the command never counts as checked.
func rollback(env *cli.Env) *cobra.Command {
	var channelID string
	var blockNumber uint64
	cmd := &cobra.Command{
		Use: "rollback", Short: "Rolls back a channel.",
		Long: "Rolls back a channel to a specified block number. When the command is executed, the peer must be offline. When the peer starts after the rollback, it will receive blocks, which got removed during the rollback, from an orderer or another peer to rebuild the block store and state database.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if channelID == "" {
				return errors.New("Must supply channel ID")
			}
			return advised(ledger.Rollback(ledgerConfig(cmd.Context(), env), channelID, blockNumber))
		},
	}
	cmd.Flags().StringVarP(&channelID, "channelID", "c", "", "Channel to rollback.")
	cmd.Flags().Uint64VarP(&blockNumber, "blockNumber", "b", 0, "Block number to which the channel needs to be rolled back to.")
	return cmd
}
