package ledger

import (
	"fmt"

	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"google.golang.org/protobuf/proto"

	build "github.com/heddle-ledger/heddle/ledger/rwset"
	"github.com/heddle-ledger/heddle/ledger/state"
)

// Simulator is a QueryExecutor that records what is read and collects writes,
// which its own reads never see (LEDGER §11).
type Simulator struct {
	QueryExecutor
	txid       string
	checkWrite func(key string, value []byte) error
	kin        *kin

	// The following are guarded by QueryExecutor.mu.
	taken        bool // the results were taken
	wrote        bool
	privateQuery bool // a range scan or rich query of private data was made
	pagedQuery   bool
}

func newSimulator(txid string, snap state.Snapshot, metadataUsed func(string) bool, checkWrite func(string, []byte) error) *Simulator {
	s := &Simulator{txid: txid, checkWrite: checkWrite, kin: &kin{}}
	s.snap, s.metadataUsed = snap, metadataUsed
	s.record = build.NewBuilder()
	return s
}

// mayWrite checks the rules of LEDGER §11.6 and those of the state database.
func (s *Simulator) mayWrite(key string, value []byte) error {
	if err := s.usable(); err != nil {
		return err
	}
	if s.privateQuery {
		return &UnsupportedTxError{s.txid, reasonAfterPrivateQuery}
	}
	if s.pagedQuery {
		return &UnsupportedTxError{s.txid, reasonAfterPagedQuery}
	}
	if err := s.checkWrite(key, value); err != nil {
		return err
	}
	s.wrote = true
	return nil
}

// SetState records a write; an empty value is a delete.
func (s *Simulator) SetState(ns, key string, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.mayWrite(key, value); err != nil {
		return err
	}
	s.record.Write(ns, key, value)
	return nil
}

// DeleteState records a delete.
func (s *Simulator) DeleteState(ns, key string) error { return s.SetState(ns, key, nil) }

// SetStateMetadata records that all metadata of a key are replaced.
func (s *Simulator) SetStateMetadata(ns, key string, metadata map[string][]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.mayWrite(key, nil); err != nil {
		return err
	}
	s.record.WriteMetadata(ns, key, metadata)
	return nil
}

// DeleteStateMetadata records that all metadata of a key are removed.
func (s *Simulator) DeleteStateMetadata(ns, key string) error {
	return s.SetStateMetadata(ns, key, nil)
}

// SetPrivateData records a private write; an empty value is a delete.
func (s *Simulator) SetPrivateData(ns, coll, key string, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.knowsCollection(ns, coll); err != nil {
		return err
	}
	if err := s.mayWrite(key, value); err != nil {
		return err
	}
	s.record.WritePrivate(ns, coll, key, value)
	return nil
}

// DeletePrivateData records a private delete.
func (s *Simulator) DeletePrivateData(ns, coll, key string) error {
	return s.SetPrivateData(ns, coll, key, nil)
}

// SetPrivateDataMetadata records that all metadata of a private key are
// replaced.
func (s *Simulator) SetPrivateDataMetadata(ns, coll, key string, metadata map[string][]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.knowsCollection(ns, coll); err != nil {
		return err
	}
	if err := s.mayWrite(key, nil); err != nil {
		return err
	}
	s.record.WritePrivateMetadata(ns, coll, key, metadata)
	return nil
}

// DeletePrivateDataMetadata records that all metadata of a private key are
// removed.
func (s *Simulator) DeletePrivateDataMetadata(ns, coll, key string) error {
	return s.SetPrivateDataMetadata(ns, coll, key, nil)
}

// readOnly notes a query after which writes are refused, and refuses it after a
// write.
func (s *Simulator) readOnly(made *bool, reason string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wrote {
		return &UnsupportedTxError{s.txid, reason}
	}
	*made = true
	return nil
}

// GetStateRangePage is allowed in read-only transactions.
func (s *Simulator) GetStateRangePage(ns, start, end string, pageSize int32) (PageIterator, error) {
	if err := s.readOnly(&s.pagedQuery, reasonPagedQuery); err != nil {
		return nil, err
	}
	return s.QueryExecutor.GetStateRangePage(ns, start, end, pageSize)
}

// ExecuteQueryPage is allowed in read-only transactions.
func (s *Simulator) ExecuteQueryPage(ns, query string, pageSize int32, bookmark string) (PageIterator, error) {
	if err := s.readOnly(&s.pagedQuery, reasonPagedQuery); err != nil {
		return nil, err
	}
	return s.QueryExecutor.ExecuteQueryPage(ns, query, pageSize, bookmark)
}

// GetPrivateDataRange is allowed in read-only transactions.
func (s *Simulator) GetPrivateDataRange(ns, coll, start, end string) (Iterator, error) {
	if err := s.readOnly(&s.privateQuery, reasonPrivateQuery); err != nil {
		return nil, err
	}
	return s.QueryExecutor.GetPrivateDataRange(ns, coll, start, end)
}

// ExecuteQueryOnPrivateData is allowed in read-only transactions.
func (s *Simulator) ExecuteQueryOnPrivateData(ns, coll, query string) (Iterator, error) {
	if err := s.readOnly(&s.privateQuery, reasonPrivateQuery); err != nil {
		return nil, err
	}
	return s.QueryExecutor.ExecuteQueryOnPrivateData(ns, coll, query)
}

// SimulationResults is the outcome of a simulation.
type SimulationResults struct {
	Public  []byte                   // marshalled TxReadWriteSet
	Private *rwset.TxPvtReadWriteSet // nil without private writes
}

// Results returns what was recorded, once. It may be called after Done.
func (s *Simulator) Results() (*SimulationResults, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken {
		return nil, ErrResultsTaken
	}
	s.taken = true
	if s.failed != nil {
		return nil, s.failed
	}
	public, err := s.record.Public()
	if err != nil {
		return nil, err
	}
	private, err := s.record.Private()
	if err != nil {
		return nil, err
	}
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(public)
	if err != nil {
		return nil, err
	}
	return &SimulationResults{Public: raw, Private: private}, nil
}

func unmarshal(raw []byte, m proto.Message) error {
	if err := proto.Unmarshal(raw, m); err != nil {
		return fmt.Errorf("error unmarshaling %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	return nil
}
