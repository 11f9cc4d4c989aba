package txbuild_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/heddle-ledger/heddle/internal/txbuild"
)

type signer struct{ id, sig []byte }

func (s signer) Serialize() []byte               { return s.id }
func (s signer) Sign(msg []byte) ([]byte, error) { return s.sig, nil }

type flow struct {
	Client      []byte `json:"client_identity_b64"`
	Channel     string
	Nonce       string `json:"nonce_hex"`
	Proposal    []byte `json:"proposal_b64"`
	Response1   []byte `json:"proposal_response1_b64"`
	Response2   []byte `json:"proposal_response2_b64"`
	Failure     []byte `json:"proposal_response_failure_500_b64"`
	TxID        string
	Transaction []byte `json:"transaction_envelope_b64"`
}

func decode[M proto.Message](t *testing.T, raw []byte, m M) M {
	t.Helper()
	if err := proto.Unmarshal(raw, m); err != nil {
		t.Fatal(err)
	}
	return m
}

func loadFlow(t *testing.T) flow {
	t.Helper()
	raw, err := os.ReadFile("testdata/proposal_flow.json")
	if err != nil {
		t.Fatal(err)
	}
	var f flow
	if err := json.Unmarshal(raw, &f); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestProposalMatchesReference(t *testing.T) {
	t.Parallel()
	f := loadFlow(t)
	want := decode(t, f.Proposal, &peer.Proposal{})
	header := decode(t, want.Header, &common.Header{})
	ch := decode(t, header.ChannelHeader, &common.ChannelHeader{})
	payload := decode(t, want.Payload, &peer.ChaincodeProposalPayload{})
	cis := decode(t, payload.Input, &peer.ChaincodeInvocationSpec{})
	nonce, err := hex.DecodeString(f.Nonce)
	if err != nil {
		t.Fatal(err)
	}
	got, err := txbuild.NewProposal(txbuild.ProposalSpec{
		Type: common.HeaderType_ENDORSER_TRANSACTION, ChannelID: f.Channel, Spec: cis.ChaincodeSpec,
		Transient: payload.TransientMap, Nonce: nonce, Timestamp: ch.Timestamp.AsTime(),
	}, f.Client)
	if err != nil {
		t.Fatal(err)
	}
	if got.TxID != f.TxID {
		t.Errorf("txid %s, want %s", got.TxID, f.TxID)
	}
	if !bytes.Equal(got.Header, want.Header) {
		t.Errorf("header\n%x\nwant\n%x", got.Header, want.Header)
	}
	if diff := cmp.Diff(payload, decode(t, got.Payload, &peer.ChaincodeProposalPayload{}), protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

func TestTransactionMatchesReference(t *testing.T) {
	t.Parallel()
	f := loadFlow(t)
	want := decode(t, f.Transaction, &common.Envelope{})
	p := decode(t, f.Proposal, &peer.Proposal{})
	r1, r2 := decode(t, f.Response1, &peer.ProposalResponse{}), decode(t, f.Response2, &peer.ProposalResponse{})
	got, err := txbuild.Transaction(p, signer{f.Client, want.Signature}, r1, r2)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Payload, want.Payload) {
		t.Errorf("payload\n%x\nwant\n%x", got.Payload, want.Payload)
	}
}

func TestTransactionChecks(t *testing.T) {
	t.Parallel()
	f := loadFlow(t)
	p := decode(t, f.Proposal, &peer.Proposal{})
	good, bad := decode(t, f.Response1, &peer.ProposalResponse{}), decode(t, f.Failure, &peer.ProposalResponse{})
	me := signer{id: f.Client}
	for _, tc := range []struct {
		name      string
		s         signer
		responses []*peer.ProposalResponse
		want      string
	}{
		{"none", me, nil, "at least one proposal response is required"},
		{"signer", signer{id: []byte("x")}, []*peer.ProposalResponse{bad}, "signer must be the same as the one referenced in the header"},
		{"first fails", me, []*peer.ProposalResponse{bad, good}, "proposal response was not successful, error code 500, msg boom"},
		{"later fails", me, []*peer.ProposalResponse{good, bad}, "ProposalResponsePayloads do not match"},
		{"nil response", me, []*peer.ProposalResponse{nil}, "proposal response was not successful, error code 0, msg "},
	} {
		_, err := txbuild.Transaction(p, tc.s, tc.responses...)
		if err == nil || err.Error() != tc.want {
			t.Errorf("%s: got %v, want %s", tc.name, err, tc.want)
		}
	}
}

func TestPayloadWithoutTransientDropsUnknownFields(t *testing.T) {
	t.Parallel()
	in := []byte{0x0a, 1, 'x', 0x12, 0, 0x7a, 1, 'u'} // input, transient entry, field 15
	got, err := txbuild.PayloadWithoutTransient(in)
	if err != nil || !bytes.Equal(got, in[:3]) {
		t.Errorf("got %x, %v", got, err)
	}
	if got, err := txbuild.PayloadWithoutTransient(nil); err != nil || len(got) != 0 {
		t.Errorf("got %x, %v", got, err)
	}
	if _, err := txbuild.PayloadWithoutTransient([]byte{0xff}); err == nil {
		t.Error("garbage is an error")
	}
}

func TestSignedEnvelope(t *testing.T) {
	t.Parallel()
	env, err := txbuild.SignedEnvelope(txbuild.EnvelopeSpec{
		Type: 8, ChannelID: "c", Data: []byte("d"), TLSCertHash: []byte("h"), Timestamp: time.Unix(5, 0),
	}, signer{[]byte("me"), []byte("sig")})
	if err != nil {
		t.Fatal(err)
	}
	payload := decode(t, env.Payload, &common.Payload{})
	ch := decode(t, payload.Header.ChannelHeader, &common.ChannelHeader{})
	sh := decode(t, payload.Header.SignatureHeader, &common.SignatureHeader{})
	if ch.Type != 8 || ch.ChannelId != "c" || string(ch.TlsCertHash) != "h" || ch.Timestamp.Seconds != 5 || ch.TxId != "" {
		t.Errorf("channel header %v", ch)
	}
	if string(sh.Creator) != "me" || len(sh.Nonce) != 24 || string(payload.Data) != "d" || string(env.Signature) != "sig" {
		t.Errorf("got %v %v", sh, payload)
	}
}

func TestProposalErrors(t *testing.T) {
	t.Parallel()
	if _, err := txbuild.NewProposal(txbuild.ProposalSpec{}, nil); err == nil {
		t.Error("a proposal without chaincode id is an error")
	}
	spec := &peer.ChaincodeSpec{ChaincodeId: &peer.ChaincodeID{Name: "\xff"}}
	if _, err := txbuild.NewProposal(txbuild.ProposalSpec{Spec: spec}, nil); err == nil {
		t.Error("a name that is not UTF-8 is an error")
	}
	p, err := txbuild.NewProposal(txbuild.ProposalSpec{Spec: &peer.ChaincodeSpec{ChaincodeId: &peer.ChaincodeID{Name: "a"}}}, []byte("me"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := txbuild.SignProposal(p.Proposal, failing{}); !errors.Is(err, errNoKey) {
		t.Errorf("got %v", err)
	}
}

var errNoKey = errors.New("no key")

type failing struct{ signer }

func (failing) Sign([]byte) ([]byte, error) { return nil, errNoKey }
