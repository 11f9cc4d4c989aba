package node

import (
	"context"
	"errors"
	"net"
	"os"
	"strconv"

	"github.com/hyperledger/fabric-lib-go/healthz"
	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/orderer"

	"github.com/heddle-ledger/heddle/internal/chanconfig"
	"github.com/heddle-ledger/heddle/internal/deliver"
	"github.com/heddle-ledger/heddle/internal/ops"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/rpc"
	"github.com/heddle-ledger/heddle/internal/run"
	"github.com/heddle-ledger/heddle/msp"
	"github.com/heddle-ledger/heddle/msp/certwatch"
	"github.com/heddle-ledger/heddle/msp/x509msp"
	"github.com/heddle-ledger/heddle/orderer/broadcast"
	"github.com/heddle-ledger/heddle/orderer/chainstore"
	"github.com/heddle-ledger/heddle/orderer/consensus"
	"github.com/heddle-ledger/heddle/orderer/consensus/solo"
	"github.com/heddle-ledger/heddle/orderer/msgproc"
	"github.com/heddle-ledger/heddle/orderer/multichannel"
)

// signatureCacheBytes bounds the memory of good signatures, shared by all
// channels.
const signatureCacheBytes = 16 << 20

// parts are the rooms of an orderer.
type parts struct {
	local        *x509msp.Local
	genesis      *common.Block
	noGenesis    error // why there is no genesis block but that in the store
	operations   *ops.Server
	store        *chainstore.Store
	bootstrapped bool // the store has channels already
	tls          tlsFiles
	server       *rpc.Server
	roots        *clientRoots
	certificates *certwatch.Watch
	expiry       *msgproc.Expiry // nil: not checked
	registrar    *multichannel.Registrar
}

// wire makes the rooms in the order of ORDERER §2.1, so that of several faults
// the first one is the reference's.
func (n *Node) wire() error {
	for _, step := range []func() error{
		n.checkConfig, n.loadLocalMSP, n.loadGenesis, n.openOperations, n.openStore, n.openListener,
		n.watchCertificates, n.bootstrap, n.openChannels, n.registerServices,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// consenters is the table of engines by consensus type.
func (n *Node) consenters() map[string]consensus.Consenter {
	return map[string]consensus.Consenter{
		"solo": solo.New(n.cfg.Logging.Root()),
	}
}

func (n *Node) checkConfig() error {
	if err := n.cfg.Orderer.Check(); err != nil {
		return run.Failed(run.Panic, "%w", err)
	}
	return nil
}

func (n *Node) loadLocalMSP() error {
	g := n.cfg.Orderer.General
	local, err := x509msp.LoadLocal(x509msp.LocalConfig{Dir: g.LocalMSPDir, MSPID: g.LocalMSPID, BCCSP: g.BCCSP.CSP(), Log: n.cfg.Logging.Root()})
	if err != nil {
		return run.Failed(run.Fatal, "Failed to initialize local MSP: %w", err)
	}
	n.parts.local = local
	n.log.Infof("Orderer config values:%s\n", n.cfg.Orderer.Dump())
	return nil
}

func (n *Node) openOperations() error {
	o, m := n.cfg.Orderer.Operations, n.cfg.Orderer.Metrics
	server, err := ops.New(ops.Config{
		ListenAddress: o.ListenAddress,
		TLS: ops.TLS{
			Enabled: o.TLS.Enabled, CertFile: o.TLS.Certificate, KeyFile: o.TLS.PrivateKey,
			ClientAuthRequired: o.TLS.ClientAuthRequired, ClientRootCAs: o.TLS.ClientRootCAs,
		},
		Metrics: ops.Metrics{Provider: m.Provider, Statsd: ops.Statsd{
			Network: m.Statsd.Network, Address: m.Statsd.Address,
			WriteInterval: m.Statsd.WriteInterval, Prefix: m.Statsd.Prefix,
		}},
		Logging: n.cfg.Logging, Log: n.cfg.Logging.Logger("orderer.operations"),
		Listen: n.listen,
	})
	if err == nil {
		err = server.Listen()
	}
	if err != nil {
		return run.Failed(run.Panic, "failed to initialize operations subsystem: %w", err)
	}
	n.parts.operations = server
	n.closers.Add(server.Close)
	return nil
}

func (n *Node) openStore() error {
	c := n.cfg.Orderer
	store, err := chainstore.Open(chainstore.Config{
		Type: c.General.LedgerType, Dir: c.FileLedger.Location, Prefix: c.FileLedger.Prefix,
		HistorySize: int(c.RAMLedger.HistorySize), Metrics: n.parts.operations.Provider(), Log: n.cfg.Logging.Root(),
	})
	if err != nil {
		return run.Failed(run.Panic, "%w", err)
	}
	n.parts.store = store
	n.closers.Add(store.Close)
	ids, err := store.List()
	if err != nil {
		return run.Failed(run.Panic, "%w", err)
	}
	if len(ids) == 0 {
		if n.parts.genesis == nil {
			return run.Failed(run.Panic, "%w", n.parts.noGenesis)
		}
		n.log.Info("Bootstrapping because no existing channels")
		return nil
	}
	n.parts.bootstrapped = true
	n.log.Infof("Not bootstrapping because of %d existing channels", len(ids))
	if n.parts.genesis == nil {
		if err := n.genesisOfStore(ids); err != nil {
			return err
		}
	}
	return n.reportSystemChannel()
}

// reportSystemChannel says what the ledger holds of the bootstrap block's
// channel, which must be there.
func (n *Node) reportSystemChannel() error {
	id, err := protoutil.ChannelIDOfBlock(n.parts.genesis)
	if err != nil {
		return run.Failed(run.Panic, "Failed extracting system channel name from bootstrap block: %w", err)
	}
	ledger, err := n.parts.store.Chain(id)
	if err != nil {
		return run.Failed(run.Panic, "%w", err)
	}
	if ledger.Height() == 0 {
		return run.Failed(run.Panic, "the ledger has channels, but not the system channel %s of the bootstrap block", id)
	}
	last, err := multichannel.LastConfigBlock(ledger)
	if err != nil {
		return run.Failed(run.Panic, "[channel %s] %w", id, err)
	}
	n.log.Infof("System channel: name=%s, height=%d, last config block number=%d", id, ledger.Height(), last.Header.Number)
	which := "bootstrap (genesis)"
	if last.Header.Number > n.parts.genesis.Header.GetNumber() {
		which = "system channel last config"
	}
	n.log.Infof("Cluster boot block is %s block; Blocks Header.Number system-channel=%d, bootstrap=%d",
		which, last.Header.Number, n.parts.genesis.Header.GetNumber())
	return nil
}

// openListener opens the main listener; clients that come before Run wait in the
// handshake.
func (n *Node) openListener() error {
	g := n.cfg.Orderer.General
	if err := n.loadTLS(); err != nil {
		return err
	}
	l, err := n.listen(net.JoinHostPort(g.ListenAddress, strconv.Itoa(int(g.ListenPort))))
	if err != nil {
		return run.Failed(run.Fatal, "Failed to listen: %w", err)
	}
	t := n.parts.tls
	n.parts.server, err = rpc.NewServer(l, rpc.ServerConfig{
		Name: "Orderer",
		TLS: rpc.TLSConfig{
			Enabled: g.TLS.Enabled, Certificate: t.cert, Key: t.key, ClientAuth: g.TLS.ClientAuthRequired,
			ClientRoots: t.clientRoots, TimeShift: g.TLS.TLSHandshakeTimeShift,
		},
		KeepAlive: rpc.KeepAlive{
			MinInterval: g.Keepalive.ServerMinInterval, Interval: g.Keepalive.ServerInterval, Timeout: g.Keepalive.ServerTimeout,
		},
		ConnectionTimeout: g.ConnectionTimeout,
		Metrics:           rpc.NewServerMetrics(n.parts.operations.Provider()),
		Log:               n.cfg.Logging.Root(),
	})
	if err != nil {
		return run.Failed(run.Fatal, "Failed to return new GRPC server: %w", errors.Join(err, l.Close()))
	}
	n.closers.Add(n.parts.server.Close)
	n.parts.roots = newClientRoots(n.parts.server, t.clientRoots, n.log)
	return nil
}

func (n *Node) watchCertificates() error {
	w := certwatch.New(n.cfg.Logging.Logger("certmonitor"), n.parts.operations.Provider())
	w.AddSerialized(certwatch.Enrollment, n.parts.local.SigningIdentity().Serialize())
	if n.cfg.Orderer.General.TLS.Enabled {
		w.AddPEM(certwatch.ServerTLS, n.parts.tls.cert)
		if path := n.cfg.Orderer.General.Cluster.ClientCertificate; path != "" {
			if cert, err := os.ReadFile(path); err == nil {
				w.AddPEM(certwatch.ClientTLS, cert)
			}
		}
	}
	n.parts.certificates = w
	return nil
}

func (n *Node) bootstrap() error {
	if n.parts.bootstrapped {
		n.log.Info("Not bootstrapping because of existing channels")
		return nil
	}
	if err := multichannel.Bootstrap(n.parts.store, n.parts.genesis); err != nil {
		return run.Failed(run.Panic, "%w", err)
	}
	return nil
}

func (n *Node) openChannels() error {
	if !n.cfg.Orderer.General.Authentication.NoExpirationChecks {
		n.parts.expiry = msgproc.NewExpiry()
	}
	r, err := multichannel.Open(multichannel.Config{
		Store:      n.parts.store,
		Consenters: n.consenters(),
		Signer:     n.parts.local.SigningIdentity(),
		Expiry:     n.parts.expiry,
		Bundles: chanconfig.Options{
			Log:        n.cfg.Logging.Root(),
			MSPManager: []msp.CacheOption{msp.WithSignatureCache(msp.NewSignatureCache(signatureCacheBytes))},
		},
		OnConfig: n.parts.roots.update,
		Metrics:  n.parts.operations.Provider(),
		Log:      n.cfg.Logging.Root(),
	})
	if err != nil {
		return run.Failed(run.Panic, "%w", err)
	}
	n.parts.registrar = r
	for _, c := range r.Channels() {
		checker, ok := c.Chain().(consensus.HealthChecker)
		if !ok {
			continue
		}
		if err := n.parts.operations.RegisterChecker(checker.HealthComponent(), healthCheck(checker.HealthCheck)); err != nil {
			return run.Failed(run.Panic, "failed to register health check of channel %s: %w", c.ID(), err)
		}
	}
	return nil
}

// healthCheck adapts a method to the health handler.
type healthCheck func(ctx context.Context) error

func (h healthCheck) HealthCheck(ctx context.Context) error { return h(ctx) }

var _ healthz.HealthChecker = healthCheck(nil)

func (n *Node) registerServices() error {
	g := n.cfg.Orderer.General
	r, provider := n.parts.registrar, n.parts.operations.Provider()
	cfg := deliver.Config{
		Chains: func(id string) (deliver.Chain, bool) {
			c, ok := r.Channel(id)
			return c, ok
		},
		TimeWindow: g.Authentication.TimeWindow,
		BindTLS:    g.TLS.Enabled && g.TLS.ClientAuthRequired,
		Metrics:    deliver.NewMetrics(provider),
		Log:        n.cfg.Logging.Root(),
	}
	if n.parts.expiry != nil {
		cfg.ExpiresAt = n.parts.expiry.ExpiresAt
	}
	s := &service{
		log: n.log,
		broadcast: broadcast.NewHandler(broadcast.Config{
			Route: func(id string) broadcast.Channel { return r.Route(id) },
			Exists: func(id string) bool {
				_, ok := r.Channel(id)
				return ok
			},
			Metrics: broadcast.NewMetrics(provider),
			Log:     n.cfg.Logging.Root(),
		}),
		deliver:        deliver.NewHandler(cfg),
		registrar:      r,
		broadcastTrace: newTracer(n.cfg.Orderer.Debug.BroadcastTraceDir, "Broadcast", n.log),
		deliverTrace:   newTracer(n.cfg.Orderer.Debug.DeliverTraceDir, "Deliver", n.log),
	}
	orderer.RegisterAtomicBroadcastServer(n.parts.server.GRPC(), s)
	return nil
}
