package blockfile

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/heddle-ledger/heddle/internal/protoutil"
)

// cut is a tail to be removed.
type cut struct {
	file int
	from int64
	size int64 // of the file before
}

// recover brings files, checkpoint and index of a channel to one state (LEDGER
// §3.8). Committed blocks are never given up: if any is missing or unreadable
// the result is a *DamageError and nothing has been changed.
func (s *Store) recover(ctx context.Context) error {
	nums, err := s.files.list()
	if err != nil {
		return err
	}
	stored, err := s.index.Get([]byte(keyCheckpoint))
	if err != nil {
		return fmt.Errorf("read checkpoint: %w", err)
	}
	known, err := s.knownTip(stored, nums)
	if err != nil {
		return err
	}
	indexed, err := s.indexedHeight()
	if err != nil {
		return err
	}
	end, before, cuts, err := s.extend(known, nums, indexed)
	if err != nil {
		return err
	}
	if height := end.checkpoint.height(); indexed > height {
		// What is indexed was synced first, so it has been there.
		return s.damage(end.file, end.size, "the index knows block [%d], the files hold blocks up to [%d] only", indexed-1, int64(height)-1)
	}
	if err := s.settle(known, end, nums); err != nil {
		return err
	}
	if s.holdLast && stored != nil && before != nil && end.last >= indexed {
		if err := s.hold(end, *before); err != nil {
			return err
		}
		end = *before
	}
	if value := end.checkpoint.bytes(); string(value) != string(stored) {
		if err := s.index.Put([]byte(keyCheckpoint), value, true); err != nil {
			return fmt.Errorf("save checkpoint: %w", err)
		}
	}
	if err := s.applyCuts(cuts); err != nil {
		return err
	}
	s.tip = end
	return s.syncIndex(ctx, nums, indexed)
}

// settle makes the records that the scan found durable, for what is built on them
// must not be more so. They may be in the page cache only, and if the process
// before ended because their sync failed, another sync would do nothing: the
// system takes them for written. So they are written once more.
func (s *Store) settle(known, end tip, nums []int) error {
	if end.checkpoint == known.checkpoint {
		return nil
	}
	for _, n := range nums {
		if n < known.file || n > end.file {
			continue
		}
		from, to := int64(0), end.size
		if n == known.file {
			from = known.size
		}
		if n < end.file {
			size, _, err := s.files.size(n)
			if err != nil {
				return err
			}
			to = size
		}
		if err := s.files.rewrite(n, from, to); err != nil {
			return fmt.Errorf("write the last blocks once more: %w", err)
		}
	}
	return nil
}

// indexedHeight is the number of blocks that the index knows.
func (s *Store) indexedHeight() (uint64, error) {
	v, err := s.index.Get([]byte(keyIndexed))
	if err != nil {
		return 0, fmt.Errorf("read last indexed block: %w", err)
	}
	if v == nil {
		return 0, nil
	}
	last, n := binary.Uvarint(v)
	if n <= 0 || n != len(v) {
		return 0, s.entryError([]byte(keyIndexed), errMalformed)
	}
	return last + 1, nil
}

func (s *Store) applyCuts(cuts []cut) error {
	for _, c := range cuts {
		s.log.Warnf("Channel [%s]: cutting %d bytes of an incomplete block off %s at offset %d",
			s.id, c.size-c.from, s.files.path(c.file), c.from)
		if err := s.files.truncate(c.file, c.from); err != nil {
			return fmt.Errorf("cut block file: %w", err)
		}
	}
	return nil
}

func (s *Store) damage(file int, off int64, format string, args ...any) error {
	return &DamageError{Channel: s.id, File: s.files.path(file), Offset: off, Reason: fmt.Sprintf(format, args...)}
}

// knownTip is where scanning begins: the checkpoint if there is one that tells
// the truth, else the beginning of the last file.
func (s *Store) knownTip(stored []byte, nums []int) (tip, error) {
	if stored != nil {
		c, err := parseCheckpoint(stored)
		if err != nil {
			return tip{}, s.entryError([]byte(keyCheckpoint), err)
		}
		t, ok, err := s.verify(c, nums)
		if err != nil || ok {
			return t, err
		}
		s.log.Warnf("Channel [%s]: the recorded checkpoint (file %d, size %d, block %d) does not match the block files; scanning",
			s.id, c.file, c.size, c.last)
	}
	if len(nums) == 0 {
		return tip{checkpoint: checkpoint{empty: true}}, nil
	}
	last := nums[len(nums)-1]
	t, ok, err := s.tipBefore(last, nums)
	if err != nil || ok {
		return t, err
	}
	return tip{checkpoint: checkpoint{file: last, empty: true}}, nil
}

// verify checks that the record ending at the checkpoint is the recorded last
// block. ok is false if it is some other: a 1.4 peer that met garbage has
// counted it before it stopped.
func (s *Store) verify(c checkpoint, nums []int) (t tip, ok bool, err error) {
	t = tip{checkpoint: c}
	if c.empty {
		return t, c.size == 0, nil
	}
	size, exists, err := s.files.size(c.file)
	switch {
	case err != nil:
		return t, false, err
	case !exists && c.size > 0:
		return t, false, s.damage(c.file, 0, "file is missing, %d bytes expected; committed block [%d] is lost", c.size, c.last)
	case size < c.size:
		return t, false, s.shortened(c, size)
	case c.size == 0: // a new file was begun and has no block yet
		return s.tipBeforeIs(c, nums)
	}
	rec, err := s.recordEndingAt(c)
	if err != nil || rec == nil || rec.number != c.last {
		return t, false, err
	}
	if rec.isGarbled() {
		return t, false, s.damage(c.file, c.size, "the transactions of committed block [%d], which ends here, are not those of its header", c.last)
	}
	t.hash, t.prevHash = protoutil.BlockHash(rec.header()), rec.prevHash
	return t, true, nil
}

func (s *Store) tipBeforeIs(c checkpoint, nums []int) (tip, bool, error) {
	t, ok, err := s.tipBefore(c.file, nums)
	if err != nil || !ok || t.last != c.last {
		return t, false, err
	}
	return t, true, nil
}

// recordEndingAt finds the last record before a checkpoint, by the index if it
// knows the block, else by following the length prefixes.
func (s *Store) recordEndingAt(c checkpoint) (*record, error) {
	var buf [16]byte
	if loc, err := s.locate(numberKey(buf[:], c.last)); err == nil && loc.file == c.file && loc.offset < c.size {
		body, end, err := s.files.body(loc.file, loc.offset, c.size)
		if err == nil && end == c.size {
			if rec, err := parseRecord(body); err == nil {
				return rec, nil
			}
		}
	}
	rec, _, err := s.lastRecord(c.file, c.size)
	return rec, err
}

// shortened names the first record that a file has lost.
func (s *Store) shortened(c checkpoint, size int64) error {
	_, off, err := s.lastRecord(c.file, size)
	if err != nil {
		return err
	}
	if off >= size {
		off = size
	}
	return s.damage(c.file, off, "file has %d bytes, %d expected; the record at this offset is cut and committed block [%d] is damaged",
		size, c.size, c.last)
}

// tipBefore is the tip at the beginning of a file: the last record of the files
// before it. ok is false if there is none.
func (s *Store) tipBefore(file int, nums []int) (t tip, ok bool, err error) {
	for _, n := range slices.Backward(nums) {
		if n >= file {
			continue
		}
		size, _, err := s.files.size(n)
		if err != nil {
			return t, false, err
		}
		if size == 0 {
			continue
		}
		rec, off, err := s.lastRecord(n, size)
		if err != nil {
			return t, false, err
		}
		if rec == nil {
			return t, false, s.damage(n, off, "no block record ends with the file, and a later file exists")
		}
		t = t.after(rec, 0)
		t.file = file
		return t, true, nil
	}
	return t, false, nil
}

// extend follows the chain from t through its file and the later ones, and says
// what has to be cut off behind it. before is the tip before the last block, nil
// if no block was found.
func (s *Store) extend(t tip, nums []int, indexed uint64) (end tip, before *tip, cuts []cut, err error) {
	from := t.file
	best, err := s.scan(t)
	if err != nil {
		return t, nil, nil, err
	}
	for _, n := range nums {
		// A file that adds no block is not moved to: it may be one just created.
		if n <= from || best.tip.size < best.size {
			continue
		}
		probe := best.tip
		probe.file, probe.size = n, 0
		res, err := s.scan(probe)
		if err != nil {
			return t, nil, nil, err
		}
		if res.count > 0 {
			best = res
		}
	}
	end = best.tip
	switch {
	case best.count > 0 && end.last >= indexed && best.torn():
		end = best.prior
	case best.count > 0:
		before = &best.prior
	}
	cuts, err = s.leftovers(end, nums)
	return end, before, cuts, err
}

// leftovers lists what lies behind the end of the chain, or refuses if that
// contains a later block.
func (s *Store) leftovers(end tip, nums []int) ([]cut, error) {
	var cuts []cut
	for _, n := range nums {
		if n < end.file {
			continue
		}
		size, _, err := s.files.size(n)
		if err != nil {
			return nil, err
		}
		c := cut{file: n, size: size}
		if n == end.file {
			c.from = end.size
		}
		if c.from >= size {
			continue
		}
		at, found, err := s.laterBlock(end, n, c.from)
		if err != nil {
			return nil, err
		}
		if found {
			return nil, s.damage(end.file, end.size, "block [%d] expected; a later block follows in %s at offset %d",
				end.checkpoint.height(), s.files.path(n), at)
		}
		cuts = append(cuts, c)
	}
	return cuts, nil
}

// maxRebuildBatch bounds the index entries collected before they are written.
const maxRebuildBatch = 2 << 20

// syncIndex indexes the blocks that the index does not know yet. What it has
// written when it is stopped counts the next time.
func (s *Store) syncIndex(ctx context.Context, nums []int, next uint64) error {
	height := s.tip.checkpoint.height()
	if next == height {
		return nil
	}
	at, next, err := s.firstUnindexed(nums, next)
	if err != nil {
		return err
	}
	s.log.Infof("Channel [%s]: indexing blocks [%d] to [%d]", s.id, next, s.tip.last)
	watch := s.progress.Begin(Walk{Channel: s.id, Work: WorkIndex, From: next, Total: height})
	defer watch.Done()
	err = readAhead(ctx, s, aheadPlan[[]span]{
		nums: nums, at: at, from: next, to: height,
		prepare: s.prepareIndex,
		visit: func(r *aheadRecord[[]span]) error {
			watch.Set(r.number)
			return s.indexAgain(r)
		},
	})
	if err != nil && ctx.Err() == nil {
		return err
	}
	werr := s.writeIndexAgain()
	s.batch = s.index.NewBatch() // the blocks to come are smaller than what was collected
	if werr != nil || err != nil {
		return errors.Join(err, werr)
	}
	watch.Set(height)
	return nil
}

// prepareIndex does what indexing a block takes and does not depend on other
// blocks.
func (s *Store) prepareIndex(r *aheadRecord[[]span]) {
	if s.items != IndexAll {
		return
	}
	r.value = r.rec.spans(r.body, int(r.end-r.at.offset)-len(r.body))
	for i := range r.block.Len() {
		r.block.Tx(i).ID() // decoded here
	}
}

// indexAgain adds the entries of a block, and writes them when they are many.
func (s *Store) indexAgain(r *aheadRecord[[]span]) error {
	err := s.addEntries(s.batch, s.seen, indexedBlock{block: r.block, hash: r.hash, at: r.at, spans: r.value})
	if err != nil || s.batch.Size() <= maxRebuildBatch {
		return err
	}
	return s.writeIndexAgain()
}

func (s *Store) writeIndexAgain() error {
	if err := s.index.Write(s.batch, false); err != nil {
		return err
	}
	s.shrink()
	s.batch.Reset()
	clear(s.seen)
	return nil
}

// firstUnindexed says where to begin indexing: behind the last indexed block, or
// at the very beginning.
func (s *Store) firstUnindexed(nums []int, indexed uint64) (location, uint64, error) {
	start := location{file: nums[0]}
	if indexed == 0 {
		return start, 0, nil
	}
	var buf [16]byte
	loc, err := s.locate(numberKey(buf[:], indexed-1))
	if err != nil {
		return start, 0, nil //nolint:nilerr // without its entry everything is indexed again
	}
	_, end, err := s.bodyAt(loc)
	if err != nil {
		return start, 0, err
	}
	loc.offset = end
	return loc, indexed, nil
}

// spans computes the places of the transactions; prefix is the size of the
// record's length prefix.
func (r *record) spans(body []byte, prefix int) []span {
	fr := fieldReader{rest: body}
	parseHead(&fr)
	fr.uvarint()
	out := make([]span, len(r.txs))
	for i := range out {
		at := len(body) - len(fr.rest)
		fr.bytes()
		out[i] = span{prefix + at, len(body) - len(fr.rest) - at}
	}
	return out
}
