package node

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/orderer"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/heddle-ledger/heddle/internal/chanconfig"
	"github.com/heddle-ledger/heddle/internal/deliver"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/metrics"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/msp"
	"github.com/heddle-ledger/heddle/msp/x509msp"
	"github.com/heddle-ledger/heddle/orderer/broadcast"
	"github.com/heddle-ledger/heddle/orderer/chainstore"
	"github.com/heddle-ledger/heddle/orderer/consensus"
	"github.com/heddle-ledger/heddle/orderer/consensus/solo"
	"github.com/heddle-ledger/heddle/orderer/msgproc"
	"github.com/heddle-ledger/heddle/orderer/multichannel"
)

// recording is the run of a 1.4.12 orderer: requests with their answers, and the
// blocks that came of them.
type recording struct {
	Cases []struct {
		N            int
		Name         string
		Status, Info string
		Envelope     []byte
	}
	Blocks map[string][]byte
}

func loadRecording(t testing.TB) *recording {
	t.Helper()
	f, err := os.Open("testdata/solo.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	r := &recording{}
	if err := json.NewDecoder(z).Decode(r); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *recording) block(t *testing.T, name string) *common.Block {
	t.Helper()
	b := &common.Block{}
	if err := proto.Unmarshal(r.Blocks[name], b); err != nil {
		t.Fatal(err)
	}
	return b
}

// harness is an orderer without a network.
type harness struct {
	t         *testing.T
	registrar *multichannel.Registrar
	broadcast *broadcast.Handler
	service   *service
	orderer   msp.SigningIdentity
	user      msp.SigningIdentity
	expired   []byte // creator
}

func loadSigner(t testing.TB, dir, mspID string) msp.SigningIdentity {
	t.Helper()
	local, err := x509msp.LoadLocal(x509msp.LocalConfig{Dir: dir, MSPID: mspID})
	if err != nil {
		t.Fatal(err)
	}
	return local.SigningIdentity()
}

// newHarness opens the channels of a store, which gets the genesis block of the
// recording if it is empty.
func newHarness(t *testing.T, store *chainstore.Store) *harness {
	t.Helper()
	h := &harness{t: t, orderer: loadSigner(t, "testdata/orderer-msp", "OrdererMSP"), user: loadSigner(t, "testdata/user1-msp", "Org1MSP")}
	ids, err := store.List()
	if err != nil {
		t.Fatal(err)
	}
	if len(ids) == 0 {
		raw, err := os.ReadFile("testdata/solo_genesis.block")
		if err != nil {
			t.Fatal(err)
		}
		genesis := &common.Block{}
		if err := proto.Unmarshal(raw, genesis); err != nil {
			t.Fatal(err)
		}
		if err := multichannel.Bootstrap(store, genesis); err != nil {
			t.Fatal(err)
		}
	}
	expiry := msgproc.NewExpiry()
	h.registrar, err = multichannel.Open(multichannel.Config{
		Store: store, Consenters: map[string]consensus.Consenter{"solo": solo.New(flog.Nop())},
		Signer: h.orderer, Expiry: expiry, Log: flog.Nop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	h.broadcast = broadcast.NewHandler(broadcast.Config{
		Route:   func(id string) broadcast.Channel { return h.registrar.Route(id) },
		Metrics: broadcast.NewMetrics(metrics.Disabled()), Log: flog.Nop(),
	})
	h.service = &service{registrar: h.registrar, log: flog.Nop(), deliver: deliver.NewHandler(deliver.Config{
		Chains: func(id string) (deliver.Chain, bool) {
			c, ok := h.registrar.Channel(id)
			return c, ok
		},
		ExpiresAt: expiry.ExpiresAt,
	})}
	return h
}

// run starts the engines; the returned function stops them and reports an error.
func (h *harness) run(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- h.registrar.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			h.t.Errorf("registrar: %s", err)
		}
	}
}

// send broadcasts messages on one stream and returns the answers.
func (h *harness) send(envs ...*common.Envelope) []*orderer.BroadcastResponse {
	h.t.Helper()
	var got []*orderer.BroadcastResponse
	err := h.broadcast.Serve(context.Background(), &broadcast.Stream{
		Recv: func() (*common.Envelope, error) {
			if len(envs) == 0 {
				return nil, io.EOF
			}
			env := envs[0]
			envs = envs[1:]
			return env, nil
		},
		Send: func(r *orderer.BroadcastResponse) error {
			got = append(got, r)
			return nil
		},
	})
	if err != nil {
		h.t.Errorf("broadcast: %s", err)
	}
	return got
}

// seek makes one Deliver request and returns the blocks and the status. A request
// that would wait for ever ends with the context.
func (h *harness) seek(ctx context.Context, env *common.Envelope) (blocks []*common.Block, status common.Status) {
	h.t.Helper()
	sent := false
	_ = h.service.deliver.Serve(ctx, &deliver.Stream{
		Recv: func() (*common.Envelope, error) {
			if sent {
				return nil, io.EOF
			}
			sent = true
			return env, nil
		},
		Access: h.service.checkReader,
		Responder: recorder{
			status: func(s common.Status) { status = s },
			block: func(b *deliver.Block) {
				r := &orderer.DeliverResponse{}
				if err := proto.Unmarshal(b.EncodedResponse(), r); err != nil {
					h.t.Fatal(err)
				}
				blocks = append(blocks, r.GetBlock())
			},
		},
	})
	return blocks, status
}

type recorder struct {
	status func(common.Status)
	block  func(*deliver.Block)
}

func (r recorder) SendStatus(s common.Status) error { r.status(s); return nil }
func (r recorder) Filtered() bool                   { return false }
func (r recorder) SendBlock(b *deliver.Block, _ string, _ *common.Envelope) error {
	r.block(b)
	return nil
}

// envelopeSpec is what an envelope of a test carries.
type envelopeSpec struct {
	kind    common.HeaderType
	channel string
	data    []byte
	time    *timestamppb.Timestamp
	creator []byte // instead of the signer's
	tlsHash []byte
}

func sign(t testing.TB, s msp.SigningIdentity, spec envelopeSpec) *common.Envelope {
	t.Helper()
	nonce, err := protoutil.Nonce()
	if err != nil {
		t.Fatal(err)
	}
	if spec.creator == nil {
		spec.creator = s.Serialize()
	}
	payload := protoutil.Marshal(&common.Payload{
		Header: &common.Header{
			ChannelHeader: protoutil.Marshal(&common.ChannelHeader{
				Type: int32(spec.kind), ChannelId: spec.channel, Timestamp: spec.time, TlsCertHash: spec.tlsHash,
			}),
			SignatureHeader: protoutil.Marshal(&common.SignatureHeader{Creator: spec.creator, Nonce: nonce}),
		},
		Data: spec.data,
	})
	sig, err := s.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	return &common.Envelope{Payload: payload, Signature: sig}
}

// inTime moves a bubble's clock, which begins in the year 2000, to where the
// recording's certificates are valid and its expired one is not.
func inTime() {
	time.Sleep(time.Until(time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)))
}

// TestReplay sends the 78 recorded requests to a fresh orderer and compares
// answers and blocks with the recording.
func TestReplay(t *testing.T) {
	t.Parallel()
	rec := loadRecording(t)
	synctest.Test(t, func(t *testing.T) {
		inTime()
		store, err := chainstore.Open(chainstore.Config{Type: chainstore.RAM, HistorySize: 100})
		if err != nil {
			t.Fatal(err)
		}
		h := newHarness(t, store)
		defer h.run(t.Context())()
		for _, c := range rec.Cases {
			env := &common.Envelope{}
			if c.N == 41 { // left out of the recording
				env = h.oversize(51015)
			} else if err := proto.Unmarshal(c.Envelope, env); err != nil {
				t.Fatalf("case %d: %s", c.N, err)
			}
			if c.N == 38 {
				m, err := consensus.NewMessage(env)
				if err != nil {
					t.Fatal(err)
				}
				signed, _ := m.SignedData()
				h.expired = signed.Identity
			}
			got := h.send(env)
			if len(got) != 1 || got[0].Status.String() != c.Status || !sameText(got[0].Info, c.Info) {
				t.Errorf("case %d %q:\n got %v\nwant %s %q", c.N, c.Name, got, c.Status, c.Info)
			}
			synctest.Wait()
			switch c.N {
			case 14, 31:
				time.Sleep(2 * time.Second)
			case 60:
				h.deliverCases(func(name string) bool { return !strings.HasPrefix(name, "maintenance") })
			case 71:
				h.deliverCases(func(name string) bool { return strings.HasPrefix(name, "maintenance") })
			}
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		h.compareBlocks(rec)
	})
}

// sameText compares texts up to where they quote the protobuf library.
func sameText(got, want string) bool {
	for _, quoted := range []string{"proto: ", "unexpected EOF"} {
		if i := strings.Index(want, quoted); i >= 0 {
			return len(got) > i && got[:i] == want[:i]
		}
	}
	return got == want
}

func (h *harness) oversize(size int) *common.Envelope {
	data := make([]byte, size)
	env := sign(h.t, h.user, envelopeSpec{channel: "ch1", kind: common.HeaderType_MESSAGE, data: data})
	for over := len(env.Payload) + len(env.Signature) - size; over != 0; over = len(env.Payload) + len(env.Signature) - size {
		data = data[:len(data)-over]
		sig := env.Signature
		env = sign(h.t, h.user, envelopeSpec{channel: "ch1", kind: common.HeaderType_MESSAGE, data: data})
		env.Signature = sig // of a fixed length
	}
	return env
}

type deliverCase struct {
	Name, Signer, Channel, Start, Stop, Behavior, ErrorResponse, Result string
}

// deliverCases makes the recorded Deliver requests whose names are wanted.
func (h *harness) deliverCases(wanted func(string) bool) {
	h.t.Helper()
	raw, err := os.ReadFile("testdata/deliver_cases.json")
	if err != nil {
		h.t.Fatal(err)
	}
	var cases []deliverCase
	if err := json.Unmarshal(raw, &cases); err != nil {
		h.t.Fatal(err)
	}
	for _, c := range cases {
		if !wanted(c.Name) {
			continue
		}
		blocks, status := h.seek(h.t.Context(), h.deliverRequest(c))
		var got []string
		for _, b := range blocks {
			got = append(got, fmt.Sprintf("block %d", b.Header.Number))
		}
		if got := strings.Join(append(got, status.String()), ", "); got != c.Result {
			h.t.Errorf("deliver %q: got %s, want %s", c.Name, got, c.Result)
		}
	}
}

func (h *harness) deliverRequest(c deliverCase) *common.Envelope {
	h.t.Helper()
	if c.Name == "empty envelope" {
		return &common.Envelope{}
	}
	info := &orderer.SeekInfo{
		Start:         position(h.t, c.Start),
		Stop:          position(h.t, c.Stop),
		Behavior:      orderer.SeekInfo_SeekBehavior(orderer.SeekInfo_SeekBehavior_value[c.Behavior]),
		ErrorResponse: orderer.SeekInfo_SeekErrorResponse(orderer.SeekInfo_SeekErrorResponse_value[c.ErrorResponse]),
	}
	spec := envelopeSpec{channel: c.Channel, kind: common.HeaderType_DELIVER_SEEK_INFO, time: timestamppb.Now()}
	if strings.HasPrefix(c.Name, "envelope with any header type") {
		spec.kind = common.HeaderType_ENDORSER_TRANSACTION
	}
	var minutes time.Duration
	switch _, err := fmt.Sscanf(c.Name, "timestamp %d minutes", &minutes); {
	case err == nil && strings.HasSuffix(c.Name, "old"):
		spec.time = timestamppb.New(time.Now().Add(-minutes * time.Minute))
	case err == nil:
		spec.time = timestamppb.New(time.Now().Add(minutes * time.Minute))
	case c.Name == "no timestamp":
		spec.time = nil
	}
	spec.data = protoutil.Marshal(info)
	if c.Name == "seek info garbage" {
		spec.data = []byte{0xff, 0xff, 0xff}
	}
	signer := h.user
	switch c.Signer {
	case "orderer":
		signer = h.orderer
	case "expired@org1":
		spec.creator = h.expired
	}
	env := sign(h.t, signer, spec)
	if c.Name == "wrong signature" {
		env.Signature[len(env.Signature)-1] ^= 1
	}
	return env
}

func position(t *testing.T, text string) *orderer.SeekPosition {
	t.Helper()
	var n uint64
	switch {
	case text == "(unset)":
		return nil
	case text == "" || strings.HasPrefix(text, "oldest"):
		return &orderer.SeekPosition{Type: &orderer.SeekPosition_Oldest{Oldest: &orderer.SeekOldest{}}}
	case strings.HasPrefix(text, "newest"):
		return &orderer.SeekPosition{Type: &orderer.SeekPosition_Newest{Newest: &orderer.SeekNewest{}}}
	}
	if _, err := fmt.Sscanf(text, "specified:<number:%d", &n); err != nil {
		t.Fatalf("position %q: %s", text, err)
	}
	return &orderer.SeekPosition{Type: &orderer.SeekPosition_Specified{Specified: &orderer.SeekSpecified{Number: n}}}
}

// compareBlocks compares every block with the recorded one: the same messages,
// the same configs, and metadata that the recorded network would accept.
func (h *harness) compareBlocks(rec *recording) {
	h.t.Helper()
	for _, c := range h.registrar.Channels() {
		var bundle *chanconfig.Bundle
		for n := range c.Height() {
			it, err := c.Iterator(n)
			if err != nil {
				h.t.Fatal(err)
			}
			raw, err := it.Next(h.t.Context())
			if err != nil {
				h.t.Fatal(err)
			}
			b, err := raw.Proto()
			if err != nil {
				h.t.Fatal(err)
			}
			name := fmt.Sprintf("%s/%02d.block", c.ID(), n)
			compareBlock(h.t, name, b, rec.block(h.t, name))
			if n > 0 {
				if err := chanconfig.VerifyBlock(bundle, c.ID(), &n, b); err != nil {
					h.t.Errorf("%s: %s", name, err)
				}
			}
			if !protoutil.IsConfigBlock(b) {
				continue
			}
			if next, err := chanconfig.BundleFromBlock(b, chanconfig.Options{}); err == nil {
				bundle = next
			} else if c.ID() != "syschannel" { // there it holds the config of another channel
				h.t.Errorf("%s: %s", name, err)
			}
		}
		if _, more := rec.Blocks[fmt.Sprintf("%s/%02d.block", c.ID(), c.Height())]; more {
			h.t.Errorf("channel %s has only %d blocks", c.ID(), c.Height())
		}
	}
	if n := h.registrar.Count(); n != 4 {
		h.t.Errorf("%d channels, want 4", n)
	}
}

func compareBlock(t *testing.T, name string, got, want *common.Block) {
	t.Helper()
	if len(got.Metadata.Metadata) != len(want.Metadata.Metadata) {
		t.Errorf("%s: %d metadata slots, want %d", name, len(got.Metadata.Metadata), len(want.Metadata.Metadata))
		return
	}
	for slot := 1; slot < len(want.Metadata.Metadata); slot++ {
		if !bytes.Equal(got.Metadata.Metadata[slot], want.Metadata.Metadata[slot]) {
			t.Errorf("%s: slot %d is %x, want %x", name, slot, got.Metadata.Metadata[slot], want.Metadata.Metadata[slot])
		}
	}
	if !bytes.Equal(signedValue(t, got), signedValue(t, want)) {
		t.Errorf("%s: value of slot 0 is %x, want %x", name, signedValue(t, got), signedValue(t, want))
	}
	if !protoutil.IsConfigBlock(want) {
		if !slices.EqualFunc(got.Data.Data, want.Data.Data, bytes.Equal) {
			t.Errorf("%s: other messages", name)
		}
		return
	}
	if !proto.Equal(configOf(t, got), configOf(t, want)) {
		t.Errorf("%s: other config", name)
	}
}

func signedValue(t *testing.T, b *common.Block) []byte {
	t.Helper()
	md, err := protoutil.Metadata(b, common.BlockMetadataIndex_SIGNATURES)
	if err != nil {
		t.Fatal(err)
	}
	return md.Value
}

// configOf is the config of a CONFIG block, or the one inside an
// ORDERER_TRANSACTION.
func configOf(t *testing.T, b *common.Block) *common.ConfigEnvelope {
	t.Helper()
	m, err := consensus.ParseMessage(b.Data.Data[0])
	if err != nil {
		t.Fatal(err)
	}
	if m.Type() == common.HeaderType_ORDERER_TRANSACTION {
		if m, err = consensus.ParseMessage(m.Payload().Data); err != nil {
			t.Fatal(err)
		}
	}
	env := &common.ConfigEnvelope{}
	if err := proto.Unmarshal(m.Payload().Data, env); err != nil {
		t.Fatal(err)
	}
	return env
}
