package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"github.com/heddle-ledger/heddle/internal/csp"
)

// Orderer is orderer.yaml: the configuration of the ordering daemon (ORDERER
// §1.3). Names are those of the file's keys. All values are as used: defaults
// filled in, paths made absolute where the reference does.
type Orderer struct {
	General    OrdererGeneral
	FileLedger OrdererFileLedger
	RAMLedger  OrdererRAMLedger
	Kafka      OrdererKafka
	Debug      OrdererDebug
	// Consensus is free: the engines know their keys.
	Consensus  map[string]any
	Operations OrdererOperations
	Metrics    OrdererMetrics
}

// OrdererGeneral is the section General.
type OrdererGeneral struct {
	LedgerType        string
	ListenAddress     string
	ListenPort        uint16
	TLS               OrdererTLS
	Cluster           OrdererCluster
	Keepalive         OrdererKeepalive
	ConnectionTimeout time.Duration
	GenesisMethod     string
	GenesisProfile    string
	SystemChannel     string
	GenesisFile       string
	Profile           OrdererProfile
	LocalMSPDir       string
	LocalMSPID        string
	BCCSP             OrdererBCCSP
	Authentication    OrdererAuthentication
}

// OrdererTLS is a TLS section.
type OrdererTLS struct {
	Enabled               bool
	PrivateKey            string
	Certificate           string
	RootCAs               []string
	ClientAuthRequired    bool
	ClientRootCAs         []string
	TLSHandshakeTimeShift time.Duration
}

// OrdererCluster is the section General.Cluster, used by etcdraft.
type OrdererCluster struct {
	ListenAddress                        string
	ListenPort                           uint16
	ServerCertificate                    string
	ServerPrivateKey                     string
	ClientCertificate                    string
	ClientPrivateKey                     string
	RootCAs                              []string
	DialTimeout                          time.Duration
	RPCTimeout                           time.Duration
	ReplicationBufferSize                int
	ReplicationPullTimeout               time.Duration
	ReplicationRetryTimeout              time.Duration
	ReplicationBackgroundRefreshInterval time.Duration
	ReplicationMaxRetries                int
	SendBufferSize                       int
	CertExpirationWarningThreshold       time.Duration
	TLSHandshakeTimeShift                time.Duration
}

// OrdererKeepalive is the section General.Keepalive.
type OrdererKeepalive struct {
	ServerMinInterval time.Duration
	ServerInterval    time.Duration
	ServerTimeout     time.Duration
}

// OrdererProfile is the section General.Profile: Go's pprof service.
type OrdererProfile struct {
	Enabled bool
	Address string
}

// OrdererBCCSP is the section General.BCCSP. Unlike elsewhere, keys that it does
// not know are ignored.
type OrdererBCCSP struct {
	Default string
	SW      struct {
		Hash         string
		Security     int
		FileKeyStore struct{ KeyStore string }
	}
	PKCS11 struct {
		Library, Label, Pin string
		Hash                string
		Security            int
		SoftVerify          bool
		Immutable           bool
		AltID               string
		FileKeyStore        struct{ KeyStore string }
	}
}

// CSP is the section in the form that the crypto provider takes.
func (b OrdererBCCSP) CSP() csp.Config {
	c := csp.Config{Default: b.Default, SW: &csp.SWConfig{
		Hash: b.SW.Hash, Security: b.SW.Security, KeyStore: b.SW.FileKeyStore.KeyStore,
	}}
	if p := b.PKCS11; p.Library != "" {
		c.PKCS11 = &csp.PKCS11Config{
			Library: p.Library, Label: p.Label, Pin: p.Pin, Hash: p.Hash, Security: p.Security,
			SoftVerify: p.SoftVerify, Immutable: p.Immutable, AltID: p.AltID, KeyStore: p.FileKeyStore.KeyStore,
		}
	}
	return c.WithDefaults()
}

// OrdererAuthentication is the section General.Authentication.
type OrdererAuthentication struct {
	TimeWindow         time.Duration
	NoExpirationChecks bool
}

// OrdererFileLedger is the section FileLedger.
type OrdererFileLedger struct{ Location, Prefix string }

// OrdererRAMLedger is the section RAMLedger.
type OrdererRAMLedger struct{ HistorySize uint }

// OrdererKafka is the section Kafka.
type OrdererKafka struct {
	Retry     OrdererKafkaRetry
	Verbose   bool
	Version   KafkaVersion
	TLS       OrdererTLS // PEM texts, not file names
	SASLPlain struct {
		Enabled        bool
		User, Password string
	}
	Topic struct{ ReplicationFactor int16 }
}

// OrdererKafkaRetry is the section Kafka.Retry.
type OrdererKafkaRetry struct {
	ShortInterval   time.Duration
	ShortTotal      time.Duration
	LongInterval    time.Duration
	LongTotal       time.Duration
	NetworkTimeouts struct{ DialTimeout, ReadTimeout, WriteTimeout time.Duration }
	Metadata        struct {
		RetryMax     int
		RetryBackoff time.Duration
	}
	Producer struct {
		RetryMax     int
		RetryBackoff time.Duration
	}
	Consumer struct{ RetryBackoff time.Duration }
}

// OrdererDebug is the section Debug.
type OrdererDebug struct{ BroadcastTraceDir, DeliverTraceDir string }

// OrdererOperations is the section Operations; its files are relative to the
// working directory.
type OrdererOperations struct {
	ListenAddress string
	TLS           OrdererTLS
}

// OrdererMetrics is the section Metrics.
type OrdererMetrics struct {
	Provider string
	Statsd   struct {
		Network, Address string
		WriteInterval    time.Duration
		Prefix           string
	}
}

// LoadOrderer reads orderer.yaml (ORDERER §1.2). note receives the lines about
// values that were set because the file has none. The error texts are those that
// the command prints after "failed to parse config: ".
func LoadOrderer(note func(text string)) (*Orderer, error) {
	file, err := find("orderer")
	if err != nil {
		return nil, errors.New(`Error reading configuration: Unsupported Config Type ""`)
	}
	if file, err = filepath.Abs(file); err != nil {
		return nil, fmt.Errorf("Error reading configuration: %w", err)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("Error reading configuration: %w", err)
	}
	tree, err := parseYAML11(raw)
	if err != nil {
		return nil, fmt.Errorf("Error reading configuration: While parsing config: %w", err)
	}
	c := &Orderer{}
	if err := decodeExact(tree, "ORDERER", c); err != nil {
		return nil, fmt.Errorf("Error unmarshaling config into struct: %w", err)
	}
	c.setDefaults(note)
	c.resolvePaths(filepath.Dir(file))
	return c, nil
}

// fallback is a value for a key that has none.
type fallback struct {
	key   string
	into  any // pointer
	value any
	noted bool
}

func (c *Orderer) fallbacks() []fallback {
	g, k, cl := &c.General, &c.Kafka, &c.General.Cluster
	const s, ms = time.Second, time.Millisecond
	return []fallback{
		{"General.LedgerType", &g.LedgerType, "file", true},
		{"FileLedger.Prefix", &c.FileLedger.Prefix, "hyperledger-fabric-ordererledger", true},
		{"General.ListenAddress", &g.ListenAddress, "127.0.0.1", true},
		{"General.ListenPort", &g.ListenPort, uint16(7050), true},
		{"General.GenesisMethod", &g.GenesisMethod, "provisional", false},
		{"General.GenesisFile", &g.GenesisFile, "genesisblock", false},
		{"General.GenesisProfile", &g.GenesisProfile, "SampleSingleMSPSolo", false},
		{"General.SystemChannel", &g.SystemChannel, "test-system-channel-name", false},
		{"General.LocalMSPDir", &g.LocalMSPDir, "msp", true},
		{"General.LocalMSPID", &g.LocalMSPID, "SampleOrg", true},
		{"General.Authentication.TimeWindow", &g.Authentication.TimeWindow, 15 * time.Minute, true},
		{"General.Cluster.DialTimeout", &cl.DialTimeout, 5 * s, false},
		{"General.Cluster.RPCTimeout", &cl.RPCTimeout, 7 * s, false},
		{"General.Cluster.ReplicationBufferSize", &cl.ReplicationBufferSize, 20971520, false},
		{"General.Cluster.ReplicationPullTimeout", &cl.ReplicationPullTimeout, 5 * s, false},
		{"General.Cluster.ReplicationRetryTimeout", &cl.ReplicationRetryTimeout, 5 * s, false},
		{"General.Cluster.ReplicationBackgroundRefreshInterval", &cl.ReplicationBackgroundRefreshInterval, 5 * time.Minute, false},
		{"General.Cluster.ReplicationMaxRetries", &cl.ReplicationMaxRetries, 12, false},
		{"General.Cluster.SendBufferSize", &cl.SendBufferSize, 10, false},
		{"General.Cluster.CertExpirationWarningThreshold", &cl.CertExpirationWarningThreshold, 168 * time.Hour, false},
		{"Kafka.Retry.ShortInterval", &k.Retry.ShortInterval, time.Minute, true},
		{"Kafka.Retry.ShortTotal", &k.Retry.ShortTotal, 10 * time.Minute, true},
		{"Kafka.Retry.LongInterval", &k.Retry.LongInterval, 10 * time.Minute, true},
		{"Kafka.Retry.LongTotal", &k.Retry.LongTotal, 12 * time.Hour, true},
		{"Kafka.Retry.NetworkTimeouts.DialTimeout", &k.Retry.NetworkTimeouts.DialTimeout, 30 * s, true},
		{"Kafka.Retry.NetworkTimeouts.ReadTimeout", &k.Retry.NetworkTimeouts.ReadTimeout, 30 * s, true},
		{"Kafka.Retry.NetworkTimeouts.WriteTimeout", &k.Retry.NetworkTimeouts.WriteTimeout, 30 * s, true},
		{"Kafka.Retry.Metadata.RetryBackoff", &k.Retry.Metadata.RetryBackoff, 250 * ms, true},
		{"Kafka.Retry.Metadata.RetryMax", &k.Retry.Metadata.RetryMax, 3, true},
		{"Kafka.Retry.Producer.RetryBackoff", &k.Retry.Producer.RetryBackoff, 100 * ms, true},
		{"Kafka.Retry.Producer.RetryMax", &k.Retry.Producer.RetryMax, 3, true},
		{"Kafka.Retry.Consumer.RetryBackoff", &k.Retry.Consumer.RetryBackoff, 2 * s, true},
		{"Kafka.Version", &k.Version, KafkaVersion{0, 10, 2, 0}, true},
	}
}

// setDefaults gives every key of the table in ORDERER §1.3 that has no value the
// one of the column "unset".
func (c *Orderer) setDefaults(note func(string)) {
	list := c.fallbacks()
	if c.General.Profile.Enabled {
		list = append(list, fallback{"General.Profile.Address", &c.General.Profile.Address, "0.0.0.0:6060", true})
	}
	for _, f := range list {
		into := reflect.ValueOf(f.into).Elem()
		if !into.IsZero() {
			continue
		}
		into.Set(reflect.ValueOf(f.value))
		if f.noted && note != nil {
			note(fmt.Sprintf("%s unset, setting to %v", f.key, f.value))
		}
	}
	if c.General.Keepalive.ServerMinInterval <= 0 {
		c.General.Keepalive.ServerMinInterval = time.Minute
	}
}

// resolvePaths makes relative paths absolute against the directory of the file;
// which ones is a list of the reference (ORDERER §1.2).
func (c *Orderer) resolvePaths(dir string) {
	abs := func(p *string) {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
	g := &c.General
	for _, p := range []*string{
		&g.TLS.PrivateKey, &g.TLS.Certificate, &g.Cluster.ClientCertificate, &g.Cluster.ClientPrivateKey,
		&g.GenesisFile, &g.LocalMSPDir,
	} {
		abs(p)
	}
	for _, list := range [][]string{g.TLS.RootCAs, g.TLS.ClientRootCAs, g.Cluster.RootCAs} {
		for i := range list {
			abs(&list[i])
		}
	}
	if g.BCCSP.SW.FileKeyStore.KeyStore == "" {
		g.BCCSP.SW.FileKeyStore.KeyStore = filepath.Join(g.LocalMSPDir, "keystore")
	}
}

// Check finds settings that contradict each other. The reference panics with the
// texts, whether or not the orderer is to use Kafka (ORDERER §1.3).
func (c *Orderer) Check() error {
	k := &c.Kafka
	if k.TLS.Enabled {
		switch {
		case k.TLS.Certificate == "":
			return errors.New("General.Kafka.TLS.Certificate must be set if General.Kafka.TLS.Enabled is set to true.") //nolint:staticcheck // the reference's text
		case k.TLS.PrivateKey == "":
			return errors.New("General.Kafka.TLS.PrivateKey must be set if General.Kafka.TLS.Enabled is set to true.") //nolint:staticcheck // the reference's text
		case k.TLS.RootCAs == nil:
			return errors.New("General.Kafka.TLS.CertificatePool must be set if General.Kafka.TLS.Enabled is set to true.") //nolint:staticcheck // the reference's text
		}
	}
	if k.SASLPlain.Enabled {
		switch {
		case k.SASLPlain.User == "":
			return errors.New("General.Kafka.SASLPlain.User must be set if General.Kafka.SASLPlain.Enabled is set to true.") //nolint:staticcheck // the reference's text
		case k.SASLPlain.Password == "":
			return errors.New("General.Kafka.SASLPlain.Password must be set if General.Kafka.SASLPlain.Enabled is set to true.") //nolint:staticcheck // the reference's text
		}
	}
	if !k.TLS.Enabled {
		return nil
	}
	if _, err := tls.X509KeyPair([]byte(k.TLS.Certificate), []byte(k.TLS.PrivateKey)); err != nil {
		return fmt.Errorf("Unable to decode public/private key pair: %w", err)
	}
	pool := x509.NewCertPool()
	for _, root := range k.TLS.RootCAs {
		if !pool.AppendCertsFromPEM([]byte(root)) {
			return errors.New("Unable to parse the root certificate authority certificates (Kafka.Tls.RootCAs)") //nolint:staticcheck // the reference's text
		}
	}
	return nil
}

// Dump lists every key with its value, one per line, in the order of the
// structure; the daemon logs it at its start. Secrets are left out.
func (c *Orderer) Dump() string {
	shown := *c
	for _, secret := range []*string{&shown.Kafka.TLS.PrivateKey, &shown.Kafka.SASLPlain.Password} {
		if *secret != "" {
			*secret = "[not shown]"
		}
	}
	var b strings.Builder
	dump(&b, "", reflect.ValueOf(shown))
	return b.String()
}

func dump(b *strings.Builder, key string, v reflect.Value) {
	switch x := v.Interface().(type) {
	case OrdererBCCSP:
		dumpBCCSP(b, key, x)
		return
	case fmt.Stringer:
		fmt.Fprintf(b, "\n\t%s = %s", key, x)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			name := v.Type().Field(i).Name
			if key != "" {
				name = key + "." + name
			}
			dump(b, name, v.Field(i))
		}
	case reflect.String:
		fmt.Fprintf(b, "\n\t%s = %q", key, v.String())
	default:
		fmt.Fprintf(b, "\n\t%s = %v", key, v.Interface())
	}
}

// dumpBCCSP prints the section in the names that the reference prints. The PIN
// of a token is left out.
func dumpBCCSP(b *strings.Builder, key string, c OrdererBCCSP) {
	used := c.CSP()
	fmt.Fprintf(b, "\n\t%s.ProviderName = %q", key, used.Default)
	fmt.Fprintf(b, "\n\t%s.SwOpts.SecLevel = %d", key, used.SW.Security)
	fmt.Fprintf(b, "\n\t%s.SwOpts.HashFamily = %q", key, used.SW.Hash)
	fmt.Fprintf(b, "\n\t%s.SwOpts.FileKeystore.KeyStorePath = %q", key, used.SW.KeyStore)
	if used.PKCS11 != nil {
		fmt.Fprintf(b, "\n\t%s.Pkcs11Opts.Library = %q", key, used.PKCS11.Library)
		fmt.Fprintf(b, "\n\t%s.Pkcs11Opts.Label = %q", key, used.PKCS11.Label)
	}
}
