// Package vfs is the seam between the stores and the file system. Production
// code runs on OS(); tests run on Mem, which knows what a crash would leave
// behind, or on errorfs, which fails on command.
//
// The package owns no goroutine. It is imported by every store that keeps
// files of its own.
package vfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
)

// ErrLocked is returned by Lock when another holder has the file.
var ErrLocked = errors.New("resource temporarily unavailable")

// File is an open file. Write appends when the file was opened with O_APPEND.
// ReadAt may be called concurrently with everything but Close.
type File interface {
	io.Reader
	io.ReaderAt
	io.Writer
	io.Seeker
	io.Closer
	Sync() error
	Truncate(size int64) error
	Stat() (fs.FileInfo, error)
}

// FS is a file system. Names are slash-separated paths; errors answer to
// errors.Is with the fs.Err* values.
type FS interface {
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	MkdirAll(name string, perm fs.FileMode) error
	ReadDir(name string) ([]fs.DirEntry, error)
	Stat(name string) (fs.FileInfo, error)
	Rename(oldName, newName string) error
	Remove(name string) error
	RemoveAll(name string) error
	// SyncDir makes creations, renames and removals in a directory durable.
	SyncDir(name string) error
	// Lock takes an exclusive lock on a file, creating it if need be.
	Lock(name string) (io.Closer, error)
}

// Small is a file system on which stores are to keep their buffers below a size
// in bytes, whatever they are configured for; 0 means no bound. Tests that open
// thousands of stores spend their time on buffers otherwise.
type Small interface{ MaxBuffer() int }

// Open opens a file for reading.
func Open(fsys FS, name string) (File, error) {
	return fsys.OpenFile(name, os.O_RDONLY, 0)
}

// ReadFile returns the content of a file.
func ReadFile(fsys FS, name string) ([]byte, error) {
	f, err := Open(fsys, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// WriteFile replaces the content of a file and syncs it.
func WriteFile(fsys FS, name string, data []byte, perm fs.FileMode) (err error) {
	f, err := fsys.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, perm)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Sync()
}
