package config

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/heddle-ledger/heddle/internal/csp"
)

// Core is core.yaml: the configuration of the peer and of its command line
// (SURFACE §3.2).
type Core struct {
	// Directory holds core.yaml; relative paths start there.
	Directory  string
	Peer       Peer
	VM         VM
	Chaincode  Chaincode
	Ledger     Ledger
	Operations Operations
	Metrics    Metrics
	// Doubts are the settings that are used otherwise than they are written, in
	// words.
	Doubts []string
}

// Peer is the section peer.
type Peer struct {
	ID, NetworkID          string
	ListenAddress          string
	ChaincodeListenAddress string
	ChaincodeAddress       string
	Address                string
	AddressAutoDetect      bool
	KeepAliveMinInterval   time.Duration
	ConnectionTimeout      time.Duration
	TLS                    PeerTLS
	TimeWindow             time.Duration // of Deliver requests, default 15 min
	FileSystemPath         string
	BCCSP                  csp.Config
	MSPConfigPath          string
	LocalMSPID             string
	LocalMSPType           string
	ClientConnTimeout      time.Duration
	Delivery               Delivery
	Profile                Profile
	AdminListenAddress     string
	Handlers               Handlers
	ValidatorPoolSize      int
	GoMaxProcs             int // below 1: left to the Go runtime
	// TransientBlockRetention is peer.gossip.pvtData.transientstoreMaxBlockRetention:
	// private data of transactions that do not commit are kept for so many
	// blocks (LEDGER §10.3).
	TransientBlockRetention uint64
}

// PeerTLS is the section peer.tls; all values are file names.
type PeerTLS struct {
	Enabled, ClientAuthRequired bool
	Cert, Key, RootCert         string
	ClientRootCAs               []string
	ServerRootCAs               []string
	ClientCert, ClientKey       string
	ServerHostOverride          string
	HandshakeTimeShift          time.Duration
}

// Delivery is the section peer.deliveryclient with the keepalive settings of
// connections to orderers.
type Delivery struct {
	ReconnectTotalTimeThreshold time.Duration
	ConnTimeout                 time.Duration
	ReConnectBackoffThreshold   time.Duration
	AddressOverrides            []AddressOverride
	// StaticRoots: the roots of peer.tls are trusted at orderers as well.
	StaticRoots       bool
	KeepAliveInterval time.Duration
	KeepAliveTimeout  time.Duration
	// StaticLeader is peer.gossip.orgLeader: the peer never stops asking the
	// ordering service.
	StaticLeader bool
}

// AddressOverride replaces an orderer address of the channel configuration.
type AddressOverride struct {
	From, To, CACertsFile string
}

// Profile is a section profile.
type Profile struct {
	Enabled       bool
	ListenAddress string
}

// Handlers is the section peer.handlers.
type Handlers struct {
	AuthFilters []Handler
	Decorators  []Handler
	Endorsers   map[string]Handler
	Validators  map[string]Handler
}

// Handler names a built-in handler or a plugin library.
type Handler struct {
	Name    string `mapstructure:"name"`
	Library string `mapstructure:"library"`
}

// VM is the section vm.
type VM struct {
	Endpoint string
}

// Chaincode is the section chaincode.
type Chaincode struct {
	StartupTimeout time.Duration // at least 5 s
	ExecuteTimeout time.Duration // at least 1 s, else 30 s
	Mode           string
	KeepAlive      time.Duration // between KEEPALIVE messages, 0 is off
	System         map[string]bool
	SystemPlugins  []string // names of the enabled ones
	LogLevel       string
	ShimLogLevel   string
	LogFormat      string
}

// Operations is the section operations; file names are relative to the working
// directory.
type Operations struct {
	ListenAddress      string
	TLSEnabled         bool
	CertFile, KeyFile  string
	ClientAuthRequired bool
	ClientRootCAs      []string
}

// Metrics is the section metrics.
type Metrics struct {
	Provider                     string
	StatsdNetwork, StatsdAddress string
	StatsdWriteInterval          time.Duration
	StatsdPrefix                 string
}

// LoadCore reads core.yaml. The error texts are those that the commands print
// after "Fatal error when initializing core config : ".
func LoadCore() (*Core, error) {
	f, err := load("core", "CORE")
	if errors.Is(err, ErrNotFound) {
		return nil, errors.New("Could not find config file. Please make sure that FABRIC_CFG_PATH is set to a path which contains core.yaml")
	}
	if err != nil {
		if strings.HasPrefix(err.Error(), pathVariable) {
			return nil, err
		}
		return nil, fmt.Errorf("error when reading core config file: %w", err)
	}
	peer, err := loadPeer(f)
	if err != nil {
		return nil, err
	}
	c := &Core{
		Directory: f.Directory(), Peer: peer,
		VM:         VM{Endpoint: f.String("vm.endpoint")},
		Chaincode:  loadChaincode(f),
		Ledger:     loadLedger(f),
		Operations: loadOperations(f),
		Metrics:    loadMetrics(f),
	}
	c.Doubts = f.doubts
	return c, nil
}

func loadPeer(f *File) (Peer, error) {
	p := Peer{
		ID: f.String("peer.id"), NetworkID: f.String("peer.networkId"),
		ListenAddress:          f.String("peer.listenAddress"),
		ChaincodeListenAddress: f.String("peer.chaincodeListenAddress"),
		ChaincodeAddress:       f.String("peer.chaincodeAddress"),
		Address:                f.String("peer.address"),
		AddressAutoDetect:      f.Bool("peer.addressAutoDetect"),
		KeepAliveMinInterval:   f.Duration("peer.keepalive.minInterval"),
		ConnectionTimeout:      f.Duration("peer.connectiontimeout"),
		TLS:                    loadPeerTLS(f),
		TimeWindow:             f.Duration("peer.authentication.timewindow"),
		FileSystemPath:         f.Path("peer.fileSystemPath"),
		BCCSP:                  loadBCCSP(f),
		MSPConfigPath:          f.Path("peer.mspConfigPath"),
		LocalMSPID:             f.String("peer.localMspId"),
		LocalMSPType:           f.String("peer.localMspType"),
		ClientConnTimeout:      durationOr(f.Duration("peer.client.connTimeout"), 3*time.Second),
		Profile: Profile{
			Enabled: f.Bool("peer.profile.enabled"), ListenAddress: f.String("peer.profile.listenAddress"),
		},
		AdminListenAddress: f.String("peer.adminService.listenAddress"),
		ValidatorPoolSize:  f.Int("peer.validatorPoolSize"),
		GoMaxProcs:         f.Int("peer.gomaxprocs"),
	}
	if p.ValidatorPoolSize <= 0 {
		p.ValidatorPoolSize = runtime.NumCPU()
	}
	p.TransientBlockRetention = uint64(f.positive("peer.gossip.pvtData.transientstoreMaxBlockRetention", 1000))
	var err error
	if p.Handlers, err = loadHandlers(f); err != nil {
		return p, err
	}
	p.Delivery, err = loadDelivery(f)
	return p, err
}

func loadPeerTLS(f *File) PeerTLS {
	return PeerTLS{
		Enabled:            f.Bool("peer.tls.enabled"),
		ClientAuthRequired: f.Bool("peer.tls.clientAuthRequired"),
		Cert:               f.Path("peer.tls.cert.file"), Key: f.Path("peer.tls.key.file"),
		RootCert:      f.Path("peer.tls.rootcert.file"),
		ClientRootCAs: f.Paths("peer.tls.clientRootCAs.files"), ServerRootCAs: f.Paths("peer.tls.serverRootCAs.files"),
		ClientCert: f.Path("peer.tls.clientCert.file"), ClientKey: f.Path("peer.tls.clientKey.file"),
		ServerHostOverride: f.String("peer.tls.serverhostoverride"),
		HandshakeTimeShift: f.Duration("peer.tls.handshakeTimeShift"),
	}
}

// loadBCCSP reads peer.BCCSP without any default: an absent section and one that
// lacks a part are different things (IDENTITY-CONFIG §1.1).
func loadBCCSP(f *File) csp.Config {
	c := csp.Config{Default: f.String("peer.BCCSP.Default")}
	if f.IsSet("peer.BCCSP.SW") {
		c.SW = &csp.SWConfig{
			Hash: f.String("peer.BCCSP.SW.Hash"), Security: f.Int("peer.BCCSP.SW.Security"),
			KeyStore: f.Path("peer.BCCSP.SW.FileKeyStore.KeyStore"),
		}
	}
	if f.String("peer.BCCSP.PKCS11.Library") != "" {
		c.PKCS11 = &csp.PKCS11Config{
			Library: f.String("peer.BCCSP.PKCS11.Library"), Label: f.String("peer.BCCSP.PKCS11.Label"),
			Pin: f.String("peer.BCCSP.PKCS11.Pin"), Hash: f.String("peer.BCCSP.PKCS11.Hash"),
			Security: f.Int("peer.BCCSP.PKCS11.Security"), SoftVerify: f.Bool("peer.BCCSP.PKCS11.SoftVerify"),
			Immutable: f.Bool("peer.BCCSP.PKCS11.Immutable"), AltID: f.String("peer.BCCSP.PKCS11.AltId"),
			KeyStore: f.Path("peer.BCCSP.PKCS11.FileKeyStore.KeyStore"),
		}
	}
	return c
}

func loadHandlers(f *File) (Handlers, error) {
	var h Handlers
	for key, into := range map[string]any{
		"authFilters": &h.AuthFilters, "decorators": &h.Decorators,
		"endorsers": &h.Endorsers, "validators": &h.Validators,
	} {
		if err := f.v.UnmarshalKey("peer.handlers."+key, into); err != nil {
			return h, fmt.Errorf("peer.handlers.%s: %w", key, err)
		}
	}
	if h.Endorsers == nil {
		h.Endorsers = map[string]Handler{"escc": {Name: "DefaultEndorsement"}}
	}
	if h.Validators == nil {
		h.Validators = map[string]Handler{"vscc": {Name: "DefaultValidation"}}
	}
	return h, nil
}

func loadDelivery(f *File) (Delivery, error) {
	const section = "peer.deliveryclient."
	d := Delivery{
		ReconnectTotalTimeThreshold: durationOr(f.Duration(section+"reconnectTotalTimeThreshold"), time.Hour),
		ConnTimeout:                 durationOr(f.Duration(section+"connTimeout"), 3*time.Second),
		ReConnectBackoffThreshold:   durationOr(f.Duration(section+"reConnectBackoffThreshold"), time.Hour),
		KeepAliveInterval:           f.Duration("peer.keepalive.deliveryClient.interval"),
		KeepAliveTimeout:            f.Duration("peer.keepalive.deliveryClient.timeout"),
		StaticLeader:                f.Bool("peer.gossip.orgLeader"),
		StaticRoots:                 f.Bool(section + "staticRootsEnabled"),
	}
	if err := f.v.UnmarshalKey(section+"addressOverrides", &d.AddressOverrides); err != nil {
		return d, fmt.Errorf("%saddressOverrides: %w", section, err)
	}
	return d, nil
}

func loadChaincode(f *File) Chaincode {
	c := Chaincode{
		StartupTimeout: f.Duration("chaincode.startuptimeout"),
		ExecuteTimeout: f.Duration("chaincode.executetimeout"),
		Mode:           f.String("chaincode.mode"),
		KeepAlive:      time.Duration(f.Int("chaincode.keepalive")) * time.Second,
		System:         map[string]bool{},
		LogLevel:       f.String("chaincode.logging.level"),
		ShimLogLevel:   f.String("chaincode.logging.shim"),
		LogFormat:      f.String("chaincode.logging.format"),
	}
	if c.StartupTimeout < 5*time.Second {
		c.StartupTimeout = 5 * time.Second
	}
	if c.ExecuteTimeout < time.Second {
		c.ExecuteTimeout = 30 * time.Second
	}
	for name, v := range f.v.GetStringMapString("chaincode.system") {
		c.System[name] = v == "enable" || v == "true" || v == "yes"
	}
	c.SystemPlugins = loadSystemPlugins(f)
	return c
}

// loadSystemPlugins names the enabled entries of chaincode.systemPlugins. One
// that is not understood counts: it must not be overlooked.
func loadSystemPlugins(f *File) []string {
	var list []struct {
		Enabled    bool `mapstructure:"enabled"`
		Name, Path string
	}
	if err := f.v.UnmarshalKey("chaincode.systemPlugins", &list); err != nil {
		return []string{err.Error()}
	}
	var names []string
	for _, p := range list {
		if p.Enabled {
			names = append(names, p.Name)
		}
	}
	return names
}

func loadOperations(f *File) Operations {
	return Operations{
		ListenAddress: f.String("operations.listenAddress"),
		TLSEnabled:    f.Bool("operations.tls.enabled"),
		CertFile:      f.String("operations.tls.cert.file"), KeyFile: f.String("operations.tls.key.file"),
		ClientAuthRequired: f.Bool("operations.tls.clientAuthRequired"),
		ClientRootCAs:      f.List("operations.tls.clientRootCAs.files"),
	}
}

func loadMetrics(f *File) Metrics {
	return Metrics{
		Provider:            f.String("metrics.provider"),
		StatsdNetwork:       f.String("metrics.statsd.network"),
		StatsdAddress:       f.String("metrics.statsd.address"),
		StatsdWriteInterval: f.Duration("metrics.statsd.writeInterval"),
		StatsdPrefix:        f.String("metrics.statsd.prefix"),
	}
}
