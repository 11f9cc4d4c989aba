package proposal_test

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	mspproto "github.com/hyperledger/fabric-protos-go-apiv2/msp"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/txbuild"
	"github.com/heddle-ledger/heddle/msp"
	"github.com/heddle-ledger/heddle/peer/proposal"
)

// orgs believes every well-formed certificate of the MSPs it knows.
type orgs []string

func (o orgs) DeserializeIdentity(b []byte) (msp.Identity, error) {
	sid := &mspproto.SerializedIdentity{}
	if err := proto.Unmarshal(b, sid); err != nil {
		return nil, err
	}
	for _, known := range o {
		if known == sid.Mspid {
			block, _ := pem.Decode(sid.IdBytes)
			if block == nil {
				return nil, errors.New("no PEM")
			}
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, err
			}
			return identity{raw: b, mspID: sid.Mspid, cert: cert}, nil
		}
	}
	return nil, fmt.Errorf("MSP %s is unknown", sid.Mspid)
}

func (orgs) IsWellFormed([]byte) error { return nil }

type identity struct {
	raw   []byte
	mspID string
	cert  *x509.Certificate
}

func (i identity) Identifier() msp.Identifier                        { return msp.Identifier{MSPID: i.mspID} }
func (i identity) MSPID() string                                     { return i.mspID }
func (i identity) Serialize() []byte                                 { return i.raw }
func (i identity) Validate() error                                   { return nil }
func (i identity) SatisfiesPrincipal(p *mspproto.MSPPrincipal) error { return nil }
func (i identity) ExpiresAt() time.Time                              { return i.cert.NotAfter }

func (i identity) Verify(msg, sig []byte) error {
	key, ok := i.cert.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return errors.New("not an ECDSA key")
	}
	digest := sha256.Sum256(msg)
	if !ecdsa.VerifyASN1(key, digest[:], sig) {
		return errors.New("bad signature")
	}
	var rs struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(sig, &rs); err != nil {
		return err
	}
	if half := new(big.Int).Rsh(key.Params().N, 1); rs.S.Cmp(half) > 0 {
		return errors.New("S is not low")
	}
	return nil
}

func load(t testing.TB, file string, into any) {
	t.Helper()
	raw, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		t.Fatal(err)
	}
}

func signed(t testing.TB, raw []byte) *peer.SignedProposal {
	t.Helper()
	sp := &peer.SignedProposal{}
	if err := proto.Unmarshal(raw, sp); err != nil {
		t.Fatal(err)
	}
	return sp
}

func channels(id string) (msp.Deserializer, bool) {
	return orgs{"Org1MSP", "Org2MSP"}, id == "standalone" || id == ""
}

type checkCase struct {
	Name   string
	Signed []byte `json:"signed_proposal_b64"`
	Result string
}

func TestChecksMatchReference(t *testing.T) {
	t.Parallel()
	var cases []checkCase
	load(t, "proposal_checks.json", &cases)
	for _, tc := range cases {
		t.Run(tc.Name, func(t *testing.T) {
			t.Parallel()
			got := "OK"
			if err := proposal.Parse(signed(t, tc.Signed)).Check(channels); err != nil {
				got = err.Error()
			}
			want, exact := strings.CutSuffix(tc.Result, "unexpected EOF") // causes of the protobuf library are its own
			if exact && !strings.HasPrefix(got, want) || !exact && got != want {
				t.Errorf("got  %q\nwant %q", got, tc.Result)
			}
		})
	}
}

func TestAccessDeniedKeepsTheReason(t *testing.T) {
	t.Parallel()
	var cases []checkCase
	load(t, "proposal_checks.json", &cases)
	for _, tc := range cases {
		if tc.Name != "bad signature" {
			continue
		}
		var denied *proposal.AccessDenied
		err := proposal.Parse(signed(t, tc.Signed)).Check(channels)
		if !errors.As(err, &denied) {
			t.Fatalf("got %v", err)
		}
		if denied.MSPID != "Org1MSP" || denied.Reason == nil {
			t.Errorf("got %+v", denied)
		}
	}
}

type flow struct {
	Event       []byte `json:"chaincode_event_b64"`
	Binding     string `json:"proposal_binding_hex"`
	Hash        string `json:"proposal_hash_hex"`
	Response1   []byte `json:"proposal_response1_b64"`
	Failure     []byte `json:"proposal_response_failure_500_b64"`
	Signed      []byte `json:"signed_proposal_b64"`
	Results     []byte `json:"simulation_results_b64"`
	TxID        string
	Transaction []byte `json:"transaction_envelope_b64"`
}

func loadFlow(t testing.TB) (flow, *proposal.View) {
	t.Helper()
	var f flow
	load(t, "proposal_flow.json", &f)
	return f, proposal.Parse(signed(t, f.Signed))
}

func TestDerivedValues(t *testing.T) {
	t.Parallel()
	f, v := loadFlow(t)
	hash, err := v.Hash()
	if err != nil || hex.EncodeToString(hash) != f.Hash {
		t.Errorf("hash %x, %v; want %s", hash, err, f.Hash)
	}
	binding, err := v.Binding()
	if err != nil || hex.EncodeToString(binding) != f.Binding {
		t.Errorf("binding %x, %v; want %s", binding, err, f.Binding)
	}
	if v.TxID() != f.TxID || v.ChannelID() != "standalone" || v.ChaincodeID().GetName() != "bothcc" {
		t.Errorf("got %s %s %v", v.TxID(), v.ChannelID(), v.ChaincodeID())
	}
	in, err := v.Input()
	if err != nil || len(in.Args) == 0 {
		t.Errorf("input %v, %v", in, err)
	}
}

func TestResponsePayloadMatchesReference(t *testing.T) {
	t.Parallel()
	f, v := loadFlow(t)
	hash, err := v.Hash()
	if err != nil {
		t.Fatal(err)
	}
	event := &peer.ChaincodeEvent{}
	if err := proto.Unmarshal(f.Event, event); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name    string
		want    []byte
		outcome proposal.Outcome
	}{
		{"endorsed", f.Response1, proposal.Outcome{
			Event: event, ChaincodeID: proposal.WithVersion(v.ChaincodeID(), "1"),
		}},
		{"failed", f.Failure, proposal.Outcome{ChaincodeID: v.ChaincodeID()}},
	} {
		want := &peer.ProposalResponse{}
		if err := proto.Unmarshal(tc.want, want); err != nil {
			t.Fatal(err)
		}
		o := tc.outcome
		o.ProposalHash, o.Results, o.Response = hash, f.Results, want.Response
		if tc.name == "endorsed" {
			o.ChaincodeID = proposal.WithVersion(v.ChaincodeID(), versionIn(t, want))
		}
		got, err := o.Payload()
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want.Payload) {
			t.Errorf("%s:\ngot  %x\nwant %x", tc.name, got, want.Payload)
		}
	}
}

func versionIn(t *testing.T, r *peer.ProposalResponse) string {
	t.Helper()
	prp, action := &peer.ProposalResponsePayload{}, &peer.ChaincodeAction{}
	if err := proto.Unmarshal(r.Payload, prp); err != nil {
		t.Fatal(err)
	}
	if err := proto.Unmarshal(prp.Extension, action); err != nil {
		t.Fatal(err)
	}
	return action.ChaincodeId.Version
}

func TestInvocationWithoutPartsIsAnError(t *testing.T) {
	t.Parallel()
	view := func(cis *peer.ChaincodeInvocationSpec) *proposal.View {
		in, _ := proto.Marshal(cis)
		raw, _ := proto.Marshal(&peer.Proposal{Payload: txbuild.EncodePayload(in)})
		return proposal.Parse(&peer.SignedProposal{ProposalBytes: raw})
	}
	if _, err := view(&peer.ChaincodeInvocationSpec{}).Input(); !errors.Is(err, proposal.ErrNoSpec) {
		t.Errorf("got %v", err)
	}
	if _, err := view(&peer.ChaincodeInvocationSpec{ChaincodeSpec: &peer.ChaincodeSpec{}}).Input(); !errors.Is(err, proposal.ErrNoInput) {
		t.Errorf("got %v", err)
	}
	if _, err := proposal.Parse(nil).Input(); !errors.Is(err, proposal.ErrNoSpec) {
		t.Errorf("got %v", err)
	}
}

func FuzzCheck(f *testing.F) {
	var cases []checkCase
	load(f, "proposal_checks.json", &cases)
	for _, tc := range cases {
		sp := signed(f, tc.Signed)
		f.Add(sp.ProposalBytes, sp.Signature)
	}
	f.Fuzz(func(t *testing.T, raw, sig []byte) {
		v := proposal.Parse(&peer.SignedProposal{ProposalBytes: raw, Signature: sig})
		if v.Check(channels) == nil && v.ChaincodeID() == nil {
			t.Error("a checked proposal has a chaincode id")
		}
		_, _ = v.Input()
		_, _ = v.Hash()
		_, _ = v.Binding()
	})
}

func BenchmarkCheckWithoutCrypto(b *testing.B) {
	var fl flow
	load(b, "proposal_flow.json", &fl)
	sp := signed(b, fl.Signed)
	believe := func(string) (msp.Deserializer, bool) { return believing{}, true }
	b.ReportAllocs()
	for b.Loop() {
		v := proposal.Parse(sp)
		if err := v.Check(believe); err != nil {
			b.Fatal(err)
		}
		if _, err := v.Input(); err != nil {
			b.Fatal(err)
		}
		if _, err := v.Hash(); err != nil {
			b.Fatal(err)
		}
	}
}

type believing struct{ orgs }

func (believing) DeserializeIdentity(b []byte) (msp.Identity, error) { return trusted{}, nil }

type trusted struct{ identity }

func (trusted) Verify(msg, sig []byte) error { return nil }
