package nodecmd

import (
	"context"
	"errors"
	"os"
	"runtime"
	"syscall"

	"github.com/heddle-ledger/heddle/cmd/peer/cli"
	"github.com/heddle-ledger/heddle/internal/run"
	"github.com/heddle-ledger/heddle/peer/node"
)

// serve runs the daemon until SIGINT or SIGTERM. Its name is part of log lines.
func serve(ctx context.Context, env *cli.Env, dev bool) error {
	log := env.Logger("nodeCmd")
	if procs := env.Core.Peer.GoMaxProcs; procs > 0 {
		runtime.GOMAXPROCS(procs)
	}
	for _, doubt := range env.Core.Doubts {
		log.Warningf("core.yaml or the environment: %s", doubt)
	}
	ctx, stop := run.HandleSignals(ctx, log, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	n, err := node.New(ctx, node.Config{
		Core: env.Core, Logging: env.Logging, Local: env.MSP, Signatures: env.Signatures, DevMode: dev, Environ: os.Environ(),
	})
	if err == nil {
		err = n.Run(ctx)
	} else if ctx.Err() != nil {
		return nil // told to stop while it waited
	}
	var failed *run.StartError
	if errors.As(err, &failed) {
		failed.Err = advised(failed.Err)
		switch failed.Severity {
		case run.Fatal:
			log.Fatalf("%s", failed)
		case run.Panic:
			log.Errorf("%s", failed)
			return &cli.Panic{Err: failed}
		default:
			return failed
		}
	}
	return err
}
