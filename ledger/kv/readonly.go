package kv

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/heddle-ledger/heddle/internal/vfs"
)

// JournalCut is the number of bytes behind the last complete batch of the
// journal, which opening the database for writing cuts off and a database opened
// read-only does not show.
func (d *Database) JournalCut() int64 { return d.cut }

func openReadOnly(cfg Config, fsys vfs.FS) (*Database, error) {
	entries, err := fsys.ReadDir(cfg.Dir)
	if err == nil && allUnfinished(entries) {
		err = fs.ErrNotExist
	}
	if err == nil {
		err = checkDir(fsys, cfg.Dir)
	}
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", cfg.Dir, err)
	}
	stor, err := openStorageReadOnly(fsys, cfg.Dir)
	if err != nil {
		return nil, openError(cfg.Dir, err)
	}
	ro := &readOnlyStorage{Storage: stor}
	d := &Database{stor: stor, dir: cfg.Dir}
	last, tail, err := lastJournal(fsys, cfg.Dir, stor)
	if err != nil {
		stor.Close()
		return nil, fmt.Errorf("check journal of %s: %w", cfg.Dir, err)
	}
	ro.last, ro.end, d.cut = last, tail.end, tail.cut()
	d.ldb, err = leveldb.Open(ro, cfg.options())
	if errors.Is(err, io.EOF) && len(ro.opened) > 1 {
		// goleveldb takes the end of the first journal for an error of the second:
		// show it one that goes through all of them.
		ro.joined, ro.opened = ro.opened[0], nil
		d.ldb, err = leveldb.Open(ro, cfg.options())
	}
	if err != nil {
		stor.Close()
		return nil, openError(cfg.Dir, err)
	}
	if err := d.checkFormat(); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// openStorageReadOnly locks the directory against writers, if a lock file is
// there: making one would change the directory.
func openStorageReadOnly(fsys vfs.FS, dir string) (storage.Storage, error) {
	if vfs.IsOS(fsys) {
		if _, err := fsys.Stat(path.Join(dir, "LOCK")); err == nil {
			return storage.OpenFile(dir, true)
		}
	}
	return &fileStorage{fs: fsys, dir: dir, flock: io.NopCloser(nil)}, nil
}

// lastJournal finds the journal written last, and reads it. Without one the tail is
// zero.
func lastJournal(fsys vfs.FS, dir string, stor storage.Storage) (last storage.FileDesc, tail journalTail, err error) {
	fds, err := stor.List(storage.TypeJournal)
	if err != nil || len(fds) == 0 {
		return last, tail, err
	}
	last = slices.MaxFunc(fds, func(a, b storage.FileDesc) int { return cmp.Compare(a.Num, b.Num) })
	f, err := vfs.Open(fsys, path.Join(dir, fileName(last)))
	if err != nil {
		return last, tail, err
	}
	defer f.Close()
	tail, err = readJournal(f)
	return last, tail, err
}

// errReadOnly answers every attempt to write.
var errReadOnly = errors.New("database is open for reading only")

// readOnlyStorage refuses to write, and shows the last journal up to the end of
// its complete batches: what a writer would leave of it.
type readOnlyStorage struct {
	storage.Storage
	last   storage.FileDesc // journal
	end    int64            // of the complete batches in it
	opened []storage.FileDesc
	joined storage.FileDesc // the journal that stands for itself and all later ones
}

// List implements storage.Storage.
func (s *readOnlyStorage) List(ft storage.FileType) ([]storage.FileDesc, error) {
	if ft == storage.TypeJournal && s.joined.Num != 0 {
		return []storage.FileDesc{s.joined}, nil
	}
	return s.Storage.List(ft)
}

// Open implements storage.Storage.
func (s *readOnlyStorage) Open(fd storage.FileDesc) (storage.Reader, error) {
	if fd.Type != storage.TypeJournal {
		return s.Storage.Open(fd)
	}
	s.opened = append(s.opened, fd)
	if fd == s.joined {
		return s.join()
	}
	r, _, err := s.journal(fd)
	return r, err
}

// journal opens one journal and tells the size of what it shows.
func (s *readOnlyStorage) journal(fd storage.FileDesc) (*journalReader, int64, error) {
	r, err := s.Storage.Open(fd)
	if err != nil {
		return nil, 0, err
	}
	size := s.end
	if fd != s.last {
		if size, err = r.Seek(0, io.SeekEnd); err == nil {
			_, err = r.Seek(0, io.SeekStart)
		}
		if err != nil {
			r.Close()
			return nil, 0, err
		}
	}
	return &journalReader{Reader: io.LimitReader(r, size), Closer: r}, size, nil
}

// join puts journals one behind the other. Each begins on the boundary of a
// block; zeros before it are passed over.
func (s *readOnlyStorage) join() (storage.Reader, error) {
	fds, err := s.Storage.List(storage.TypeJournal)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(fds, func(a, b storage.FileDesc) int { return cmp.Compare(a.Num, b.Num) })
	var parts []io.Reader
	var all closers
	for _, fd := range fds {
		if fd.Num < s.joined.Num {
			continue // it is in the tables already
		}
		r, size, err := s.journal(fd)
		if err != nil {
			return nil, errors.Join(err, all.Close())
		}
		all = append(all, r)
		parts = append(parts, r, io.LimitReader(zeros{}, (journalBlock-size%journalBlock)%journalBlock))
	}
	return &journalReader{Reader: io.MultiReader(parts...), Closer: all}, nil
}

// journalReader has as much of storage.Reader as a journal needs.
type journalReader struct {
	io.Reader
	io.Closer
}

func (*journalReader) ReadAt([]byte, int64) (int, error) { return 0, errors.ErrUnsupported }

func (*journalReader) Seek(int64, int) (int64, error) { return 0, errors.ErrUnsupported }

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

type closers []io.Closer

func (c closers) Close() error {
	var errs []error
	for _, one := range c {
		errs = append(errs, one.Close())
	}
	return errors.Join(errs...)
}

func (*readOnlyStorage) SetMeta(storage.FileDesc) error { return errReadOnly }

func (*readOnlyStorage) Create(storage.FileDesc) (storage.Writer, error) { return nil, errReadOnly }

func (*readOnlyStorage) Remove(storage.FileDesc) error { return errReadOnly }

func (*readOnlyStorage) Rename(_, _ storage.FileDesc) error { return errReadOnly }
