package multichannel

import (
	"strings"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/msp"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/testnet/testchain"
	"github.com/heddle-ledger/heddle/msp/x509msp"
	"github.com/heddle-ledger/heddle/orderer/chainstore"
	"github.com/heddle-ledger/heddle/orderer/consensus"
	"github.com/heddle-ledger/heddle/orderer/consensus/solo"
)

// lines collects log lines.
type lines struct{ strings.Builder }

func (*lines) Helper() {}

func (l *lines) Log(args ...any) {
	for _, a := range args {
		l.WriteString(a.(string))
	}
}

// genesis is the first block of a channel with a changed configuration.
func genesis(t *testing.T, net *testchain.Net, id string, change func(*common.ConfigGroup)) *common.Block {
	t.Helper()
	b := net.Genesis(id)
	env, payload, cfg := &common.Envelope{}, &common.Payload{}, &common.ConfigEnvelope{}
	for _, step := range []struct {
		raw  func() []byte
		into proto.Message
	}{
		{func() []byte { return b.Data.Data[0] }, env},
		{func() []byte { return env.Payload }, payload},
		{func() []byte { return payload.Data }, cfg},
	} {
		if err := proto.Unmarshal(step.raw(), step.into); err != nil {
			t.Fatal(err)
		}
	}
	change(cfg.Config.ChannelGroup)
	payload.Data = protoutil.Marshal(cfg)
	env.Payload = protoutil.Marshal(payload)
	b.Data.Data[0] = protoutil.Marshal(env)
	b.Header.DataHash = protoutil.DataHash(b.Data.Data)
	return b
}

// TestIdemixChannelLeftOut: a channel in the store whose configuration has an idemix MSP, made by another kind of
// orderer, is not served, nor made anew; the others are (docs/adr/0002-idemix.md).
func TestIdemixChannelLeftOut(t *testing.T) {
	t.Parallel()
	net := testchain.New(t)
	store, err := chainstore.Open(chainstore.Config{Type: chainstore.RAM, HistorySize: 10})
	if err != nil {
		t.Fatal(err)
	}
	idemix := func(g *common.ConfigGroup) {
		conf := &msp.MSPConfig{Type: 1, Config: protoutil.Marshal(&msp.IdemixMSPConfig{Name: "IdemixMSP"})}
		g.Groups["Application"].Groups["Idemix"] = &common.ConfigGroup{
			Values: map[string]*common.ConfigValue{"MSP": {Value: protoutil.Marshal(conf)}},
		}
	}
	strange := genesis(t, net, "strange", idemix)
	for id, b := range map[string]*common.Block{
		"sys":     genesis(t, net, "sys", func(g *common.ConfigGroup) { g.Groups["Consortiums"] = &common.ConfigGroup{} }),
		"strange": strange,
		"ok":      net.Genesis("ok"),
	} {
		ledger, err := store.Chain(id)
		if err != nil {
			t.Fatal(err)
		}
		if err := ledger.Append(b); err != nil {
			t.Fatal(err)
		}
	}
	log := &lines{}
	r, err := Open(Config{
		Store: store, Signer: signer{}, Log: flog.ForTest(log),
		Consenters: map[string]consensus.Consenter{"solo": solo.New(flog.Nop())},
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := "[channel strange] is not served: [channel strange] Error creating channelconfig bundle: initializing channelconfig failed: " +
		"could not create channel Application sub-group config: " + x509msp.ErrIdemix.Error(); !strings.Contains(log.String(), want) {
		t.Errorf("the log lacks %s:\n%s", want, log.String())
	}
	if _, ok := r.Channel("ok"); !ok || r.Count() != 2 || r.Route("strange") != r.System() {
		t.Errorf("%d channels", r.Count())
	}
	env := &common.Envelope{}
	if err := proto.Unmarshal(strange.Data.Data[0], env); err != nil {
		t.Fatal(err)
	}
	if err := r.create(env); err != nil {
		t.Errorf("a creation transaction for it: %v", err)
	}
	if _, ok := r.Channel("strange"); ok {
		t.Error("it was created")
	}
}
