package ledger

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	mspproto "github.com/hyperledger/fabric-protos-go-apiv2/msp"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	lrwset "github.com/heddle-ledger/heddle/ledger/rwset"
	"github.com/heddle-ledger/heddle/ledger/state"
)

// traffic makes the blocks of a benchmark one after the other, each as
// validation hands it over: decoded, all transactions valid so far.
type traffic struct {
	rnd  *rand.Rand
	next uint64
	prev []byte
}

// filler makes the transaction of a height.
type filler func(t *traffic, at state.Version, r *lrwset.Builder)

func newTraffic(genesis *common.Block) *traffic {
	return &traffic{rnd: rand.New(rand.NewPCG(1, 2)), next: 1, prev: protoutil.BlockHash(genesis.Header)}
}

// load is a block and the private data that belong to it.
type load struct {
	block   *protoutil.Block
	private *PrivateData
}

// deployment is the first block: a chaincode with a collection.
func (t *traffic) deployment(blockToLive uint64) load {
	return t.block(1, func(_ *traffic, _ state.Version, r *lrwset.Builder) {
		policy := &common.SignaturePolicyEnvelope{Identities: []*mspproto.MSPPrincipal{{Principal: []byte("org1")}}}
		r.Write(lifecycleNamespace, "mycc", []byte("definition"))
		r.Write(lifecycleNamespace, collectionKey("mycc"), protoutil.Marshal(&peer.CollectionConfigPackage{
			Config: []*peer.CollectionConfig{{Payload: &peer.CollectionConfig_StaticCollectionConfig{StaticCollectionConfig: &peer.StaticCollectionConfig{
				Name: "coll", BlockToLive: blockToLive,
				MemberOrgsPolicy: &peer.CollectionPolicyConfig{Payload: &peer.CollectionPolicyConfig_SignaturePolicy{SignaturePolicy: policy}},
			}}}},
		}))
	})
}

// blocks are the next blocks of full size.
func (t *traffic) blocks(n int, fill filler) []load {
	out := make([]load, n)
	for i := range out {
		out[i] = t.block(benchTxs, fill)
	}
	return out
}

func (t *traffic) block(txs int, fill filler) load {
	b := protoutil.NewBlock(t.next, t.prev)
	private := &PrivateData{Sets: map[uint64]*rwset.TxPvtReadWriteSet{}}
	for i := range txs {
		r := lrwset.NewBuilder()
		fill(t, state.Version{Block: t.next, Tx: uint64(i)}, r)
		public, err := r.Public()
		if err != nil {
			panic(err)
		}
		set, err := r.Private()
		if err != nil {
			panic(err)
		}
		if set != nil {
			private.Sets[uint64(i)] = set
		}
		b.Data.Data = append(b.Data.Data, benchEnvelope(t.text(64), protoutil.Marshal(public)))
	}
	b.Header.DataHash = protoutil.DataHash(b.Data.Data)
	t.prev = protoutil.BlockHash(b.Header)
	t.next++
	v := protoutil.ParseBlock(b)
	v.SetFlags(make([]byte, txs))
	for i := range txs {
		v.Tx(i).ID()
		if _, err := v.Tx(i).RWSet(); err != nil {
			panic(err)
		}
	}
	if len(private.Sets) == 0 {
		private = nil
	}
	return load{v, private}
}

// text is random text of n bytes, n a multiple of 16, in hexadecimal digits as
// transaction ids are. Compression halves it.
func (t *traffic) text(n int) string {
	raw := make([]byte, n/2)
	for i := range raw {
		raw[i] = byte(t.rnd.Uint32())
	}
	return hex.EncodeToString(raw)
}

const benchValue = 96 // bytes of the values written

func (t *traffic) value() []byte { return []byte(t.text(benchValue)) }

// keys is a set of keys whose versions are known to the one who reads them.
type keys struct {
	name     string
	versions []state.Version
	picked   map[int]bool // in the present block
	block    uint64
}

func newKeys(name string, n int) *keys { return &keys{name: name, versions: make([]state.Version, n)} }

func (k *keys) key(i int) string { return fmt.Sprintf("%s-%08d", k.name, i) }

// pick chooses a key that no other transaction of the block has, so that all
// stay valid.
func (k *keys) pick(t *traffic, block uint64) int {
	if k.block != block {
		k.block, k.picked = block, map[int]bool{}
	}
	for {
		if i := t.rnd.IntN(len(k.versions)); !k.picked[i] {
			k.picked[i] = true
			return i
		}
	}
}

// seed writes the keys into the state at the height of the deployment.
func (k *keys) seed(b *testing.B, c *course) {
	const most = 20_000
	for begin := 0; begin < len(k.versions); begin += most {
		batch := state.NewBatch()
		for i := begin; i < min(begin+most, len(k.versions)); i++ {
			k.versions[i] = state.Version{Block: 1, Tx: uint64(i)}
			batch.Put("mycc", state.Write{Key: k.key(i), Value: c.t.value(), Version: k.versions[i]})
		}
		if err := c.l.state.Apply(batch, nil, false); err != nil {
			b.Fatal(err)
		}
	}
}

// readDefinition is the read that every call of a chaincode begins with.
func readDefinition(r *lrwset.Builder) {
	r.Read(lifecycleNamespace, "mycc", &state.Version{Block: 1})
}

func writeNew(writes int) filler {
	return func(t *traffic, at state.Version, r *lrwset.Builder) {
		readDefinition(r)
		for range writes {
			r.Write("mycc", "asset-"+t.text(16), t.value())
		}
	}
}

func (k *keys) readWrite(t *traffic, at state.Version, r *lrwset.Builder) {
	readDefinition(r)
	i := k.pick(t, at.Block)
	version := k.versions[i]
	r.Read("mycc", k.key(i), &version)
	r.Write("mycc", k.key(i), t.value())
	k.versions[i] = at
}

// readRange reads ten keys by range and writes another.
func (k *keys) readRange(t *traffic, at state.Version, r *lrwset.Builder) {
	readDefinition(r)
	i := t.rnd.IntN(len(k.versions) - 10)
	q := r.OpenRange("mycc", k.key(i), k.key(i+10))
	for n := i; n < i+10; n++ {
		q.Add(k.key(n), k.versions[n])
	}
	q.End()
	r.Write("mycc", "sum-"+t.text(16), t.value())
}

func writePrivate(t *traffic, _ state.Version, r *lrwset.Builder) {
	readDefinition(r)
	r.Read(lifecycleNamespace, collectionKey("mycc"), &state.Version{Block: 1})
	r.WritePrivate("mycc", "coll", "asset-"+t.text(16), t.value())
}
