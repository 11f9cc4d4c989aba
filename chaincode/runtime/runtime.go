// Package runtime is what all chaincode runtimes share: what a chaincode is
// started with (CHAINCODE §5.2), how containers and images are named (§5.3),
// and the contract of a started instance. The runtimes themselves are its
// sub-folders; chaincode/support uses them through its own interface. The
// package holds no state and starts no goroutine.
package runtime

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"

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
	// Wait blocks until the chaincode has ended and returns its exit status,
	// 128+signal when it was killed; or until ctx ends.
	Wait(ctx context.Context) (int, error)
	// Stop ends the chaincode and waits for its end. It may be called often.
	Stop()
	// Output returns the last lines the chaincode wrote, if the runtime knows.
	Output() string
}

// CName returns NAME:VERSION, the name the chaincode registers under.
func (s *Spec) CName() string { return s.Name + ":" + s.Version }

// Args returns the command that starts the chaincode.
func (s *Spec) Args() ([]string, error) {
	switch s.Type {
	case peer.ChaincodeSpec_GOLANG, peer.ChaincodeSpec_CAR:
		return []string{"chaincode", "-peer.address=" + s.PeerAddress}, nil
	case peer.ChaincodeSpec_NODE:
		return []string{"/bin/sh", "-c", "cd /usr/local/src; npm start -- --peer.address " + s.PeerAddress}, nil
	case peer.ChaincodeSpec_JAVA:
		return []string{"/root/chaincode-java/start", "--peerAddress", s.PeerAddress}, nil
	default:
		return nil, fmt.Errorf("unknown chaincodeType: %s", s.Type)
	}
}

// Paths are where a chaincode finds its TLS files.
type Paths struct {
	Key, Cert string // base64 of the PEM, as all shims read them
	Root      string
	// KeyPEM and CertPEM are for newer shims; empty: not told.
	KeyPEM, CertPEM string
}

// ContainerPaths are those of the reference.
func ContainerPaths() Paths {
	const dir = "/etc/hyperledger/fabric/"
	return Paths{Key: dir + "client.key", Cert: dir + "client.crt", Root: dir + "peer.crt"}
}

// Env returns the environment of the chaincode, in the reference's order.
func (s *Spec) Env(p Paths) []string {
	env := []string{
		"CORE_CHAINCODE_LOGGING_LEVEL=" + s.Environment.LogLevel,
		"CORE_CHAINCODE_LOGGING_SHIM=" + s.Environment.ShimLogLevel,
		"CORE_CHAINCODE_LOGGING_FORMAT=" + s.Environment.LogFormat,
		"CORE_CHAINCODE_ID_NAME=" + s.CName(),
	}
	if s.TLS == nil {
		return append(env, "CORE_PEER_TLS_ENABLED=false")
	}
	env = append(env,
		"CORE_PEER_TLS_ENABLED=true",
		"CORE_TLS_CLIENT_KEY_PATH="+p.Key,
		"CORE_TLS_CLIENT_CERT_PATH="+p.Cert,
		"CORE_PEER_TLS_ROOTCERT_FILE="+p.Root,
	)
	if p.KeyPEM != "" && p.CertPEM != "" {
		env = append(env, "CORE_TLS_CLIENT_KEY_FILE="+p.KeyPEM, "CORE_TLS_CLIENT_CERT_FILE="+p.CertPEM)
	}
	return env
}

// Files returns the content of the files at p; none without TLS.
func (s *Spec) Files(p Paths) map[string][]byte {
	if s.TLS == nil {
		return nil
	}
	files := map[string][]byte{
		p.Key:  []byte(base64.StdEncoding.EncodeToString(s.TLS.ClientKey)),
		p.Cert: []byte(base64.StdEncoding.EncodeToString(s.TLS.ClientCert)),
		p.Root: s.TLS.RootCert,
	}
	if p.KeyPEM != "" && p.CertPEM != "" {
		files[p.KeyPEM], files[p.CertPEM] = s.TLS.ClientKey, s.TLS.ClientCert
	}
	return files
}

// ValidLogLevel tells whether a chaincode can be given the level.
func ValidLogLevel(level string) bool {
	switch strings.ToUpper(level) {
	case "CRITICAL", "ERROR", "WARNING", "NOTICE", "INFO", "DEBUG":
		return true
	default:
		return false
	}
}
