// Command orderer is the ordering daemon.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"google.golang.org/grpc/grpclog"
	kingpin "gopkg.in/alecthomas/kingpin.v2"

	"github.com/heddle-ledger/heddle/internal/config"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/run"
	"github.com/heddle-ledger/heddle/orderer/node"
)

func main() {
	os.Exit(execute(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// execute runs one command line and returns its exit code.
func execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	logging, err := flog.New(stderr, os.Getenv("FABRIC_LOGGING_FORMAT"), os.Getenv("FABRIC_LOGGING_SPEC"))
	if err != nil {
		fmt.Fprintf(stderr, "panic: %s\n", errors.Unwrap(err))
		return 2
	}
	command, code := parse(args, stderr)
	if command == "" {
		return code
	}
	if command == "version" {
		fmt.Fprintln(stdout, node.VersionText())
		return 0
	}
	// benchmark is start under another name, as in the reference (ORDERER §1.1).
	grpclog.SetLoggerV2(logging.NewGRPC())
	return serve(ctx, logging, stderr)
}

// parse returns the command, or "" and the exit code if there is nothing left to
// do.
func parse(args []string, stderr io.Writer) (command string, code int) {
	app := kingpin.New("orderer", "Hyperledger Fabric orderer node")
	app.Command("start", "Start the orderer node").Default()
	app.Command("version", "Show version information")
	app.Command("benchmark", "Run orderer in benchmark mode")
	app.UsageWriter(stderr)
	app.ErrorWriter(stderr)
	terminated := -1
	app.Terminate(func(status int) {
		if terminated < 0 {
			terminated = status
		}
	})
	command, err := app.Parse(args)
	switch {
	case terminated >= 0: // help has been printed
		return "", terminated
	case err != nil:
		app.Errorf("%s, try --help", err)
		return "", 1
	}
	return command, 0
}

// serve runs the daemon until SIGTERM.
func serve(ctx context.Context, logging *flog.Logging, stderr io.Writer) int {
	log := logging.Logger("orderer.common.server")
	cfg, err := config.LoadOrderer(notes{logging.Logger("localconfig")}.unset)
	if err != nil {
		log.Error("failed to parse config: ", err)
		return 1
	}
	n, err := node.New(node.Config{Orderer: cfg, Logging: logging, Getenv: os.Getenv})
	if err != nil {
		return report(log, stderr, err)
	}
	// SIGINT is not handled (ORDERER §2.1).
	ctx, stop := run.HandleSignals(ctx, log, syscall.SIGTERM)
	defer stop()
	if err := n.Run(ctx); err != nil {
		return report(log, stderr, err)
	}
	return 0
}

// notes logs the values that the configuration lacks.
type notes struct{ log *flog.Logger }

func (n notes) unset(text string) { n.log.Info(text) }

// report says why the daemon cannot go on and returns the exit code, if the
// severity leaves it to return at all: a FATAL line ends the process.
func report(log *flog.Logger, stderr io.Writer, err error) int {
	var failed *run.StartError
	if errors.As(err, &failed) && failed.Severity == run.Fatal {
		log.Fatal(err)
	}
	logPanic(log, err)
	fmt.Fprintf(stderr, "panic: %s\n", err)
	return 2
}

// logPanic writes a line at PANIC level; the panic that comes with it would print
// a stack trace that helps nobody.
func logPanic(log *flog.Logger, err error) {
	defer func() { _ = recover() }()
	log.Panic(err)
}
