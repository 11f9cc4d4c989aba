package blockfile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/ledger/kv"
)

// unindexGroup is the number of blocks whose index entries go in one batch
// (LEDGER §18.2).
const unindexGroup = 10

// Rollback takes one channel back to a block. It is made by PlanRollback, which
// makes all checks, and carried out by Run.
type Rollback struct {
	cfg    Config
	id     string
	target uint64
	last   uint64
	end    location // of the target block
}

// PlanRollback checks that the channel of a directory that nobody has open can
// be taken back to a block. Nothing is changed. Error texts are the reference's.
func PlanRollback(cfg Config, id string, target uint64) (*Rollback, error) {
	r := &Rollback{cfg: cfg.offline(), id: id, target: target}
	if info, err := r.cfg.FS.Stat(channelDir(cfg.Dir, id)); errors.Is(err, fs.ErrNotExist) || path.Base(id) != id || err == nil && !info.IsDir() {
		return nil, fmt.Errorf("ledgerID [%s] does not exist", id)
	} else if err != nil {
		return nil, err
	}
	f := r.files()
	defer f.close()
	nums, err := f.list()
	if err != nil {
		return nil, err
	}
	last, ok, err := f.lastBlock(nums)
	if err == nil && !ok {
		err = f.headless(id)
	}
	if err != nil {
		return nil, err
	}
	r.last = last
	if err := r.askIndex(); err != nil {
		return nil, err
	}
	if target >= r.last {
		return nil, fmt.Errorf("target block number [%d] should be less than the biggest block number [%d]", target, r.last)
	}
	r.end, err = r.findEnd(f, nums)
	return r, err
}

func (r *Rollback) files() *files {
	f := newFiles(r.cfg.FS, channelDir(r.cfg.Dir, r.id))
	f.points = r.cfg.Points
	return f
}

// askIndex lets the index name the last block if the files have lost it: then
// the rollback is the remedy, and may go to the last block that is whole.
func (r *Rollback) askIndex() error {
	db, index, err := r.openIndex()
	if err != nil {
		return err
	}
	defer db.Close()
	if top, ok, err := lastIndexed(index); err == nil && ok {
		r.last = max(r.last, top)
	}
	return nil
}

func (r *Rollback) openIndex() (*kv.Database, *kv.Store, error) {
	db, err := kv.Open(kv.Config{Dir: r.indexDir(), FS: r.cfg.FS, BloomBits: indexBloomBits, Points: r.cfg.Points})
	if err != nil {
		return nil, nil, fmt.Errorf("open block index: %w", err)
	}
	return db, db.Store(r.id), nil
}

func (r *Rollback) indexDir() string { return path.Join(r.cfg.Dir, "index") }

// lastIndexed is the last block that the index knows; ok is false if it knows
// none.
func lastIndexed(index *kv.Store) (last uint64, ok bool, err error) {
	v, err := index.Get([]byte(keyIndexed))
	if err != nil || v == nil {
		return 0, false, err
	}
	last, n := binary.Uvarint(v)
	if n <= 0 || n != len(v) {
		return 0, false, fmt.Errorf("%w: last indexed block: %w", errUnknownBlock, errMalformed)
	}
	return last, true, nil
}

// findEnd finds the end of the target block: in the last file that begins with
// it or a block before it. The index is not asked; it may be gone or wrong.
func (r *Rollback) findEnd(f *files, nums []int) (location, error) {
	for _, n := range slices.Backward(nums) {
		var first, last *uint64
		var end int64
		err := f.walk(n, func(rec *record, e int64) bool {
			if first == nil {
				first = &rec.number
			}
			last, end = &rec.number, e
			return rec.number < r.target
		})
		if err != nil {
			return location{}, err
		}
		if first == nil || *first > r.target {
			continue
		}
		if *last != r.target {
			return location{}, &DamageError{
				Channel: r.id, File: f.path(n), Offset: end,
				Reason: fmt.Sprintf("block [%d] cannot be read, so the target block [%d] is not found", *last+1, r.target),
			}
		}
		return location{file: n, offset: end}, nil
	}
	return location{}, &DamageError{Channel: r.id, File: f.path(0), Reason: fmt.Sprintf("the target block [%d] is in none of the files", r.target)}
}

// Run carries the rollback out (LEDGER §18.2). The databases that are built on
// the blocks must have been dropped before. Steps, each durable before the next:
// the height is recorded; the index entries of the blocks go, from the top; the
// checkpoint goes; later files go, the highest first; the file is cut. Whatever
// the step at which it ends, the directory opens, and unless the last step has
// been done a repetition completes the rest.
func (r *Rollback) Run() error {
	f := r.files()
	defer f.close()
	nums, err := f.list()
	if err != nil {
		return err
	}
	if err := recordPreResetHeight(r.cfg.FS, f.dir, r.last+1); err != nil {
		return err
	}
	if err := f.points.Hit(PointAfterHeight); err != nil {
		return err
	}
	removed := beginRemoval(r.cfg.Progress, Walk{Channel: r.id, Work: WorkRollback, Total: r.last - r.target}, r.last)
	defer removed.watch.Done()
	if err := r.unindex(f, removed); err != nil {
		return fmt.Errorf("remove index entries of channel [%s]: %w", r.id, err)
	}
	if err := f.points.Hit(PointAfterUnindex); err != nil {
		return err
	}
	r.cfg.Log.Infof("Channel [%s]: removing blocks %d to %d", r.id, r.target+1, r.last)
	return f.cutAfter(nums, r.end, removed)
}

// errUnknownBlock says that the entries of a block cannot be told.
var errUnknownBlock = errors.New("block of an index entry cannot be read")

// unindex removes the entries of the blocks after the target, and the
// checkpoint. If damaged files do not tell what the entries are, the whole index
// is dropped: it is rebuilt from the files when they are opened.
func (r *Rollback) unindex(f *files, removed *removal) error {
	db, index, err := r.openIndex()
	if err != nil {
		return err
	}
	err = r.removeEntries(index, f, removed)
	if err == nil {
		err = index.Delete([]byte(keyCheckpoint), true) // makes the entries' removal durable too
	}
	closed := db.Close()
	if errors.Is(err, errUnknownBlock) && closed == nil {
		r.cfg.Log.Warnf("Channel [%s]: %s; dropping the block index of all channels, it will be rebuilt", r.id, err)
		return vfs.DropDir(r.cfg.FS, r.indexDir())
	}
	return errors.Join(err, closed)
}

func (r *Rollback) removeEntries(index *kv.Store, f *files, removed *removal) error {
	top, ok, err := lastIndexed(index)
	if err != nil || !ok {
		return err
	}
	batch := index.NewBatch()
	for top > r.target {
		batch.Reset()
		for range unindexGroup {
			if err := removeBlockEntries(batch, index, f, top); err != nil {
				return err
			}
			if top--; top == r.target {
				break
			}
		}
		batch.Put([]byte(keyIndexed), binary.AppendUvarint(nil, top))
		if err := index.Write(batch, false); err != nil {
			return err
		}
		removed.downTo(top + 1)
	}
	return nil
}

// removeBlockEntries removes all entries of one block. Those under a transaction
// id belong to the block in which the id came first (LEDGER §3.6).
func removeBlockEntries(batch *kv.Batch, index *kv.Store, f *files, num uint64) error {
	var keyBuf [128]byte
	place, err := index.Get(numberKey(keyBuf[:], num))
	if err != nil {
		return err
	}
	rec, err := readIndexed(f, place)
	if err != nil {
		return fmt.Errorf("%w: block [%d]: %w", errUnknownBlock, num, err)
	}
	if rec.number != num {
		return fmt.Errorf("%w: block [%d] is expected where block [%d] is", errUnknownBlock, num, rec.number)
	}
	if rec.isGarbled() {
		return fmt.Errorf("%w: block [%d] has other transactions than its header says", errUnknownBlock, num)
	}
	batch.Delete(numberKey(keyBuf[:], num))
	batch.Delete(hashKey(keyBuf[:], protoutil.BlockHash(rec.header())))
	block := protoutil.ParseBlock(rec.block())
	for i := range block.Len() {
		batch.Delete(blockTxKey(keyBuf[:], num, uint64(i)))
		id := block.Tx(i).ID()
		of, err := index.Get(txKey(keyBuf[:], prefixTxBlock, id))
		if err != nil {
			return err
		}
		if of == nil || string(of) != string(place) {
			continue
		}
		for _, prefix := range []byte{prefixTx, prefixTxBlock, prefixCode} {
			batch.Delete(txKey(keyBuf[:], prefix, id))
		}
	}
	return nil
}

func readIndexed(f *files, place []byte) (*record, error) {
	loc, err := parseLocation(place)
	if err != nil {
		return nil, err
	}
	size, _, err := f.size(loc.file)
	if err != nil {
		return nil, err
	}
	body, _, err := f.body(loc.file, loc.offset, size)
	if err != nil {
		return nil, err
	}
	return parseRecord(body)
}
