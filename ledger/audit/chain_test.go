package audit

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset/kvrwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/orderer"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/chaincode/packaging"
	"github.com/heddle-ledger/heddle/internal/chanconfig"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/testnet/testchain"
	"github.com/heddle-ledger/heddle/ledger"
	"github.com/heddle-ledger/heddle/ledger/blockfile"
	"github.com/heddle-ledger/heddle/ledger/kv"
)

// channelID is the channel of the made ledgers.
const channelID = "ch"

// smallFiles is the size of the block files.
const smallFiles = 24000

// Numbers of blocks that tests aim at.
const (
	deployBlock  = 1
	privateBlock = 3 // tx 1 writes private data
	configBlock  = 5
	mixedBlock   = 6 // an id of block 3 again, a version conflict
	chainLength  = 14
)

// made is a signed chain of a channel with all kinds of transactions, committed by
// a peer into small block files, and the same chain as an orderer has it.
type made struct {
	net           *testchain.Net
	blocks        []*common.Block // as ordered
	peer, orderer string
}

// madeOnce makes the chain once; every test works on a copy.
var madeOnce = sync.OnceValue(func() *made {
	dir, err := os.MkdirTemp("", "heddle-audit-test-")
	if err != nil {
		panic(err)
	}
	tb := &panicTB{dir: dir}
	m := &made{net: testchain.New(tb), peer: filepath.Join(dir, "peer"), orderer: filepath.Join(dir, "orderer")}
	m.make(tb)
	return m
})

// panicTB is a testing.TB of things that outlive one test.
type panicTB struct {
	testing.TB
	dir string
	n   int
}

func (*panicTB) Helper()                   {}
func (*panicTB) Cleanup(func())            {}
func (*panicTB) Fatal(args ...any)         { panic(fmt.Sprint(args...)) }
func (*panicTB) Fatalf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }
func (p *panicTB) TempDir() string {
	p.n++
	dir := filepath.Join(p.dir, fmt.Sprint("tmp", p.n))
	must(p, os.MkdirAll(dir, 0o755))
	return dir
}

func TestMain(m *testing.M) {
	code := m.Run()
	if madeUsed {
		os.RemoveAll(filepath.Dir(madeOnce().peer))
	}
	os.Exit(code)
}

var madeUsed bool

// madeChain returns the chain; its directories must not be changed.
func madeChain(t testing.TB) *made {
	t.Helper()
	madeUsed = true
	return madeOnce()
}

// peerCopy is a copy of the peer's directory.
func peerCopy(t testing.TB) string {
	t.Helper()
	return copyDir(t, madeChain(t).peer)
}

func ordererCopy(t testing.TB) string {
	t.Helper()
	return copyDir(t, madeChain(t).orderer)
}

func copyDir(t testing.TB, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "data")
	must(t, os.CopyFS(to, os.DirFS(from)))
	return to
}

func (m *made) make(tb testing.TB) {
	n := m.net
	genesis := n.Genesis(channelID)
	bundle, err := chanconfig.BundleFromBlock(genesis, chanconfig.Options{})
	must(tb, err)
	l, p := createLedger(tb, m.peer, genesis)
	m.blocks = append(m.blocks, proto.CloneOf(genesis))
	prev, lastConfig := genesis.Header, uint64(0)
	for number := uint64(1); number < chainLength; number++ {
		txs, flags, private := m.block(tb, number, bundle)
		if number == configBlock {
			lastConfig = number
		}
		b := n.Block(number, prev, lastConfig, txs...)
		m.blocks = append(m.blocks, proto.CloneOf(b))
		parsed := protoutil.ParseBlock(b)
		if flags == nil {
			flags = make([]byte, len(txs))
		}
		parsed.SetFlags(flags)
		must(tb, l.CommitWithPrivateData(parsed, private))
		prev = b.Header
	}
	must(tb, p.Close())
	repack(tb, filepath.Join(m.peer, "ledgersData", "chains"), smallFiles)
	m.makeOrderer(tb)
}

func createLedger(tb testing.TB, dir string, genesis *common.Block) (*ledger.Ledger, *ledger.Provider) {
	p, err := ledger.OpenProvider(ledger.Config{
		Dir: filepath.Join(dir, "ledgersData"), History: true, Log: flog.Nop(),
		Membership: func(string, *peer.CollectionPolicyConfig) (bool, error) { return true, nil },
	})
	must(tb, err)
	l, err := p.Create(genesis)
	must(tb, err)
	return l, p
}

func (m *made) makeOrderer(tb testing.TB) {
	p, err := blockfile.OpenProvider(blockfile.Config{Dir: m.orderer, Index: blockfile.IndexNumber, MaxFileSize: smallFiles})
	must(tb, err)
	s, err := p.Open(channelID)
	must(tb, err)
	for _, b := range m.blocks {
		must(tb, s.Append(protoutil.ParseBlock(proto.CloneOf(b))))
	}
	must(tb, p.Close())
}

// repack writes the block files of a peer anew with a lower bound of their size.
func repack(tb testing.TB, chains string, size int64) {
	var blocks []*common.Block
	p, err := blockfile.OpenProvider(blockfile.Config{Dir: chains})
	must(tb, err)
	s, err := p.Open(channelID)
	must(tb, err)
	for n := range s.Height() {
		b, err := s.BlockByNumber(n)
		must(tb, err)
		blocks = append(blocks, proto.CloneOf(b))
	}
	must(tb, p.Close())
	must(tb, os.RemoveAll(chains))
	p, err = blockfile.OpenProvider(blockfile.Config{Dir: chains, MaxFileSize: size})
	must(tb, err)
	s, err = p.Open(channelID)
	must(tb, err)
	for _, b := range blocks {
		must(tb, s.Append(protoutil.ParseBlock(b)))
	}
	must(tb, p.Close())
}

func set(key, value string) *kvrwset.KVWrite { return &kvrwset.KVWrite{Key: key, Value: []byte(value)} }

// block makes the transactions of a block.
func (m *made) block(tb testing.TB, number uint64, bundle *chanconfig.Bundle) (txs [][]byte, flags []byte, private *ledger.PrivateData) {
	n := m.net
	tx := func(sets ...*rwset.NsReadWriteSet) []byte {
		return n.Tx(testchain.Tx{Channel: channelID, Chaincode: "cc", Nonce: fmt.Appendf(nil, "nonce of %d.%d", number, len(txs)), Set: sets})
	}
	public := func(s *kvrwset.KVRWSet) *rwset.NsReadWriteSet { return testchain.Namespace("cc", s) }
	switch number {
	case deployBlock:
		colls := &peer.CollectionConfigPackage{Config: []*peer.CollectionConfig{collection("stays", 0), collection("goes", 3), collection("later", 50)}}
		return [][]byte{n.Deploy(channelID, "deploy", &packaging.ChaincodeData{Name: "cc", Version: "1.0"}, &kvrwset.KVWrite{
			Key: "cc~collection", Value: protoutil.Marshal(colls),
		})}, nil, nil
	case configBlock:
		return [][]byte{n.ConfigUpdate(bundle, func(c *common.Config) {
			c.ChannelGroup.Groups["Orderer"].Values["BatchSize"].Value = protoutil.Marshal(&orderer.BatchSize{
				MaxMessageCount: 7, AbsoluteMaxBytes: 10 << 20, PreferredMaxBytes: 2 << 20,
			})
		}, n.Admin1, n.OrdererAdm)}, nil, nil
	case privateBlock, privateBlock + 1:
		txs = append(txs, tx(public(&kvrwset.KVRWSet{Writes: []*kvrwset.KVWrite{set("a", fmt.Sprint(number))}})))
		ns, data := privateWrite("stays", fmt.Sprint("p", number))
		expiring := map[uint64]string{privateBlock: "goes", privateBlock + 1: "later"}[number]
		gone, goneData := privateWrite(expiring, fmt.Sprint("q", number))
		ns.CollectionHashedRwset = append(gone.CollectionHashedRwset, ns.CollectionHashedRwset...)
		txs = append(txs, tx(ns))
		all := &rwset.TxPvtReadWriteSet{NsPvtRwset: []*rwset.NsPvtReadWriteSet{{
			Namespace: "cc", CollectionPvtRwset: []*rwset.CollectionPvtReadWriteSet{goneData, data},
		}}}
		return txs, nil, &ledger.PrivateData{Sets: map[uint64]*rwset.TxPvtReadWriteSet{1: all}}
	case mixedBlock:
		txs = append(txs, n.Tx(testchain.Tx{Channel: channelID, Chaincode: "cc", Nonce: []byte("nonce of 3.0"), Set: []*rwset.NsReadWriteSet{
			public(&kvrwset.KVRWSet{Writes: []*kvrwset.KVWrite{set("never", "x")}}),
		}}))
		txs = append(txs, tx(public(&kvrwset.KVRWSet{
			Reads: []*kvrwset.KVRead{{Key: "a", Version: &kvrwset.Version{BlockNum: 1}}}, Writes: []*kvrwset.KVWrite{set("never", "y")},
		})))
		txs = append(txs, tx(public(&kvrwset.KVRWSet{
			Writes: []*kvrwset.KVWrite{set("m", "value"), {Key: "a", IsDelete: true}}, MetadataWrites: []*kvrwset.KVMetadataWrite{testchain.Parameter("m", []byte("policy"))},
		})))
		return txs, []byte{byte(peer.TxValidationCode_DUPLICATE_TXID), 0, 0}, nil
	case mixedBlock + 2: // metadata alone, and value alone
		txs = append(txs, tx(public(&kvrwset.KVRWSet{MetadataWrites: []*kvrwset.KVMetadataWrite{testchain.Parameter("m", []byte("other"))}})))
		txs = append(txs, tx(public(&kvrwset.KVRWSet{Writes: []*kvrwset.KVWrite{set("b", "b")}, MetadataWrites: []*kvrwset.KVMetadataWrite{{Key: "b"}}})))
		return txs, nil, nil
	case mixedBlock + 3:
		txs = append(txs, tx(public(&kvrwset.KVRWSet{Writes: []*kvrwset.KVWrite{set("m", "later")}})))
		return txs, nil, nil
	}
	for i := range 3 {
		txs = append(txs, tx(public(&kvrwset.KVRWSet{Writes: []*kvrwset.KVWrite{set(fmt.Sprintf("k%d", i), fmt.Sprint("v", number)), set("a", fmt.Sprint(number))}})))
	}
	return txs, nil, nil
}

func collection(name string, life uint64) *peer.CollectionConfig {
	return &peer.CollectionConfig{Payload: &peer.CollectionConfig_StaticCollectionConfig{StaticCollectionConfig: &peer.StaticCollectionConfig{
		Name: name, BlockToLive: life,
	}}}
}

func privateWrite(coll, key string) (*rwset.NsReadWriteSet, *rwset.CollectionPvtReadWriteSet) {
	raw := protoutil.Marshal(&kvrwset.KVRWSet{Writes: []*kvrwset.KVWrite{set(key, "secret "+key)}})
	keyHash, valueHash, hash := sha256.Sum256([]byte(key)), sha256.Sum256([]byte("secret "+key)), sha256.Sum256(raw)
	c := testchain.Collection(coll, &kvrwset.HashedRWSet{HashedWrites: []*kvrwset.KVWriteHash{{KeyHash: keyHash[:], ValueHash: valueHash[:]}}})
	c.PvtRwsetHash = hash[:]
	return testchain.Namespace("cc", &kvrwset.KVRWSet{}, c), &rwset.CollectionPvtReadWriteSet{CollectionName: coll, Rwset: raw}
}

// edit opens a database of a directory for writing.
func edit(t testing.TB, dir, name string, change func(raw, channel *kv.Store)) {
	t.Helper()
	db, err := kv.Open(kv.Config{Dir: filepath.Join(dir, name)})
	must(t, err)
	change(db.Raw(), db.Store(channelID))
	must(t, db.Close())
}

// found is where a block of a made directory lies.
type found struct {
	file string
	at   blockfile.Place
	body []byte
}

func find(t testing.TB, dir string, number uint64) found {
	t.Helper()
	d, err := Open(dir)
	must(t, err)
	defer d.Close()
	r, err := d.record(t.Context(), channelID, number)
	must(t, err)
	return found{r.path, r.at, r.body}
}

// change rewrites the body of a block's record in place.
func change(t testing.TB, dir string, number uint64, edit func(body []byte)) {
	t.Helper()
	f := find(t, dir, number)
	edit(f.body)
	w, err := os.OpenFile(f.file, os.O_RDWR, 0)
	must(t, err)
	_, err = w.WriteAt(f.body, f.at.End-int64(len(f.body)))
	must(t, err)
	must(t, w.Close())
}
