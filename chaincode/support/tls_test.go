package support

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	grpcpeer "google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"
)

func TestEndpoint(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ host, listen, address, want, err string }{
		{"peer0", "", "cc.example.com:7052", "cc.example.com:7052", ""},
		{"peer0", "0.0.0.0:1", "10.0.0.1:2", "10.0.0.1:2", ""},
		{"peer0", "", "0.0.0.0:2", "", "invalid endpoint for chaincode to connect"},
		{"peer0", "", "[::]:2", "", "invalid endpoint for chaincode to connect"},
		{"peer0", "", "nonsense", "", "address nonsense: missing port in address"},
		{"peer0", "10.0.0.1:7", "", "10.0.0.1:7", ""},
		{"peer0", "somewhere:7", "", "somewhere:7", ""},
		{"peer0", "0.0.0.0:7", "", "peer0:7", ""},
		{"0.0.0.0", "0.0.0.0:7", "", "", "invalid endpoint for chaincode to connect"},
		{"peer0", "", "", "peer0:7052", ""},
		{"::", "", "", "", "invalid endpoint for chaincode to connect"},
	} {
		got, err := Endpoint(EndpointConfig{PeerHost: c.host, ListenAddress: c.listen, ChaincodeAddress: c.address})
		text := ""
		if err != nil {
			text = err.Error()
		}
		if got != c.want || text != c.err {
			t.Errorf("%+v: %q %q", c, got, text)
		}
	}
}

func leaf(t *testing.T, certPEM []byte) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(certPEM)
	if block == nil || block.Type != "CERTIFICATE" {
		t.Fatalf("%s is no certificate", certPEM)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestAuthority(t *testing.T) {
	t.Parallel()
	for endpoint, host := range map[string]string{"peer0.example.com:7052": "peer0.example.com", "10.1.2.3:7052": "10.1.2.3", "[::1]:7052": "::1"} {
		a, err := NewAuthority(endpoint)
		if err != nil {
			t.Fatal(err)
		}
		certPEM, keyPEM, ca := a.ServerTLS()
		if _, err := tls.X509KeyPair(certPEM, keyPEM); err != nil {
			t.Error(err)
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(ca)
		server := leaf(t, certPEM)
		if _, err := server.Verify(x509.VerifyOptions{DNSName: host, Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err != nil {
			t.Error(err)
		}
		pair, err := a.issue("cc:1")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(pair.ClientKey), "-----BEGIN EC PRIVATE KEY-----") {
			t.Errorf("%s", pair.ClientKey)
		}
		client := leaf(t, pair.ClientCert)
		if _, err := client.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
			t.Error(err)
		}
		if len(client.Subject.Names) != 1 || client.Subject.SerialNumber == "" {
			t.Errorf("subject %v", client.Subject)
		}
	}
	if _, err := NewAuthority("nonsense"); err == nil {
		t.Error("made an authority for no host")
	}
}

// tlsConn is a stream whose client has a certificate.
type tlsConn struct {
	grpc.ServerStream
	cert *x509.Certificate
	msg  *peer.ChaincodeMessage
}

func (c *tlsConn) Send(*peer.ChaincodeMessage) error     { return nil }
func (c *tlsConn) Recv() (*peer.ChaincodeMessage, error) { return c.msg, nil }
func (c *tlsConn) Context() context.Context {
	info := credentials.TLSInfo{}
	if c.cert != nil {
		info.State.PeerCertificates = []*x509.Certificate{c.cert}
	}
	return grpcpeer.NewContext(context.Background(), &grpcpeer.Peer{Addr: &net.TCPAddr{}, AuthInfo: info})
}

func TestAdmission(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, err := NewAuthority("peer0:7052")
		if err != nil {
			t.Fatal(err)
		}
		s := New(Config{TLS: a})
		pair, err := a.issue("cc:1")
		if err != nil {
			t.Fatal(err)
		}
		cert := leaf(t, pair.ClientCert)
		hash := sha256.Sum256(cert.Raw)
		register := func(name string) *peer.ChaincodeMessage {
			payload, err := proto.Marshal(&peer.ChaincodeID{Name: name})
			if err != nil {
				t.Fatal(err)
			}
			return &peer.ChaincodeMessage{Type: peer.ChaincodeMessage_REGISTER, Payload: payload}
		}
		refused := func(c *tlsConn, want string) {
			t.Helper()
			if _, err := s.admit(c); err == nil || err.Error() != want {
				t.Errorf("got %v, want %s", err, want)
			}
		}
		refused(&tlsConn{cert: cert, msg: &peer.ChaincodeMessage{}}, "First message needs to be a register")
		refused(&tlsConn{msg: register("cc:1")}, "TLS is active but chaincode cc:1 didn't send certificate")
		refused(&tlsConn{cert: cert, msg: register("cc:2")}, fmt.Sprintf("Chaincode cc:2 with given certificate hash %v belongs to a different chaincode", hash[:]))
		if _, err := s.admit(&tlsConn{cert: cert, msg: register("cc:1")}); err != nil {
			t.Error(err)
		}
		time.Sleep(10*time.Minute + time.Second)
		refused(&tlsConn{cert: cert, msg: register("cc:1")}, fmt.Sprintf("Chaincode cc:1 with given certificate hash %v not found in registry", hash[:]))
		if _, err := a.issue("cc:3"); err != nil || len(a.issued) != 1 {
			t.Errorf("%d certificates remembered, %v", len(a.issued), err)
		}
	})
}
