package packaging

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"time"
)

// Archive makes a code package (CHAINCODE §6.1): no directories, no times,
// constant owner ids and modes. The names of the owners are those of the files
// on the packaging machine, as with the reference.
type Archive struct {
	buf bytes.Buffer
	gz  *gzip.Writer
	tar *tar.Writer
}

// NewArchive starts an empty code package.
func NewArchive() *Archive {
	a := &Archive{}
	a.gz = gzip.NewWriter(&a.buf)
	a.tar = tar.NewWriter(a.gz)
	return a
}

// Add appends the file at path under name.
func (a *Archive) Add(name, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("add %s: %w", name, err)
	}
	defer f.Close() //nolint:errcheck // only read
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("add %s: %w", name, err)
	}
	h, err := tar.FileInfoHeader(info, "")
	if err != nil {
		return fmt.Errorf("add %s: %w", name, err)
	}
	h.Name, h.Mode, h.Uid, h.Gid = name, 0o100644, 500, 500
	h.ModTime, h.AccessTime, h.ChangeTime = time.Time{}, time.Time{}, time.Time{}
	if err := a.tar.WriteHeader(h); err != nil {
		return fmt.Errorf("add %s: %w", name, err)
	}
	if _, err := io.Copy(a.tar, f); err != nil {
		return fmt.Errorf("add %s: %w", name, err)
	}
	return nil
}

// Close returns the finished code package.
func (a *Archive) Close() ([]byte, error) {
	if err := a.tar.Close(); err != nil {
		return nil, fmt.Errorf("finish code package: %w", err)
	}
	if err := a.gz.Close(); err != nil {
		return nil, fmt.Errorf("finish code package: %w", err)
	}
	return a.buf.Bytes(), nil
}

// AddMetadata appends a file below META-INF after checking it.
func (a *Archive) AddMetadata(name, path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("add %s: %w", name, err)
	}
	if err := CheckMetadataFile(name, content); err != nil {
		return err
	}
	return a.Add(name, path)
}
