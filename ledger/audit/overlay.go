package audit

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/heddle-ledger/heddle/internal/vfs"
)

// overlay is a file system in which a directory can be written to without being
// changed: what is written goes to another directory and hides what lies below.
// Nothing is synced, because it is for temporary use.
type overlay struct {
	vfs.FS       // the machine's
	lower, upper string

	mu   sync.Mutex // guards gone
	gone []string   // names that are hidden, with all below them
}

func newOverlay(lower, upper string) *overlay {
	return &overlay{FS: vfs.OS(), lower: lower, upper: upper}
}

// hide makes a name below the directory look removed.
func (o *overlay) hide(name string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !slices.Contains(o.gone, name) {
		o.gone = append(o.gone, name)
	}
}

func (o *overlay) hidden(name string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.ContainsFunc(o.gone, func(g string) bool { return name == g || strings.HasPrefix(name, g+"/") })
}

// up is where a name lies once it has been written.
func (o *overlay) up(name string) string {
	rel, err := filepath.Rel(o.lower, name)
	if err != nil || strings.HasPrefix(rel, "..") {
		rel = "outside" // nothing asks for such
	}
	return filepath.Join(o.upper, rel)
}

// where is the file that a name stands for now.
func (o *overlay) where(name string) (string, error) {
	up := o.up(name)
	if _, err := os.Lstat(up); err == nil {
		return up, nil
	}
	if o.hidden(name) {
		return "", &fs.PathError{Op: "open", Path: name, Err: syscall.ENOENT}
	}
	return name, nil
}

// OpenFile implements vfs.FS; a file opened for writing is copied first.
func (o *overlay) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	if flag&(os.O_WRONLY|os.O_RDWR|os.O_CREATE|os.O_TRUNC|os.O_APPEND) == 0 {
		at, err := o.where(name)
		if err != nil {
			return nil, err
		}
		return o.FS.OpenFile(at, flag, perm)
	}
	up := o.up(name)
	if err := os.MkdirAll(filepath.Dir(up), 0o755); err != nil {
		return nil, err
	}
	if at, err := o.where(name); err == nil && at != up {
		if err := copyFile(up, at, flag&os.O_TRUNC != 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	f, err := o.FS.OpenFile(up, flag, perm)
	if err != nil {
		return nil, err
	}
	return unsynced{f}, nil
}

func copyFile(to, from string, empty bool) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	if !empty {
		_, err = io.Copy(out, in)
	}
	return errors.Join(err, out.Close())
}

type unsynced struct{ vfs.File }

func (unsynced) Sync() error { return nil }

// MkdirAll implements vfs.FS.
func (o *overlay) MkdirAll(name string, perm fs.FileMode) error {
	return os.MkdirAll(o.up(name), perm)
}

// ReadDir implements vfs.FS.
func (o *overlay) ReadDir(name string) ([]fs.DirEntry, error) {
	upper, upErr := os.ReadDir(o.up(name))
	var lower []fs.DirEntry
	lowErr := error(fs.ErrNotExist)
	if !o.hidden(name) {
		lower, lowErr = os.ReadDir(name)
	}
	if upErr != nil && lowErr != nil {
		return nil, lowErr
	}
	for _, e := range lower {
		same := func(u fs.DirEntry) bool { return u.Name() == e.Name() }
		if !o.hidden(filepath.Join(name, e.Name())) && !slices.ContainsFunc(upper, same) {
			upper = append(upper, e)
		}
	}
	slices.SortFunc(upper, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return upper, nil
}

// Stat implements vfs.FS.
func (o *overlay) Stat(name string) (fs.FileInfo, error) {
	at, err := o.where(name)
	if err != nil {
		return nil, err
	}
	return os.Stat(at)
}

// Rename implements vfs.FS, for files.
func (o *overlay) Rename(oldName, newName string) error {
	at, err := o.where(oldName)
	if err != nil {
		return err
	}
	if at != o.up(oldName) {
		if err := copyFile(o.up(oldName), at, false); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Dir(o.up(newName)), 0o755); err != nil {
		return err
	}
	if err := os.Rename(o.up(oldName), o.up(newName)); err != nil {
		return err
	}
	o.hide(oldName)
	return nil
}

// Remove implements vfs.FS.
func (o *overlay) Remove(name string) error {
	if _, err := o.where(name); err != nil {
		return err
	}
	o.hide(name)
	if err := os.Remove(o.up(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// RemoveAll implements vfs.FS.
func (o *overlay) RemoveAll(name string) error {
	o.hide(name)
	return os.RemoveAll(o.up(name))
}

// SyncDir implements vfs.FS.
func (o *overlay) SyncDir(string) error { return nil }

// Lock implements vfs.FS: the directory below is locked by its Dir.
func (o *overlay) Lock(name string) (io.Closer, error) {
	f, err := o.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	return f, nil
}
