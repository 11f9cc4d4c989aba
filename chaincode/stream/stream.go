package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/flog"
)

// queueLength is the number of messages that may wait for the sender. Whoever
// finds the queue full waits until there is room, its time is up or the stream
// ends.
const queueLength = 64

// defaultQueryLimit applies when ledger.state.totalQueryLimit is unset.
const defaultQueryLimit = 10000

// Host is what the streams of a peer share; chaincode/support implements it.
type Host interface {
	// Register admits a stream under its name. An error is logged; the
	// stream stays open and unregistered.
	Register(s *Stream) error
	// Registered tells that the stream takes executions from now on.
	Registered(s *Stream)
	// Invoke carries out a chaincode-to-chaincode call (CHAINCODE §3.7).
	Invoke(ctx context.Context, from *Call, caller string, to Target, input *peer.ChaincodeInput) (*peer.ChaincodeMessage, error)
	// IsSystem tells whether a name is that of a system chaincode.
	IsSystem(name string) bool
	// KeyLevelEndorsement fails when the channel lacks the capability.
	KeyLevelEndorsement(channelID string) error
}

// Conn is the part of the gRPC stream that is used.
type Conn interface {
	Send(*peer.ChaincodeMessage) error
	Recv() (*peer.ChaincodeMessage, error)
}

// Config is what a stream needs.
type Config struct {
	Host            Host
	KeepAlive       time.Duration // 0 = off
	TotalQueryLimit int           // 0 = 10000
	Metrics         *Metrics
	Log             *flog.Logger
}

// Stream is one connected chaincode.
type Stream struct {
	cfg      Config
	cname    string // written under mu, before the stream is registered; constant afterwards
	instance Target // cname parsed
	out      chan *peer.ChaincodeMessage
	done     chan struct{} // closed when the stream has ended
	requests requestMetrics

	mu      sync.Mutex // guards machine; held for single steps only
	machine *machine
}

// New makes a stream; Serve runs it.
func New(cfg Config) *Stream {
	if cfg.TotalQueryLimit <= 0 {
		cfg.TotalQueryLimit = defaultQueryLimit
	}
	return &Stream{
		cfg:     cfg,
		out:     make(chan *peer.ChaincodeMessage, queueLength),
		done:    make(chan struct{}),
		machine: newMachine(),
	}
}

// CName returns the name the chaincode registered under, NAME:VERSION.
func (s *Stream) CName() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cname
}

// Ended tells whether the stream is over. A host must not admit it then.
func (s *Stream) Ended() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.machine.phase == ended
}

// Serve runs the stream over conn until it ends and returns why (CHAINCODE
// §2). The first message may have been received by the caller already. Serve's
// goroutine is the only one that sends; the receiver ends once conn does,
// which gRPC sees to when Serve has returned.
func (s *Stream) Serve(conn Conn, first *peer.ChaincodeMessage) error {
	defer s.terminate()
	received := make(chan error, 1)
	go func() { received <- s.receiveAll(conn, first) }()

	var tick <-chan time.Time
	if s.cfg.KeepAlive > 0 {
		ticker := time.NewTicker(s.cfg.KeepAlive)
		defer ticker.Stop()
		tick = ticker.C
	}
	keepAlive := &peer.ChaincodeMessage{Type: peer.ChaincodeMessage_KEEPALIVE}
	for {
		var msg *peer.ChaincodeMessage
		select {
		case msg = <-s.out:
		case <-tick:
			msg = keepAlive
		case err := <-received:
			return err
		}
		if err := conn.Send(msg); err != nil {
			err = fmt.Errorf("[%s] error sending %s: %w", shortTxID(msg.Txid), typeName(msg.Type), err)
			s.handle(&peer.ChaincodeMessage{Type: peer.ChaincodeMessage_ERROR, Payload: []byte(err.Error()), Txid: msg.Txid, ChannelId: msg.ChannelId}) //nolint:errcheck // an ERROR never ends the stream
			return fmt.Errorf("received error while sending message, ending chaincode support stream: %w", err)
		}
	}
}

// terminate fails what waits on the stream.
func (s *Stream) terminate() {
	s.mu.Lock()
	s.machine.terminate()
	s.mu.Unlock()
	close(s.done)
}

func (s *Stream) receiveAll(conn Conn, msg *peer.ChaincodeMessage) error {
	for {
		if msg != nil {
			if err := s.handle(msg); err != nil {
				return err
			}
		}
		var err error
		msg, err = conn.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return io.EOF
		case err != nil:
			return fmt.Errorf("receive failed: %w", err)
		case msg == nil:
			return errors.New("received nil message, ending chaincode support stream")
		}
	}
}

// handle takes one step. Whatever takes time is left to the goroutine that
// executes the transaction.
func (s *Stream) handle(msg *peer.ChaincodeMessage) error {
	s.mu.Lock()
	v := s.machine.receive(msg.Type, txKey{msg.ChannelId, msg.Txid})
	if v.action == request || v.action == deliver {
		v.tx.inbox <- msg // has room, see transaction
	}
	s.mu.Unlock()

	switch v.action {
	case register:
		s.register(msg.Payload)
	case refuse:
		s.enqueue(s.reply(msg, nil, s.refusal(msg)), nil) //nolint:errcheck // the stream has ended
	case drop:
		s.cfg.Log.Errorf("Another request pending for this CC: %s, Txid: %s, ChannelID: %s. Cannot process.", flog.Foreign(s.cname), flog.Foreign(msg.Txid), flog.Foreign(msg.ChannelId))
	case end:
		return v.err
	}
	return nil
}

// register handles REGISTER. A refused chaincode is told nothing: its stream
// stays open (CHAINCODE §2.1).
func (s *Stream) register(payload []byte) {
	id := &peer.ChaincodeID{}
	if err := proto.Unmarshal(payload, id); err != nil {
		s.cfg.Log.Errorf("Error in received REGISTER, could NOT unmarshal registration info: %s", err)
		return
	}
	s.mu.Lock()
	s.cname, s.instance = id.Name, ParseTarget(id.Name)
	s.mu.Unlock()
	if err := s.cfg.Host.Register(s); err != nil {
		s.cfg.Log.Errorf("Failed to register chaincode %s: %s", flog.Foreign(id.Name), flog.ForeignError(err))
		return
	}
	s.mu.Lock()
	if s.machine.phase == created {
		s.machine.registered()
	}
	s.mu.Unlock()
	for _, typ := range []peer.ChaincodeMessage_Type{peer.ChaincodeMessage_REGISTERED, peer.ChaincodeMessage_READY} {
		if s.enqueue(&peer.ChaincodeMessage{Type: typ}, nil) != nil {
			return
		}
	}
	// Only now: executions must queue behind READY.
	s.cfg.Host.Registered(s)
	s.cfg.Log.Debugf("Got %s for chaincodeID = %s, sending back %s", peer.ChaincodeMessage_REGISTER, id.Name, peer.ChaincodeMessage_REGISTERED)
}

// enqueue hands a message to the sender; a nil expired waits for ever.
func (s *Stream) enqueue(msg *peer.ChaincodeMessage, expired <-chan struct{}) error {
	select {
	case s.out <- msg:
		return nil
	default:
	}
	select {
	case s.out <- msg:
		return nil
	case <-expired:
		return errTimeout
	case <-s.done:
		return ErrTerminated
	}
}
