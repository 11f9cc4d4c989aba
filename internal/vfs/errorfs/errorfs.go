// Package errorfs wraps a file system and fails chosen operations. Only tests
// import it.
package errorfs

import (
	"io/fs"

	"github.com/heddle-ledger/heddle/internal/vfs"
)

// Op names a kind of operation.
type Op string

// The operations an Injector is asked about.
const (
	OpOpen     Op = "open"
	OpRead     Op = "read"
	OpWrite    Op = "write"
	OpSync     Op = "sync"
	OpTruncate Op = "truncate"
	OpRename   Op = "rename"
	OpRemove   Op = "remove"
	OpSyncDir  Op = "syncdir"
)

// Injector decides on one operation. A nil error lets it pass. It may be
// called from several goroutines.
type Injector func(op Op, name string) error

// New wraps a file system.
func New(base vfs.FS, inject Injector) vfs.FS { return &errFS{FS: base, inject: inject} }

type errFS struct {
	vfs.FS
	inject Injector
}

func (e *errFS) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	if err := e.inject(OpOpen, name); err != nil {
		return nil, err
	}
	f, err := e.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &errFile{File: f, name: name, inject: e.inject}, nil
}

func (e *errFS) Rename(oldName, newName string) error {
	if err := e.inject(OpRename, newName); err != nil {
		return err
	}
	return e.FS.Rename(oldName, newName)
}

func (e *errFS) Remove(name string) error {
	if err := e.inject(OpRemove, name); err != nil {
		return err
	}
	return e.FS.Remove(name)
}

func (e *errFS) SyncDir(name string) error {
	if err := e.inject(OpSyncDir, name); err != nil {
		return err
	}
	return e.FS.SyncDir(name)
}

type errFile struct {
	vfs.File
	name   string
	inject Injector
}

func (f *errFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.inject(OpRead, f.name); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}

// Write writes half of the bytes before it fails, as a full disk would.
func (f *errFile) Write(p []byte) (int, error) {
	if err := f.inject(OpWrite, f.name); err != nil {
		n, _ := f.File.Write(p[:len(p)/2]) // the injected error is the one to report
		return n, err
	}
	return f.File.Write(p)
}

func (f *errFile) Sync() error {
	if err := f.inject(OpSync, f.name); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f *errFile) Truncate(size int64) error {
	if err := f.inject(OpTruncate, f.name); err != nil {
		return err
	}
	return f.File.Truncate(size)
}
