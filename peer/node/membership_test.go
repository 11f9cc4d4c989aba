package node

import (
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/internal/policy"
	"github.com/heddle-ledger/heddle/internal/testnet/testchain"
	"github.com/heddle-ledger/heddle/ledger"
	"github.com/heddle-ledger/heddle/msp/x509msp"
	"github.com/heddle-ledger/heddle/peer/channel"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestMembership: a peer is a member where its own identity satisfies the policy,
// in a joined channel as in one that is being opened.
func TestMembership(t *testing.T) {
	t.Parallel()
	net := testchain.New(t)
	dir := t.TempDir()
	net.Org1.WriteMSP(dir, net.Peer1)
	local, err := x509msp.LoadLocal(x509msp.LocalConfig{Dir: dir, MSPID: "Org1MSP"})
	must(t, err)
	ledgers, err := ledger.OpenProvider(ledger.Config{Dir: t.TempDir()})
	must(t, err)
	t.Cleanup(func() { ledgers.Close() })
	n := &Node{cfg: Config{Local: local}, parts: &parts{}}
	collection := func(rule string) *peer.CollectionPolicyConfig {
		env, err := policy.FromString(rule)
		must(t, err)
		return &peer.CollectionPolicyConfig{Payload: &peer.CollectionPolicyConfig_SignaturePolicy{SignaturePolicy: env}}
	}
	check := func(when string) {
		t.Helper()
		for rule, want := range map[string]bool{
			"OR('Org1MSP.member','Org2MSP.member')": true,
			"OR('Org2MSP.member')":                  false,
			"OR('Org1MSP.peer')":                    true,
			"OR('Org1MSP.admin')":                   false,
			"OR('NoMSP.member')":                    false,
		} {
			if got, err := n.isMember("ch", collection(rule)); got != want || err != nil {
				t.Errorf("%s, %s: %v, %v", when, rule, got, err)
			}
		}
		for _, bad := range []*peer.CollectionPolicyConfig{
			nil, {}, {Payload: &peer.CollectionPolicyConfig_SignaturePolicy{SignaturePolicy: &common.SignaturePolicyEnvelope{Version: 7}}},
		} {
			if got, err := n.isMember("ch", bad); got || err == nil {
				t.Errorf("%s, no policy: %v, %v", when, got, err)
			}
		}
	}
	check("before there are channels")
	n.parts.channels = channel.New(channel.Config{Ledgers: ledgers})
	check("before the channel is open")
	must(t, n.parts.channels.Join(net.Genesis("ch")))
	check("joined")
}
