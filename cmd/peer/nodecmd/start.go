package nodecmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/pprof"
	"strings"
	"syscall"

	"github.com/heddle-ledger/heddle/cmd/peer/cli"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/peer/node"
)

// serve runs the daemon until SIGINT or SIGTERM. Its name is part of log lines.
func serve(ctx context.Context, env *cli.Env, dev bool) error {
	log := env.Logger("nodeCmd")
	ctx, stop := handleSignals(ctx, log)
	defer stop()
	n, err := node.New(node.Config{
		Core: env.Core, Logging: env.Logging, Local: env.MSP, Signatures: env.Signatures, DevMode: dev, Environ: os.Environ(),
	})
	var failed *node.StartError
	if errors.As(err, &failed) {
		switch failed.Severity {
		case node.Fatal:
			log.Fatalf("%s", failed)
		case node.Panic:
			log.Errorf("%s", failed)
			return &cli.Panic{Err: failed}
		default:
			return failed
		}
	}
	if err != nil {
		return err
	}
	return n.Run(ctx)
}

// handleSignals ends the context on SIGINT and SIGTERM and dumps goroutines on
// SIGUSR1 (SURFACE §1.2).
func handleSignals(ctx context.Context, log *flog.Logger) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGUSR1)
	go func() {
		defer signal.Stop(signals)
		for {
			select {
			case <-ctx.Done():
				return
			case s := <-signals:
				log.Infof("Received signal: %d (%s)", s, s)
				if s != syscall.SIGUSR1 {
					cancel()
					return
				}
				dumpGoroutines(log)
			}
		}
	}()
	return ctx, cancel
}

func dumpGoroutines(log *flog.Logger) {
	var text strings.Builder
	if err := pprof.Lookup("goroutine").WriteTo(&text, 2); err != nil {
		log.Errorf("dump goroutines: %s", err)
		return
	}
	log.Infof("Go routines report:\n%s", fmt.Sprint(text.String()))
}
