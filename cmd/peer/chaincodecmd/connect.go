package chaincodecmd

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/cmd/peer/cli"
	"github.com/heddle-ledger/heddle/internal/chanconfig"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/txbuild"
)

// factory holds the connections of a command: one Endorser and one Deliver
// connection per peer, and one to the orderer if the verb needs it.
type factory struct {
	endorsers []*cli.Conn
	delivers  []*cli.Conn
	orderer   *cli.Conn
}

func (f *factory) close() {
	for _, c := range append(append(f.endorsers, f.delivers...), f.orderer) {
		if c != nil {
			c.Close()
		}
	}
}

// InitCmdFactory makes the connections for a verb. Its name is part of the log
// lines.
func (g *group) InitCmdFactory(ctx context.Context, verb string, needOrderer bool) (*factory, error) {
	f := &factory{}
	if err := g.connectPeers(ctx, verb, f); err != nil {
		f.close()
		return nil, err
	}
	if !needOrderer {
		return f, nil
	}
	if err := g.connectOrderer(ctx, f); err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

func (g *group) connectPeers(ctx context.Context, verb string, f *factory) error {
	targets, err := g.targets(verb)
	if err != nil {
		return fmt.Errorf("error validating peer connection parameters: %w", err)
	}
	for _, t := range targets {
		endorser, err := g.env.DialPeer(ctx, "endorser", t)
		if err != nil {
			return fmt.Errorf("error getting endorser client for %s: %w", verb, err)
		}
		f.endorsers = append(f.endorsers, endorser)
		deliver, err := g.env.DialPeer(ctx, "deliver", t)
		if err != nil {
			return fmt.Errorf("error getting deliver client for %s: %w", verb, err)
		}
		f.delivers = append(f.delivers, deliver)
	}
	return nil
}

// connectOrderer dials the endpoint of -o, or the first one of the channel's
// configuration, which the first peer is asked for.
func (g *group) connectOrderer(ctx context.Context, f *factory) (err error) {
	o := g.orderer
	if o.Endpoint == "" {
		if o.Endpoint, err = g.ordererOfChannel(ctx, f.endorsers[0]); err != nil {
			return fmt.Errorf("error getting channel (%s) orderer endpoint: %w", g.channel, err)
		}
		g.env.Logger("chaincodeCmd").Infof("Retrieved channel (%s) orderer endpoint: %s", g.channel, o.Endpoint)
	}
	f.orderer, err = g.env.DialOrderer(ctx, &o)
	if err != nil {
		return fmt.Errorf("error getting broadcast client: %w", err)
	}
	return nil
}

func (g *group) ordererOfChannel(ctx context.Context, conn *cli.Conn) (string, error) {
	spec := &peer.ChaincodeSpec{
		Type:        peer.ChaincodeSpec_GOLANG,
		ChaincodeId: &peer.ChaincodeID{Name: "cscc"},
		Input:       &peer.ChaincodeInput{Args: [][]byte{[]byte("GetConfigBlock"), []byte(g.channel)}},
	}
	prop, err := txbuild.NewProposal(txbuild.ProposalSpec{Type: common.HeaderType_CONFIG, Spec: spec}, g.env.Signer().Serialize())
	if err != nil {
		return "", err
	}
	signed, err := txbuild.SignProposal(prop.Proposal, g.env.Signer())
	if err != nil {
		return "", err
	}
	resp, err := peer.NewEndorserClient(conn).ProcessProposal(ctx, signed)
	if err != nil {
		return "", fmt.Errorf("error endorsing GetConfigBlock: %w", err)
	}
	if s := resp.GetResponse().GetStatus(); s != 0 && s != int32(common.Status_SUCCESS) {
		return "", fmt.Errorf("error bad proposal response %d: %s", s, resp.Response.Message)
	}
	block := &common.Block{}
	if err := proto.Unmarshal(resp.GetResponse().GetPayload(), block); err != nil {
		return "", fmt.Errorf("error unmarshaling config block: %w", err)
	}
	bundle, err := chanconfig.BundleFromBlock(block, chanconfig.Options{Log: flog.Nop()})
	if err != nil {
		return "", fmt.Errorf("error loading channel config: %w", err)
	}
	addresses := bundle.Channel().OrdererAddresses
	if len(addresses) == 0 {
		return "", fmt.Errorf("no orderer endpoints retrieved for channel %s", g.channel)
	}
	return addresses[0], nil
}

// targets are the peers that the flags name.
func (g *group) targets(verb string) ([]cli.PeerTarget, error) {
	if g.profile != "" {
		if err := g.useProfile(); err != nil {
			return nil, err
		}
	}
	if verb != "invoke" && len(g.peers) > 1 {
		return nil, fmt.Errorf("'%s' command can only be executed against one peer. received %d", verb, len(g.peers))
	}
	if !g.env.Core.Peer.TLS.Enabled {
		g.rootFiles = nil
	} else if len(g.rootFiles) != len(g.peers) {
		return nil, fmt.Errorf("number of peer addresses (%d) does not match the number of TLS root cert files (%d)", len(g.peers), len(g.rootFiles))
	}
	if len(g.peers) == 0 {
		return []cli.PeerTarget{{}}, nil
	}
	var out []cli.PeerTarget
	for i, p := range g.peers {
		t := cli.PeerTarget{Address: p}
		if len(g.rootFiles) > 0 {
			if t.RootFile = g.rootFiles[i]; t.RootFile == "" {
				return nil, errors.New("tls root cert file must be set")
			}
		}
		out = append(out, t)
	}
	return out, nil
}

// connectionProfile is the part of a connection profile that is used.
type connectionProfile struct {
	Channels map[string]struct {
		Peers map[string]struct {
			EndorsingPeer bool `yaml:"endorsingPeer"`
		} `yaml:"peers"`
	} `yaml:"channels"`
	Peers map[string]struct {
		URL        string `yaml:"url"`
		TLSCACerts struct {
			Path string `yaml:"path"`
		} `yaml:"tlsCACerts"`
	} `yaml:"peers"`
}

// useProfile replaces the peers of the flags by the endorsing peers that the
// profile lists for the channel, if it lists any.
func (g *group) useProfile() error {
	text, err := os.ReadFile(g.profile)
	if err != nil {
		return fmt.Errorf("error reading connection profile: %w", err)
	}
	var p connectionProfile
	if err := yaml.Unmarshal(text, &p); err != nil {
		return fmt.Errorf("error unmarshaling YAML: %w", err)
	}
	channel, ok := p.Channels[g.channel]
	if !ok || len(channel.Peers) == 0 {
		return nil
	}
	g.peers, g.rootFiles = nil, nil
	for name, in := range channel.Peers {
		if !in.EndorsingPeer {
			continue
		}
		conf, ok := p.Peers[name]
		if !ok {
			return fmt.Errorf("peer '%s' is defined in the channel config but doesn't have associated peer config", name)
		}
		g.peers = append(g.peers, conf.URL)
		g.rootFiles = append(g.rootFiles, conf.TLSCACerts.Path)
	}
	return nil
}

// propose builds, signs and sends a proposal to every endorser, one after the
// other.
func (g *group) propose(ctx context.Context, f *factory, spec txbuild.ProposalSpec) (*txbuild.Proposal, []*peer.ProposalResponse, error) {
	prop, err := txbuild.NewProposal(spec, g.env.Signer().Serialize())
	if err != nil {
		return nil, nil, err
	}
	signed, err := txbuild.SignProposal(prop.Proposal, g.env.Signer())
	if err != nil {
		return nil, nil, err
	}
	var responses []*peer.ProposalResponse
	for _, e := range f.endorsers {
		r, err := peer.NewEndorserClient(e).ProcessProposal(ctx, signed)
		if err != nil {
			return nil, nil, err
		}
		responses = append(responses, r)
	}
	return prop, responses, nil
}

// responseText is the text form of a response in error texts.
func responseText(r *peer.ProposalResponse) string {
	if r == nil {
		return "<nil>"
	}
	return protoutil.Text(r)
}
