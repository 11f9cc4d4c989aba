// Package node is the composition root of the peer: it makes every room from the
// configuration, joins them, and runs them (docs/architecture.md).
//
// A Node owns the listeners, the ledger stores and all goroutines of the daemon
// until Run returns. Only cmd/peer and test networks import the package.
package node

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/heddle-ledger/heddle/internal/config"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/run"
	"github.com/heddle-ledger/heddle/msp"
	"github.com/heddle-ledger/heddle/msp/x509msp"
	"github.com/heddle-ledger/heddle/protos/peerid"
)

// Config is what a peer is made of.
type Config struct {
	Core    *config.Core
	Logging *flog.Logging
	// Local is the peer's own MSP; Signatures is the memory of good signatures
	// that it shares with the channels.
	Local      *x509msp.Local
	Signatures *msp.SignatureCache
	// DevMode: chaincodes are started by hand.
	DevMode bool
	// Environ is the environment of the process, from which chaincodes and the
	// Go tool get what they need.
	Environ []string
}

// shutdownGrace is the time that RPCs in flight get when the peer stops.
const shutdownGrace = 2 * time.Second

// Node is a peer that is ready to run.
type Node struct {
	cfg     Config
	address string
	log     *flog.Logger
	parts   *parts
	// deployed are the system chaincodes that are enabled.
	deployed []string
	rebuild  *rebuild    // nil unless ledgers were taken back
	closers  run.Closers // what New opened

	listen func(address string) (net.Listener, error)
	dial   func(ctx context.Context, address string) (net.Conn, error) // nil: TCP
}

// New opens the peer's stores and listeners and joins its rooms, in the order
// of the reference; nothing is served before Run. Failures are run.StartErrors.
// The end of ctx ends the waiting for a state database that is not up yet.
func New(ctx context.Context, cfg Config, opts ...Option) (*Node, error) {
	n := &Node{cfg: cfg, log: cfg.Logging.Logger("nodeCmd")}
	n.apply(opts)
	if err := n.wire(ctx); err != nil {
		return nil, errors.Join(err, n.closers.Close())
	}
	return n, nil
}

// Address is what the peer listens on.
func (n *Node) Address() string { return n.parts.server.Address() }

// Run serves until ctx has ended, then stops in reverse order: clients first,
// the stores last.
func (n *Node) Run(ctx context.Context) error {
	err := n.run(ctx)
	return errors.Join(err, n.closers.Close())
}

func (n *Node) run(ctx context.Context) error {
	// Each ring outlives those inside it.
	outer, stopOuter := context.WithCancel(context.WithoutCancel(ctx))
	defer stopOuter()
	below, outerCtx := errgroup.WithContext(outer)
	p := n.parts
	below.Go(func() error { return p.operations.Run(outerCtx) })
	below.Go(func() error { return p.certificates.Run(outerCtx) })
	below.Go(func() error { return p.support.Run(outerCtx) })
	below.Go(func() error { return p.chaincodeServer.Serve(outerCtx, 0) })
	below.Go(func() error { return panicking(p.channels.Run(outerCtx)) })
	below.Go(func() error { return n.followClientRoots(outerCtx) })
	below.Go(func() error { return n.awaitRebuild(outerCtx) })

	n.announce()
	inner, innerCtx := errgroup.WithContext(ctx)
	inner.Go(func() error { return p.server.Serve(innerCtx, shutdownGrace) })
	if p.adminServer != nil {
		inner.Go(func() error { return p.adminServer.Serve(innerCtx, shutdownGrace) })
	}
	n.serveProfile(innerCtx, inner)
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
	return errors.Join(err, below.Wait())
}

// panicking marks an error at which the reference panics (ENDORSE-VALIDATE §5
// item 2).
func panicking(err error) error {
	if err == nil {
		return nil
	}
	return run.Failed(run.Panic, "%w", err)
}

// announce writes the line that scripts wait for.
func (n *Node) announce() {
	c := n.cfg.Core.Peer
	id := ""
	if c.ID != "" {
		id = protoutil.Text(&peerid.PeerID{Name: c.ID})
	}
	n.log.Infof("Starting peer with ID=[%s], network ID=[%s], address=[%s]", id, c.NetworkID, n.address)
	n.log.Infof("Started peer with ID=[%s], network ID=[%s], address=[%s]", id, c.NetworkID, n.address)
}

// serveProfile serves Go profiles; a failure is only logged.
func (n *Node) serveProfile(ctx context.Context, g *errgroup.Group) {
	c := n.cfg.Core.Peer.Profile
	if !c.Enabled {
		return
	}
	n.log.Infof("Starting profiling server with listenAddress = %s", c.ListenAddress)
	l, err := net.Listen("tcp", c.ListenAddress)
	if err != nil {
		n.log.Errorf("Error starting profiler: %s", err)
		return
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
			n.log.Errorf("Error starting profiler: %s", err)
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		return srv.Close()
	})
}
