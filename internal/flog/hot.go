package flog

import (
	"fmt"
	"reflect"
	"runtime"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Hot writes lines that come with every call or transaction. The function name
// that the line shows is fixed, so that the stack need not be looked at.
type Hot struct {
	log    *zap.Logger
	caller zapcore.EntryCaller
}

// NewHot returns a writer of lines that come from a function, given as a function
// value or method expression.
func NewHot(l *Logger, function any) Hot {
	pc := reflect.ValueOf(function).Pointer()
	fn := runtime.FuncForPC(pc)
	file, line := fn.FileLine(pc)
	return Hot{
		log:    l.Zap().WithOptions(zap.WithCaller(false)),
		caller: zapcore.EntryCaller{Defined: true, PC: pc, Function: fn.Name(), File: file, Line: line},
	}
}

// Infof writes like Printf at INFO; the text is built only if that level is on.
func (h Hot) Infof(format string, args ...any) {
	if ce := h.Check(zapcore.InfoLevel, ""); ce != nil {
		ce.Message = fmt.Sprintf(format, args...)
		ce.Write()
	}
}

// Check returns an entry to be completed with fields and written, or nil if the
// level is off.
func (h Hot) Check(level zapcore.Level, msg string) *zapcore.CheckedEntry {
	ce := h.log.Check(level, msg)
	if ce != nil {
		ce.Caller = h.caller
	}
	return ce
}
