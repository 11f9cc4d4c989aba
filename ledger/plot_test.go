package ledger

import (
	"crypto/sha256"
	"fmt"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/msp"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"github.com/hyperledger/fabric-protos-go-apiv2/transientstore"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/ledger/transient"
)

// storyTx is a transaction of a story with its private data.
type storyTx struct {
	id       string
	envelope []byte
	preset   byte // code of earlier validation
	private  *rwset.TxPvtReadWriteSet
	missing  []MissingCollection
}

// storyEnvelope is an unsigned transaction, as small as it may be.
func storyEnvelope(channel, txid string, results []byte) []byte {
	action := protoutil.Marshal(&peer.ChaincodeActionPayload{Action: &peer.ChaincodeEndorsedAction{
		ProposalResponsePayload: protoutil.Marshal(&peer.ProposalResponsePayload{
			Extension: protoutil.Marshal(&peer.ChaincodeAction{Results: results, ChaincodeId: &peer.ChaincodeID{Name: "cc1"}}),
		}),
	}})
	return envelopeOf(common.HeaderType_ENDORSER_TRANSACTION, channel, txid,
		protoutil.Marshal(&peer.Transaction{Actions: []*peer.TransactionAction{{Payload: action}}}))
}

func envelopeOf(kind common.HeaderType, channel, txid string, data []byte) []byte {
	return protoutil.Marshal(&common.Envelope{Payload: protoutil.Marshal(&common.Payload{
		Header: &common.Header{
			ChannelHeader: protoutil.Marshal(&common.ChannelHeader{
				Type: int32(kind), ChannelId: channel, TxId: txid, Timestamp: &timestamppb.Timestamp{Seconds: 1_600_000_000},
			}),
			SignatureHeader: protoutil.Marshal(&common.SignatureHeader{Creator: []byte("creator"), Nonce: []byte(txid)}),
		},
		Data: data,
	})})
}

func (s *storyTeller) nextID() string {
	s.txs++
	return fmt.Sprintf("%x", sha256.Sum256(fmt.Appendf(nil, "tx %d", s.txs)))
}

// tx simulates a transaction on the present state of a channel.
func (s *storyTeller) tx(id string, simulate func(*Simulator)) *storyTx {
	s.t.Helper()
	l, err := s.p.Open(id)
	must(s.t, err)
	txid := s.nextID()
	sim, err := l.NewSimulator(txid)
	must(s.t, err)
	defer sim.Done()
	simulate(sim)
	res, err := sim.Results()
	must(s.t, err)
	return &storyTx{id: txid, envelope: storyEnvelope(id, txid, res.Public), private: res.Private}
}

// puts writes keys and values in turn; an empty value deletes.
func (s *storyTeller) puts(id, ns string, kvs ...string) *storyTx {
	s.t.Helper()
	return s.tx(id, func(sim *Simulator) {
		for i := 0; i < len(kvs); i += 2 {
			must(s.t, sim.SetState(ns, kvs[i], []byte(kvs[i+1])))
		}
	})
}

// reads makes a transaction that reads a key and writes it.
func (s *storyTeller) reads(id, ns, key, value string) *storyTx {
	s.t.Helper()
	return s.tx(id, func(sim *Simulator) {
		_, err := sim.GetState(ns, key)
		must(s.t, err)
		must(s.t, sim.SetState(ns, key, []byte(value)))
	})
}

// scans makes a transaction that scans a range, to its end if all is set, and
// writes how much it found.
func (s *storyTeller) scans(id, ns, start, end string, all bool, into string) *storyTx {
	s.t.Helper()
	return s.tx(id, func(sim *Simulator) {
		it, err := sim.GetStateRange(ns, start, end)
		must(s.t, err)
		n := 0
		for all || n < 2 {
			kv, err := it.Next()
			must(s.t, err)
			if kv == nil {
				break
			}
			n++
		}
		must(s.t, sim.SetState(ns, into, fmt.Append(nil, n)))
	})
}

// private writes private keys and values of a collection in turn.
func (s *storyTeller) private(id, coll string, kvs ...string) *storyTx {
	s.t.Helper()
	return s.tx(id, func(sim *Simulator) {
		for i := 0; i < len(kvs); i += 2 {
			must(s.t, sim.SetPrivateData("cc1", coll, kvs[i], []byte(kvs[i+1])))
		}
	})
}

// withhold takes the private data away: they are missing.
func (tx *storyTx) withhold(coll string, eligible bool) *rwset.TxPvtReadWriteSet {
	set := tx.private
	tx.private = nil
	tx.missing = append(tx.missing, MissingCollection{Namespace: "cc1", Collection: coll, Eligible: eligible})
	return set
}

func storyPolicy(orgs ...string) *peer.CollectionPolicyConfig {
	p := &common.SignaturePolicyEnvelope{}
	for _, o := range orgs {
		p.Identities = append(p.Identities, &msp.MSPPrincipal{Principal: []byte(o)})
	}
	return &peer.CollectionPolicyConfig{Payload: &peer.CollectionPolicyConfig_SignaturePolicy{SignaturePolicy: p}}
}

// deploys writes the definition of cc1 with its collections: A and X live for
// ever, B for two blocks, Y for three; of X the peer is a member or not.
func (s *storyTeller) deploys(id, version string, memberOfX bool) *storyTx {
	s.t.Helper()
	orgsOfX := []string{"org2"}
	if memberOfX {
		orgsOfX = append(orgsOfX, "org1")
	}
	pkg := &peer.CollectionConfigPackage{}
	for _, c := range []struct {
		name string
		btl  uint64
		orgs []string
	}{{"collA", 0, []string{"org1"}}, {"collB", 2, []string{"org1", "org2"}}, {"collX", 0, orgsOfX}, {"collY", 3, []string{"org1"}}} {
		pkg.Config = append(pkg.Config, &peer.CollectionConfig{Payload: &peer.CollectionConfig_StaticCollectionConfig{
			StaticCollectionConfig: &peer.StaticCollectionConfig{Name: c.name, BlockToLive: c.btl, MemberOrgsPolicy: storyPolicy(c.orgs...)},
		}})
	}
	return s.puts(id, "lscc", "cc1", "definition "+version, "cc1~collection", string(protoutil.Marshal(pkg)))
}

func (s *storyTeller) config(id string, sequence uint64) *storyTx {
	groups := map[string]*common.ConfigGroup{"Application": {Version: sequence}, "Orderer": {}, "Consortiums": {}}
	return &storyTx{envelope: envelopeOf(common.HeaderType_CONFIG, id, "", protoutil.Marshal(&common.ConfigEnvelope{
		Config: &common.Config{Sequence: sequence, ChannelGroup: &common.ConfigGroup{Groups: groups}},
	}))}
}

// old is private data of a transaction that comes late.
func old(block, tx uint64, set *rwset.TxPvtReadWriteSet) ReconciledData {
	return ReconciledData{Block: block, Sets: map[uint64]*rwset.TxPvtReadWriteSet{tx: set}}
}

// falsified is a set with another value in it.
func falsified(set *rwset.TxPvtReadWriteSet) *rwset.TxPvtReadWriteSet {
	out := proto.Clone(set).(*rwset.TxPvtReadWriteSet)
	c := out.NsPvtRwset[0].CollectionPvtRwset[0]
	c.Rwset = append(c.Rwset, 0x12, 0)
	return out
}

func metadata(name, value string) map[string][]byte { return map[string][]byte{name: []byte(value)} }

// tellStory lives through every kind of transaction and event that a ledger
// knows, over two channels.
func tellStory(t testing.TB) *story {
	s := newTeller(t, 6000)
	defer func() { must(t, s.stop()) }()
	s.create("alpha", genesisOf("alpha"))
	s.block("alpha", s.deploys("alpha", "1", false))
	late := s.everyKind()
	s.create("beta", genesisOf("beta"))
	s.block("beta", s.puts("beta", "cc2", "b", "1", "composite\x00key\x00", "x"), s.deploys("beta", "1", true))
	s.reconcile("what is false", "alpha", 1, old(4, 1, falsified(late.eligible)))
	s.reconcile("of block 4", "alpha", 0, old(4, 1, late.eligible), old(4, 3, late.expiring))
	s.reconcile("what the peer may not have", "alpha", 0, old(4, 2, late.ineligible))
	s.upgradeAndExpiry(late)
	s.block("beta", s.private("beta", "collB", "p", "beta 1"), s.reads("beta", "cc2", "b", "2"))
	s.reopen()
	s.rollback("alpha", 5)
	s.again("alpha", 6, 8)
	s.block("beta", s.puts("beta", "cc2", "c", "3"))
	s.again("alpha", 8, len(s.chains["alpha"]))
	s.clearHeights()
	s.purge("by height", "alpha", func(st *transient.Store) error { return st.PurgeBelow(7) })
	s.reset()
	s.again("alpha", 1, len(s.chains["alpha"]))
	s.again("beta", 1, len(s.chains["beta"]))
	s.block("beta", s.puts("beta", "cc2", "d", "4"), s.private("beta", "collA", "q", "beta 2"))
	s.clearHeights()
	s.purge("all", "alpha", func(st *transient.Store) error { return st.PurgeBelow(1 << 40) })
	return s.story
}

// lateData is private data that was missing when its block was committed.
type lateData struct{ eligible, ineligible, expiring *rwset.TxPvtReadWriteSet }

// everyKind commits blocks 2 to 6 of alpha.
func (s *storyTeller) everyKind() (late lateData) {
	const id = "alpha"
	many := []string{"empty", ""}
	for i := range 120 {
		many = append(many, fmt.Sprintf("m%03d", i), fmt.Sprint("value ", i))
	}
	s.block(id, s.puts(id, "cc1", "a", "1", "b", "1", "c", "1", "\x00composite\x00x\x00y\x00", "{}"), s.puts(id, "cc2", many...))
	first := s.reads(id, "cc1", "a", "2")
	s.persist(id, first.id, 3, s.transientSet("cc1", "collA", "t1"))
	s.persist(id, "another", 3, s.transientSet("cc1", "collB", "t2"))
	meta := s.tx(id, func(sim *Simulator) {
		must(s.t, sim.SetStateMetadata("cc1", "b", metadata("policy", "org1")))
	})
	s.block(id,
		first,
		s.reads(id, "cc1", "a", "3"), // read conflict
		s.scans(id, "cc1", "a", "d", true, "scanned"),       // phantom: a was changed
		s.scans(id, "cc2", "m010", "m020", false, "partly"), // raw, not exhausted
		s.scans(id, "cc2", "", "", true, "all"),             // Merkle; conflicts, as partly was written
		s.puts(id, "cc1", "c", ""),
		meta,
		&storyTx{envelope: first.envelope, preset: byte(peer.TxValidationCode_DUPLICATE_TXID)}, // twice in a block
		&storyTx{envelope: []byte("no envelope"), preset: byte(peer.TxValidationCode_BAD_PAYLOAD)},
		&storyTx{envelope: []byte("none either"), preset: byte(peer.TxValidationCode_BAD_PAYLOAD)},
		&storyTx{envelope: s.puts(id, "cc1", "refused", "x").envelope, preset: byte(peer.TxValidationCode_ENDORSEMENT_POLICY_FAILURE)},
	)
	s.purge("of block 3", id, func(st *transient.Store) error { return st.PurgeByTxIDs([]string{first.id}) })
	eligible, ineligible, expiring := s.private(id, "collA", "late", "v1"), s.private(id, "collX", "foreign", "v2"), s.private(id, "collB", "soon", "v3")
	late = lateData{eligible.withhold("collA", true), ineligible.withhold("collX", false), expiring.withhold("collB", true)}
	s.block(id,
		s.private(id, "collA", "p1", "secret 1", "p2", "secret 2"),
		eligible, ineligible, expiring,
		s.private(id, "collB", "short", "lived"), s.private(id, "collY", "y", "three blocks"),
		&storyTx{envelope: first.envelope, preset: byte(peer.TxValidationCode_DUPLICATE_TXID)}, // of an earlier block
		s.scans(id, "cc2", "", "", true, "all"),
		s.puts(id, "cc1", "b", "keeps its metadata"),
	)
	s.block(id, s.config(id, 1))
	s.block(id) // no transaction at all
	return late
}

// upgradeAndExpiry commits the blocks of alpha from 7 on.
func (s *storyTeller) upgradeAndExpiry(late lateData) {
	const id = "alpha"
	stale := s.tx(id, func(sim *Simulator) {
		_, err := sim.GetPrivateDataHash("cc1", "collA", "p1")
		must(s.t, err)
		must(s.t, sim.SetState("cc1", "seen", []byte("x")))
	})
	s.block(id, s.deploys(id, "2", true), s.tx(id, func(sim *Simulator) {
		must(s.t, sim.SetPrivateDataMetadata("cc1", "collA", "p1", metadata("m", "1")))
	}), s.tx(id, func(sim *Simulator) {
		must(s.t, sim.DeletePrivateData("cc1", "collA", "p2"))
		must(s.t, sim.DeleteStateMetadata("cc1", "b"))
	}), stale) // its read is of before the metadata
	s.reconcile("what the peer may have now", id, 0, old(4, 2, late.ineligible))
	s.expected(id,
		[]*storyTx{s.puts(id, "cc1", "e", "1")},
		[]*storyTx{s.puts(id, "cc1", "e", "2", "f", "1"), s.config(id, 2)},
		[]*storyTx{s.reads(id, "cc1", "b", "after")},
	)
	half := s.tx(id, func(sim *Simulator) {
		must(s.t, sim.SetPrivateData("cc1", "collA", "late", []byte("v4")))
		must(s.t, sim.SetPrivateData("cc1", "collY", "y", []byte("again")))
	})
	given := half.private
	half.private = proto.Clone(given).(*rwset.TxPvtReadWriteSet)
	colls := half.private.NsPvtRwset[0].CollectionPvtRwset
	half.private.NsPvtRwset[0].CollectionPvtRwset = colls[1:] // Y is given, A is not
	half.missing = []MissingCollection{{Namespace: "cc1", Collection: "collA", Eligible: true}}
	s.block(id, half, s.puts(id, "cc1", "large", string(make([]byte, 3500)))) // goes into a new file
	s.reconcile("what is stale and what is not", id, 0, old(11, 0, given))
	s.block(id, s.private(id, "collA", "late", "v5"), s.puts(id, "cc2", "m000", "", "m001", ""))
	s.block(id, s.scans(id, "cc2", "m", "n", true, "rest"))
}

// transientSet is what an endorser leaves of a transaction with private data.
func (s *storyTeller) transientSet(ns, coll, value string) *transientstore.TxPvtReadWriteSetWithConfigInfo {
	return &transientstore.TxPvtReadWriteSetWithConfigInfo{EndorsedAt: 3, PvtRwset: &rwset.TxPvtReadWriteSet{NsPvtRwset: []*rwset.NsPvtReadWriteSet{{
		Namespace: ns, CollectionPvtRwset: []*rwset.CollectionPvtReadWriteSet{{CollectionName: coll, Rwset: []byte(value)}},
	}}}}
}
