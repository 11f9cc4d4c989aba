package broadcast

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/orderer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/metrics"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/orderer/consensus"
	"github.com/heddle-ledger/heddle/orderer/consensus/consensustest"
	"github.com/heddle-ledger/heddle/orderer/msgproc"
)

// fakeChannel validates by the text of a message.
type fakeChannel struct {
	validate func(name string) error
	ready    error
	orderErr error

	running, most atomic.Int32 // validations under way

	mu      sync.Mutex // guards ordered
	ordered []string
}

func (c *fakeChannel) ProcessNormal(m *consensus.Message) (uint64, error) {
	n := c.running.Add(1)
	defer c.running.Add(-1)
	for most := c.most.Load(); n > most && !c.most.CompareAndSwap(most, n); most = c.most.Load() {
	}
	if c.validate == nil {
		return 1, nil
	}
	return 1, c.validate(consensustest.Name(m))
}

func (c *fakeChannel) ProcessConfigUpdate(m *consensus.Message) (*consensus.Message, uint64, error) {
	_, err := c.ProcessNormal(m)
	return consensustest.NewMessage("config of "+consensustest.Name(m), common.HeaderType_CONFIG), 1, err
}

func (c *fakeChannel) WaitReady(context.Context) error { return c.ready }

func (c *fakeChannel) Order(_ context.Context, m *consensus.Message, _ uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.orderErr == nil {
		c.ordered = append(c.ordered, consensustest.Name(m))
	}
	return c.orderErr
}

func (c *fakeChannel) Configure(ctx context.Context, m *consensus.Message, seq uint64) error {
	return c.Order(ctx, m, seq)
}

func (c *fakeChannel) names() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.ordered...)
}

func newHandler(c Channel) *Handler {
	h := NewHandler(Config{
		Route:   func(string) Channel { return c },
		Metrics: NewMetrics(metrics.Disabled()), Log: flog.Nop(),
	})
	h.workers = 4
	return h
}

func normal(name string) *common.Envelope {
	return consensustest.NewMessage(name, common.HeaderType_ENDORSER_TRANSACTION).Envelope()
}

func update(name string) *common.Envelope {
	return consensustest.NewMessage(name, common.HeaderType_CONFIG_UPDATE).Envelope()
}

// serve runs a stream of messages and returns the answers.
func serve(t *testing.T, h *Handler, envs ...*common.Envelope) []string {
	t.Helper()
	var got []string
	err := h.Serve(t.Context(), &Stream{
		Recv: func() (*common.Envelope, error) {
			if len(envs) == 0 {
				return nil, io.EOF
			}
			env := envs[0]
			envs = envs[1:]
			return env, nil
		},
		Send: func(r *orderer.BroadcastResponse) error {
			got = append(got, strings.TrimSpace(r.Status.String()+" "+r.Info))
			return nil
		},
	})
	if err != nil {
		t.Errorf("Serve: %s", err)
	}
	return got
}

// TestOrder: however long validation takes, messages are ordered as they came,
// and several are validated at a time.
func TestOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &fakeChannel{validate: func(name string) error {
			var n int
			if _, err := fmt.Sscan(name, &n); err != nil {
				return err
			}
			time.Sleep(time.Duration(7*n%5) * time.Second)
			return nil
		}}
		var envs []*common.Envelope
		var want, answers []string
		for i := range 300 {
			name := fmt.Sprint(i)
			envs = append(envs, normal(name))
			want, answers = append(want, name), append(answers, "SUCCESS")
		}
		if diff := cmp.Diff(answers, serve(t, newHandler(c), envs...)); diff != "" {
			t.Errorf("answers (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(want, c.names()); diff != "" {
			t.Errorf("order (-want +got):\n%s", diff)
		}
		if got := c.most.Load(); got != 4 {
			t.Errorf("at most %d validations at a time, want 4", got)
		}
		synctest.Wait()
	})
}

// TestRefusalEndsStream: nothing that follows a refused message is ordered.
func TestRefusalEndsStream(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &fakeChannel{validate: func(name string) error {
			if name == "bad" {
				time.Sleep(time.Second) // those behind are validated meanwhile
				return errors.New("nonsense")
			}
			return nil
		}}
		got := serve(t, newHandler(c), normal("1"), normal("bad"), normal("2"), normal("3"))
		if diff := cmp.Diff([]string{"SUCCESS", "BAD_REQUEST nonsense"}, got); diff != "" {
			t.Errorf("answers (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"1"}, c.names()); diff != "" {
			t.Errorf("ordered (-want +got):\n%s", diff)
		}
	})
}

func TestStatuses(t *testing.T) {
	t.Parallel()
	direct := consensustest.NewMessage("x", common.HeaderType_CONFIG).Envelope()
	for _, tc := range []struct {
		name    string
		channel *fakeChannel
		env     *common.Envelope
		want    string
	}{
		{"empty", &fakeChannel{}, &common.Envelope{}, "BAD_REQUEST could not determine channel ID: header not set"},
		{"no channel header", &fakeChannel{}, &common.Envelope{Payload: protoutil.Marshal(&common.Payload{Header: &common.Header{SignatureHeader: []byte{1}}})}, "BAD_REQUEST could not determine channel ID: channel header not set"},
		{"direct", &fakeChannel{}, direct, "BAD_REQUEST message is of type that cannot be processed directly"},
		{"unknown channel", refusing(msgproc.ErrChannelDoesNotExist), normal("x"), "NOT_FOUND channel does not exist"},
		{"forbidden", refusing(fmt.Errorf("policy: %w", msgproc.ErrPermissionDenied)), normal("x"), "FORBIDDEN policy: permission denied"},
		{"maintenance", refusing(fmt.Errorf("rejected: %w", msgproc.ErrMaintenanceMode)), update("x"), "SERVICE_UNAVAILABLE rejected: maintenance mode"},
		{"bad update", refusing(errors.New("no")), update("x"), "BAD_REQUEST no"},
		{"not ready", &fakeChannel{ready: errors.New("booting")}, normal("x"), "SERVICE_UNAVAILABLE booting"},
		{"not enqueued", &fakeChannel{orderErr: errors.New("cannot enqueue")}, update("x"), "SERVICE_UNAVAILABLE cannot enqueue"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got := serve(t, newHandler(tc.channel), tc.env, normal("after"))
			if diff := cmp.Diff([]string{tc.want}, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if n := tc.channel.names(); len(n) > 0 {
				t.Errorf("ordered: %v", n)
			}
		})
	}
}

func refusing(err error) *fakeChannel {
	return &fakeChannel{validate: func(string) error { return err }}
}

// TestConfigUpdateIsBarrier: messages behind a config update are not even
// validated before it is enqueued, and those before it are enqueued first.
func TestConfigUpdateIsBarrier(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var c *fakeChannel
		c = &fakeChannel{validate: func(name string) error {
			time.Sleep(time.Second)
			want := map[string]int{"1": 0, "u": 1, "2": 2}[name]
			if got := len(c.names()); got != want {
				t.Errorf("%s is validated after %d messages were ordered, want %d", name, got, want)
			}
			return nil
		}}
		serve(t, newHandler(c), normal("1"), update("u"), normal("2"))
		if diff := cmp.Diff([]string{"1", "config of u", "2"}, c.names()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// TestWindow: a stream whose messages are not taken is not read on without end.
func TestWindow(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name       string
		size, most int
	}{{"messages", 1, windowMessages + 10}, {"bytes", 4 << 20, streamBytes/(4<<20) + 3}} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				c := &fakeChannel{validate: func(string) error { <-release; return nil }}
				env := normal(strings.Repeat("x", tc.size))
				var read atomic.Int32
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() {
					done <- newHandler(c).Serve(ctx, &Stream{
						Recv: func() (*common.Envelope, error) {
							read.Add(1)
							return env, ctx.Err()
						},
						Send: func(*orderer.BroadcastResponse) error { return nil },
					})
				}()
				synctest.Wait()
				if got := int(read.Load()); got > tc.most {
					t.Errorf("%d messages read, want at most %d", got, tc.most)
				}
				cancel()
				close(release)
				if err := <-done; status.Code(err) != codes.Canceled {
					t.Errorf("Serve: %v", err)
				}
			})
		})
	}
}

// TestMuteClients: clients that never read their answers cannot make the orderer
// read without end, whatever their number, do not stop those that do, and leave
// nothing behind.
func TestMuteClients(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const streams, size = 40, 1 << 20
		h := newHandler(&fakeChannel{})
		env := normal(strings.Repeat("x", size))
		ctx, cancel := context.WithCancel(t.Context())
		var read atomic.Int64
		var ended sync.WaitGroup
		for range streams {
			ended.Go(func() {
				err := h.Serve(ctx, &Stream{
					Recv: func() (*common.Envelope, error) {
						read.Add(1)
						return env, ctx.Err()
					},
					Send: func(*orderer.BroadcastResponse) error { <-ctx.Done(); return ctx.Err() },
				})
				if err == nil {
					t.Error("Serve: no error")
				}
			})
		}
		synctest.Wait()
		// One message being answered, one in the hands of the reader, and the budget.
		if got, most := read.Load(), int64(2*streams+sharedBytes/size); got > most {
			t.Errorf("%d messages read, want at most %d", got, most)
		}
		if h.shared.TryAcquire(size + 1024) {
			t.Error("the budget is not used up")
		}
		small := normal("y")
		if got := serve(t, h, small, env, small, env, env); strings.Join(got, " ") != "SUCCESS SUCCESS SUCCESS SUCCESS SUCCESS" {
			t.Errorf("answers to a client that reads them: %v", got)
		}
		cancel()
		ended.Wait()
		if !h.shared.TryAcquire(sharedBytes) {
			t.Error("the budget was not given back")
		}
	})
}

// TestLogLines: what a client sends cannot make lines of its own, nor long ones.
func TestLogLines(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"ch1":                                  "ch1",
		"proto:\u00a0cannot parse 'ü'":         "proto:\u00a0cannot parse 'ü'",
		"x\n2026-01-01 [orderer] INFO\x1b[31m": "x\ufffd2026-01-01 [orderer] INFO\ufffd[31m",
		"\xff":                                 "\ufffd",
		strings.Repeat("a", 1<<20):             strings.Repeat("a", maxLogged) + "...",
	} {
		if got := printable(in); got != want {
			t.Errorf("%.40q became %.40q", in, got)
		}
	}
}

func TestStreamErrors(t *testing.T) {
	t.Parallel()
	h := newHandler(&fakeChannel{})
	recv := func() (*common.Envelope, error) { return nil, io.ErrUnexpectedEOF }
	if err := h.Serve(t.Context(), &Stream{Recv: recv}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a broken stream: %v", err)
	}
	send := func(*orderer.BroadcastResponse) error { return io.ErrClosedPipe }
	recv = func() (*common.Envelope, error) { return normal("x"), nil }
	if err := h.Serve(t.Context(), &Stream{Recv: recv, Send: send}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("a client that does not listen: %v", err)
	}
}

// TestPanic: a crash in validation ends the stream, nothing more.
func TestPanic(t *testing.T) {
	t.Parallel()
	c := &fakeChannel{validate: func(string) error { panic("boom") }}
	for _, env := range []*common.Envelope{normal("x"), update("x")} {
		if got := serve(t, newHandler(c), env); len(got) != 0 {
			t.Errorf("answers: %v", got)
		}
	}
}

// TestSeriesAreBounded: clients choose channel and type, but not how much is
// remembered of them; and they cannot hide what happens on real channels.
func TestSeriesAreBounded(t *testing.T) {
	t.Parallel()
	m := NewMetrics(metrics.Disabled())
	m.get(seriesKey{strings.Repeat("x", 1<<20), "x", common.Status_NOT_FOUND}, false)
	for i := range 3 * maxSeries {
		m.get(seriesKey{fmt.Sprint(i), "x", common.Status_NOT_FOUND}, false)
	}
	if n := len(m.series); n > maxSeries+1 {
		t.Errorf("%d series", n)
	}
	for k := range m.series {
		if len(k.channel) > maxLabel {
			t.Errorf("a label of %d bytes", len(k.channel))
		}
	}
	key := seriesKey{"real", "MESSAGE", common.Status_SUCCESS}
	if s := m.get(key, true); m.series[key] != s {
		t.Error("a channel that exists is not counted by name")
	}
}

func TestTypeNames(t *testing.T) {
	t.Parallel()
	for kind, want := range map[common.HeaderType]string{
		0: "MESSAGE", 3: "ENDORSER_TRANSACTION", 6: "CHAINCODE_PACKAGE", 8: "PEER_ADMIN_OPERATION", 9: "TOKEN_TRANSACTION", 99: "99", -1: "-1",
	} {
		if got := typeName(kind); got != want {
			t.Errorf("%d is %s, want %s", kind, got, want)
		}
	}
}

func FuzzServe(f *testing.F) {
	env := normal("x")
	f.Add(env.Payload, env.Signature)
	f.Add([]byte{0xff}, []byte{1})
	h := newHandler(&fakeChannel{})
	f.Fuzz(func(t *testing.T, payload, signature []byte) {
		if got := serve(t, h, &common.Envelope{Payload: payload, Signature: signature}); len(got) != 1 {
			t.Errorf("%d answers", len(got))
		}
	})
}
