// Package flog gives every room its logger.
//
// It is a thin wall around fabric-lib-go's flogging, which implements the log
// specification grammar and the line format of the reference (SURFACE §3.6).
// Loggers are passed in, never looked up: a composition root calls New once and
// hands named loggers to the rooms. The package owns no state and starts no
// goroutine. Any package may import it.
package flog

import (
	"fmt"
	"io"

	"github.com/hyperledger/fabric-lib-go/common/flogging"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Logger is a levelled, structured logger with a name that log specifications
// refer to.
type Logger = flogging.FabricLogger

// Logging is the root of a process's loggers; its specification can be changed
// while the process runs.
type Logging struct {
	*flogging.Logging
}

// DefaultFormat is the console format of the reference.
const DefaultFormat = "%{color}%{time:2006-01-02 15:04:05.000 MST} [%{module}] %{shortfunc} -> %{level:.4s} %{id:03x}%{color:reset} %{message}"

// New returns the root of a process's loggers. An empty format selects
// DefaultFormat, an empty spec the level INFO.
func New(w io.Writer, format, spec string) (*Logging, error) {
	if format == "" {
		format = DefaultFormat
	}
	l, err := flogging.New(flogging.Config{Format: format, LogSpec: spec, Writer: w})
	if err != nil {
		return nil, fmt.Errorf("configure logging: %w", err)
	}
	return &Logging{Logging: l}, nil
}

// Root returns the logger without a name from which the rooms' loggers are
// named.
func (l *Logging) Root() *Logger {
	core := l.ZapLogger("root").Core()
	return flogging.NewFabricLogger(flogging.NewZapLogger(core))
}

// Nop returns a logger that drops everything.
func Nop() *Logger {
	return flogging.NewFabricLogger(zap.NewNop())
}

// TB is the part of testing.TB that ForTest needs.
type TB interface {
	Helper()
	Log(args ...any)
}

// ForTest returns a logger that writes to the log of a test, from level DEBUG
// up.
func ForTest(t TB) *Logger {
	enc := zapcore.NewConsoleEncoder(zapcore.EncoderConfig{
		MessageKey: "msg", LevelKey: "level", NameKey: "logger",
		EncodeLevel: zapcore.CapitalLevelEncoder, EncodeDuration: zapcore.StringDurationEncoder,
	})
	core := zapcore.NewCore(enc, testWriter{t}, zapcore.DebugLevel)
	return flogging.NewFabricLogger(zap.New(core))
}

type testWriter struct{ t TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Helper()
	w.t.Log(string(p))
	return len(p), nil
}

func (testWriter) Sync() error { return nil }
