package audit

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset/kvrwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/ledger"
	"github.com/heddle-ledger/heddle/ledger/state"
	"github.com/heddle-ledger/heddle/ledger/state/couchdb"
	"github.com/heddle-ledger/heddle/ledger/state/couchdb/couchtest"
)

// TestHashesOverCouchDB: where metadata alone are written, the value that CouchDB
// gave back entered the commit hash, not the one that was written.
func TestHashesOverCouchDB(t *testing.T) {
	dir := t.TempDir()
	address := couchtest.Server(t)
	p, err := ledger.OpenProvider(ledger.Config{Dir: filepath.Join(dir, "ledgersData"), OpenState: func() (state.Provider, error) {
		return couchdb.OpenProvider(context.Background(), couchdb.Config{Address: address})
	}})
	must(t, err)
	envelope := func(typ common.HeaderType, data []byte) []byte {
		return protoutil.Marshal(&common.Envelope{Payload: protoutil.Marshal(&common.Payload{
			Header: &common.Header{ChannelHeader: protoutil.Marshal(&common.ChannelHeader{Type: int32(typ), ChannelId: "ch"})},
			Data:   data,
		})})
	}
	genesis := protoutil.NewBlock(0, nil)
	genesis.Data.Data = [][]byte{envelope(common.HeaderType_CONFIG, protoutil.Marshal(&common.ConfigEnvelope{Config: &common.Config{}}))}
	genesis.Header.DataHash = protoutil.DataHash(genesis.Data.Data)
	l, err := p.Create(genesis)
	must(t, err)
	prev := genesis
	commit := func(kv *kvrwset.KVRWSet) {
		t.Helper()
		b := protoutil.NewBlock(prev.Header.Number+1, protoutil.BlockHash(prev.Header))
		b.Data.Data = [][]byte{envelope(common.HeaderType_ENDORSER_TRANSACTION, protoutil.Marshal(&peer.Transaction{Actions: []*peer.TransactionAction{{
			Payload: protoutil.Marshal(&peer.ChaincodeActionPayload{Action: &peer.ChaincodeEndorsedAction{
				ProposalResponsePayload: protoutil.Marshal(&peer.ProposalResponsePayload{Extension: protoutil.Marshal(&peer.ChaincodeAction{
					Results: protoutil.Marshal(&rwset.TxReadWriteSet{NsRwset: []*rwset.NsReadWriteSet{{Namespace: "cc", Rwset: protoutil.Marshal(kv)}}}),
				})}),
			}}),
		}}}))}
		b.Header.DataHash = protoutil.DataHash(b.Data.Data)
		v := protoutil.ParseBlock(b)
		v.SetFlags([]byte{0})
		must(t, l.Commit(v))
		prev = b
	}
	metadata := func(key, value string) *kvrwset.KVMetadataWrite {
		return &kvrwset.KVMetadataWrite{Key: key, Entries: []*kvrwset.KVMetadataEntry{{Name: "m", Value: []byte(value)}}}
	}
	commit(&kvrwset.KVRWSet{Writes: []*kvrwset.KVWrite{set("fine", `{"b": 1, "a": "<"}`), set("fraction", `{"b": 1.5}`), set("text", "x")}})
	commit(&kvrwset.KVRWSet{MetadataWrites: []*kvrwset.KVMetadataWrite{metadata("fine", "1"), metadata("text", "1")}})
	commit(&kvrwset.KVRWSet{MetadataWrites: []*kvrwset.KVMetadataWrite{metadata("fraction", "2")}})
	commit(&kvrwset.KVRWSet{MetadataWrites: []*kvrwset.KVMetadataWrite{metadata("fine", "3")}})
	must(t, p.Close())

	of := func(o Options) string { return checks(verify(t, dir, o).Channels[0])[checkCommit] }
	if got := of(Options{CouchDB: true}); !strings.HasSuffix(got, "3 blocks; 1 not computed, because the numbers that CouchDB gave back are not known") {
		t.Errorf("commit hashes: %s", got)
	}
	if got := of(Options{}); !strings.Contains(got, "damage") && !strings.Contains(got, "failed") {
		t.Errorf("commit hashes of a state in goleveldb: %s", got)
	}
}
