package nodecmd

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/heddle-ledger/heddle/cmd/peer/cli"
	"github.com/heddle-ledger/heddle/ledger"
	"github.com/heddle-ledger/heddle/ledger/blockfile"
	"github.com/heddle-ledger/heddle/peer/node"
)

// reset is `peer node reset` (LEDGER §18.1). The usage follows every error, so
// the command never counts as checked.
func reset(env *cli.Env) *cobra.Command {
	return &cobra.Command{
		Use: "reset", Short: "Resets the node.",
		Long: "Resets all channels to the genesis block. When the command is executed, the peer must be offline. When the peer starts after the reset, it will receive blocks starting with block number one from an orderer or another peer to rebuild the block store and state database.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return advised(ledger.Reset(ledgerConfig(cmd.Context(), env)))
		},
	}
}

// advised adds the way out to an error that comes from damaged blocks.
func advised(err error) error {
	var damage *blockfile.DamageError
	if !errors.As(err, &damage) {
		return err
	}
	return fmt.Errorf("%w. Run `peer ledger verify`: it tells how far the damage goes and what to do", err)
}

// ledgerConfig is what the commands on a peer at rest need to know. Progress is
// shown on standard error. Reset and rollback leave a state in CouchDB alone, as
// the reference does (LEDGER §18.5).
func ledgerConfig(ctx context.Context, env *cli.Env) ledger.Config {
	c := node.OfflineLedgers(ctx, node.Config{Core: env.Core, Logging: env.Logging, Local: env.MSP})
	c.Progress = ledger.ShowProgress(env.Stderr, env.Logging.Root())
	return c
}
