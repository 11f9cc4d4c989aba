package runtime

import (
	"context"

	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
)

// Spec says which chaincode to start and how it reaches the peer.
type Spec struct {
	Name, Version, Path string
	Type                peer.ChaincodeSpec_Type
	CodePackage         []byte
	PeerAddress         string // the endpoint the chaincode dials
	TLS                 *TLS   // nil: plaintext
	Environment         Environment
}

// TLS is the key material of one launch, all PEM (CHAINCODE §1.2).
type TLS struct {
	ClientKey, ClientCert, RootCert []byte
}

// Environment holds the settings of the peer that chaincodes are told
// (CHAINCODE §5.2).
type Environment struct {
	LogLevel, ShimLogLevel, LogFormat string // chaincode.logging.{level,shim,format}
	BuildLevel                        string // the peer's version
	LocalMSPID                        string
}

// Instance is a started chaincode.
type Instance interface {
	// Wait blocks until the chaincode has ended and returns its exit status;
	// 128+signal when it was killed.
	Wait(ctx context.Context) (int, error)
	// Stop ends the chaincode and waits for its end. It may be called often.
	Stop()
	// Output returns the last lines the chaincode wrote, if the runtime knows.
	Output() string
}

// CName returns NAME:VERSION, the name the chaincode registers under.
func (s *Spec) CName() string { return s.Name + ":" + s.Version }
