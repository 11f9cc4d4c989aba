package process

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/heddle-ledger/heddle/chaincode/runtime"
	"github.com/heddle-ledger/heddle/internal/metrics"
)

// maxBuild bounds one build, however long its waiters are willing to wait.
const maxBuild = 15 * time.Minute

// maxBuildOutput bounds what is told of a failed build; the end is kept.
const maxBuildOutput = 64 << 10

// builder makes executables of code packages. Its products are files named by
// content, so they survive restarts; failures are not remembered.
type builder struct {
	cfg      Config
	duration metrics.Histogram
	tasks    sync.WaitGroup // goroutines of builds

	mu      sync.Mutex // guards everything below
	closed  bool
	running map[string]*job
	cancels map[*job]context.CancelFunc
	version string // of the Go tool, once known
}

// job is a build, or other work of the Go tool, that several may wait for.
type job struct {
	done chan struct{} // closed after err has been set
	err  error
}

func newBuilder(cfg Config) *builder {
	return &builder{
		cfg: cfg, running: map[string]*job{}, cancels: map[*job]context.CancelFunc{},
		duration: cfg.Metrics.NewHistogram(metrics.HistogramOpts{
			Namespace: "dockercontroller", Name: "chaincode_container_build_duration",
			Help:       "The time to build a chaincode image in seconds.",
			LabelNames: []string{"chaincode", "success"}, StatsdFormat: "%{#fqname}.%{chaincode}.%{success}",
		}),
	}
}

// build returns the executable of a package.
func (b *builder) build(ctx context.Context, spec *runtime.Spec) (string, error) {
	key, err := b.key(ctx, spec)
	if err != nil {
		return "", err
	}
	binary := filepath.Join(b.cfg.Dir, "builds", key, "chaincode")
	if exists(binary) {
		return binary, nil
	}
	return binary, b.once(ctx, key, func(ctx context.Context) error {
		if exists(binary) {
			return nil // made since
		}
		start := time.Now()
		err := b.make(ctx, spec, key)
		b.duration.With("chaincode", spec.CName(), "success", strconv.FormatBool(err == nil)).Observe(time.Since(start).Seconds())
		return err
	})
}

// once runs work unless the same is running already, and waits for it. The
// work does not end with the waiter's ctx.
func (b *builder) once(ctx context.Context, key string, work func(context.Context) error) error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return errors.New("the peer is shutting down")
	}
	j := b.running[key]
	if j == nil {
		j = &job{done: make(chan struct{})}
		life, cancel := context.WithTimeout(context.Background(), maxBuild)
		b.running[key], b.cancels[j] = j, cancel
		b.tasks.Add(1)
		go func() {
			defer b.tasks.Done()
			defer cancel()
			j.err = work(life)
			b.mu.Lock()
			delete(b.running, key)
			delete(b.cancels, j)
			b.mu.Unlock()
			close(j.done)
		}()
	}
	b.mu.Unlock()
	select {
	case <-j.done:
		return j.err
	case <-ctx.Done():
		return fmt.Errorf("wait for build: %w", ctx.Err())
	}
}

func (b *builder) close() {
	b.mu.Lock()
	b.closed = true
	for _, cancel := range b.cancels {
		cancel()
	}
	b.mu.Unlock()
	b.tasks.Wait()
}

// key names a build by what goes into it.
func (b *builder) key(ctx context.Context, spec *runtime.Spec) (string, error) {
	version, err := b.goVersion(ctx)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	h.Write(spec.CodePackage)
	fmt.Fprintf(h, "\x00%s\x00%s", spec.Path, version)
	return hex.EncodeToString(h.Sum(nil)), nil
}

func (b *builder) goVersion(ctx context.Context) (string, error) {
	b.mu.Lock()
	version := b.version
	b.mu.Unlock()
	if version != "" {
		return version, nil
	}
	out, err := b.run(ctx, "", nil, "env", "GOVERSION")
	if err != nil {
		return "", fmt.Errorf("find the Go toolchain: %w", err)
	}
	version = strings.TrimSpace(string(out))
	b.mu.Lock()
	b.version = version
	b.mu.Unlock()
	return version, nil
}

// make unpacks and builds a package and puts the product in its place, all in
// a temporary directory that is renamed at the end.
func (b *builder) make(ctx context.Context, spec *runtime.Spec, key string) error {
	tmp, err := os.MkdirTemp(filepath.Join(b.cfg.Dir, "tmp"), "build")
	if err != nil {
		return fmt.Errorf("make build directory: %w", err)
	}
	defer os.RemoveAll(tmp) //nolint:errcheck // cleared at the next open
	code, out := filepath.Join(tmp, "code"), filepath.Join(tmp, "out")
	for _, d := range []string{code, out} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return fmt.Errorf("make build directory: %w", err)
		}
	}
	if err := unpack(spec.CodePackage, code); err != nil {
		return err
	}
	p, err := planOf(code, spec.Path)
	if err != nil {
		return err
	}
	env := []string{"GOWORK=off", "GOFLAGS=" + withoutModFlag(lookup(b.cfg.Environ, "GOFLAGS"))}
	if p.gopath {
		gopath, err := b.gopath(ctx, code)
		if err != nil {
			return err
		}
		env = append(env, "GO111MODULE=off", "GOPATH="+gopath)
	} else {
		env = append(env, "GO111MODULE=on")
	}
	args := append([]string{"build", "-buildvcs=false", "-o", filepath.Join(out, "chaincode")}, p.args...)
	b.cfg.Log.Infof("Building chaincode %s", spec.CName())
	if _, err := b.run(ctx, p.dir, env, args...); err != nil {
		return err
	}
	// Of a package that is no program the Go tool makes an archive.
	if info, err := os.Stat(filepath.Join(out, "chaincode")); err != nil || info.Mode()&0o111 == 0 {
		return buildError(1, spec.Path+" is not a main package\n")
	}
	if err := os.Rename(out, filepath.Join(b.cfg.Dir, "builds", key)); err != nil && !exists(b.cfg.Dir, "builds", key, "chaincode") {
		return fmt.Errorf("keep build: %w", err)
	}
	return nil
}

// run runs the Go tool. A failure carries its output, as that of a build
// container does.
func (b *builder) run(ctx context.Context, dir string, env []string, args ...string) ([]byte, error) {
	var stdout, stderr tail
	cmd := exec.CommandContext(ctx, b.cfg.Go, args...)
	cmd.Dir = dir
	cmd.Env = append(b.toolEnv(), env...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.SysProcAttr = childAttributes()
	// The attributes tie a child to its thread, see child; the Go tool is
	// killed with its group when the build is given up.
	cmd.Cancel = func() error { killGroup(cmd.Process.Pid); return nil }
	cmd.WaitDelay = 2 * time.Second
	err := onOneThread(cmd.Run)
	if err == nil {
		return stdout.kept, nil
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("go %s: %w", args[0], ctx.Err())
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return nil, fmt.Errorf("run go %s: %w", args[0], err)
	}
	out := append(stdout.kept, stderr.kept...)
	return nil, buildError(exit.ExitCode(), string(out))
}

// toolEnv is the environment of the Go tool.
func (b *builder) toolEnv() []string {
	env := pick(b.cfg.Environ, isToolVariable)
	if lookup(env, "HOME") == "" && lookup(env, "XDG_CACHE_HOME") == "" && lookup(env, "GOCACHE") == "" {
		env = append(env, "GOCACHE="+filepath.Join(b.cfg.Dir, "gocache"))
	}
	return env
}

// tail keeps the end of what is written to it.
type tail struct{ kept []byte }

// Write implements io.Writer; it never fails.
func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p...)
	if over := len(t.kept) - maxBuildOutput; over > maxBuildOutput {
		t.kept = append([]byte(nil), t.kept[over:]...)
	}
	return len(p), nil
}
