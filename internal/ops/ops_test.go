package ops

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/heddle-ledger/heddle/internal/cryptogen"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/version"
)

// start runs an endpoint for the time of the test.
func start(t *testing.T, c Config) *Server {
	t.Helper()
	logging, err := flog.New(io.Discard, "", "info")
	if err != nil {
		t.Fatal(err)
	}
	c.ListenAddress, c.Logging, c.Log = "127.0.0.1:0", logging, flog.ForTest(t)
	if c.Metrics.Provider == "" {
		c.Metrics.Provider = "disabled"
	}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

func call(t *testing.T, client *http.Client, method, url, body string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(text)
}

// TestRecordedRequests follows the requests recorded from the reference, in
// their order.
func TestRecordedRequests(t *testing.T) {
	t.Parallel()
	base := "http://" + start(t, Config{}).Address()
	cases := []struct {
		method, path, in string
		code             int
		kind, body       string
	}{
		{"GET", "/version", "", 200, "application/json", `{"CommitSHA":"` + version.CommitSHA + `","Version":"` + version.Full + `"}`},
		{"POST", "/version", "", 400, "application/json", `{"Error":"invalid request method: POST"}`},
		{"GET", "/logspec", "", 200, "application/json", "{\"spec\":\"info\"}\n"},
		{"GET", "/nosuch", "", 404, "text/plain; charset=utf-8", "404 page not found\n"},
		{"GET", "/metrics", "", 404, "text/plain; charset=utf-8", "404 page not found\n"},
		{"POST", "/healthz", "", 405, "", ""},
		{"POST", "/logspec", "", 400, "application/json", "{\"error\":\"invalid request method: POST\"}\n"},
		{"PUT", "/logspec", `{"spec":"bogus"}`, 400, "application/json", "{\"error\":\"invalid logging specification 'bogus': bad segment 'bogus'\"}\n"},
		{"PUT", "/logspec", `{"spec":"gossip=debug:msp.x,a.b=warning:info"}`, 204, "", ""},
		{"GET", "/logspec", "", 200, "application/json", "{\"spec\":\"a.b=warn:gossip=debug:msp.x=warn:info\"}\n"},
		{"PUT", "/logspec", `{}`, 204, "", ""},
		{"GET", "/logspec", "", 200, "application/json", "{\"spec\":\"info\"}\n"},
		{"PUT", "/logspec", `x`, 400, "application/json", "{\"error\":\"invalid character 'x' looking for beginning of value\"}\n"},
		{"PUT", "/logspec", `{"spec":"=debug"}`, 400, "application/json", "{\"error\":\"invalid logging specification '=debug': no logger specified in segment '=debug'\"}\n"},
		{"PUT", "/logspec", `{"spec":".x=debug"}`, 400, "application/json", "{\"error\":\"invalid logging specification '.x=debug': bad logger name '.x'\"}\n"},
		{"PUT", "/logspec", `{"spec":"x=NOTICE:error:critical"}`, 204, "", ""},
		{"GET", "/logspec", "", 200, "application/json", "{\"spec\":\"x=info:error\"}\n"},
	}
	for _, tc := range cases {
		resp, body := call(t, http.DefaultClient, tc.method, base+tc.path, tc.in)
		if resp.StatusCode != tc.code || body != tc.body || resp.Header.Get("Content-Type") != tc.kind {
			t.Errorf("%s %s: got %d %q %q, want %d %q %q", tc.method, tc.path, resp.StatusCode, resp.Header.Get("Content-Type"), body, tc.code, tc.kind, tc.body)
		}
	}
}

func TestRequestID(t *testing.T) {
	t.Parallel()
	base := "http://" + start(t, Config{}).Address()
	req, err := http.NewRequest("GET", base+"/version", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Request-ID", "abc")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got := resp.Header.Get("X-Request-Id"); got != "abc" {
		t.Errorf("request id %q", got)
	}
	resp, _ = call(t, http.DefaultClient, "GET", base+"/version", "")
	if id := resp.Header.Get("X-Request-Id"); !regexp.MustCompile(`^[0-9a-f-]{36}$`).MatchString(id) {
		t.Errorf("made-up request id %q", id)
	}
}

type sick struct{}

func (sick) HealthCheck(context.Context) error { return errors.New("no pulse") }

func TestHealth(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	base := "http://" + s.Address()
	resp, body := call(t, http.DefaultClient, "GET", base+"/healthz", "")
	if resp.StatusCode != 200 || !strings.HasPrefix(body, `{"status":"OK","time":"`) {
		t.Errorf("healthy: %d %s", resp.StatusCode, body)
	}
	if err := s.RegisterChecker("docker", sick{}); err != nil {
		t.Fatal(err)
	}
	resp, body = call(t, http.DefaultClient, "GET", base+"/healthz", "")
	if resp.StatusCode != 503 || !strings.Contains(body, `"failed_checks":[{"component":"docker","reason":"no pulse"}]`) {
		t.Errorf("sick: %d %s", resp.StatusCode, body)
	}
}

func TestPrometheus(t *testing.T) {
	base := "http://" + start(t, Config{Metrics: Metrics{Provider: "prometheus"}}).Address()
	resp, body := call(t, http.DefaultClient, "POST", base+"/metrics", "")
	if resp.StatusCode != 200 || !strings.Contains(body, `fabric_version{version="`+version.Full+`"} 1`) {
		t.Errorf("%d %.300s", resp.StatusCode, body)
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n := &cryptogen.Network{PeerOrgs: []cryptogen.Org{{Domain: "o.example", Specs: []cryptogen.Node{{Hostname: "p", SANS: []string{"127.0.0.1"}}}}}}
	if err := cryptogen.Generate(n, dir, io.Discard); err != nil {
		t.Fatal(err)
	}
	base := filepath.Join(dir, "peerOrganizations", "o.example")
	server, user := filepath.Join(base, "peers", "p.o.example", "tls"), filepath.Join(base, "users", "Admin@o.example", "tls")
	s := start(t, Config{TLS: TLS{
		Enabled: true, CertFile: filepath.Join(server, "server.crt"), KeyFile: filepath.Join(server, "server.key"),
		ClientRootCAs: []string{filepath.Join(server, "ca.crt")},
	}})
	roots := x509.NewCertPool()
	ca, err := os.ReadFile(filepath.Join(server, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots.AppendCertsFromPEM(ca)
	pair, err := tls.LoadX509KeyPair(filepath.Join(user, "client.crt"), filepath.Join(user, "client.key"))
	if err != nil {
		t.Fatal(err)
	}
	client := func(certs ...tls.Certificate) *http.Client {
		return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: certs}}}
	}
	url := "https://" + s.Address()
	for _, tc := range []struct {
		client *http.Client
		path   string
		code   int
	}{
		{client(), "/healthz", 200},
		{client(), "/version", 200},
		{client(), "/logspec", 401},
		{client(pair), "/logspec", 200},
		{client(pair), "/healthz", 200},
	} {
		resp, body := call(t, tc.client, "GET", url+tc.path, "")
		if resp.StatusCode != tc.code || tc.code == 401 && body != "" {
			t.Errorf("%s: %d %q, want %d", tc.path, resp.StatusCode, body, tc.code)
		}
	}
}

func TestListenFailure(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	other, err := New(Config{ListenAddress: s.Address(), Metrics: Metrics{Provider: "disabled"}, Log: flog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Listen(); err == nil || !strings.HasPrefix(err.Error(), "listen tcp ") {
		t.Errorf("port in use: %v", err)
	}
}

func TestUnknownProviderWarns(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	logging, err := flog.New(&out, "%{message}", "info")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{Metrics: Metrics{Provider: "foo"}, Logging: logging, Log: logging.Logger("orderer.operations")}); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); got != "Unknown provider type: foo; metrics disabled\n" {
		t.Errorf("logged %q", got)
	}
}

// TestAnswersFromListenOn: a daemon that is still opening its ledgers is alive,
// and one that never gets to Run leaves nothing behind.
func TestAnswersFromListenOn(t *testing.T) {
	t.Parallel()
	s, err := New(Config{ListenAddress: "127.0.0.1:0", Metrics: Metrics{Provider: "disabled"}, Log: flog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	if resp, _ := call(t, http.DefaultClient, http.MethodGet, "http://"+s.Address()+"/healthz", ""); resp.StatusCode != http.StatusOK {
		t.Errorf("status %s", resp.Status)
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := http.Get("http://" + s.Address() + "/healthz"); err == nil {
		t.Error("still answers")
	}
}
