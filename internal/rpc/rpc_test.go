package rpc

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/pem"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/grpc/test/bufconn"

	"github.com/heddle-ledger/heddle/internal/cryptogen"
	"github.com/heddle-ledger/heddle/internal/flog"
)

// material is TLS material of one organisation.
type material struct {
	ca, cert, key         []byte
	clientCert, clientKey []byte
}

func newMaterial(t *testing.T) material {
	t.Helper()
	dir := t.TempDir()
	n := &cryptogen.Network{PeerOrgs: []cryptogen.Org{{Domain: "o.example", Specs: []cryptogen.Node{{Hostname: "p", SANS: []string{"127.0.0.1"}}}}}}
	if err := cryptogen.Generate(n, dir, io.Discard); err != nil {
		t.Fatal(err)
	}
	read := func(parts ...string) []byte {
		b, err := os.ReadFile(filepath.Join(append([]string{dir, "peerOrganizations", "o.example"}, parts...)...))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	return material{
		ca:         read("peers", "p.o.example", "tls", "ca.crt"),
		cert:       read("peers", "p.o.example", "tls", "server.crt"),
		key:        read("peers", "p.o.example", "tls", "server.key"),
		clientCert: read("users", "Admin@o.example", "tls", "client.crt"),
		clientKey:  read("users", "Admin@o.example", "tls", "client.key"),
	}
}

// echo answers with the hash of the client's certificate.
type echo struct {
	peer.UnimplementedEndorserServer
}

func (echo) ProcessProposal(ctx context.Context, _ *peer.SignedProposal) (*peer.ProposalResponse, error) {
	return &peer.ProposalResponse{Payload: PeerCertHash(ctx)}, nil
}

func serve(t *testing.T, c ServerConfig) *Server {
	t.Helper()
	if c.Log == nil {
		c.Log = flog.ForTest(t)
	}
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewServer(l, c)
	if err != nil {
		t.Fatal(err)
	}
	peer.RegisterEndorserServer(s.GRPC(), echo{})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, time.Second) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestMutualTLS(t *testing.T) {
	t.Parallel()
	own, other := newMaterial(t), newMaterial(t)
	var log syncBuffer
	logging, err := flog.New(&log, "%{module} %{message}", "info")
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, ServerConfig{
		Name: "PeerServer", Log: logging.Root(),
		TLS: TLSConfig{Enabled: true, Certificate: own.cert, Key: own.key, ClientAuth: true, ClientRoots: [][]byte{own.ca}},
	})
	client := func(m material) ClientConfig {
		return ClientConfig{TLS: true, Roots: [][]byte{own.ca}, Certificate: m.clientCert, Key: m.clientKey, Timeout: 5 * time.Second}
	}
	call := func(c ClientConfig) ([]byte, error) {
		conn, err := NewClient(s.Address(), c)
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		resp, err := peer.NewEndorserClient(conn).ProcessProposal(context.Background(), &peer.SignedProposal{})
		return resp.GetPayload(), err
	}
	got, err := call(client(own))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(own.clientCert)
	want := sha256.Sum256(block.Bytes)
	bound, err := client(own).CertHash()
	if err != nil || !bytes.Equal(got, want[:]) || !bytes.Equal(bound, want[:]) {
		t.Errorf("binding %x, client says %x (%v), want %x", got, bound, err, want)
	}
	if _, err := call(client(other)); err == nil {
		t.Error("a client of another authority was let in")
	}
	if got := log.String(); !strings.Contains(got, "core.comm Server TLS handshake failed in ") || !strings.Contains(got, "server=PeerServer") {
		t.Errorf("failed handshake not logged: %q", got)
	}
	// The roots can change while the server runs.
	if err := s.SetClientRoots([][]byte{own.ca, other.ca}); err != nil {
		t.Fatal(err)
	}
	if _, err := call(client(other)); err != nil {
		t.Errorf("after the roots changed: %v", err)
	}
	if !strings.Contains(log.String(), "comm.grpc.server unary call completed grpc.service=protos.Endorser grpc.method=ProcessProposal grpc.peer_address=") {
		t.Errorf("call not logged: %q", log.String())
	}
}

func TestClientCertificateIsOptional(t *testing.T) {
	t.Parallel()
	own, other := newMaterial(t), newMaterial(t)
	s := serve(t, ServerConfig{Name: "PeerServer", TLS: TLSConfig{Enabled: true, Certificate: own.cert, Key: own.key}})
	for _, m := range []material{{}, other} { // none at all, and one of an unknown authority
		conn, err := Dial(context.Background(), s.Address(), ClientConfig{TLS: true, Roots: [][]byte{own.ca}, Certificate: m.clientCert, Key: m.clientKey})
		if err != nil {
			t.Fatal(err)
		}
		resp, err := peer.NewEndorserClient(conn).ProcessProposal(context.Background(), &peer.SignedProposal{})
		if err != nil || (len(resp.Payload) != 0) != (m.clientCert != nil) {
			t.Errorf("binding %x, %v", resp.GetPayload(), err)
		}
		conn.Close()
	}
}

func TestDialFailures(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	_, err = Dial(context.Background(), address, ClientConfig{})
	want := `connection error: desc = "transport: error while dialing: dial tcp ` + address + `: connect: connection refused"`
	if err == nil || err.Error() != want {
		t.Errorf("refused: got %v, want %s", err, want)
	}
	own, other := newMaterial(t), newMaterial(t)
	s := serve(t, ServerConfig{Name: "Orderer", TLS: TLSConfig{Enabled: true, Certificate: own.cert, Key: own.key}})
	_, err = Dial(context.Background(), s.Address(), ClientConfig{TLS: true, Roots: [][]byte{other.ca}, Timeout: 100 * time.Millisecond})
	if err == nil || err.Error() != "context deadline exceeded" {
		t.Errorf("wrong authority: %v", err)
	}
	// A plaintext client connects; its calls fail.
	conn, err := Dial(context.Background(), s.Address(), ClientConfig{})
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if _, err := Dial(context.Background(), address, ClientConfig{TLS: true, Roots: [][]byte{[]byte("no PEM")}}); err == nil {
		t.Error("roots without a certificate were accepted")
	}
}

// blocker counts and holds calls.
type blocker struct {
	peer.UnimplementedEndorserServer
	entered, leave chan struct{}
}

func (b *blocker) ProcessProposal(ctx context.Context, _ *peer.SignedProposal) (*peer.ProposalResponse, error) {
	b.entered <- struct{}{}
	select {
	case <-b.leave:
	case <-ctx.Done():
	}
	return &peer.ProposalResponse{}, nil
}

func TestThrottle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := bufconn.Listen(1 << 16)
		s, err := NewServer(l, ServerConfig{MaxConcurrent: 1, Log: flog.Nop()})
		if err != nil {
			t.Fatal(err)
		}
		b := &blocker{entered: make(chan struct{}, 2), leave: make(chan struct{})}
		peer.RegisterEndorserServer(s.GRPC(), b)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Serve(ctx, time.Second) }()
		conn, err := NewClient("peer", ClientConfig{Dialer: func(context.Context, string) (net.Conn, error) { return l.Dial() }})
		if err != nil {
			t.Fatal(err)
		}
		results := make(chan error, 2)
		for range 2 {
			go func() {
				_, err := peer.NewEndorserClient(conn).ProcessProposal(ctx, &peer.SignedProposal{})
				results <- err
			}()
		}
		synctest.Wait()
		if n := len(b.entered); n != 1 {
			t.Errorf("%d calls at once, the limit is 1", n)
		}
		close(b.leave)
		for range 2 {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		conn.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// syncBuffer is a buffer that several goroutines may use.
type syncBuffer struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

// TestEncodedIsSharedNotCopied: what waits for many readers is in memory once.
func TestEncodedIsSharedNotCopied(t *testing.T) {
	t.Parallel()
	want := &peer.ProposalResponse{Version: 7}
	wire, err := newCodec().Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	e := Encoded(wire.Materialize())
	out, err := newCodec().Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	if got := out[0].ReadOnlyData(); len(out) != 1 || &got[0] != &e[0] || len(got) != len(e) {
		t.Fatal("the message has been copied")
	}
	got := &peer.ProposalResponse{}
	if err := newCodec().Unmarshal(out, got); err != nil || got.Version != want.Version {
		t.Fatalf("decoded %v, %v", got, err)
	}
}
