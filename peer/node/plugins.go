package node

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	ccruntime "github.com/heddle-ledger/heddle/chaincode/runtime"
	"github.com/heddle-ledger/heddle/chaincode/runtime/process"
	"github.com/heddle-ledger/heddle/chaincode/support"
	"github.com/heddle-ledger/heddle/internal/config"
	"github.com/heddle-ledger/heddle/internal/run"
	"github.com/heddle-ledger/heddle/msp"
	"github.com/heddle-ledger/heddle/msp/x509msp"
	"github.com/heddle-ledger/heddle/peer/endorser"
	"github.com/heddle-ledger/heddle/peer/validation"
)

// noSuchHandler is the reference's answer to an unknown handler name.
func noSuchHandler(name string) error {
	return run.Failed(run.Panic, "Method %s isn't a method of HandlerLibrary", name)
}

// noLibrary refuses a Go plugin library: this program has its handlers built in.
func noLibrary(section string, h config.Handler) error {
	if h.Library == "" {
		return nil
	}
	return run.Failed(run.Panic, "peer.handlers.%s names the Go plugin %s, which this peer cannot load; remove library and use a built-in handler", section, h.Library)
}

func authFilters(list []config.Handler) ([]endorser.Filter, error) {
	var out []endorser.Filter
	for _, h := range list {
		if err := noLibrary("authFilters", h); err != nil {
			return nil, err
		}
		f, err := endorser.NewFilter(h.Name, x509msp.ExpiresAtOf)
		if err != nil {
			return nil, noSuchHandler(h.Name)
		}
		out = append(out, f)
	}
	return out, nil
}

func decorators(list []config.Handler) ([]endorser.Decorator, error) {
	var out []endorser.Decorator
	for _, h := range list {
		if err := noLibrary("decorators", h); err != nil {
			return nil, err
		}
		d, err := endorser.NewDecorator(h.Name)
		if err != nil {
			return nil, noSuchHandler(h.Name)
		}
		out = append(out, d)
	}
	return out, nil
}

func endorsementPlugins(table map[string]config.Handler, signer msp.SigningIdentity) (map[string]endorser.Plugin, error) {
	out := map[string]endorser.Plugin{}
	for name, h := range table {
		if err := noLibrary("endorsers", h); err != nil {
			return nil, err
		}
		p, err := endorser.NewPlugin(h.Name, signer)
		if err != nil {
			return nil, noSuchHandler(h.Name)
		}
		out[name] = p
	}
	return out, nil
}

func validationPlugins(table map[string]config.Handler) (map[string]func() validation.Plugin, error) {
	out := map[string]func() validation.Plugin{}
	known := validation.Handlers()
	for name, h := range table {
		if err := noLibrary("validators", h); err != nil {
			return nil, err
		}
		p, ok := known[h.Name]
		if !ok {
			return nil, noSuchHandler(h.Name)
		}
		out[name] = p
	}
	return out, nil
}

// processScheme is the vm.endpoint of the process runtime.
const processScheme = "process://"

// chaincodeRuntime is the runtime that vm.endpoint names.
func (n *Node) chaincodeRuntime() (support.Runtime, error) {
	endpoint := n.cfg.Core.VM.Endpoint
	if !strings.HasPrefix(endpoint, processScheme) {
		return noRuntime{endpoint}, nil
	}
	r, err := process.Open(process.Config{
		Dir:          filepath.Join(n.cfg.Core.Peer.FileSystemPath, "chaincodeRuntime"),
		Environ:      n.cfg.Environ,
		Names:        ccruntime.Names{NetworkID: n.cfg.Core.Peer.NetworkID, PeerID: n.cfg.Core.Peer.ID},
		ChaincodeLog: n.cfg.Logging.Logger("peer.chaincode"),
		Log:          n.cfg.Logging.Root(), Metrics: n.parts.operations.Provider(),
	})
	if err != nil {
		return nil, run.Failed(run.Panic, "Failed to open the chaincode runtime: %w", err)
	}
	n.closers.Add(r.Close)
	return r, nil
}

// noRuntime refuses to start chaincodes: the peer works without, and
// chaincodes started by hand (development mode) do too.
type noRuntime struct{ endpoint string }

// Start implements support.Runtime.
func (r noRuntime) Start(context.Context, *ccruntime.Spec) (ccruntime.Instance, error) {
	if r.endpoint == "" {
		return nil, errors.New("vm.endpoint is not set, so this peer starts no chaincodes; set it to process://")
	}
	return nil, fmt.Errorf("vm.endpoint is %s, but this version of the peer runs chaincodes as processes only; set it to process://", r.endpoint)
}
