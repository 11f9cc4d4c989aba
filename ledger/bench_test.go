package ledger

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/ledger/mvcc"
	"github.com/heddle-ledger/heddle/ledger/rwset"
	"github.com/heddle-ledger/heddle/ledger/state"
)

const benchTxs = 500

// benchEnvelope is an envelope of realistic size around simulation results.
func benchEnvelope(txid string, results []byte) []byte {
	pad := make([]byte, 700) // an identity
	endorsement := &peer.Endorsement{Endorser: pad, Signature: pad[:71]}
	action := protoutil.Marshal(&peer.ChaincodeActionPayload{
		ChaincodeProposalPayload: pad[:120],
		Action: &peer.ChaincodeEndorsedAction{
			ProposalResponsePayload: protoutil.Marshal(&peer.ProposalResponsePayload{
				ProposalHash: pad[:32],
				Extension: protoutil.Marshal(&peer.ChaincodeAction{
					Results: results, Response: &peer.Response{Status: 200},
					ChaincodeId: &peer.ChaincodeID{Name: "mycc", Version: "1.0"},
				}),
			}),
			Endorsements: []*peer.Endorsement{endorsement},
		},
	})
	return protoutil.Marshal(&common.Envelope{Signature: pad[:71], Payload: protoutil.Marshal(&common.Payload{
		Header: &common.Header{
			ChannelHeader:   protoutil.Marshal(&common.ChannelHeader{Type: int32(common.HeaderType_ENDORSER_TRANSACTION), ChannelId: "bench", TxId: txid}),
			SignatureHeader: protoutil.Marshal(&common.SignatureHeader{Creator: pad, Nonce: pad[:24]}),
		},
		Data: protoutil.Marshal(&peer.Transaction{Actions: []*peer.TransactionAction{{Payload: action}}}),
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

func blindWrite(block, tx int) []byte {
	b := rwset.NewBuilder()
	b.Read("lscc", "mycc", nil)
	b.Write("mycc", fmt.Sprintf("key-%08d", (block*benchTxs+tx)*7919%1000003), make([]byte, 100))
	set, err := b.Public()
	if err != nil {
		panic(err)
	}
	return protoutil.Marshal(set)
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

// cpuTime is what the process has used of all processors, kernel included.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// askForTxs looks for the transactions as validation does shortly before a
// commit.
func askForTxs(b *testing.B, l *Ledger, block *protoutil.Block) {
	for i := range block.Len() {
		if has, err := l.HasTx(block.Tx(i).ID()); err != nil || has {
			b.Fatal(has, err)
		}
	}
}

// BenchmarkCommit500 commits blocks of 500 transactions on the machine's file
// system.
func BenchmarkCommit500(b *testing.B) {
	for name, results := range map[string]func(int, int) []byte{"blind write": blindWrite, "read and write": readWrite} {
		b.Run(name, func(b *testing.B) {
			genesis := genesisOf("bench")
			blocks := benchChain(genesis, min(b.N, 200), results)
			var l *Ledger
			var spent time.Duration
			begun := cpuTime()
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				b.StopTimer()
				spent += cpuTime() - begun
				if i%len(blocks) == 0 {
					p := openProvider(b, Config{Dir: b.TempDir(), History: true})
					var err error
					if l, err = p.Create(genesis); err != nil {
						b.Fatal(err)
					}
					for _, v := range blocks {
						v.Proto().Metadata.Metadata[protoutil.CommitHashSlot] = nil
					}
				}
				askForTxs(b, l, blocks[i%len(blocks)])
				begun = cpuTime()
				b.StartTimer()
				if err := l.Commit(blocks[i%len(blocks)]); err != nil {
					b.Fatal(err)
				}
			}
			spent += cpuTime() - begun
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*benchTxs), "µs/tx")
			b.ReportMetric(float64(spent.Microseconds())/float64(b.N*benchTxs), "cpu-µs/tx")
		})
	}
}

// BenchmarkCommitSmall commits blocks of one transaction, whose cost is that of
// the syncs: as they come, and announced as a peer that catches up does.
func BenchmarkCommitSmall(b *testing.B) {
	for _, ahead := range []int{0, 8} {
		b.Run(fmt.Sprintf("ahead=%d", ahead), func(b *testing.B) {
			genesis := genesisOf("bench")
			p := openProvider(b, Config{Dir: b.TempDir(), History: true})
			l, err := p.Create(genesis)
			if err != nil {
				b.Fatal(err)
			}
			chain := smallChain(genesis, b.N+ahead, noPrivateData)
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				if ahead > 0 {
					for _, v := range chain[i : i+ahead] {
						l.Expect(v)
					}
				}
				if err := l.Commit(chain[i]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
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
