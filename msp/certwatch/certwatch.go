// Package certwatch tells of certificates that will expire (IDENTITY-CONFIG §2.7).
//
// Watch logs what the reference logs, at start and one week before the end, and beyond it warns from thirty
// days on and keeps a gauge. The package owns no state beside the gauge; Run of a Watch is the one
// goroutine, started and ended by its caller. Both daemons' composition roots import it.
package certwatch

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"time"

	mspproto "github.com/hyperledger/fabric-protos-go-apiv2/msp"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/metrics"
)

// The roles of certificates in the log.
const (
	Enrollment = "enrollment"
	ServerTLS  = "server TLS"
	ClientTLS  = "client TLS"
)

const (
	day   = 24 * time.Hour
	week  = 7 * day
	month = 30 * day
	// timeLayout is how the reference prints times: the default format of Go in UTC.
	timeLayout = "2006-01-02 15:04:05 -0700 MST"
)

// Logger is the part of a logger that this package needs.
type Logger interface {
	Infof(format string, args ...any)
	Warningf(format string, args ...any)
}

// Watch is a set of certificates to keep an eye on.
type Watch struct {
	log   Logger
	gauge metrics.Gauge
	now   func() time.Time
	certs []watched
}

type watched struct {
	role string
	end  time.Time
}

// New returns an empty Watch.
func New(log Logger, p metrics.Provider) *Watch {
	g := p.NewGauge(metrics.GaugeOpts{
		Namespace: "heddle", Subsystem: "certificate", Name: "expiry_seconds",
		Help:       "The time until a certificate of this node expires, in seconds.",
		LabelNames: []string{"role"}, StatsdFormat: "%{#fqname}.%{role}",
	})
	return &Watch{log: log, gauge: g, now: time.Now}
}

// AddPEM watches a certificate in PEM and says at once how it stands. What cannot be read is not watched.
func (w *Watch) AddPEM(role string, raw []byte) {
	block, _ := pem.Decode(raw)
	if block == nil {
		return
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return
	}
	w.Add(role, c.NotAfter)
}

// AddSerialized watches the certificate of a serialized identity, normally the node's own.
func (w *Watch) AddSerialized(role string, identity []byte) {
	sid := &mspproto.SerializedIdentity{}
	if proto.Unmarshal(identity, sid) == nil {
		w.AddPEM(role, sid.IdBytes)
	}
}

// Add watches a certificate that ends at end; zero means never.
func (w *Watch) Add(role string, end time.Time) {
	if end.IsZero() {
		return
	}
	w.certs = append(w.certs, watched{role, end})
	Report(role, end, w.now(), w.log)
	w.gauge.With("role", role).Set(end.Sub(w.now()).Seconds())
}

// Report logs how a certificate stands at now: the reference's lines and, from thirty days before the end on,
// one with the date.
func Report(role string, end, now time.Time, log Logger) {
	left := end.Sub(now)
	at := end.UTC().Format(timeLayout)
	if left < 0 {
		log.Warningf("The %s certificate has expired", role)
		log.Warningf("Renew the %s certificate: it expired on %s", role, at)
		return
	}
	log.Infof("The %s certificate will expire on %s", role, at)
	days := left / day
	if left < week {
		log.Warningf("The %s certificate expires within %d days and %d hours", role, days, (left-days*day)/time.Hour)
	}
	if left < month {
		log.Warningf("Renew the %s certificate: it expires on %s, in %d days", role, at, days)
	}
}

// Run keeps the gauge up to date and gives notice one week before each end, until ctx ends.
func (w *Watch) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	last := w.now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := w.now()
		for _, c := range w.certs {
			w.gauge.With("role", c.role).Set(c.end.Sub(now).Seconds())
			for _, notice := range []struct {
				at   time.Duration
				text string
			}{{week, "The %s certificate will expire within one week"}, {0, "The %s certificate has expired"}} {
				if at := c.end.Add(-notice.at); at.After(last) && !at.After(now) {
					w.log.Warningf(notice.text, c.role)
				}
			}
			if at := c.end.Add(-month); at.After(last) && !at.After(now) {
				w.log.Warningf("Renew the %s certificate: it expires on %s, in 30 days", c.role, c.end.UTC().Format(timeLayout))
			}
		}
		last = now
	}
}
