// Package lscc is the lifecycle system chaincode: installing packages,
// deploying and upgrading chaincodes on a channel, and the queries about them
// (CHAINCODE §7). It also answers the questions that the endorser and the
// chaincode room have about definitions.
//
// State owned: a bounded cache of instantiation policies of installed packages.
// It starts no goroutine and is safe for concurrent use. peer/endorser (through
// interfaces) and peer/node use it.
package lscc

import (
	"context"
	"fmt"

	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/chaincode/packaging"
	"github.com/heddle-ledger/heddle/chaincode/support"
	"github.com/heddle-ledger/heddle/internal/chanconfig"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/peer/acl"
	"github.com/heddle-ledger/heddle/peer/syscc"
)

// Namespace is where definitions are kept.
const Namespace = "lscc"

// Access checks the caller; *acl.Checker is one.
type Access interface {
	CheckACL(resource, channelID string, sp *peer.SignedProposal) error
	CheckLocal(role string, sp *peer.SignedProposal) error
}

// Packages keeps the installed packages; *packaging.Store is one.
type Packages interface {
	Parse(raw []byte) (*packaging.Package, error)
	Load(name, version string) (*packaging.Package, error)
	Save(p *packaging.Package) error
	List() ([]*packaging.Package, error)
}

// StateReader reads the state of one channel. It is an alias so that consumers
// can name the type without this package.
type StateReader = interface {
	GetState(ns, key string) ([]byte, error)
}

// Config is what an LSCC needs.
type Config struct {
	// Channels gives the config in force of a joined channel.
	Channels func(channelID string) (*chanconfig.Bundle, bool)
	Access   Access
	Packages Packages
	// IsSystem tells whether a name belongs to a system chaincode, enabled or
	// not, or is reserved for one.
	IsSystem func(name string) bool
	// Installing, if set, is told of a package about to be saved, with its state
	// database files, to bring the indexes of channels where it is instantiated
	// up to date. It must not wait for a commit. done is called when the package
	// is saved, or will not be.
	Installing func(p *packaging.Package, files []packaging.MetadataFile) (done func())
	Log        *flog.Logger
}

// LSCC is the lifecycle system chaincode of a peer.
type LSCC struct {
	cfg      Config
	log      *flog.Logger
	policies policyCache
}

// New returns an LSCC.
func New(cfg Config) *LSCC {
	if cfg.Log == nil {
		cfg.Log = flog.Nop()
	}
	return &LSCC{cfg: cfg, log: cfg.Log.Named("lscc")}
}

// call is one call of the chaincode.
type call struct {
	*support.Invocation
	function string
}

func (c *call) arg(i int) string { return string(c.Args[i]) }

func (c *call) badCount() error {
	return fmt.Errorf("invalid number of arguments to lscc: %d", len(c.Args))
}

// Invoke runs one function (CHAINCODE §7).
func (l *LSCC) Invoke(_ context.Context, inv *support.Invocation) *peer.Response {
	payload, err := l.invoke(inv)
	if err != nil {
		return syscc.Fail(err)
	}
	return syscc.OK(payload)
}

func (l *LSCC) invoke(inv *support.Invocation) ([]byte, error) {
	c := &call{Invocation: inv}
	if len(inv.Args) == 0 {
		return nil, c.badCount()
	}
	c.function = c.arg(0)
	if inv.SignedProposal == nil {
		return nil, syscc.ErrNoProposal{Function: c.function}
	}
	switch c.function {
	case "install":
		return l.install(c)
	case "deploy", "upgrade":
		return l.deployOrUpgrade(c)
	case "getid", "ChaincodeExists":
		return l.byName(c, acl.ChaincodeExists, l.exists)
	case "getdepspec", "GetDeploymentSpec":
		return l.byName(c, acl.GetDeploymentSpec, l.deploymentSpec)
	case "getccdata", "GetChaincodeData":
		return l.byName(c, acl.GetChaincodeData, l.chaincodeData)
	case "getchaincodes", "GetChaincodes":
		return l.instantiated(c)
	case "getinstalledchaincodes", "GetInstalledChaincodes":
		return l.installed(c)
	case "getcollectionsconfig", "GetCollectionsConfig":
		return l.collectionsConfig(c)
	}
	return nil, fmt.Errorf("invalid function to lscc: %s", c.function)
}
