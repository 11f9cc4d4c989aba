package cscc_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/chaincode/support"
	"github.com/heddle-ledger/heddle/internal/chanconfig"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/peer/syscc/cscc"
)

// fakePeer has joined ch1.
type fakePeer struct {
	bundle *chanconfig.Bundle
	block  *common.Block
	joined *common.Block
	refuse error
}

func (p *fakePeer) Join(b *common.Block) error { p.joined = b; return p.refuse }
func (p *fakePeer) List() []string             { return []string{"ch1", "ch2"} }
func (p *fakePeer) Bundle(id string) (*chanconfig.Bundle, bool) {
	return p.bundle, id == "ch1"
}

func (p *fakePeer) CheckACL(resource, channelID string, _ *peer.SignedProposal) error {
	return p.refuse
}
func (p *fakePeer) CheckLocal(role string, _ *peer.SignedProposal) error { return p.refuse }

func newPeer(t testing.TB) (*fakePeer, *cscc.CSCC, []byte) {
	t.Helper()
	raw, err := os.ReadFile("testdata/ch1.block")
	if err != nil {
		t.Fatal(err)
	}
	p := &fakePeer{block: &common.Block{}}
	if err := proto.Unmarshal(raw, p.block); err != nil {
		t.Fatal(err)
	}
	if p.bundle, err = chanconfig.BundleFromBlock(p.block, chanconfig.Options{Log: flog.Nop()}); err != nil {
		t.Fatal(err)
	}
	return p, cscc.New(cscc.Config{
		Channels: p, Access: p,
		ConfigBlock: func(id string) (*common.Block, bool, error) {
			if id == "broken" {
				return nil, true, errors.New("disk on fire")
			}
			return p.block, id == "ch1", nil
		},
	}), raw
}

func call(c *cscc.CSCC, args ...[]byte) *peer.Response {
	return c.Invoke(context.Background(), &support.Invocation{Name: "cscc", Args: args, SignedProposal: &peer.SignedProposal{}})
}

func texts(args ...string) [][]byte {
	var out [][]byte
	for _, a := range args {
		out = append(out, []byte(a))
	}
	return out
}

func want(t *testing.T, what string, got *peer.Response, message string) {
	t.Helper()
	if cut, ok := strings.CutSuffix(message, "…"); ok && strings.HasPrefix(got.Message, cut) {
		return
	}
	if got.Message != message || (got.Status == 200) != (message == "") {
		t.Errorf("%s: got %v, want %q", what, got, message)
	}
}

func TestQueries(t *testing.T) {
	t.Parallel()
	p, c, raw := newPeer(t)
	if got := call(c, texts("GetConfigBlock", "ch1")...); string(got.Payload) != string(raw) {
		t.Errorf("got %v", got.Message)
	}
	tree := &peer.ConfigTree{}
	got := call(c, texts("GetConfigTree", "ch1")...)
	if err := proto.Unmarshal(got.Payload, tree); err != nil || !proto.Equal(tree.ChannelConfig, p.bundle.Config()) {
		t.Errorf("got %v, %v", got.Message, err)
	}
	channels := &peer.ChannelQueryResponse{}
	if err := proto.Unmarshal(call(c, texts("GetChannels")...).Payload, channels); err != nil || len(channels.Channels) != 2 || channels.Channels[1].ChannelId != "ch2" {
		t.Errorf("got %v, %v", channels, err)
	}
	for _, tc := range []struct {
		args    []string
		message string
	}{
		{nil, "Incorrect number of arguments, 0"},
		{[]string{"GetConfigTree"}, "Incorrect number of arguments, 1"},
		{[]string{"Nope", "x"}, "Requested function Nope not found."},
		{[]string{"GetConfigBlock", "nochan"}, "Unknown chain ID, nochan"},
		{[]string{"GetConfigTree", "nochan"}, "Unknown chain ID, nochan"},
		{[]string{"GetConfigBlock", "broken"}, "disk on fire"},
		{[]string{"SimulateConfigTreeUpdate", "ch1"}, "Incorrect number of arguments, 2"},
		{[]string{"SimulateConfigTreeUpdate", "nochan", ""}, "Unknown chain ID, nochan"},
		{[]string{"SimulateConfigTreeUpdate", "ch1", ""}, "invalid payload header type: 0"},
	} {
		want(t, strings.Join(tc.args, " "), call(c, texts(tc.args...)...), tc.message)
	}
	p.refuse = errors.New("no")
	want(t, "denied", call(c, texts("GetConfigBlock", "ch1")...), "access denied for [GetConfigBlock][ch1]: no")
	want(t, "denied", call(c, texts("GetChannels")...), "access denied for [GetChannels]: no")
	got = c.Invoke(context.Background(), &support.Invocation{Args: texts("GetChannels")})
	want(t, "no proposal", got, "Failed retrieving signed proposal on executing GetChannels with error…")
}

func envelope(typ common.HeaderType, data []byte) *common.Envelope {
	ch := protoutil.Marshal(&common.ChannelHeader{Type: int32(typ), ChannelId: "new"})
	return &common.Envelope{Payload: protoutil.Marshal(&common.Payload{Header: &common.Header{ChannelHeader: ch}, Data: data})}
}

func TestSimulateUpdate(t *testing.T) {
	t.Parallel()
	_, c, _ := newPeer(t)
	simulate := func(env *common.Envelope) *peer.Response {
		return call(c, []byte("SimulateConfigTreeUpdate"), []byte("ch1"), protoutil.Marshal(env))
	}
	want(t, "type", simulate(envelope(common.HeaderType_CONFIG, nil)), "invalid payload header type: 1")
	if got := simulate(envelope(common.HeaderType_CONFIG_UPDATE, nil)); got.Status != 500 {
		t.Errorf("an empty update is an error: %v", got)
	}
}

func TestJoin(t *testing.T) {
	t.Parallel()
	p, c, raw := newPeer(t)
	want(t, "good", call(c, []byte("JoinChain"), raw), "")
	if !proto.Equal(p.joined, p.block) {
		t.Error("another block was joined")
	}
	block := func(env *common.Envelope) []byte {
		return protoutil.Marshal(&common.Block{Data: &common.BlockData{Data: [][]byte{protoutil.Marshal(env)}}})
	}
	config := func(cfg *common.Config) []byte {
		return block(envelope(common.HeaderType_CONFIG, protoutil.Marshal(&common.ConfigEnvelope{Config: cfg})))
	}
	const invalid = `"JoinChain" for chainID = new failed because of validation of configuration block, because of `
	other := map[string]*common.ConfigGroup{"Orderer": {}}
	for _, tc := range []struct {
		name    string
		block   []byte
		message string
	}{
		{"nil", nil, "Cannot join the channel <nil> configuration block provided"},
		{"garbage", []byte("x"), "Failed to reconstruct the genesis block, error unmarshaling block: …"},
		{"empty", []byte{}, `"JoinChain" request failed to extract channel id from the block due to [failed to retrieve channel id - block is empty]`},
		{"no header", block(&common.Envelope{}), `"JoinChain" request failed to extract channel id from the block due to […`},
		{"type", block(envelope(common.HeaderType_MESSAGE, nil)), invalid + "Bad configuration envelope: …"},
		{"data", block(envelope(common.HeaderType_CONFIG, []byte{0xff})), invalid + "Bad configuration envelope: …"},
		{"no config", config(nil), invalid + "Nil config envelope Config"},
		{"no group", config(&common.Config{}), invalid + "Nil channel group"},
		{"no groups", config(&common.Config{ChannelGroup: &common.ConfigGroup{}}), invalid + "No channel configuration groups are available"},
		{"no application", config(&common.Config{ChannelGroup: &common.ConfigGroup{Groups: other}}), invalid + "Invalid configuration block, missing Application configuration group"},
	} {
		want(t, tc.name, call(c, []byte("JoinChain"), tc.block), tc.message)
	}
	p.refuse = errors.New("no")
	want(t, "denied", call(c, []byte("JoinChain"), raw), "access denied for [JoinChain][ch1]: [no]")
}

func FuzzInvoke(f *testing.F) {
	_, c, raw := newPeer(f)
	f.Add("JoinChain", raw, []byte{})
	f.Add("SimulateConfigTreeUpdate", []byte("ch1"), protoutil.Marshal(envelope(common.HeaderType_CONFIG_UPDATE, nil)))
	f.Add("GetConfigTree", []byte("ch1"), []byte{})
	f.Fuzz(func(t *testing.T, function string, a, b []byte) {
		for _, args := range [][][]byte{{[]byte(function)}, {[]byte(function), a}, {[]byte(function), a, b}} {
			if call(c, args...) == nil {
				t.Error("no response")
			}
		}
	})
}
