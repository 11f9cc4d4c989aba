package config

import (
	"errors"
	"fmt"
	"net"
)

// PeerAddress is the address under which others reach the peer: peer.address,
// whose host is replaced by the machine's first non-loopback IPv4 address when
// it is unspecified or auto-detection is on (SURFACE §1.6).
func (p Peer) PeerAddress() (string, error) {
	if p.Address == "" {
		return "", errors.New("peer.address isn't set")
	}
	host, port, err := net.SplitHostPort(p.Address)
	if err != nil {
		return "", fmt.Errorf("peer.address isn't in host:port format: %s", p.Address)
	}
	ip := net.ParseIP(host)
	if !p.AddressAutoDetect && (ip == nil || !ip.IsUnspecified()) {
		return p.Address, nil
	}
	local, err := localIP()
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(local, port), nil
}

func localIP() (string, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return "", fmt.Errorf("find the machine's address: %w", err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() && n.IP.To4() != nil {
			return n.IP.String(), nil
		}
	}
	return "", errors.New("no non-loopback, IPv4 interface detected")
}

// ErrChaincodeEndpoint is returned when no address can be given to chaincodes.
var ErrChaincodeEndpoint = errors.New("invalid endpoint for chaincode to connect")

// ChaincodeEndpoint is the address that chaincodes dial and the one that the
// peer listens on for them (SURFACE §2.2). peerHost is the host of PeerAddress.
func (p Peer) ChaincodeEndpoint(peerHost string) (endpoint, listen string, err error) {
	const defaultPort = "7052"
	listen = p.ChaincodeListenAddress
	if listen == "" {
		listen = net.JoinHostPort(peerHost, defaultPort)
	}
	if p.ChaincodeAddress != "" {
		endpoint = p.ChaincodeAddress
		if unspecified(hostOf(endpoint)) {
			return "", listen, ErrChaincodeEndpoint
		}
		return endpoint, listen, validHostPort(endpoint)
	}
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", listen, ErrChaincodeEndpoint
	}
	if !unspecified(host) {
		return listen, listen, nil
	}
	if unspecified(peerHost) {
		return "", listen, ErrChaincodeEndpoint
	}
	return net.JoinHostPort(peerHost, port), listen, nil
}

func validHostPort(a string) error {
	if _, _, err := net.SplitHostPort(a); err != nil {
		return ErrChaincodeEndpoint
	}
	return nil
}

func hostOf(a string) string {
	host, _, err := net.SplitHostPort(a)
	if err != nil {
		return ""
	}
	return host
}

func unspecified(host string) bool {
	if host == "" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsUnspecified()
}
