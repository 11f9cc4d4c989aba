package flog

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/hyperledger/fabric-lib-go/common/flogging"
	"github.com/hyperledger/fabric-lib-go/common/flogging/fabenc"
	"go.uber.org/zap"
	"go.uber.org/zap/buffer"
	"go.uber.org/zap/zapcore"
)

// lineEncoder writes DefaultFormat, in which nodes log every call and every
// transaction, without the general machinery of the library's format verbs. The
// structured fields after the line are the library's.
type lineEncoder struct {
	*fabenc.FormatEncoder
	pool     buffer.Pool
	sequence *atomic.Uint64
	// context tells that fields were added by With.
	context bool
}

// Clone implements zapcore.Encoder; clones get fields of their own.
func (l *lineEncoder) Clone() zapcore.Encoder {
	return &lineEncoder{
		FormatEncoder: l.FormatEncoder.Clone().(*fabenc.FormatEncoder), pool: l.pool, sequence: l.sequence, context: true,
	}
}

// EncodeEntry implements zapcore.Encoder.
func (l *lineEncoder) EncodeEntry(e zapcore.Entry, fields []zapcore.Field) (*buffer.Buffer, error) {
	line := l.pool.Get()
	line.AppendString(colorOf(e.Level))
	line.AppendTime(e.Time, "2006-01-02 15:04:05.000 MST")
	line.AppendString(" [")
	line.AppendString(e.LoggerName)
	line.AppendString("] ")
	line.AppendString(shortFunc(e.Caller))
	line.AppendString(" -> ")
	line.AppendString(shortLevel(e.Level))
	line.AppendByte(' ')
	id := strconv.AppendUint(make([]byte, 0, 16), l.sequence.Add(1), 16)
	for range 3 - len(id) {
		line.AppendByte('0')
	}
	line.AppendBytes(id)
	line.AppendString("\x1b[0m ")
	line.AppendString(strings.TrimRight(e.Message, "\n"))
	if len(fields) == 0 && !l.context {
		line.AppendByte('\n')
		return line, nil
	}
	rest, err := l.Encoder.EncodeEntry(e, fields)
	if err != nil {
		return nil, err
	}
	defer rest.Free()
	if rest.Len() != 1 {
		line.AppendByte(' ')
	}
	line.AppendBytes(rest.Bytes())
	return line, nil
}

func colorOf(l zapcore.Level) string {
	switch l {
	case zapcore.DebugLevel:
		return "\x1b[36m"
	case zapcore.InfoLevel:
		return "\x1b[34m"
	case zapcore.WarnLevel:
		return "\x1b[33m"
	case zapcore.ErrorLevel:
		return "\x1b[31m"
	case zapcore.DPanicLevel, zapcore.PanicLevel, zapcore.FatalLevel:
		return "\x1b[35m"
	}
	return "\x1b[0m"
}

func shortLevel(l zapcore.Level) string {
	s := l.CapitalString()
	if len(s) > 4 {
		s = s[:4]
	}
	return s
}

// shortFunc is the function name after its last dot.
func shortFunc(c zapcore.EntryCaller) string {
	name := c.Function
	if !c.Defined || name == "" {
		return "(unknown)"
	}
	return name[strings.LastIndexByte(name, '.')+1:]
}

// SetFormat changes the format of all loggers (SURFACE §3.6).
func (l *Logging) SetFormat(format string) error {
	if format == "" {
		format = DefaultFormat
	}
	if err := checkFormat(format); err != nil {
		return err
	}
	if err := l.Logging.SetFormat(format); err != nil {
		return err
	}
	l.plain.Store(format == DefaultFormat)
	return nil
}

// checkFormat refuses patterns that the reference refuses: those without any
// verb, and those with an unknown one.
func checkFormat(format string) error {
	if format == "json" || format == "logfmt" {
		return nil
	}
	verbs := regexp.MustCompile(`%\{([a-z]+)(?::[^}]*)?\}`).FindAllStringSubmatch(format, -1)
	if len(verbs) == 0 {
		return fmt.Errorf("Failed to initialized string formatter: logger: invalid log format: %s", format)
	}
	for _, v := range verbs {
		switch v[1] {
		case "color", "id", "level", "message", "module", "shortfunc", "time":
		default:
			return fmt.Errorf("Failed to initialized string formatter: logger: unknown variable: %s", v[1])
		}
	}
	return nil
}

// ZapLogger returns a zap logger with a name.
func (l *Logging) ZapLogger(name string) *zap.Logger {
	return flogging.NewZapLogger(l.core()).Named(name)
}

// Logger returns a logger with a name.
func (l *Logging) Logger(name string) *Logger {
	return flogging.NewFabricLogger(l.ZapLogger(name))
}

// Root returns the logger without a name from which the rooms' loggers are
// named.
func (l *Logging) Root() *Logger {
	return flogging.NewFabricLogger(flogging.NewZapLogger(l.core()))
}

// core is the library's core with a choice of two encoders for lines of text.
func (l *Logging) core() zapcore.Core {
	c := *l.Logging.ZapLogger("core").Core().(*flogging.Core)
	encoders := make(map[flogging.Encoding]zapcore.Encoder, len(c.Encoders)+1)
	for k, e := range c.Encoders {
		encoders[k] = e
	}
	encoders[plainLine] = &lineEncoder{FormatEncoder: fabenc.NewFormatEncoder(), pool: buffer.NewPool(), sequence: &l.sequence}
	c.Encoders, c.Selector = encoders, l
	return &c
}

// plainLine is the encoding of DefaultFormat, beside those of the library.
const plainLine flogging.Encoding = 100

// Encoding implements the library's choice of an encoder.
func (l *Logging) Encoding() flogging.Encoding {
	if l.plain.Load() {
		return plainLine
	}
	return l.Logging.Encoding()
}
