package errorfs

import (
	"errors"
	"io/fs"

	"github.com/heddle-ledger/heddle/internal/vfs"
)

type errFile struct {
	file   vfs.File
	base   vfs.FS
	name   string
	inject Injector
}

func (f *errFile) ask(op Op) error { return ask(f.inject, op, f.name) }

func (f *errFile) Read(p []byte) (int, error) {
	if err := f.ask(OpRead); err != nil {
		return 0, err
	}
	return f.file.Read(p)
}

func (f *errFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.ask(OpRead); err != nil {
		return 0, err
	}
	return f.file.ReadAt(p, off)
}

func (f *errFile) Seek(off int64, whence int) (int64, error) {
	if err := f.ask(OpSeek); err != nil {
		return 0, err
	}
	return f.file.Seek(off, whence)
}

// Write writes a part of the bytes before it fails, as a full disk would.
func (f *errFile) Write(p []byte) (int, error) {
	err := f.ask(OpWrite)
	if err == nil {
		return f.file.Write(p)
	}
	part := len(p) / 2
	var short *ShortWrite
	if errors.As(err, &short) {
		part = min(max(short.N, 0), len(p))
	}
	n, _ := f.file.Write(p[:part]) // the injected error is the one to report
	return n, err
}

func (f *errFile) Sync() error {
	if err := f.ask(OpSync); err != nil {
		if b, ok := f.base.(interface{ FailSync(name string) }); ok {
			b.FailSync(f.name)
		}
		return err
	}
	return f.file.Sync()
}

func (f *errFile) Truncate(size int64) error {
	if err := f.ask(OpTruncate); err != nil {
		return err
	}
	return f.file.Truncate(size)
}

func (f *errFile) Stat() (fs.FileInfo, error) {
	if err := f.ask(OpStat); err != nil {
		return nil, err
	}
	return f.file.Stat()
}

// Close closes the file also when it fails, as close(2) does.
func (f *errFile) Close() error {
	err := f.ask(OpClose)
	if cerr := f.file.Close(); err == nil {
		err = cerr
	}
	return err
}
