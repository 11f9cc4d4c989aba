package events_test

import (
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	mspproto "github.com/hyperledger/fabric-protos-go-apiv2/msp"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/rpc"
	"github.com/heddle-ledger/heddle/peer/events"
)

// recorded is one request to a 1.4 peer with its answers.
type recorded struct {
	Name      string
	Method    string
	Envelope  string `json:"envelope_hex"`
	Responses []struct {
		Type     string
		Response string `json:"deliver_response_hex"`
	}
	StreamEnd string `json:"stream_end"`
}

func loadCases(t testing.TB) []recorded {
	t.Helper()
	f, err := os.Open("testdata/deliver.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var v struct{ Cases []recorded }
	if err := json.NewDecoder(z).Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v.Cases
}

func unhex[M proto.Message](t testing.TB, text string, m M) M {
	t.Helper()
	raw, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := proto.Unmarshal(raw, m); err != nil {
		t.Fatal(err)
	}
	return m
}

// chainOf is the recorded chain.
func chainOf(t testing.TB, cases []recorded) *memoryLedger {
	t.Helper()
	l := &memoryLedger{}
	for _, c := range cases {
		if c.Name != "full: all blocks" {
			continue
		}
		for _, r := range c.Responses {
			if b := unhex(t, r.Response, &peer.DeliverResponse{}).GetBlock(); b != nil {
				raw, err := proto.Marshal(b)
				if err != nil {
					t.Fatal(err)
				}
				l.append(raw)
			}
		}
	}
	return l
}

// memoryLedger is a chain in memory.
type memoryLedger struct {
	mu     sync.Mutex // guards all below
	blocks [][]byte
	grown  chan struct{}
	reads  int
}

func (l *memoryLedger) append(raw []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.blocks = append(l.blocks, raw)
	if l.grown != nil {
		close(l.grown)
		l.grown = nil
	}
}

func (l *memoryLedger) Height() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return uint64(len(l.blocks))
}

func (l *memoryLedger) WaitHeight(ctx context.Context, h uint64) error {
	for {
		l.mu.Lock()
		if uint64(len(l.blocks)) >= h {
			l.mu.Unlock()
			return nil
		}
		if l.grown == nil {
			l.grown = make(chan struct{})
		}
		grown := l.grown
		l.mu.Unlock()
		select {
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (l *memoryLedger) RawBlock(n uint64) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n >= uint64(len(l.blocks)) {
		return nil, errors.New("no such block")
	}
	l.reads++
	return l.blocks[n], nil
}

// signatures lets everybody in whose signature is good.
type signatures struct{}

func (signatures) CheckEnvelope(resource, channelID string, env *common.Envelope) error {
	payload, sh, sid := &common.Payload{}, &common.SignatureHeader{}, &mspproto.SerializedIdentity{}
	if err := proto.Unmarshal(env.Payload, payload); err != nil {
		return err
	}
	if err := proto.Unmarshal(payload.Header.SignatureHeader, sh); err != nil {
		return err
	}
	if err := proto.Unmarshal(sh.Creator, sid); err != nil {
		return err
	}
	block, _ := pem.Decode(sid.IdBytes)
	if block == nil {
		return errors.New("no certificate")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return err
	}
	digest := sha256.Sum256(env.Payload)
	if key, ok := cert.PublicKey.(*ecdsa.PublicKey); !ok || !ecdsa.VerifyASN1(key, digest[:], env.Signature) {
		return fmt.Errorf("bad signature for %s on %s", resource, channelID)
	}
	return nil
}

// stream is a client's stream: one request, then it stays open.
type stream struct {
	grpc.ServerStream
	ctx      context.Context
	requests chan *common.Envelope
	got      []*peer.DeliverResponse
}

func (s *stream) Context() context.Context { return s.ctx }

func (s *stream) Recv() (*common.Envelope, error) {
	select {
	case env, ok := <-s.requests:
		if !ok {
			return nil, io.EOF
		}
		return env, nil
	case <-s.ctx.Done():
		return nil, s.ctx.Err()
	}
}

func (s *stream) Send(r *peer.DeliverResponse) error { return s.SendMsg(r) }

// SendMsg decodes what would arrive at the client.
func (s *stream) SendMsg(m any) error {
	raw, ok := m.(rpc.Encoded)
	if !ok {
		var err error
		if raw, err = proto.Marshal(m.(proto.Message)); err != nil {
			return err
		}
	}
	got := &peer.DeliverResponse{}
	if err := proto.Unmarshal(raw, got); err != nil {
		return err
	}
	s.got = append(s.got, got)
	return nil
}

func newServer(l events.Ledger) *events.Server {
	return events.New(events.Config{
		Channel: func(id string) (events.Channel, bool) {
			return events.Channel{Ledger: l, Sequence: func() uint64 { return 1 }}, id == "mychannel"
		},
		Access: signatures{},
	})
}

func serve(s *events.Server, method string, st *stream) error {
	if method == "Deliver" {
		return s.Deliver(st)
	}
	return s.DeliverFiltered(st)
}

func TestAnswersMatchReference(t *testing.T) {
	t.Parallel()
	cases := loadCases(t)
	for _, tc := range cases {
		t.Run(tc.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(time.Until(time.Date(2026, 11, 20, 20, 40, 36, 0, time.UTC)))
				ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
				defer cancel()
				st := &stream{ctx: ctx, requests: make(chan *common.Envelope, 1)}
				st.requests <- unhex(t, tc.Envelope, &common.Envelope{})
				if !strings.HasPrefix(tc.StreamEnd, "Deadline") {
					close(st.requests)
				}
				err := serve(newServer(chainOf(t, cases)), tc.Method, st)
				if strings.HasPrefix(tc.StreamEnd, "Deadline") != (err != nil) {
					t.Errorf("stream ended with %v, recorded %s", err, tc.StreamEnd)
				}
				if len(st.got) != len(tc.Responses) {
					t.Fatalf("got %d responses, want %d: %v", len(st.got), len(tc.Responses), st.got)
				}
				for i, r := range tc.Responses {
					if diff := cmp.Diff(unhex(t, r.Response, &peer.DeliverResponse{}), st.got[i], protocmp.Transform()); diff != "" {
						t.Errorf("response %d (%s): %s", i, r.Type, diff)
					}
				}
			})
		})
	}
}

func request(t testing.TB, cases []recorded, name string) *common.Envelope {
	t.Helper()
	for _, c := range cases {
		if c.Name == name {
			return unhex(t, c.Envelope, &common.Envelope{})
		}
	}
	t.Fatalf("no case %q", name)
	return nil
}

func TestReadersShareBlocksAndWaitForNewOnes(t *testing.T) {
	t.Parallel()
	cases := loadCases(t)
	whole := chainOf(t, cases)
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Date(2026, 11, 20, 20, 40, 36, 0, time.UTC)))
		l := &memoryLedger{blocks: whole.blocks[:7:7]}
		srv := newServer(l)
		ctx, cancel := context.WithCancel(context.Background())
		streams := make([]*stream, 3)
		var wg sync.WaitGroup
		for i := range streams {
			st := &stream{ctx: ctx, requests: make(chan *common.Envelope, 1)}
			st.requests <- request(t, cases, "block until ready past the tip, client deadline")
			streams[i] = st
			wg.Go(func() { _ = serve(srv, "DeliverFiltered", st) })
		}
		synctest.Wait()
		block := &common.Block{}
		if err := proto.Unmarshal(whole.blocks[7], block); err != nil {
			t.Fatal(err)
		}
		srv.Committed("mychannel", protoutil.ParseBlock(block))
		l.append(whole.blocks[7])
		synctest.Wait()
		cancel()
		wg.Wait()
		for i, st := range streams {
			if len(st.got) != 2 || st.got[0].GetFilteredBlock().GetNumber() != 6 || st.got[1].GetFilteredBlock().GetNumber() != 7 {
				t.Errorf("stream %d got %v", i, st.got)
			}
		}
		if l.reads > 3 {
			t.Errorf("%d reads: block 7 was handed over, block 6 is to be shared", l.reads)
		}
	})
}

func envelope(t testing.TB, typ common.HeaderType, txID string, data []byte) []byte {
	t.Helper()
	ch := protoutil.Marshal(&common.ChannelHeader{Type: int32(typ), ChannelId: "c", TxId: txID})
	payload := protoutil.Marshal(&common.Payload{Header: &common.Header{ChannelHeader: ch}, Data: data})
	return protoutil.Marshal(&common.Envelope{Payload: payload})
}

func action(event *peer.ChaincodeEvent) *peer.TransactionAction {
	ca := &peer.ChaincodeAction{}
	if event != nil {
		ca.Events = protoutil.Marshal(event)
	}
	prp := protoutil.Marshal(&peer.ProposalResponsePayload{Extension: protoutil.Marshal(ca)})
	return &peer.TransactionAction{Payload: protoutil.Marshal(&peer.ChaincodeActionPayload{
		Action: &peer.ChaincodeEndorsedAction{ProposalResponsePayload: prp},
	})}
}

func TestFilterOddTransactions(t *testing.T) {
	t.Parallel()
	event := func(name string) *peer.ChaincodeEvent {
		return &peer.ChaincodeEvent{ChaincodeId: "cc", TxId: "t", EventName: name, Payload: []byte("secret")}
	}
	two := protoutil.Marshal(&peer.Transaction{Actions: []*peer.TransactionAction{
		action(event("a")), action(nil), {Payload: nil}, action(event("b")),
	}})
	noAction := protoutil.Marshal(&peer.Transaction{Actions: []*peer.TransactionAction{{}}})
	block := &common.Block{
		Header: &common.BlockHeader{Number: 4},
		Data: &common.BlockData{Data: [][]byte{
			{0xff}, // no envelope
			{},     // no header
			envelope(t, common.HeaderType_ENDORSER_TRANSACTION, "t1", two),
			envelope(t, common.HeaderType_ENDORSER_TRANSACTION, "t2", noAction),
			envelope(t, common.HeaderType_MESSAGE, "t3", nil),
		}},
		Metadata: &common.BlockMetadata{Metadata: [][]byte{{}, {}, {1, 2, 3, 4}}},
	}
	got, err := events.Filter(protoutil.ParseBlock(block))
	if err != nil {
		t.Fatal(err)
	}
	seen := func(name string) *peer.FilteredChaincodeAction {
		return &peer.FilteredChaincodeAction{ChaincodeEvent: &peer.ChaincodeEvent{ChaincodeId: "cc", TxId: "t", EventName: name}}
	}
	actions := func(a ...*peer.FilteredChaincodeAction) *peer.FilteredTransaction_TransactionActions {
		return &peer.FilteredTransaction_TransactionActions{TransactionActions: &peer.FilteredTransactionActions{ChaincodeActions: a}}
	}
	want := &peer.FilteredBlock{ChannelId: "c", Number: 4, FilteredTransactions: []*peer.FilteredTransaction{
		{Txid: "t1", Type: 3, TxValidationCode: 3, Data: actions(seen("a"), seen("b"))},
		{Txid: "t2", Type: 3, TxValidationCode: 4, Data: actions()},
		{Txid: "t3", TxValidationCode: peer.TxValidationCode_NOT_VALIDATED},
	}}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

func TestFilterRefusesWhatDoesNotDecode(t *testing.T) {
	t.Parallel()
	garbage := []byte{0xff}
	bad := func(p []byte) []byte {
		return protoutil.Marshal(&peer.Transaction{Actions: []*peer.TransactionAction{{Payload: p}}})
	}
	prp := func(b []byte) []byte {
		return protoutil.Marshal(&peer.ChaincodeActionPayload{Action: &peer.ChaincodeEndorsedAction{ProposalResponsePayload: b}})
	}
	ext := func(b []byte) []byte { return protoutil.Marshal(&peer.ProposalResponsePayload{Extension: b}) }
	for name, env := range map[string][]byte{
		"payload":        protoutil.Marshal(&common.Envelope{Payload: garbage}),
		"channel header": protoutil.Marshal(&common.Envelope{Payload: protoutil.Marshal(&common.Payload{Header: &common.Header{ChannelHeader: garbage}})}),
		"transaction":    envelope(t, common.HeaderType_ENDORSER_TRANSACTION, "t", garbage),
		"action payload": envelope(t, common.HeaderType_ENDORSER_TRANSACTION, "t", bad(garbage)),
		"prp":            envelope(t, common.HeaderType_ENDORSER_TRANSACTION, "t", bad(prp(garbage))),
		"action":         envelope(t, common.HeaderType_ENDORSER_TRANSACTION, "t", bad(prp(ext(garbage)))),
		"event": envelope(t, common.HeaderType_ENDORSER_TRANSACTION, "t",
			bad(prp(ext(protoutil.Marshal(&peer.ChaincodeAction{Events: garbage}))))),
	} {
		if _, err := events.Filter(protoutil.ParseBlock(&common.Block{Data: &common.BlockData{Data: [][]byte{env}}})); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func FuzzFilter(f *testing.F) {
	l := chainOf(f, loadCases(f))
	for _, raw := range l.blocks {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		b := &common.Block{}
		if proto.Unmarshal(raw, b) == nil {
			_, _ = events.Filter(protoutil.ParseBlock(b))
		}
	})
}

func BenchmarkFilterBlock(b *testing.B) {
	l := chainOf(b, loadCases(b))
	block := &common.Block{}
	if err := proto.Unmarshal(l.blocks[len(l.blocks)-1], block); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := events.Filter(protoutil.ParseBlock(block)); err != nil {
			b.Fatal(err)
		}
	}
}
