package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestNoFault keeps a full disk from being called damage.
func TestNoFault(t *testing.T) {
	const temp = "/tmp/heddle-rebuild-1"
	at := func(name string, errno syscall.Errno) error {
		return fmt.Errorf("open block store: %w", &fs.PathError{Op: "write", Path: name, Err: errno})
	}
	for _, tc := range []struct {
		err  error
		want bool
	}{
		{at(temp+"/stateLeveldb/000021.ldb", syscall.ENOSPC), true},
		{at("/data/chains/chains/ch/blockfile_000000", syscall.ENOSPC), true},
		{errors.Join(errors.New("first"), at(temp+"/x", syscall.EACCES)), true},
		{at(temp+"/x", syscall.EIO), true},
		{at("/data/chains/chains/ch/blockfile_000000", syscall.EIO), false},
		{errors.New("block [3] expected"), false},
	} {
		if got := noFault(tc.err, temp); got != tc.want {
			t.Errorf("%v: %v", tc.err, got)
		}
	}
}

// TestRebuildWithoutRoom: the temporary directory cannot be used. The ledger is
// not to blame.
func TestRebuildWithoutRoom(t *testing.T) {
	temp := t.TempDir()
	must(t, os.WriteFile(filepath.Join(temp, dbState), nil, 0o600))
	v := &verifier{d: openDir(t, peerCopy(t)), id: channelID, report: &Channel{}}
	if err := v.rebuild(t.Context(), temp); err == nil || !noFault(err, temp) {
		t.Errorf("got %v", err)
	}
}
