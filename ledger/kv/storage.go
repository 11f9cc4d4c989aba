package kv

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"sync"

	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/heddle-ledger/heddle/internal/vfs"
)

// openStorage gives goleveldb its files: its own implementation on the
// machine's file system, ours on any other.
func openStorage(fsys vfs.FS, dir string) (storage.Storage, error) {
	if vfs.IsOS(fsys) {
		return storage.OpenFile(dir, false)
	}
	lock, err := fsys.Lock(path.Join(dir, "LOCK"))
	if err != nil {
		return nil, err
	}
	return &fileStorage{fs: fsys, dir: dir, flock: lock}, nil
}

// fileStorage is goleveldb's file layout over a vfs: CURRENT, MANIFEST-, .log
// and .ldb files.
type fileStorage struct {
	fs    vfs.FS
	dir   string
	flock io.Closer

	mu     sync.Mutex // guards what follows
	locked bool
	closed bool
}

type storageLock struct{ s *fileStorage }

func (l storageLock) Unlock() {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	l.s.locked = false
}

func (s *fileStorage) Lock() (storage.Locker, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.locked {
		return nil, storage.ErrLocked
	}
	s.locked = true
	return storageLock{s}, nil
}

func (s *fileStorage) Log(string) {}

func fileName(fd storage.FileDesc) string {
	switch fd.Type {
	case storage.TypeManifest:
		return fmt.Sprintf("MANIFEST-%06d", fd.Num)
	case storage.TypeJournal:
		return fmt.Sprintf("%06d.log", fd.Num)
	case storage.TypeTable:
		return fmt.Sprintf("%06d.ldb", fd.Num)
	default:
		return fmt.Sprintf("%06d.tmp", fd.Num)
	}
}

func parseName(name string) (fd storage.FileDesc, ok bool) {
	if n, _ := fmt.Sscanf(name, "MANIFEST-%d", &fd.Num); n == 1 {
		fd.Type = storage.TypeManifest
		return fd, true
	}
	var ext string
	if n, _ := fmt.Sscanf(name, "%d.%s", &fd.Num, &ext); n != 2 {
		return fd, false
	}
	switch ext {
	case "log":
		fd.Type = storage.TypeJournal
	case "ldb", "sst":
		fd.Type = storage.TypeTable
	case "tmp":
		fd.Type = storage.TypeTemp
	default:
		return fd, false
	}
	return fd, true
}

func (s *fileStorage) path(fd storage.FileDesc) string { return path.Join(s.dir, fileName(fd)) }

// SetMeta replaces CURRENT: new file, sync, rename, sync of the directory.
func (s *fileStorage) SetMeta(fd storage.FileDesc) error {
	tmp := path.Join(s.dir, fmt.Sprintf("CURRENT.%d", fd.Num))
	if err := vfs.WriteFile(s.fs, tmp, []byte(fileName(fd)+"\n"), 0o644); err != nil {
		return err
	}
	if err := s.fs.Rename(tmp, path.Join(s.dir, "CURRENT")); err != nil {
		return err
	}
	return s.fs.SyncDir(s.dir)
}

func (s *fileStorage) GetMeta() (storage.FileDesc, error) {
	name := path.Join(s.dir, "CURRENT")
	b, err := vfs.ReadFile(s.fs, name)
	if err != nil {
		return storage.FileDesc{}, err
	}
	fd, ok := parseName(string(b[:max(len(b)-1, 0)]))
	if !ok || fd.Type != storage.TypeManifest {
		return storage.FileDesc{}, &storage.ErrCorrupted{Err: fmt.Errorf("content of %s", name)}
	}
	if _, err := s.fs.Stat(s.path(fd)); err != nil {
		return storage.FileDesc{}, err
	}
	return fd, nil
}

func (s *fileStorage) List(ft storage.FileType) ([]storage.FileDesc, error) {
	entries, err := s.fs.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	var out []storage.FileDesc
	for _, e := range entries {
		if fd, ok := parseName(e.Name()); ok && fd.Type&ft != 0 {
			out = append(out, fd)
		}
	}
	return out, nil
}

func (s *fileStorage) Open(fd storage.FileDesc) (storage.Reader, error) {
	f, err := vfs.Open(s.fs, s.path(fd))
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (s *fileStorage) Create(fd storage.FileDesc) (storage.Writer, error) {
	f, err := s.fs.OpenFile(s.path(fd), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, fs.FileMode(0o644))
	if err != nil {
		return nil, err
	}
	return &storageWriter{File: f, s: s, manifest: fd.Type == storage.TypeManifest}, nil
}

type storageWriter struct {
	vfs.File
	s        *fileStorage
	manifest bool
}

// Sync of a manifest also makes the tables it names findable.
func (w *storageWriter) Sync() error {
	if err := w.File.Sync(); err != nil {
		return err
	}
	if w.manifest {
		return w.s.fs.SyncDir(w.s.dir)
	}
	return nil
}

func (s *fileStorage) Remove(fd storage.FileDesc) error { return s.fs.Remove(s.path(fd)) }

func (s *fileStorage) Rename(oldFD, newFD storage.FileDesc) error {
	return s.fs.Rename(s.path(oldFD), s.path(newFD))
}

func (s *fileStorage) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	return s.flock.Close()
}
