package errorfs

import (
	"io/fs"
	"os"
	"sync"
	"syscall"

	"github.com/heddle-ledger/heddle/internal/vfs"
)

// Disk bounds the bytes that may be written to a file system: what does not fit
// gives ENOSPC after the part that does. New files and directories need room
// for one byte. Removing frees nothing; AddRoom does.
type Disk struct {
	vfs.FS

	mu   sync.Mutex // guards what follows
	left int64
	full bool
}

// NewDisk wraps a file system with room for so many bytes.
func NewDisk(base vfs.FS, room int64) *Disk { return &Disk{FS: base, left: room} }

// AddRoom makes room for more bytes.
func (d *Disk) AddRoom(bytes int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left += bytes
}

// WasFull tells whether anything was refused so far.
func (d *Disk) WasFull() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.full
}

// take grants up to n bytes.
func (d *Disk) take(n int64) int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	got := min(n, max(d.left, 0))
	d.left -= got
	d.full = d.full || got < n
	return got
}

// OpenFile implements vfs.FS.
func (d *Disk) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	if flag&os.O_CREATE != 0 {
		if _, err := d.FS.Stat(name); err != nil && d.take(1) < 1 {
			return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.ENOSPC}
		}
	}
	f, err := d.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &diskFile{File: f, disk: d, name: name}, nil
}

// MkdirAll implements vfs.FS.
func (d *Disk) MkdirAll(name string, perm fs.FileMode) error {
	if _, err := d.FS.Stat(name); err != nil && d.take(1) < 1 {
		return &fs.PathError{Op: "mkdir", Path: name, Err: syscall.ENOSPC}
	}
	return d.FS.MkdirAll(name, perm)
}

type diskFile struct {
	vfs.File
	disk *Disk
	name string
}

func (f *diskFile) Write(p []byte) (int, error) {
	room := f.disk.take(int64(len(p)))
	n, err := f.File.Write(p[:room])
	if err == nil && n < len(p) {
		err = &fs.PathError{Op: "write", Path: f.name, Err: syscall.ENOSPC}
	}
	return n, err
}
