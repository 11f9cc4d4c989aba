package node

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/chanconfig"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/orderer/chainstore"
	"github.com/heddle-ledger/heddle/orderer/consensus"
	"github.com/heddle-ledger/heddle/orderer/consensus/solo"
	"github.com/heddle-ledger/heddle/orderer/multichannel"
)

func (r *recording) envelope(t testing.TB, n int) *common.Envelope {
	t.Helper()
	env := &common.Envelope{}
	if err := proto.Unmarshal(r.Cases[n-1].Envelope, env); err != nil {
		t.Fatal(err)
	}
	return env
}

func openStore(t *testing.T, kind, dir string) *chainstore.Store {
	t.Helper()
	s, err := chainstore.Open(chainstore.Config{Type: kind, Dir: dir, HistorySize: 100})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (h *harness) channel(id string) *multichannel.Channel {
	h.t.Helper()
	c, ok := h.registrar.Channel(id)
	if !ok {
		h.t.Fatalf("no channel %s", id)
	}
	return c
}

// blockAt waits for a block.
func (h *harness) blockAt(id string, n uint64) *common.Block {
	h.t.Helper()
	it, err := h.channel(id).Iterator(0)
	if err != nil {
		h.t.Fatal(err)
	}
	defer it.Close()
	for {
		b, err := it.Next(h.t.Context())
		if err != nil {
			h.t.Fatal(err)
		}
		if b.Number() < n {
			continue
		}
		p, err := b.Proto()
		if err != nil {
			h.t.Fatal(err)
		}
		return p
	}
}

func (h *harness) accept(envs ...*common.Envelope) {
	h.t.Helper()
	for _, r := range h.send(envs...) {
		if r.Status != common.Status_SUCCESS {
			h.t.Fatalf("refused: %v", r)
		}
	}
}

func (h *harness) normals(channel string, n int) []*common.Envelope {
	var out []*common.Envelope
	for range n {
		out = append(out, sign(h.t, h.user, envelopeSpec{kind: common.HeaderType_ENDORSER_TRANSACTION, channel: channel, data: []byte("data")}))
	}
	return out
}

// createCh1 creates the channel ch1 and waits until it is there.
func (h *harness) createCh1(rec *recording) {
	h.t.Helper()
	h.accept(rec.envelope(h.t, 26))
	h.blockAt("syschannel", 1)
	if h.registrar.Count() < 2 {
		h.t.Fatal("ch1 was not created before the system channel's block")
	}
}

// TestRestart: a channel goes on where it stopped, with the last config that its
// newest block names.
func TestRestart(t *testing.T) {
	t.Parallel()
	rec, dir := loadRecording(t), t.TempDir()
	for _, kind := range []string{chainstore.File, chainstore.JSON} {
		store := openStore(t, kind, dir+"/"+kind)
		h := newHarness(t, store)
		stop := h.run(t.Context())
		h.createCh1(rec)
		h.accept(rec.envelope(t, 47)) // config block 1
		h.accept(h.normals("ch1", 3)...)
		second := h.blockAt("ch1", 2)
		stop()
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}

		store = openStore(t, kind, dir+"/"+kind)
		h = newHarness(t, store)
		stop = h.run(t.Context())
		if got := h.channel("ch1").Sequence(); got != 2 {
			t.Errorf("%s: config sequence %d after restart, want 2", kind, got)
		}
		h.accept(h.normals("ch1", 3)...)
		third := h.blockAt("ch1", 3)
		if string(third.Header.PreviousHash) != string(protoutil.BlockHash(second.Header)) {
			t.Errorf("%s: block 3 does not continue block 2", kind)
		}
		if index, err := protoutil.LastConfigIndex(third); err != nil || index != 1 {
			t.Errorf("%s: last config %d, %v, want 1", kind, index, err)
		}
		n := uint64(3)
		if err := chanconfig.VerifyBlock(h.channel("ch1").Bundle(), "ch1", &n, third); err != nil {
			t.Errorf("%s: %s", kind, err)
		}
		stop()
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCreationAgain: after a crash between the creation of a channel and the
// system channel's block, the message is handled again and finds the channel.
func TestCreationAgain(t *testing.T) {
	t.Parallel()
	rec := loadRecording(t)
	synctest.Test(t, func(t *testing.T) {
		inTime()
		h := newHarness(t, openStore(t, chainstore.RAM, ""))
		defer h.run(t.Context())()
		m, err := consensus.NewMessage(rec.envelope(t, 26))
		if err != nil {
			t.Fatal(err)
		}
		system := h.registrar.System()
		creation, seq, err := system.ProcessConfigUpdate(m)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := system.Configure(t.Context(), creation, seq); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if got := system.Height(); got != 3 {
			t.Errorf("system channel has height %d, want 3", got)
		}
		h.accept(h.normals("ch1", 3)...)
		if b := h.blockAt("ch1", 1); len(b.Data.Data) != 3 {
			t.Errorf("block 1 has %d messages", len(b.Data.Data))
		}
	})
}

// TestInterruptedCreation: a channel directory without a block is no channel, and
// is filled when the channel is created.
func TestInterruptedCreation(t *testing.T) {
	t.Parallel()
	rec, store := loadRecording(t), openStore(t, chainstore.File, t.TempDir())
	defer store.Close()
	for _, id := range []string{"ch1", "syschannel"} {
		if _, err := store.Chain(id); err != nil {
			t.Fatal(err)
		}
	}
	h := newHarness(t, store)
	if n := h.registrar.Count(); n != 1 {
		t.Errorf("%d channels are loaded, want 1", n)
	}
	defer h.run(t.Context())()
	h.createCh1(rec)
	h.accept(h.normals("ch1", 3)...)
	h.blockAt("ch1", 1)
}

// TestStaleConfig: of two updates that were validated under the same config the
// second one is validated again, and dropped if it has become void.
func TestStaleConfig(t *testing.T) {
	t.Parallel()
	rec := loadRecording(t)
	synctest.Test(t, func(t *testing.T) {
		inTime()
		h := newHarness(t, openStore(t, chainstore.RAM, ""))
		defer h.run(t.Context())()
		h.createCh1(rec)
		c := h.channel("ch1")
		var messages []*consensus.Message
		for _, n := range []int{47, 50, 50} { // anchors, batch size, the same again
			m, err := consensus.NewMessage(rec.envelope(t, n))
			if err != nil {
				t.Fatal(err)
			}
			config, seq, err := c.ProcessConfigUpdate(m)
			if err != nil || seq != 1 {
				t.Fatalf("case %d: sequence %d, %v", n, seq, err)
			}
			messages = append(messages, config)
		}
		normal, err := consensus.NewMessage(h.normals("ch1", 1)[0])
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range messages {
			if err := c.Configure(t.Context(), m, 1); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Order(t.Context(), normal, 1); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := c.Sequence(); got != 3 {
			t.Errorf("sequence %d, want 3", got)
		}
		if got := c.Height(); got != 4 { // genesis, two configs, the normal message
			t.Errorf("height %d, want 4", got)
		}
		for n := range uint64(3) {
			if b := h.blockAt("ch1", n); !protoutil.IsConfigBlock(b) {
				t.Errorf("block %d is no config block", n)
			}
		}
	})
}

func TestOpenErrors(t *testing.T) {
	t.Parallel()
	rec := loadRecording(t)
	system := rec.block(t, "syschannel/00.block")
	for _, tc := range []struct {
		name, want string
		blocks     map[string]*common.Block
		engine     string
	}{
		{
			"no system channel", "No system chain found.  If bootstrapping, does your system channel contain a consortiums group definition?",
			map[string]*common.Block{"ch1": rec.block(t, "ch1/00.block")},
			"solo",
		},
		{
			"two system channels", "There appear to be two system chains ",
			map[string]*common.Block{"syschannel": system, "other": system},
			"solo",
		},
		{
			"unknown engine", "Error retrieving consenter of type: solo",
			map[string]*common.Block{"syschannel": system},
			"kafka",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			store := openStore(t, chainstore.RAM, "")
			for id, b := range tc.blocks {
				c, err := store.Chain(id)
				if err != nil {
					t.Fatal(err)
				}
				if err := c.Append(b); err != nil {
					t.Fatal(err)
				}
			}
			_, err := multichannel.Open(multichannel.Config{
				Store: store, Consenters: map[string]consensus.Consenter{tc.engine: solo.New(flog.Nop())},
				Signer: loadSigner(t, "testdata/orderer-msp", "OrdererMSP"), Log: flog.Nop(),
			})
			if err == nil || !strings.HasPrefix(err.Error(), tc.want) {
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
}
