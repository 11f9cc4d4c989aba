package node

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
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/orderer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/heddle-ledger/heddle/internal/config"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/rpc"
	"github.com/heddle-ledger/heddle/internal/run"
)

// settings are those of an orderer on free ports with the recording's genesis
// block and mutual TLS.
func settings(dir string) *config.Orderer {
	c := &config.Orderer{}
	g := &c.General
	g.LedgerType, g.ListenAddress = "file", "127.0.0.1"
	g.TLS = config.OrdererTLS{
		Enabled: true, Certificate: "testdata/orderer-tls/server.crt", PrivateKey: "testdata/orderer-tls/server.key",
		RootCAs: []string{"testdata/orderer-tls/ca.crt"}, ClientAuthRequired: true,
	}
	g.GenesisMethod, g.GenesisFile = "file", "testdata/solo_genesis.block"
	g.LocalMSPDir, g.LocalMSPID = "testdata/orderer-msp", "OrdererMSP"
	g.Authentication.TimeWindow = 15 * time.Minute
	c.FileLedger.Location = dir
	c.Operations.ListenAddress = "127.0.0.1:0"
	c.Metrics.Provider = "disabled"
	return c
}

func logging(t testing.TB, w io.Writer) *flog.Logging {
	t.Helper()
	l, err := flog.New(w, "%{level} %{module} %{message}", "info")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// buffer is a log that several goroutines write.
type buffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *buffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *buffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// startNode runs an orderer; the returned function stops it.
func startNode(t testing.TB, cfg *config.Orderer, w io.Writer) (*Node, func()) {
	t.Helper()
	n, err := New(Config{Orderer: cfg, Logging: logging(t, w)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	return n, func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %s", err)
		}
	}
}

// clientTLS is the configuration of User1 of Org1.
func clientTLS(t testing.TB, withCert bool) *tls.Config {
	t.Helper()
	ca, err := os.ReadFile("testdata/orderer-tls/ca.crt")
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	cfg := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	if withCert {
		pair, err := tls.LoadX509KeyPair("testdata/user1-tls/client.crt", "testdata/user1-tls/client.key")
		if err != nil {
			t.Fatal(err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg
}

func dial(t testing.TB, n *Node, withCert bool) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(n.Address(), grpc.WithTransportCredentials(credentials.NewTLS(clientTLS(t, withCert))),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(rpc.MaxMessageSize), grpc.MaxCallSendMsgSize(rpc.MaxMessageSize)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// broadcastAll sends messages on one stream, waiting for each answer, and returns
// the answers.
func broadcastAll(t testing.TB, conn *grpc.ClientConn, envs ...*common.Envelope) []*orderer.BroadcastResponse {
	t.Helper()
	s, err := orderer.NewAtomicBroadcastClient(conn).Broadcast(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out []*orderer.BroadcastResponse
	for _, env := range envs {
		if err := s.Send(env); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		r, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ends with %v, want EOF", err)
	}
	return out
}

// deliverTo reads a channel's blocks up to number n.
func deliverTo(t testing.TB, conn *grpc.ClientConn, env *common.Envelope) ([]*common.Block, common.Status) {
	t.Helper()
	s, err := orderer.NewAtomicBroadcastClient(conn).Deliver(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(env); err != nil {
		t.Fatal(err)
	}
	var blocks []*common.Block
	for {
		r, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if b := r.GetBlock(); b != nil {
			blocks = append(blocks, b)
			continue
		}
		return blocks, r.GetStatus()
	}
}

func seekTo(n uint64) []byte {
	return protoutil.Marshal(&orderer.SeekInfo{
		Start: &orderer.SeekPosition{Type: &orderer.SeekPosition_Specified{Specified: &orderer.SeekSpecified{Number: 0}}},
		Stop:  &orderer.SeekPosition{Type: &orderer.SeekPosition_Specified{Specified: &orderer.SeekSpecified{Number: n}}},
	})
}

// TestDaemon runs the whole orderer over mutual TLS: genesis, a new channel,
// messages good and bad, blocks, and the same again after a restart.
func TestDaemon(t *testing.T) {
	t.Parallel()
	rec, dir := loadRecording(t), t.TempDir()
	user := loadSigner(t, "testdata/user1-msp", "Org1MSP")
	pair := clientTLS(t, true).Certificates[0]
	hash, err := rpc.ClientConfig{Certificate: mustRead(t, "testdata/user1-tls/client.crt"), Key: mustRead(t, "testdata/user1-tls/client.key"), TLS: true}.CertHash()
	if err != nil || len(pair.Certificate) == 0 {
		t.Fatal(err)
	}
	seek := func(channel string, n uint64, hash []byte) *common.Envelope {
		return sign(t, user, envelopeSpec{channel: channel, kind: common.HeaderType_DELIVER_SEEK_INFO, time: timestamppb.Now(), data: seekTo(n), tlsHash: hash})
	}
	normal := func() *common.Envelope {
		return sign(t, user, envelopeSpec{channel: "ch1", kind: common.HeaderType_ENDORSER_TRANSACTION, data: []byte("data")})
	}

	var log buffer
	n, stop := startNode(t, settings(dir), &log)
	conn := dial(t, n, true)
	if got := broadcastAll(t, conn, rec.envelope(t, 26)); got[0].Status != common.Status_SUCCESS {
		t.Fatalf("creation of ch1: %v", got)
	}
	system := sign(t, loadSigner(t, "testdata/orderer-msp", "OrdererMSP"), envelopeSpec{
		channel: "syschannel", kind: common.HeaderType_DELIVER_SEEK_INFO, time: timestamppb.Now(), data: seekTo(1), tlsHash: hash,
	})
	if blocks, s := deliverTo(t, conn, system); len(blocks) != 2 || s != common.Status_SUCCESS {
		t.Fatalf("system channel: %d blocks, %s", len(blocks), s)
	}
	for _, r := range broadcastAll(t, conn, normal(), normal(), normal()) {
		if r.Status != common.Status_SUCCESS {
			t.Errorf("normal message: %v", r)
		}
	}
	if blocks, s := deliverTo(t, conn, seek("ch1", 1, hash)); len(blocks) != 2 || len(blocks[1].Data.Data) != 3 || s != common.Status_SUCCESS {
		t.Errorf("ch1: %d blocks, %s", len(blocks), s)
	}
	for name, want := range map[string]common.Status{"no hash": common.Status_BAD_REQUEST, "other channel": common.Status_NOT_FOUND} {
		env := seek("ch1", 0, nil)
		if name == "other channel" {
			env = seek("nosuch", 0, hash)
		}
		if _, s := deliverTo(t, conn, env); s != want {
			t.Errorf("%s: %s, want %s", name, s, want)
		}
	}
	badInputs(t, n, conn, rec)
	health(t, n)
	stop()
	for _, line := range []string{
		"INFO orderer.common.server Bootstrapping because no existing channels",
		"INFO orderer.common.server Starting orderer with mutual TLS enabled",
		"INFO orderer.commmon.multichannel Starting system channel 'syschannel' with genesis block hash ",
		"INFO orderer.common.server Beginning to serve requests",
		"INFO comm.grpc.server streaming call completed",
	} {
		if !strings.Contains(log.String(), line) {
			t.Errorf("the log lacks %q", line)
		}
	}

	n, stop = startNode(t, settings(dir), &log)
	defer stop()
	conn = dial(t, n, true)
	broadcastAll(t, conn, normal(), normal(), normal())
	if blocks, s := deliverTo(t, conn, seek("ch1", 2, hash)); len(blocks) != 3 || s != common.Status_SUCCESS {
		t.Errorf("ch1 after the restart: %d blocks, %s", len(blocks), s)
	}
}

func mustRead(t testing.TB, path string) []byte {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// garbage is bytes in place of a message.
type garbage []byte

func (g garbage) Marshal(any) ([]byte, error) { return g, nil }
func (g garbage) Unmarshal([]byte, any) error { return nil }
func (g garbage) Name() string                { return "proto" }

// badInputs sends what no orderer may take, and checks that it goes on.
func badInputs(t *testing.T, n *Node, conn *grpc.ClientConn, rec *recording) {
	t.Helper()
	for _, c := range []int{2, 5, 10, 32, 37, 38, 43, 45} { // garbage, other channel, signature, MSP, expired, unsigned update
		if got := broadcastAll(t, conn, rec.envelope(t, c)); got[0].Status.String() != rec.Cases[c-1].Status {
			t.Errorf("case %d: %v", c, got)
		}
	}
	s, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true},
		"/orderer.AtomicBroadcast/Broadcast", grpc.ForceCodec(garbage{0xff, 0xff, 0xff}))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SendMsg(struct{}{}); err != nil {
		t.Fatal(err)
	}
	if err := s.RecvMsg(&struct{}{}); status.Code(err) != codes.Internal {
		t.Errorf("garbage in place of an envelope: %v", err)
	}
	if _, err := orderer.NewAtomicBroadcastClient(dial(t, n, false)).Broadcast(t.Context()); err == nil {
		// The handshake of TLS 1.2 fails; the client may notice only now or later.
		t.Log("a client without a certificate has a stream")
	}
	if got := broadcastAll(t, conn, rec.envelope(t, 28)); got[0].Status != common.Status_SUCCESS {
		t.Errorf("a good message after bad ones: %v", got)
	}
}

func health(t *testing.T, n *Node) {
	t.Helper()
	resp, err := http.Get("http://" + n.OperationsAddress() + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("healthz: %s", resp.Status)
	}
}

// TestStartErrors: of several faults the first in the reference's order is
// reported, with its way to end.
func TestStartErrors(t *testing.T) {
	t.Parallel()
	rec := loadRecording(t)
	for _, tc := range []struct {
		name, want string
		severity   run.Severity
		change     func(t *testing.T, c *config.Orderer)
	}{
		{"msp before genesis", "Failed to initialize local MSP: could not load a valid signer certificate from directory ", run.Fatal, func(t *testing.T, c *config.Orderer) {
			c.General.LocalMSPDir, c.General.GenesisMethod = t.TempDir(), "foo"
		}},
		{"method", "Unknown genesis method: foo", run.Panic, func(_ *testing.T, c *config.Orderer) { c.General.GenesisMethod = "foo" }},
		{"no file", "unable to bootstrap orderer. Error reading genesis block file: open nosuch: no such file or directory", run.Panic, func(_ *testing.T, c *config.Orderer) { c.General.GenesisFile = "nosuch" }},
		{"no block", "unable to bootstrap orderer. Error unmarshalling genesis block: proto:", run.Panic, func(_ *testing.T, c *config.Orderer) { c.General.GenesisFile = "node_test.go" }},
		{"empty block", "Failed validating bootstrap block: empty block data", run.Panic, func(t *testing.T, c *config.Orderer) {
			c.General.GenesisFile = writeFile(t, nil)
		}},
		{"application channel", "Failed validating bootstrap block: the block isn't a system channel block because it lacks ConsortiumsConfig", run.Panic, func(t *testing.T, c *config.Orderer) {
			c.General.GenesisFile = writeFile(t, rec.Blocks["ch1/00.block"])
		}},
		{"directory", "Error creating dir if missing: error creating dir [/proc/x/index/]: mkdir /proc/x: no such file or directory", run.Panic, func(_ *testing.T, c *config.Orderer) { c.FileLedger.Location = "/proc/x" }},
		{"certificate", "Failed to load server Certificate file 'nosuch' (open nosuch: no such file or directory)", run.Fatal, func(_ *testing.T, c *config.Orderer) { c.General.TLS.Certificate = "nosuch" }},
		{"key", "Failed to load PrivateKey file 'nosuch' (open nosuch: no such file or directory)", run.Fatal, func(_ *testing.T, c *config.Orderer) { c.General.TLS.PrivateKey = "nosuch" }},
		{"roots", "Failed to load ServerRootCAs file 'nosuch' (open nosuch: no such file or directory)", run.Fatal, func(_ *testing.T, c *config.Orderer) { c.General.TLS.RootCAs = []string{"nosuch"} }},
		{"operations", "failed to initialize operations subsystem: listen tcp: ", run.Panic, func(_ *testing.T, c *config.Orderer) { c.Operations.ListenAddress = "127.0.0.1:x" }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			cfg := settings(t.TempDir())
			tc.change(t, cfg)
			_, err := New(Config{Orderer: cfg, Logging: logging(t, io.Discard)})
			var failed *run.StartError
			if !errors.As(err, &failed) || !strings.HasPrefix(failed.Error(), tc.want) || failed.Severity != tc.severity {
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
	n, stop := startNode(t, settings(t.TempDir()), io.Discard)
	defer stop()
	cfg := settings(t.TempDir())
	_, port, _ := strings.Cut(n.Address(), ":")
	for _, digit := range port {
		cfg.General.ListenPort = cfg.General.ListenPort*10 + uint16(digit-'0')
	}
	var failed *run.StartError
	if _, err := New(Config{Orderer: cfg, Logging: logging(t, io.Discard)}); !errors.As(err, &failed) || failed.Severity != run.Fatal ||
		failed.Error() != "Failed to listen: listen tcp "+n.Address()+": bind: address already in use" {
		t.Errorf("port in use: %v", err)
	}
}

func writeFile(t *testing.T, raw []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "block")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestProvisional: without a genesis file the shipped profile makes a channel.
func TestProvisional(t *testing.T) {
	t.Parallel()
	cfg := settings(t.TempDir())
	g := &cfg.General
	g.TLS = config.OrdererTLS{}
	g.GenesisMethod, g.GenesisProfile, g.SystemChannel = "provisional", "SampleInsecureSolo", "test-system-channel-name"
	sample, err := filepath.Abs("../../sampleconfig")
	if err != nil {
		t.Fatal(err)
	}
	var log buffer
	n, err := New(Config{Orderer: cfg, Logging: logging(t, &log), Getenv: func(k string) string {
		return map[string]string{"FABRIC_CFG_PATH": sample}[k]
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer n.closers.Close()
	if got := n.parts.registrar.System().ID(); got != "test-system-channel-name" {
		t.Errorf("system channel %s", got)
	}
}

// TestTrace: requests are written into the trace directory as they came.
func TestTrace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	env := &common.Envelope{Payload: []byte("payload")}
	recv := newTracer(dir, "Broadcast", flog.Nop()).wrap(func() (*common.Envelope, error) { return env, nil })
	if got, err := recv(); got != env || err != nil {
		t.Errorf("%v, %v", got, err)
	}
	files, err := filepath.Glob(dir + "/*_0x*.Broadcast")
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	if got := mustRead(t, files[0]); !bytes.Equal(got, protoutil.Marshal(env)) {
		t.Errorf("trace %x", got)
	}
}
