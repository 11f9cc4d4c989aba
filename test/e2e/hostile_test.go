package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/orderer"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/chanconfig"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/testnet"
	"github.com/heddle-ledger/heddle/internal/testpki"
	"github.com/heddle-ledger/heddle/internal/txbuild"
	"github.com/heddle-ledger/heddle/protos/admin"
)

// badInputs sends what no node may accept to every method; each answer is the
// reference's, and afterwards the network works as before.
func (r *running) badInputs(t *testing.T) {
	h := &hostile{running: r, c: r.client(0, "User1")}
	h.stranger = testpki.NewOrg(t, "FooMSP").Client("mallory")
	h.expired = r.expired(t)
	height := r.info(0)
	t.Run("Endorser", h.endorser)
	t.Run("Broadcast", h.broadcast)
	t.Run("Deliver", h.deliver)
	t.Run("Admin", h.admin)
	t.Run("chaincode listener", h.chaincode)
	if after := r.info(0); after != height {
		t.Errorf("the chain has grown: %s, before %s", after, height)
	}
	t.Run("replay", h.replay)
	for _, d := range []*daemon{r.orderer, r.peers[0], r.peers[1]} {
		if d.ended() {
			t.Fatalf("%s has ended", d.name)
		}
		if strings.Contains(d.log.String(), "panic") {
			t.Errorf("%s logged a panic:\n%s", d.name, d.log.tail(30))
		}
	}
	r.invoke(`{"Args":["create","after","the","7"]}`, "--waitForEvent")
}

type hostile struct {
	*running
	c        *client
	stranger *testpki.Identity
	expired  txbuild.Signer
}

// expired makes an identity of Org1 whose certificate has expired.
func (r *running) expired(t *testing.T) txbuild.Signer {
	t.Helper()
	caCert := certificate(t, only(t, r.orgDir(0)+"/ca/*.pem"))
	caKey, err := x509.ParsePKCS8PrivateKey(pemBytes(t, only(t, r.orgDir(0)+"/ca/*_sk")))
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "old", OrganizationalUnit: []string{"client"}},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
	}, caCert, &key.PublicKey, caKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &testpki.Identity{MSPID: "Org1MSP", Cert: cert, Key: key}
}

func only(t *testing.T, pattern string) string {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) != 1 {
		t.Fatalf("%s: %v, %v", pattern, names, err)
	}
	return names[0]
}

func pemBytes(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := pem.Decode(text)
	return b.Bytes
}

func certificate(t *testing.T, name string) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(pemBytes(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// forger signs, but not what it was asked to.
type forger struct{ txbuild.Signer }

func (f forger) Sign(msg []byte) ([]byte, error) { return f.Signer.Sign(append([]byte("x"), msg...)) }

// expect checks an error of gRPC: its code and what its text begins with.
func expect(t *testing.T, name string, err error, code codes.Code, text string) {
	t.Helper()
	s, _ := status.FromError(err)
	if err == nil || s.Code() != code || !strings.HasPrefix(s.Message(), text) {
		t.Errorf("%s: %v, want %s %q", name, err, code, text)
	}
}

func context10(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

var garbage = []byte("garbage \xff\x00")

func (h *hostile) endorser(t *testing.T) {
	ctx, e := context10(t), peer.NewEndorserClient(h.c.Peers[0])
	raw := func(name string, proposal []byte, code codes.Code, text string) {
		t.Helper()
		sig, err := h.c.Signer.Sign(proposal)
		if err != nil {
			t.Fatal(err)
		}
		_, err = e.ProcessProposal(ctx, &peer.SignedProposal{ProposalBytes: proposal, Signature: sig})
		expect(t, name, err, code, text)
	}
	raw("proposal", garbage, codes.Unknown, "failed parsing proposal: ")
	raw("header", protoutil.Marshal(&peer.Proposal{Header: garbage}), codes.Unknown, "failed parsing header: ")
	raw("channel header", protoutil.Marshal(&peer.Proposal{Header: protoutil.Marshal(&common.Header{ChannelHeader: garbage})}),
		codes.Unknown, "error unmarshaling ChannelHeader: ")
	raw("signature header", protoutil.Marshal(&peer.Proposal{Header: protoutil.Marshal(&common.Header{SignatureHeader: garbage})}),
		codes.Unknown, "failed parsing signature header: ")
	raw("empty", nil, codes.Unknown, "invalid header type MESSAGE")

	one := func(name string, c *client, channel, text string) {
		t.Helper()
		_, err := c.Endorse(ctx, c.proposal(channel, "asset", "list"), 0)
		expect(t, name, err, codes.Unknown, text)
	}
	one("unknown channel", h.c, "nosuch", "access denied: channel [nosuch] creator org [Org1MSP]")
	one("unknown MSP", h.c.as(h.stranger), "mychannel", "access denied: channel [mychannel] creator org [FooMSP]")
	one("bad signature", h.c.as(forger{h.c.Signer}), "mychannel", "access denied: channel [mychannel] creator org [Org1MSP]")
	one("expired", h.c.as(h.expired), "mychannel", "identity expired")

	p := h.c.proposal("mychannel", "asset", "list")
	p.Payload = garbage
	rs, err := h.c.Endorse(ctx, p, 0)
	if err != nil || rs[0].Response.Status != 500 || !strings.HasPrefix(rs[0].Response.Message, "error unmarshaling ChaincodeProposalPayload: ") {
		t.Errorf("payload: %v, %v", rs, err)
	}
	p = h.c.proposal("mychannel", "asset", "list")
	p.Payload = nil // no specification
	if rs, err := h.c.Endorse(ctx, p, 0); err != nil || rs[0].Response.Status != 500 {
		t.Errorf("no payload: %v, %v", rs, err)
	}
	raw("too large", make([]byte, 101<<20), codes.ResourceExhausted, "grpc: received message larger than max")
	h.mutations(ctx, t, e)
}

// mutations sends good proposals with some bytes changed; none may be endorsed
// unless only what is not looked at was changed.
func (h *hostile) mutations(ctx context.Context, t *testing.T, e peer.EndorserClient) {
	rnd := mathrand.New(mathrand.NewPCG(1, 2))
	for i := range 300 {
		channel, chaincode := "mychannel", []string{"asset", "lscc", "qscc", "cscc"}[i%4]
		good := protoutil.Marshal(h.c.proposal(channel, chaincode, "getccdata", "mychannel", "asset").Proposal)
		for range 1 + rnd.IntN(4) {
			good[rnd.IntN(len(good))] ^= byte(1 + rnd.IntN(255))
		}
		sig, err := h.c.Signer.Sign(good)
		if err != nil {
			t.Fatal(err)
		}
		_, err = e.ProcessProposal(ctx, &peer.SignedProposal{ProposalBytes: good, Signature: sig})
		if s, _ := status.FromError(err); err != nil && s.Code() != codes.Unknown {
			t.Fatalf("mutation %d: %v\n%x", i, err, good)
		}
	}
}

// normal is an envelope with a message that is not looked into.
func (h *hostile) normal(t *testing.T, s txbuild.Signer, channel string, size int) *common.Envelope {
	t.Helper()
	env, err := txbuild.SignedEnvelope(txbuild.EnvelopeSpec{
		Type: int32(common.HeaderType_ENDORSER_TRANSACTION), ChannelID: channel, Data: make([]byte, size),
	}, s)
	if err != nil {
		t.Fatal(err)
	}
	return env
}

func (h *hostile) broadcast(t *testing.T) {
	ctx := context10(t)
	denied := "implicit policy evaluation failed - 0 sub-policies were satisfied, but this policy requires 1 of the 'Writers' sub-policies to be satisfied: permission denied"
	large := h.normal(t, h.c.Signer, "mychannel", 1<<20)
	signed := func(typ common.HeaderType, channel string, data []byte) *common.Envelope {
		env, err := txbuild.SignedEnvelope(txbuild.EnvelopeSpec{Type: int32(typ), ChannelID: channel, Data: data}, h.c.Signer)
		if err != nil {
			t.Fatal(err)
		}
		return env
	}
	for _, tc := range []struct {
		name   string
		env    *common.Envelope
		status common.Status
		info   string
	}{
		{"empty", &common.Envelope{}, common.Status_BAD_REQUEST, "could not determine channel ID: header not set"},
		{"payload", &common.Envelope{Payload: garbage}, common.Status_BAD_REQUEST, "could not determine channel ID: error unmarshaling Payload: "},
		{"unknown channel", h.normal(t, h.c.Signer, "nosuch", 1), common.Status_NOT_FOUND, "channel does not exist"},
		{"unknown MSP", h.normal(t, h.stranger, "mychannel", 1), common.Status_FORBIDDEN, denied},
		{"bad signature", h.normal(t, forger{h.c.Signer}, "mychannel", 1), common.Status_FORBIDDEN, denied},
		{"expired", h.normal(t, h.expired, "mychannel", 1), common.Status_BAD_REQUEST, "identity expired"},
		{"system channel", h.normal(t, h.c.Signer, "sys", 1), common.Status_FORBIDDEN, denied},
		{"too large", large, common.Status_BAD_REQUEST, fmt.Sprintf("message payload is %d bytes and exceeds maximum allowed 1048576 bytes", len(large.Payload)+len(large.Signature))},
		{"configuration", signed(common.HeaderType_CONFIG, "mychannel", garbage), common.Status_BAD_REQUEST, "message is of type that cannot be processed directly"},
		{"garbage update", signed(common.HeaderType_CONFIG_UPDATE, "mychannel", garbage), common.Status_BAD_REQUEST, "error applying config update to existing channel 'mychannel': "},
		{"garbage creation", signed(common.HeaderType_CONFIG_UPDATE, "other", garbage), common.Status_BAD_REQUEST, "Failing initial channel config creation because of config update envelope unmarshaling error: "},
		{"too few signatures", h.update(ctx, t), common.Status_BAD_REQUEST, "error applying config update to existing channel 'mychannel': error authorizing update: error validating DeltaSet: policy for [Value]  /Channel/Orderer/BatchSize not satisfied: implicit policy evaluation failed - 0 sub-policies were satisfied, but this policy requires 1 of the 'Admins' sub-policies to be satisfied"},
	} {
		got, err := h.c.Broadcast(ctx, tc.env)
		if err != nil || got.Status != tc.status || !strings.HasPrefix(got.Info, tc.info) {
			t.Errorf("%s: %v, %v, want %s %s", tc.name, got, err, tc.status, tc.info)
		}
	}
}

// update changes the block size with the signature of one organisation's admin.
func (h *hostile) update(ctx context.Context, t *testing.T) *common.Envelope {
	t.Helper()
	blocks, err := h.c.Blocks(ctx, 0, "mychannel")
	if err != nil {
		t.Fatal(err)
	}
	i, err := protoutil.LastConfigIndex(blocks[len(blocks)-1])
	if err != nil {
		t.Fatal(err)
	}
	b, err := chanconfig.BundleFromBlock(blocks[i], chanconfig.Options{})
	if err != nil {
		t.Fatal(err)
	}
	changed := proto.CloneOf(b.Config())
	changed.ChannelGroup.Groups["Orderer"].Values["BatchSize"].Value = protoutil.Marshal(&orderer.BatchSize{
		MaxMessageCount: 1, AbsoluteMaxBytes: 1 << 20, PreferredMaxBytes: 1 << 10,
	})
	u, err := chanconfig.ComputeUpdate(b.Config(), changed)
	if err != nil {
		t.Fatal(err)
	}
	u.ChannelId = "mychannel"
	signer := loadSigner(t, h.userDir(0, "Admin")+"/msp", "Org1MSP")
	signed := &common.ConfigUpdateEnvelope{ConfigUpdate: protoutil.Marshal(u)}
	header := protoutil.Marshal(&common.SignatureHeader{Creator: signer.Serialize(), Nonce: []byte("0123456789abcdef01234567")})
	sig, err := signer.Sign(append(append([]byte{}, header...), signed.ConfigUpdate...))
	if err != nil {
		t.Fatal(err)
	}
	signed.Signatures = []*common.ConfigSignature{{SignatureHeader: header, Signature: sig}}
	env, err := txbuild.SignedEnvelope(txbuild.EnvelopeSpec{
		Type: int32(common.HeaderType_CONFIG_UPDATE), ChannelID: "mychannel", Data: protoutil.Marshal(signed),
	}, signer)
	if err != nil {
		t.Fatal(err)
	}
	return env
}

// deliverCall opens one of the three Deliver methods and returns a function
// that sends one request and gives the status that ends the answer.
type deliverCall func(context.Context, *common.Envelope) (common.Status, error)

type statusAnswer interface{ GetStatus() common.Status }

func ask[M any, A statusAnswer](stream grpc.BidiStreamingClient[common.Envelope, M], env *common.Envelope, answer func(*M) A) (common.Status, error) {
	if err := stream.Send(env); err != nil {
		return 0, err
	}
	for {
		m, err := stream.Recv()
		if err != nil {
			return 0, err
		}
		if s := answer(m).GetStatus(); s != common.Status_UNKNOWN {
			return s, nil
		}
	}
}

func (h *hostile) deliver(t *testing.T) {
	calls := map[string]deliverCall{
		"orderer": func(ctx context.Context, env *common.Envelope) (common.Status, error) {
			s, err := orderer.NewAtomicBroadcastClient(h.c.Orderer).Deliver(ctx)
			if err != nil {
				return 0, err
			}
			return ask(s, env, func(m *orderer.DeliverResponse) *orderer.DeliverResponse { return m })
		},
		"peer": func(ctx context.Context, env *common.Envelope) (common.Status, error) {
			s, err := peer.NewDeliverClient(h.c.Peers[0]).Deliver(ctx)
			if err != nil {
				return 0, err
			}
			return ask(s, env, func(m *peer.DeliverResponse) *peer.DeliverResponse { return m })
		},
		"filtered": func(ctx context.Context, env *common.Envelope) (common.Status, error) {
			s, err := peer.NewDeliverClient(h.c.Peers[0]).DeliverFiltered(ctx)
			if err != nil {
				return 0, err
			}
			return ask(s, env, func(m *peer.DeliverResponse) *peer.DeliverResponse { return m })
		},
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) { h.deliverCases(t, call) })
	}
}

func (h *hostile) deliverCases(t *testing.T, call deliverCall) {
	first := protoutil.Marshal(&orderer.SeekInfo{Start: testnet.From(0), Stop: testnet.From(0)})
	request := func(s txbuild.Signer, channel string, data []byte, at time.Time) *common.Envelope {
		env, err := txbuild.SignedEnvelope(txbuild.EnvelopeSpec{
			Type: int32(common.HeaderType_DELIVER_SEEK_INFO), ChannelID: channel, Data: data, Timestamp: at,
		}, s)
		if err != nil {
			t.Fatal(err)
		}
		return env
	}
	me, now := h.c.Signer, time.Now()
	for _, tc := range []struct {
		name string
		env  *common.Envelope
		want common.Status
	}{
		{"good", request(me, "mychannel", first, now), common.Status_SUCCESS},
		{"empty", &common.Envelope{}, common.Status_BAD_REQUEST},
		{"payload", &common.Envelope{Payload: garbage}, common.Status_BAD_REQUEST},
		{"seek info", request(me, "mychannel", garbage, now), common.Status_BAD_REQUEST},
		{"start after stop", request(me, "mychannel", protoutil.Marshal(&orderer.SeekInfo{Start: testnet.From(2), Stop: testnet.From(1)}), now), common.Status_BAD_REQUEST},
		{"no start", request(me, "mychannel", protoutil.Marshal(&orderer.SeekInfo{Stop: testnet.From(1)}), now), common.Status_BAD_REQUEST},
		{"old", request(me, "mychannel", first, now.Add(-16*time.Minute)), common.Status_BAD_REQUEST},
		{"early", request(me, "mychannel", first, now.Add(16*time.Minute)), common.Status_BAD_REQUEST},
		{"unknown channel", request(me, "nosuch", first, now), common.Status_NOT_FOUND},
		{"unknown MSP", request(h.stranger, "mychannel", first, now), common.Status_FORBIDDEN},
		{"bad signature", request(forger{me}, "mychannel", first, now), common.Status_FORBIDDEN},
		{"expired", request(h.expired, "mychannel", first, now), common.Status_FORBIDDEN},
	} {
		got, err := call(context10(t), tc.env)
		if err != nil || got != tc.want {
			t.Errorf("%s: %s, %v, want %s", tc.name, got, err, tc.want)
		}
	}
}

func (h *hostile) admin(t *testing.T) {
	a := admin.NewAdminClient(h.c.Peers[0])
	call := func(name string, env *common.Envelope, code codes.Code, text string) {
		t.Helper()
		_, err := a.GetStatus(context10(t), env)
		expect(t, name, err, code, text)
	}
	request := func(s txbuild.Signer, typ int32, at time.Time) *common.Envelope {
		env, err := txbuild.SignedEnvelope(txbuild.EnvelopeSpec{Type: typ, Data: protoutil.Marshal(&admin.AdminOperation{}), Timestamp: at}, s)
		if err != nil {
			t.Fatal(err)
		}
		return env
	}
	boss := loadSigner(t, h.userDir(0, "Admin")+"/msp", "Org1MSP")
	const operation = 8
	if _, err := a.GetStatus(context10(t), request(boss, operation, time.Time{})); err != nil {
		t.Errorf("good: %v", err)
	}
	call("empty", &common.Envelope{}, codes.Unknown, "bad request: ")
	call("payload", &common.Envelope{Payload: garbage}, codes.Unknown, "bad request: ")
	call("type", request(boss, 3, time.Time{}), codes.Unknown, "bad request: ")
	call("old", request(boss, operation, time.Now().Add(-16*time.Minute)), codes.Unknown, "access denied")
	call("no admin", request(h.c.Signer, operation, time.Time{}), codes.Unknown, "access denied")
	call("unknown MSP", request(h.stranger, operation, time.Time{}), codes.Unknown, "access denied")
	call("bad signature", request(forger{boss}, operation, time.Time{}), codes.Unknown, "access denied")
}

// chaincode shows that the chaincode listener wants certificates that the peer
// has made itself.
func (h *hostile) chaincode(t *testing.T) {
	conn := h.dial(address(h.chain[0]), h.peerDir(0)+"/tls/ca.crt")
	stream, err := peer.NewChaincodeSupportClient(conn).Register(context10(t))
	if err == nil {
		_, err = stream.Recv()
	}
	expect(t, "register", err, codes.Unavailable, "")
}

// replay orders a committed transaction again: it is not valid twice.
func (h *hostile) replay(t *testing.T) {
	ctx := context10(t)
	p := h.c.proposal("mychannel", "asset", "create", "once", "x", "1")
	rs, err := h.c.Endorse(ctx, p, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	env, err := txbuild.Transaction(p.Proposal, h.c.Signer, rs...)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if r, err := h.c.Broadcast(ctx, env); err != nil || r.Status != common.Status_SUCCESS {
			t.Fatalf("%v, %v", r, err)
		}
	}
	eventually(t, "both blocks", func() bool {
		codes, err := h.codes(ctx, p.TxID)
		return err == nil && len(codes) == 2 && codes[0] == peer.TxValidationCode_VALID && codes[1] == peer.TxValidationCode_DUPLICATE_TXID
	})
	_, err = h.c.Endorse(ctx, p, 0)
	expect(t, "duplicate", err, codes.Unknown, fmt.Sprintf("duplicate transaction found [%s]. Creator [%x]", p.TxID, h.c.Signer.Serialize()))
}

// codes are the verdicts on all appearances of a transaction.
func (h *hostile) codes(ctx context.Context, txID string) ([]peer.TxValidationCode, error) {
	blocks, err := h.c.Blocks(ctx, 0, "mychannel")
	if err != nil {
		return nil, err
	}
	var out []peer.TxValidationCode
	for _, b := range blocks {
		view := protoutil.ParseBlock(b)
		if len(view.Flags()) != view.Len() {
			return nil, errors.New("no verdicts")
		}
		for i, code := range view.Flags() {
			if view.Tx(i).ID() == txID {
				out = append(out, peer.TxValidationCode(code))
			}
		}
	}
	return out, nil
}
