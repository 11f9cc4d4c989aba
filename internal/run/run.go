// Package run is what the two daemons share in starting and ending: how a
// failure to start ends the process, what was opened and must be closed, and
// signals.
//
// It owns no state. HandleSignals starts one goroutine, which ends with its
// context. The composition roots and cmd import it.
package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/pprof"
	"slices"
	"strings"
	"syscall"

	"github.com/heddle-ledger/heddle/internal/flog"
)

// Severity says how the reference ends when a part fails to start.
type Severity int

// The ways to end (SURFACE §1.6, ORDERER §2.1).
const (
	Plain Severity = iota // "Error: ..." and exit code 1
	Fatal                 // a FATAL line in the log and exit code 1
	Panic                 // "panic: ..." and exit code 2
)

// StartError is a failure to start.
type StartError struct {
	Severity Severity
	Err      error
}

func (e *StartError) Error() string { return e.Err.Error() }
func (e *StartError) Unwrap() error { return e.Err }

// Failed returns a StartError with a text as of fmt.Errorf.
func Failed(s Severity, format string, args ...any) error {
	return &StartError{Severity: s, Err: fmt.Errorf(format, args...)}
}

// Closers are the things that a composition root has opened.
type Closers struct{ list []func() error }

// Add puts one more on top.
func (c *Closers) Add(f func() error) { c.list = append(c.list, f) }

// Close closes all, last first, and forgets them.
func (c *Closers) Close() error {
	var errs []error
	for _, f := range slices.Backward(c.list) {
		errs = append(errs, f())
	}
	c.list = nil
	return errors.Join(errs...)
}

// HandleSignals ends the context it returns on one of the signals stop, and
// writes a report of all goroutines to the log on SIGUSR1 (SURFACE §1.2).
func HandleSignals(ctx context.Context, log *flog.Logger, stop ...os.Signal) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, append(stop, syscall.SIGUSR1)...)
	go func() {
		defer signal.Stop(signals)
		for {
			select {
			case <-ctx.Done():
				return
			case s := <-signals:
				log.Infof("Received signal: %d (%s)", s, s)
				if s != syscall.SIGUSR1 {
					cancel()
					return
				}
				dumpGoroutines(log)
			}
		}
	}()
	return ctx, cancel
}

func dumpGoroutines(log *flog.Logger) {
	var text strings.Builder
	if err := pprof.Lookup("goroutine").WriteTo(&text, 2); err != nil {
		log.Errorf("dump goroutines: %s", err)
		return
	}
	log.Infof("Go routines report:\n%s", text.String())
}
