package support

import (
	"errors"
	"net"
)

// DefaultPort is the port of the chaincode listener.
const DefaultPort = "7052"

var errEndpoint = errors.New("invalid endpoint for chaincode to connect")

// EndpointConfig is what the chaincode endpoint is computed from.
type EndpointConfig struct {
	PeerHost         string // host part of the peer's own address
	ListenAddress    string // peer.chaincodeListenAddress
	ChaincodeAddress string // peer.chaincodeAddress
}

// Endpoint returns the address told to chaincodes (CHAINCODE §1.1).
func Endpoint(c EndpointConfig) (string, error) {
	if c.ChaincodeAddress != "" {
		return checked(c.ChaincodeAddress)
	}
	port := DefaultPort
	if c.ListenAddress != "" {
		host, p, err := net.SplitHostPort(c.ListenAddress)
		if err != nil {
			return "", err
		}
		if !unspecified(host) {
			return c.ListenAddress, nil
		}
		port = p
	}
	return checked(net.JoinHostPort(c.PeerHost, port))
}

func checked(address string) (string, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return "", err
	}
	if unspecified(host) {
		return "", errEndpoint
	}
	return address, nil
}

func unspecified(host string) bool {
	ip := net.ParseIP(host)
	return ip != nil && ip.IsUnspecified()
}
