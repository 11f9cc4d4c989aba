package ledger

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	mspproto "github.com/hyperledger/fabric-protos-go-apiv2/msp"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/internal/vfs/errorfs"
	"github.com/heddle-ledger/heddle/ledger/kv"
	"github.com/heddle-ledger/heddle/ledger/rwset"
	"github.com/heddle-ledger/heddle/ledger/state"
)

// smallChain makes blocks of one transaction each, which writes one key and, if
// private says so, one private key.
func smallChain(genesis *common.Block, count int, private func(block int) bool) []*protoutil.Block {
	prev := protoutil.BlockHash(genesis.Header)
	out := make([]*protoutil.Block, count)
	for n := range out {
		r := rwset.NewBuilder()
		r.Write("mycc", fmt.Sprintf("key-%d", n), []byte("value"))
		if private(n + 1) {
			r.WritePrivate("mycc", "coll", "key", []byte("value"))
		}
		set, err := r.Public()
		if err != nil {
			panic(err)
		}
		b := protoutil.NewBlock(uint64(n+1), prev)
		b.Data.Data = [][]byte{benchEnvelope(fmt.Sprintf("tx-%d", n), protoutil.Marshal(set))}
		b.Header.DataHash = protoutil.DataHash(b.Data.Data)
		prev = protoutil.BlockHash(b.Header)
		out[n] = protoutil.ParseBlock(b)
		out[n].SetFlags([]byte{0})
	}
	return out
}

// deployed makes the lscc writes of a chaincode with one collection, of which
// the organisation named is a member.
func deployed(r *rwset.Builder, org string) {
	policy := &common.SignaturePolicyEnvelope{Identities: []*mspproto.MSPPrincipal{{Principal: []byte(org)}}}
	r.Write(lifecycleNamespace, "mycc", []byte("definition"))
	r.Write(lifecycleNamespace, collectionKey("mycc"), protoutil.Marshal(&peer.CollectionConfigPackage{
		Config: []*peer.CollectionConfig{{Payload: &peer.CollectionConfig_StaticCollectionConfig{StaticCollectionConfig: &peer.StaticCollectionConfig{
			Name: "coll", MemberOrgsPolicy: &peer.CollectionPolicyConfig{Payload: &peer.CollectionPolicyConfig_SignaturePolicy{SignaturePolicy: policy}},
		}}}},
	}))
}

// TestNothingCollected: what a caller without private data leaves out is listed
// as missing, by the membership in the collection, for valid transactions only.
func TestNothingCollected(t *testing.T) {
	for org, eligible := range map[string]bool{"org1": true, "org2": false} {
		t.Run(org, func(t *testing.T) {
			l, err := openProvider(t, vectorConfig(t, vfs.NewMem())).Create(genesisOf("ch"))
			must(t, err)
			deploy := rwset.NewBuilder()
			deployed(deploy, org)
			private := rwset.NewBuilder()
			private.WritePrivate("mycc", "coll", "key", []byte("value"))
			read := rwset.NewBuilder()
			read.ReadPrivate("mycc", "coll", "other", nil)
			prev := protoutil.BlockHash(genesisOf("ch").Header)
			for n, txs := range [][]*rwset.Builder{{deploy}, {private, private, read}} {
				b := protoutil.NewBlock(uint64(n+1), prev)
				for i, tx := range txs {
					set, err := tx.Public()
					must(t, err)
					b.Data.Data = append(b.Data.Data, benchEnvelope(fmt.Sprintf("tx-%d-%d", n, i), protoutil.Marshal(set)))
				}
				b.Header.DataHash = protoutil.DataHash(b.Data.Data)
				prev = protoutil.BlockHash(b.Header)
				v := protoutil.ParseBlock(b)
				flags := make([]byte, len(txs))
				if len(txs) > 1 {
					flags[1] = byte(peer.TxValidationCode_ENDORSEMENT_POLICY_FAILURE)
				}
				v.SetFlags(flags)
				l.Expect(v)
				must(t, l.Commit(v))
			}
			missing, err := l.MissingPrivateData(10)
			must(t, err)
			want := map[uint64]map[uint64][]MissingCollection{}
			if eligible {
				want[2] = map[uint64][]MissingCollection{0: {{Namespace: "mycc", Collection: "coll", Eligible: true}}}
			}
			if diff := cmp.Diff(want, missing, cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
			keyHash := sha256.Sum256([]byte("key"))
			if v, err := l.state.Get(state.HashedNamespace("mycc", "coll"), string(keyHash[:])); err != nil || v == nil {
				t.Errorf("hashed value: %v, %v", v, err)
			}
		})
	}
}

func noPrivateData(int) bool { return false }

// TestExpectedBlocksShareASync: the block file is synced once per block; for the
// private store of announced blocks two syncs do, and state, history and index
// have none.
func TestExpectedBlocksShareASync(t *testing.T) {
	var files, private atomic.Int64
	var gate atomic.Pointer[chan struct{}]
	fs := errorfs.New(vfs.NewMem(), func(op errorfs.Op, name string) error {
		switch {
		case op != errorfs.OpSync:
		case strings.Contains(name, "/blockfile_"):
			files.Add(1)
		case strings.Contains(name, "/"+dirPrivate+"/"):
			private.Add(1)
			if g := gate.Load(); g != nil {
				<-*g
			}
		case gate.Load() != nil:
			t.Errorf("sync of %s", name)
		}
		return nil
	})
	p := openProvider(t, Config{Dir: testDir, FS: fs, History: true, manual: true})
	l, err := p.Create(genesisOf("ch"))
	must(t, err)
	files.Store(0)
	private.Store(0)
	open := make(chan struct{})
	gate.Store(&open)
	chain := smallChain(genesisOf("ch"), 12, noPrivateData)
	for _, b := range chain {
		l.Expect(b)
	}
	close(open)
	for _, b := range chain {
		must(t, l.Commit(b))
	}
	if files.Load() != 12 || private.Load() > 2 {
		t.Errorf("12 blocks took %d syncs of the block file and %d of the private store", files.Load(), private.Load())
	}
	gate.Store(nil)
}

// TestExpectStopsAtPrivateData: a block that names private data, and those after
// it, are left to Commit.
func TestExpectStopsAtPrivateData(t *testing.T) {
	p := openProvider(t, Config{Dir: testDir, FS: vfs.NewMem(), manual: true})
	l, err := p.Create(genesisOf("ch"))
	must(t, err)
	chain := smallChain(genesisOf("ch"), 4, func(n int) bool { return n == 3 })
	chain[2].SetFlags([]byte{byte(peer.TxValidationCode_ENDORSEMENT_POLICY_FAILURE)}) // the collection is not deployed
	l.Expect(chain[1])                                                                // not the next
	for _, b := range chain {
		l.Expect(b)
	}
	must(t, l.herald.await(2))
	if next := l.private.NextBlock(); next != 3 {
		t.Errorf("covered up to %d", next)
	}
	for _, b := range chain[:2] {
		must(t, l.Commit(b))
	}
	if l.PrivateDataExists(3) {
		t.Error("private data of block 3 would not be collected")
	}
	must(t, l.CommitWithPrivateData(chain[2], &PrivateData{
		Missing: map[uint64][]MissingCollection{0: {{Namespace: "mycc", Collection: "coll", Eligible: true}}},
	}))
	l.Expect(chain[3])
	must(t, l.herald.await(4))
	missing, err := l.MissingPrivateData(10)
	must(t, err)
	if len(missing[3]) != 1 {
		t.Errorf("missing: %v", missing)
	}
	must(t, l.Commit(chain[3]))
	if l.Height() != 5 || l.private.Height() != 5 {
		t.Errorf("height %d, private store %d", l.Height(), l.private.Height())
	}
}

// TestExpectOnFullDisk: if the private store cannot be written to, Commit fails
// with nothing in the block file, also when there is room again: what was written
// of the first attempt is known only when the store is opened anew.
func TestExpectOnFullDisk(t *testing.T) {
	var full atomic.Bool
	disk := vfs.NewMem()
	fs := errorfs.New(disk, func(op errorfs.Op, name string) error {
		if full.Load() && op == errorfs.OpSync && strings.Contains(name, "/"+dirPrivate+"/") {
			return syscall.ENOSPC
		}
		return nil
	})
	p := openProvider(t, Config{Dir: testDir, FS: fs, manual: true})
	l, err := p.Create(genesisOf("ch"))
	must(t, err)
	chain := smallChain(genesisOf("ch"), 2, noPrivateData)
	full.Store(true)
	l.Expect(chain[0])
	if err := l.Commit(chain[0]); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("got %v", err)
	}
	if l.Height() != 1 || l.blocks.Height() != 1 {
		t.Fatalf("height %d, block file %d", l.Height(), l.blocks.Height())
	}
	full.Store(false)
	var failed *kv.FailedError
	if err := l.Commit(chain[0]); !errors.As(err, &failed) || l.blocks.Height() != 1 {
		t.Fatalf("got %v, block file %d", err, l.blocks.Height())
	}
	p.Close() // says so again
	p = openProvider(t, Config{Dir: testDir, FS: disk, manual: true})
	l = openLedger(t, p, "ch")
	must(t, l.Commit(chain[0]))
	must(t, l.Commit(chain[1]))
}

// TestCloseWhileExpecting: Close waits for the disk and ends the goroutine.
func TestCloseWhileExpecting(t *testing.T) {
	p := openProvider(t, Config{Dir: testDir, FS: vfs.NewMem(), manual: true})
	l, err := p.Create(genesisOf("ch"))
	must(t, err)
	chain := smallChain(genesisOf("ch"), 3, noPrivateData)
	l.Expect(chain[0])
	must(t, p.Close())
	l.Expect(chain[1])
	if l.herald.running {
		t.Error("still running")
	}
}
