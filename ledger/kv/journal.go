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
// that is not complete. It tells how many bytes it removed and, if intact pieces of
// batches were among them, where it has put a copy of the journal as it was:
// then it may not be the end of an interrupted write but one damaged spot in front
// of what was synced long ago.
func cutJournal(fsys vfs.FS, dir string, stor storage.Storage) (cut int64, aside string, err error) {
	last, tail, err := lastJournal(fsys, dir, stor)
	if err != nil || tail.cut() == 0 {
		return 0, "", err
	}
	name := path.Join(dir, fileName(last))
	if tail.intact {
		aside = name + ".damaged"
		if err := copyFile(fsys, name, aside); err != nil {
			return 0, "", fmt.Errorf("set damaged journal aside: %w", err)
		}
	}
	f, err := fsys.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return 0, "", err
	}
	defer f.Close()
	if err := f.Truncate(tail.end); err != nil {
		return 0, "", err
	}
	return tail.cut(), aside, f.Sync()
}

// copyFile makes a durable copy, in place of one that may be there.
func copyFile(fsys vfs.FS, from, to string) error {
	in, err := vfs.Open(fsys, from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := fsys.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err == nil {
		err = out.Sync()
	}
	if err := errors.Join(err, out.Close()); err != nil {
		return err
	}
	return fsys.SyncDir(path.Dir(to))
}

// journalTail tells what is behind the complete batches of a journal.
type journalTail struct {
	end, size int64 // of the complete batches, of the file
	intact    bool  // an intact chunk follows the first bad one
}

func (t journalTail) cut() int64 { return t.size - t.end }

// readJournal finds where the complete batches of a journal end.
func readJournal(r io.Reader) (journalTail, error) {
	var block [journalBlock]byte
	scan := chunkScan{}
	for size := int64(0); ; {
		n, err := io.ReadFull(r, block[:])
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return journalTail{}, err
		}
		scan.block(block[:n], size)
		size += int64(n)
		if n < len(block) {
			return journalTail{end: min(scan.end, size), size: size, intact: scan.intact}, nil
		}
	}
}

// chunkScan follows the chunks of a journal. Behind a bad one it only looks whether
// there are others.
type chunkScan struct {
	inside bool  // behind a first or middle chunk
	bad    bool  // a chunk was bad
	intact bool  // one behind it is not
	end    int64 // of the last complete batch before, with the rest of its block if that is too small for a chunk
}

func (s *chunkScan) block(b []byte, at int64) {
	for off := 0; len(b)-off >= journalHeader; {
		h := b[off:]
		length, kind := int(binary.LittleEndian.Uint16(h[4:])), h[6]
		if length > len(h)-journalHeader {
			s.bad = true
			return
		}
		off += journalHeader + length
		sound := chunkSumOK(h, length)
		if s.bad {
			s.intact = s.intact || sound
			continue
		}
		if !sound || !s.follows(kind) {
			s.bad = true
			continue
		}
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
