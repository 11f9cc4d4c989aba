package admin_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	mspproto "github.com/hyperledger/fabric-protos-go-apiv2/msp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/txbuild"
	"github.com/heddle-ledger/heddle/msp"
	"github.com/heddle-ledger/heddle/peer/admin"
	pb "github.com/heddle-ledger/heddle/protos/admin"
)

// person signs by naming itself: "admin" is one.
type person string

func (p person) Serialize() []byte {
	return protoutil.Marshal(&mspproto.SerializedIdentity{Mspid: "Org1MSP", IdBytes: []byte(p)})
}
func (p person) Sign(msg []byte) ([]byte, error) { return append([]byte(p), msg...), nil }

type localMSP struct{}

func (localMSP) IsWellFormed([]byte) error { return nil }

func (localMSP) DeserializeIdentity(b []byte) (msp.Identity, error) {
	sid := &mspproto.SerializedIdentity{}
	if err := proto.Unmarshal(b, sid); err != nil {
		return nil, err
	}
	return identity{name: string(sid.IdBytes), raw: b}, nil
}

type identity struct {
	name string
	raw  []byte
}

func (i identity) Identifier() msp.Identifier { return msp.Identifier{MSPID: "Org1MSP", ID: i.name} }
func (i identity) MSPID() string              { return "Org1MSP" }
func (i identity) Serialize() []byte          { return i.raw }
func (i identity) Validate() error            { return nil }
func (i identity) ExpiresAt() time.Time       { return time.Time{} }

func (i identity) Verify(msg, sig []byte) error {
	if !bytes.Equal(sig, append([]byte(i.name), msg...)) {
		return errors.New("bad signature")
	}
	return nil
}

func (i identity) SatisfiesPrincipal(p *mspproto.MSPPrincipal) error {
	role := &mspproto.MSPRole{}
	if err := proto.Unmarshal(p.Principal, role); err != nil {
		return err
	}
	if role.Role == mspproto.MSPRole_ADMIN && i.name != "admin" {
		return errors.New("This identity is not an admin")
	}
	return nil
}

func newServer(t *testing.T) (*admin.Server, *flog.Logging) {
	t.Helper()
	logs, err := flog.New(io.Discard, "", "info")
	if err != nil {
		t.Fatal(err)
	}
	s, err := admin.New(admin.Config{Local: localMSP{}, LocalMSPID: "Org1MSP", Logs: logs})
	if err != nil {
		t.Fatal(err)
	}
	return s, logs
}

func request(t *testing.T, op *pb.AdminOperation) *common.Envelope {
	t.Helper()
	env, err := txbuild.SignedEnvelope(txbuild.EnvelopeSpec{Type: admin.HeaderType, Data: protoutil.Marshal(op)}, person("admin"))
	if err != nil {
		t.Fatal(err)
	}
	return env
}

func level(module, lvl string) *pb.AdminOperation {
	return &pb.AdminOperation{Content: &pb.AdminOperation_LogReq{LogReq: &pb.LogLevelRequest{LogModule: module, LogLevel: lvl}}}
}

func spec(s string) *pb.AdminOperation {
	return &pb.AdminOperation{Content: &pb.AdminOperation_LogSpecReq{LogSpecReq: &pb.LogSpecRequest{LogSpec: s}}}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	s, _ := newServer(t)
	for _, call := range []func(context.Context, *common.Envelope) (*pb.ServerStatus, error){s.GetStatus, s.StartServer} {
		got, err := call(context.Background(), request(t, &pb.AdminOperation{}))
		if err != nil || got.Status != pb.ServerStatus_STARTED {
			t.Errorf("got %v, %v", got, err)
		}
	}
}

// The sequence of calls in the recorded transcript of `peer logging`.
func TestLogLevels(t *testing.T) {
	t.Parallel()
	s, logs := newServer(t)
	ctx := context.Background()
	if got, err := s.GetLogSpec(ctx, request(t, nil)); err != nil || got.LogSpec != "info" {
		t.Fatalf("got %v, %v", got, err)
	}
	if got, err := s.GetModuleLogLevel(ctx, request(t, level("gossip", ""))); err != nil || got.LogModule != "gossip" || got.LogLevel != "INFO" {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := s.SetModuleLogLevel(ctx, request(t, level("gossip", "debug"))); err != nil || got.LogLevel != "DEBUG" {
		t.Errorf("got %v, %v", got, err)
	}
	if got := logs.Spec(); got != "gossip=debug:info" {
		t.Errorf("spec %q", got)
	}
	_, err := s.SetModuleLogLevel(ctx, request(t, level("gossip", "bogus")))
	if want := "error setting log spec to 'gossip=debug:info:gossip=bogus': invalid logging specification 'gossip=debug:info:gossip=bogus': bad segment 'gossip=bogus'"; status.Code(err) != codes.InvalidArgument || status.Convert(err).Message() != want {
		t.Errorf("got %v", err)
	}
	if got, err := s.SetLogSpec(ctx, request(t, spec("info:msp=warn"))); err != nil || got.LogSpec != "info:msp=warn" || got.Error != "" {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := s.SetLogSpec(ctx, request(t, spec("foo=bar:info"))); err != nil || got.Error != "invalid logging specification 'foo=bar:info': bad segment 'foo=bar'" {
		t.Errorf("got %v, %v", got, err)
	}
	if got := logs.Spec(); got != "msp=warn:info" {
		t.Errorf("spec %q", got)
	}
	if _, err := s.RevertLogLevels(ctx, request(t, nil)); err != nil || logs.Spec() != "info" {
		t.Errorf("spec %q, %v", logs.Spec(), err)
	}
}

func TestRequestsWithoutTheirPart(t *testing.T) {
	t.Parallel()
	s, _ := newServer(t)
	ctx := context.Background()
	_, err1 := s.GetModuleLogLevel(ctx, request(t, spec("info")))
	_, err2 := s.SetModuleLogLevel(ctx, request(t, nil))
	_, err3 := s.SetLogSpec(ctx, request(t, level("a", "info")))
	for _, err := range []error{err1, err2, err3} {
		if err == nil || err.Error() != "request is nil" {
			t.Errorf("got %v", err)
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	s, _ := newServer(t)
	signed := func(spec txbuild.EnvelopeSpec, p person) *common.Envelope {
		env, err := txbuild.SignedEnvelope(spec, p)
		if err != nil {
			t.Fatal(err)
		}
		return env
	}
	withHeader := func(h *common.Header) *common.Envelope {
		return &common.Envelope{Payload: protoutil.Marshal(&common.Payload{Header: h})}
	}
	ok := txbuild.EnvelopeSpec{Type: admin.HeaderType}
	late, early := ok, ok
	late.Timestamp, early.Timestamp = time.Now().Add(-16*time.Minute), time.Now().Add(16*time.Minute)
	forged := signed(ok, "admin")
	forged.Signature = []byte("x")
	for _, tc := range []struct {
		name string
		env  *common.Envelope
		want string
	}{
		{"nil", nil, "nil envelope"},
		{"empty", &common.Envelope{}, "bad request: envelope must have a Header"},
		{"type", signed(txbuild.EnvelopeSpec{Type: 1}, "admin"), "bad request: invalid type CONFIG, expected PEER_ADMIN_OPERATION"},
		{"no timestamp", withHeader(&common.Header{ChannelHeader: protoutil.Marshal(&common.ChannelHeader{Type: 8})}), "empty timestamp"},
		{"late", signed(late, "admin"), "access denied"},
		{"early", signed(early, "admin"), "access denied"},
		{"not an admin", signed(ok, "user"), "access denied"},
		{"forged", forged, "access denied"},
	} {
		if _, err := s.GetStatus(context.Background(), tc.env); err == nil || err.Error() != tc.want {
			t.Errorf("%s: got %v, want %s", tc.name, err, tc.want)
		}
	}
	for name, env := range map[string]*common.Envelope{
		"payload": {Payload: []byte{0xff}},
		"header":  withHeader(&common.Header{ChannelHeader: []byte{0xff}}),
		"data":    signed(txbuild.EnvelopeSpec{Type: 8, Data: []byte{0xff}}, "admin"),
	} {
		if _, err := s.GetStatus(context.Background(), env); err == nil || err.Error()[:13] != "bad request: " {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func FuzzRequest(f *testing.F) {
	f.Add([]byte{}, []byte{})
	f.Add([]byte{0x0a, 0}, []byte("x"))
	logs, err := flog.New(io.Discard, "", "info")
	if err != nil {
		f.Fatal(err)
	}
	s, err := admin.New(admin.Config{Local: localMSP{}, LocalMSPID: "Org1MSP", Logs: logs})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, payload, sig []byte) {
		_, _ = s.SetLogSpec(context.Background(), &common.Envelope{Payload: payload, Signature: sig})
	})
}
