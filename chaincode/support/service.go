package support

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/grpc/credentials"
	grpcpeer "google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/chaincode/stream"
)

// Register serves one chaincode stream (CHAINCODE §1, §2).
func (s *Support) Register(conn peer.ChaincodeSupport_RegisterServer) error {
	var first *peer.ChaincodeMessage
	if s.cfg.TLS != nil {
		var err error
		if first, err = s.admit(conn); err != nil {
			return err
		}
	}
	st := stream.New(s.streams)
	defer s.registry.deregister(st)
	return st.Serve(conn, first)
}

// admit checks that the chaincode presents the certificate made for it.
func (s *Support) admit(conn peer.ChaincodeSupport_RegisterServer) (*peer.ChaincodeMessage, error) {
	first, err := conn.Recv()
	if err != nil {
		return nil, fmt.Errorf("Recv() error: %w, closing connection", err) //nolint:staticcheck // the reference's text
	}
	if first.Type != peer.ChaincodeMessage_REGISTER {
		return nil, errors.New("First message needs to be a register") //nolint:staticcheck // the reference's text
	}
	id := &peer.ChaincodeID{}
	if err := proto.Unmarshal(first.Payload, id); err != nil {
		return nil, err
	}
	hash := certHash(conn.Context())
	if len(hash) == 0 {
		return nil, fmt.Errorf("TLS is active but chaincode %s didn't send certificate", id.Name)
	}
	owner, ok := s.cfg.TLS.owner(hash)
	switch {
	case !ok:
		return nil, fmt.Errorf("Chaincode %s with given certificate hash %v not found in registry", id.Name, hash) //nolint:staticcheck // the reference's text
	case owner != id.Name:
		return nil, fmt.Errorf("Chaincode %s with given certificate hash %v belongs to a different chaincode", id.Name, hash) //nolint:staticcheck // the reference's text
	}
	return first, nil
}

// certHash returns the SHA-256 of the client's certificate, nil without one.
func certHash(ctx context.Context) []byte {
	p, ok := grpcpeer.FromContext(ctx)
	if !ok {
		return nil
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.PeerCertificates) == 0 {
		return nil
	}
	sum := sha256.Sum256(info.State.PeerCertificates[0].Raw)
	return sum[:]
}
