package pvtstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/ledger/kv"
	"github.com/heddle-ledger/heddle/protos/ledgerstore"
)

func (p *Provider) signal() {
	select {
	case p.due <- struct{}{}:
	default:
	}
}

// Run does the background work of all channels until the context ends. An error
// is logged; the work is tried again with the next block that has any.
func (p *Provider) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.due:
		}
		p.mu.Lock()
		stores := append([]*Store(nil), p.stores...)
		p.mu.Unlock()
		for _, s := range stores {
			if err := s.Work(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, errGone) {
				p.cfg.Log.Errorf("Channel [%s]: background work of the private data store: %s", s.id, err)
			}
		}
	}
}

// Work does the background work that is due now: purging what has expired
// (LEDGER §8.5) and moving missing entries of collections that this peer became
// eligible for (LEDGER §8.7).
func (s *Store) Work(ctx context.Context) error {
	s.mu.Lock()
	if s.height == 0 {
		s.mu.Unlock()
		return nil
	}
	work, last := s.work, s.height-1
	s.work.purge, s.work.move = false, false
	s.mu.Unlock()
	var purgeErr, moveErr error
	if work.purge {
		purgeErr = s.purge(ctx, last)
	}
	if work.move {
		moveErr = s.moveEligible(ctx, last)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.work.purge = s.work.purge || purgeErr != nil
	s.work.move = s.work.move || moveErr != nil
	return errors.Join(purgeErr, moveErr)
}

// maxPurgeBatch bounds the size of one batch of deletes.
const maxPurgeBatch = 1 << 20

// purge removes what has expired by block last. The deletes are not synced:
// reads hide expired data, and the next purge repeats what was lost.
func (s *Store) purge(ctx context.Context, last uint64) error {
	next, end := expiryRange(last)
	for {
		var err error
		if next, err = s.purgeBatch(next, end); err != nil {
			return err
		}
		if next == nil {
			return s.p.cfg.Points.Hit(PointAfterPurge)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// purgeBatch removes some entries of [start, end) and tells where to go on, nil if
// there is nothing more. Between two of them reconciliation has its turn, which
// commits wait for, so each looks at the entries as they are then.
func (s *Store) purgeBatch(start, end []byte) (next []byte, err error) {
	s.entries.Lock()
	defer s.entries.Unlock()
	if s.gone {
		return nil, errGone
	}
	it := s.db.Scan(start, end)
	defer it.Close()
	b := s.db.NewBatch()
	for next == nil && it.Next() {
		_, committing, err := parseExpiryKey(it.Key())
		if err != nil {
			return nil, it.EntryError(err)
		}
		data := &ledgerstore.ExpiryData{}
		if err := proto.Unmarshal(it.Value(), data); err != nil {
			return nil, it.EntryError(err)
		}
		purgeEntry(b, committing, data)
		b.Delete(it.Key())
		if b.Size() > maxPurgeBatch {
			next = append(append(next, it.Key()...), 0)
		}
	}
	if err := it.Err(); err != nil {
		return nil, err
	}
	return next, s.db.Write(b, false)
}

func purgeEntry(b *kv.Batch, committing uint64, data *ledgerstore.ExpiryData) {
	for ns, colls := range data.GetMap() {
		for name, txs := range colls.GetMap() {
			for _, tx := range txs.GetList() {
				b.Delete(dataKey(committing, tx, collection{ns, name}))
			}
		}
		for name := range colls.GetMissingDataMap() {
			b.Delete(missingKey(committing, collection{ns, name}))
			b.Delete(ineligibleKey(committing, collection{ns, name}))
		}
	}
}

// BecameEligible records, durably, that this peer became eligible for
// collections in a block (LEDGER §8.7). It is called before the block is
// committed, and again if it is replayed.
func (s *Store) BecameEligible(block uint64, colls map[string][]string) error {
	info := &ledgerstore.CollElgInfo{NsCollMap: map[string]*ledgerstore.CollNames{}}
	for ns, names := range colls {
		info.NsCollMap[ns] = &ledgerstore.CollNames{Entries: names}
	}
	if err := s.db.Put(eligibleKey(block), protoutil.Marshal(info), true); err != nil {
		return fmt.Errorf("record collection eligibility: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.work.move = true
	if s.height > block { // a replay; else Commit gives the signal
		s.p.signal()
	}
	return nil
}

// moveEligible works off the events of committed blocks.
func (s *Store) moveEligible(ctx context.Context, last uint64) error {
	events, err := s.events()
	if err != nil {
		return err
	}
	for _, e := range events {
		if e.block > last {
			s.mu.Lock()
			s.work.move = true // not committed yet
			s.mu.Unlock()
			continue
		}
		for ns, names := range e.info.GetNsCollMap() {
			for _, name := range names.GetEntries() {
				if err := s.moveCollection(ctx, e.block, collection{ns, name}); err != nil {
					return err
				}
			}
		}
		if err := s.db.Delete(eligibleKey(e.block), true); err != nil {
			return err
		}
	}
	return nil
}

type eligibleEvent struct {
	block uint64
	info  *ledgerstore.CollElgInfo
}

func (s *Store) events() ([]eligibleEvent, error) {
	it := s.db.Scan([]byte{prefixEligible}, []byte{prefixEligible + 1})
	defer it.Close()
	var out []eligibleEvent
	for it.Next() {
		block, _, err := kv.ReadRPV(it.Key()[1:])
		if err != nil {
			return nil, it.EntryError(err)
		}
		info := &ledgerstore.CollElgInfo{}
		if err := proto.Unmarshal(it.Value(), info); err != nil {
			return nil, it.EntryError(err)
		}
		out = append(out, eligibleEvent{block, info})
	}
	return out, it.Err()
}

// moveCollection moves the ineligible entries of a collection up to a block, in
// batches with pauses. A move may be repeated from the start.
func (s *Store) moveCollection(ctx context.Context, block uint64, c collection) error {
	for {
		more, err := s.moveBatch(block, c)
		if err != nil || !more {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(s.p.cfg.MovePause):
		}
	}
}

func (s *Store) moveBatch(block uint64, c collection) (more bool, err error) {
	s.entries.Lock()
	defer s.entries.Unlock()
	if s.gone {
		return false, errGone
	}
	// The end leaves out block 0, as the reference does.
	it := s.db.Scan(ineligibleKey(block, c), ineligibleKey(0, c))
	defer it.Close()
	prefix := len(ineligiblePrefix(c))
	b := s.db.NewBatch()
	for n := 0; it.Next(); {
		if n == s.p.cfg.MoveBatch {
			more = true
			break
		}
		at, rest, err := kv.ReadRPV(it.Key()[prefix:])
		if err != nil || len(rest) > 0 {
			continue // of a collection whose made-up name goes on with a zero byte
		}
		n++
		b.Put(missingKey(at, c), it.Value())
		b.Delete(it.Key())
	}
	if err := it.Err(); err != nil {
		return false, err
	}
	if err := s.db.Write(b, true); err != nil {
		return false, err
	}
	return more, s.p.cfg.Points.Hit(PointAfterMove)
}
