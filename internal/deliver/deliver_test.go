package deliver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/orderer"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/heddle-ledger/heddle/internal/protoutil"
)

// fakeChain is a chain in memory.
type fakeChain struct {
	mu      sync.Mutex // guards what follows
	blocks  []*Block
	seq     uint64
	grown   chan struct{}
	errored chan struct{}
	broken  map[uint64]error
}

func newChain(height int) *fakeChain {
	c := &fakeChain{grown: make(chan struct{}), errored: make(chan struct{}), broken: make(map[uint64]error)}
	for range height {
		c.grow()
	}
	return c
}

func (c *fakeChain) grow() {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := protoutil.NewBlock(uint64(len(c.blocks)), nil)
	b.Data.Data = [][]byte{[]byte("tx")}
	c.blocks = append(c.blocks, NewBlock(b))
	close(c.grown)
	c.grown = make(chan struct{})
}

func (c *fakeChain) reconfigure() {
	c.mu.Lock()
	c.seq++
	c.mu.Unlock()
	c.grow()
}

func (c *fakeChain) Sequence() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seq
}

func (c *fakeChain) Errored() <-chan struct{} { return c.errored }
func (c *fakeChain) Oldest() uint64           { return 0 }

func (c *fakeChain) Height() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return uint64(len(c.blocks))
}

func (c *fakeChain) Iterator(from uint64) (Iterator, error) {
	return &fakeIterator{c, from}, nil
}

type fakeIterator struct {
	c    *fakeChain
	next uint64
}

func (it *fakeIterator) Next(ctx context.Context) (*Block, error) {
	for {
		it.c.mu.Lock()
		if err := it.c.broken[it.next]; err != nil {
			it.c.mu.Unlock()
			return nil, err
		}
		if it.next < uint64(len(it.c.blocks)) {
			b := it.c.blocks[it.next]
			it.c.mu.Unlock()
			it.next++
			return b, nil
		}
		grown := it.c.grown
		it.c.mu.Unlock()
		select {
		case <-grown:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (it *fakeIterator) Close() {}

// client is a stream with its requests and the answers to them.
type client struct {
	mu       sync.Mutex // guards got
	got      []string
	requests []*common.Envelope
	access   error
	asked    int
	hash     []byte
	sendErr  error
}

func (c *client) recv() (*common.Envelope, error) {
	if len(c.requests) == 0 {
		return nil, io.EOF
	}
	env := c.requests[0]
	c.requests = c.requests[1:]
	return env, nil
}

func (c *client) note(s string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got = append(c.got, s)
	return c.sendErr
}

func (c *client) answers() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.got, " ")
}

func (c *client) SendStatus(s common.Status) error { return c.note(s.String()) }
func (c *client) Filtered() bool                   { return false }
func (c *client) SendBlock(b *Block, _ string, _ *common.Envelope) error {
	return c.note(fmt.Sprint(b.Number()))
}

func (c *client) Access(*common.Envelope, string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	return c.access
}

func (c *client) stream() *Stream {
	return &Stream{Recv: c.recv, Responder: c, Access: c.Access, RemoteAddr: "client", CertHash: c.hash}
}

func number(n uint64) *orderer.SeekPosition {
	return &orderer.SeekPosition{Type: &orderer.SeekPosition_Specified{Specified: &orderer.SeekSpecified{Number: n}}}
}

var (
	oldest  = &orderer.SeekPosition{Type: &orderer.SeekPosition_Oldest{}}
	newest  = &orderer.SeekPosition{Type: &orderer.SeekPosition_Newest{}}
	untyped = &orderer.SeekPosition{}
)

func seekRequest(info *orderer.SeekInfo) *common.Envelope {
	return envelope(&common.ChannelHeader{ChannelId: "ch", Timestamp: timestamppb.Now()}, protoutil.Marshal(info))
}

func envelope(ch *common.ChannelHeader, data []byte) *common.Envelope {
	return &common.Envelope{Payload: protoutil.Marshal(&common.Payload{
		Header: &common.Header{
			ChannelHeader:   protoutil.Marshal(ch),
			SignatureHeader: protoutil.Marshal(&common.SignatureHeader{Creator: []byte("me")}),
		},
		Data: data,
	})}
}

func handler(c Chain, change ...func(*Config)) *Handler {
	cfg := Config{Chains: func(id string) (Chain, bool) { return c, id == "ch" }}
	for _, f := range change {
		f(&cfg)
	}
	return NewHandler(cfg)
}

const fail = orderer.SeekInfo_FAIL_IF_NOT_READY

func TestPositions(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		info *orderer.SeekInfo
		want string
	}{
		{"all", &orderer.SeekInfo{Start: oldest, Stop: newest}, "0 1 2 SUCCESS"},
		{"one", &orderer.SeekInfo{Start: newest, Stop: newest}, "2 SUCCESS"},
		{"range", &orderer.SeekInfo{Start: number(1), Stop: number(2)}, "1 2 SUCCESS"},
		{"oldest stop", &orderer.SeekInfo{Start: number(1), Stop: oldest}, "1 SUCCESS"},
		{"beyond", &orderer.SeekInfo{Start: number(4), Stop: number(9)}, "NOT_FOUND"},
		{"at height, fail", &orderer.SeekInfo{Start: number(3), Stop: number(9), Behavior: fail}, "NOT_FOUND"},
		{"into the tip", &orderer.SeekInfo{Start: number(2), Stop: number(9), Behavior: fail}, "2 NOT_FOUND"},
		{"backwards", &orderer.SeekInfo{Start: number(2), Stop: number(1)}, "BAD_REQUEST"},
		{"no start", &orderer.SeekInfo{Stop: newest}, "BAD_REQUEST"},
		{"no stop", &orderer.SeekInfo{Start: newest}, "BAD_REQUEST"},
		{"start without type", &orderer.SeekInfo{Start: untyped, Stop: newest}, "NOT_FOUND"},
		{"stop without type", &orderer.SeekInfo{Start: oldest, Stop: untyped}, "0 SUCCESS"},
		{"stop without type, later start", &orderer.SeekInfo{Start: number(1), Stop: untyped, Behavior: fail}, "1 2 NOT_FOUND"},
		{"stop newest before start", &orderer.SeekInfo{Start: number(3), Stop: newest, Behavior: fail}, "NOT_FOUND"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := &client{requests: []*common.Envelope{seekRequest(tc.info)}}
			if err := handler(newChain(3)).Serve(t.Context(), c.stream()); err != nil {
				t.Errorf("Serve: %s", err)
			}
			if got := c.answers(); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

// TestSeveralRequests: after SUCCESS the stream goes on, after anything else it
// ends.
func TestSeveralRequests(t *testing.T) {
	t.Parallel()
	one := seekRequest(&orderer.SeekInfo{Start: newest, Stop: newest})
	c := &client{requests: []*common.Envelope{one, one, seekRequest(&orderer.SeekInfo{}), one}}
	if err := handler(newChain(3)).Serve(t.Context(), c.stream()); err != nil {
		t.Errorf("Serve: %s", err)
	}
	if got, want := c.answers(), "2 SUCCESS 2 SUCCESS BAD_REQUEST"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestBadEnvelopes(t *testing.T) {
	t.Parallel()
	now := timestamppb.Now()
	good := protoutil.Marshal(&orderer.SeekInfo{Start: newest, Stop: newest})
	hash := []byte("hash")
	for _, tc := range []struct {
		name, want string
		env        *common.Envelope
		hash       []byte
	}{
		{"garbage", "BAD_REQUEST", &common.Envelope{Payload: []byte{0xff}}, hash},
		{"empty", "BAD_REQUEST", &common.Envelope{}, hash},
		{"header garbage", "BAD_REQUEST", &common.Envelope{Payload: protoutil.Marshal(&common.Payload{Header: &common.Header{ChannelHeader: []byte{0xff}}})}, hash},
		{"no timestamp", "BAD_REQUEST", envelope(&common.ChannelHeader{ChannelId: "ch", TlsCertHash: hash}, good), hash},
		{"other channel", "NOT_FOUND", envelope(&common.ChannelHeader{ChannelId: "x", Timestamp: now, TlsCertHash: hash}, good), hash},
		{"bad seek info", "BAD_REQUEST", envelope(&common.ChannelHeader{ChannelId: "ch", Timestamp: now, TlsCertHash: hash}, []byte{0xff}), hash},
		{"no hash", "BAD_REQUEST", envelope(&common.ChannelHeader{ChannelId: "ch", Timestamp: now}, good), hash},
		{"no certificate", "BAD_REQUEST", envelope(&common.ChannelHeader{ChannelId: "ch", Timestamp: now, TlsCertHash: hash}, good), nil},
		{"other certificate", "BAD_REQUEST", envelope(&common.ChannelHeader{ChannelId: "ch", Timestamp: now, TlsCertHash: hash}, good), []byte("other")},
		{"good", "2 SUCCESS", envelope(&common.ChannelHeader{ChannelId: "ch", Timestamp: now, TlsCertHash: hash}, good), hash},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := &client{requests: []*common.Envelope{tc.env}, hash: tc.hash}
			if err := handler(newChain(3), func(cfg *Config) { cfg.BindTLS = true }).Serve(t.Context(), c.stream()); err != nil {
				t.Errorf("Serve: %s", err)
			}
			if got := c.answers(); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

// TestWindow: the window is inclusive on both sides.
func TestWindow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for off, want := range map[time.Duration]string{
			DefaultTimeWindow: "2 SUCCESS", -DefaultTimeWindow: "2 SUCCESS",
			DefaultTimeWindow + 1: "BAD_REQUEST", -DefaultTimeWindow - 1: "BAD_REQUEST",
		} {
			env := envelope(&common.ChannelHeader{ChannelId: "ch", Timestamp: timestamppb.New(time.Now().Add(off))},
				protoutil.Marshal(&orderer.SeekInfo{Start: newest, Stop: newest}))
			c := &client{requests: []*common.Envelope{env}}
			if err := handler(newChain(3)).Serve(t.Context(), c.stream()); err != nil {
				t.Errorf("Serve: %s", err)
			}
			if got := c.answers(); got != want {
				t.Errorf("%s off: got %s, want %s", off, got, want)
			}
		}
	})
}

// follow starts a request without end and returns how it ended.
func follow(t *testing.T, h *Handler, c *client, mode orderer.SeekInfo_SeekErrorResponse) (done chan error, cancel func()) {
	t.Helper()
	c.requests = []*common.Envelope{seekRequest(&orderer.SeekInfo{Start: oldest, Stop: number(math.MaxUint64), ErrorResponse: mode})}
	ctx, cancel := context.WithCancel(t.Context())
	done = make(chan error, 1)
	go func() { done <- h.Serve(ctx, c.stream()) }()
	synctest.Wait()
	return done, cancel
}

// TestAccessIsCheckedAgain: once per config sequence.
func TestAccessIsCheckedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		chain, c := newChain(1), &client{}
		done, cancel := follow(t, handler(chain), c, orderer.SeekInfo_STRICT)
		defer cancel()
		chain.grow()
		synctest.Wait()
		chain.reconfigure()
		synctest.Wait()
		c.mu.Lock()
		asked := c.asked
		c.access = errors.New("revoked")
		c.mu.Unlock()
		if asked != 2 {
			t.Errorf("access was evaluated %d times, want 2", asked)
		}
		chain.grow() // the same config: not asked
		synctest.Wait()
		chain.reconfigure()
		if err := <-done; err != nil {
			t.Errorf("Serve: %s", err)
		}
		if got, want := c.answers(), "0 1 2 3 FORBIDDEN"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		chain, c := newChain(1), &client{}
		end := time.Now().Add(time.Hour)
		h := handler(chain, func(cfg *Config) { cfg.ExpiresAt = func([]byte) time.Time { return end } })
		done, cancel := follow(t, h, c, orderer.SeekInfo_STRICT)
		defer cancel()
		time.Sleep(2 * time.Hour)
		chain.grow()
		if err := <-done; err != nil {
			t.Errorf("Serve: %s", err)
		}
		if got, want := c.answers(), "0 FORBIDDEN"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

func TestErrored(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		chain, strict, best := newChain(1), &client{access: nil}, &client{}
		h := handler(chain)
		strictDone, cancelStrict := follow(t, h, strict, orderer.SeekInfo_STRICT)
		defer cancelStrict()
		bestDone, cancelBest := follow(t, h, best, orderer.SeekInfo_BEST_EFFORT)
		close(chain.errored)
		if err := <-strictDone; err != nil {
			t.Errorf("Serve: %s", err)
		}
		chain.grow()
		synctest.Wait()
		cancelBest()
		if err := <-bestDone; !errors.Is(err, context.Canceled) {
			t.Errorf("a client that leaves: %v", err)
		}
		// The errored state is looked at before access.
		late := &client{access: errors.New("no"), requests: []*common.Envelope{seekRequest(&orderer.SeekInfo{Start: newest, Stop: newest})}}
		if err := h.Serve(t.Context(), late.stream()); err != nil {
			t.Errorf("Serve: %s", err)
		}
		want := []string{"0 SERVICE_UNAVAILABLE", "0 1", "SERVICE_UNAVAILABLE"}
		if diff := cmp.Diff(want, []string{strict.answers(), best.answers(), late.answers()}); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

func TestReadFailures(t *testing.T) {
	t.Parallel()
	chain := newChain(3)
	chain.broken[1] = errors.New("disk")
	chain.broken[2] = ErrNotFound
	c := &client{requests: []*common.Envelope{seekRequest(&orderer.SeekInfo{Start: oldest, Stop: newest})}}
	gone := &client{requests: []*common.Envelope{seekRequest(&orderer.SeekInfo{Start: newest, Stop: newest})}}
	for _, s := range []*client{c, gone} {
		if err := handler(chain).Serve(t.Context(), s.stream()); err != nil {
			t.Errorf("Serve: %s", err)
		}
	}
	if got, want := c.answers()+", "+gone.answers(), "0 INTERNAL_SERVER_ERROR, NOT_FOUND"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestSendFailureAndPanic(t *testing.T) {
	t.Parallel()
	c := &client{requests: []*common.Envelope{seekRequest(&orderer.SeekInfo{Start: newest, Stop: newest})}, sendErr: io.ErrClosedPipe}
	if err := handler(newChain(1)).Serve(t.Context(), c.stream()); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("Serve: %v", err)
	}
	s := c.stream()
	s.Recv = func() (*common.Envelope, error) { panic("boom") }
	if err := handler(newChain(1)).Serve(t.Context(), s); err != nil {
		t.Errorf("a panic ends the call with %v", err)
	}
}

// TestEncodedResponse: the bytes put together by hand are an ordinary response,
// whether the block was decoded or not.
func TestEncodedResponse(t *testing.T) {
	t.Parallel()
	b := protoutil.NewBlock(7, []byte("previous"))
	b.Data.Data = [][]byte{[]byte("tx"), make([]byte, 300)}
	want := protoutil.Marshal(&orderer.DeliverResponse{Type: &orderer.DeliverResponse_Block{Block: b}})
	raw := NewRawBlock(7, protoutil.Marshal(b))
	for _, block := range []*Block{NewBlock(b), raw} {
		if got := block.EncodedResponse(); !slices.Equal(got, want) {
			t.Errorf("response %x, want %x", got, want)
		}
	}
	if p, err := raw.Proto(); err != nil || !proto.Equal(p, b) {
		t.Errorf("decoded %v, %v", p, err)
	}
}

func FuzzServe(f *testing.F) {
	env := seekRequest(&orderer.SeekInfo{Start: oldest, Stop: newest})
	f.Add(env.Payload, env.Signature)
	f.Add([]byte{0xff}, []byte{})
	h := handler(newChain(3))
	f.Fuzz(func(t *testing.T, payload, signature []byte) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // nothing is waited for
		c := &client{requests: []*common.Envelope{{Payload: payload, Signature: signature}}}
		_ = h.Serve(ctx, c.stream())
	})
}

func BenchmarkNewRawBlock(b *testing.B) {
	block := protoutil.NewBlock(1, nil)
	for range 500 {
		block.Data.Data = append(block.Data.Data, make([]byte, 3000))
	}
	raw := protoutil.Marshal(block)
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		NewRawBlock(1, raw).EncodedResponse()
	}
}
