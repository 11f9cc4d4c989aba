package vfs

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
)

// droppedSuffix marks a directory that is being removed.
const droppedSuffix = ".dropped"

// DropDir removes a directory with all it contains in such a way that a crash
// leaves it whole or gone, never in parts: a database that has lost some of its
// files may open and give wrong answers. Steps: the directory gets another name,
// its parent is synced, then the files go. What a crash leaves under the other
// name is removed by the next call, or by FinishDrop. A directory that does not
// exist is no error.
func DropDir(fsys FS, dir string) error {
	doomed := dir + droppedSuffix
	if err := FinishDrop(fsys, dir); err != nil {
		return err
	}
	_, err := fsys.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = fsys.Rename(dir, doomed)
	}
	if err == nil {
		err = fsys.SyncDir(path.Dir(dir))
	}
	if err == nil {
		err = fsys.RemoveAll(doomed)
	}
	if err != nil {
		return fmt.Errorf("drop directory %s: %w", dir, err)
	}
	return nil
}

// FinishDrop removes what is left of a directory whose dropping a crash
// interrupted, not the directory that may have its name by now.
func FinishDrop(fsys FS, dir string) error {
	doomed := dir + droppedSuffix
	_, err := fsys.Stat(doomed)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	// The attempt before may have ended without the other name being durable.
	if err == nil {
		err = fsys.SyncDir(path.Dir(dir))
	}
	if err == nil {
		err = fsys.RemoveAll(doomed)
	}
	if err != nil {
		return fmt.Errorf("remove what is left of a dropped directory: %w", err)
	}
	return nil
}
