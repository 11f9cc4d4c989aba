// Package loggingcmd is the command group `peer logging` (SURFACE §1.1).
//
// It keeps no state beyond the run of a command. The peer command imports it.
package loggingcmd

import (
	"context"
	"errors"
	"fmt"

	"github.com/hyperledger/fabric-lib-go/common/flogging"
	"github.com/spf13/cobra"

	"github.com/heddle-ledger/heddle/cmd/peer/cli"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/protos/admin"
)

// New returns the command group.
func New(env *cli.Env) *cobra.Command {
	const verbs = "Logging configuration: getlevel|setlevel|getlogspec|setlogspec|revertlevels."
	cmd := &cobra.Command{Use: "logging", Short: verbs, Long: verbs, PersistentPreRunE: env.InitCmd}
	g := &group{env: env}
	cmd.AddCommand(
		g.verb("getlevel <logger>", "Returns the logging level of the requested logger.",
			"Returns the logging level of the requested logger. Note: the logger name should exactly match the name that is displayed in the logs.",
			atLeastLogger, g.getLevel),
		g.verb("setlevel <logger> <log level>", "Adds the logger and log level to the current logging spec.",
			"Adds the logger and log level to the current logging specification.", loggerAndLevel, g.setLevel),
		g.verb("revertlevels", "Reverts the logging spec to the peer's spec at startup.",
			"Reverts the logging spec to the peer's spec at startup.", nothing, g.revertLevels),
		g.verb("getlogspec", "Returns the active log spec.",
			"Returns the active logging specification of the peer.", nothing, g.getLogSpec),
		g.verb("setlogspec", "Sets the logging spec.",
			"Sets the active logging specification of the peer.", atLeastLogger, g.setLogSpec),
	)
	return cmd
}

type group struct{ env *cli.Env }

// request is one call of the Admin service.
type request struct {
	ctx    context.Context
	client admin.AdminClient
	log    *flog.Logger
	args   []string
}

func (g *group) verb(use, short, long string, check func([]string) error, do func(*request) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Long: long,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := check(args); err != nil {
				return err
			}
			cli.Checked(cmd)
			conn, err := g.env.DialPeer(cmd.Context(), "admin", cli.PeerTarget{})
			if err != nil {
				return err
			}
			defer conn.Close()
			return do(&request{
				ctx: cmd.Context(), client: admin.NewAdminClient(conn), log: g.env.Logger("cli.logging"), args: args,
			})
		},
	}
}

func nothing(args []string) error {
	if len(args) != 0 {
		return fmt.Errorf("more parameters than necessary were provided. Expected 0, received %d", len(args))
	}
	return nil
}

func atLeastLogger(args []string) error {
	if len(args) == 0 {
		return errors.New("no parameters provided")
	}
	return nil
}

func loggerAndLevel(args []string) error {
	switch {
	case len(args) == 0:
		return errors.New("no parameters provided")
	case len(args) == 1:
		return errors.New("no log level provided")
	case !flogging.IsValidLevel(args[1]):
		return fmt.Errorf("invalid log level provided - %s", args[1])
	}
	return nil
}

func (g *group) levels(r *request, req *admin.LogLevelRequest, call levelCall) (*admin.LogLevelResponse, error) {
	env, err := cli.AdminRequest(&admin.AdminOperation{Content: &admin.AdminOperation_LogReq{LogReq: req}}, g.env.Signer())
	if err != nil {
		return nil, err
	}
	return call(r.ctx, env)
}

func (g *group) getLevel(r *request) error {
	resp, err := g.levels(r, &admin.LogLevelRequest{LogModule: r.args[0]}, withoutOptions(r.client.GetModuleLogLevel))
	if err != nil {
		return err
	}
	r.log.Infof("Current log level for logger '%s': %s", resp.LogModule, resp.LogLevel)
	return nil
}

func (g *group) setLevel(r *request) error {
	req := &admin.LogLevelRequest{LogModule: r.args[0], LogLevel: r.args[1]}
	resp, err := g.levels(r, req, withoutOptions(r.client.SetModuleLogLevel))
	if err != nil {
		return err
	}
	r.log.Infof("Log level set for logger name/prefix '%s': %s", resp.LogModule, resp.LogLevel)
	return nil
}

func (g *group) revertLevels(r *request) error {
	env, err := cli.AdminRequest(&admin.AdminOperation{}, g.env.Signer())
	if err != nil {
		return err
	}
	if _, err := r.client.RevertLogLevels(r.ctx, env); err != nil {
		return err
	}
	r.log.Info("Logging spec reverted to the peer's spec at startup.")
	return nil
}

func (g *group) getLogSpec(r *request) error {
	env, err := cli.AdminRequest(&admin.AdminOperation{}, g.env.Signer())
	if err != nil {
		return err
	}
	resp, err := r.client.GetLogSpec(r.ctx, env)
	if err != nil {
		return err
	}
	r.log.Infof("Current logging spec: %s", resp.LogSpec)
	return nil
}

func (g *group) setLogSpec(r *request) error {
	op := &admin.AdminOperation{Content: &admin.AdminOperation_LogSpecReq{LogSpecReq: &admin.LogSpecRequest{LogSpec: r.args[0]}}}
	env, err := cli.AdminRequest(op, g.env.Signer())
	if err != nil {
		return err
	}
	resp, err := r.client.SetLogSpec(r.ctx, env)
	if err != nil {
		return err
	}
	if resp.Error != "" {
		return errors.New(resp.Error)
	}
	r.log.Infof("Current logging spec set to: %s", resp.LogSpec)
	return nil
}
