package blockfile

import (
	"context"
	"errors"
	"fmt"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
)

// A crash of the machine may leave a record whose length is right and whose end is
// not what was written. The hash in the header vouches for the transactions, and
// what is in the index, or has another block behind it, was synced. But nothing
// here tells whether the metadata of a last block are true that the index does
// not know: validation codes and commit hash. Who keeps a state can tell, and
// decides with Accept or Reject before anything is appended.

// held is a block that waits for the decision.
type held struct {
	block          *common.Block
	before, behind tip // in the same file
}

var errHeld = errors.New("it is not decided whether the last block is complete")

// hold reads the block between two tips. Errors must not be taken for damage.
func (s *Store) hold(end, before tip) error {
	body, _, err := s.files.body(end.file, before.size, end.size)
	if err != nil {
		return err
	}
	rec, err := parseRecord(body)
	if err != nil {
		return fmt.Errorf("%s at %d: %w", s.files.path(end.file), before.size, err)
	}
	s.held = &held{block: rec.block(), before: before, behind: end}
	return nil
}

// Held is the last block in the files if it waits for Accept or Reject; until then
// it does not count. Nil if there is none, as always without Config.HoldLast.
func (s *Store) Held() *common.Block {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.held == nil {
		return nil
	}
	return s.held.block
}

// Accept takes the block that is held into the chain and the index.
func (s *Store) Accept(ctx context.Context) error {
	s.appendMu.Lock()
	defer s.appendMu.Unlock()
	if s.held == nil {
		return nil
	}
	nums, err := s.files.list()
	if err != nil {
		return err
	}
	h := s.held
	s.decide(h.behind)
	err = s.syncIndex(ctx, nums, h.behind.last)
	if err == nil {
		err = s.index.Put([]byte(keyCheckpoint), h.behind.checkpoint.bytes(), false)
	}
	if err != nil {
		s.failed = err
		return fmt.Errorf("index block [%d]: %w", h.behind.last, err)
	}
	return nil
}

// Reject cuts the block that is held off.
func (s *Store) Reject() error {
	s.appendMu.Lock()
	defer s.appendMu.Unlock()
	if s.held == nil {
		return nil
	}
	h := s.held
	if err := s.applyCuts([]cut{{file: h.behind.file, from: h.before.size, size: h.behind.size}}); err != nil {
		s.failed = err
		return err
	}
	s.decide(h.before)
	return nil
}

func (s *Store) decide(t tip) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held, s.tip = nil, t
	s.published = t.checkpoint.height()
	s.height.Set(float64(s.published))
}
