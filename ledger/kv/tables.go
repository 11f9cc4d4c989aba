package kv

import (
	"bufio"

	"github.com/syndtr/goleveldb/leveldb/storage"
)

// tableBuffer is how many bytes of a table are written at a time.
const tableBuffer = 128 << 10

// bufferedTables writes tables in large pieces. goleveldb writes them block by
// block, 4 KB each. A table counts only once it is synced, so what an end of the
// process leaves in the buffer is no loss.
type bufferedTables struct {
	storage.Storage
}

// Create implements storage.Storage.
func (s *bufferedTables) Create(fd storage.FileDesc) (storage.Writer, error) {
	w, err := s.Storage.Create(fd)
	if err != nil || fd.Type != storage.TypeTable {
		return w, err
	}
	return &bufferedTable{Writer: w, buf: bufio.NewWriterSize(w, tableBuffer)}, nil
}

type bufferedTable struct {
	storage.Writer
	buf *bufio.Writer
}

func (t *bufferedTable) Write(p []byte) (int, error) { return t.buf.Write(p) }

// Sync makes all that was written durable.
func (t *bufferedTable) Sync() error {
	if err := t.buf.Flush(); err != nil {
		return err
	}
	return t.Writer.Sync()
}
