// Command peer is the peer daemon and its command line.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/grpclog"

	"github.com/heddle-ledger/heddle/cmd/peer/chaincodecmd"
	"github.com/heddle-ledger/heddle/cmd/peer/channelcmd"
	"github.com/heddle-ledger/heddle/cmd/peer/cli"
	"github.com/heddle-ledger/heddle/cmd/peer/ledgercmd"
	"github.com/heddle-ledger/heddle/cmd/peer/loggingcmd"
	"github.com/heddle-ledger/heddle/cmd/peer/nodecmd"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/progress"
	"github.com/heddle-ledger/heddle/internal/version"
)

func main() {
	logging := func(l *flog.Logging) { grpclog.SetLoggerV2(l.NewGRPC()) }
	os.Exit(run(context.Background(), os.Args[1:], streams{os.Stdout, progress.OnTerminal(os.Stderr), logging}))
}

// streams are where a run writes to. logging, if set, is told of the loggers of
// the process.
type streams struct {
	stdout, stderr io.Writer
	logging        func(*flog.Logging)
}

// run executes one command line and returns its exit code.
func run(ctx context.Context, args []string, to streams) int {
	stdout, stderr := to.stdout, to.stderr
	logging, err := flog.New(stderr, "", os.Getenv("FABRIC_LOGGING_SPEC"))
	if err != nil {
		fmt.Fprintf(stderr, "panic: %s\n", errors.Unwrap(err))
		return 2
	}
	if to.logging != nil {
		to.logging(logging)
	}
	env := &cli.Env{
		Stdout: stdout, Stderr: stderr, Logging: logging,
		LogFormat: os.Getenv("FABRIC_LOGGING_FORMAT"), LegacyLevel: os.Getenv("CORE_LOGGING_LEVEL") != "",
	}
	cmd := root(env)
	cmd.SetArgs(args)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	failed, err := cmd.ExecuteContextC(ctx)
	return report(failed, err, stderr)
}

// report prints what went wrong and returns the exit code.
func report(cmd *cobra.Command, err error, stderr io.Writer) int {
	var exit *cli.Exit
	var panicked *cli.Panic
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.Code
	case errors.As(err, &panicked):
		fmt.Fprintf(stderr, "panic: %s\n", panicked)
		return 2
	}
	fmt.Fprintln(stderr, "Error:", err)
	switch {
	case !cmd.HasParent(): // no such command
		fmt.Fprintf(stderr, "Run '%s --help' for usage.\n", cmd.CommandPath())
	case !cli.IsChecked(cmd):
		fmt.Fprintln(stderr, cmd.UsageString())
	}
	return 1
}

func root(env *cli.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "peer", DisableSuggestions: true, SilenceErrors: true, SilenceUsage: true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	cmd.PersistentFlags().String("logging-level", "", "Legacy logging level flag")
	if err := cmd.PersistentFlags().MarkHidden("logging-level"); err != nil {
		panic(err) // the flag is defined on the line above
	}
	cmd.AddCommand(versionCmd(env), nodecmd.New(env), channelcmd.New(env), chaincodecmd.New(env), loggingcmd.New(env), ledgercmd.New(env))
	return cmd
}

func versionCmd(env *cli.Env) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print fabric peer version.", Long: "Print current version of the fabric peer server.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 0 {
				return errors.New("trailing args detected")
			}
			cli.Checked(cmd)
			fmt.Fprintf(env.Stdout, "peer:\n%s\n", version.Text(runtime.Version(), runtime.GOOS, runtime.GOARCH))
			return nil
		},
	}
}
