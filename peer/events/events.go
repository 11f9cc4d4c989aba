// Package events is the peer's Deliver service: blocks and filtered blocks for
// clients that may read them (GOSSIP-DISCOVERY §19). Requests are judged by
// internal/deliver; this package adapts the peer's channels to it.
//
// State owned: a cache of recent blocks, bounded in bytes, so that a block is
// read, encoded and filtered once for all its readers. Goroutines: none of its
// own; those of the RPCs. peer/node imports it.
package events

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/internal/deliver"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/metrics"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/rpc"
	"github.com/heddle-ledger/heddle/peer/acl"
)

// defaultCacheBytes bounds the cache of recent blocks.
const defaultCacheBytes = 32 << 20

// Ledger is what reading a channel's blocks takes; *ledger.Ledger is one.
type Ledger interface {
	Height() uint64
	// WaitHeight returns when the height is at least h, or ctx has ended.
	WaitHeight(ctx context.Context, h uint64) error
	// RawBlock is the marshalled common.Block number n.
	RawBlock(n uint64) ([]byte, error)
}

// Channel is one joined channel.
type Channel struct {
	Ledger Ledger
	// Sequence is that of the config in force.
	Sequence func() uint64
}

// Access checks who may read; *acl.Checker is one.
type Access interface {
	CheckEnvelope(resource, channelID string, env *common.Envelope) error
}

// Config is what a Server needs.
type Config struct {
	// Channel finds a joined channel.
	Channel func(channelID string) (Channel, bool)
	Access  Access
	// ExpiresAt is the end of validity of a creator's certificate, zero if it
	// does not expire.
	ExpiresAt func(creator []byte) time.Time
	// TimeWindow is peer authentication.timewindow; 0 = 15 minutes.
	TimeWindow time.Duration
	// MutualTLS: requests must be bound to the client's TLS certificate.
	MutualTLS bool
	// CacheBytes bounds the cache of recent blocks; 0 selects a default.
	CacheBytes int
	Metrics    metrics.Provider
	Log        *flog.Logger
}

// Server implements the service protos.Deliver.
type Server struct {
	peer.UnimplementedDeliverServer

	cfg     Config
	handler *deliver.Handler
	recent  *blockCache
	readers atomic.Int64 // open streams
}

// New returns a Server.
func New(cfg Config) *Server {
	if cfg.CacheBytes == 0 {
		cfg.CacheBytes = defaultCacheBytes
	}
	if cfg.Metrics == nil {
		cfg.Metrics = metrics.Disabled()
	}
	if cfg.Log == nil {
		cfg.Log = flog.Nop()
	}
	s := &Server{cfg: cfg, recent: newBlockCache(cfg.CacheBytes)}
	s.handler = deliver.NewHandler(deliver.Config{
		Chains:     s.chain,
		TimeWindow: cfg.TimeWindow,
		BindTLS:    cfg.MutualTLS,
		ExpiresAt:  cfg.ExpiresAt,
		Metrics:    deliver.NewMetrics(cfg.Metrics),
		Log:        cfg.Log,
	})
	return s
}

// Committed hands over a block right after its commit, so that the readers that
// wait for it need not read and decode it again; without any reader it is not
// kept. Calling it is optional; the block must not change any more.
func (s *Server) Committed(channelID string, b *protoutil.Block) {
	if s.readers.Load() == 0 {
		return
	}
	s.recent.add(channelID, b.Number(), newCommitted(b))
}

// Deliver serves a stream of full blocks.
func (s *Server) Deliver(st peer.Deliver_DeliverServer) error {
	return s.serve(st, &fullResponder{st}, acl.EventBlock)
}

// DeliverFiltered serves a stream of filtered blocks.
func (s *Server) DeliverFiltered(st peer.Deliver_DeliverFilteredServer) error {
	log := s.cfg.Log.Named("common.deliverevents")
	return s.serve(st, &filteredResponder{stream: st, recent: s.recent, log: log}, acl.EventFilteredBlock)
}

// clientStream is either kind of stream.
type clientStream interface {
	Context() context.Context
	Recv() (*common.Envelope, error)
	responseSender
}

// responseSender sends *peer.DeliverResponse, or the same as rpc.Encoded.
type responseSender interface {
	SendMsg(m any) error
}

func (s *Server) serve(st clientStream, r deliver.Responder, resource string) error {
	s.readers.Add(1)
	defer s.readers.Add(-1)
	return s.handler.Serve(st.Context(), &deliver.Stream{
		Recv:      st.Recv,
		Responder: r,
		Access: func(env *common.Envelope, channelID string) error {
			return s.cfg.Access.CheckEnvelope(resource, channelID, env)
		},
		RemoteAddr: rpc.PeerAddress(st.Context()),
		CertHash:   rpc.PeerCertHash(st.Context()),
	})
}

func (s *Server) chain(channelID string) (deliver.Chain, bool) {
	ch, ok := s.cfg.Channel(channelID)
	if !ok {
		return nil, false
	}
	return &chain{id: channelID, channel: ch, recent: s.recent}, true
}

// chain is a channel as internal/deliver sees it. A peer's chain never loses
// touch and keeps all blocks.
type chain struct {
	id      string
	channel Channel
	recent  *blockCache
}

func (c *chain) Sequence() uint64         { return c.channel.Sequence() }
func (c *chain) Errored() <-chan struct{} { return nil }
func (c *chain) Oldest() uint64           { return 0 }
func (c *chain) Height() uint64           { return c.channel.Ledger.Height() }

// Iterator returns the blocks from a number on, which may be the height.
func (c *chain) Iterator(from uint64) (deliver.Iterator, error) {
	if from > c.Height() {
		return nil, deliver.ErrNotFound
	}
	return &iterator{chain: c, next: from}, nil
}

type iterator struct {
	chain *chain
	next  uint64
}

// Next waits for the next block.
func (it *iterator) Next(ctx context.Context) (*deliver.Block, error) {
	c := it.chain
	if err := c.channel.Ledger.WaitHeight(ctx, it.next+1); err != nil {
		return nil, err
	}
	e, ok := c.recent.get(c.id, it.next)
	if !ok {
		raw, err := c.channel.Ledger.RawBlock(it.next)
		if err != nil {
			return nil, err
		}
		e = c.recent.add(c.id, it.next, newStored(it.next, raw))
	}
	it.next++
	return e.block, nil
}

func (it *iterator) Close() {}

// fullResponder sends whole blocks.
type fullResponder struct {
	stream responseSender
}

func (r *fullResponder) Filtered() bool { return false }

func (r *fullResponder) SendStatus(s common.Status) error {
	return r.stream.SendMsg(statusResponse(s))
}

func (r *fullResponder) SendBlock(b *deliver.Block, _ string, _ *common.Envelope) error {
	return r.stream.SendMsg(rpc.Encoded(b.EncodedResponse()))
}

// filteredResponder sends filtered blocks.
type filteredResponder struct {
	stream responseSender
	recent *blockCache
	log    *flog.Logger
}

func (r *filteredResponder) Filtered() bool { return true }

func (r *filteredResponder) SendStatus(s common.Status) error {
	return r.stream.SendMsg(statusResponse(s))
}

// SendBlock sends the filtered form. A block that cannot be filtered is answered
// with BAD_REQUEST in its place, and delivery goes on (GOSSIP-DISCOVERY §19.6).
func (r *filteredResponder) SendBlock(b *deliver.Block, channelID string, _ *common.Envelope) error {
	encoded, err := r.filtered(b, channelID)
	if err != nil {
		r.log.Warningf("Failed to generate filtered block due to: %s", flog.ForeignError(err))
		return r.SendStatus(common.Status_BAD_REQUEST)
	}
	return r.stream.SendMsg(rpc.Encoded(encoded))
}

func (r *filteredResponder) filtered(b *deliver.Block, channelID string) ([]byte, error) {
	if e, ok := r.recent.get(channelID, b.Number()); ok && e.block == b {
		return e.filtered()
	}
	full, err := b.Proto()
	if err != nil {
		return nil, err
	}
	return encodeFiltered(protoutil.ParseBlock(full))
}

func statusResponse(s common.Status) *peer.DeliverResponse {
	return &peer.DeliverResponse{Type: &peer.DeliverResponse_Status{Status: s}}
}
