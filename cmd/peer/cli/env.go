// Package cli is what all client commands of `peer` share: the environment they
// run in, connections to peers and orderers, and the Deliver and Broadcast calls
// (SURFACE §1.1, §1.5).
//
// An Env belongs to one run of the command. The package starts goroutines only
// for the time of a call. The command groups import it.
package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/heddle-ledger/heddle/internal/config"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/msp"
	"github.com/heddle-ledger/heddle/msp/x509msp"
)

// Env is the environment of one command.
type Env struct {
	Stdout, Stderr io.Writer
	Logging        *flog.Logging
	// LogFormat is FABRIC_LOGGING_FORMAT; it takes effect once the
	// configuration has been read.
	LogFormat string
	// LegacyLevel tells that CORE_LOGGING_LEVEL is set, which is ignored.
	LegacyLevel bool

	// Core and MSP are there once InitCmd has succeeded. Signatures is the
	// memory of good signatures of the MSP, which the daemon shares with its
	// channels.
	Core       *config.Core
	MSP        *x509msp.Local
	Signatures *msp.SignatureCache
}

// signatureCacheBytes bounds the memory of good signatures.
const signatureCacheBytes = 32 << 20

// Exit ends the process with a code; nothing more is printed than was printed
// already.
type Exit struct{ Code int }

func (e *Exit) Error() string { return fmt.Sprintf("exit code %d", e.Code) }

// Panic is a failure that the reference reports by a panic: exit code 2 and a
// line that starts with "panic: ".
type Panic struct{ Err error }

func (p *Panic) Error() string { return p.Err.Error() }
func (p *Panic) Unwrap() error { return p.Err }

// Logger returns a named logger.
func (e *Env) Logger(name string) *flog.Logger { return e.Logging.Logger(name) }

// Signer is the user's identity.
func (e *Env) Signer() msp.SigningIdentity { return e.MSP.SigningIdentity() }

// InitCmd reads the configuration, sets up logging and loads the user's MSP, in
// this order; a failure is a line in the log, not an error text (SURFACE §1.1).
// The name of the method is part of that line.
func (e *Env) InitCmd(cmd *cobra.Command, _ []string) error {
	log := e.Logger("main")
	core, err := config.LoadCore()
	if err != nil {
		log.Errorf("Fatal error when initializing core config : %s", err)
		return &Exit{Code: 1}
	}
	e.Core = core
	if e.LogFormat != "" {
		if err := e.Logging.SetFormat(e.LogFormat); err != nil {
			return &Panic{err}
		}
	}
	e.warnLegacyLevel(cmd, log)
	if err := e.loadMSP(); err != nil {
		log.Errorf("Cannot run peer because %s", err)
		return &Exit{Code: 1}
	}
	return nil
}

func (e *Env) warnLegacyLevel(cmd *cobra.Command, log *flog.Logger) {
	if f := cmd.Flag("logging-level"); e.LegacyLevel || f != nil && f.Changed {
		log.Warning("CORE_LOGGING_LEVEL is no longer supported, please use the FABRIC_LOGGING_SPEC environment variable")
	}
}

func (e *Env) loadMSP() error {
	p := e.Core.Peer
	dir, err := filepath.Abs(p.MSPConfigPath)
	if err != nil {
		return err
	}
	if _, err := os.Stat(dir); err != nil {
		return fmt.Errorf("cannot init crypto, folder \"%s\" does not exist", dir)
	}
	if p.LocalMSPID == "" {
		return errors.New("the local MSP must have an ID")
	}
	kind := p.LocalMSPType
	if kind == "" {
		kind = "bccsp"
	}
	wrap := func(err error) error {
		return fmt.Errorf("error when setting up MSP of type %s from directory %s: %w", kind, dir, err)
	}
	e.Signatures = msp.NewSignatureCache(signatureCacheBytes)
	e.MSP, err = x509msp.LoadLocal(x509msp.LocalConfig{
		Dir: dir, MSPID: p.LocalMSPID, Type: kind, BCCSP: p.BCCSP, Signatures: e.Signatures, Log: e.Logging.Root(),
	})
	if err != nil {
		return wrap(err)
	}
	return nil
}

// Checked ends the part of a command in which an error is followed by the usage
// text.
func Checked(cmd *cobra.Command) { cmd.SilenceUsage = true }

// IsChecked tells whether Checked was called.
func IsChecked(cmd *cobra.Command) bool { return cmd.SilenceUsage }
