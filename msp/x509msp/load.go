package x509msp

import (
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	mspproto "github.com/hyperledger/fabric-protos-go-apiv2/msp"
	"go.yaml.in/yaml/v3"

	"github.com/heddle-ledger/heddle/internal/csp"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/msp"
)

// errNoConf is what the reference says when cacerts or signcerts is there but holds no certificate.
var errNoConf = errors.New("Setup error: nil conf reference")

// LoadConfig reads an MSP directory into a verifying MSPConfig (IDENTITY-CONFIG §3.1, §3.2).
func LoadConfig(dir, mspID string) (*mspproto.MSPConfig, error) {
	return loader{dir: dir, log: flog.Nop()}.load(mspID, nil)
}

// LocalConfig says where the local MSP is.
type LocalConfig struct {
	Dir   string
	MSPID string
	// Type is bccsp, which empty means too, or idemix.
	Type  string
	BCCSP csp.Config
	// Signatures is the memory of good signatures, to be shared with the channels' Managers; nil: an own one.
	Signatures *msp.SignatureCache
	// Log is the root logger of the node; the MSP logs as msp below it.
	Log *flog.Logger
}

// Local is the MSP of this node; it implements msp.MSP. It signs, and judges all that has no channel.
type Local struct {
	*MSP
	cached *msp.CachedDeserializer
	signer msp.SigningIdentity
}

var _ msp.MSP = (*Local)(nil)

// LoadLocal reads and sets up the local MSP (IDENTITY-CONFIG §3.4), always as version 1.4.3.
func LoadLocal(cfg LocalConfig, opts ...Option) (*Local, error) {
	log := cfg.Log
	if log == nil {
		log = flog.Nop()
	}
	log = log.Named("msp")
	if cfg.MSPID == "" {
		return nil, errors.New("the local MSP must have an ID")
	}
	switch cfg.Type {
	case "", "bccsp":
	case "idemix":
		return nil, ErrIdemix
	default:
		return nil, fmt.Errorf("unknown MSP type '%s'", cfg.Type)
	}
	keys, err := csp.Open(cfg.BCCSP, cfg.Dir)
	if err != nil {
		return nil, err
	}
	l := loader{dir: cfg.Dir, log: log}
	certs, err := l.pems("signcerts")
	if err != nil {
		return nil, fmt.Errorf("could not load a valid signer certificate from directory %s: %w", l.path("signcerts"), err)
	}
	if len(certs) == 0 {
		return nil, errNoConf
	}
	conf, err := l.load(cfg.MSPID, &mspproto.SigningIdentityInfo{PublicSigner: certs[0]})
	if err != nil {
		return nil, err
	}
	m, err := New(conf, msp.V1_4_3, append([]Option{WithKeys(keys), WithLogger(log)}, opts...)...)
	if err != nil {
		return nil, err
	}
	var cacheOpts []msp.CacheOption
	if cfg.Signatures != nil {
		cacheOpts = append(cacheOpts, msp.WithSignatureCache(cfg.Signatures))
	}
	cached := msp.NewCachedDeserializer(m, cacheOpts...)
	return &Local{MSP: m, cached: cached, signer: cached.Signer(m.signer)}, nil
}

// DeserializeIdentity implements msp.Deserializer.
func (l *Local) DeserializeIdentity(b []byte) (msp.Identity, error) {
	return l.cached.DeserializeIdentity(b)
}

// SigningIdentity is the identity this node signs with.
func (l *Local) SigningIdentity() msp.SigningIdentity { return l.signer }

// loader reads one MSP directory.
type loader struct {
	dir string
	log *flog.Logger
}

func (l loader) path(name string) string { return filepath.Join(l.dir, name) }

func (l loader) load(mspID string, signer *mspproto.SigningIdentityInfo) (*mspproto.MSPConfig, error) {
	conf := &mspproto.FabricMSPConfig{
		Name:            mspID,
		SigningIdentity: signer,
		CryptoConfig: &mspproto.FabricCryptoConfig{
			SignatureHashFamily:            "SHA2",
			IdentityIdentifierHashFunction: "SHA256",
		},
	}
	var err error
	if conf.RootCerts, err = l.pems("cacerts"); err != nil {
		return nil, fmt.Errorf("could not load a valid ca certificate from directory %s: %w", l.path("cacerts"), err)
	}
	if len(conf.RootCerts) == 0 {
		return nil, errNoConf
	}
	optional := []struct {
		into *[][]byte
		name string
		what string
	}{
		{&conf.Admins, "admincerts", "a valid admin certificate"},
		{&conf.IntermediateCerts, "intermediatecerts", "an intermediate ca certificate"},
		{&conf.TlsRootCerts, "tlscacerts", "TLS ca certificates"},
		{&conf.TlsIntermediateCerts, "tlsintermediatecerts", "TLS intermediate ca certificates"},
		{&conf.RevocationList, "crls", "crls"},
	}
	for _, o := range optional {
		if o.name == "tlsintermediatecerts" && len(conf.TlsRootCerts) == 0 {
			continue
		}
		pems, err := l.pems(o.name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("could not load %s from directory %s: %w", o.what, l.path(o.name), err)
		}
		*o.into = pems
	}
	if err := l.configFile(conf); err != nil {
		return nil, err
	}
	return &mspproto.MSPConfig{Type: msp.TypeX509, Config: protoutil.Marshal(conf)}, nil
}

// pems returns the content of the PEM files of a sub-directory, in name order.
func (l loader) pems(name string) ([][]byte, error) {
	dir := l.path(name)
	if _, err := os.Stat(dir); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out [][]byte
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		info, err := os.Stat(path)
		if err != nil {
			l.log.Warningf("Failed to stat %s: %s", path, err)
			continue
		}
		if info.IsDir() {
			continue
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			l.log.Warningf("Failed reading file %s: %s", path, err)
			continue
		}
		if block, _ := pem.Decode(raw); block == nil {
			l.log.Warningf("Failed reading file %s: no pem content for file %s", path, path)
			continue
		}
		out = append(out, raw)
	}
	return out, nil
}

// configYAML is config.yaml in an MSP directory.
type configYAML struct {
	OrganizationalUnitIdentifiers []ouYAML `yaml:"OrganizationalUnitIdentifiers"`
	NodeOUs                       *struct {
		Enable              bool    `yaml:"Enable"`
		ClientOUIdentifier  *ouYAML `yaml:"ClientOUIdentifier"`
		PeerOUIdentifier    *ouYAML `yaml:"PeerOUIdentifier"`
		AdminOUIdentifier   *ouYAML `yaml:"AdminOUIdentifier"`
		OrdererOUIdentifier *ouYAML `yaml:"OrdererOUIdentifier"`
	} `yaml:"NodeOUs"`
}

type ouYAML struct {
	Certificate                  string `yaml:"Certificate"`
	OrganizationalUnitIdentifier string `yaml:"OrganizationalUnitIdentifier"`
}

func (l loader) configFile(conf *mspproto.FabricMSPConfig) error {
	path := l.path("config.yaml")
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("failed loading configuration file at [%s]: %w", path, err)
	}
	var y configYAML
	if err := yaml.Unmarshal(raw, &y); err != nil {
		return fmt.Errorf("failed unmarshalling configuration file at [%s]: %w", path, err)
	}
	for _, o := range y.OrganizationalUnitIdentifiers {
		f := l.path(o.Certificate)
		cert, err := os.ReadFile(f)
		if err != nil {
			return fmt.Errorf("failed loading OrganizationalUnit certificate at [%s]: could not read file %s: %w", f, f, err)
		}
		conf.OrganizationalUnitIdentifiers = append(conf.OrganizationalUnitIdentifiers, &mspproto.FabricOUIdentifier{
			Certificate: cert, OrganizationalUnitIdentifier: o.OrganizationalUnitIdentifier,
		})
	}
	if y.NodeOUs == nil || !y.NodeOUs.Enable {
		return nil
	}
	conf.FabricNodeOus = &mspproto.FabricNodeOUs{
		Enable:              true,
		ClientOuIdentifier:  l.nodeOU("ClientOU", y.NodeOUs.ClientOUIdentifier),
		PeerOuIdentifier:    l.nodeOU("PeerOU", y.NodeOUs.PeerOUIdentifier),
		AdminOuIdentifier:   l.nodeOU("AdminOU", y.NodeOUs.AdminOUIdentifier),
		OrdererOuIdentifier: l.nodeOU("OrdererOU", y.NodeOUs.OrdererOUIdentifier),
	}
	return nil
}

// nodeOU takes one role; its certificate is optional.
func (l loader) nodeOU(what string, o *ouYAML) *mspproto.FabricOUIdentifier {
	if o == nil || o.OrganizationalUnitIdentifier == "" {
		return nil
	}
	id := &mspproto.FabricOUIdentifier{OrganizationalUnitIdentifier: o.OrganizationalUnitIdentifier}
	if o.Certificate == "" {
		return id
	}
	f := l.path(o.Certificate)
	raw, err := os.ReadFile(f)
	if err != nil {
		l.log.Warningf("Failed loading %s certificate at [%s]: [%s]", what, f, err)
		return id
	}
	id.Certificate = raw
	return id
}
