package vfs

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"
)

// CrashMode says what becomes of data that was written and never synced.
type CrashMode int

const (
	// LoseUnsynced keeps only what was synced.
	LoseUnsynced CrashMode = iota
	// KeepUnsynced keeps every write, as after the death of the process alone.
	// What was not synced is still not, so a second crash can lose it.
	KeepUnsynced
	// TearUnsynced keeps a random part of each file's unsynced tail.
	TearUnsynced
	// GarbageUnsynced keeps each file's length but not what was written last:
	// from a random place in the unsynced tail on there are zeros or noise, as
	// some file systems leave them that write lengths before data.
	GarbageUnsynced
)

// Mem is a file system in memory that remembers what was synced. Syncing a
// file also makes its directory entry durable, as ext4 and xfs do; a rename or
// removal is durable after SyncDir, or at once if the directory was not synced
// since (the order in which a journalling file system would write them).
type Mem struct {
	mu    sync.Mutex // guards everything below, and the nodes
	files map[string]*memNode
	dirs  map[string]bool
	// durable is the name space as it would be found after losing all that is
	// not synced.
	durable map[string]*memNode
	locks   map[string]bool

	maxBuffer int
}

// SetMaxBuffer bounds the buffers of stores; see Small. It is to be called before
// anything else.
func (m *Mem) SetMaxBuffer(bytes int) { m.maxBuffer = bytes }

// MaxBuffer implements Small.
func (m *Mem) MaxBuffer() int { return m.maxBuffer }

// memNode is a file. Contents are shared with copies of the file system and with
// synced, so a byte is never changed in place while shared is set; appending
// beyond the length that others know does no harm.
type memNode struct {
	data   []byte
	shared bool
	synced []byte // content at the last sync; nil if never synced
	clean  bool   // data equals synced
	// lost are parts of data that will never get to the disk: a sync of them
	// failed, and the kernel has forgotten that they were to be written.
	lost []span
}

type span struct{ from, to int }

// rewritten takes bytes that are written again off what is lost.
func (n *memNode) rewritten(from, to int) {
	var left []span
	for _, l := range n.lost {
		if before := (span{l.from, min(l.to, from)}); before.from < before.to {
			left = append(left, before)
		}
		if after := (span{max(l.from, to), l.to}); after.from < after.to {
			left = append(left, after)
		}
	}
	n.lost = left
}

// share returns the content for somebody who keeps it.
func (n *memNode) share() []byte {
	n.shared = true
	return n.data[:len(n.data):len(n.data)]
}

// own prepares for a change of bytes in place.
func (n *memNode) own() {
	if n.shared {
		n.data, n.shared = append([]byte(nil), n.data...), false
	}
}

// onDisk is what a sync makes durable.
func (n *memNode) onDisk() []byte {
	if len(n.lost) == 0 {
		return n.share()
	}
	out := append([]byte(nil), n.data...)
	for _, l := range n.lost {
		clear(out[min(l.from, len(out)):min(l.to, len(out))])
	}
	return out
}

// NewMem returns an empty file system.
func NewMem() *Mem {
	return &Mem{
		files:   map[string]*memNode{},
		dirs:    map[string]bool{"/": true, ".": true},
		durable: map[string]*memNode{},
		locks:   map[string]bool{},
	}
}

// Crash returns a copy of what the next start would find. The original stays
// usable. The seed matters for TearUnsynced only.
func (m *Mem) Crash(mode CrashMode, seed uint64) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	rng := rand.New(rand.NewPCG(seed, 1))
	c := NewMem()
	c.maxBuffer = m.maxBuffer
	for d := range m.dirs {
		c.dirs[d] = true
	}
	if mode == KeepUnsynced {
		m.copyTo(c)
		return c
	}
	names := m.files
	if mode == LoseUnsynced {
		names = m.durable
	}
	for _, name := range sortedNames(names) {
		n := names[name]
		var data []byte
		switch {
		case mode == LoseUnsynced || n.clean:
			data = n.synced[:len(n.synced):len(n.synced)]
		case mode == TearUnsynced:
			data = tear(n, rng)
		default:
			data = garble(n, rng)
		}
		node := &memNode{data: data, shared: true, synced: data, clean: true}
		c.files[name] = node
		c.durable[name] = node
	}
	return c
}

// copyTo copies all files with what is known of their syncs; it needs m.mu.
func (m *Mem) copyTo(c *Mem) {
	copies := map[*memNode]*memNode{}
	for _, names := range [][2]map[string]*memNode{{m.files, c.files}, {m.durable, c.durable}} {
		for name, n := range names[0] {
			if copies[n] == nil {
				copies[n] = &memNode{data: n.share(), shared: true, synced: n.synced, clean: n.clean, lost: slices.Clone(n.lost)}
			}
			names[1][name] = copies[n]
		}
	}
}

// tear keeps a part of the tail that was not synced.
func tear(n *memNode, rng *rand.Rand) []byte {
	data := n.onDisk()
	if len(data) > len(n.synced) {
		data = data[:len(n.synced)+rng.IntN(len(data)-len(n.synced)+1)]
	}
	return data[:len(data):len(data)]
}

// garble keeps the length of the tail and a part of its content.
func garble(n *memNode, rng *rand.Rand) []byte {
	data := n.onDisk()
	if len(data) <= len(n.synced) {
		return data
	}
	from := len(n.synced) + rng.IntN(len(data)-len(n.synced))
	out := append([]byte(nil), data...)
	clear(out[from:])
	if rng.IntN(2) == 0 {
		for i := from; i < len(out); i++ {
			out[i] = byte(rng.Uint32())
		}
	}
	return out
}

// FailSync tells that a sync of a file has failed, as Linux treats it: what was
// to be written stays readable for now and is never written, nor does a later
// sync report anything.
func (m *Mem) FailSync(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.files[path.Clean(name)]
	if n == nil || n.clean {
		return
	}
	n.lost = append(n.lost, span{min(len(n.synced), len(n.data)), len(n.data)})
}

func sortedNames(m map[string]*memNode) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}

func pathErr(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// OpenFile implements FS.
func (m *Mem) OpenFile(name string, flag int, _ fs.FileMode) (File, error) {
	name = path.Clean(name)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dirs[name] {
		return nil, pathErr("open", name, errors.New("is a directory"))
	}
	n := m.files[name]
	if n == nil {
		if flag&os.O_CREATE == 0 {
			return nil, pathErr("open", name, fs.ErrNotExist)
		}
		if !m.dirs[path.Dir(name)] {
			return nil, pathErr("open", name, fs.ErrNotExist)
		}
		n = &memNode{}
		m.files[name] = n
	} else if flag&os.O_EXCL != 0 {
		return nil, pathErr("open", name, fs.ErrExist)
	}
	if flag&os.O_TRUNC != 0 {
		n.data, n.shared, n.clean, n.lost = nil, false, false, nil
	}
	return &memFile{fs: m, name: name, node: n, flag: flag}, nil
}

// MkdirAll implements FS; directories are durable at once.
func (m *Mem) MkdirAll(name string, _ fs.FileMode) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name = path.Clean(name); !m.dirs[name]; name = path.Dir(name) {
		if m.files[name] != nil {
			return pathErr("mkdir", name, errors.New("not a directory"))
		}
		m.dirs[name] = true
	}
	return nil
}

// ReadDir implements FS.
func (m *Mem) ReadDir(name string) ([]fs.DirEntry, error) {
	name = path.Clean(name)
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.dirs[name] {
		return nil, pathErr("readdir", name, fs.ErrNotExist)
	}
	var out []fs.DirEntry
	for d := range m.dirs {
		if d != name && path.Dir(d) == name {
			out = append(out, fs.FileInfoToDirEntry(memInfo{name: path.Base(d), dir: true}))
		}
	}
	for f, n := range m.files {
		if path.Dir(f) == name {
			out = append(out, fs.FileInfoToDirEntry(memInfo{name: path.Base(f), size: int64(len(n.data))}))
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name() < out[j].Name() })
	return out, nil
}

// Stat implements FS.
func (m *Mem) Stat(name string) (fs.FileInfo, error) {
	name = path.Clean(name)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dirs[name] {
		return memInfo{name: path.Base(name), dir: true}, nil
	}
	n := m.files[name]
	if n == nil {
		return nil, pathErr("stat", name, fs.ErrNotExist)
	}
	return memInfo{name: path.Base(name), size: int64(len(n.data))}, nil
}

// Rename implements FS. That of a directory is durable at once, and the new name
// must be free.
func (m *Mem) Rename(oldName, newName string) error {
	oldName, newName = path.Clean(oldName), path.Clean(newName)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dirs[oldName] {
		if m.dirs[newName] || m.files[newName] != nil {
			return pathErr("rename", newName, fs.ErrExist)
		}
		m.renameDir(oldName, newName)
		return nil
	}
	n := m.files[oldName]
	if n == nil {
		return pathErr("rename", oldName, fs.ErrNotExist)
	}
	delete(m.files, oldName)
	m.files[newName] = n
	return nil
}

// renameDir needs m.mu.
func (m *Mem) renameDir(oldName, newName string) {
	moved := func(p string) (string, bool) {
		rest, ok := strings.CutPrefix(p, oldName)
		return newName + rest, ok && (rest == "" || rest[0] == '/')
	}
	for _, set := range []map[string]*memNode{m.files, m.durable} {
		for _, f := range sortedNames(set) {
			if to, ok := moved(f); ok {
				set[to] = set[f]
				delete(set, f)
			}
		}
	}
	for d := range maps.Clone(m.dirs) {
		if to, ok := moved(d); ok {
			m.dirs[to] = true
			delete(m.dirs, d)
		}
	}
}

// Remove implements FS.
func (m *Mem) Remove(name string) error {
	name = path.Clean(name)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dirs[name] {
		for f := range m.files {
			if path.Dir(f) == name {
				return pathErr("remove", name, errors.New("directory not empty"))
			}
		}
		delete(m.dirs, name)
		return nil
	}
	if m.files[name] == nil {
		return pathErr("remove", name, fs.ErrNotExist)
	}
	delete(m.files, name)
	return nil
}

// RemoveAll implements FS; the removal is durable at once.
func (m *Mem) RemoveAll(name string) error {
	name = path.Clean(name)
	m.mu.Lock()
	defer m.mu.Unlock()
	under := func(p string) bool { return p == name || strings.HasPrefix(p, name+"/") }
	for _, set := range []map[string]*memNode{m.files, m.durable} {
		for f := range set {
			if under(f) {
				delete(set, f)
			}
		}
	}
	for d := range m.dirs {
		if under(d) {
			delete(m.dirs, d)
		}
	}
	return nil
}

// SyncDir implements FS.
func (m *Mem) SyncDir(name string) error {
	name = path.Clean(name)
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.dirs[name] {
		return pathErr("sync", name, fs.ErrNotExist)
	}
	for f := range m.durable {
		if path.Dir(f) == name && m.files[f] == nil {
			delete(m.durable, f)
		}
	}
	for f, n := range m.files {
		if path.Dir(f) == name {
			m.durable[f] = n
		}
	}
	return nil
}

// Lock implements FS. Locks do not survive Crash.
func (m *Mem) Lock(name string) (io.Closer, error) {
	name = path.Clean(name)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.locks[name] {
		return nil, pathErr("lock", name, ErrLocked)
	}
	if m.files[name] == nil {
		n := &memNode{clean: true}
		m.files[name], m.durable[name] = n, n
	}
	m.locks[name] = true
	return memLock{m, name}, nil
}

type memLock struct {
	fs   *Mem
	name string
}

func (l memLock) Close() error {
	l.fs.mu.Lock()
	defer l.fs.mu.Unlock()
	delete(l.fs.locks, l.name)
	return nil
}

type memFile struct {
	fs     *Mem
	name   string
	node   *memNode
	flag   int
	pos    int64
	closed bool
}

func (f *memFile) Read(p []byte) (int, error) {
	n, err := f.ReadAt(p, f.pos)
	f.pos += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	switch {
	case f.closed:
		return 0, pathErr("read", f.name, fs.ErrClosed)
	case off < 0:
		return 0, pathErr("read", f.name, fs.ErrInvalid)
	case off >= int64(len(f.node.data)):
		return 0, io.EOF
	}
	n := copy(p, f.node.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) Write(p []byte) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.closed || f.flag&(os.O_WRONLY|os.O_RDWR) == 0 {
		return 0, pathErr("write", f.name, fs.ErrClosed)
	}
	if f.flag&os.O_APPEND != 0 {
		f.pos = int64(len(f.node.data))
	}
	if grow := f.pos - int64(len(f.node.data)); grow > 0 {
		f.node.data = append(f.node.data, make([]byte, grow)...)
	}
	if f.pos < int64(len(f.node.data)) {
		f.node.own()
	}
	f.node.rewritten(int(f.pos), int(f.pos)+len(p))
	n := copy(f.node.data[f.pos:], p)
	f.node.data = append(f.node.data, p[n:]...)
	f.node.clean = false
	f.pos += int64(len(p))
	return len(p), nil
}

func (f *memFile) Seek(off int64, whence int) (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	switch whence {
	case io.SeekCurrent:
		off += f.pos
	case io.SeekEnd:
		off += int64(len(f.node.data))
	}
	if off < 0 {
		return 0, pathErr("seek", f.name, fs.ErrInvalid)
	}
	f.pos = off
	return off, nil
}

func (f *memFile) Sync() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.closed {
		return pathErr("sync", f.name, fs.ErrClosed)
	}
	if !f.node.clean {
		f.node.synced = f.node.onDisk()
		f.node.clean = true
	}
	if f.fs.files[f.name] == f.node {
		f.fs.durable[f.name] = f.node
	}
	return nil
}

func (f *memFile) Truncate(size int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.closed || size < 0 {
		return pathErr("truncate", f.name, fs.ErrInvalid)
	}
	if grow := size - int64(len(f.node.data)); grow > 0 {
		f.node.data = append(f.node.data, make([]byte, grow)...)
	}
	f.node.data = f.node.data[:size:size]
	f.node.clean = false
	f.node.rewritten(int(size), math.MaxInt)
	return nil
}

func (f *memFile) Stat() (fs.FileInfo, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return memInfo{name: path.Base(f.name), size: int64(len(f.node.data))}, nil
}

func (f *memFile) Close() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.closed {
		return pathErr("close", f.name, fs.ErrClosed)
	}
	f.closed = true
	return nil
}

type memInfo struct {
	name string
	size int64
	dir  bool
}

func (i memInfo) Name() string       { return i.name }
func (i memInfo) Size() int64        { return i.size }
func (i memInfo) ModTime() time.Time { return time.Time{} }
func (i memInfo) IsDir() bool        { return i.dir }
func (i memInfo) Sys() any           { return nil }

func (i memInfo) Mode() fs.FileMode {
	if i.dir {
		return fs.ModeDir | 0o755
	}
	return 0o660
}
