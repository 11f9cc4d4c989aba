package blockfile

import (
	"errors"
	"fmt"
	"path"
	"slices"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/vfs"
)

// Crash points of Reset and Rollback, each behind the step that it names.
const (
	PointAfterHeight  = "blockfile/after-pre-reset-height"
	PointAfterBackup  = "blockfile/after-genesis-backup"
	PointAfterUnindex = "blockfile/after-unindex"
	PointAfterRemove  = "blockfile/after-remove-file"
	PointAfterCut     = "blockfile/after-cut"
)

// Reset takes every channel of a directory that nobody has open back to its
// genesis block (LEDGER §18.1). The databases that are built on the blocks must
// have been dropped before. Steps, each durable before the next: the index goes;
// then channel by channel the height is recorded, the genesis block is saved
// beside the block files, these are removed from the last down to the second,
// and the first is cut. Whatever the step at which a reset ends, the directory
// opens, and a repetition completes the rest.
func Reset(cfg Config) error {
	cfg = cfg.offline()
	ids, err := channelDirs(cfg.FS, cfg.Dir)
	if err != nil {
		return err
	}
	if err := vfs.DropDir(cfg.FS, path.Join(cfg.Dir, "index")); err != nil {
		return err
	}
	for _, id := range ids {
		if err := resetChannel(cfg, id); err != nil {
			return fmt.Errorf("reset channel [%s]: %w", id, err)
		}
	}
	return nil
}

// offline fills in what commands on a directory at rest need.
func (cfg Config) offline() Config {
	if cfg.FS == nil {
		cfg.FS = vfs.OS()
	}
	if cfg.Log == nil {
		cfg.Log = flog.Nop()
	}
	return cfg
}

func resetChannel(cfg Config, id string) error {
	f := newFiles(cfg.FS, channelDir(cfg.Dir, id))
	f.points = cfg.Points
	defer f.close()
	nums, err := f.list()
	if err != nil {
		return err
	}
	if len(nums) == 0 {
		return recordPreResetHeight(cfg.FS, f.dir, 1) // the reference's value for it
	}
	last, ok, err := f.lastBlock(nums)
	if err != nil {
		return err
	}
	if !ok && len(nums) == 1 {
		if err := f.headless(id); err != nil {
			return err
		}
		cfg.Log.Infof("Channel [%s] has no block yet, nothing to reset", id)
		return nil
	}
	genesis, end, err := f.genesis(id)
	if err != nil {
		return err
	}
	if err := recordPreResetHeight(cfg.FS, f.dir, last+1); err != nil {
		return err
	}
	if err := cfg.Points.Hit(PointAfterHeight); err != nil {
		return err
	}
	if err := replaceFile(cfg.FS, path.Join(f.dir, genesisBackupFile), genesis); err != nil {
		return err
	}
	if err := cfg.Points.Hit(PointAfterBackup); err != nil {
		return err
	}
	cfg.Log.Infof("Channel [%s]: keeping the genesis block of %d blocks", id, last+1)
	r := beginRemoval(cfg.Progress, Walk{Channel: id, Work: WorkReset, Total: last}, last)
	defer r.watch.Done()
	return f.cutAfter(nums, location{file: 0, offset: end}, r)
}

// headless is an error if a first file in which no block was found, as that of a
// channel whose creation was cut short, has blocks behind damage.
func (f *files) headless(id string) error {
	s := Store{files: f}
	at, found, err := s.laterBlock(tip{checkpoint: checkpoint{empty: true}}, 0, 0)
	if err == nil && found {
		err = &DamageError{Channel: id, File: f.path(0), Reason: fmt.Sprintf("block [0] expected; a later block follows at offset %d", at)}
	}
	return err
}

// genesis reads the body of record 0 and tells where the record ends.
func (f *files) genesis(id string) (body []byte, end int64, err error) {
	damaged := func(reason string) error {
		return &DamageError{Channel: id, File: f.path(0), Reason: reason}
	}
	size, exists, err := f.size(0)
	if err != nil {
		return nil, 0, err
	}
	if !exists {
		return nil, 0, damaged("the file with the genesis block is missing")
	}
	body, end, err = f.body(0, 0, size)
	if errors.Is(err, errPartial) {
		return nil, 0, damaged("the genesis block is cut")
	}
	if err != nil {
		return nil, 0, err
	}
	if rec, err := parseRecord(body); err != nil || rec.number != 0 {
		return nil, 0, damaged("the first record is not block [0]")
	}
	return body, end, nil
}

// walk visits the records at the beginning of a file, as far as they decode and
// have consecutive numbers. visit ends it by returning false.
func (f *files) walk(num int, visit func(rec *record, end int64) bool) error {
	size, _, err := f.size(num)
	if err != nil {
		return err
	}
	var next uint64
	for off := int64(0); off < size; {
		body, end, err := f.body(num, off, size)
		if errors.Is(err, errPartial) {
			return nil
		}
		if err != nil {
			return err
		}
		rec, err := parseRecord(body)
		if err != nil || off > 0 && rec.number != next {
			return nil //nolint:nilerr // damage ends the walk
		}
		if !visit(rec, end) {
			return nil
		}
		off, next = end, rec.number+1
	}
	return nil
}

// lastBlock finds the number of the last block in the files, without the index.
// Damaged records are passed over: blocks after them were committed too.
func (f *files) lastBlock(nums []int) (last uint64, ok bool, err error) {
	for _, n := range slices.Backward(nums) {
		if last, ok, err = f.lastBlockOf(n); err != nil || ok {
			return last, ok, err
		}
	}
	return 0, false, nil
}

// lastBlockOf follows the length prefixes of a file. A block has its number from
// its place in the file, so a wrong one is not believed.
func (f *files) lastBlockOf(num int) (last uint64, ok bool, err error) {
	size, _, err := f.size(num)
	if err != nil {
		return 0, false, err
	}
	var ahead uint64 // how far the next record is from the last one believed
	for off := int64(0); off < size; {
		body, end, err := f.body(num, off, size)
		if errors.Is(err, errPartial) {
			break
		}
		if err != nil {
			return 0, false, err
		}
		ahead++
		if rec, err := parseRecord(body); err == nil && (!ok || rec.number == last+ahead) {
			last, ok, ahead = rec.number, true, 0
		}
		off = end
	}
	return last, ok, nil
}

// cutAfter removes the files after a place, the highest first, and cuts the file
// there. r is told of the blocks that are gone.
func (f *files) cutAfter(nums []int, end location, r *removal) error {
	for _, n := range slices.Backward(nums) {
		if n <= end.file {
			break
		}
		first, known := f.firstBlock(n)
		if err := f.fs.Remove(f.path(n)); err != nil {
			return fmt.Errorf("remove block file: %w", err)
		}
		// A gap in the numbers must not be found after a crash.
		if err := f.fs.SyncDir(f.dir); err != nil {
			return fmt.Errorf("sync block directory: %w", err)
		}
		if known {
			r.downTo(first)
		}
		if err := f.points.Hit(PointAfterRemove); err != nil {
			return err
		}
	}
	if err := f.truncate(end.file, end.offset); err != nil {
		return fmt.Errorf("cut block file %s: %w", f.path(end.file), err)
	}
	r.all()
	return f.points.Hit(PointAfterCut)
}

// firstBlock is the number of the first block in a file, if it can be read.
func (f *files) firstBlock(num int) (first uint64, ok bool) {
	err := f.walk(num, func(rec *record, _ int64) bool {
		first, ok = rec.number, true
		return false
	})
	return first, ok && err == nil
}
