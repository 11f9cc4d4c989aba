package blockfile

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"

	"github.com/heddle-ledger/heddle/internal/vfs"
)

// Files that reset and rollback leave in a channel's directory (LEDGER §18.1,
// §18.3).
const (
	preResetHeightFile = "__preResetHeight"
	genesisBackupFile  = "__backupGenesisBlockBytes"
)

const leftFileMode = 0o640

// PreResetHeights returns the heights that channels had before a reset or
// rollback, of all channels that have such a record (LEDGER §18.3). dir is
// Config.Dir of the block stores.
func PreResetHeights(fsys vfs.FS, dir string) (map[string]uint64, error) {
	ids, err := channelDirs(fsys, dir)
	if err != nil {
		return nil, err
	}
	out := map[string]uint64{}
	for _, id := range ids {
		height, ok, err := readPreResetHeight(fsys, channelDir(dir, id))
		if err != nil {
			return nil, err
		}
		if ok {
			out[id] = height
		}
	}
	return out, nil
}

// ClearPreResetHeight removes the record of a channel. That there is none is no
// error.
func ClearPreResetHeight(fsys vfs.FS, dir, id string) error {
	in := channelDir(dir, id)
	err := fsys.Remove(path.Join(in, preResetHeightFile))
	if err == nil || errors.Is(err, fs.ErrNotExist) { // an attempt before may have failed to sync
		err = fsys.SyncDir(in)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the pre-reset height of channel [%s]: %w", id, err)
	}
	return nil
}

func channelDir(dir, id string) string { return path.Join(dir, "chains", id) }

// channelDirs lists the channels that have a directory, sorted.
func channelDirs(fsys vfs.FS, dir string) ([]string, error) {
	entries, err := fsys.ReadDir(path.Join(dir, "chains"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list channels: %w", err)
	}
	var out []string
	for _, e := range entries {
		if e.IsDir() {
			out = append(out, e.Name())
		}
	}
	return out, nil
}

func readPreResetHeight(fsys vfs.FS, dir string) (height uint64, ok bool, err error) {
	name := path.Join(dir, preResetHeightFile)
	raw, err := vfs.ReadFile(fsys, name)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err == nil {
		height, err = strconv.ParseUint(string(raw), 10, 64)
	}
	if err != nil {
		return 0, false, fmt.Errorf("read pre-reset height %s: %w", name, err)
	}
	return height, true, nil
}

// recordPreResetHeight keeps the larger of the recorded height and this one, so
// that a reset that is repeated after an interruption does no harm. A record
// that cannot be read counts as none.
func recordPreResetHeight(fsys vfs.FS, dir string, height uint64) error {
	if known, ok, err := readPreResetHeight(fsys, dir); err == nil && ok && known >= height {
		if err := fsys.SyncDir(dir); err != nil { // an attempt before may have failed to
			return fmt.Errorf("sync directory of the pre-reset height: %w", err)
		}
		return nil
	}
	return replaceFile(fsys, path.Join(dir, preResetHeightFile), strconv.AppendUint(nil, height, 10))
}

// replaceFile writes a file durably: new file, sync, rename, sync of the
// directory.
func replaceFile(fsys vfs.FS, name string, data []byte) error {
	tmp := name + ".new"
	if err := vfs.WriteFile(fsys, tmp, data, leftFileMode); err != nil {
		return fmt.Errorf("write %s: %w", tmp, err)
	}
	if err := fsys.Rename(tmp, name); err != nil {
		return err
	}
	if err := fsys.SyncDir(path.Dir(name)); err != nil {
		return fmt.Errorf("sync directory of %s: %w", name, err)
	}
	return nil
}
