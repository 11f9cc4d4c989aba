// Package errorfs wraps a file system and fails chosen operations, or all that
// need more room than a disk has. Only tests import it.
package errorfs

import (
	"io"
	"io/fs"

	"github.com/heddle-ledger/heddle/internal/vfs"
)

// Op names a kind of operation.
type Op string

// The operations an Injector is asked about.
const (
	OpOpen      Op = "open"
	OpRead      Op = "read" // Read and ReadAt
	OpSeek      Op = "seek"
	OpWrite     Op = "write"
	OpSync      Op = "sync"
	OpTruncate  Op = "truncate"
	OpClose     Op = "close"
	OpStat      Op = "stat" // of a name and of an open file
	OpReadDir   Op = "readdir"
	OpMkdir     Op = "mkdir"
	OpRename    Op = "rename"
	OpRemove    Op = "remove"
	OpRemoveAll Op = "removeall"
	OpSyncDir   Op = "syncdir"
	OpLock      Op = "lock"
)

// Changes tells whether an operation changes what is on the disk, or promises
// something about it.
func (op Op) Changes() bool {
	switch op {
	case OpRead, OpSeek, OpClose, OpStat, OpReadDir:
		return false
	}
	return true
}

// Injector decides on one operation. A nil error lets it pass; any other is
// returned in an *fs.PathError, as the machine's file system does. It may be
// called from several goroutines.
type Injector func(op Op, name string) error

// ShortWrite is the error of a write that comes to its end early: the first N
// bytes are written, and Err is returned. With any other error half of the bytes
// are written.
type ShortWrite struct {
	N   int
	Err error
}

func (e *ShortWrite) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *ShortWrite) Unwrap() error { return e.Err }

// New wraps a file system. If that one knows what a failed sync means, it is
// told of it; see vfs.Mem.FailSync.
func New(base vfs.FS, inject Injector) vfs.FS { return &errFS{base: base, inject: inject} }

type errFS struct {
	base   vfs.FS
	inject Injector
}

// MaxBuffer implements vfs.Small.
func (e *errFS) MaxBuffer() int {
	if s, ok := e.base.(vfs.Small); ok {
		return s.MaxBuffer()
	}
	return 0
}

func (e *errFS) ask(op Op, name string) error { return ask(e.inject, op, name) }

func ask(inject Injector, op Op, name string) error {
	if err := inject(op, name); err != nil {
		return &fs.PathError{Op: string(op), Path: name, Err: err}
	}
	return nil
}

func (e *errFS) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	if err := e.ask(OpOpen, name); err != nil {
		return nil, err
	}
	f, err := e.base.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &errFile{file: f, base: e.base, name: name, inject: e.inject}, nil
}

func (e *errFS) MkdirAll(name string, perm fs.FileMode) error {
	if err := e.ask(OpMkdir, name); err != nil {
		return err
	}
	return e.base.MkdirAll(name, perm)
}

func (e *errFS) ReadDir(name string) ([]fs.DirEntry, error) {
	if err := e.ask(OpReadDir, name); err != nil {
		return nil, err
	}
	return e.base.ReadDir(name)
}

func (e *errFS) Stat(name string) (fs.FileInfo, error) {
	if err := e.ask(OpStat, name); err != nil {
		return nil, err
	}
	return e.base.Stat(name)
}

func (e *errFS) Rename(oldName, newName string) error {
	if err := e.ask(OpRename, newName); err != nil {
		return err
	}
	return e.base.Rename(oldName, newName)
}

func (e *errFS) Remove(name string) error {
	if err := e.ask(OpRemove, name); err != nil {
		return err
	}
	return e.base.Remove(name)
}

func (e *errFS) RemoveAll(name string) error {
	if err := e.ask(OpRemoveAll, name); err != nil {
		return err
	}
	return e.base.RemoveAll(name)
}

func (e *errFS) SyncDir(name string) error {
	if err := e.ask(OpSyncDir, name); err != nil {
		return err
	}
	return e.base.SyncDir(name)
}

func (e *errFS) Lock(name string) (io.Closer, error) {
	if err := e.ask(OpLock, name); err != nil {
		return nil, err
	}
	return e.base.Lock(name)
}
