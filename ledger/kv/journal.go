package kv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path"
	"sync"

	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/heddle-ledger/heddle/internal/vfs"
)

// Write promises that of unsynced batches only the last can be lost. goleveldb
// by itself does not: it leaves a full journal unsynced while the next one is
// written and synced, and at recovery it skips a bad part of a journal and goes
// on behind it. What follows closes both gaps.

// orderedStorage syncs each journal before the next one is begun.
type orderedStorage struct {
	storage.Storage

	mu      sync.Mutex // guards journal
	journal storage.Writer
}

// Create implements storage.Storage. goleveldb has flushed all batches to the
// present journal when it creates another.
func (s *orderedStorage) Create(fd storage.FileDesc) (storage.Writer, error) {
	if fd.Type != storage.TypeJournal {
		return s.Storage.Create(fd)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.journal != nil {
		if err := s.journal.Sync(); err != nil {
			return nil, fmt.Errorf("sync journal: %w", err)
		}
		s.journal = nil
	}
	w, err := s.Storage.Create(fd)
	if err != nil {
		return nil, err
	}
	s.journal = w
	return w, nil
}

// Form of a journal: blocks of chunks, each with a header of masked CRC-32C,
// length and type; a batch is one full chunk or a first, middle ones and a last.
const (
	journalBlock  = 32 << 10
	journalHeader = 7

	chunkFull   = 1
	chunkFirst  = 2
	chunkMiddle = 3
	chunkLast   = 4
)

// cutJournal removes from the last journal everything behind the first batch
// that is not complete. It tells how many bytes it removed.
func cutJournal(fsys vfs.FS, dir string, stor storage.Storage) (cut int64, err error) {
	last, end, cut, err := lastJournal(fsys, dir, stor)
	if err != nil || cut == 0 {
		return 0, err
	}
	f, err := fsys.OpenFile(path.Join(dir, fileName(last)), os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if err := f.Truncate(end); err != nil {
		return 0, err
	}
	return cut, f.Sync()
}

// journalEnd is where the complete batches of a journal end.
func journalEnd(r io.Reader) (end, size int64, err error) {
	var block [journalBlock]byte
	scan := chunkScan{}
	for {
		n, err := io.ReadFull(r, block[:])
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return 0, 0, err
		}
		if !scan.bad {
			scan.block(block[:n], size)
		}
		size += int64(n)
		if n < len(block) {
			return min(scan.end, size), size, nil
		}
	}
}

// chunkScan follows the chunks of a journal until one is bad.
type chunkScan struct {
	inside bool // behind a first or middle chunk
	bad    bool
	end    int64 // of the last complete batch, with the rest of its block if that is too small for a chunk
}

func (s *chunkScan) block(b []byte, at int64) {
	for off := 0; len(b)-off >= journalHeader; {
		h := b[off:]
		length, kind := int(binary.LittleEndian.Uint16(h[4:])), h[6]
		if length > len(h)-journalHeader || !chunkSumOK(h, length) || !s.follows(kind) {
			s.bad = true
			return
		}
		off += journalHeader + length
		if !s.inside {
			s.end = at + int64(off)
			if journalBlock-off < journalHeader {
				s.end = at + journalBlock
			}
		}
	}
}

func (s *chunkScan) follows(kind byte) bool {
	switch kind {
	case chunkFull, chunkFirst:
		ok := !s.inside
		s.inside = kind == chunkFirst
		return ok
	case chunkMiddle, chunkLast:
		ok := s.inside
		s.inside = kind == chunkMiddle
		return ok
	}
	return false
}

func chunkSumOK(h []byte, length int) bool {
	sum := crc32.Checksum(h[6:journalHeader+length], crc32.MakeTable(crc32.Castagnoli))
	return binary.LittleEndian.Uint32(h) == (sum>>15|sum<<17)+0xa282ead8
}
