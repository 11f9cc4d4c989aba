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
	"sync/atomic"

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
	plain    atomic.Bool   // the format is DefaultFormat
	sequence atomic.Uint64 // number of the last line in DefaultFormat
}

// DefaultFormat is the console format of the reference.
const DefaultFormat = "%{color}%{time:2006-01-02 15:04:05.000 MST} [%{module}] %{shortfunc} -> %{level:.4s} %{id:03x}%{color:reset} %{message}"

// New returns the root of a process's loggers. An empty format selects
// DefaultFormat, an empty spec the level INFO.
func New(w io.Writer, format, spec string) (*Logging, error) {
	l, err := flogging.New(flogging.Config{LogSpec: spec, Writer: w})
	if err != nil {
		return nil, fmt.Errorf("configure logging: %w", err)
	}
	out := &Logging{Logging: l}
	if err := out.SetFormat(format); err != nil {
		return nil, fmt.Errorf("configure logging: %w", err)
	}
	return out, nil
}

// GRPC carries the messages of the gRPC library to a log: all at DEBUG, whatever
// the library thinks of them (SURFACE §3.6), so that nothing is built while that
// level is off. It implements grpclog.LoggerV2.
type GRPC struct{ log *zap.SugaredLogger }

// NewGRPC returns the logger for grpclog.SetLoggerV2.
func (l *Logging) NewGRPC() GRPC {
	return GRPC{l.ZapLogger("grpc").WithOptions(zap.AddCallerSkip(2)).Sugar()}
}

func (g GRPC) debug() bool { return g.log.Desugar().Core().Enabled(zapcore.DebugLevel) }

// V tells whether verbose messages are wanted.
func (g GRPC) V(int) bool { return g.debug() }

// Info and all below write at DEBUG, Fatal and its variants at FATAL.
func (g GRPC) Info(args ...any) { g.log.Debug(args...) }

// Infoln writes like Println.
func (g GRPC) Infoln(args ...any) { g.log.Debugln(args...) }

// Infof writes like Printf.
func (g GRPC) Infof(format string, args ...any) { g.log.Debugf(format, args...) }

// Warning writes like Print.
func (g GRPC) Warning(args ...any) { g.log.Debug(args...) }

// Warningln writes like Println.
func (g GRPC) Warningln(args ...any) { g.log.Debugln(args...) }

// Warningf writes like Printf.
func (g GRPC) Warningf(format string, args ...any) { g.log.Debugf(format, args...) }

// Error writes like Print.
func (g GRPC) Error(args ...any) { g.log.Debug(args...) }

// Errorln writes like Println.
func (g GRPC) Errorln(args ...any) { g.log.Debugln(args...) }

// Errorf writes like Printf.
func (g GRPC) Errorf(format string, args ...any) { g.log.Debugf(format, args...) }

// Fatal writes like Print; the library does not go on after it.
func (g GRPC) Fatal(args ...any) { g.log.Fatal(args...) }

// Fatalln writes like Println.
func (g GRPC) Fatalln(args ...any) { g.log.Fatalln(args...) }

// Fatalf writes like Printf.
func (g GRPC) Fatalf(format string, args ...any) { g.log.Fatalf(format, args...) }

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
