package couchdb

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/metrics"
	"github.com/heddle-ledger/heddle/ledger/state"
)

// firstWait is the time before the first repetition of a request; it doubles
// from one to the next (LEDGER §5.10).
const firstWait = 125 * time.Millisecond

// Bounds of answers in bytes. A page or group that is too large is asked for
// again in parts.
const (
	maxAnswer      = 256 << 20
	maxShortAnswer = 16 << 20
)

// Bounds of connections to the server.
const (
	maxIdleConns = 64
	maxConns     = 256
)

// client sends requests to one server.
type client struct {
	base       url.URL // scheme and host
	user, pass string
	http       *http.Client
	retries    int
	maxAnswer  int64
	readOnly   bool // refuses what may change anything
	log        *flog.Logger
	time       metrics.Histogram // nil if metrics are disabled
	ending
}

// ending tells a client in what haste it is.
type ending struct {
	closed   <-chan struct{}    // ends waits between repetitions
	stopping <-chan struct{}    // so does this; from then on nothing is repeated
	inFlight context.Context    // ends some time after stopping, and all requests with it
	end      context.CancelFunc // of inFlight
}

// lastRequests is the time that requests under way have when the program stops.
const lastRequests = 5 * time.Second

// newEnding follows ctx, the program's life, and closed, the provider's.
func newEnding(ctx context.Context, closed <-chan struct{}) ending {
	inFlight, end := context.WithCancel(context.WithoutCancel(ctx))
	context.AfterFunc(ctx, func() {
		late := time.AfterFunc(lastRequests, end)
		context.AfterFunc(inFlight, func() { late.Stop() })
	})
	return ending{closed: closed, stopping: ctx.Done(), inFlight: inFlight, end: end}
}

// request is one request. Method, path and headers are the reference's (vector
// couchdb_http_trace.json).
type request struct {
	function string // as the metric names it
	database string
	method   string
	path     []string // after the database
	query    url.Values
	body     []byte
	ifMatch  string
	retries  int
	max      int64 // of the answer; 0 means maxShortAnswer
	discard  bool  // of the answer, only the status matters
}

// answer is what the server says to a request that it does not refuse.
type answer struct {
	header http.Header
	body   []byte
}

// serverError is a request that CouchDB refuses.
type serverError struct {
	status       int
	code, reason string
	// foreign is set if it is not CouchDB that answers: what stands in front of it
	// may have pages of its own for a server that is away.
	foreign bool
}

func (e *serverError) Error() string {
	return fmt.Sprintf("error handling CouchDB request. Error:%s,  Status Code:%v,  Reason:%s", e.code, e.status, e.reason)
}

// refused tells whether an error is CouchDB's answer with a given status.
func refused(err error, status int) bool {
	var e *serverError
	return errors.As(err, &e) && e.status == status && !e.foreign
}

// passing tells whether the same request may be answered otherwise later.
func (e *serverError) passing() bool {
	switch e.status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests:
		return true
	case http.StatusNotFound:
		return e.foreign
	}
	return e.status >= http.StatusInternalServerError
}

// errTransport is in errors of requests that got no answer, or not all of it.
var errTransport = errors.New("http error calling couchdb")

// told marks errors that are no verdict on the request.
func (c *client) told(err error) error {
	var e *serverError
	if errors.As(err, &e) && e.passing() || errors.Is(err, errTransport) {
		return &state.UnreachableError{Answered: e != nil && !e.foreign, Err: err}
	}
	return err
}

var errTooLarge = errors.New("the answer of CouchDB is too large")

func newClient(cfg *Config, transport http.RoundTripper, life ending) (*client, error) {
	if cfg.MaxRetries < 0 || cfg.MaxRetriesOnStartup < 0 {
		return nil, errors.New("number of retries must be zero or greater")
	}
	base, err := parseAddress(cfg.Address)
	if err != nil {
		return nil, err
	}
	if transport == nil {
		if transport, err = newTransport(cfg.RootCAs); err != nil {
			return nil, err
		}
	}
	c := &client{
		base: *base, user: cfg.Username, pass: cfg.Password, retries: cfg.MaxRetries,
		maxAnswer: maxAnswer, log: cfg.Log, ending: life,
		http: &http.Client{
			Transport: transport,
			Timeout:   cfg.RequestTimeout,
			CheckRedirect: func(*http.Request, []*http.Request) error {
				return http.ErrUseLastResponse
			},
		},
	}
	if !metrics.IsDisabled(cfg.Metrics) {
		c.time = newHistogram(cfg.Metrics)
	}
	return c, nil
}

// parseAddress takes host:port, which means http as in the reference, or a URL.
func parseAddress(address string) (*url.URL, error) {
	text := address
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("address of CouchDB: %w", err)
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "", strings.Trim(u.Path, "/") != "",
		u.RawQuery != "", u.Fragment != "", u.User != nil:
		return nil, fmt.Errorf("address of CouchDB must be host:port, http://host:port or https://host:port, but is [%s]", u.Redacted())
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}

func newTransport(rootCAs [][]byte) (*http.Transport, error) {
	t := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ExpectContinueTimeout: time.Second,
		MaxIdleConns:          maxIdleConns,
		MaxIdleConnsPerHost:   maxIdleConns,
		MaxConnsPerHost:       maxConns,
		IdleConnTimeout:       90 * time.Second,
		DisableCompression:    true, // bounds of answers count what is sent
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if len(rootCAs) > 0 {
		pool := x509.NewCertPool()
		for _, pem := range rootCAs {
			if !pool.AppendCertsFromPEM(pem) {
				return nil, errors.New("root certificates for CouchDB: no certificate in PEM form")
			}
		}
		t.TLSClientConfig.RootCAs = pool
	}
	return t, nil
}

// do sends a request, again and again while the server can not be reached or
// fails. Any status that is no success is a *serverError; what may succeed later
// is a *state.UnreachableError.
func (c *client) do(ctx context.Context, r request) (*answer, error) {
	if c.readOnly && !r.reads() {
		return nil, fmt.Errorf("%w: %s %s/%s", errReadOnly, r.method, r.database, strings.Join(r.path, "/"))
	}
	begun := time.Now()
	wait := firstWait
	for attempt := 0; ; attempt++ {
		a, status, err := c.once(ctx, &r)
		if err == nil || attempt >= r.retries || !worthRepeating(ctx, err) || c.stops() {
			c.observe(&r, begun, status)
			return a, c.told(err)
		}
		c.log.Warningf("Retrying couchdb request in %s. Attempt:%v  Error:%v", wait, attempt+1, flog.ForeignError(err))
		if end := c.pause(ctx, wait); end != nil {
			return nil, end
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if c.stops() {
			return nil, c.told(err)
		}
		wait *= 2
	}
}

var errReadOnly = errors.New("the databases are only looked at")

// reads tells whether a request leaves everything as it is. Views do not: CouchDB
// builds an index when it is first asked for.
func (r *request) reads() bool {
	switch r.method {
	case http.MethodGet, http.MethodHead:
		return !slices.Contains(r.path, "_view")
	case http.MethodPost:
		return len(r.path) == 1 && r.path[0] == "_all_docs"
	}
	return false
}

// call is do with the number of repetitions that is set.
func (c *client) call(ctx context.Context, r request) (*answer, error) {
	r.retries = c.retries
	return c.do(ctx, r)
}

func worthRepeating(ctx context.Context, err error) bool {
	var e *serverError
	var untrusted *tls.CertificateVerificationError
	switch {
	case ctx.Err() != nil, errors.Is(err, errTooLarge), errors.As(err, &untrusted):
		return false
	case errors.As(err, &e):
		return e.status >= http.StatusInternalServerError
	}
	return true
}

// pause waits, but not while the program stops.
func (c *client) pause(ctx context.Context, wait time.Duration) error {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-c.stopping:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-c.closed:
		return errClosed
	}
}

// stops tells whether the program is about to end.
func (c *client) stops() bool {
	select {
	case <-c.stopping:
		return true
	default:
		return false
	}
}

var errClosed = errors.New("the CouchDB state database is closed")

// once sends a request once. The status is 0 if there was no answer.
func (c *client) once(ctx context.Context, r *request) (*answer, int, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.inFlight, cancel)()
	req, err := c.httpRequest(ctx, r)
	if err != nil {
		return nil, 0, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w", errTransport, err)
	}
	defer resp.Body.Close()
	body, err := r.read(resp)
	if err != nil {
		return nil, resp.StatusCode, err
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return nil, resp.StatusCode, newServerError(resp, body)
	}
	return &answer{header: resp.Header, body: body}, resp.StatusCode, nil
}

func (r *request) read(resp *http.Response) ([]byte, error) {
	switch {
	case r.discard && resp.StatusCode == http.StatusOK:
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return nil, fmt.Errorf("%w: %w", errTransport, err)
		}
		return nil, nil
	case r.max > 0:
		return readBounded(resp.Body, r.max)
	}
	return readBounded(resp.Body, maxShortAnswer)
}

func readBounded(from io.Reader, limit int64) ([]byte, error) {
	// Reading to the end is what lets the connection be used again.
	body, err := io.ReadAll(io.LimitReader(from, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errTransport, err)
	}
	if int64(len(body)) > limit {
		return nil, fmt.Errorf("%w: more than %d bytes", errTooLarge, limit)
	}
	return body, nil
}

func newServerError(resp *http.Response, body []byte) error {
	e := &serverError{status: resp.StatusCode}
	var told struct{ Error, Reason string }
	switch {
	case json.Unmarshal(body, &told) == nil:
		e.code, e.reason = told.Error, told.Reason
	case resp.Request.Method == http.MethodHead || len(body) == 0:
		e.code = http.StatusText(resp.StatusCode)
	default:
		e.code, e.reason, e.foreign = "answer is not JSON", fmt.Sprintf("%.200q", body), true
	}
	return e
}

func (c *client) httpRequest(ctx context.Context, r *request) (*http.Request, error) {
	u := c.base
	if r.database != "" {
		u.Path, u.RawPath = "/"+r.database, "/"+escapePath(r.database)
		for _, p := range r.path {
			u.Path += "/" + p
			u.RawPath += "/" + escapePath(p)
		}
	}
	u.RawQuery = r.query.Encode()
	var body io.Reader
	if r.body != nil {
		body = bytes.NewReader(r.body)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, u.String(), body)
	if err != nil {
		return nil, err
	}
	switch r.method {
	case http.MethodPut, http.MethodPost:
		req.Header.Set("Accept", "application/json")
		req.Header.Set("Content-Type", "application/json")
	case http.MethodDelete:
		req.Header.Set("Content-Type", "application/json")
	default:
		req.Header.Set("Accept", "multipart/related")
	}
	if r.ifMatch != "" {
		req.Header.Set("If-Match", r.ifMatch)
	}
	if c.user != "" && c.pass != "" {
		req.SetBasicAuth(c.user, c.pass)
	}
	return req, nil
}

// escapePath percent-encodes one element of a path (LEDGER §5.2). Dots that a
// server or proxy would take as directories are hidden from it.
func escapePath(s string) string {
	switch s {
	case ".":
		return "%2E"
	case "..":
		return "%2E%2E"
	}
	return strings.ReplaceAll(url.PathEscape(s), "+", "%2B")
}

func newHistogram(p metrics.Provider) metrics.Histogram {
	return p.NewHistogram(metrics.HistogramOpts{
		Namespace: "couchdb", Name: "processing_time",
		Help:         "Time taken in seconds for the function to complete request to CouchDB",
		LabelNames:   []string{"database", "function_name", "result"},
		StatsdFormat: "%{#fqname}.%{database}.%{function_name}.%{result}",
	})
}

func (c *client) observe(r *request, begun time.Time, status int) {
	if c.time != nil {
		c.time.With("database", r.database, "function_name", r.function, "result", strconv.Itoa(status)).
			Observe(time.Since(begun).Seconds())
	}
}
