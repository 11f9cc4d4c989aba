package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	goruntime "runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// tailLines and tailBytes bound what is kept of a chaincode's output, and
// maxLine what of a line is logged.
const (
	tailLines = 10
	tailBytes = 2048
	maxLine   = 16 << 10
)

// command is what a child runs.
type command struct {
	path string
	args []string
	env  []string
	dir  string // private; removed when the child has ended
}

// child is a supervised process; it implements runtime.Instance.
type child struct {
	out  *output
	end  func()        // told before done is closed
	done chan struct{} // closed after code and err have been set
	code int
	err  error

	mu  sync.Mutex // guards pid against use after the process has been reaped
	pid int        // 0 before start and after the end
}

func newChild(log func(string), end func(*child)) *child {
	c := &child{out: &output{log: log}, done: make(chan struct{})}
	c.end = func() { end(c) }
	return c
}

// start starts the process and the goroutine that waits for it. That one stays
// on one thread: the kernel kills the child when the thread that made it ends,
// which is how children die with the peer.
func (c *child) start(cmd command) error {
	x := &exec.Cmd{
		Path: cmd.path, Args: cmd.args, Env: cmd.env, Dir: cmd.dir,
		Stdout: c.out, Stderr: c.out, SysProcAttr: childAttributes(),
		WaitDelay: 2 * time.Second, // grandchildren may hold the output open
	}
	started := make(chan error, 1)
	go func() {
		goruntime.LockOSThread()
		defer goruntime.UnlockOSThread()
		err := x.Start()
		if err == nil {
			c.mu.Lock()
			c.pid = x.Process.Pid
			c.mu.Unlock()
		}
		started <- err
		if err == nil {
			c.supervise(x)
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start chaincode: %w", err)
	}
	return nil
}

func (c *child) supervise(x *exec.Cmd) {
	err := x.Wait()
	c.mu.Lock()
	pid := c.pid
	c.pid = 0
	c.mu.Unlock()
	killGroup(pid) // what the chaincode has started itself
	c.out.flush()
	os.RemoveAll(x.Dir) //nolint:errcheck // cleared at the next open
	c.code, c.err = exitStatus(x.ProcessState, err)
	c.end()
	close(c.done)
}

// Wait implements runtime.Instance.
func (c *child) Wait(ctx context.Context) (int, error) {
	select {
	case <-c.done:
		return c.code, c.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// Stop implements runtime.Instance. The reference gives chaincodes no time to
// end either (CHAINCODE §5.5).
func (c *child) Stop() {
	c.mu.Lock()
	if c.pid != 0 {
		killGroup(c.pid)
	}
	c.mu.Unlock()
	<-c.done
}

// Output implements runtime.Instance.
func (c *child) Output() string { return c.out.tail() }

func exitStatus(state *os.ProcessState, err error) (int, error) {
	if state == nil {
		return 0, fmt.Errorf("wait for chaincode: %w", err)
	}
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal()), nil
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
		return 0, fmt.Errorf("wait for chaincode: %w", err)
	}
	return state.ExitCode(), nil
}

// output splits what a child writes into lines, logs them and keeps the last.
type output struct {
	log func(string)

	mu   sync.Mutex // guards everything below
	line []byte
	last []string
}

// Write implements io.Writer; it never fails.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := len(p)
	for {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			o.add(p)
			return n, nil
		}
		o.add(p[:i])
		o.end()
		p = p[i+1:]
	}
}

func (o *output) add(p []byte) {
	if room := maxLine - len(o.line); room > 0 {
		o.line = append(o.line, p[:min(room, len(p))]...)
	}
}

func (o *output) end() {
	line := strings.TrimRight(string(o.line), "\r")
	o.line = o.line[:0]
	if o.log != nil {
		o.log(line)
	}
	if line = strings.TrimSpace(line); line == "" {
		return
	}
	if len(o.last) == tailLines {
		o.last = o.last[1:]
	}
	o.last = append(o.last, line)
}

func (o *output) flush() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.line) > 0 {
		o.end()
	}
}

func (o *output) tail() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := strings.Join(o.last, "\n")
	if len(s) > tailBytes {
		s = s[len(s)-tailBytes:]
	}
	return strings.ToValidUTF8(s, "?")
}
