package kv

import (
	"fmt"
	"sync/atomic"

	"github.com/syndtr/goleveldb/leveldb/storage"
)

// FailedError is returned by writes to a database in which an earlier write or
// sync failed. What of it is on the disk is not known then: a sync that is tried
// again may succeed although the system has thrown the data away. Opening the
// database anew finds out what is there.
type FailedError struct {
	Dir string
	Err error // the first failure
}

func (e *FailedError) Error() string {
	return fmt.Sprintf("database %s failed earlier and takes no more writes until it is opened again: %v", e.Dir, e.Err)
}

func (e *FailedError) Unwrap() error { return e.Err }

// failure remembers the first failure of a database.
type failure struct {
	dir   string
	first atomic.Pointer[FailedError]
}

func (f *failure) check() error {
	if e := f.first.Load(); e != nil {
		return e
	}
	return nil
}

// note remembers an error and returns it.
func (f *failure) note(err error) error {
	if err != nil {
		f.first.CompareAndSwap(nil, &FailedError{Dir: f.dir, Err: err})
	}
	return err
}

// guardedStorage writes nothing more once anything could not be written. goleveldb
// by itself goes on after a failed sync, and tries failed compactions again.
type guardedStorage struct {
	storage.Storage
	failure *failure
}

func (s *guardedStorage) SetMeta(fd storage.FileDesc) error {
	if err := s.failure.check(); err != nil {
		return err
	}
	return s.failure.note(s.Storage.SetMeta(fd))
}

func (s *guardedStorage) Create(fd storage.FileDesc) (storage.Writer, error) {
	if err := s.failure.check(); err != nil {
		return nil, err
	}
	w, err := s.Storage.Create(fd)
	if err != nil {
		return nil, s.failure.note(err)
	}
	return &guardedWriter{Writer: w, failure: s.failure}, nil
}

// Remove leaves everything where it is after a failure. goleveldb would remove a
// manifest that it could not finish to put in the place of another, though the
// pointer to it may be on the disk already.
func (s *guardedStorage) Remove(fd storage.FileDesc) error {
	if err := s.failure.check(); err != nil {
		return err
	}
	return s.Storage.Remove(fd)
}

type guardedWriter struct {
	storage.Writer
	failure *failure
}

func (w *guardedWriter) Write(p []byte) (int, error) {
	if err := w.failure.check(); err != nil {
		return 0, err
	}
	n, err := w.Writer.Write(p)
	return n, w.failure.note(err)
}

func (w *guardedWriter) Sync() error {
	if err := w.failure.check(); err != nil {
		return err
	}
	return w.failure.note(w.Writer.Sync())
}
