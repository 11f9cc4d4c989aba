package kv

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

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
	if err == nil && len(entries) == 0 {
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
	if ro.journal, ro.end, d.cut, err = lastJournal(fsys, cfg.Dir, stor); err != nil {
		stor.Close()
		return nil, fmt.Errorf("check journal of %s: %w", cfg.Dir, err)
	}
	if d.ldb, err = leveldb.Open(ro, cfg.options()); err != nil {
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

// lastJournal finds the journal written last, where its complete batches end and
// how many bytes follow.
func lastJournal(fsys vfs.FS, dir string, stor storage.Storage) (fd storage.FileDesc, end, cut int64, err error) {
	fds, err := stor.List(storage.TypeJournal)
	if err != nil || len(fds) == 0 {
		return fd, 0, 0, err
	}
	fd = fds[0]
	for _, f := range fds {
		if f.Num > fd.Num {
			fd = f
		}
	}
	f, err := vfs.Open(fsys, path.Join(dir, fileName(fd)))
	if err != nil {
		return fd, 0, 0, err
	}
	defer f.Close()
	end, size, err := journalEnd(f)
	return fd, end, size - end, err
}

// errReadOnly answers every attempt to write.
var errReadOnly = errors.New("database is open for reading only")

// readOnlyStorage refuses to write, and shows the last journal up to the end of
// its complete batches: what a writer would leave of it.
type readOnlyStorage struct {
	storage.Storage
	journal storage.FileDesc
	end     int64
}

func (s *readOnlyStorage) Open(fd storage.FileDesc) (storage.Reader, error) {
	r, err := s.Storage.Open(fd)
	if err != nil || fd != s.journal {
		return r, err
	}
	return &shortReader{SectionReader: io.NewSectionReader(r, 0, s.end), Closer: r}, nil
}

type shortReader struct {
	*io.SectionReader
	io.Closer
}

func (*readOnlyStorage) SetMeta(storage.FileDesc) error { return errReadOnly }

func (*readOnlyStorage) Create(storage.FileDesc) (storage.Writer, error) { return nil, errReadOnly }

func (*readOnlyStorage) Remove(storage.FileDesc) error { return errReadOnly }

func (*readOnlyStorage) Rename(_, _ storage.FileDesc) error { return errReadOnly }
