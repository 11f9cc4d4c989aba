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
