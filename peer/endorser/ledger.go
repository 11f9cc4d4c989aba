package endorser

import (
	"github.com/heddle-ledger/heddle/chaincode/stream"
	"github.com/heddle-ledger/heddle/ledger"
)

// OnLedger adapts a ledger.
func OnLedger(l *ledger.Ledger) Ledger { return onLedger{l} }

type onLedger struct{ *ledger.Ledger }

func (l onLedger) Simulate(txID string) (Simulator, error) {
	return simulator(l.NewSimulator(txID))
}

func (l onLedger) SimulateHeld(txID string) (Simulator, error) {
	return simulator(l.NewHeldSimulator(txID))
}

// simulator returns a nil interface with an error, not one of a nil pointer.
func simulator(s *ledger.Simulator, err error) (Simulator, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (l onLedger) History() (stream.HistoryReader, func()) {
	h := &lazyHistory{ledger: l.Ledger, below: l.Height()}
	return h, h.done
}

// lazyHistory opens the history store when a chaincode first asks for it, since
// few do. It belongs to one simulation.
type lazyHistory struct {
	ledger   *ledger.Ledger
	below    uint64
	executor *ledger.HistoryExecutor
}

func (h *lazyHistory) GetHistoryForKey(ns, key string) (stream.HistoryIterator, error) {
	if h.executor == nil {
		x, err := h.ledger.NewHistoryExecutor(h.below)
		if err != nil {
			return nil, err
		}
		h.executor = x
	}
	return h.executor.GetHistoryForKey(ns, key)
}

func (h *lazyHistory) done() {
	if h.executor != nil {
		h.executor.Done()
	}
}
