package nodecmd

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/heddle-ledger/heddle/cmd/peer/cli"
	"github.com/heddle-ledger/heddle/internal/run"
	"github.com/heddle-ledger/heddle/ledger"
)

// rebuildDBs is `peer node rebuild-dbs` of 2.x (LEDGER §18.7), with the flag --now
// of ours. The help of `peer node` is that of 1.4.12 and does not list it. As with
// reset, the usage follows an error; not so with --now, whose errors come late.
func rebuildDBs(env *cli.Env) *cobra.Command {
	var now bool
	cmd := &cobra.Command{
		Use: "rebuild-dbs", Short: "Rebuilds databases.", Hidden: true,
		Long: "Drops the databases for all the channels and rebuilds them upon peer restart. When the command is executed, the peer must be offline.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 0 { // a channel, perhaps
				return fmt.Errorf("unexpected argument %q: the databases of all channels are dropped", args[0])
			}
			if !now {
				return advised(ledger.DropDatabases(cmd.Context(), ledgerConfig(cmd.Context(), env)))
			}
			cli.Checked(cmd)
			return rebuildNow(cmd, env)
		},
	}
	cmd.Flags().BoolVar(&now, "now", false, "Rebuild the databases at once, not upon peer restart.")
	return cmd
}

var errInterrupted = errors.New("interrupted: the peer goes on with the rebuilding when it starts, or repeat the command")

func rebuildNow(cmd *cobra.Command, env *cli.Env) error {
	ctx, stop := run.HandleSignals(cmd.Context(), env.Logger("nodeCmd"), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err := ledger.RebuildDatabases(ctx, ledgerConfig(ctx, env))
	if err != nil && ctx.Err() != nil {
		return errInterrupted
	}
	return advised(err)
}
