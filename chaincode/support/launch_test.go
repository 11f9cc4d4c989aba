package support_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/chaincode/runtime"
	"github.com/heddle-ledger/heddle/chaincode/support"
)

// fakeInstance is a chaincode that ends when told.
type fakeInstance struct {
	code  chan int
	once  sync.Once
	ended chan struct{}
	out   string
	exit  int
}

func newInstance() *fakeInstance {
	i := &fakeInstance{code: make(chan int, 1), ended: make(chan struct{})}
	return i
}

func (i *fakeInstance) end(code int) { i.once.Do(func() { i.exit = code; close(i.ended) }) }
func (i *fakeInstance) Stop()        { i.end(137) }
func (i *fakeInstance) Output() string {
	return i.out
}

func (i *fakeInstance) Wait(ctx context.Context) (int, error) {
	select {
	case <-i.ended:
		return i.exit, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func netWorld(t testing.TB) *world {
	w := newWorld(t, func(c *support.Config) { c.DevMode = false })
	w.define("ch1", "cc", "1")
	return w
}

// serve is a chaincode that answers every call with status 200.
func (c *conn) serve(cname string) {
	c.register(cname)
	for m := c.hear(); m != nil; m = c.hear() {
		if m.Type == peer.ChaincodeMessage_TRANSACTION || m.Type == peer.ChaincodeMessage_INIT {
			c.say(&peer.ChaincodeMessage{Type: peer.ChaincodeMessage_COMPLETED, ChannelId: m.ChannelId, Txid: m.Txid, Payload: marshal(&peer.Response{Status: 200})})
		}
	}
}

func TestLaunchIsShared(t *testing.T) {
	t.Parallel()
	w := netWorld(t)
	var started atomic.Int32
	w.start = func(_ context.Context, spec *runtime.Spec) (runtime.Instance, error) {
		started.Add(1)
		if spec.PeerAddress != "127.0.0.1:7052" || string(spec.CodePackage) != "code" {
			t.Errorf("started with %+v", spec)
		}
		go w.connect(t).serve(spec.CName())
		return newInstance(), nil
	}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			resp, _, err := w.Execute(t.Context(), w.tx("ch1", fmt.Sprint(i)), "cc", "1", args("x"))
			if err != nil || resp.Status != 200 {
				t.Error(resp, err)
			}
		})
	}
	wg.Wait()
	if n := started.Load(); n != 1 {
		t.Errorf("started %d times", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Run(ctx); err != nil {
		t.Error(err)
	}
}

func TestLaunchFailures(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(w *world)
		want   string
	}{
		"no package": {
			func(w *world) { w.missing = fs.ErrNotExist },
			"failed to get chaincode package: code package not found for chaincode with name 'cc', version '1'",
		},
		"runtime": {
			func(w *world) {
				w.start = func(context.Context, *runtime.Spec) (runtime.Instance, error) {
					return nil, errors.New("error starting container: cause")
				}
			},
			"error starting container: error starting container: cause",
		},
		"exit": {
			func(w *world) {
				w.start = func(context.Context, *runtime.Spec) (runtime.Instance, error) {
					i := newInstance()
					i.end(7)
					return i, nil
				}
			},
			"chaincode registration failed: container exited with 7",
		},
		"exit with words": {
			func(w *world) {
				w.start = func(context.Context, *runtime.Spec) (runtime.Instance, error) {
					i := newInstance()
					i.out = "panic: no"
					i.end(2)
					return i, nil
				}
			},
			"chaincode registration failed: container exited with 2: panic: no",
		},
		"no registration": {
			func(w *world) {
				w.start = func(context.Context, *runtime.Spec) (runtime.Instance, error) { return newInstance(), nil }
			},
			"timeout expired while starting chaincode cc:1 for transaction",
		},
		"slow start": {
			func(w *world) {
				w.start = func(ctx context.Context, _ *runtime.Spec) (runtime.Instance, error) {
					<-ctx.Done()
					return nil, ctx.Err()
				}
			},
			"timeout expired while starting chaincode cc:1 for transaction",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := netWorld(t)
				c.change(w)
				start := time.Now()
				_, _, err := w.ExecuteInit(t.Context(), w.tx("ch1", "t1"), w.defs["ch1/cc"], args("x"))
				if err == nil || err.Error() != c.want {
					t.Errorf("got %v, want %s", err, c.want)
				}
				if took := time.Since(start); took > 5*time.Second {
					t.Errorf("took %v", took)
				}
				_, _, err = w.Execute(t.Context(), w.tx("ch1", "t2"), "cc", "1", args("x"))
				want := "failed to execute transaction t2: [channel ch1] could not launch chaincode cc:1: " + c.want
				if err == nil || err.Error() != want {
					t.Errorf("got %v, want %s", err, want)
				}
				// The failed launch is forgotten: a later one succeeds.
				w.missing = nil
				w.start = func(_ context.Context, spec *runtime.Spec) (runtime.Instance, error) {
					go w.connect(t).serve(spec.CName())
					return newInstance(), nil
				}
				if _, _, err := w.Execute(t.Context(), w.tx("ch1", "t3"), "cc", "1", args("x")); err != nil {
					t.Error(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				if err := w.Run(ctx); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// An instance whose stream has ended is stopped before the next launch.
func TestRelaunchStopsTheOldInstance(t *testing.T) {
	t.Parallel()
	w := netWorld(t)
	var instances []*fakeInstance
	var conns []*conn
	w.start = func(_ context.Context, spec *runtime.Spec) (runtime.Instance, error) {
		instances, conns = append(instances, newInstance()), append(conns, w.connect(t))
		go conns[len(conns)-1].serve(spec.CName())
		return instances[len(instances)-1], nil
	}
	for i := range 2 {
		if _, _, err := w.Execute(t.Context(), w.tx("ch1", fmt.Sprint(i)), "cc", "1", args("x")); err != nil {
			t.Fatal(err)
		}
		conns[i].cut()
		<-conns[i].ended
	}
	if len(instances) != 2 || instances[0].exit != 137 {
		t.Errorf("%d instances, first ended with %d", len(instances), instances[0].exit)
	}
}

// A caller that leaves does not disturb the launch.
func TestCallerLeaves(t *testing.T) {
	t.Parallel()
	w := netWorld(t)
	proceed := make(chan struct{})
	w.start = func(_ context.Context, spec *runtime.Spec) (runtime.Instance, error) {
		<-proceed
		go w.connect(t).serve(spec.CName())
		return newInstance(), nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := w.Execute(ctx, w.tx("ch1", "t1"), "cc", "1", args("x")); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	close(proceed)
	if _, _, err := w.Execute(t.Context(), w.tx("ch1", "t2"), "cc", "1", args("x")); err != nil {
		t.Error(err)
	}
}

// lateInstance registers only when it is being stopped.
type lateInstance struct {
	*fakeInstance
	late func()
}

func (i *lateInstance) Stop() {
	i.late()
	i.fakeInstance.Stop()
}

// TestFailedLaunchRegistersForNoOther: a chaincode that comes too late is
// refused, and the next request starts another.
func TestFailedLaunchRegistersForNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := netWorld(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var started int
		w.start = func(_ context.Context, spec *runtime.Spec) (runtime.Instance, error) {
			started++
			if started > 1 {
				go w.connect(t).serve(spec.CName())
				return newInstance(), nil
			}
			return &lateInstance{newInstance(), func() {
				late := w.connect(t)
				late.say(&peer.ChaincodeMessage{Type: peer.ChaincodeMessage_REGISTER, Payload: marshal(&peer.ChaincodeID{Name: spec.CName()})})
				time.Sleep(time.Second)
				if w.Connected(spec.CName()) != nil {
					t.Error("registered after its launch had failed")
				}
				if started != 1 {
					t.Errorf("meanwhile %d have been started", started)
				}
			}}, nil
		}
		if _, _, err := w.Execute(ctx, w.tx("ch1", "first"), "cc", "1", args("x")); err == nil {
			t.Error("executed without a chaincode")
		}
		if resp, _, err := w.Execute(ctx, w.tx("ch1", "second"), "cc", "1", args("x")); err != nil || resp.Status != 200 {
			t.Error(resp, err)
		}
		if started != 2 {
			t.Errorf("started %d times", started)
		}
		cancel()
		if err := w.Run(ctx); err != nil {
			t.Error(err)
		}
	})
}
