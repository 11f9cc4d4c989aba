package process

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Bounds of one unpacked code package.
const (
	maxCodeBytes = 2 << 30
	maxCodeFiles = 200_000
)

// unpack extracts a code package into an empty directory. Links, devices and
// names that lead out of it are refused (CHAINCODE §6.6).
func unpack(code []byte, dir string) error {
	gz, err := gzip.NewReader(bytes.NewReader(code))
	if err != nil {
		return fmt.Errorf("open code package: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open %s: %w", dir, err)
	}
	defer root.Close() //nolint:errcheck // only a directory
	archive := tar.NewReader(gz)
	left := int64(maxCodeBytes)
	for n := 0; ; n++ {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read code package: %w", err)
		}
		if left -= h.Size; left < 0 || n == maxCodeFiles {
			return errors.New("code package is too large")
		}
		if err := unpackEntry(root, h, archive); err != nil {
			return err
		}
	}
}

func unpackEntry(root *os.Root, h *tar.Header, content io.Reader) error {
	name := filepath.Clean(filepath.FromSlash(h.Name))
	if !filepath.IsLocal(name) {
		return fmt.Errorf("illegal name in code package: %q", h.Name)
	}
	switch h.Typeflag {
	case tar.TypeDir:
		if err := root.MkdirAll(name, 0o755); err != nil {
			return fmt.Errorf("unpack code package: %w", err)
		}
		return nil
	case tar.TypeReg:
	default:
		return fmt.Errorf("illegal entry in code package: %q is no regular file", h.Name)
	}
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return fmt.Errorf("unpack code package: %w", err)
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return fmt.Errorf("unpack code package: %w", err)
	}
	_, err = io.Copy(f, content)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("unpack code package: %w", err)
	}
	return nil
}
