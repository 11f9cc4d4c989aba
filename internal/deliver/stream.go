package deliver

import (
	"context"
	"errors"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/orderer"

	"github.com/heddle-ledger/heddle/internal/metrics"
)

// span is the range of blocks of a request, both ends included. A stop below
// the start is never reached.
type span struct{ first, stop uint64 }

// positions turns start and stop into numbers (SURFACE §11.1). The quirks are
// the reference's: newest as stop is fixed now and not compared with the start,
// and a stop without a type reads as 0.
func positions(r *request) (first, stop uint64, status common.Status) {
	height := r.chain.Height()
	newest := height - 1
	switch p := r.seek.Start.GetType().(type) {
	case *orderer.SeekPosition_Oldest:
		first = r.chain.Oldest()
	case *orderer.SeekPosition_Newest:
		first = newest
	case *orderer.SeekPosition_Specified:
		first = p.Specified.GetNumber()
		if first > height {
			return first, 0, common.Status_NOT_FOUND
		}
	default:
		return 0, 0, common.Status_NOT_FOUND
	}
	switch p := r.seek.Stop.GetType().(type) {
	case *orderer.SeekPosition_Oldest:
		stop = first
	case *orderer.SeekPosition_Newest:
		stop = newest
	case *orderer.SeekPosition_Specified:
		stop = p.Specified.GetNumber()
		if stop < first {
			return first, stop, common.Status_BAD_REQUEST
		}
	}
	return first, stop, common.Status_SUCCESS
}

// stream sends the blocks of the span. The wait for a new block ends when the
// chain becomes errored or the client leaves.
func (h *Handler) stream(ctx context.Context, r *request, s span, sent metrics.Counter) (common.Status, error) {
	it, err := r.chain.Iterator(s.first)
	if err != nil {
		return h.readFailure(r, s.first, err), nil
	}
	defer it.Close()
	waitCtx, stopWatch := watch(ctx, r.errored)
	defer stopWatch()

	for next := s.first; ; next++ {
		if r.seek.Behavior == orderer.SeekInfo_FAIL_IF_NOT_READY && next >= r.chain.Height() {
			return common.Status_NOT_FOUND, nil
		}
		block, err := it.Next(waitCtx)
		if ctx.Err() != nil {
			h.log.Debugf("Context canceled, aborting wait for next block")
			return 0, ctx.Err()
		}
		if isClosed(r.errored) {
			h.log.Warnf("Aborting deliver for request because of background error")
			return common.Status_SERVICE_UNAVAILABLE, nil
		}
		if err != nil {
			return h.readFailure(r, next, err), nil
		}
		// Access may have been lost while the block was waited for.
		if !h.allowed(r) {
			return common.Status_FORBIDDEN, nil
		}
		if err := r.stream.Responder.SendBlock(block, r.channelID, r.env); err != nil {
			h.log.Warnf("[channel: %s] Error sending to %s: %s", r.channelID, r.stream.RemoteAddr, err)
			return 0, err
		}
		sent.Add(1)
		if block.Number() == s.stop {
			return common.Status_SUCCESS, nil
		}
	}
}

func (h *Handler) readFailure(r *request, number uint64, err error) common.Status {
	if errors.Is(err, ErrNotFound) {
		return common.Status_NOT_FOUND
	}
	h.log.Errorf("[channel: %s] Error reading block %d: %s", r.channelID, number, err)
	return common.Status_INTERNAL_SERVER_ERROR
}

// watch returns a context that also ends when errored is closed. The goroutine
// it needs for that ends at the latest with stop.
func watch(ctx context.Context, errored <-chan struct{}) (_ context.Context, stop func()) {
	if errored == nil {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-errored:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}
