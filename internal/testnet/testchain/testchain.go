// Package testchain makes channels for tests: a small network of organisations,
// its genesis block, endorsed transactions, signed blocks, and a ledger in
// memory. Only tests import it; it starts no goroutine.
package testchain

import (
	"math"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/orderer"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/heddle-ledger/heddle/internal/chanconfig"
	"github.com/heddle-ledger/heddle/internal/policy"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/testpki"
)

// Net is two application organisations and one of orderers.
type Net struct {
	tb                    testpki.TB
	Org1, Org2, Ord       *testpki.Org
	User, Peer1, Peer2    *testpki.Identity // of Org1, Org1, Org2
	Admin1, Admin2        *testpki.Identity
	Orderer, OrdererAdm   *testpki.Identity
	nonces                uint64
	OrdererAddresses      []string
	ChannelCapability     string
	OrdererCapability     string
	ApplicationCapability []string
}

// New makes a network whose channels have the capabilities V1_4_3, V1_4_2 and
// V1_4_2.
func New(tb testpki.TB) *Net {
	tb.Helper()
	n := &Net{
		tb: tb, Org1: testpki.NewOrg(tb, "Org1MSP"), Org2: testpki.NewOrg(tb, "Org2MSP"), Ord: testpki.NewOrg(tb, "OrdererMSP"),
		OrdererAddresses: []string{"orderer:7050"}, ChannelCapability: chanconfig.V1_4_3,
		OrdererCapability: chanconfig.V1_4_2, ApplicationCapability: []string{chanconfig.V1_4_2},
	}
	n.User, n.Peer1, n.Admin1 = n.Org1.Client("user1"), n.Org1.Peer("peer0"), n.Org1.Admin("admin1")
	n.Peer2, n.Admin2 = n.Org2.Peer("peer0"), n.Org2.Admin("admin2")
	n.Orderer, n.OrdererAdm = n.Ord.Orderer("orderer"), n.Ord.Admin("admin")
	return n
}

func (n *Net) nonce() []byte {
	n.nonces++
	out := make([]byte, 24)
	for i := range 8 {
		out[i] = byte(n.nonces >> (8 * i))
	}
	return out
}

// Config is the first configuration of a channel.
func (n *Net) Config() *common.Config {
	app := group(map[string]*common.ConfigGroup{"Org1": n.org(n.Org1), "Org2": n.org(n.Org2)})
	app.Values["Capabilities"] = value(capabilities(n.ApplicationCapability...))
	ord := group(map[string]*common.ConfigGroup{"OrdererOrg": n.org(n.Ord)})
	ord.Policies["BlockValidation"] = implicit("Writers", common.ImplicitMetaPolicy_ANY)
	for k, v := range map[string]proto.Message{
		"Capabilities":        capabilities(n.OrdererCapability),
		"ConsensusType":       &orderer.ConsensusType{Type: "solo"},
		"BatchSize":           &orderer.BatchSize{MaxMessageCount: 500, AbsoluteMaxBytes: 10 << 20, PreferredMaxBytes: 2 << 20},
		"BatchTimeout":        &orderer.BatchTimeout{Timeout: "2s"},
		"ChannelRestrictions": &orderer.ChannelRestrictions{},
	} {
		ord.Values[k] = value(v)
	}
	root := group(map[string]*common.ConfigGroup{"Application": app, "Orderer": ord})
	for k, v := range map[string]proto.Message{
		"Capabilities":              capabilities(n.ChannelCapability),
		"OrdererAddresses":          &common.OrdererAddresses{Addresses: n.OrdererAddresses},
		"Consortium":                &common.Consortium{Name: "SampleConsortium"},
		"HashingAlgorithm":          &common.HashingAlgorithm{Name: "SHA256"},
		"BlockDataHashingStructure": &common.BlockDataHashingStructure{Width: math.MaxUint32},
	} {
		root.Values[k] = value(v)
	}
	return &common.Config{ChannelGroup: root}
}

func group(sub map[string]*common.ConfigGroup) *common.ConfigGroup {
	return &common.ConfigGroup{
		Groups: sub, Values: map[string]*common.ConfigValue{}, ModPolicy: "Admins",
		Policies: map[string]*common.ConfigPolicy{
			"Readers": implicit("Readers", common.ImplicitMetaPolicy_ANY),
			"Writers": implicit("Writers", common.ImplicitMetaPolicy_ANY),
			"Admins":  implicit("Admins", common.ImplicitMetaPolicy_ANY),
		},
	}
}

func (n *Net) org(o *testpki.Org) *common.ConfigGroup {
	sign := func(env *common.SignaturePolicyEnvelope) *common.ConfigPolicy {
		return &common.ConfigPolicy{ModPolicy: "Admins", Policy: &common.Policy{
			Type: int32(common.Policy_SIGNATURE), Value: protoutil.Marshal(env),
		}}
	}
	return &common.ConfigGroup{
		ModPolicy: "Admins",
		Values:    map[string]*common.ConfigValue{"MSP": value(o.MSPConfig())},
		Policies: map[string]*common.ConfigPolicy{
			"Readers": sign(policy.SignedByMSPMember(o.MSPID)),
			"Writers": sign(policy.SignedByMSPMember(o.MSPID)),
			"Admins":  sign(policy.SignedByMSPAdmin(o.MSPID)),
		},
	}
}

func implicit(sub string, rule common.ImplicitMetaPolicy_Rule) *common.ConfigPolicy {
	return &common.ConfigPolicy{ModPolicy: "Admins", Policy: &common.Policy{
		Type:  int32(common.Policy_IMPLICIT_META),
		Value: protoutil.Marshal(&common.ImplicitMetaPolicy{SubPolicy: sub, Rule: rule}),
	}}
}

func value(m proto.Message) *common.ConfigValue {
	return &common.ConfigValue{ModPolicy: "Admins", Value: protoutil.Marshal(m)}
}

func capabilities(names ...string) *common.Capabilities {
	c := &common.Capabilities{Capabilities: map[string]*common.Capability{}}
	for _, name := range names {
		if name != "" {
			c.Capabilities[name] = &common.Capability{}
		}
	}
	return c
}

// Genesis is block 0 of a channel.
func (n *Net) Genesis(channelID string) *common.Block {
	env := n.envelope(envelopeSpec{
		kind: common.HeaderType_CONFIG, channel: channelID,
		data: protoutil.Marshal(&common.ConfigEnvelope{Config: n.Config()}),
	})
	b := protoutil.NewBlock(0, nil)
	b.Data.Data = [][]byte{env}
	b.Header.DataHash = protoutil.DataHash(b.Data.Data)
	return b
}

// ConfigUpdate is a CONFIG envelope that leads from the Bundle to a
// configuration changed by change, signed by the administrators given.
func (n *Net) ConfigUpdate(b *chanconfig.Bundle, change func(*common.Config), signers ...*testpki.Identity) []byte {
	updated := proto.CloneOf(b.Config())
	change(updated)
	update, err := chanconfig.ComputeUpdate(b.Config(), updated)
	n.must(err)
	update.ChannelId = b.ChannelID()
	cue := &common.ConfigUpdateEnvelope{ConfigUpdate: protoutil.Marshal(update)}
	for _, s := range signers {
		sh := protoutil.Marshal(&common.SignatureHeader{Creator: s.Serialize(), Nonce: n.nonce()})
		sig, err := s.Sign(append(append([]byte{}, sh...), cue.ConfigUpdate...))
		n.must(err)
		cue.Signatures = append(cue.Signatures, &common.ConfigSignature{SignatureHeader: sh, Signature: sig})
	}
	raw := n.envelope(envelopeSpec{
		kind: common.HeaderType_CONFIG_UPDATE, channel: b.ChannelID(), creator: n.User, data: protoutil.Marshal(cue),
	})
	env := &common.Envelope{}
	n.must(proto.Unmarshal(raw, env))
	config, err := b.ProposeUpdate(env)
	n.must(err)
	return n.envelope(envelopeSpec{
		kind: common.HeaderType_CONFIG, channel: b.ChannelID(), creator: n.Orderer, data: protoutil.Marshal(config),
	})
}

// Block is a block signed by the orderer.
func (n *Net) Block(number uint64, previous *common.BlockHeader, lastConfig uint64, envelopes ...[]byte) *common.Block {
	b := protoutil.NewBlock(number, protoutil.BlockHash(previous))
	b.Data.Data = envelopes
	b.Header.DataHash = protoutil.DataHash(envelopes)
	last := &common.LastConfig{Index: lastConfig}
	val := protoutil.Marshal(&common.OrdererBlockMetadata{LastConfig: last})
	sh := protoutil.Marshal(&common.SignatureHeader{Creator: n.Orderer.Serialize(), Nonce: n.nonce()})
	signed := append(append(append([]byte{}, val...), sh...), protoutil.BlockHeaderBytes(b.Header)...)
	sig, err := n.Orderer.Sign(signed)
	n.must(err)
	b.Metadata.Metadata[0] = protoutil.Marshal(&common.Metadata{
		Value: val, Signatures: []*common.MetadataSignature{{SignatureHeader: sh, Signature: sig}},
	})
	b.Metadata.Metadata[1] = protoutil.Marshal(&common.Metadata{Value: protoutil.Marshal(last)})
	return b
}

type envelopeSpec struct {
	kind    common.HeaderType
	channel string
	txid    string
	nonce   []byte
	creator *testpki.Identity // nil: nobody, and unsigned
	ext     []byte
	data    []byte
}

func (n *Net) headers(s *envelopeSpec) *common.Header {
	sh := &common.SignatureHeader{}
	if s.creator != nil {
		if s.nonce == nil {
			s.nonce = n.nonce()
		}
		sh.Creator, sh.Nonce = s.creator.Serialize(), s.nonce
	}
	return &common.Header{
		ChannelHeader: protoutil.Marshal(&common.ChannelHeader{
			Type: int32(s.kind), ChannelId: s.channel, TxId: s.txid, Extension: s.ext,
			Timestamp: timestamppb.New(time.Unix(1_700_000_000, 0)),
		}),
		SignatureHeader: protoutil.Marshal(sh),
	}
}

func (n *Net) envelope(s envelopeSpec) []byte {
	return n.sign(&common.Payload{Header: n.headers(&s), Data: s.data}, s.creator)
}

func (n *Net) sign(p *common.Payload, by *testpki.Identity) []byte {
	env := &common.Envelope{Payload: protoutil.Marshal(p)}
	if by != nil {
		sig, err := by.Sign(env.Payload)
		n.must(err)
		env.Signature = sig
	}
	return protoutil.Marshal(env)
}

func (n *Net) must(err error) {
	n.tb.Helper()
	if err != nil {
		n.tb.Fatalf("%v", err)
	}
}
