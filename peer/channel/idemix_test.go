package channel

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
)

// addIdemix adds an organisation that this program cannot judge.
func addIdemix(c *common.Config) {
	conf := &msp.MSPConfig{Type: 1, Config: protoutil.Marshal(&msp.IdemixMSPConfig{Name: "IdemixMSP"})}
	c.ChannelGroup.Groups["Application"].Groups["Idemix"] = &common.ConfigGroup{
		ModPolicy: "Admins",
		Values:    map[string]*common.ConfigValue{"MSP": {ModPolicy: "Admins", Value: protoutil.Marshal(conf)}},
	}
}

// TestIdemixStopsOneChannel: a configuration with an idemix MSP, which another kind of orderer may let pass, stops
// its channel and nothing else; it is neither committed nor taken for valid (docs/adr/0002-idemix.md).
func TestIdemixStopsOneChannel(t *testing.T) {
	t.Parallel()
	net := testchain.New(t)
	log := &logCatcher{}
	dir := peerDir{t: t, dir: t.TempDir(), log: flog.ForTest(log)}
	r := dir.start(0)
	genesis, other := net.Genesis("ch"), net.Genesis("other")
	must(t, r.Join(genesis))
	must(t, r.Join(other))
	c := r.channel("ch")
	env := net.ConfigUpdate(c.Bundle(), addIdemix, net.Admin1, net.Admin2, net.OrdererAdm)
	r.offer(c, net.Block(1, genesis.Header, 1, env))
	log.wait("[ch] Cannot commit block to the ledger due to ")
	log.wait(x509msp.ErrIdemix.Error() + ". Aborting chain processing; other channels go on")
	o := r.channel("other")
	r.offer(o, net.Block(1, other.Header, 0, net.Tx(testchain.Tx{Channel: "other", Chaincode: "x"})))
	r.waitFor(o, 2)
	if c.Height() != 1 || c.Bundle().Sequence() != 0 {
		t.Errorf("height %d, sequence %d", c.Height(), c.Bundle().Sequence())
	}
	must(t, r.stop())
}

// TestIdemixChannelLeftOut: a ledger whose configuration has an idemix MSP is not opened; the others are.
func TestIdemixChannelLeftOut(t *testing.T) {
	t.Parallel()
	net := testchain.New(t)
	log := &logCatcher{}
	dir := peerDir{t: t, dir: t.TempDir(), log: flog.ForTest(log)}
	r := dir.start(0)
	must(t, r.Join(net.Genesis("ok")))
	genesis := net.Genesis("ch")
	edit(t, genesis, addIdemix)
	_, err := r.ledgers.Create(genesis)
	must(t, err)
	if err := r.Join(genesis); err == nil || !strings.Contains(err.Error(), x509msp.ErrIdemix.Error()) {
		t.Errorf("join: %v", err)
	}
	must(t, r.stop())
	r = dir.start(0)
	log.wait("Failed to load chain ch(initializing channelconfig failed: could not create channel Application sub-group config: " + x509msp.ErrIdemix.Error() + ")")
	if got := r.List(); len(got) != 1 || got[0] != "ok" {
		t.Errorf("channels: %v", got)
	}
	must(t, r.stop())
}

// edit changes the configuration in a genesis block.
func edit(t *testing.T, b *common.Block, change func(*common.Config)) {
	t.Helper()
	env, payload, cfg := envelopeOf(t, b.Data.Data[0]), &common.Payload{}, &common.ConfigEnvelope{}
	must(t, proto.Unmarshal(env.Payload, payload))
	must(t, proto.Unmarshal(payload.Data, cfg))
	change(cfg.Config)
	payload.Data = protoutil.Marshal(cfg)
	env.Payload = protoutil.Marshal(payload)
	b.Data.Data[0] = protoutil.Marshal(env)
	b.Header.DataHash = protoutil.DataHash(b.Data.Data)
}
