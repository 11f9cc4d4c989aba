package nodecmd

import (
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/heddle-ledger/heddle/cmd/peer/cli"
	"github.com/heddle-ledger/heddle/ledger"
	"github.com/heddle-ledger/heddle/peer/node"
)

// reset is `peer node reset` (LEDGER §18.1). The usage follows every error, so
// the command never counts as checked.
func reset(env *cli.Env) *cobra.Command {
	return &cobra.Command{
		Use: "reset", Short: "Resets the node.",
		Long: "Resets all channels to the genesis block. When the command is executed, the peer must be offline. When the peer starts after the reset, it will receive blocks starting with block number one from an orderer or another peer to rebuild the block store and state database.",
		RunE: func(*cobra.Command, []string) error {
			return ledger.Reset(ledgerConfig(env))
		},
	}
}

// ledgerConfig is what the commands on a peer at rest need to know. Reset and
// rollback leave a state in CouchDB alone, as the reference does (LEDGER §18.5).
func ledgerConfig(env *cli.Env) ledger.Config {
	return ledger.Config{
		Dir:       filepath.Join(env.Core.Peer.FileSystemPath, "ledgersData"),
		DropState: node.DropState(env.Core, env.Logging.Root()),
		Log:       env.Logging.Root(),
	}
}
