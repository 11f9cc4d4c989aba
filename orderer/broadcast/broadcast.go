// Package broadcast is the intake of an orderer: it reads envelopes from a
// client's stream, has them validated and ordered, and answers each (ORDERER §5).
//
// The messages of a stream are validated in parallel, but enqueued and answered
// in the order of their arrival, so that nobody can tell except by the clock. How
// much is read ahead of the answers is bounded, per stream and for all streams
// together (see readAhead). A Handler owns no other state besides its metrics.
// Serve starts one reader, which ends with the stream, and, while messages wait
// for validation, a few workers; what they hold is dropped when Serve returns.
// orderer/node imports the package.
package broadcast

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/orderer"
	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc/status"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/orderer/consensus"
	"github.com/heddle-ledger/heddle/orderer/msgproc"
)

// windowMessages limits what is held of one stream; readAhead limits its bytes.
const windowMessages = 128

// Channel is where the messages of a channel go.
type Channel interface {
	ProcessNormal(m *consensus.Message) (seq uint64, err error)
	ProcessConfigUpdate(m *consensus.Message) (*consensus.Message, uint64, error)
	WaitReady(ctx context.Context) error
	Order(ctx context.Context, m *consensus.Message, seq uint64) error
	Configure(ctx context.Context, m *consensus.Message, seq uint64) error
}

// Config is what a Handler needs.
type Config struct {
	// Route finds the channel that judges messages for a channel id; it is the
	// system channel for unknown ones.
	Route func(channelID string) Channel
	// Exists tells whether there is a channel; nil: there is every one.
	Exists  func(channelID string) bool
	Metrics *Metrics
	Log     *flog.Logger // root logger
}

// Handler serves the Broadcast streams of a process.
type Handler struct {
	cfg     Config
	log     *flog.Logger
	workers int
	shared  *semaphore.Weighted // bytes read ahead by all streams; see readAhead
}

// NewHandler returns a Handler.
func NewHandler(cfg Config) *Handler {
	if cfg.Exists == nil {
		cfg.Exists = func(string) bool { return true }
	}
	return &Handler{
		cfg: cfg, log: cfg.Log.Named("orderer.common.broadcast"), workers: runtime.GOMAXPROCS(0),
		shared: semaphore.NewWeighted(sharedBytes),
	}
}

// Stream is one stream of a client. Recv may be called until the stream ends,
// which it does when Serve has returned.
type Stream struct {
	Recv       func() (*common.Envelope, error)
	Send       func(*orderer.BroadcastResponse) error
	RemoteAddr string
}

// Serve answers the messages of a stream until the client ends it or a message
// is refused.
func (h *Handler) Serve(ctx context.Context, stream *Stream) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer func() {
		if r := recover(); r != nil {
			h.logPanic(r)
			err = nil
		}
	}()
	s := &session{
		h: h, stream: stream,
		ordered: make(chan *job, windowMessages),
		work:    make(chan *job, windowMessages),
		ahead:   newReadAhead(h.shared),
	}
	defer s.ahead.close()
	go s.read(ctx)
	for {
		select {
		case j := <-s.ordered:
			done, err := s.answer(ctx, j)
			if done || err != nil {
				return err
			}
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
}

func (h *Handler) logPanic(r any) {
	h.log.Criticalf("Broadcast client triggered panic: %s\n%s", r, debug.Stack())
}

// job is one message of a stream. Until validated is closed it belongs to the
// worker, afterwards to Serve.
type job struct {
	message *consensus.Message
	channel Channel
	class   msgproc.Class
	bytes   int64 // what it holds
	charge  charge

	begin     time.Time
	config    *consensus.Message // what a config update became
	seq       uint64
	took      time.Duration // of the validation
	refusal   *orderer.BroadcastResponse
	readErr   error // the stream has ended
	crashed   bool
	validated chan struct{}
	answered  chan struct{} // closed by Serve; config updates only
}

// session is the state of Serve for one stream.
type session struct {
	h      *Handler
	stream *Stream

	ordered chan *job // in the order of arrival
	work    chan *job // to be validated; as large as ordered, so that a send never waits
	ahead   *readAhead

	mu      sync.Mutex // guards workers
	workers int
}

// read takes messages from the stream until it ends or Serve has returned.
func (s *session) read(ctx context.Context) {
	for {
		env, err := s.stream.Recv()
		if err != nil {
			s.enqueue(ctx, &job{readErr: err})
			return
		}
		j := s.newJob(env)
		refused, update := j.refusal != nil, j.class == msgproc.ConfigUpdate
		if refused {
			close(j.validated)
		}
		if j.charge, err = s.ahead.admit(ctx, j.bytes); err != nil || !s.enqueue(ctx, j) {
			return
		}
		switch { // j belongs to others from here on
		case refused:
		case update:
			// What follows a config update on the stream may depend on it.
			select {
			case <-j.answered:
			case <-ctx.Done():
				return
			}
		default:
			s.work <- j
			s.spawn()
		}
	}
}

func (s *session) enqueue(ctx context.Context, j *job) bool {
	select {
	case s.ordered <- j:
		return true
	case <-ctx.Done():
		return false
	}
}

// newJob parses and classifies a message (ORDERER §5.1 steps 1 to 3).
func (s *session) newJob(env *common.Envelope) *job {
	j := &job{begin: time.Now(), validated: make(chan struct{})}
	j.bytes = int64(len(env.Payload) + len(env.Signature))
	m, err := consensus.NewMessage(env)
	if err != nil {
		j.refuse(common.Status_BAD_REQUEST, fmt.Errorf("could not determine channel ID: %w", err))
		return j
	}
	j.message = m
	switch j.class = msgproc.Classify(m.Type()); j.class {
	case msgproc.Direct:
		j.refuse(common.Status_BAD_REQUEST, msgproc.ErrNotDirect)
		return j
	case msgproc.ConfigUpdate:
		j.answered = make(chan struct{})
	}
	j.channel = s.h.cfg.Route(m.ChannelHeader().ChannelId)
	return j
}

// spawn makes sure that somebody validates what is in work.
func (s *session) spawn() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.workers < s.h.workers {
		s.workers++
		go s.validateAll()
	}
}

// validateAll is a worker: it ends when there is nothing left to validate.
func (s *session) validateAll() {
	for {
		select {
		case j := <-s.work:
			s.validate(j)
			continue
		default:
		}
		s.mu.Lock()
		// A message put into work before this point is seen here, a later one
		// finds the lower count.
		if len(s.work) > 0 {
			s.mu.Unlock()
			continue
		}
		s.workers--
		s.mu.Unlock()
		return
	}
}

func (s *session) validate(j *job) {
	defer close(j.validated)
	defer func() {
		if r := recover(); r != nil {
			s.h.logPanic(r)
			j.crashed = true
		}
	}()
	seq, err := j.channel.ProcessNormal(j.message)
	j.finishValidation(seq, err)
}

func (j *job) finishValidation(seq uint64, err error) {
	j.seq, j.took = seq, time.Since(j.begin)
	if err != nil {
		j.refuse(classifyError(err), err)
	}
}

func (j *job) refuse(status common.Status, err error) {
	j.refusal = &orderer.BroadcastResponse{Status: status, Info: err.Error()}
	if j.took == 0 {
		j.took = time.Since(j.begin)
	}
}

// classifyError chooses the status of a refusal (ORDERER §5.1).
func classifyError(err error) common.Status {
	switch {
	case errors.Is(err, msgproc.ErrChannelDoesNotExist):
		return common.Status_NOT_FOUND
	case errors.Is(err, msgproc.ErrPermissionDenied):
		return common.Status_FORBIDDEN
	case errors.Is(err, msgproc.ErrMaintenanceMode):
		return common.Status_SERVICE_UNAVAILABLE
	default:
		return common.Status_BAD_REQUEST
	}
}

// answer enqueues a message once it is validated, and answers it. done tells that
// the stream is to be ended without an error.
func (s *session) answer(ctx context.Context, j *job) (done bool, err error) {
	if j.readErr != nil {
		if errors.Is(j.readErr, io.EOF) {
			return true, nil
		}
		s.h.log.Warnf("Error reading from %s: %s", s.stream.RemoteAddr, j.readErr)
		return true, j.readErr
	}
	if j.answered != nil {
		defer close(j.answered)
		s.processUpdate(j)
	} else {
		<-j.validated
	}
	if j.crashed {
		return true, nil
	}
	defer s.ahead.done(j.charge)
	response, enqueued := s.order(ctx, j)
	if ctx.Err() != nil {
		return true, status.FromContextError(ctx.Err()).Err()
	}
	s.h.cfg.Metrics.observe(j, response.Status, enqueued, s.h.cfg.Exists)
	if err := s.stream.Send(response); err != nil {
		s.h.log.Warnf("Error sending to %s: %s", s.stream.RemoteAddr, err)
		return true, err
	}
	return response.Status != common.Status_SUCCESS, nil
}

// processUpdate validates a config update, which becomes the config message to
// order.
func (s *session) processUpdate(j *job) {
	if j.refusal != nil {
		return
	}
	config, seq, err := j.channel.ProcessConfigUpdate(j.message)
	j.finishValidation(seq, err)
	if err == nil {
		j.config = config
	}
}

// success is the answer to an accepted message, the same for all.
var success = &orderer.BroadcastResponse{Status: common.Status_SUCCESS}

// order hands a validated message to the engine. It returns the answer and how
// long the engine took, negative if it was not asked.
func (s *session) order(ctx context.Context, j *job) (*orderer.BroadcastResponse, time.Duration) {
	if j.refusal != nil {
		s.logRefusal(j)
		return j.refusal, -1
	}
	begin := time.Now()
	step, err := "Consenter", j.channel.WaitReady(ctx)
	if err == nil && j.config != nil {
		step, err = "Configure", j.channel.Configure(ctx, j.config, j.seq)
	} else if err == nil {
		step, err = "Order", j.channel.Order(ctx, j.message, j.seq)
	}
	took := time.Since(begin)
	if err != nil {
		s.h.log.Warnf("[channel: %s] Rejecting broadcast of %s message from %s with SERVICE_UNAVAILABLE: rejected by %s: %s",
			printable(j.channelID()), j.kind(), s.stream.RemoteAddr, step, printable(err.Error()))
		return &orderer.BroadcastResponse{Status: common.Status_SERVICE_UNAVAILABLE, Info: err.Error()}, took
	}
	return success, took
}

func (s *session) logRefusal(j *job) {
	id, info := printable(j.channelID()), printable(j.refusal.Info)
	if j.channel == nil {
		s.h.log.Warnf("[channel: %s] Could not get message processor for serving %s: %s", id, s.stream.RemoteAddr, info)
		return
	}
	s.h.log.Warnf("[channel: %s] Rejecting broadcast of %s message from %s because of error: %s", id, j.kind(), s.stream.RemoteAddr, info)
}

// maxLogged bounds, in bytes, what a client can put into one log line.
const maxLogged = 2048

// printable makes a text that may hold a client's words fit for one log line.
func printable(text string) string {
	if len(text) > maxLogged {
		text = text[:maxLogged] + "..."
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsGraphic(r) {
			return r
		}
		return utf8.RuneError
	}, text)
}

// unknown stands for what is not known of a message without a channel header.
const unknown = "unknown"

func (j *job) channelID() string {
	if j.message == nil {
		return unknown
	}
	return j.message.ChannelHeader().ChannelId
}

func (j *job) kind() string {
	if j.class == msgproc.ConfigUpdate {
		return "config"
	}
	return "normal"
}
