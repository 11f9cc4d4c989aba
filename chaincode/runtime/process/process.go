// Package process runs Go chaincodes as children of the peer, without Docker
// (CHAINCODE §5.7, §6.6): the installed package is built with the machine's Go
// toolchain, once per content, and started with the reference's environment,
// TLS files and arguments.
//
// A Runtime owns a directory: builds/ (products, kept), gopath-*/ (the 1.4
// shim, kept), run/ and tmp/ (cleared when opened). Each child has one
// goroutine, locked to its thread, which ends with the child; each build has
// one. Only the composition root and tests import the package.
package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/chaincode/runtime"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/metrics"
)

// Config is what a Runtime needs.
type Config struct {
	// Dir holds build products and private directories. It must not lie in
	// chaincodes/, ledgersData/ or transientStore/ of the peer.
	Dir string
	// Environ is the peer's environment (os.Environ): what the Go tool needs
	// is taken from it, chaincodes get PATH, HOME and TMPDIR.
	Environ []string
	// Go is the Go tool; empty: "go" from PATH.
	Go string
	// Names makes the names that chaincodes log under.
	Names runtime.Names
	// ChaincodeLog, named peer.chaincode, gets what chaincodes write; nil
	// drops it (vm.docker.attachStdout).
	ChaincodeLog *flog.Logger
	Log          *flog.Logger
	Metrics      metrics.Provider
}

// Runtime starts chaincodes as child processes.
type Runtime struct {
	cfg     Config
	builder *builder

	mu       sync.Mutex // guards everything below
	closed   bool
	children map[*child]struct{}
}

// Open makes the directories of a Runtime and clears what a crash left over.
func Open(cfg Config) (*Runtime, error) {
	if cfg.Log == nil {
		cfg.Log = flog.Nop()
	}
	cfg.Log = cfg.Log.Named("chaincode.process")
	if cfg.Metrics == nil {
		cfg.Metrics = metrics.Disabled()
	}
	if cfg.Go == "" {
		cfg.Go = "go"
	}
	for _, d := range []string{"run", "tmp"} {
		if err := os.RemoveAll(filepath.Join(cfg.Dir, d)); err != nil {
			return nil, fmt.Errorf("clear chaincode runtime directory: %w", err)
		}
	}
	for _, d := range []string{"run", "tmp", "builds"} {
		if err := os.MkdirAll(filepath.Join(cfg.Dir, d), 0o700); err != nil {
			return nil, fmt.Errorf("make chaincode runtime directory: %w", err)
		}
	}
	return &Runtime{cfg: cfg, builder: newBuilder(cfg), children: map[*child]struct{}{}}, nil
}

// Close kills all chaincodes and gives up the builds in progress.
func (r *Runtime) Close() error {
	r.mu.Lock()
	r.closed = true
	children := make([]*child, 0, len(r.children))
	for c := range r.children {
		children = append(children, c)
	}
	r.mu.Unlock()
	for _, c := range children {
		c.Stop()
	}
	r.builder.close()
	return nil
}

// Start builds the package if it has not been built yet and starts the
// chaincode. ctx bounds the waiting only: a build that takes longer goes on,
// so that a second try finds it done.
func (r *Runtime) Start(ctx context.Context, spec *runtime.Spec) (runtime.Instance, error) {
	args, err := spec.Args()
	if err != nil {
		return nil, err
	}
	c, err := r.start(ctx, spec, args)
	if err != nil {
		return nil, fmt.Errorf("error starting container: %w", err)
	}
	return c, nil
}

func (r *Runtime) start(ctx context.Context, spec *runtime.Spec, args []string) (*child, error) {
	if spec.Type != peer.ChaincodeSpec_GOLANG {
		return nil, fmt.Errorf("chaincodes of type %s need a container runtime", spec.Type)
	}
	binary, err := r.builder.build(ctx, spec)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(filepath.Join(r.cfg.Dir, "run"), "cc")
	if err != nil {
		return nil, fmt.Errorf("make private directory: %w", err)
	}
	c, err := r.spawn(spec, binary, args, dir)
	if err != nil {
		os.RemoveAll(dir) //nolint:errcheck // cleared at the next open
		return nil, err
	}
	return c, nil
}

func (r *Runtime) spawn(spec *runtime.Spec, binary string, args []string, dir string) (*child, error) {
	paths := runtime.Paths{
		Key: filepath.Join(dir, "client.key"), Cert: filepath.Join(dir, "client.crt"), Root: filepath.Join(dir, "peer.crt"),
		KeyPEM: filepath.Join(dir, "client_pem.key"), CertPEM: filepath.Join(dir, "client_pem.crt"),
	}
	for path, content := range spec.Files(paths) {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return nil, fmt.Errorf("write TLS file: %w", err)
		}
	}
	env := spec.Env(paths)
	if spec.Environment.BuildLevel != "" {
		env = append(env, "CORE_CHAINCODE_BUILDLEVEL="+spec.Environment.BuildLevel)
	}
	if spec.Environment.LocalMSPID != "" {
		env = append(env, "CORE_PEER_LOCALMSPID="+spec.Environment.LocalMSPID)
	}
	// Nothing else: the 1.4 shim reads every CORE_* variable it finds.
	env = append(env, pick(r.cfg.Environ, isChildVariable)...)

	c := newChild(r.output(spec), r.forget)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, errors.New("the peer is shutting down")
	}
	if err := c.start(command{path: binary, args: args, env: env, dir: dir}); err != nil {
		return nil, err
	}
	r.children[c] = struct{}{}
	return c, nil
}

func (r *Runtime) forget(c *child) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.children, c)
}

// output returns where the lines of a chaincode go.
func (r *Runtime) output(spec *runtime.Spec) func(line string) {
	if r.cfg.ChaincodeLog == nil {
		return nil
	}
	log := r.cfg.ChaincodeLog.Named(r.cfg.Names.Container(spec.Name, spec.Version))
	return func(line string) { log.Info(line) }
}
