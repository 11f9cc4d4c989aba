// Package ledgercmd is the command group `peer ledger`: looking at the data of a
// peer or an orderer that is down (docs/ledger-tool.md). The reference has no such
// commands, so the group is not in the help of `peer`.
//
// It keeps no state beyond the run of a command. The peer command imports it.
package ledgercmd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/heddle-ledger/heddle/cmd/peer/cli"
	"github.com/heddle-ledger/heddle/internal/config"
	"github.com/heddle-ledger/heddle/ledger/audit"
)

// Exit codes besides 0.
const (
	exitBad   = 1 // the data are damaged, or differ
	exitError = 2 // wrong use, or it could not look
)

// New returns the command group.
func New(env *cli.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "ledger", Short: "Look at ledgers while the node is down: verify|inspect|compare.", Hidden: true,
		Long: `Look at the data directory of a peer or an orderer that is down: is it sound, what
is in it, how does it differ from another? Nothing in the directory is changed.

A directory is peer.fileSystemPath (or ledgersData below it) of a peer, or
FileLedger.Location of an orderer; the layout tells which. Without --path, the
directory is peer.fileSystemPath of core.yaml.`,
		// Else a verb that does not exist would show the help and succeed.
		DisableFlagsInUseLine: true,
		RunE: action(env, func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("unknown command %q for %q", args[0], cmd.CommandPath())}
			}
			return cmd.Help()
		}),
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		fmt.Fprintln(env.Stderr, "Error:", err)
		fmt.Fprintln(env.Stderr, cmd.UsageString())
		return &cli.Exit{Code: exitError}
	})
	cmd.AddCommand(verifyCmd(env), inspectCmd(env), compareCmd(env))
	return cmd
}

// usageError is followed by the usage text.
type usageError struct{ error }

// action runs a command and gives its errors an exit code. Interrupted, it ends
// what is under way, so that nothing temporary is left.
func action(env *cli.Env, run func(cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		cmd.SetContext(ctx)
		err := run(cmd, args)
		var exit *cli.Exit
		if err == nil || errors.As(err, &exit) {
			return err
		}
		if ctx.Err() != nil {
			err = errors.New("interrupted")
		}
		fmt.Fprintln(env.Stderr, "Error:", err)
		if usage := (usageError{}); errors.As(err, &usage) {
			fmt.Fprintln(env.Stderr, cmd.UsageString())
		}
		return &cli.Exit{Code: exitError}
	}
}

// place is the flags that say what to look at and how to show it.
type place struct {
	path    string
	channel string
	json    bool
	quiet   bool
}

func (p *place) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&p.channel, "channelID", "c", "", "Channel to look at; all of them if not given.")
	f.BoolVar(&p.json, "json", false, "Print the result as JSON.")
	f.BoolVarP(&p.quiet, "quiet", "q", false, "Do not show how far it is.")
}

func (p *place) pathFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.path, "path", "", "Directory to look at; peer.fileSystemPath of core.yaml if not given.")
}

func (p *place) channels() []string {
	if p.channel == "" {
		return nil
	}
	return []string{p.channel}
}

// progress is where to show how far it is.
func (p *place) progress(env *cli.Env) io.Writer {
	if p.quiet {
		return nil
	}
	return env.Stderr
}

// open opens the directory; core is the configuration it comes from, nil if it
// was named.
func (p *place) open() (d *audit.Dir, core *config.Core, err error) {
	path := p.path
	if path == "" {
		if core, err = config.LoadCore(); err != nil {
			return nil, nil, fmt.Errorf("no --path is given, and the peer's configuration cannot be read: %w", err)
		}
		path = core.Peer.FileSystemPath
	}
	d, err = audit.Open(path)
	return d, core, err
}

func noArguments(args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("unexpected argument %q: a directory is named with --path", args[0])}
	}
	return nil
}

// printJSON prints a value with indentation.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
