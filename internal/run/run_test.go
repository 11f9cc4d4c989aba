package run

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/heddle-ledger/heddle/internal/flog"
)

func TestClosersCloseLastFirst(t *testing.T) {
	t.Parallel()
	var order []int
	var c Closers
	for i := range 3 {
		c.Add(func() error {
			order = append(order, i)
			if i == 1 {
				return io.ErrClosedPipe
			}
			return nil
		})
	}
	if err := c.Close(); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("error %v", err)
	}
	if len(order) != 3 || order[0] != 2 || order[2] != 0 {
		t.Errorf("order %v", order)
	}
	if err := c.Close(); err != nil || len(order) != 3 {
		t.Errorf("closed twice: %v, %v", err, order)
	}
}

func TestFailed(t *testing.T) {
	t.Parallel()
	err := Failed(Panic, "open %s: %w", "x", io.EOF)
	var start *StartError
	if !errors.As(err, &start) || start.Severity != Panic || !errors.Is(err, io.EOF) || err.Error() != "open x: EOF" {
		t.Errorf("got %v", err)
	}
}

// lines is a writer that tells when a line has come.
type lines struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
	new chan struct{}
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer func() {
		select {
		case l.new <- struct{}{}:
		default:
		}
	}()
	return l.buf.Write(p)
}

func (l *lines) wait(text string) {
	for {
		l.mu.Lock()
		found := strings.Contains(l.buf.String(), text)
		l.mu.Unlock()
		if found {
			return
		}
		<-l.new
	}
}

func TestHandleSignals(t *testing.T) {
	out := &lines{new: make(chan struct{}, 1)}
	logging, err := flog.New(out, "%{message}", "info")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := HandleSignals(context.Background(), logging.Logger("x"), syscall.SIGUSR2)
	defer stop()
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	out.wait("Received signal: 10 (user defined signal 1)\nGo routines report:\ngoroutine ")
	if ctx.Err() != nil {
		t.Error("a report ended the context")
	}
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
	out.wait("Received signal: 12 (user defined signal 2)")
}
