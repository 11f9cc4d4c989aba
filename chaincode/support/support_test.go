package support_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/chaincode/packaging"
	"github.com/heddle-ledger/heddle/chaincode/runtime"
	"github.com/heddle-ledger/heddle/chaincode/stream"
	"github.com/heddle-ledger/heddle/chaincode/stream/streamtest"
	"github.com/heddle-ledger/heddle/chaincode/support"
	"github.com/heddle-ledger/heddle/internal/flog"
)

// world stands for everything above and around the chaincode room.
type world struct {
	*support.Support
	channels map[string]*streamtest.State
	defs     map[string]*support.Definition // "channel/name"
	packages map[string]*packaging.Package  // "name:version"
	acl      func(resource, channelID string) error
	start    func(ctx context.Context, spec *runtime.Spec) (runtime.Instance, error)

	missing error // what Load answers
	next    atomic.Int64

	mu    sync.Mutex // guards calls
	calls []string
}

func newWorld(t testing.TB, change func(*support.Config)) *world {
	w := &world{
		channels: map[string]*streamtest.State{"ch1": streamtest.NewState(), "ch2": streamtest.NewState()},
		defs:     map[string]*support.Definition{},
		packages: map[string]*packaging.Package{},
	}
	cfg := support.Config{
		DevMode: true, PeerAddress: "127.0.0.1:7052", Lifecycle: w, Packages: w, Access: w, Channels: w, Runtime: w,
		Log: flog.Nop(),
	}
	if change != nil {
		change(&cfg)
	}
	w.Support = support.New(cfg)
	return w
}

func (w *world) define(channel, name, version string) *support.Definition {
	d := &support.Definition{Name: name, Version: version, Path: "example.com/cc", Type: peer.ChaincodeSpec_GOLANG}
	w.defs[channel+"/"+name] = d
	cds, err := proto.Marshal(packaging.BuildCDS(d.Type, &peer.ChaincodeID{Name: name, Version: version, Path: d.Path}, nil, []byte("code")))
	if err != nil {
		panic(err)
	}
	if w.packages[d.CName()], err = packaging.Parse(cds); err != nil {
		panic(err)
	}
	w.channels[channel].Put("lscc", name, []byte(version))
	return d
}

func (w *world) ContainerInfo(name string, sim stream.Simulator) (*support.Definition, error) {
	if sim != nil {
		version, err := sim.GetState("lscc", name)
		if err != nil {
			return nil, err
		}
		for _, d := range w.defs {
			if d.Name == name && d.Version == string(version) {
				return d, nil
			}
		}
	}
	return nil, fmt.Errorf("could not get chaincode code: chaincode %s not found", name)
}

func (w *world) Callee(channelID, name string, sim stream.Simulator) (*support.Definition, error) {
	raw, err := sim.GetState("lscc", name)
	if err != nil {
		return nil, err
	}
	if raw == nil {
		return nil, fmt.Errorf("chaincode %s not found", name)
	}
	return w.defs[channelID+"/"+name], nil
}

func (w *world) Load(name, version string) (*packaging.Package, error) {
	if p := w.packages[name+":"+version]; p != nil && w.missing == nil {
		return p, nil
	}
	return nil, errors.Join(w.missing, errors.New("no package"))
}

func (w *world) CheckACL(resource, channelID string, _ *peer.SignedProposal) error {
	w.mu.Lock()
	w.calls = append(w.calls, resource+" on "+channelID)
	w.mu.Unlock()
	if w.acl != nil {
		return w.acl(resource, channelID)
	}
	if w.channels[channelID] == nil {
		return fmt.Errorf("Failed to get policy manager for channel [%s]", channelID)
	}
	return nil
}

func (w *world) Simulator(channelID, txID string, _ stream.Simulator) (stream.Simulator, stream.HistoryReader, func(), error) {
	st := w.channels[channelID]
	if st == nil {
		return nil, nil, nil, fmt.Errorf("failed to find ledger for channel: %s", channelID)
	}
	return st.Simulate(txID), st, func() {}, nil
}

func (w *world) KeyLevelEndorsement(channelID string) error {
	if w.channels[channelID] == nil {
		return fmt.Errorf("application config does not exist for %s", channelID)
	}
	return nil
}

func (w *world) Start(ctx context.Context, spec *runtime.Spec) (runtime.Instance, error) {
	if w.start == nil {
		return nil, errors.New("error starting container: no runtime")
	}
	return w.start(ctx, spec)
}

// conn is an in-memory stream whose chaincode side the test plays.
type conn struct {
	grpc.ServerStream
	ctx    context.Context
	toPeer chan *peer.ChaincodeMessage
	toCC   chan *peer.ChaincodeMessage
	closed chan struct{}
	ended  chan error // what Register returned
	once   sync.Once
}

// cut breaks the connection.
func (c *conn) cut() { c.once.Do(func() { close(c.closed) }) }

// connect opens a stream to the peer.
func (w *world) connect(t testing.TB) *conn {
	c := &conn{
		ctx: context.Background(), toPeer: make(chan *peer.ChaincodeMessage), toCC: make(chan *peer.ChaincodeMessage, 16),
		closed: make(chan struct{}), ended: make(chan error, 1),
	}
	go func() {
		err := w.Register(c)
		c.cut()
		c.ended <- err
	}()
	t.Cleanup(func() { c.hangUp() })
	return c
}

func (c *conn) Context() context.Context { return c.ctx }

func (c *conn) Send(m *peer.ChaincodeMessage) error {
	select {
	case c.toCC <- proto.CloneOf(m):
		return nil
	case <-c.closed:
		return io.ErrClosedPipe
	}
}

func (c *conn) Recv() (*peer.ChaincodeMessage, error) {
	select {
	case m, ok := <-c.toPeer:
		if !ok {
			return nil, io.EOF
		}
		return m, nil
	case <-c.closed:
		return nil, context.Canceled
	}
}

func (c *conn) say(m *peer.ChaincodeMessage) {
	select {
	case c.toPeer <- m:
	case <-c.closed:
	}
}

func (c *conn) hear() *peer.ChaincodeMessage {
	select {
	case m := <-c.toCC:
		return m
	case <-c.closed:
		select {
		case m := <-c.toCC:
			return m
		default:
			return nil
		}
	}
}

// hangUp half-closes the stream and waits for its end.
func (c *conn) hangUp() {
	select {
	case <-c.closed:
		return
	default:
	}
	defer func() { _ = recover() }() // closed by the test already
	close(c.toPeer)
	<-c.closed
}

func (c *conn) register(cname string) {
	payload, err := proto.Marshal(&peer.ChaincodeID{Name: cname})
	if err != nil {
		panic(err)
	}
	c.say(&peer.ChaincodeMessage{Type: peer.ChaincodeMessage_REGISTER, Payload: payload})
}

// ready registers and waits for READY.
func (c *conn) ready(t testing.TB, cname string) {
	t.Helper()
	c.register(cname)
	for _, want := range []peer.ChaincodeMessage_Type{peer.ChaincodeMessage_REGISTERED, peer.ChaincodeMessage_READY} {
		if m := c.hear(); m == nil || m.Type != want || len(m.Payload) > 0 || m.Txid != "" {
			t.Fatalf("got %v, want %s", m, want)
		}
	}
}

func args(list ...string) *peer.ChaincodeInput {
	in := &peer.ChaincodeInput{}
	for _, a := range list {
		in.Args = append(in.Args, []byte(a))
	}
	return in
}

func (w *world) tx(channel, txID string) *support.TxParams {
	st := w.channels[channel]
	return &support.TxParams{
		ChannelID: channel, TxID: txID, SignedProposal: &peer.SignedProposal{ProposalBytes: []byte("p")}, Proposal: &peer.Proposal{},
		Simulator: st.Simulate(txID), History: st,
	}
}

// waitAWhile is for polling what has no signal.
func waitAWhile() <-chan time.Time { return time.After(time.Millisecond) }
