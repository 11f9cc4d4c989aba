package consensus

import (
	"bytes"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/protoutil"
)

func sample() *common.Envelope {
	return &common.Envelope{
		Payload: protoutil.Marshal(&common.Payload{
			Header: &common.Header{
				ChannelHeader:   protoutil.Marshal(&common.ChannelHeader{Type: 3, ChannelId: "ch"}),
				SignatureHeader: protoutil.Marshal(&common.SignatureHeader{Creator: []byte("creator"), Nonce: []byte("nonce")}),
			},
			Data: []byte("data"),
		}),
		Signature: []byte("signature"),
	}
}

// TestMessage: what goes into a block is what came in, for a canonical client.
func TestMessage(t *testing.T) {
	t.Parallel()
	env := sample()
	raw := protoutil.Marshal(env)
	m, err := ParseMessage(raw)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := m.SignedData()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(m.Bytes(), raw) || m.Type() != common.HeaderType_ENDORSER_TRANSACTION || m.ChannelHeader().ChannelId != "ch" ||
		m.Size() != len(env.Payload)+len(env.Signature) || string(signed.Identity) != "creator" || !bytes.Equal(signed.Data, env.Payload) {
		t.Errorf("message %+v", m)
	}
}

// TestOddEncoding: fields in another order come into the block in the usual one
// (ORDERER §7.1).
func TestOddEncoding(t *testing.T) {
	t.Parallel()
	env := sample()
	payload := protoutil.Marshal(&common.Envelope{Payload: env.Payload})
	signature := protoutil.Marshal(&common.Envelope{Signature: env.Signature})
	m, err := ParseMessage(append(signature, payload...))
	if err != nil || !bytes.Equal(m.Bytes(), protoutil.Marshal(env)) {
		t.Errorf("%v, %v", m, err)
	}
}

// TestOneCopy: a message is in memory once, however many of its parts are at hand.
func TestOneCopy(t *testing.T) {
	t.Parallel()
	m, err := NewMessage(sample())
	if err != nil {
		t.Fatal(err)
	}
	signed, _ := m.SignedData()
	for name, part := range map[string][]byte{
		"payload": m.Envelope().Payload, "signature": m.Envelope().Signature, "data": m.Payload().Data, "creator": signed.Identity,
	} {
		at := bytes.Index(m.Bytes(), part)
		if at < 0 || &m.Bytes()[at] != &part[0] {
			t.Errorf("%s is a copy", name)
		}
	}
}

func TestBadSignatureHeader(t *testing.T) {
	t.Parallel()
	env := &common.Envelope{Payload: protoutil.Marshal(&common.Payload{Header: &common.Header{
		ChannelHeader: protoutil.Marshal(&common.ChannelHeader{ChannelId: "ch"}), SignatureHeader: []byte{0xff},
	}})}
	m, err := NewMessage(env)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.SignedData(); err == nil {
		t.Error("a message without a readable signature header has signed data")
	}
}

func FuzzParseMessage(f *testing.F) {
	f.Add(protoutil.Marshal(sample()))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := ParseMessage(raw)
		if err != nil {
			return
		}
		env := &common.Envelope{}
		if err := proto.Unmarshal(m.Bytes(), env); err != nil || !proto.Equal(env, m.Envelope()) {
			t.Errorf("%x became %x, %v", raw, m.Bytes(), err)
		}
	})
}

func BenchmarkNewMessage(b *testing.B) {
	env := sample()
	env.Payload = protoutil.Marshal(&common.Payload{
		Header: &common.Header{ChannelHeader: protoutil.Marshal(&common.ChannelHeader{ChannelId: "ch"}), SignatureHeader: make([]byte, 0)},
		Data:   make([]byte, 3000),
	})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := NewMessage(env); err != nil {
			b.Fatal(err)
		}
	}
}
