package node

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"runtime"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/grpc"

	"github.com/heddle-ledger/heddle/chaincode/packaging"
	ccruntime "github.com/heddle-ledger/heddle/chaincode/runtime"
	"github.com/heddle-ledger/heddle/chaincode/support"
	"github.com/heddle-ledger/heddle/internal/blockpull"
	"github.com/heddle-ledger/heddle/internal/chanconfig"
	"github.com/heddle-ledger/heddle/internal/ops"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/rpc"
	"github.com/heddle-ledger/heddle/internal/run"
	"github.com/heddle-ledger/heddle/internal/version"
	"github.com/heddle-ledger/heddle/ledger"
	"github.com/heddle-ledger/heddle/msp"
	"github.com/heddle-ledger/heddle/msp/certwatch"
	"github.com/heddle-ledger/heddle/msp/x509msp"
	"github.com/heddle-ledger/heddle/peer/acl"
	"github.com/heddle-ledger/heddle/peer/admin"
	"github.com/heddle-ledger/heddle/peer/channel"
	"github.com/heddle-ledger/heddle/peer/endorser"
	"github.com/heddle-ledger/heddle/peer/events"
	"github.com/heddle-ledger/heddle/peer/syscc/cscc"
	"github.com/heddle-ledger/heddle/peer/syscc/lscc"
	"github.com/heddle-ledger/heddle/peer/syscc/qscc"
	"github.com/heddle-ledger/heddle/peer/validation"
	adminproto "github.com/heddle-ledger/heddle/protos/admin"
)

// maxConcurrentRPCs is the limit of the main listener (SURFACE §2.2).
const maxConcurrentRPCs = 2500

// parts are the rooms of a running peer.
type parts struct {
	operations      *ops.Server
	rpcMetrics      *rpc.ServerMetrics
	certificates    *certwatch.Watch
	ledgers         *ledger.Provider
	tls             tlsFiles
	server          *rpc.Server
	adminServer     *rpc.Server // nil: Admin is on the main listener
	chaincodeServer *rpc.Server
	channels        *channel.Registry
	access          *acl.Checker
	packages        *packaging.Store
	lscc            *lscc.LSCC
	support         *support.Support
	events          *events.Server
}

// wire makes the rooms, first error wins (SURFACE §1.6).
func (n *Node) wire(ctx context.Context) error {
	n.parts = &parts{}
	n.log.Infof("Starting peer:\n%s", version.Text(runtime.Version(), runtime.GOOS, runtime.GOARCH))
	for _, step := range []func() error{
		n.openOperations, func() error { return n.openLedgers(ctx) }, n.loadPreResetHeights, n.chooseMode, n.resolveAddress, n.loadTLS, n.openServer,
		n.makeChannels, n.makeAccess, n.openChaincodeSupport, n.registerAdmin, n.registerEndorser,
		n.registerEvents, n.watchCertificates, func() error { return n.openChannels(ctx) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (n *Node) openOperations() error {
	o, m := n.cfg.Core.Operations, n.cfg.Core.Metrics
	s, err := ops.New(ops.Config{
		ListenAddress: o.ListenAddress,
		TLS: ops.TLS{
			Enabled: o.TLSEnabled, CertFile: o.CertFile, KeyFile: o.KeyFile,
			ClientAuthRequired: o.ClientAuthRequired, ClientRootCAs: o.ClientRootCAs,
		},
		Metrics: ops.Metrics{Provider: m.Provider, Statsd: ops.Statsd{
			Network: m.StatsdNetwork, Address: m.StatsdAddress, WriteInterval: m.StatsdWriteInterval, Prefix: m.StatsdPrefix,
		}},
		Logging: n.cfg.Logging, Log: n.cfg.Logging.Logger("peer.operations"),
		Listen: n.listen,
	})
	if err == nil {
		err = s.Listen()
	}
	if err != nil {
		return run.Failed(run.Plain, "failed to initialize operations subystems: %w", err)
	}
	n.closers.Add(s.Close)
	n.parts.operations = s
	n.parts.rpcMetrics = rpc.NewServerMetrics(s.Provider())
	return nil
}

func (n *Node) openLedgers(ctx context.Context) error {
	if err := n.refuseUnsupported(); err != nil {
		return err
	}
	cfg := n.ledgerConfig()
	first := filepath.Join(cfg.Dir, "ledgerProvider") // the first store of the reference: its name is in the text
	if err := os.MkdirAll(first, 0o755); err != nil {
		return run.Failed(run.Panic, "Error creating dir if missing: error creating dir [%s/]: %w", first, err)
	}
	cfg.OpenState, cfg.Metrics = n.openState(ctx), n.parts.operations.Provider()
	cfg.Progress = ledger.ShowProgress(nil, n.cfg.Logging.Root()) // what is on a terminal is the log
	p, err := ledger.OpenProviderContext(ctx, cfg)
	if err != nil {
		return run.Failed(run.Panic, "%w", err)
	}
	n.closers.Add(p.Close)
	n.parts.ledgers = p
	return nil
}

func (n *Node) chooseMode() error {
	if n.cfg.DevMode {
		n.log.Info("Running in chaincode development mode")
		n.log.Info("Disable loading validity system chaincode")
	}
	return nil
}

func (n *Node) resolveAddress() error {
	a, err := n.cfg.Core.Peer.PeerAddress()
	if err != nil {
		return run.Failed(run.Plain, "%w", err)
	}
	n.address = a
	return nil
}

func (n *Node) openServer() error {
	c := n.cfg.Core.Peer
	l, err := n.listen(c.ListenAddress)
	if err != nil {
		return run.Failed(run.Fatal, "Failed to create peer server (%w)", err)
	}
	s, err := rpc.NewServer(l, n.serverConfig("PeerServer"))
	if err != nil {
		l.Close()
		return run.Failed(run.Fatal, "Failed to create peer server (%w)", err)
	}
	n.closers.Add(s.Close)
	n.parts.server = s
	if c.TLS.Enabled {
		n.log.Info("Starting peer with TLS enabled")
	}
	return n.parts.tls.loadClientPair(c.TLS)
}

func (n *Node) serverConfig(name string) rpc.ServerConfig {
	c, t := n.cfg.Core.Peer, n.parts.tls
	return rpc.ServerConfig{
		Name: name,
		TLS: rpc.TLSConfig{
			Enabled: c.TLS.Enabled, Certificate: t.cert, Key: t.key,
			ClientAuth: c.TLS.ClientAuthRequired, ClientRoots: t.clientRoots,
		},
		KeepAlive:         rpc.KeepAlive{MinInterval: c.KeepAliveMinInterval},
		ConnectionTimeout: c.ConnectionTimeout,
		MaxConcurrent:     maxConcurrentRPCs,
		Metrics:           n.parts.rpcMetrics,
		Log:               n.cfg.Logging.Root(),
	}
}

func (n *Node) makeChannels() error {
	c := n.cfg.Core.Peer
	plugins, err := validationPlugins(c.Handlers.Validators)
	if err != nil {
		return err
	}
	pull, err := n.pullConfig()
	if err != nil {
		return err
	}
	n.parts.channels = channel.New(channel.Config{
		Ledgers:   n.parts.ledgers,
		Local:     n.cfg.Local,
		Pool:      validation.NewPool(c.ValidatorPoolSize),
		Plugins:   plugins,
		Pull:      pull,
		Committed: func(id string, b *protoutil.Block) { n.parts.events.Committed(id, b) },
		Bundle: chanconfig.Options{
			Log:        n.cfg.Logging.Root(),
			MSPManager: []msp.CacheOption{msp.WithSignatureCache(n.cfg.Signatures)},
		},
		Log: n.cfg.Logging.Root(), Metrics: n.parts.operations.Provider(),
	})
	return nil
}

func (n *Node) pullConfig() (*blockpull.Config, error) {
	d, t := n.cfg.Core.Peer.Delivery, n.parts.tls
	client := rpc.ClientConfig{
		TLS: n.cfg.Core.Peer.TLS.Enabled, Certificate: t.clientCert, Key: t.clientKey,
		KeepAlive: rpc.ClientKeepAlive{Interval: d.KeepAliveInterval, Timeout: d.KeepAliveTimeout},
		Timeout:   d.ConnTimeout, Dialer: n.dial, Log: n.cfg.Logging.Root(),
	}
	hash, err := client.CertHash()
	if err != nil {
		return nil, run.Failed(run.Fatal, "Failed to set TLS client certificate: %w", err)
	}
	var static [][]byte
	if d.StaticRoots {
		static = t.serverRoots
	}
	return &blockpull.Config{
		Overrides: readOverrides(d.AddressOverrides, n.log), StaticRoots: static, Signer: n.cfg.Local.SigningIdentity(), TLSCertHash: hash,
		Dial:         blockpull.Dialer(client),
		StaticLeader: d.StaticLeader, ConnTimeout: d.ConnTimeout,
		ReconnectMax: d.ReConnectBackoffThreshold, ReconnectTotal: d.ReconnectTotalTimeThreshold,
		Log: n.cfg.Logging.Root(),
	}, nil
}

func (n *Node) makeAccess() error {
	n.parts.access = acl.New(acl.Config{
		Channels: n.parts.channels.Bundle, Local: n.cfg.Local, LocalMSPID: n.cfg.Core.Peer.LocalMSPID,
	})
	return n.openPackages()
}

func (n *Node) openPackages() error {
	store, err := packaging.OpenStore(packaging.StoreConfig{
		Dir: filepath.Join(n.cfg.Core.Peer.FileSystemPath, "chaincodes"), NewHash: packageHash(n.cfg.Core.Peer.BCCSP),
		Log: n.cfg.Logging.Root(),
	})
	if err != nil {
		return run.Failed(run.Panic, "%w", err)
	}
	n.parts.packages = store
	return nil
}

// systemChaincodes is the table of CHAINCODE §4.1. Retired ones keep their
// names.
func (n *Node) systemChaincodes() map[string]support.System {
	p := n.parts
	access, channels := p.access, p.channels
	p.lscc = lscc.New(lscc.Config{
		Channels: channels.Bundle, Access: access, Packages: p.packages, Installing: n.installing,
		IsSystem: isSystemName, Log: n.cfg.Logging.Root(),
	})
	config := cscc.New(cscc.Config{Channels: joining{channels, n}, ConfigBlock: n.configBlock, Access: access})
	query := qscc.New(qscc.Config{Ledger: n.queryLedger, Access: access})
	table := map[string]support.System{
		"lscc":       {Run: p.lscc.Invoke, External: true, CC2CC: true},
		"qscc":       {Run: query.Invoke, External: true, CC2CC: true},
		"cscc":       {Run: config.Invoke, External: true},
		newLifecycle: {External: true, CC2CC: true},
		"escc":       {}, "vscc": {},
	}
	for name, s := range table {
		if !n.cfg.Core.Chaincode.System[name] {
			s.Run = nil
			table[name] = s
		}
	}
	n.reportRegistered(table)
	return table
}

func (n *Node) openChaincodeSupport() error {
	endpoint, l, err := n.chaincodeListener()
	if err != nil {
		return run.Failed(run.Panic, "Failed to create chaincode server: %w", err)
	}
	server := n.serverConfig("ChaincodeServer")
	server.TLS, server.Plain, server.KeepAlive = rpc.TLSConfig{}, true, rpc.KeepAlive{}
	var authority *support.Authority
	if n.cfg.Core.Peer.TLS.Enabled {
		if authority, err = support.NewAuthority(endpoint); err != nil {
			l.Close()
			return run.Failed(run.Panic, "Failed to create chaincode server: %w", err)
		}
		cert, key, ca := authority.ServerTLS()
		server.TLS = rpc.TLSConfig{Enabled: true, Certificate: cert, Key: key, ClientAuth: true, ClientRoots: [][]byte{ca}}
	}
	s, err := rpc.NewServer(l, server)
	if err != nil {
		l.Close()
		return run.Failed(run.Panic, "Failed to create chaincode server: %w", err)
	}
	n.closers.Add(s.Close)
	n.parts.chaincodeServer = s
	return n.makeSupport(endpoint, authority)
}

func (n *Node) chaincodeListener() (string, net.Listener, error) {
	c := n.cfg.Core.Peer
	host, _, err := net.SplitHostPort(n.address)
	if err != nil {
		return "", nil, err
	}
	endpoint, err := support.Endpoint(support.EndpointConfig{
		PeerHost: host, ListenAddress: c.ChaincodeListenAddress, ChaincodeAddress: c.ChaincodeAddress,
	})
	if err != nil && n.devMode() {
		endpoint = net.JoinHostPort("0.0.0.0", support.DefaultPort)
		n.log.Warningf("use %s as chaincode endpoint because of error in computeChaincodeEndpoint: %s", endpoint, err)
		err = nil
	}
	if err != nil {
		if c.ChaincodeAddress != "" {
			n.log.Error("ChaincodeAddress' IP cannot be 0.0.0.0 in non-dev mode")
		}
		n.log.Errorf("Error computing chaincode endpoint: %s", err)
		return "", nil, err
	}
	listen := c.ChaincodeListenAddress
	if listen == "" {
		listen = net.JoinHostPort(host, support.DefaultPort)
		n.log.Warningf("peer.chaincodeListenAddress is not set, using %s", listen)
	}
	l, err := n.listen(listen)
	if err != nil {
		n.log.Errorf("Error creating GRPC server: %s", err)
	}
	return endpoint, l, err
}

func (n *Node) makeSupport(endpoint string, authority *support.Authority) error {
	c := n.cfg.Core.Chaincode
	rt, err := n.chaincodeRuntime()
	if err != nil {
		return err
	}
	table := n.systemChaincodes()
	n.parts.support = support.New(support.Config{
		PeerAddress: endpoint, TLS: authority, DevMode: n.devMode(),
		StartupTimeout: c.StartupTimeout, ExecuteTimeout: c.ExecuteTimeout, KeepAlive: c.KeepAlive,
		TotalQueryLimit: n.cfg.Core.Ledger.TotalQueryLimit,
		Environment: ccruntime.Environment{
			LogLevel: c.LogLevel, ShimLogLevel: c.ShimLogLevel, LogFormat: c.LogFormat,
			BuildLevel: version.Full, LocalMSPID: n.cfg.Core.Peer.LocalMSPID,
		},
		System: table, Lifecycle: n.parts.lscc, Packages: n.parts.packages, Access: n.parts.access,
		Channels: channelAccess{n}, Runtime: rt,
		Log: n.cfg.Logging.Root(), Metrics: n.parts.operations.Provider(),
	})
	peer.RegisterChaincodeSupportServer(n.parts.chaincodeServer.GRPC(), n.parts.support)
	return nil
}

func (n *Node) devMode() bool { return n.cfg.DevMode || n.cfg.Core.Chaincode.Mode == "dev" }

func (n *Node) registerAdmin() error {
	s, err := admin.New(admin.Config{
		Local: n.cfg.Local, LocalMSPID: n.cfg.Core.Peer.LocalMSPID, Logs: n.cfg.Logging, Log: n.cfg.Logging.Root(),
	})
	if err != nil {
		return run.Failed(run.Plain, "%w", err)
	}
	registrar, err := n.adminRegistrar()
	if err != nil {
		return err
	}
	adminproto.RegisterAdminServer(registrar, s)
	return nil
}

// adminRegistrar is the main server, unless the Admin service has a listener
// with a port of its own.
func (n *Node) adminRegistrar() (grpc.ServiceRegistrar, error) {
	c := n.cfg.Core.Peer
	if c.AdminListenAddress == "" || portOf(c.AdminListenAddress) == portOf(c.ListenAddress) {
		return n.parts.server.GRPC(), nil
	}
	l, err := n.listen(c.AdminListenAddress)
	if err != nil {
		return nil, run.Failed(run.Fatal, "Failed to create admin server (%w)", err)
	}
	config := n.serverConfig("PeerServer")
	config.MaxConcurrent = 0
	s, err := rpc.NewServer(l, config)
	if err != nil {
		l.Close()
		return nil, run.Failed(run.Fatal, "Failed to create admin server (%w)", err)
	}
	n.closers.Add(s.Close)
	n.parts.adminServer = s
	return s.GRPC(), nil
}

func portOf(address string) string {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return ""
	}
	return port
}

func (n *Node) registerEndorser() error {
	h, p := n.cfg.Core.Peer.Handlers, n.parts
	filters, err := authFilters(h.AuthFilters)
	if err != nil {
		return err
	}
	filters = append(filters, n.rebuildFilters()...) // the last of them (LEDGER §18.4)
	decorators, err := decorators(h.Decorators)
	if err != nil {
		return err
	}
	plugins, err := endorsementPlugins(h.Endorsers, n.cfg.Local.SigningIdentity())
	if err != nil {
		return err
	}
	e := endorser.New(endorser.Config{
		Identities: n.identities, Ledger: n.endorserLedger, Access: p.access, Executor: p.support,
		Lifecycle: p.lscc, Packages: p.packages, Filters: filters, Decorators: decorators, Plugins: plugins,
		SystemVersion: version.Fabric,
		Log:           n.cfg.Logging.Root(), Metrics: p.operations.Provider(),
	})
	peer.RegisterEndorserServer(p.server.GRPC(), e)
	return nil
}

func (n *Node) registerEvents() error {
	if n.cfg.Core.Peer.TimeWindow <= 0 {
		n.cfg.Logging.Logger("common.deliverevents").Warning("`peer.authentication.timewindow` not set; defaulting to 15m0s")
	}
	s := events.New(events.Config{
		Channel: n.eventChannel, Access: n.parts.access, ExpiresAt: x509msp.ExpiresAtOf,
		TimeWindow: max(n.cfg.Core.Peer.TimeWindow, 0), MutualTLS: n.parts.server.MutualTLS(),
		Metrics: n.parts.operations.Provider(), Log: n.cfg.Logging.Root(),
	})
	n.parts.events = s
	peer.RegisterDeliverServer(n.parts.server.GRPC(), s)
	return nil
}

func (n *Node) watchCertificates() error {
	w := certwatch.New(n.cfg.Logging.Logger("certmonitor"), n.parts.operations.Provider())
	w.AddSerialized(certwatch.Enrollment, n.cfg.Local.SigningIdentity().Serialize())
	if n.cfg.Core.Peer.TLS.Enabled {
		w.AddPEM(certwatch.ServerTLS, n.parts.tls.cert)
		w.AddPEM(certwatch.ClientTLS, n.parts.tls.clientCert)
	}
	n.parts.certificates = w
	return nil
}

func (n *Node) openChannels(ctx context.Context) error {
	n.reportDeployed("")
	if err := n.parts.channels.OpenAll(ctx); err != nil {
		return run.Failed(run.Panic, "%w", err)
	}
	for _, id := range n.parts.channels.List() {
		n.reportDeployed(id)
	}
	n.log.Info("Deployed system chaincodes")
	return n.updateClientRoots(nil)
}

// configBlock is the current config block of a channel.
func (n *Node) configBlock(id string) (*common.Block, bool, error) {
	c, ok := n.parts.channels.Channel(id)
	if !ok {
		return nil, false, nil
	}
	b, err := c.ConfigBlock()
	return b, true, err
}
