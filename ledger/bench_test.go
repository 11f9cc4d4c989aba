package ledger

import (
	"fmt"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/ledger/mvcc"
	"github.com/heddle-ledger/heddle/ledger/rwset"
	"github.com/heddle-ledger/heddle/ledger/state"
)

const benchTxs = 500

// benchEnvelope is an envelope of the size that a transaction with one
// endorsement has, about 3 KB, around simulation results.
func benchEnvelope(txid string, results []byte) []byte {
	identity := make([]byte, 780) // a certificate in PEM and the name of its MSP
	signature := make([]byte, 71)
	creator := protoutil.Marshal(&common.SignatureHeader{Creator: identity, Nonce: identity[:24]})
	action := protoutil.Marshal(&peer.ChaincodeActionPayload{
		ChaincodeProposalPayload: make([]byte, 160),
		Action: &peer.ChaincodeEndorsedAction{
			ProposalResponsePayload: protoutil.Marshal(&peer.ProposalResponsePayload{
				ProposalHash: identity[:32],
				Extension: protoutil.Marshal(&peer.ChaincodeAction{
					Results: results, Response: &peer.Response{Status: 200},
					ChaincodeId: &peer.ChaincodeID{Name: "mycc", Version: "1.0"},
				}),
			}),
			Endorsements: []*peer.Endorsement{{Endorser: identity, Signature: signature}},
		},
	})
	channel := protoutil.Marshal(&common.ChannelHeader{
		Type: int32(common.HeaderType_ENDORSER_TRANSACTION), ChannelId: "bench", TxId: txid,
		Timestamp: &timestamppb.Timestamp{Seconds: 1_600_000_000, Nanos: 123_456_789},
		Extension: protoutil.Marshal(&peer.ChaincodeHeaderExtension{ChaincodeId: &peer.ChaincodeID{Name: "mycc"}}),
	})
	return protoutil.Marshal(&common.Envelope{Signature: signature, Payload: protoutil.Marshal(&common.Payload{
		Header: &common.Header{ChannelHeader: channel, SignatureHeader: creator},
		Data:   protoutil.Marshal(&peer.Transaction{Actions: []*peer.TransactionAction{{Header: creator, Payload: action}}}),
	})})
}

func genesisOf(id string) *common.Block {
	b := protoutil.NewBlock(0, nil)
	b.Data.Data = [][]byte{protoutil.Marshal(&common.Envelope{Payload: protoutil.Marshal(&common.Payload{
		Header: &common.Header{ChannelHeader: protoutil.Marshal(&common.ChannelHeader{Type: int32(common.HeaderType_CONFIG), ChannelId: id})},
		Data:   protoutil.Marshal(&common.ConfigEnvelope{Config: &common.Config{Sequence: 0}}),
	})})}
	b.Header.DataHash = protoutil.DataHash(b.Data.Data)
	return b
}

// benchChain makes blocks of single-write transactions, as validation hands
// them over: decoded.
func benchChain(genesis *common.Block, count int, results func(block, tx int) []byte) []*protoutil.Block {
	prev := protoutil.BlockHash(genesis.Header)
	out := make([]*protoutil.Block, count)
	for n := range out {
		b := protoutil.NewBlock(uint64(n+1), prev)
		for i := range benchTxs {
			b.Data.Data = append(b.Data.Data, benchEnvelope(fmt.Sprintf("%032x%032x", n*7919+i*104729, i), results(n, i)))
		}
		b.Header.DataHash = protoutil.DataHash(b.Data.Data)
		prev = protoutil.BlockHash(b.Header)
		v := protoutil.ParseBlock(b)
		v.SetFlags(make([]byte, benchTxs))
		for i := range benchTxs {
			v.Tx(i).ID()
			if _, err := v.Tx(i).RWSet(); err != nil {
				panic(err)
			}
		}
		out[n] = v
	}
	return out
}

func readWrite(block, tx int) []byte {
	b := rwset.NewBuilder()
	b.Read("lscc", "mycc", nil)
	key := fmt.Sprintf("key-%08d", (block*benchTxs+tx)*7919%1000003)
	b.Read("mycc", key, nil)
	b.Write("mycc", key, make([]byte, 100))
	set, err := b.Public()
	if err != nil {
		panic(err)
	}
	return protoutil.Marshal(set)
}

// BenchmarkValidate500 runs the version checks of a block of 500 transactions.
func BenchmarkValidate500(b *testing.B) {
	p := openProvider(b, Config{Dir: b.TempDir()})
	l, err := p.Create(genesisOf("bench"))
	if err != nil {
		b.Fatal(err)
	}
	seed := state.NewBatch()
	for i := range 20000 {
		seed.Put("mycc", state.Write{Key: fmt.Sprintf("key-%08d", i*1000003%7919), Value: make([]byte, 100), Version: state.Version{Block: 1}})
	}
	if err := l.state.Apply(seed, nil, false); err != nil {
		b.Fatal(err)
	}
	block := benchChain(genesisOf("bench"), 1, readWrite)[0]
	b.ReportAllocs()
	for b.Loop() {
		v := mvcc.Validator{State: l.state, MetadataUsed: func(string) bool { return false }}
		r, err := v.Validate(block, block.Flags())
		if err != nil {
			b.Fatal(err)
		}
		r.Updates.CommitHash(r.Flags, nil)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*benchTxs), "ns/tx")
}

// BenchmarkSimulate is one read and one write on a snapshot of its own.
func BenchmarkSimulate(b *testing.B) {
	p := openProvider(b, Config{Dir: b.TempDir()})
	l, err := p.Create(genesisOf("bench"))
	if err != nil {
		b.Fatal(err)
	}
	seed := state.NewBatch()
	for i := range 20000 {
		seed.Put("mycc", state.Write{Key: fmt.Sprintf("key-%08d", i), Value: make([]byte, 100), Version: state.Version{Block: 1}})
	}
	if err := l.state.Apply(seed, nil, false); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		sim, err := l.NewSimulator("tx")
		if err != nil {
			b.Fatal(err)
		}
		key := fmt.Sprintf("key-%08d", i%20000)
		if _, err := sim.GetState("mycc", key); err != nil {
			b.Fatal(err)
		}
		if err := sim.SetState("mycc", key, []byte("new value")); err != nil {
			b.Fatal(err)
		}
		if _, err := sim.Results(); err != nil {
			b.Fatal(err)
		}
		sim.Done()
	}
}
