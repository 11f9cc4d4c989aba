package blockpull

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/orderer"
	"google.golang.org/grpc"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/txbuild"
)

const (
	firstRetry     = 500 * time.Millisecond // doubled before each wait (§15.4)
	firstStatus    = 100 * time.Millisecond // (§15.5)
	maxStatusWait  = 10 * time.Second
	maxWrongStatus = 10 // BAD_REQUEST and FORBIDDEN in a row that are put up with
)

// session is the running count of what went wrong.
type session struct {
	attempts int           // failures since the last successful request
	elapsed  time.Duration // waited since then
	statuses int           // statuses since the last block
	wrong    int           // BAD_REQUEST and FORBIDDEN among the latest of them, in a row
	bad      int           // times that block badNext has been refused
	badNext  uint64
	nextWait time.Duration
}

// Run pulls until ctx ends, then returns nil, or until delivery ends by itself;
// then the error says why.
func (p *Puller) Run(ctx context.Context) error {
	var s session
	for ctx.Err() == nil {
		err := p.once(ctx, &s)
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			return err
		}
		if !pause(ctx, s.nextWait) {
			break
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// once makes one connection and reads from it as long as it goes well. The error
// is the end of the delivery.
func (p *Puller) once(ctx context.Context, s *session) error {
	s.nextWait = 0
	sctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	p.mu.Lock()
	p.interrupt = cancel
	p.mu.Unlock()

	stream, conn, err := p.connect(sctx)
	if err != nil {
		return p.failed(ctx, s, cause(sctx, err))
	}
	defer conn.Close()
	s.attempts, s.elapsed = 0, 0
	for {
		resp, err := stream.Recv()
		if err != nil {
			return p.failed(ctx, s, cause(sctx, err))
		}
		switch t := resp.GetType().(type) {
		case *orderer.DeliverResponse_Status:
			return p.status(s, t.Status)
		case *orderer.DeliverResponse_Block:
			if err := p.block(sctx, t.Block); err != nil {
				return p.failed(ctx, s, cause(sctx, err))
			}
			s.statuses, s.wrong = 0, 0
		default:
			return p.failed(ctx, s, fmt.Errorf("received unknown message type %T", t))
		}
	}
}

// cause is why the stream was stopped on purpose, or err.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// failed decides how long to wait after a failure, or that it is enough.
func (p *Puller) failed(ctx context.Context, s *session, err error) error {
	if ctx.Err() != nil || errors.Is(err, errInterrupted) {
		return nil
	}
	var bad *badBlockError
	if errors.As(err, &bad) {
		p.blog.Errorf("[%s] Error verifying block: %v", p.cfg.ChannelID, bad.err)
		if next := p.cfg.Sink.Next(); next != s.badNext {
			s.bad, s.badNext = 0, next
		}
		s.nextWait = doubled(firstStatus, s.bad, maxStatusWait)
		s.bad++
		return nil
	}
	s.attempts++
	if s.elapsed >= p.cfg.ReconnectTotal {
		if !p.cfg.StaticLeader {
			p.log.Warningf("Got error: %v at %d attempt. Ceasing to retry", err, s.attempts)
			return fmt.Errorf("%w: %w", ErrGaveUp, err)
		}
		p.log.Warning("peer is a static leader, ignoring peer.deliveryclient.reconnectTotalTimeThreshold")
	}
	s.nextWait = doubled(firstRetry, s.attempts, p.cfg.ReconnectMax)
	s.elapsed += s.nextWait
	p.log.Warningf("Got error: %v , at %d attempt. Retrying in %v", err, s.attempts, s.nextWait)
	return nil
}

// doubled is first × 2^n, at most limit.
func doubled(first time.Duration, n int, limit time.Duration) time.Duration {
	d := float64(first) * math.Pow(2, float64(min(n, 62)))
	return time.Duration(math.Min(d, float64(limit)))
}

// status handles a status in place of a block (§15.5).
func (p *Puller) status(s *session, code common.Status) error {
	if code == common.Status_SUCCESS {
		p.blog.Warningf("[%s] ERROR! Received success for a seek that should never complete", p.cfg.ChannelID)
		return ErrCompleted
	}
	p.blog.Errorf("[%s] Got error %v", p.cfg.ChannelID, code)
	if code == common.Status_BAD_REQUEST || code == common.Status_FORBIDDEN {
		s.wrong++
		if s.wrong > maxWrongStatus {
			p.blog.Errorf("[%s] Wrong statuses threshold passed, stopping block provider", p.cfg.ChannelID)
			return fmt.Errorf("%w: %s", ErrRefused, code)
		}
	} else {
		s.wrong = 0
	}
	s.nextWait = doubled(firstStatus, s.statuses, maxStatusWait)
	s.statuses++
	return nil
}

func (p *Puller) block(ctx context.Context, b *common.Block) error {
	want := p.cfg.Sink.Next()
	if b.GetHeader() == nil {
		return &badBlockError{fmt.Errorf("Invalid Block on channel [%s]. Header must be different from nil.", p.cfg.ChannelID)}
	}
	switch n := b.Header.Number; {
	case n < want: // somebody else brought it meanwhile
		return nil
	case n > want:
		return &badBlockError{fmt.Errorf("expected block [%d] but received block [%d]", want, n)}
	}
	return p.cfg.Sink.Accept(ctx, b)
}

// connect tries every endpoint once and sends the request on the first that
// answers.
func (p *Puller) connect(ctx context.Context) (orderer.AtomicBroadcast_DeliverClient, *grpc.ClientConn, error) {
	eps := p.candidates()
	var addresses []string
	for i, ep := range eps {
		stream, conn, err := p.connectTo(ctx, ep)
		if err == nil {
			p.used(i)
			return stream, conn, nil
		}
		if ctx.Err() != nil {
			return nil, nil, err
		}
		p.log.Errorf("Failed connecting to endpoint %s, error: %v", ep.Address, err)
		addresses = append(addresses, ep.Address)
	}
	return nil, nil, fmt.Errorf("could not connect to any of the endpoints: %v", addresses)
}

func (p *Puller) connectTo(ctx context.Context, ep Endpoint) (orderer.AtomicBroadcast_DeliverClient, *grpc.ClientConn, error) {
	dialCtx, cancel := context.WithTimeout(ctx, p.cfg.ConnTimeout)
	defer cancel()
	conn, err := p.cfg.Dial(dialCtx, ep)
	if err != nil {
		return nil, nil, err
	}
	stream, err := orderer.NewAtomicBroadcastClient(conn).Deliver(ctx)
	if err == nil {
		err = p.seek(stream)
	}
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	return stream, conn, nil
}

// seek asks for all blocks from the next one on (§15.3).
func (p *Puller) seek(stream orderer.AtomicBroadcast_DeliverClient) error {
	next := p.cfg.Sink.Next()
	start := &orderer.SeekPosition{Type: &orderer.SeekPosition_Oldest{Oldest: &orderer.SeekOldest{}}}
	if next > 0 {
		p.log.Debugf("Starting deliver with block [%d] for channel %s", next, p.cfg.ChannelID)
		start = specified(next)
	}
	env, err := txbuild.SignedEnvelope(txbuild.EnvelopeSpec{
		Type:        int32(common.HeaderType_DELIVER_SEEK_INFO),
		ChannelID:   p.cfg.ChannelID,
		TLSCertHash: p.cfg.TLSCertHash,
		Timestamp:   time.Now().Truncate(time.Second),
		Data: protoutil.Marshal(&orderer.SeekInfo{
			Start: start, Stop: specified(math.MaxUint64), Behavior: orderer.SeekInfo_BLOCK_UNTIL_READY,
		}),
	}, p.cfg.Signer)
	if err != nil {
		return err
	}
	return stream.Send(env)
}

func specified(n uint64) *orderer.SeekPosition {
	return &orderer.SeekPosition{Type: &orderer.SeekPosition_Specified{Specified: &orderer.SeekSpecified{Number: n}}}
}
