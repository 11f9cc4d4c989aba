package stream

import (
	"context"
	"errors"
	"fmt"

	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"
)

var errTimeout = errors.New("timeout expired while executing transaction")

// IsTimeout reports whether an execution ran out of time.
func IsTimeout(err error) bool { return errors.Is(err, errTimeout) }

// Execute sends a call to the chaincode and carries out its requests, in the
// caller's goroutine, until the result is there: COMPLETED or ERROR. The
// deadline of ctx is that of the execution, calls to other chaincodes included
// (CHAINCODE §2.5). Errors are those that follow "error sending: ".
func (s *Stream) Execute(ctx context.Context, c *Call) (*peer.ChaincodeMessage, error) {
	if c.Proposal != nil && c.SignedProposal == nil {
		return nil, errors.New("failed getting proposal context. Signed proposal is nil")
	}
	input, err := proto.Marshal(c.Input)
	if err != nil {
		return nil, fmt.Errorf("marshal chaincode input: %w", err)
	}
	tx := newTransaction(c)
	s.mu.Lock()
	err = s.machine.begin(c.key(), tx)
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	defer s.leave(tx)
	msg := &peer.ChaincodeMessage{Type: c.Type, Payload: input, Txid: c.TxID, ChannelId: c.ChannelID, Proposal: c.SignedProposal}
	for {
		if err := s.enqueue(msg, ctx.Done()); err != nil {
			return nil, outcome(ctx, err)
		}
		if msg, err = s.next(ctx, tx); err != nil {
			return nil, err
		}
		if !isRequest(msg.Type) {
			return msg, nil
		}
		msg = s.answer(ctx, tx, msg)
		s.mu.Lock()
		s.machine.answered(tx)
		s.mu.Unlock()
	}
}

// next waits for a message of the transaction.
func (s *Stream) next(ctx context.Context, tx *transaction) (*peer.ChaincodeMessage, error) {
	select {
	case msg := <-tx.inbox:
		return msg, nil
	case <-ctx.Done():
		return nil, outcome(ctx, errTimeout)
	case <-s.done:
	}
	// A result that came before the end of the stream counts.
	select {
	case msg := <-tx.inbox:
		if !isRequest(msg.Type) {
			return msg, nil
		}
	default:
	}
	return nil, ErrTerminated
}

// leave forgets the transaction. A request that came too late to be carried
// out is answered like one that comes later.
func (s *Stream) leave(tx *transaction) {
	s.mu.Lock()
	s.machine.remove(tx.call.key())
	s.mu.Unlock()
	tx.closeIterators()
	for {
		select {
		case msg := <-tx.inbox:
			if isRequest(msg.Type) {
				select {
				case s.out <- s.reply(msg, nil, s.refusal(msg)):
				default: // the chaincode does not read; it will not miss the answer
				}
			}
		default:
			return
		}
	}
}

// outcome tells a time-out from a caller that has gone away.
func outcome(ctx context.Context, err error) error {
	if errors.Is(err, errTimeout) && errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	return err
}
