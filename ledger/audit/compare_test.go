package audit

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/testnet/testchain"
	"github.com/heddle-ledger/heddle/ledger/blockfile"
	"github.com/heddle-ledger/heddle/ledger/kv"
)

func compare(t *testing.T, a, b string, o CompareOptions) *Comparison {
	t.Helper()
	before := []map[string]string{content(t, a), content(t, b)}
	x, err := Open(a)
	must(t, err)
	y, err := Open(b)
	must(t, err)
	c, err := Compare(t.Context(), x, y, o)
	must(t, err)
	must(t, x.Close())
	must(t, y.Close())
	if d := cmp.Diff(before, []map[string]string{content(t, a), content(t, b)}); d != "" {
		t.Error(d)
	}
	return c
}

func TestCompareSame(t *testing.T) {
	c := compare(t, peerCopy(t), peerCopy(t), CompareOptions{State: true})
	if ch := c.Channels[0]; !c.Same || ch.Blocks != chainLength || ch.StateKeys != 15 || len(ch.Notes) > 0 {
		t.Error(show(c))
	}
	c = compare(t, peerCopy(t), ordererCopy(t), CompareOptions{State: true, Memory: 2})
	if ch := c.Channels[0]; !c.Same || ch.Blocks != chainLength || len(ch.Notes) != 2 {
		t.Error(show(c))
	}
}

// shorten leaves an orderer's ledger with the first n blocks.
func shorten(t *testing.T, m *made, n int, edit func(i int, b *common.Block)) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "orderer")
	p, err := blockfile.OpenProvider(blockfile.Config{Dir: dir, Index: blockfile.IndexNumber})
	must(t, err)
	s, err := p.Open(channelID)
	must(t, err)
	for i := range n {
		b := proto.CloneOf(m.blocks[i])
		if edit != nil {
			edit(i, b)
		}
		must(t, s.Append(protoutil.ParseBlock(b)))
	}
	must(t, p.Close())
	return dir
}

func TestCompareLengths(t *testing.T) {
	m := madeChain(t)
	short := shorten(t, m, 10, nil)
	for _, common := range []bool{false, true} {
		c := compare(t, short, ordererCopy(t), CompareOptions{Common: common})
		ch := c.Channels[0]
		if c.Same != common || ch.Blocks != 10 || ch.Difference != nil || ch.Heights != [2]uint64{10, chainLength} {
			t.Error(show(c))
		}
	}
}

func TestCompareChannels(t *testing.T) {
	peer, orderer := peerCopy(t), ordererCopy(t)
	other := filepath.Join(orderer, "chains/system")
	must(t, os.CopyFS(other, os.DirFS(filepath.Join(orderer, "chains/ch"))))
	c := compare(t, peer, orderer, CompareOptions{})
	if !c.Same || len(c.Channels) != 2 || c.Channels[1].OnlyIn != 2 {
		t.Error(show(c))
	}
	// One of the peer that the orderer has not is a difference, and so is having
	// nothing in common.
	nothing := ordererCopy(t)
	must(t, os.Rename(filepath.Join(nothing, "chains/ch"), filepath.Join(nothing, "chains/system")))
	for _, common := range []bool{false, true} {
		if c = compare(t, peer, nothing, CompareOptions{Common: common}); c.Same || len(c.Channels) != 2 {
			t.Error(show(c))
		}
	}
	must(t, os.CopyFS(filepath.Join(peer, "ledgersData/chains/chains/system"), os.DirFS(filepath.Join(nothing, "chains/system"))))
	if c = compare(t, peer, nothing, CompareOptions{}); c.Same {
		t.Error(show(c))
	}
	if c = compare(t, orderer, ordererCopy(t), CompareOptions{}); c.Same || c.Channels[1].OnlyIn != 1 {
		t.Error(show(c))
	}
	if c = compare(t, orderer, ordererCopy(t), CompareOptions{Common: true}); !c.Same {
		t.Error(show(c))
	}
	if c = compare(t, orderer, ordererCopy(t), CompareOptions{Channels: []string{channelID}}); !c.Same || len(c.Channels) != 1 {
		t.Error(show(c))
	}
}

// TestCompareDifferences changes one thing each and expects its name.
func TestCompareDifferences(t *testing.T) {
	m := madeChain(t)
	txid := protoutil.ParseBlock(m.blocks[7]).Tx(1).ID()
	for name, c := range map[string]struct {
		harm  func(t *testing.T, dir string)
		block uint64
		tx    int
		field string
		a, b  string // parts
	}{
		"previous hash": {func(t *testing.T, dir string) {
			change(t, dir, 7, func(b []byte) { within(t, b, m.blocks[7].Header.PreviousHash, flip) })
		}, 7, -1, "previous hash", "", ""},
		"data hash": {func(t *testing.T, dir string) {
			change(t, dir, 7, func(b []byte) { within(t, b, m.blocks[7].Header.DataHash, flip) })
		}, 7, -1, "data hash", "", ""},
		"transaction": {func(t *testing.T, dir string) {
			change(t, dir, 7, func(b []byte) {
				env, err := protoutil.ParseBlock(m.blocks[7]).Tx(1).Envelope()
				must(t, err)
				within(t, b, env.Signature, flip)
			})
		}, 7, 1, "signature, from byte ", "", ""},
		"write": {func(t *testing.T, dir string) {
			change(t, dir, 7, func(b []byte) {
				set, err := protoutil.ParseBlock(m.blocks[7]).Tx(1).RWSet()
				must(t, err)
				within(t, b, protoutil.Marshal(set.Namespaces[0].KV.Writes[0]), func(p []byte) { p[len(p)-1] ^= 1 })
			})
		}, 7, 1, `write of key "k1" in namespace "cc"`, `value "v7"`, `value "v6"`},
		"another transaction": {func(t *testing.T, dir string) {
			change(t, dir, 7, func(b []byte) { within(t, b, []byte(txid), func(p []byte) { p[0] = 'z' }) })
		}, 7, 1, "transaction id", txid, "z" + txid[1:]},
		"code": {func(t *testing.T, dir string) {
			change(t, dir, mixedBlock, func(b []byte) { within(t, b, []byte{3, 9, 11, 0}, func(p []byte) { p[3] = 12 }) })
		}, mixedBlock, 2, "validation code", "VALID", "PHANTOM_READ_CONFLICT"},
		"commit hash": {func(t *testing.T, dir string) {
			change(t, dir, 9, func(b []byte) { b[len(b)-1] ^= 1 })
		}, 9, -1, "commit hash", "", ""},
		"last config": {func(t *testing.T, dir string) {
			change(t, dir, 9, func(b []byte) {
				slot := m.blocks[9].Metadata.Metadata[1]
				b[len(slot)+bytes.LastIndex(b, append([]byte{byte(len(slot))}, slot...))] = 4
			})
		}, 9, -1, "metadata slot LAST_CONFIG", "0805", "0804"},
		"unreadable": {func(t *testing.T, dir string) {
			change(t, dir, 9, func(b []byte) { b[1] = 0xfe })
		}, 9, -1, "block", "present", "cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := peerCopy(t)
			c.harm(t, dir)
			got := compare(t, m.peer, dir, CompareOptions{})
			d := got.Channels[0].Difference
			switch {
			case got.Same, d == nil, *d.Block != c.block, !strings.HasPrefix(d.Field, c.field), d.A == d.B, got.Channels[0].Blocks != c.block,
				c.tx >= 0 && (d.Tx == nil || *d.Tx != c.tx || len(d.TxID) != 64), !strings.Contains(d.A, c.a), !strings.Contains(d.B, c.b):
				t.Error(show(got))
			}
		})
	}
}

func TestCompareOtherChain(t *testing.T) {
	m := madeChain(t)
	dir := filepath.Join(t.TempDir(), "other")
	_, p := createLedger(t, dir, testchain.New(t).Genesis(channelID))
	must(t, p.Close())
	c := compare(t, m.peer, dir, CompareOptions{})
	if d := c.Channels[0].Difference; c.Same || d == nil || *d.Block != 0 || d.Field == "" {
		t.Error(show(c))
	}
}

// TestCompareLegitimate compares ledgers that differ only in what each node
// writes for itself.
func TestCompareLegitimate(t *testing.T) {
	m := madeChain(t)
	resigned := shorten(t, m, chainLength, func(i int, b *common.Block) {
		if i == 9 {
			b.Metadata.Metadata[0] = m.net.Block(9, m.blocks[8].Header, configBlock, b.Data.Data...).Metadata.Metadata[0]
		}
	})
	c := compare(t, m.orderer, resigned, CompareOptions{})
	if !c.Same || len(c.Channels[0].Notes) != 1 || !strings.HasPrefix(c.Channels[0].Notes[0], "the signatures of 1 blocks differ") {
		t.Error(show(c))
	}
	old := filepath.Join(t.TempDir(), "old") // a peer of older code
	p, err := blockfile.OpenProvider(blockfile.Config{Dir: filepath.Join(old, "ledgersData/chains")})
	must(t, err)
	s, err := p.Open(channelID)
	must(t, err)
	for n := range uint64(chainLength) {
		b := m.stored(t, m.peer, n)
		b.Metadata.Metadata = b.Metadata.Metadata[:min(4, len(b.Metadata.Metadata))]
		must(t, s.Append(protoutil.ParseBlock(b)))
	}
	must(t, p.Close())
	c = compare(t, m.peer, old, CompareOptions{})
	if !c.Same || len(c.Channels[0].Notes) != 1 || c.Channels[0].Notes[0] != "from block 1 on only the first ledger has commit hashes" {
		t.Error(show(c))
	}
}

func TestCompareState(t *testing.T) {
	m := madeChain(t)
	dir := peerCopy(t)
	edit(t, dir, "ledgersData/stateLeveldb", func(_, s *kv.Store) {
		must(t, s.Delete([]byte("cc$$pstays\x00p3"), true)) // as a peer of another organisation
	})
	c := compare(t, m.peer, dir, CompareOptions{State: true})
	if !c.Same || len(c.Channels[0].Notes) != 1 {
		t.Error(show(c))
	}
	edit(t, dir, "ledgersData/stateLeveldb", func(_, s *kv.Store) {
		must(t, s.Put([]byte("cc\x00k1"), append([]byte{0, 10, 4, 1, 13, 1, 1, 18, 6}, "forged"...), true))
	})
	c = compare(t, m.peer, dir, CompareOptions{State: true})
	if d := c.Channels[0].StateDifference; c.Same || d == nil || d.Field != `key "k1" of namespace "cc"` || !strings.Contains(d.B, "forged") {
		t.Error(show(c))
	}
	edit(t, dir, "ledgersData/stateLeveldb", func(_, s *kv.Store) { must(t, s.Put([]byte{0}, []byte{1, 11, 1, 2}, true)) })
	c = compare(t, m.peer, dir, CompareOptions{State: true})
	if c.Same || !strings.HasPrefix(c.Channels[0].Notes[0], "state not compared: the states are of heights 14 and 12") {
		t.Error(show(c))
	}
}
