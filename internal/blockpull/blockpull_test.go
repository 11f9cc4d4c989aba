package blockpull

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/orderer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/rpc"
)

type fakeSigner struct{}

func (fakeSigner) Serialize() []byte               { return []byte("creator") }
func (fakeSigner) Sign(msg []byte) ([]byte, error) { return append([]byte("signed "), msg...), nil }

// fakeSink keeps what it gets; refuse may object to a block.
type fakeSink struct {
	mu     sync.Mutex
	next   uint64
	blocks []uint64
	accept func(n uint64) error // called without the lock
}

func (s *fakeSink) Next() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next
}

func (s *fakeSink) Accept(_ context.Context, b *common.Block) error {
	if s.accept != nil {
		if err := s.accept(b.Header.Number); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blocks = append(s.blocks, b.Header.Number)
	s.next = b.Header.Number + 1
	return nil
}

// request is a seek as an orderer sees it.
type request struct {
	at       time.Duration // since the start of the test
	endpoint string
	env      *common.Envelope
	seek     *orderer.SeekInfo
	header   *common.ChannelHeader
}

// fakeOrderers are any number of endpoints that answer as script says.
type fakeOrderers struct {
	orderer.UnimplementedAtomicBroadcastServer
	t        *testing.T
	start    time.Time
	lis      *bufconn.Listener
	server   *grpc.Server
	script   func(r request, s orderer.AtomicBroadcast_DeliverServer) error
	mu       sync.Mutex
	requests []request
	dials    []string
	down     map[string]bool
}

func newOrderers(t *testing.T, script func(r request, s orderer.AtomicBroadcast_DeliverServer) error) *fakeOrderers {
	o := &fakeOrderers{t: t, start: time.Now(), lis: bufconn.Listen(1 << 16), server: grpc.NewServer(), script: script, down: map[string]bool{}}
	orderer.RegisterAtomicBroadcastServer(o.server, o)
	go o.server.Serve(o.lis)
	return o
}

func (o *fakeOrderers) Deliver(s orderer.AtomicBroadcast_DeliverServer) error {
	env, err := s.Recv()
	if err != nil {
		return err
	}
	r := request{at: time.Since(o.start), env: env, seek: &orderer.SeekInfo{}, header: &common.ChannelHeader{}}
	payload := &common.Payload{}
	must(o.t, proto.Unmarshal(env.Payload, payload))
	must(o.t, proto.Unmarshal(payload.Data, r.seek))
	must(o.t, proto.Unmarshal(payload.Header.ChannelHeader, r.header))
	o.mu.Lock()
	r.endpoint = o.dials[len(o.dials)-1]
	o.requests = append(o.requests, r)
	o.mu.Unlock()
	return o.script(r, s)
}

func (o *fakeOrderers) dial(ctx context.Context, ep Endpoint) (*grpc.ClientConn, error) {
	o.mu.Lock()
	o.dials = append(o.dials, ep.Address)
	down := o.down[ep.Address]
	o.mu.Unlock()
	if down {
		<-ctx.Done() // as Dialer does: keeps trying until the time is up
		return nil, ctx.Err()
	}
	return Dialer(rpc.ClientConfig{Dialer: func(ctx context.Context, _ string) (net.Conn, error) {
		return o.lis.DialContext(ctx)
	}})(ctx, ep)
}

// seen returns the requests so far.
func (o *fakeOrderers) seen() []request {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.requests)
}

// dialled returns the addresses dialled so far.
func (o *fakeOrderers) dialled() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.dials)
}

// got returns the blocks accepted so far.
func (s *fakeSink) got() []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.blocks)
}

func (o *fakeOrderers) times() []time.Duration {
	var out []time.Duration
	for _, r := range o.seen() {
		out = append(out, r.at)
	}
	return out
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func endpoints(addresses ...string) []Endpoint {
	var out []Endpoint
	for _, a := range addresses {
		out = append(out, Endpoint{Address: a, Orgs: []string{"OrdererMSP"}})
	}
	return out
}

func status(s common.Status) *orderer.DeliverResponse {
	return &orderer.DeliverResponse{Type: &orderer.DeliverResponse_Status{Status: s}}
}

func sendBlocks(s orderer.AtomicBroadcast_DeliverServer, from, to uint64) error {
	for n := from; n < to; n++ {
		b := &common.Block{Header: &common.BlockHeader{Number: n}}
		if err := s.Send(&orderer.DeliverResponse{Type: &orderer.DeliverResponse_Block{Block: b}}); err != nil {
			return err
		}
	}
	return nil
}

// inBubble runs a test in virtual time with everything stopped at its end.
func inBubble(t *testing.T, script func(r request, s orderer.AtomicBroadcast_DeliverServer) error, test func(ctx context.Context, o *fakeOrderers)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		o := newOrderers(t, script)
		ctx, cancel := context.WithCancel(t.Context())
		test(ctx, o)
		cancel()
		synctest.Wait()
		o.server.Stop()
		o.lis.Close()
		synctest.Wait()
	})
}

func (o *fakeOrderers) puller(sink Sink, change func(*Config)) *Puller {
	cfg := Config{ChannelID: "ch", Endpoints: endpoints("a:1"), Signer: fakeSigner{}, Dial: o.dial, Sink: sink, Log: flog.ForTest(o.t)}
	if change != nil {
		change(&cfg)
	}
	return New(cfg)
}

func TestRequest(t *testing.T) {
	wait := func(_ request, s orderer.AtomicBroadcast_DeliverServer) error { <-s.Context().Done(); return nil }
	for _, next := range []uint64{0, 8} {
		t.Run(fmt.Sprint(next), func(t *testing.T) {
			inBubble(t, wait, func(ctx context.Context, o *fakeOrderers) {
				p := o.puller(&fakeSink{next: next}, func(c *Config) { c.TLSCertHash = []byte{1, 2} })
				go p.Run(ctx)
				synctest.Wait()
				r := o.seen()[0]
				if r.header.Type != int32(common.HeaderType_DELIVER_SEEK_INFO) || r.header.ChannelId != "ch" ||
					string(r.header.TlsCertHash) != "\x01\x02" || r.header.TxId != "" || r.header.Timestamp.Nanos != 0 {
					t.Errorf("channel header: %v", r.header)
				}
				start := specified(next)
				if next == 0 {
					start = &orderer.SeekPosition{Type: &orderer.SeekPosition_Oldest{Oldest: &orderer.SeekOldest{}}}
				}
				want := &orderer.SeekInfo{Start: start, Stop: specified(math.MaxUint64)}
				if !proto.Equal(r.seek, want) {
					t.Errorf("seek: got %v, want %v", r.seek, want)
				}
				if string(r.env.Signature) != "signed "+string(r.env.Payload) {
					t.Error("the request is not signed")
				}
			})
		})
	}
}

// TestStatusWaits compares with the arrival times recorded at an endpoint that
// answered a peer of the reference with FORBIDDEN (orderer-seek.json).
func TestStatusWaits(t *testing.T) {
	forbid := func(_ request, s orderer.AtomicBroadcast_DeliverServer) error {
		return s.Send(status(common.Status_FORBIDDEN))
	}
	inBubble(t, forbid, func(ctx context.Context, o *fakeOrderers) {
		err := o.puller(&fakeSink{next: 8}, nil).Run(ctx)
		if !errors.Is(err, ErrRefused) {
			t.Fatalf("got %v", err)
		}
		ms := time.Millisecond
		want := []time.Duration{0, 100 * ms, 300 * ms, 700 * ms, 1500 * ms, 3100 * ms, 6300 * ms, 12700 * ms, 22700 * ms, 32700 * ms, 42700 * ms}
		if d := cmp.Diff(want, o.times()); d != "" {
			t.Error(d)
		}
	})
}

func TestStatusCounters(t *testing.T) {
	// Nine refusals, something else, nine refusals, a block, nine refusals: never
	// eleven in a row. Then the end.
	var answers []common.Status
	nine := func() {
		for range 9 {
			answers = append(answers, common.Status_BAD_REQUEST)
		}
	}
	nine()
	answers = append(answers, common.Status_SERVICE_UNAVAILABLE)
	nine()
	answers = append(answers, common.Status_UNKNOWN) // stands for a block
	nine()
	answers = append(answers, common.Status_SUCCESS)
	i := 0
	script := func(r request, s orderer.AtomicBroadcast_DeliverServer) error {
		a := answers[i]
		i++
		if a == common.Status_UNKNOWN {
			if err := sendBlocks(s, 0, 1); err != nil {
				return err
			}
			a = common.Status_NOT_FOUND
		}
		return s.Send(status(a))
	}
	inBubble(t, script, func(ctx context.Context, o *fakeOrderers) {
		err := o.puller(&fakeSink{}, nil).Run(ctx)
		if !errors.Is(err, ErrCompleted) || i != len(answers) {
			t.Fatalf("after %d of %d answers: %v", i, len(answers), err)
		}
		if got := o.seen()[20].at - o.seen()[19].at; got != 100*time.Millisecond {
			t.Errorf("first wait after a block is %v", got)
		}
	})
}

func TestReconnect(t *testing.T) {
	inBubble(t, nil, func(ctx context.Context, o *fakeOrderers) {
		o.down["a:1"], o.down["b:1"] = true, true
		p := o.puller(&fakeSink{}, func(c *Config) {
			c.Endpoints = endpoints("a:1", "b:1")
			c.ReconnectTotal, c.ReconnectMax = 10*time.Second, 4*time.Second
		})
		err := p.Run(ctx)
		if !errors.Is(err, ErrGaveUp) {
			t.Fatalf("got %v", err)
		}
		// Waits 1+2+4+4 reach 10 s; then one more attempt. Each is 2 × 3 s.
		if got, want := time.Since(o.start), 11*time.Second+5*6*time.Second; got != want {
			t.Errorf("gave up after %v, want %v", got, want)
		}
		if len(o.dialled()) != 10 || o.dialled()[0] == o.dialled()[1] {
			t.Errorf("dialled %v", o.dialled())
		}
	})
}

func TestStaticLeaderDoesNotGiveUp(t *testing.T) {
	inBubble(t, nil, func(ctx context.Context, o *fakeOrderers) {
		o.down["a:1"] = true
		p := o.puller(&fakeSink{}, func(c *Config) {
			c.ReconnectTotal, c.ReconnectMax, c.StaticLeader = time.Second, time.Second, true
		})
		ctx, cancel := context.WithTimeout(ctx, time.Hour)
		defer cancel()
		if err := p.Run(ctx); err != nil || time.Since(o.start) != time.Hour {
			t.Fatalf("ended after %v: %v", time.Since(o.start), err)
		}
	})
}

func TestBlocksAcrossBreaks(t *testing.T) {
	script := func(r request, s orderer.AtomicBroadcast_DeliverServer) error {
		from := r.seek.Start.GetSpecified().GetNumber()
		if err := sendBlocks(s, from, from+3); err != nil {
			return err
		}
		if from >= 6 {
			<-s.Context().Done()
		}
		return io.ErrUnexpectedEOF
	}
	inBubble(t, script, func(ctx context.Context, o *fakeOrderers) {
		sink := &fakeSink{}
		p := o.puller(sink, func(c *Config) { c.Endpoints = endpoints("a:1", "b:1") })
		done := make(chan error)
		ctx, cancel := context.WithCancel(ctx)
		go func() { done <- p.Run(ctx) }()
		time.Sleep(10 * time.Second)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if d := cmp.Diff([]uint64{0, 1, 2, 3, 4, 5, 6, 7, 8}, sink.got()); d != "" {
			t.Error(d)
		}
		if d := cmp.Diff([]time.Duration{0, time.Second, 2 * time.Second}, o.times()); d != "" {
			t.Error(d)
		}
		if o.seen()[0].endpoint == o.seen()[1].endpoint || o.seen()[0].endpoint != o.seen()[2].endpoint {
			t.Errorf("no round robin: %v", o.dialled())
		}
	})
}

func TestRejectedBlock(t *testing.T) {
	script := func(r request, s orderer.AtomicBroadcast_DeliverServer) error {
		if err := sendBlocks(s, r.seek.Start.GetSpecified().GetNumber(), 5); err != nil {
			return err
		}
		<-s.Context().Done()
		return nil
	}
	inBubble(t, script, func(ctx context.Context, o *fakeOrderers) {
		sink := &fakeSink{next: 1}
		p := o.puller(sink, func(c *Config) { c.Endpoints = endpoints("a:1", "b:1") })
		go p.Run(ctx)
		synctest.Wait()
		for range 3 { // what the pipeline does with a block that fails verification
			sink.mu.Lock()
			sink.next = 3
			sink.mu.Unlock()
			p.Reject(errors.New("bad signature"))
			time.Sleep(time.Second)
		}
		ms := time.Millisecond
		if d := cmp.Diff([]time.Duration{0, 100 * ms, 1200 * ms, 2400 * ms}, o.times()); d != "" {
			t.Error(d)
		}
		if o.seen()[1].seek.Start.GetSpecified().GetNumber() != 3 || o.seen()[0].endpoint == o.seen()[1].endpoint {
			t.Errorf("second request %v at %s", o.seen()[1].seek, o.seen()[1].endpoint)
		}
	})
}

func TestUnexpectedNumbers(t *testing.T) {
	script := func(r request, s orderer.AtomicBroadcast_DeliverServer) error {
		if err := sendBlocks(s, 3, 5); err != nil { // old ones are ignored
			return err
		}
		if len(r.endpoint) > 0 && r.at > 0 {
			<-s.Context().Done()
			return nil
		}
		return sendBlocks(s, 7, 8)
	}
	inBubble(t, script, func(ctx context.Context, o *fakeOrderers) {
		sink := &fakeSink{next: 4}
		go o.puller(sink, nil).Run(ctx)
		time.Sleep(time.Minute)
		if d := cmp.Diff([]uint64{4}, sink.got()); d != "" {
			t.Error(d)
		}
		if len(o.seen()) != 2 || o.seen()[1].at != 100*time.Millisecond {
			t.Errorf("requests at %v", o.times())
		}
	})
}

func TestSetEndpoints(t *testing.T) {
	wait := func(_ request, s orderer.AtomicBroadcast_DeliverServer) error { <-s.Context().Done(); return nil }
	inBubble(t, wait, func(ctx context.Context, o *fakeOrderers) {
		p := o.puller(&fakeSink{}, func(c *Config) {
			c.Endpoints = endpoints("a:1", "b:1")
			c.Overrides = []Override{{From: "c:1", To: "d:1"}}
		})
		go p.Run(ctx)
		synctest.Wait()
		p.SetEndpoints(endpoints("b:1", "a:1")) // the same set
		p.SetEndpoints(nil)
		synctest.Wait()
		if len(o.seen()) != 1 {
			t.Fatalf("reconnected for nothing: %v", o.dialled())
		}
		p.SetEndpoints(endpoints("c:1"))
		synctest.Wait()
		if len(o.seen()) != 2 || o.seen()[1].at != 0 || o.seen()[1].endpoint != "d:1" {
			t.Errorf("dialled %v", o.dialled())
		}
	})
}

func TestStopWhileSinkIsFull(t *testing.T) {
	script := func(_ request, s orderer.AtomicBroadcast_DeliverServer) error {
		if err := sendBlocks(s, 0, 2); err != nil {
			return err
		}
		<-s.Context().Done()
		return nil
	}
	inBubble(t, script, func(ctx context.Context, o *fakeOrderers) {
		ctx, cancel := context.WithCancel(ctx)
		sink := &fakeSink{accept: func(uint64) error { <-ctx.Done(); return ctx.Err() }}
		done := make(chan error)
		go func() { done <- o.puller(sink, nil).Run(ctx) }()
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
