package testnet

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"

	"github.com/hyperledger/fabric-chaincode-go/v2/shim"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/internal/policy"
	"github.com/heddle-ledger/heddle/internal/protoutil"
)

// StartChaincode runs a chaincode on the stock shim in this process, connected
// to a peer without TLS. It ends with ctx.
func (n *Net) StartChaincode(ctx context.Context, i int, id string, cc shim.Chaincode) {
	n.t.Helper()
	stream, err := peer.NewChaincodeSupportClient(n.connect(chaincodeAddress(i), n.Orgs[i])).Register(ctx)
	n.check(err)
	go shim.StartInProc(id, stream, cc) //nolint:errcheck // ends with the stream
}

// Install puts a package of a chaincode on a peer; what is in it does not matter
// as the chaincode is started by hand.
func (n *Net) Install(ctx context.Context, c *Client, i int, name, version string) {
	n.t.Helper()
	raw := protoutil.Marshal(&peer.ChaincodeDeploymentSpec{ChaincodeSpec: n.spec(name, version), CodePackage: n.code()})
	_, err := c.Call(ctx, i, "", "lscc", []byte("install"), raw)
	n.check(err)
}

func (n *Net) spec(name, version string) *peer.ChaincodeSpec {
	return &peer.ChaincodeSpec{
		Type: peer.ChaincodeSpec_GOLANG, ChaincodeId: &peer.ChaincodeID{Name: name, Version: version, Path: "example.com/cc"},
		Input: &peer.ChaincodeInput{Args: Args("init")},
	}
}

// code is a code package with one source file.
func (n *Net) code() []byte {
	n.t.Helper()
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	files := tar.NewWriter(zip)
	text := []byte("package main\n")
	n.check(files.WriteHeader(&tar.Header{Name: "src/example.com/cc/main.go", Mode: 0o100644, Size: int64(len(text))}))
	_, err := files.Write(text)
	n.check(err)
	n.check(files.Close())
	n.check(zip.Close())
	return out.Bytes()
}

// Deploy instantiates an installed chaincode with an endorsement policy and
// returns the transaction's id.
func (n *Net) Deploy(ctx context.Context, c *Client, i int, channel, name, version, rule string) string {
	n.t.Helper()
	p, err := policy.FromString(rule)
	n.check(err)
	id, err := c.Invoke(ctx, []int{i}, channel, "lscc", []byte("deploy"), []byte(channel),
		protoutil.Marshal(&peer.ChaincodeDeploymentSpec{ChaincodeSpec: n.spec(name, version)}), protoutil.Marshal(p))
	n.check(err)
	return id
}
