package multichannel

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/chanconfig"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/orderer/chainstore"
)

type signer struct{ err error }

func (signer) Serialize() []byte                 { return []byte("me") }
func (s signer) Sign(msg []byte) ([]byte, error) { return append([]byte("signed "), msg...), s.err }

// newWriter returns the writer of a channel whose ledger has one block.
func newWriter(t *testing.T, s signer) *blockWriter {
	t.Helper()
	store, err := chainstore.Open(chainstore.Config{Type: chainstore.RAM, HistorySize: 10})
	if err != nil {
		t.Fatal(err)
	}
	ledger, err := store.Chain("ch")
	if err != nil {
		t.Fatal(err)
	}
	genesis := protoutil.NewBlock(0, nil)
	if err := ledger.Append(genesis); err != nil {
		t.Fatal(err)
	}
	c := &Channel{id: "ch", ledger: ledger, registrar: &Registrar{log: flog.Nop(), failed: make(chan error, 1)}}
	c.bundle.Store(&chanconfig.Bundle{})
	return &blockWriter{channel: c, signer: s, tip: genesis.Header}
}

func (w *blockWriter) next(t *testing.T) *common.Block {
	t.Helper()
	s := &support{Channel: w.channel, writer: *w}
	return s.NextBlock(nil)
}

// TestMetadata compares the slots with the recorded encodings: last config 8 and
// the metadata of a Kafka orderer.
func TestMetadata(t *testing.T) {
	t.Parallel()
	w := newWriter(t, signer{})
	w.lastConfig = 8
	if err := w.write(w.next(t), []byte{0x08, 0x0e}); err != nil {
		t.Fatal(err)
	}
	if err := w.wait(); err != nil {
		t.Fatal(err)
	}
	b, err := w.channel.ledger.Block(1)
	if err != nil {
		t.Fatal(err)
	}
	md, err := protoutil.Metadata(b, common.BlockMetadataIndex_SIGNATURES)
	if err != nil {
		t.Fatal(err)
	}
	for what, got := range map[string][2]string{
		"slot 3":       {"0a02080e", hex.EncodeToString(b.Metadata.Metadata[3])},
		"slot 1":       {"0a020808", hex.EncodeToString(b.Metadata.Metadata[1])},
		"slot 0 value": {"0a02080812040a02080e", hex.EncodeToString(md.Value)},
		"slots 2, 4":   {"", hex.EncodeToString(append(b.Metadata.Metadata[2], b.Metadata.Metadata[4]...))},
	} {
		if got[0] != got[1] {
			t.Errorf("%s is %s, want %s", what, got[1], got[0])
		}
	}
	sh := &common.SignatureHeader{}
	if err := proto.Unmarshal(md.Signatures[0].SignatureHeader, sh); err != nil {
		t.Fatal(err)
	}
	if string(sh.Creator) != "me" || len(sh.Nonce) != 24 {
		t.Errorf("signature header %v", sh)
	}
	signed := "signed " + string(md.Value) + string(md.Signatures[0].SignatureHeader) + string(protoutil.BlockHeaderBytes(b.Header))
	if string(md.Signatures[0].Signature) != signed {
		t.Error("the signature covers something else")
	}
	engine, err := consenterMetadata(b)
	if err != nil || hex.EncodeToString(engine.Value) != "080e" {
		t.Errorf("engine metadata %v, %v", engine, err)
	}
	// Blocks of 2.x have it in slot 0 only.
	b.Metadata.Metadata[3] = nil
	if engine, err = consenterMetadata(b); err != nil || hex.EncodeToString(engine.Value) != "080e" {
		t.Errorf("engine metadata without slot 3: %v, %v", engine, err)
	}
}

// TestFailures: what fails in the background ends the writing.
func TestFailures(t *testing.T) {
	t.Parallel()
	cause := errors.New("token is gone")
	w := newWriter(t, signer{cause})
	if err := w.write(w.next(t), nil); err != nil {
		t.Fatal(err)
	}
	if err := <-w.channel.registrar.failed; !errors.Is(err, cause) {
		t.Errorf("the process ends for %v", err)
	}
	for range 2 {
		if err := w.write(w.next(t), nil); !errors.Is(err, cause) {
			t.Errorf("write after a failure: %v", err)
		}
	}
	w = newWriter(t, signer{})
	stale := w.next(t)
	for range 2 {
		if err := w.write(proto.CloneOf(stale), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.wait(); err == nil || !strings.HasPrefix(err.Error(), "[channel: ch] Could not append block: ") {
		t.Errorf("a block that does not fit: %v", err)
	}
}

// TestConfigBlocks: only config messages make config blocks.
func TestConfigBlocks(t *testing.T) {
	t.Parallel()
	w := newWriter(t, signer{})
	s := &support{Channel: w.channel, writer: *w}
	message := func(kind common.HeaderType, data []byte) []byte {
		return protoutil.Marshal(&common.Envelope{Payload: protoutil.Marshal(&common.Payload{
			Header: &common.Header{ChannelHeader: protoutil.Marshal(&common.ChannelHeader{Type: int32(kind), ChannelId: "ch"})},
			Data:   data,
		})})
	}
	for want, data := range map[string][][]byte{
		"has 0 messages": nil,
		"Told to write a config block, but could not get its message":                 {{0xff}},
		"Told to write a config block with unknown header type: 3":                    {message(common.HeaderType_ENDORSER_TRANSACTION, nil)},
		"Told to write a config block with new channel, but could not get its config": {message(common.HeaderType_ORDERER_TRANSACTION, []byte{0xff})},
		"create channel: no header found in payload":                                  {message(common.HeaderType_ORDERER_TRANSACTION, nil)},
	} {
		b := s.NextBlock(nil)
		b.Data.Data = data
		if err := s.WriteConfigBlock(b, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
