// Package blockpull is a peer's client of the ordering service's Deliver: it
// keeps one stream to one of a channel's orderers and hands the blocks, in order,
// to a Sink (GOSSIP-DISCOVERY §15).
//
// State owned: a Puller's list of endpoints and its stream. Goroutines: those of
// Run only. peer/channel imports it.
package blockpull

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"google.golang.org/grpc"

	"github.com/heddle-ledger/heddle/internal/flog"
)

// Endpoint is an address of the ordering service and whom to trust there.
type Endpoint struct {
	Address string
	Orgs    []string // organisations it belongs to; part of its identity (§15.8)
	Roots   [][]byte // PEM of the TLS roots
}

// Override replaces an address (peer.deliveryclient.addressOverrides).
type Override struct {
	From, To string
	Roots    [][]byte // PEM, added to the endpoint's
}

// Sink takes the blocks.
type Sink interface {
	// Next is the number of the first block that is wanted.
	Next() uint64
	// Accept takes block Next(), waiting as long as there is no room.
	Accept(ctx context.Context, b *common.Block) error
}

// Signer signs the requests.
type Signer interface {
	Serialize() []byte
	Sign(msg []byte) ([]byte, error)
}

// Config configures a Puller. Zero durations select the built-in values of
// peer.deliveryclient.* (GOSSIP-DISCOVERY §20).
type Config struct {
	ChannelID   string
	Endpoints   []Endpoint
	Overrides   []Override
	StaticRoots [][]byte // trusted at every endpoint (staticRootsEnabled)
	Signer      Signer
	TLSCertHash []byte // of the own client certificate, nil without TLS
	// Dial connects to an endpoint; it should keep trying until ctx ends.
	Dial func(ctx context.Context, ep Endpoint) (*grpc.ClientConn, error)
	Sink Sink
	// StaticLeader ignores ReconnectTotal.
	StaticLeader   bool
	ConnTimeout    time.Duration // per endpoint, default 3 s
	ReconnectMax   time.Duration // longest wait between attempts, default 1 h
	ReconnectTotal time.Duration // sum of waits after which to give up, default 1 h
	Log            *flog.Logger
}

// Reasons why delivery ends by itself (§15.7).
var (
	ErrGaveUp    = errors.New("could not reach the ordering service in time")
	ErrRefused   = errors.New("the ordering service refuses the requests")
	ErrCompleted = errors.New("the ordering service ended the delivery")
)

// Puller pulls the blocks of one channel.
type Puller struct {
	cfg       Config
	log, blog *flog.Logger

	mu        sync.Mutex // guards what follows
	endpoints []Endpoint // as configured, before overrides
	next      int        // index of the endpoint to try next
	interrupt context.CancelCauseFunc
}

// New makes a Puller. The endpoints are tried in random order.
func New(cfg Config) *Puller {
	if cfg.Log == nil {
		cfg.Log = flog.Nop()
	}
	if cfg.ConnTimeout <= 0 {
		cfg.ConnTimeout = 3 * time.Second
	}
	if cfg.ReconnectMax <= 0 {
		cfg.ReconnectMax = time.Hour
	}
	if cfg.ReconnectTotal <= 0 {
		cfg.ReconnectTotal = time.Hour
	}
	p := &Puller{cfg: cfg, log: cfg.Log.Named("deliveryClient"), blog: cfg.Log.Named("blocksProvider")}
	p.endpoints = slices.Clone(cfg.Endpoints)
	rand.Shuffle(len(p.endpoints), func(i, k int) { p.endpoints[i], p.endpoints[k] = p.endpoints[k], p.endpoints[i] })
	return p
}

// errInterrupted is why a stream ended that the peer itself wants renewed; no
// waiting is called for.
var errInterrupted = errors.New("endpoints changed")

// badBlockError is a block that the Sink's owner refused.
type badBlockError struct{ err error }

func (e *badBlockError) Error() string { return e.err.Error() }

// SetEndpoints replaces the endpoints, in the order given, and renews the
// connection if they differ from the present ones as a set. An empty list has no
// effect (§15.8).
func (p *Puller) SetEndpoints(eps []Endpoint) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(eps) == 0 || sameSet(eps, p.endpoints) {
		return
	}
	p.endpoints, p.next = slices.Clone(eps), 0
	p.stopStream(errInterrupted)
}

// Reject says that a block taken by the Sink turned out to be bad: the present
// stream is given up, and after a pause another endpoint is asked for the blocks
// from Sink.Next() on.
func (p *Puller) Reject(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopStream(&badBlockError{err})
}

func (p *Puller) stopStream(cause error) {
	if p.interrupt != nil {
		p.interrupt(cause)
	}
}

func sameSet(a, b []Endpoint) bool {
	key := func(e Endpoint) string {
		orgs := slices.Clone(e.Orgs)
		slices.Sort(orgs)
		return fmt.Sprintf("%q %q", e.Address, orgs)
	}
	keys := func(eps []Endpoint) []string {
		out := make([]string, 0, len(eps))
		for _, e := range eps {
			out = append(out, key(e))
		}
		slices.Sort(out)
		return slices.Compact(out)
	}
	return slices.Equal(keys(a), keys(b))
}

// candidates are the endpoints in the order in which to try them, overrides
// applied.
func (p *Puller) candidates() []Endpoint {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.endpoints)
	out := make([]Endpoint, 0, n)
	for i := range n {
		out = append(out, p.override(p.endpoints[(p.next+i)%n]))
	}
	return out
}

func (p *Puller) override(ep Endpoint) Endpoint {
	roots := slices.Concat(ep.Roots, p.cfg.StaticRoots)
	for _, o := range p.cfg.Overrides {
		if o.From == ep.Address {
			p.log.Infof("Overriding orderer endpoint %s with %s", o.From, o.To)
			ep.Address = o.To
			roots = append(roots, o.Roots...)
			break
		}
	}
	ep.Roots = roots
	return ep
}

// used notes that the i-th candidate has been tried last.
func (p *Puller) used(i int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.endpoints); n > 0 {
		p.next = (p.next + i + 1) % n
	}
}
