// Package node is the composition root of the orderer: it makes every room from
// the configuration, joins them, and runs them in the order of the reference
// (ORDERER §2.1).
//
// A Node owns the listeners, the ledgers and all goroutines of the daemon until
// Run returns. Only cmd/orderer and test networks import the package.
package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/heddle-ledger/heddle/internal/config"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/run"
	"github.com/heddle-ledger/heddle/internal/version"
)

// Config is what an orderer is made of.
type Config struct {
	Orderer *config.Orderer
	Logging *flog.Logging
	// Getenv reads the environment for configtx.yaml; nil means that there is
	// none.
	Getenv func(string) string
}

// Node is an orderer that is ready to run.
type Node struct {
	cfg     Config
	log     *flog.Logger
	parts   parts
	closers run.Closers // what New opened
	listen  func(address string) (net.Listener, error)
}

// New opens the orderer's ledgers and listeners and joins its rooms; nothing is
// served before Run. Failures are run.StartErrors.
func New(cfg Config, opts ...Option) (*Node, error) {
	n := &Node{cfg: cfg, log: cfg.Logging.Logger("orderer.common.server")}
	n.apply(opts)
	if err := n.wire(); err != nil {
		return nil, errors.Join(err, n.closers.Close())
	}
	return n, nil
}

// Address is what the orderer listens on, OperationsAddress its operations
// endpoint.
func (n *Node) Address() string           { return n.parts.server.Address() }
func (n *Node) OperationsAddress() string { return n.parts.operations.Address() }

// VersionText is the version in the form that the daemon and its command print.
func VersionText() string {
	return fmt.Sprintf("orderer:\n Version: %s\n Commit SHA: %s\n Go version: %s\n OS/Arch: %s/%s\n",
		version.Full, version.CommitSHA, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// Run serves until ctx has ended, then stops in reverse order: clients at once,
// then the engines, which finish the block at hand, the ledgers last. An error
// means that the orderer cannot go on.
func (n *Node) Run(ctx context.Context) error {
	err := n.run(ctx)
	return errors.Join(err, n.closers.Close())
}

func (n *Node) run(ctx context.Context) error {
	p := n.parts
	// The outer ring outlives the clients inside.
	outer, stopOuter := context.WithCancel(context.WithoutCancel(ctx))
	defer stopOuter()
	below, outerCtx := errgroup.WithContext(outer)
	below.Go(func() error { return p.operations.Run(outerCtx) })
	below.Go(func() error { return p.certificates.Run(outerCtx) })
	below.Go(func() error { return p.registrar.Run(outerCtx) })

	n.log.Infof("Starting %s", VersionText())
	inner, innerCtx := errgroup.WithContext(ctx)
	if err := n.serveProfile(innerCtx, inner); err != nil {
		stopOuter()
		return errors.Join(err, below.Wait())
	}
	n.log.Info("Beginning to serve requests")
	inner.Go(func() error { return p.server.Serve(innerCtx, 0) })
	// A part below that fails takes the daemon down.
	inner.Go(func() error {
		select {
		case <-innerCtx.Done():
			return nil
		case <-outerCtx.Done():
			return context.Cause(outerCtx)
		}
	})
	err := inner.Wait()
	stopOuter()
	if belowErr := below.Wait(); belowErr != nil {
		return belowErr // the cause; what inner says is its echo
	}
	return err
}

// serveProfile serves Go profiles.
func (n *Node) serveProfile(ctx context.Context, g *errgroup.Group) error {
	c := n.cfg.Orderer.General.Profile
	if !c.Enabled {
		return nil
	}
	n.log.Infof("Starting Go pprof profiling service on: %s", c.Address)
	l, err := net.Listen("tcp", c.Address)
	if err != nil {
		return run.Failed(run.Panic, "Go pprof service failed: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	g.Go(func() error {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("Go pprof service failed: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		return srv.Close()
	})
	return nil
}
