package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/chanconfig"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/protolator"
	"github.com/heddle-ledger/heddle/internal/protoutil"
)

const (
	// maxBody bounds a request.
	maxBody = 100 << 20
	// formMemory is how much of a form is kept in memory.
	formMemory    = 32 << 20
	headerTimeout = 30 * time.Second
	stopTimeout   = 5 * time.Second
)

// server answers the REST requests (IDENTITY-CONFIG §9.1). It owns no state.
type server struct {
	log     *flog.Logger
	origins []string // allowed by --CORS; empty: no CORS handling
}

func newServer(log *flog.Logger, origins []string) *server { return &server{log, origins} }

// run serves until ctx ends.
func (s *server) run(ctx context.Context, l net.Listener) error {
	h := &http.Server{Handler: s.handler(), ReadHeaderTimeout: headerTimeout}
	stopped := make(chan error, 1)
	go func() { stopped <- h.Serve(l) }()
	select {
	case err := <-stopped:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	return h.Shutdown(ctx)
}

func (s *server) handler() http.Handler {
	if len(s.origins) == 0 {
		return http.HandlerFunc(route)
	}
	return http.HandlerFunc(s.withCORS)
}

// withCORS adds what browsers ask before they let pages use the server: POST
// with a Content-Type, from the allowed origins.
func (s *server) withCORS(w http.ResponseWriter, r *http.Request) {
	origin := r.Header.Get("Origin")
	all := slices.Contains(s.origins, "*")
	if origin == "" || !all && !slices.Contains(s.origins, origin) {
		if r.Method != http.MethodOptions {
			route(w, r)
		}
		return
	}
	if r.Method == http.MethodOptions && !preflight(w, r) {
		return
	}
	if all {
		origin = "*"
	}
	w.Header().Set("Access-Control-Allow-Origin", origin)
	if r.Method != http.MethodOptions {
		route(w, r)
	}
}

// preflight checks what a page wants to do.
func preflight(w http.ResponseWriter, r *http.Request) bool {
	switch r.Header.Get("Access-Control-Request-Method") {
	case "":
		w.WriteHeader(http.StatusBadRequest)
		return false
	case http.MethodPost:
	default:
		w.WriteHeader(http.StatusMethodNotAllowed)
		return false
	}
	for name := range strings.SplitSeq(r.Header.Get("Access-Control-Request-Headers"), ",") {
		switch name = http.CanonicalHeaderKey(strings.TrimSpace(name)); name {
		case "", "Accept", "Accept-Language", "Content-Language", "Origin":
		case "Content-Type":
			w.Header().Set("Access-Control-Allow-Headers", name)
		default:
			w.WriteHeader(http.StatusForbidden)
			return false
		}
	}
	return true
}

const (
	decodePath  = "/protolator/decode/"
	encodePath  = "/protolator/encode/"
	computePath = "/configtxlator/compute/update-from-configs"
	verifyPath  = "/configtxlator/config/verify"
)

// route finds the handler of a path. A path with a slash too much is redirected.
func route(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimSuffix(r.URL.Path, "/")
	var handle func(w http.ResponseWriter, r *http.Request)
	switch {
	case path == computePath:
		handle = restCompute
	case path == verifyPath:
		handle = restVerify
	default:
		convert := restDecode
		name, ok := strings.CutPrefix(path, decodePath)
		if !ok {
			convert = restEncode
			name, ok = strings.CutPrefix(path, encodePath)
		}
		if !ok || name == "" || strings.Contains(name, "/") {
			http.NotFound(w, r)
			return
		}
		handle = func(w http.ResponseWriter, r *http.Request) { restConvert(w, r, name, convert) }
	}
	switch {
	case r.Method != http.MethodPost:
		w.WriteHeader(http.StatusMethodNotAllowed)
	case path != r.URL.Path:
		http.Redirect(w, r, path, http.StatusMovedPermanently)
	default:
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		handle(w, r)
	}
}

// fail answers with a line of text.
func fail(w http.ResponseWriter, status int, err error) {
	w.WriteHeader(status)
	fmt.Fprintln(w, err)
}

func restConvert(w http.ResponseWriter, r *http.Request, name string, convert func(protolator.Type, []byte) ([]byte, error)) {
	typ, ok := protolator.Lookup(name)
	if !ok {
		fail(w, http.StatusNotFound, errors.New("message name not found"))
		return
	}
	body, err := io.ReadAll(r.Body)
	if err == nil {
		body, err = convert(typ, body)
	}
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	_, _ = w.Write(body) // the client may be gone
}

func restDecode(typ protolator.Type, body []byte) ([]byte, error) {
	m, err := typ.Unmarshal(body)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = m.WriteJSON(&out)
	return out.Bytes(), err
}

func restEncode(typ protolator.Type, body []byte) ([]byte, error) {
	m, err := typ.ReadJSON(bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	return m.Marshal()
}

func restCompute(w http.ResponseWriter, r *http.Request) {
	configs := make(map[string]*common.Config, 2)
	for _, field := range []string{"original", "updated"} {
		config, err := formConfig(r, field)
		if err != nil {
			fail(w, http.StatusBadRequest, fmt.Errorf("Error with field '%s': %w", field, err))
			return
		}
		configs[field] = config
	}
	update, err := chanconfig.ComputeUpdate(configs["original"], configs["updated"])
	if err != nil {
		fail(w, http.StatusBadRequest, fmt.Errorf("Error computing update: %w", err))
		return
	}
	update.ChannelId = r.FormValue("channel")
	_, _ = w.Write(protoutil.Marshal(update)) // the client may be gone
}

func formConfig(r *http.Request, field string) (*common.Config, error) {
	if err := r.ParseMultipartForm(formMemory); err != nil {
		return nil, fmt.Errorf("error reading field bytes: %w", err)
	}
	f, _, err := r.FormFile(field)
	if err != nil {
		return nil, fmt.Errorf("error reading field bytes: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(f)
	if err != nil {
		return nil, fmt.Errorf("error reading field bytes: %w", err)
	}
	config := &common.Config{}
	if err := proto.Unmarshal(raw, config); err != nil {
		return nil, fmt.Errorf("error unmarshaling field bytes: %w", err)
	}
	return config, nil
}

func restVerify(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(r.Body)
	config := &common.Config{}
	if err == nil {
		err = proto.Unmarshal(raw, config)
	}
	if err != nil {
		fail(w, http.StatusBadRequest, fmt.Errorf("Error unmarshaling data to common.Config': %w", err))
		return
	}
	_, _ = w.Write(verify(config)) // the client may be gone
}
