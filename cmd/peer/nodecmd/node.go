// Package nodecmd is the command group `peer node`: starting the daemon, asking
// for its status, and taking the ledgers of a peer that is down back to earlier
// blocks (SURFACE §1.5, §1.6, LEDGER §18).
//
// It keeps no state beyond the run of a command. The peer command imports it.
package nodecmd

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/heddle-ledger/heddle/cmd/peer/cli"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/protos/admin"
)

// New returns the command group.
func New(env *cli.Env) *cobra.Command {
	const verbs = "Operate a peer node: start|status|reset|rollback."
	cmd := &cobra.Command{Use: "node", Short: verbs, Long: verbs, PersistentPreRunE: env.InitCmd}
	cmd.AddCommand(startCmd(env), statusCmd(env), reset(env), rollback(env), rebuildDBs(env))
	return cmd
}

func startCmd(env *cli.Env) *cobra.Command {
	var dev bool
	cmd := &cobra.Command{
		Use: "start", Short: "Starts the node.", Long: "Starts a node that interacts with the network.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 0 {
				return errors.New("trailing args detected")
			}
			cli.Checked(cmd)
			return serve(cmd.Context(), env, dev)
		},
	}
	cmd.Flags().BoolVarP(&dev, "peer-chaincodedev", "", false, "Whether peer in chaincode development mode")
	return cmd
}

func statusCmd(env *cli.Env) *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Returns status of the node.", Long: "Returns the status of the running node.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 0 {
				return errors.New("trailing args detected")
			}
			cli.Checked(cmd)
			return status(cmd.Context(), env)
		},
	}
}

// status asks the peer. Its name is part of the log line.
func status(ctx context.Context, env *cli.Env) error {
	log := env.Logger("nodeCmd")
	unknown := func() {
		fmt.Fprintln(env.Stdout, protoutil.Text(&admin.ServerStatus{Status: admin.ServerStatus_UNKNOWN}))
	}
	conn, err := env.DialPeer(ctx, "admin", cli.PeerTarget{})
	if err != nil {
		log.Warning(err)
		unknown()
		return err
	}
	defer conn.Close()
	req, err := cli.AdminRequest(&admin.AdminOperation{}, env.Signer())
	if err != nil {
		return err
	}
	s, err := admin.NewAdminClient(conn).GetStatus(ctx, req)
	if err != nil {
		log.Infof("Error trying to get status from local peer: %s", err)
		unknown()
		return fmt.Errorf("Error trying to connect to local peer: %w", err)
	}
	fmt.Fprintln(env.Stdout, protoutil.Text(s))
	return nil
}
