package e2e

import (
	"strings"
	"testing"
)

// TestMutualTLS runs a network whose nodes want certificates of all clients:
// commands, the peer that fetches blocks, and the binding of Deliver requests to
// connections.
func TestMutualTLS(t *testing.T) {
	n := newNetwork(t, options{})
	roots := []string{
		n.orgDir(0) + "/tlsca/tlsca.org1.example.com-cert.pem", n.orgDir(1) + "/tlsca/tlsca.org2.example.com-cert.pem",
	}
	n.startOrderer("ORDERER_GENERAL_TLS_CLIENTAUTHREQUIRED=true", "ORDERER_GENERAL_TLS_CLIENTROOTCAS=["+strings.Join(roots, ",")+"]")
	n.startPeer(0, "CORE_PEER_TLS_CLIENTAUTHREQUIRED=true", "CORE_PEER_TLS_CLIENTROOTCAS_FILES="+roots[0])

	tls := n.userDir(0, "Admin") + "/tls"
	a := n.user(0, "Admin", "CORE_PEER_TLS_CLIENTAUTHREQUIRED=true",
		"CORE_PEER_TLS_CLIENTCERT_FILE="+tls+"/client.crt", "CORE_PEER_TLS_CLIENTKEY_FILE="+tls+"/client.key")
	ordered := func(args ...string) []string {
		return append(n.ordered(args...), "--clientauth", "--certfile", tls+"/client.crt", "--keyfile", tls+"/client.key")
	}
	a.peer(ordered("channel", "create", "-c", "mychannel", "-f", "mychannel.tx")...)
	a.peer("channel", "join", "-b", "mychannel.block")
	r := a.peer(ordered("chaincode", "invoke", "-C", "mychannel", "-n", "qscc", "-c", `{"Args":["GetChainInfo","mychannel"]}`,
		"--waitForEvent", "--peerAddresses", n.peerAddress(0), "--tlsRootCertFiles", n.peerDir(0)+"/tls/ca.crt")...)
	if want := "committed with status (VALID) at " + n.peerAddress(0); !strings.Contains(r.stderr, want) {
		t.Errorf("no %q in\n%s", want, r.stderr)
	}
	a.peer("channel", "fetch", "newest", "-c", "mychannel")
	a.peer(ordered("channel", "fetch", "newest", "-c", "mychannel")...)

	for name, try := range map[string]func() result{
		"peer":    func() result { return n.admin(0).try("channel", "list") },
		"orderer": func() result { return a.try(n.ordered("channel", "fetch", "newest", "-c", "mychannel")...) },
	} {
		if r := try(); r.code != 1 || !strings.Contains(r.stderr, "Error: ") {
			t.Errorf("%s: exit code %d\n%s", name, r.code, r.stderr)
		}
	}
}
