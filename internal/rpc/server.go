package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/metrics"
)

// MaxMessageSize is the largest message in bytes that is sent or received, on
// both sides (SURFACE §2.2).
const MaxMessageSize = 100 * 1024 * 1024

// DefaultConnectionTimeout limits the time a client may take for its handshake.
const DefaultConnectionTimeout = 5 * time.Second

// streamWorkers is the number of goroutines per processor that answer RPCs one
// after the other; their stacks have grown already. RPCs that find all of them
// busy get goroutines of their own.
const streamWorkers = 16

// KeepAlive holds a server's keepalive settings; zero values select the
// defaults of the reference.
type KeepAlive struct {
	MinInterval time.Duration // between pings of a client, default 60 s
	Interval    time.Duration // between pings of the server, default 2 h
	Timeout     time.Duration // for the answer to a ping, default 20 s
}

func (k KeepAlive) options() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: orDefault(k.Interval, 2*time.Hour), Timeout: orDefault(k.Timeout, 20*time.Second),
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
			MinTime: orDefault(k.MinInterval, time.Minute), PermitWithoutStream: true,
		}),
	}
}

func orDefault(d, def time.Duration) time.Duration {
	if d <= 0 {
		return def
	}
	return d
}

// ServerConfig configures a Server.
type ServerConfig struct {
	Name              string // in log lines of failed handshakes: Orderer, PeerServer, ChaincodeServer
	TLS               TLSConfig
	KeepAlive         KeepAlive
	ConnectionTimeout time.Duration // default DefaultConnectionTimeout
	// MaxConcurrent limits the RPCs in flight, streams included; more of them
	// wait. 0 means no limit.
	MaxConcurrent int
	Metrics       *ServerMetrics // nil: none
	// Plain leaves out the interceptors (the chaincode listener has none).
	Plain bool
	Log   *flog.Logger // root logger; names are added here
}

// Server is a gRPC server on one listener.
type Server struct {
	listener net.Listener
	grpc     *grpc.Server
	tls      *serverTLS
	mutual   bool
}

// Listen opens a TCP listener for NewServer. The error is that of the operating
// system, which clients of the reference know ("listen tcp …: bind: …").
func Listen(address string) (net.Listener, error) {
	return net.Listen("tcp", address)
}

// NewServer prepares a server on a listener, which it owns from now on. Nothing
// is served before Serve.
func NewServer(l net.Listener, c ServerConfig) (*Server, error) {
	if c.Log == nil {
		return nil, errors.New("rpc: server without logger")
	}
	s := &Server{listener: l, mutual: c.TLS.Enabled && c.TLS.ClientAuth}
	opts := append(c.KeepAlive.options(),
		grpc.MaxRecvMsgSize(MaxMessageSize), grpc.MaxSendMsgSize(MaxMessageSize), grpc.ForceServerCodecV2(newCodec()),
		grpc.ConnectionTimeout(orDefault(c.ConnectionTimeout, DefaultConnectionTimeout)),
		grpc.InitialWindowSize(1<<20), grpc.InitialConnWindowSize(1<<21),
		grpc.NumStreamWorkers(uint32(streamWorkers*runtime.GOMAXPROCS(0))),
	)
	if c.TLS.Enabled {
		t, err := newServerTLS(c.TLS)
		if err != nil {
			return nil, err
		}
		s.tls = t
		opts = append(opts, grpc.Creds(t.credentials(c)))
	}
	if !c.Plain {
		opts = append(opts, interceptors(c)...)
	}
	s.grpc = grpc.NewServer(opts...)
	return s, nil
}

// GRPC is the gRPC server, for registering services before Serve.
func (s *Server) GRPC() *grpc.Server { return s.grpc }

// Address is the address that the server listens on.
func (s *Server) Address() string { return s.listener.Addr().String() }

// TLSEnabled and MutualTLS tell how clients are connected.
func (s *Server) TLSEnabled() bool { return s.tls != nil }

// MutualTLS tells whether clients must present a verified certificate.
func (s *Server) MutualTLS() bool { return s.mutual }

// SetClientRoots replaces the certificate authorities (PEM texts) of client
// certificates; it concerns handshakes from now on. Without TLS it does nothing.
func (s *Server) SetClientRoots(roots [][]byte) error {
	if s.tls == nil {
		return nil
	}
	return s.tls.setClientRoots(roots)
}

// Serve answers RPCs until ctx has ended, then gives those in flight the grace
// period to finish and cuts the rest. It returns nil after a stop by ctx.
func (s *Server) Serve(ctx context.Context, grace time.Duration) error {
	done := make(chan error, 1)
	go func() { done <- s.grpc.Serve(s.listener) }()
	select {
	case err := <-done:
		return fmt.Errorf("serve %s: %w", s.Address(), err)
	case <-ctx.Done():
	}
	s.stop(grace)
	<-done
	return nil
}

func (s *Server) stop(grace time.Duration) {
	if grace <= 0 {
		s.grpc.Stop()
		return
	}
	finished := make(chan struct{})
	go func() {
		s.grpc.GracefulStop()
		close(finished)
	}()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-finished:
	case <-timer.C:
		s.grpc.Stop()
		<-finished
	}
}

// Close releases a server, served or not.
func (s *Server) Close() error {
	s.grpc.Stop()
	if err := s.listener.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// ServerMetrics are the metrics that all servers of a process share
// (SURFACE §4.1).
type ServerMetrics struct {
	connOpened, connClosed               metrics.Counter
	unaryReceived, unaryCompleted        metrics.Counter
	streamReceived, streamCompleted      metrics.Counter
	messagesReceived, messagesSent       metrics.Counter
	unaryDuration, streamRequestDuration metrics.Histogram
}

// NewServerMetrics creates the metrics at a provider; nil if it is disabled.
func NewServerMetrics(p metrics.Provider) *ServerMetrics {
	if metrics.IsDisabled(p) {
		return nil
	}
	serverCounter := func(name, help string, labels ...string) metrics.Counter {
		return p.NewCounter(metrics.CounterOpts{
			Namespace: "grpc", Subsystem: "server", Name: name, Help: help, LabelNames: labels, StatsdFormat: statsd(labels),
		})
	}
	duration := func(name, help string) metrics.Histogram {
		labels := []string{"service", "method", "code"}
		return p.NewHistogram(metrics.HistogramOpts{
			Namespace: "grpc", Subsystem: "server", Name: name, Help: help, LabelNames: labels, StatsdFormat: statsd(labels),
		})
	}
	conn := func(name, help string) metrics.Counter {
		return p.NewCounter(metrics.CounterOpts{Namespace: "grpc", Subsystem: "comm", Name: name, Help: help})
	}
	return &ServerMetrics{
		connOpened:            conn("conn_opened", "gRPC connections opened. Open minus closed is the active number of connections."),
		connClosed:            conn("conn_closed", "gRPC connections closed. Open minus closed is the active number of connections."),
		unaryReceived:         serverCounter("unary_requests_received", "The number of unary requests received.", "service", "method"),
		unaryCompleted:        serverCounter("unary_requests_completed", "The number of unary requests completed.", "service", "method", "code"),
		streamReceived:        serverCounter("stream_requests_received", "The number of stream requests received.", "service", "method"),
		streamCompleted:       serverCounter("stream_requests_completed", "The number of stream requests completed.", "service", "method", "code"),
		messagesReceived:      serverCounter("stream_messages_received", "The number of stream messages received.", "service", "method"),
		messagesSent:          serverCounter("stream_messages_sent", "The number of stream messages sent.", "service", "method"),
		unaryDuration:         duration("unary_request_duration", "The time to complete a unary request."),
		streamRequestDuration: duration("stream_request_duration", "The time to complete a stream request."),
	}
}

// statsd is the name pattern of a metric: %{#fqname} and its labels in order.
func statsd(labels []string) string {
	f := "%{#fqname}"
	for _, l := range labels {
		f += ".%{" + l + "}"
	}
	return f
}
