package audit

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// untar unpacks a recorded archive into a directory of the test.
func untar(t testing.TB, name string) string {
	t.Helper()
	raw, err := os.ReadFile(name)
	must(t, err)
	z, err := gzip.NewReader(bytes.NewReader(raw))
	must(t, err)
	dir := t.TempDir()
	r := tar.NewReader(z)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return dir
		}
		must(t, err)
		to := filepath.Join(dir, h.Name)
		if h.Typeflag == tar.TypeDir {
			must(t, os.MkdirAll(to, 0o755))
			continue
		}
		data, err := io.ReadAll(r)
		must(t, err)
		must(t, os.MkdirAll(filepath.Dir(to), 0o755))
		must(t, os.WriteFile(to, data, 0o644))
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// content is a fingerprint of every file of a directory, with times.
func content(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	must(t, filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		text := fmt.Sprint(info.Mode(), info.ModTime().UnixNano())
		if !e.IsDir() {
			raw, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			text += fmt.Sprintf(" %d %x", len(raw), sha256.Sum256(raw))
		}
		out[name] = text
		return nil
	}))
	return out
}

// verify verifies a directory and makes sure that nothing in it has changed.
func verify(t testing.TB, dir string, o Options) *Report {
	t.Helper()
	before := content(t, dir)
	d, err := Open(dir)
	must(t, err)
	o.TempDir = t.TempDir()
	r, err := Verify(t.Context(), d, o)
	must(t, err)
	must(t, d.Close())
	if diff := cmp.Diff(before, content(t, dir)); diff != "" {
		t.Errorf("the directory has changed:\n%s", diff)
	}
	left, err := os.ReadDir(o.TempDir)
	if err != nil || len(left) > 0 {
		t.Errorf("left in the temporary directory: %v, %v", left, err)
	}
	return r
}

func show(v any) string {
	raw, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return err.Error()
	}
	return string(raw)
}
