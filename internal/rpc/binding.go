package rpc

import (
	"context"
	"crypto/sha256"
	"crypto/x509"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// PeerCertificate is the certificate that the other side of an RPC presented in
// the TLS handshake, nil if there is none.
func PeerCertificate(ctx context.Context) *x509.Certificate {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.PeerCertificates) == 0 {
		return nil
	}
	return info.State.PeerCertificates[0]
}

// PeerCertHash is SHA-256 of the DER form of PeerCertificate, nil if there is
// none. Channel headers carry it as tls_cert_hash (SURFACE §2.2).
func PeerCertHash(ctx context.Context) []byte {
	cert := PeerCertificate(ctx)
	if cert == nil {
		return nil
	}
	sum := sha256.Sum256(cert.Raw)
	return sum[:]
}

// PeerAddress is the network address of the other side of an RPC, "" if it is
// not known.
func PeerAddress(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok || p.Addr == nil {
		return ""
	}
	return p.Addr.String()
}
