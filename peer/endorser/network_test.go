package endorser_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/chaincode/packaging"
	"github.com/heddle-ledger/heddle/chaincode/support"
	"github.com/heddle-ledger/heddle/internal/chanconfig"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/testpki"
	"github.com/heddle-ledger/heddle/internal/txbuild"
	"github.com/heddle-ledger/heddle/ledger"
	"github.com/heddle-ledger/heddle/msp"
	"github.com/heddle-ledger/heddle/msp/x509msp"
	"github.com/heddle-ledger/heddle/peer/acl"
	"github.com/heddle-ledger/heddle/peer/endorser"
	"github.com/heddle-ledger/heddle/peer/syscc/cscc"
	"github.com/heddle-ledger/heddle/peer/syscc/lscc"
	"github.com/heddle-ledger/heddle/peer/syscc/qscc"
)

// network is a peer of Org1 on the recorded channel ch1, whose organisations
// have been given keys of this test's own.
type network struct {
	people   map[string]*testpki.Identity // admin1, user1, admin2
	bundle   *chanconfig.Bundle
	ledger   *ledger.Ledger
	blocks   []*common.Block
	packages *packaging.Store
	dir      string
	config   endorser.Config
	*endorser.Endorser
}

const channelID = "ch1"

func loadJSON(t testing.TB, file string, into any) {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.NewDecoder(z).Decode(into); err != nil {
		t.Fatal(err)
	}
}

func newNetwork(t testing.TB) *network {
	t.Helper()
	n := &network{people: map[string]*testpki.Identity{}}
	orgs := map[string]*testpki.Org{}
	for i, id := range []string{"Org1MSP", "Org2MSP"} {
		org := testpki.NewOrg(t, id)
		org.NoNodeOUs = true
		admin := org.Admin("admin")
		org.Admins = []*testpki.Identity{admin}
		n.people[fmt.Sprintf("admin%d", i+1)] = admin
		orgs[id] = org
	}
	n.people["user1"] = orgs["Org1MSP"].Client("user")
	n.openLedger(t, orgs)
	n.openPackages(t)
	n.wire(t, orgs["Org1MSP"])
	return n
}

// openLedger starts the recorded chain with a config that knows the test's
// organisations.
func (n *network) openLedger(t testing.TB, orgs map[string]*testpki.Org) {
	t.Helper()
	var raw [][]byte
	loadJSON(t, "ch1_blocks.json.gz", &raw)
	for _, r := range raw {
		b := &common.Block{}
		if err := proto.Unmarshal(r, b); err != nil {
			t.Fatal(err)
		}
		n.blocks = append(n.blocks, b)
	}
	replaceOrgs(t, n.blocks[0], orgs)
	for i, b := range n.blocks[1:] {
		b.Header.PreviousHash = protoutil.BlockHash(n.blocks[i].Header)
	}
	var err error
	if n.bundle, err = chanconfig.BundleFromBlock(n.blocks[0], chanconfig.Options{Log: flog.Nop()}); err != nil {
		t.Fatal(err)
	}
	provider, err := ledger.OpenProvider(ledger.Config{Dir: filepath.Join(t.TempDir(), "ledgersData")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = provider.Close() })
	if n.ledger, err = provider.Create(n.blocks[0]); err != nil {
		t.Fatal(err)
	}
}

func replaceOrgs(t testing.TB, b *common.Block, orgs map[string]*testpki.Org) {
	t.Helper()
	env, payload, cfg := &common.Envelope{}, &common.Payload{}, &common.ConfigEnvelope{}
	must(t, proto.Unmarshal(b.Data.Data[0], env))
	must(t, proto.Unmarshal(env.Payload, payload))
	must(t, proto.Unmarshal(payload.Data, cfg))
	for name, g := range cfg.Config.ChannelGroup.Groups["Application"].Groups {
		org, ok := orgs[name]
		if !ok {
			t.Fatalf("no organisation for group %s", name)
		}
		g.Values["MSP"].Value = protoutil.Marshal(org.MSPConfig())
	}
	payload.Data = protoutil.Marshal(cfg)
	env.Payload = protoutil.Marshal(payload)
	b.Data.Data[0] = protoutil.Marshal(env)
	b.Header.DataHash = protoutil.DataHash(b.Data.Data)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (n *network) openPackages(t testing.TB) {
	t.Helper()
	n.dir = filepath.Join(t.TempDir(), "chaincodes")
	var err error
	if n.packages, err = packaging.OpenStore(packaging.StoreConfig{Dir: n.dir}); err != nil {
		t.Fatal(err)
	}
}

func (n *network) install(t testing.TB, files ...string) {
	t.Helper()
	for _, file := range files {
		raw, err := os.ReadFile(filepath.Join("testdata", "packages", file))
		must(t, err)
		if strings.HasPrefix(file, "node_") { // was installed from another directory
			cds := &peer.ChaincodeDeploymentSpec{}
			must(t, proto.Unmarshal(raw, cds))
			cds.ChaincodeSpec.ChaincodeId.Path = "/opt/example/sources/js/nodecc"
			raw = protoutil.Marshal(cds)
		}
		pkg, err := n.packages.Parse(raw)
		must(t, err)
		must(t, n.packages.Save(pkg))
	}
}

// commit commits the next recorded block with the code given for its
// transaction.
func (n *network) commit(t testing.TB, code peer.TxValidationCode) {
	t.Helper()
	b := protoutil.ParseBlock(n.blocks[n.ledger.Height()])
	b.SetFlags([]byte{byte(code)})
	must(t, n.ledger.Commit(b))
}

func (n *network) channel(id string) (*chanconfig.Bundle, bool) {
	return n.bundle, id == channelID
}

// wire puts the peer together as peer/node does.
func (n *network) wire(t testing.TB, org *testpki.Org) {
	t.Helper()
	dir := t.TempDir()
	org.WriteMSP(dir, org.Peer("peer0"))
	local, err := x509msp.LoadLocal(x509msp.LocalConfig{Dir: dir, MSPID: org.MSPID})
	must(t, err)
	access := acl.New(acl.Config{Channels: n.channel, Local: local, LocalMSPID: org.MSPID})
	system := map[string]support.System{}
	lifecycle := lscc.New(lscc.Config{
		Channels: n.channel, Access: access, Packages: n.packages,
		IsSystem: func(name string) bool {
			_, ok := system[name]
			return ok || name == "escc" || name == "vscc"
		},
	})
	config := cscc.New(cscc.Config{
		Channels: joined{n}, Access: access,
		ConfigBlock: func(id string) (*common.Block, bool, error) { return n.blocks[0], id == channelID, nil },
	})
	query := qscc.New(qscc.Config{
		Access: access,
		Ledger: func(id string, _ bool) (qscc.Ledger, bool) { return n.ledger, id == channelID },
	})
	system["lscc"] = support.System{Run: lifecycle.Invoke, External: true, CC2CC: true}
	system["cscc"] = support.System{Run: config.Invoke, External: true}
	system["qscc"] = support.System{Run: query.Invoke, External: true, CC2CC: true}
	run := support.New(support.Config{System: system, Lifecycle: lifecycle, Packages: n.packages, Access: access})
	plugin, err := endorser.NewPlugin(endorser.DefaultEndorsement, local.SigningIdentity())
	must(t, err)
	auth, err := endorser.NewFilter(endorser.DefaultAuth, nil)
	must(t, err)
	expiry, err := endorser.NewFilter(endorser.ExpirationCheck, x509msp.ExpiresAtOf)
	must(t, err)
	n.config = endorser.Config{
		Identities: func(id string) (msp.Deserializer, bool) {
			if id == "" {
				return local, true
			}
			return n.bundle.MSPManager(), id == channelID
		},
		Ledger:        func(id string) (endorser.Ledger, bool) { return endorser.OnLedger(n.ledger), id == channelID },
		Access:        access,
		Executor:      inProcess{run},
		Lifecycle:     lifecycle,
		Packages:      n.packages,
		Filters:       []endorser.Filter{auth, expiry},
		Plugins:       map[string]endorser.Plugin{"escc": plugin},
		SystemVersion: "latest",
	}
	n.Endorser = endorser.New(n.config)
}

// joined are the peer's channels.
type joined struct{ n *network }

func (j joined) List() []string                              { return []string{"ch1", "ch2"} }
func (j joined) Bundle(id string) (*chanconfig.Bundle, bool) { return j.n.channel(id) }

func (j joined) Join(b *common.Block) error {
	if id, err := protoutil.ChannelIDOfBlock(b); err != nil || id != channelID {
		return fmt.Errorf("channel %s, %w", id, err)
	}
	return errors.New("cannot create ledger from genesis block: LedgerID already exists")
}

// inProcess runs application chaincodes as functions.
type inProcess struct{ *support.Support }

func (x inProcess) Execute(ctx context.Context, p *support.TxParams, name, version string, in *peer.ChaincodeInput) (*peer.Response, *peer.ChaincodeEvent, error) {
	if name != "vec" {
		return x.Support.Execute(ctx, p, name, version, in)
	}
	ok := &peer.Response{Status: 200}
	switch string(in.Args[0]) {
	case "get":
		v, err := p.Simulator.GetState(name, string(in.Args[1]))
		ok.Payload = v
		return ok, nil, err
	case "put":
		return ok, nil, p.Simulator.SetState(name, string(in.Args[1]), in.Args[2])
	case "history":
		_, err := p.History.GetHistoryForKey(name, string(in.Args[1]))
		return nil, nil, err
	}
	return nil, nil, fmt.Errorf("unknown function %s", in.Args[0])
}

// ExecuteInit does what the recorded chaincode did.
func (x inProcess) ExecuteInit(_ context.Context, p *support.TxParams, def *support.Definition, in *peer.ChaincodeInput) (*peer.Response, *peer.ChaincodeEvent, error) {
	if def.Name == "simple" {
		return nil, nil, errNoDocker
	}
	value := fmt.Sprintf("init[%s]", bytes.Join(in.Args[1:], []byte(" ")))
	return &peer.Response{Status: 200}, nil, p.Simulator.SetState(def.Name, "init", []byte(value))
}

var errNoDocker = errors.New("error starting container: error starting container: Post")

// call is one call of a chaincode.
type call struct {
	who, channel, chaincode string
	args                    [][]byte
	transient               map[string][]byte
	spec                    *peer.ChaincodeSpec // instead of chaincode and args
}

func (n *network) proposal(t testing.TB, c call) *peer.SignedProposal {
	t.Helper()
	spec := c.spec
	if spec == nil {
		spec = &peer.ChaincodeSpec{
			Type: peer.ChaincodeSpec_GOLANG, ChaincodeId: &peer.ChaincodeID{Name: c.chaincode},
			Input: &peer.ChaincodeInput{Args: c.args},
		}
	}
	who := n.people[c.who]
	p, err := txbuild.NewProposal(txbuild.ProposalSpec{
		Type: common.HeaderType_ENDORSER_TRANSACTION, ChannelID: c.channel, Spec: spec, Transient: c.transient,
	}, who.Serialize())
	must(t, err)
	sp, err := txbuild.SignProposal(p.Proposal, who)
	must(t, err)
	return sp
}

func args(texts ...string) [][]byte {
	var out [][]byte
	for _, s := range texts {
		out = append(out, []byte(s))
	}
	return out
}

// actionOf decodes the payload of a response.
func actionOf(t testing.TB, payload []byte) (*peer.ProposalResponsePayload, *peer.ChaincodeAction) {
	t.Helper()
	prp, action := &peer.ProposalResponsePayload{}, &peer.ChaincodeAction{}
	must(t, proto.Unmarshal(payload, prp))
	must(t, proto.Unmarshal(prp.Extension, action))
	return prp, action
}
