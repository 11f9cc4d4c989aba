// Package ops is the operations endpoint of both daemons: health, version, log
// specification and metrics over HTTP (SURFACE §4).
//
// A Server owns its listener and the goroutines of the HTTP library from Listen
// until Run returns or Close is called, and, with StatsD, one goroutine that
// sends metrics. The composition roots import the package; rooms only see the
// metrics.Provider and register health checkers.
package ops

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/hyperledger/fabric-lib-go/common/metrics/prometheus"
	"github.com/hyperledger/fabric-lib-go/common/metrics/statsd"
	"github.com/hyperledger/fabric-lib-go/common/metrics/statsd/goruntime"
	"github.com/hyperledger/fabric-lib-go/healthz"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	kitstatsd "github.com/go-kit/kit/metrics/statsd"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/metrics"
	"github.com/heddle-ledger/heddle/internal/version"
)

// Limits of the HTTP server.
const (
	readTimeout  = 10 * time.Second
	writeTimeout = 2 * time.Minute
	stopTimeout  = 5 * time.Second
)

// Config configures a Server.
type Config struct {
	ListenAddress string
	TLS           TLS
	Metrics       Metrics
	Logging       *flog.Logging // /logspec reads and changes it
	Log           *flog.Logger
	Listen        func(address string) (net.Listener, error) // nil: TCP
}

// TLS names the files of the endpoint's TLS configuration.
type TLS struct {
	Enabled            bool
	CertFile, KeyFile  string
	ClientAuthRequired bool
	ClientRootCAs      []string
}

// Metrics chooses a metrics provider: "prometheus", "statsd" or "disabled".
type Metrics struct {
	Provider string
	Statsd   Statsd
}

// Statsd configures the StatsD provider.
type Statsd struct {
	Network, Address string
	WriteInterval    time.Duration
	Prefix           string
}

// Server is the operations endpoint.
type Server struct {
	cfg      Config
	listener net.Listener
	http     *http.Server
	mux      *http.ServeMux
	health   *healthz.HealthHandler
	provider metrics.Provider
	sender   func(ctx context.Context) error // sends StatsD metrics, nil without StatsD

	served   chan struct{} // closed when requests are no longer answered; nil before Listen
	serveErr error         // why; to be read when served is closed
}

// New prepares the endpoint; nothing is listened on or sent before Listen and
// Run.
func New(c Config) (*Server, error) {
	s := &Server{cfg: c, mux: http.NewServeMux(), health: healthz.NewHealthHandler()}
	s.chooseProvider()
	s.mux.Handle("/healthz", s.withID(s.health, false))
	s.mux.Handle("/version", s.withID(versionHandler{}, false))
	s.mux.Handle("/logspec", s.withID(&logspecHandler{logging: c.Logging}, true))
	if c.Metrics.Provider == "prometheus" {
		s.mux.Handle("/metrics", s.withID(promhttp.Handler(), true))
	}
	s.http = &http.Server{Handler: s.mux, ReadTimeout: readTimeout, WriteTimeout: writeTimeout}
	if c.Logging != nil && !metrics.IsDisabled(s.provider) {
		c.Logging.SetObserver(newLogObserver(s.provider))
	}
	s.provider.NewGauge(metrics.GaugeOpts{
		Namespace: "fabric", Name: "version", Help: "The active version of Fabric.",
		LabelNames: []string{"version"}, StatsdFormat: "%{#fqname}.%{version}",
	}).With("version", version.Full).Set(1)
	return s, nil
}

func (s *Server) chooseProvider() {
	m := s.cfg.Metrics
	switch m.Provider {
	case "prometheus":
		s.provider = &prometheus.Provider{}
	case "statsd":
		prefix := m.Statsd.Prefix
		if prefix != "" && prefix[len(prefix)-1] != '.' {
			prefix += "."
		}
		sink := kitstatsd.New(prefix, kitLog{s.cfg.Log})
		s.provider = &statsd.Provider{Statsd: sink}
		s.sender = func(ctx context.Context) error { return s.runStatsd(ctx, sink) }
	case "disabled":
		s.provider = metrics.Disabled()
	default:
		s.cfg.Log.Warnf("Unknown provider type: %s; metrics disabled", m.Provider)
		s.provider = metrics.Disabled()
	}
}

// kitLog carries the errors of the StatsD library to our log.
type kitLog struct{ log *flog.Logger }

func (k kitLog) Log(kv ...any) error {
	k.log.Warn(kv...)
	return nil
}

func (s *Server) runStatsd(ctx context.Context, sink *kitstatsd.Statsd) error {
	c := s.cfg.Metrics.Statsd
	interval := c.WriteInterval
	if interval <= 0 {
		interval = 10 * time.Second
	}
	collector := goruntime.NewCollector(s.provider)
	collect, send := time.NewTicker(interval/2), time.NewTicker(interval)
	defer collect.Stop()
	defer send.Stop()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		collector.CollectAndPublish(untilDone(ctx, collect.C))
		return nil
	})
	g.Go(func() error {
		sink.SendLoop(ctx, send.C, c.Network, c.Address)
		return nil
	})
	return g.Wait()
}

// untilDone forwards ticks until ctx ends, then closes its result.
func untilDone(ctx context.Context, ticks <-chan time.Time) <-chan time.Time {
	out := make(chan time.Time)
	go func() {
		defer close(out)
		for {
			select {
			case <-ctx.Done():
				return
			case t := <-ticks:
				select {
				case out <- t:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return out
}

// Provider is where rooms create their metrics.
func (s *Server) Provider() metrics.Provider { return s.provider }

// RegisterChecker adds a component to /healthz.
func (s *Server) RegisterChecker(component string, checker healthz.HealthChecker) error {
	return s.health.RegisterChecker(component, checker)
}

// Listen opens the listener and answers requests from then on, so that a process
// that takes its time to open large ledgers is seen to be alive (ORDERER §2.1
// step 3). Run or Close ends that.
func (s *Server) Listen() error {
	listen := s.cfg.Listen
	if listen == nil {
		listen = func(a string) (net.Listener, error) { return net.Listen("tcp", a) }
	}
	l, err := listen(s.cfg.ListenAddress)
	if err != nil {
		return err
	}
	if s.cfg.TLS.Enabled {
		conf, err := s.tlsConfig()
		if err != nil {
			return errors.Join(err, l.Close())
		}
		l = tls.NewListener(l, conf)
	}
	s.listener, s.served = l, make(chan struct{})
	go func() {
		defer close(s.served)
		s.serveErr = s.http.Serve(l)
	}()
	return nil
}

// Address is what the endpoint listens on, "" before Listen.
func (s *Server) Address() string {
	if s.listener == nil {
		return ""
	}
	return s.listener.Addr().String()
}

func (s *Server) tlsConfig() (*tls.Config, error) {
	t := s.cfg.TLS
	pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	for _, f := range t.ClientRootCAs {
		text, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		pool.AppendCertsFromPEM(text)
	}
	conf := &tls.Config{
		Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12,
		ClientCAs: pool, ClientAuth: tls.VerifyClientCertIfGiven,
	}
	if t.ClientAuthRequired {
		conf.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return conf, nil
}

// Run goes on answering until ctx has ended, then waits up to 5 s for the requests
// in flight. Listen must have succeeded.
func (s *Server) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if <-s.served; !errors.Is(s.serveErr, http.ErrServerClosed) {
			return fmt.Errorf("operations endpoint: %w", s.serveErr)
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		if err := s.http.Shutdown(stop); err != nil {
			return s.http.Close()
		}
		return nil
	})
	if s.sender != nil {
		g.Go(func() error { return s.sender(ctx) })
	}
	return g.Wait()
}

// Close releases the listener of an endpoint, run or not.
func (s *Server) Close() error {
	if s.listener == nil {
		return nil
	}
	err := s.http.Close()
	<-s.served
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
