package blockfile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"sort"
	"strconv"
	"strings"
	"sync"

	"github.com/heddle-ledger/heddle/internal/failpoint"
	"github.com/heddle-ledger/heddle/internal/vfs"
)

const filePrefix = "blockfile_"

// maxOpenFiles bounds the read handles a channel keeps.
const maxOpenFiles = 16

// files are the block files of one channel.
type files struct {
	fs     vfs.FS
	dir    string
	points *failpoint.Points

	mu   sync.Mutex // guards open and tick
	open map[int]*handle
	tick uint64
}

// handle is a file open for reading, closed when it has been dropped from the
// table and its last user is gone.
type handle struct {
	f       vfs.File
	users   int
	used    uint64
	dropped bool
}

func newFiles(fsys vfs.FS, dir string) *files {
	return &files{fs: fsys, dir: dir, open: map[int]*handle{}}
}

func (f *files) path(num int) string {
	return path.Join(f.dir, fmt.Sprintf("%s%06d", filePrefix, num))
}

// list returns the numbers of the existing block files in order (LEDGER §3.1).
func (f *files) list() ([]int, error) {
	entries, err := f.fs.ReadDir(f.dir)
	if err != nil {
		return nil, fmt.Errorf("list block files: %w", err)
	}
	var out []int
	for _, e := range entries {
		digits, ok := strings.CutPrefix(e.Name(), filePrefix)
		if !ok {
			continue
		}
		n, err := strconv.Atoi(digits)
		if err != nil || n < 0 {
			return nil, fmt.Errorf("block file %s: name does not end in a number; if it is none of the channel's, move it out of the directory", path.Join(f.dir, e.Name()))
		}
		out = append(out, n)
	}
	sort.Ints(out)
	return out, nil
}

// size is the size of a file; ok is false if it does not exist.
func (f *files) size(num int) (size int64, ok bool, err error) {
	info, err := f.fs.Stat(f.path(num))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	return info.Size(), true, nil
}

// appender opens a file for appending, creating it durably if missing. One that
// is there may come from an attempt that failed to sync the directory.
func (f *files) appender(num int) (vfs.File, error) {
	w, err := f.fs.OpenFile(f.path(num), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o660)
	if err != nil {
		return nil, err
	}
	if err := f.fs.SyncDir(f.dir); err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

// truncate cuts a file durably.
func (f *files) truncate(num int, size int64) error {
	w, err := f.fs.OpenFile(f.path(num), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer w.Close()
	if err := w.Truncate(size); err != nil {
		return err
	}
	return w.Sync()
}

// rewriteChunk is how much is read and written at once.
const rewriteChunk = 1 << 20

// rewrite writes the bytes of [from, to) in their places once more and makes them
// durable, whoever wrote them first.
func (f *files) rewrite(num int, from, to int64) error {
	w, err := f.fs.OpenFile(f.path(num), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer w.Close()
	if _, err := w.Seek(from, io.SeekStart); err != nil {
		return err
	}
	for buf := make([]byte, min(rewriteChunk, max(to-from, 0))); from < to; {
		part := buf[:min(int64(len(buf)), to-from)]
		if _, err := readFull(w, part, from); err != nil {
			return fmt.Errorf("read %s at %d: %w", f.path(num), from, err)
		}
		if _, err := w.Write(part); err != nil {
			return err
		}
		from += int64(len(part))
	}
	if err := w.Sync(); err != nil {
		return err
	}
	return f.fs.SyncDir(f.dir)
}

func (f *files) acquire(num int) (*handle, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	h := f.open[num]
	if h == nil {
		file, err := vfs.Open(f.fs, f.path(num))
		if err != nil {
			return nil, err
		}
		h = &handle{f: file}
		f.open[num] = h
		f.evict(num)
	}
	f.tick++
	h.users++
	h.used = f.tick
	return h, nil
}

// evict drops the handle used least recently, if there are too many.
func (f *files) evict(keep int) {
	if len(f.open) <= maxOpenFiles {
		return
	}
	oldest := -1
	for num, h := range f.open {
		if num != keep && (oldest < 0 || h.used < f.open[oldest].used) {
			oldest = num
		}
	}
	f.drop(oldest)
}

func (f *files) drop(num int) {
	h := f.open[num]
	delete(f.open, num)
	h.dropped = true
	if h.users == 0 {
		h.f.Close()
	}
}

func (f *files) release(h *handle) {
	f.mu.Lock()
	defer f.mu.Unlock()
	h.users--
	if h.dropped && h.users == 0 {
		h.f.Close()
	}
}

// close drops every handle; users still reading finish first.
func (f *files) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for num := range f.open {
		f.drop(num)
	}
}

// errPartial is returned for a record that reaches beyond the limit.
var errPartial = errors.New("record is not complete")

// bodyAt tells where the body of the record at off begins and ends. Nothing at
// or after limit belongs to it.
func bodyAt(r io.ReaderAt, off, limit int64) (begin, end int64, err error) {
	var buf [binary.MaxVarintLen64]byte
	want := min(int64(len(buf)), limit-off)
	if want <= 0 {
		return 0, 0, errPartial
	}
	n, err := r.ReadAt(buf[:want], off)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, 0, err
	}
	size, used := binary.Uvarint(buf[:n])
	if used == 0 {
		return 0, 0, errPartial
	}
	if used < 0 || size > uint64(max(limit-off-int64(used), 0)) {
		return 0, 0, errPartial
	}
	begin = off + int64(used)
	return begin, begin + int64(size), nil
}

// read reads [off, end) of a file.
func (f *files) read(num int, off, end int64) ([]byte, error) {
	h, err := f.acquire(num)
	if err != nil {
		return nil, err
	}
	defer f.release(h)
	buf := make([]byte, end-off)
	if _, err := readFull(h.f, buf, off); err != nil {
		return nil, fmt.Errorf("read %s at %d: %w", f.path(num), off, err)
	}
	return buf, nil
}

func readFull(r io.ReaderAt, buf []byte, off int64) (int, error) {
	n, err := r.ReadAt(buf, off)
	if n == len(buf) {
		return n, nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// body reads the body of the record at off and tells where the next begins. The
// length is checked against limit before anything is allocated.
func (f *files) body(num int, off, limit int64) (body []byte, next int64, err error) {
	h, err := f.acquire(num)
	if err != nil {
		return nil, 0, err
	}
	defer f.release(h)
	begin, end, err := bodyAt(h.f, off, limit)
	if err != nil {
		return nil, 0, fmt.Errorf("block record in %s at %d: %w", f.path(num), off, err)
	}
	body = make([]byte, end-begin)
	if _, err := readFull(h.f, body, begin); err != nil {
		return nil, 0, fmt.Errorf("read %s at %d: %w", f.path(num), begin, err)
	}
	return body, end, nil
}
