package deliver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/orderer"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/flog"
)

// DefaultTimeWindow is how far the timestamp of a request may be off.
const DefaultTimeWindow = 15 * time.Minute

// Config is what a Handler needs.
type Config struct {
	Chains Chains
	// TimeWindow is the permitted distance, either way and inclusive, between
	// the request's timestamp and now. 0 selects DefaultTimeWindow.
	TimeWindow time.Duration
	// BindTLS: the request must carry the hash of the client's TLS certificate.
	// Set with mutual TLS only.
	BindTLS bool
	// ExpiresAt tells when the certificate of a creator expires; the zero time
	// means never. nil: expiry is not checked.
	ExpiresAt func(creator []byte) time.Time
	Metrics   *Metrics
	Log       *flog.Logger
}

// Handler serves the streams of one service.
type Handler struct {
	cfg Config
	log *flog.Logger
}

// NewHandler returns a Handler.
func NewHandler(cfg Config) *Handler {
	if cfg.TimeWindow == 0 {
		cfg.TimeWindow = DefaultTimeWindow
	}
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics(nil)
	}
	if cfg.Log == nil {
		cfg.Log = flog.Nop()
	}
	return &Handler{cfg: cfg, log: cfg.Log.Named("common.deliver")}
}

// Responder sends what the handler decides. It belongs to one stream.
type Responder interface {
	SendStatus(s common.Status) error
	// SendBlock sends a block of the channel that env asked for.
	SendBlock(b *Block, channelID string, env *common.Envelope) error
	// Filtered tells whether the blocks are filtered ones (for the metrics).
	Filtered() bool
}

// Access decides whether the sender of env may read the channel. It is asked at
// the request and again after every config change.
type Access func(env *common.Envelope, channelID string) error

// Stream is one stream of a client.
type Stream struct {
	Recv      func() (*common.Envelope, error)
	Responder Responder
	Access    Access
	// RemoteAddr is for the log, CertHash the SHA-256 of the client's TLS
	// certificate, nil without one.
	RemoteAddr string
	CertHash   []byte
}

// Serve answers the requests of a stream until the client ends it or a request
// fails.
func (h *Handler) Serve(ctx context.Context, s *Stream) (err error) {
	h.cfg.Metrics.StreamsOpened.Add(1)
	defer h.cfg.Metrics.StreamsClosed.Add(1)
	defer func() {
		if r := recover(); r != nil {
			h.log.Criticalf("Deliver client triggered panic: %s\n%s", r, debug.Stack())
			err = nil
		}
	}()
	for {
		env, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			h.log.Warnf("Error reading from %s: %s", s.RemoteAddr, err)
			return err
		}
		status, err := h.serveRequest(ctx, s, env)
		if err != nil {
			return err
		}
		if err := s.Responder.SendStatus(status); err != nil {
			h.log.Warnf("Error sending to %s: %s", s.RemoteAddr, err)
			return err
		}
		if status != common.Status_SUCCESS {
			return nil
		}
	}
}

// request is one parsed seek request.
type request struct {
	stream    *Stream
	env       *common.Envelope
	channelID string
	creator   []byte
	chain     Chain
	seek      *orderer.SeekInfo
	// errored is nil for best effort readers.
	errored <-chan struct{}

	expires  time.Time
	checked  bool   // access was granted at least once
	sequence uint64 // config sequence at that time
}

// serveRequest returns the status that ends the request, or an error that ends
// the stream without one.
func (h *Handler) serveRequest(ctx context.Context, s *Stream, env *common.Envelope) (common.Status, error) {
	r, status := h.parse(s, env)
	if r == nil {
		return status, nil
	}
	labels := []string{"channel", r.channelID, "filtered", boolLabel(s.Responder.Filtered())}
	h.cfg.Metrics.RequestsReceived.With(labels...).Add(1)
	status, err := h.deliver(ctx, r, labels)
	h.cfg.Metrics.RequestsCompleted.With(append(labels, "success", boolLabel(err == nil && status == common.Status_SUCCESS))...).Add(1)
	return status, err
}

// parse does the checks up to and including the channel and the seek info. A
// nil request comes with the status to answer.
func (h *Handler) parse(s *Stream, env *common.Envelope) (*request, common.Status) {
	payload := &common.Payload{}
	if err := proto.Unmarshal(env.GetPayload(), payload); err != nil {
		h.log.Warnf("Received an envelope from %s with no payload: %s", s.RemoteAddr, err)
		return nil, common.Status_BAD_REQUEST
	}
	if payload.Header == nil {
		h.log.Warnf("Malformed envelope received from %s with bad header", s.RemoteAddr)
		return nil, common.Status_BAD_REQUEST
	}
	ch := &common.ChannelHeader{}
	if err := proto.Unmarshal(payload.Header.ChannelHeader, ch); err != nil {
		h.log.Warnf("Failed to unmarshal channel header from %s: %s", s.RemoteAddr, err)
		return nil, common.Status_BAD_REQUEST
	}
	if err := h.checkHeader(ch, s); err != nil {
		h.log.Warnf("Rejecting deliver for %s due to envelope validation error: %s", s.RemoteAddr, err)
		return nil, common.Status_BAD_REQUEST
	}
	chain, ok := h.cfg.Chains(ch.ChannelId)
	if !ok {
		h.log.Debugf("Rejecting deliver for %s because channel %s not found", s.RemoteAddr, ch.ChannelId)
		return nil, common.Status_NOT_FOUND
	}
	r := &request{stream: s, env: env, channelID: ch.ChannelId, chain: chain, seek: &orderer.SeekInfo{}}
	if err := proto.Unmarshal(payload.Data, r.seek); err != nil {
		h.log.Warnf("[channel: %s] Received a signed deliver request from %s with malformed seekInfo payload: %s", ch.ChannelId, s.RemoteAddr, err)
		return nil, common.Status_BAD_REQUEST
	}
	sh := &common.SignatureHeader{}
	if err := proto.Unmarshal(payload.Header.SignatureHeader, sh); err != nil {
		h.log.Warnf("[channel: %s] Received a deliver request from %s with malformed signature header: %s", ch.ChannelId, s.RemoteAddr, err)
		return nil, common.Status_BAD_REQUEST
	}
	r.creator = sh.Creator
	if h.cfg.ExpiresAt != nil {
		r.expires = h.cfg.ExpiresAt(sh.Creator)
	}
	return r, common.Status_SUCCESS
}

// checkHeader checks the timestamp and the TLS binding.
func (h *Handler) checkHeader(ch *common.ChannelHeader, s *Stream) error {
	if ch.GetTimestamp() == nil {
		return errors.New("channel header in envelope must contain timestamp")
	}
	sent, now := ch.Timestamp.AsTime(), time.Now()
	if d := now.Sub(sent).Abs(); d > h.cfg.TimeWindow {
		return fmt.Errorf("envelope timestamp %s is more than %s apart from current server time %s", sent, h.cfg.TimeWindow, now)
	}
	if !h.cfg.BindTLS {
		return nil
	}
	switch {
	case len(ch.TlsCertHash) == 0:
		return errors.New("client didn't include its TLS cert hash")
	case len(s.CertHash) == 0:
		return errors.New("client didn't send a TLS certificate")
	case !bytes.Equal(ch.TlsCertHash, s.CertHash):
		return fmt.Errorf("claimed TLS cert hash is %v but actual TLS cert hash is %v", ch.TlsCertHash, s.CertHash)
	}
	return nil
}

// deliver checks the errored state, access and positions, in this order, and
// streams the blocks.
func (h *Handler) deliver(ctx context.Context, r *request, labels []string) (common.Status, error) {
	if r.seek.ErrorResponse != orderer.SeekInfo_BEST_EFFORT {
		r.errored = r.chain.Errored()
	}
	if isClosed(r.errored) {
		h.log.Warnf("[channel: %s] Rejecting deliver request for %s because of consenter error", r.channelID, r.stream.RemoteAddr)
		return common.Status_SERVICE_UNAVAILABLE, nil
	}
	if !h.allowed(r) {
		return common.Status_FORBIDDEN, nil
	}
	if r.seek.Start == nil || r.seek.Stop == nil {
		h.log.Warnf("[channel: %s] Received seekInfo message from %s with missing start or stop %v, %v", r.channelID, r.stream.RemoteAddr, r.seek.Start, r.seek.Stop)
		return common.Status_BAD_REQUEST, nil
	}
	first, stop, status := positions(r)
	if status != common.Status_SUCCESS {
		h.log.Warnf("[channel: %s] Received invalid seekInfo message from %s: start number %d, stop number %d", r.channelID, r.stream.RemoteAddr, first, stop)
		return status, nil
	}
	return h.stream(ctx, r, span{first, stop}, h.cfg.Metrics.BlocksSent.With(labels...))
}

// allowed evaluates expiry, and access if it has not been since the last change
// of the config.
func (h *Handler) allowed(r *request) bool {
	if !r.expires.IsZero() && time.Now().After(r.expires) {
		h.log.Warnf("[channel: %s] Client authorization revoked for deliver request from %s: client identity expired %s before", r.channelID, r.stream.RemoteAddr, time.Since(r.expires))
		return false
	}
	seq := r.chain.Sequence()
	if r.checked && seq <= r.sequence {
		return true
	}
	if err := r.stream.Access(r.env, r.channelID); err != nil {
		h.log.Warnf("[channel: %s] Client authorization revoked for deliver request from %s: %s", r.channelID, r.stream.RemoteAddr, err)
		return false
	}
	r.checked, r.sequence = true, seq
	return true
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func boolLabel(b bool) string {
	if b {
		return "true"
	}
	return "false"
}
