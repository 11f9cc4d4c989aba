package ops

import (
	"encoding/json"
	"fmt"
	"net/http"

	uuid "github.com/hashicorp/go-uuid"
	"github.com/hyperledger/fabric-lib-go/common/metrics"
	"go.uber.org/zap/zapcore"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/version"
)

// maxSpecSize bounds the body of PUT /logspec in bytes.
const maxSpecSize = 64 * 1024

// withID echoes or makes up the request id. A secure handler needs a verified
// client certificate when TLS is on.
func (s *Server) withID(h http.Handler, secure bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if secure && s.cfg.TLS.Enabled && (r.TLS == nil || len(r.TLS.VerifiedChains) == 0) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		id := r.Header.Get("X-Request-Id")
		if id == "" {
			id, _ = uuid.GenerateUUID()
		}
		w.Header().Set("X-Request-Id", id)
		h.ServeHTTP(w, r)
	})
}

type versionHandler struct{}

func (versionHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	var body any = struct {
		CommitSHA string `json:",omitempty"`
		Version   string `json:",omitempty"`
	}{version.CommitSHA, version.Full}
	code := http.StatusOK
	if r.Method != http.MethodGet {
		code = http.StatusBadRequest
		body = struct{ Error string }{fmt.Sprintf("invalid request method: %s", r.Method)}
	}
	out, err := json.Marshal(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.WriteHeader(code)
	_, _ = w.Write(out) // a client that went away is no failure of ours
}

// logspecHandler reads and changes the log specification.
type logspecHandler struct{ logging *flog.Logging }

type logSpec struct {
	Spec string `json:"spec,omitempty"`
}

func (h *logspecHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet:
		reply(w, http.StatusOK, logSpec{Spec: h.logging.Spec()})
	case http.MethodPut:
		var spec logSpec
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxSpecSize)).Decode(&spec); err != nil {
			refuse(w, err)
			return
		}
		if err := h.logging.ActivateSpec(spec.Spec); err != nil {
			refuse(w, err)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	default:
		refuse(w, fmt.Errorf("invalid request method: %s", r.Method))
	}
}

func refuse(w http.ResponseWriter, err error) {
	reply(w, http.StatusBadRequest, struct {
		Error string `json:"error"`
	}{err.Error()})
}

func reply(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // a client that went away is no failure of ours
}

// logObserver counts log entries.
type logObserver struct{ checked, written metrics.Counter }

func newLogObserver(p metrics.Provider) *logObserver {
	counter := func(name, help string) metrics.Counter {
		return p.NewCounter(metrics.CounterOpts{
			Namespace: "logging", Name: name, Help: help, LabelNames: []string{"level"}, StatsdFormat: "%{#fqname}.%{level}",
		})
	}
	return &logObserver{
		checked: counter("entries_checked", "Number of log entries checked against the active logging level"),
		written: counter("entries_written", "Number of log entries that are written"),
	}
}

// Check implements the observer of fabric-lib-go.
func (o *logObserver) Check(e zapcore.Entry, _ *zapcore.CheckedEntry) {
	o.checked.With("level", e.Level.String()).Add(1)
}

// WriteEntry implements the observer of fabric-lib-go.
func (o *logObserver) WriteEntry(e zapcore.Entry, _ []zapcore.Field) {
	o.written.With("level", e.Level.String()).Add(1)
}
