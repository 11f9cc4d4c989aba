package e2e

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long a test waits for something that is sure to come.
const patience = 60 * time.Second

// result is what a finished command left.
type result struct {
	stdout, stderr string
	code           int
}

// execute runs a command to its end.
func execute(t *testing.T, dir string, env []string, name string, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(filepath.Join(bin, name), args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, env, &stdout, &stderr
	timer := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	defer timer.Stop()
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s %s: %v", name, strings.Join(args, " "), err)
	}
	return result{stdout.String(), plain(stderr.String()), cmd.ProcessState.ExitCode()}
}

// plain removes colours.
func plain(s string) string { return regexp.MustCompile("\x1b\\[[0-9;]*m").ReplaceAllString(s, "") }

// daemon is a running command.
type daemon struct {
	t    *testing.T
	name string
	cmd  *exec.Cmd
	log  *logText
	done chan struct{} // closed when the process has ended
}

// start starts a daemon that is killed at the end of the test.
func start(t *testing.T, dir string, env []string, name string, args ...string) *daemon {
	t.Helper()
	d := &daemon{t: t, name: name, cmd: exec.Command(filepath.Join(bin, name), args...), log: newLogText(), done: make(chan struct{})}
	d.cmd.Dir, d.cmd.Env, d.cmd.Stdout, d.cmd.Stderr = dir, env, d.log, d.log
	d.cmd.WaitDelay = time.Second
	if err := d.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go func() {
		d.cmd.Wait() //nolint:errcheck // the exit code is what counts
		d.log.close()
		close(d.done)
	}()
	t.Cleanup(func() {
		running := !d.ended()
		d.kill()
		if t.Failed() && running {
			t.Logf("last lines of %s %s:\n%s", name, strings.Join(args, " "), d.log.tail(40))
		}
	})
	return d
}

// kill ends the process without warning.
func (d *daemon) kill() {
	d.cmd.Process.Kill() //nolint:errcheck // it may have ended
	<-d.done
}

// stop asks the process to end and checks that it does so well.
func (d *daemon) stop() {
	d.t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		d.t.Fatalf("stop %s: %v", d.name, err)
	}
	if code := d.wait(); code != 0 {
		d.t.Fatalf("%s: exit code %d after SIGTERM\n%s", d.name, code, d.log.tail(20))
	}
}

// wait waits for the end of the process and returns its exit code.
func (d *daemon) wait() int {
	d.t.Helper()
	select {
	case <-d.done:
	case <-time.After(patience):
		d.t.Fatalf("%s does not end\n%s", d.name, d.log.tail(20))
	}
	return d.cmd.ProcessState.ExitCode()
}

// waitFor waits for a text in the log, which must come.
func (d *daemon) waitFor(text string) {
	d.t.Helper()
	if !d.log.waitFor(text, patience) {
		d.t.Fatalf("%s did not log %q:\n%s", d.name, text, d.log.tail(30))
	}
}

// logText collects what a process writes.
type logText struct {
	mu     sync.Mutex // guards all fields
	text   []byte
	closed bool
	more   chan struct{} // closed and replaced at every change
}

func newLogText() *logText { return &logText{more: make(chan struct{})} }

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, p...)
	l.changed()
	return len(p), nil
}

func (l *logText) changed() {
	close(l.more)
	l.more = make(chan struct{})
}

func (l *logText) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.changed()
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return plain(string(l.text))
}

// tail returns the last lines.
func (l *logText) tail(n int) string {
	lines := strings.Split(strings.TrimRight(l.String(), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// waitFor tells whether the text came before the process ended or the time was
// over.
func (l *logText) waitFor(text string, timeout time.Duration) bool {
	end := time.After(timeout)
	for {
		l.mu.Lock()
		found, closed, more := strings.Contains(plain(string(l.text)), text), l.closed, l.more
		l.mu.Unlock()
		if found || closed {
			return found
		}
		select {
		case <-more:
		case <-end:
			return false
		}
	}
}

// environment is that of a user without any variable of ours.
func environment(extra ...string) []string {
	var env []string
	for _, v := range os.Environ() {
		switch name, _, _ := strings.Cut(v, "="); {
		case strings.HasPrefix(name, "CORE_"), strings.HasPrefix(name, "ORDERER_"), strings.HasPrefix(name, "FABRIC_"), strings.HasPrefix(name, "CONFIGTX_"):
		default:
			env = append(env, v)
		}
	}
	return append(env, extra...)
}

// ended tells whether the process has ended.
func (d *daemon) ended() bool {
	select {
	case <-d.done:
		return true
	default:
		return false
	}
}
