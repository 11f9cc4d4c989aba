package certwatch_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddle-ledger/heddle/internal/metrics"
	"github.com/heddle-ledger/heddle/internal/testpki"
	"github.com/heddle-ledger/heddle/msp/certwatch"
)

type lines struct {
	mu  sync.Mutex // guards all
	all []string
}

func (l *lines) add(level, format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, level+" "+fmt.Sprintf(format, args...))
}
func (l *lines) Infof(format string, args ...any)    { l.add("I", format, args...) }
func (l *lines) Warningf(format string, args ...any) { l.add("W", format, args...) }

func (l *lines) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer func() { l.all = nil }()
	return l.all
}

func TestReport(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		left time.Duration
		want []string
	}{
		{365 * 24 * time.Hour, []string{"I The server TLS certificate will expire on 2027-05-01 12:00:00 +0000 UTC"}},
		{20*24*time.Hour + time.Hour, []string{
			"I The server TLS certificate will expire on 2026-05-21 13:00:00 +0000 UTC",
			"W Renew the server TLS certificate: it expires on 2026-05-21 13:00:00 +0000 UTC, in 20 days",
		}},
		{3*24*time.Hour + 5*time.Hour, []string{
			"I The server TLS certificate will expire on 2026-05-04 17:00:00 +0000 UTC",
			"W The server TLS certificate expires within 3 days and 5 hours",
			"W Renew the server TLS certificate: it expires on 2026-05-04 17:00:00 +0000 UTC, in 3 days",
		}},
		{-time.Second, []string{
			"W The server TLS certificate has expired",
			"W Renew the server TLS certificate: it expired on 2026-05-01 11:59:59 +0000 UTC",
		}},
	} {
		l := &lines{}
		certwatch.Report(certwatch.ServerTLS, now.Add(tc.left), now, l)
		if got := l.take(); !slices.Equal(got, tc.want) {
			t.Errorf("%v: got %q, want %q", tc.left, got, tc.want)
		}
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &lines{}
		w := certwatch.New(l, metrics.Disabled())
		w.Add(certwatch.Enrollment, time.Now().Add(40*24*time.Hour))
		w.Add(certwatch.ClientTLS, time.Time{})
		w.AddPEM(certwatch.ServerTLS, []byte("nothing"))
		w.AddSerialized(certwatch.ServerTLS, []byte("nothing"))
		l.take()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		time.Sleep(11 * 24 * time.Hour)
		synctest.Wait()
		want := []string{"W Renew the enrollment certificate: it expires on 2000-02-10 00:00:00 +0000 UTC, in 30 days"}
		if got := l.take(); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		time.Sleep(30 * 24 * time.Hour)
		synctest.Wait()
		want = []string{"W The enrollment certificate will expire within one week", "W The enrollment certificate has expired"}
		if got := l.take(); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestAddCertificates(t *testing.T) {
	t.Parallel()
	l := &lines{}
	w := certwatch.New(l, metrics.Disabled())
	org := testpki.NewOrg(t, "Org1MSP")
	w.AddSerialized(certwatch.Enrollment, org.Peer("p").Serialize())
	w.AddPEM(certwatch.ServerTLS, org.TLS("p").CertPEM())
	want := []string{
		"I The enrollment certificate will expire on 2100-01-01 00:00:00 +0000 UTC",
		"I The server TLS certificate will expire on 2100-01-01 00:00:00 +0000 UTC",
	}
	if got := l.take(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
