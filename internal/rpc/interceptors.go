package rpc

import (
	"context"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/heddle-ledger/heddle/internal/flog"
)

// payloadLevel is the level below DEBUG at which messages themselves are logged
// (SURFACE §3.6).
const payloadLevel = zapcore.Level(-2)

// interceptors are metrics, logging and throttling, in this order.
func interceptors(c ServerConfig) []grpc.ServerOption {
	var unary []grpc.UnaryServerInterceptor
	var stream []grpc.StreamServerInterceptor
	var opts []grpc.ServerOption
	if m := c.Metrics; m != nil {
		unary, stream = append(unary, m.unary), append(stream, m.stream)
		opts = append(opts, grpc.StatsHandler(connStats{m}))
	}
	l := newCallLog(c.Log)
	unary, stream = append(unary, l.unary), append(stream, l.stream)
	if c.MaxConcurrent > 0 {
		t := throttle(make(chan struct{}, c.MaxConcurrent))
		unary, stream = append(unary, t.unary), append(stream, t.stream)
	}
	return append(opts, grpc.ChainUnaryInterceptor(unary...), grpc.ChainStreamInterceptor(stream...))
}

// splitMethod cuts "/package.Service/Method".
func splitMethod(full string) (service, method string) {
	service, method, _ = strings.Cut(strings.TrimPrefix(full, "/"), "/")
	return service, method
}

func metricLabels(full string) []string {
	service, method := splitMethod(full)
	return []string{"service", strings.ReplaceAll(service, ".", "_"), "method", method}
}

func (m *ServerMetrics) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	labels := metricLabels(info.FullMethod)
	m.unaryReceived.With(labels...).Add(1)
	begin := time.Now()
	resp, err := next(ctx, req)
	labels = append(labels, "code", status.Code(err).String())
	m.unaryCompleted.With(labels...).Add(1)
	m.unaryDuration.With(labels...).Observe(time.Since(begin).Seconds())
	return resp, err
}

func (m *ServerMetrics) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	labels := metricLabels(info.FullMethod)
	m.streamReceived.With(labels...).Add(1)
	begin := time.Now()
	err := next(srv, &countedStream{
		ServerStream: ss,
		received:     func() { m.messagesReceived.With(labels[:4]...).Add(1) },
		sent:         func() { m.messagesSent.With(labels[:4]...).Add(1) },
	})
	done := append(labels[:4:4], "code", status.Code(err).String())
	m.streamCompleted.With(done...).Add(1)
	m.streamRequestDuration.With(done...).Observe(time.Since(begin).Seconds())
	return err
}

// countedStream reports the messages that went through a stream.
type countedStream struct {
	grpc.ServerStream
	received, sent func()
}

func (c *countedStream) SendMsg(m any) error {
	err := c.ServerStream.SendMsg(m)
	if err == nil {
		c.sent()
	}
	return err
}

func (c *countedStream) RecvMsg(m any) error {
	err := c.ServerStream.RecvMsg(m)
	if err == nil {
		c.received()
	}
	return err
}

// connStats counts connections.
type connStats struct{ m *ServerMetrics }

func (connStats) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (connStats) HandleRPC(context.Context, stats.RPCStats)                         {}
func (connStats) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

func (c connStats) HandleConn(_ context.Context, s stats.ConnStats) {
	switch s.(type) {
	case *stats.ConnBegin:
		c.m.connOpened.Add(1)
	case *stats.ConnEnd:
		c.m.connClosed.Add(1)
	}
}

// callLog writes one line at the end of every RPC.
type callLog struct {
	log     flog.Hot
	payload *zap.Logger
}

func newCallLog(root *flog.Logger) callLog {
	log := root.Named("comm.grpc.server")
	return callLog{
		log:     flog.NewHot(log, callLog.unary),
		payload: log.Named("payload").Zap(),
	}
}

func (c callLog) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	c.message("received unary request", ctx, info.FullMethod, req)
	begin := time.Now()
	resp, err := next(ctx, req)
	if err == nil {
		c.message("sending unary response", ctx, info.FullMethod, resp)
	}
	if ce := c.log.Check(zapcore.InfoLevel, "unary call completed"); ce != nil {
		ce.Write(callFields(ctx, info.FullMethod, err, time.Since(begin))...)
	}
	return resp, err
}

func (c callLog) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	begin := time.Now()
	if c.payload.Core().Enabled(payloadLevel) {
		ss = &loggedStream{ServerStream: ss, c: c, method: info.FullMethod}
	}
	err := next(srv, ss)
	if ce := c.log.Check(zapcore.InfoLevel, "streaming call completed"); ce != nil {
		ce.Write(callFields(ss.Context(), info.FullMethod, err, time.Since(begin))...)
	}
	return err
}

func (c callLog) message(text string, ctx context.Context, method string, m any) {
	if ce := c.payload.Check(payloadLevel, text); ce != nil {
		ce.Write(append(requestFields(ctx, method), zap.Reflect("message", m))...)
	}
}

// loggedStream logs the messages of a stream at payload level.
type loggedStream struct {
	grpc.ServerStream
	c      callLog
	method string
}

func (l *loggedStream) SendMsg(m any) error {
	l.c.message("sending stream message", l.Context(), l.method, m)
	return l.ServerStream.SendMsg(m)
}

func (l *loggedStream) RecvMsg(m any) error {
	err := l.ServerStream.RecvMsg(m)
	if err == nil {
		l.c.message("received stream message", l.Context(), l.method, m)
	}
	return err
}

func requestFields(ctx context.Context, full string) []zap.Field {
	service, method := splitMethod(full)
	fields := make([]zap.Field, 0, 8)
	fields = append(fields, zap.String("grpc.service", service), zap.String("grpc.method", method))
	if d, ok := ctx.Deadline(); ok {
		fields = append(fields, zap.Time("grpc.request_deadline", d))
	}
	if a := PeerAddress(ctx); a != "" {
		fields = append(fields, zap.String("grpc.peer_address", a))
	}
	if cert := PeerCertificate(ctx); cert != nil {
		fields = append(fields, zap.String("grpc.peer_subject", cert.Subject.String()))
	}
	return fields
}

func callFields(ctx context.Context, full string, err error, d time.Duration) []zap.Field {
	fields := requestFields(ctx, full)
	if err != nil {
		fields = append(fields, zap.Error(err))
	}
	return append(fields, zap.Stringer("grpc.code", status.Code(err)), zap.Duration("grpc.call_duration", d))
}

// throttle limits the RPCs in flight; a full one makes callers wait.
type throttle chan struct{}

func (t throttle) enter(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
}

func (t throttle) unary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if err := t.enter(ctx); err != nil {
		return nil, err
	}
	defer func() { <-t }()
	return next(ctx, req)
}

func (t throttle) stream(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	if err := t.enter(ss.Context()); err != nil {
		return err
	}
	defer func() { <-t }()
	return next(srv, ss)
}
