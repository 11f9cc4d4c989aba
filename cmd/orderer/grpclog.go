package main

import "go.uber.org/zap"

// grpcLog carries the messages of the gRPC library to the log: all at DEBUG, the
// fatal ones at FATAL (SURFACE §3.6).
type grpcLog struct{ s *zap.SugaredLogger }

func (g grpcLog) Info(args ...any)                  { g.s.Debug(args...) }
func (g grpcLog) Infoln(args ...any)                { g.s.Debug(args...) }
func (g grpcLog) Infof(format string, a ...any)     { g.s.Debugf(format, a...) }
func (g grpcLog) Warning(args ...any)               { g.s.Debug(args...) }
func (g grpcLog) Warningln(args ...any)             { g.s.Debug(args...) }
func (g grpcLog) Warningf(format string, a ...any)  { g.s.Debugf(format, a...) }
func (g grpcLog) Error(args ...any)                 { g.s.Debug(args...) }
func (g grpcLog) Errorln(args ...any)               { g.s.Debug(args...) }
func (g grpcLog) Errorf(format string, args ...any) { g.s.Debugf(format, args...) }
func (g grpcLog) Fatal(args ...any)                 { g.s.Fatal(args...) }
func (g grpcLog) Fatalln(args ...any)               { g.s.Fatal(args...) }
func (g grpcLog) Fatalf(format string, a ...any)    { g.s.Fatalf(format, a...) }

// V tells whether a verbose message is wanted: none is, their level is off.
func (g grpcLog) V(int) bool { return false }
