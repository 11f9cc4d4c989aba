package audit

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/ledger/blockfile"
	"github.com/heddle-ledger/heddle/ledger/kv"
)

// Kind is whose directory it is.
type Kind string

// Kinds of directories.
const (
	Peer    Kind = "peer"
	Orderer Kind = "orderer"
)

// Names of the databases of a peer, which are also their directories below
// ledgersData (LEDGER §2); of an orderer there is index alone.
const (
	dbList        = "ledgerProvider"
	dbIndex       = "chains/index"
	dbState       = "stateLeveldb"
	dbHistory     = "historyLeveldb"
	dbConfHistory = "configHistory"
	dbBookkeeper  = "bookkeeper"
	dbPrivate     = "pvtdataStore"

	dbOrdererIndex = "index"
)

// Errors that callers branch on.
var (
	// ErrLayout refuses a directory that is neither a peer's nor an orderer's.
	ErrLayout = errors.New("neither a peer's data (with ledgersData) nor an orderer's (with chains and index)")
	// ErrNoChannel says that a directory does not hold a channel.
	ErrNoChannel = errors.New("there is no such channel")
	// ErrNotFound says that a block, transaction or key is not there.
	ErrNotFound = errors.New("not found")
)

// Dir is a data directory, locked against the node that it belongs to.
type Dir struct {
	Path string
	Kind Kind
	root string // ledgersData of a peer, Path of an orderer
	fs   vfs.FS
	lock io.Closer

	mu  sync.Mutex // guards dbs
	dbs map[string]*opened
}

type opened struct {
	db  *kv.Database
	err error
}

// Open recognises the layout of a directory and takes the peer's lock, in a way
// that changes nothing and lets other readers in (LEDGER §2.4). It accepts
// peer.fileSystemPath, ledgersData below it, and FileLedger.Location of an
// orderer.
func Open(path string) (*Dir, error) {
	d := &Dir{Path: filepath.Clean(path), fs: vfs.OS(), dbs: map[string]*opened{}}
	info, err := os.Stat(d.Path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, &fs.PathError{Op: "open", Path: d.Path, Err: syscall.ENOTDIR}
	}
	switch {
	case isDir(d.Path, "ledgersData"):
		d.Kind, d.root = Peer, filepath.Join(d.Path, "ledgersData")
	case isDir(d.Path, "chains", "chains") || isDir(d.Path, dbList):
		d.Kind, d.root = Peer, d.Path
	case isDir(d.Path, "chains") && isDir(d.Path, "..", "fileLock"):
		return nil, fmt.Errorf("%s is a part of the data of a peer: name %s", d.Path, filepath.Dir(d.Path))
	case isDir(d.Path, "chains"):
		d.Kind, d.root = Orderer, d.Path
	default:
		return nil, fmt.Errorf("%s: %w", d.Path, ErrLayout)
	}
	if d.Kind == Orderer {
		// The orderer's only lock is that of its index.
		if _, err := d.database(dbOrdererIndex); isLocked(err) {
			return nil, fmt.Errorf("the orderer is running, so its data cannot be looked at: stop it, or look at a copy or a snapshot: lock is already acquired on file %s", filepath.Join(d.root, dbOrdererIndex))
		}
		return d, nil
	}
	name := filepath.Join(d.root, "fileLock")
	d.lock, err = vfs.LockShared(filepath.Join(name, "LOCK"))
	switch {
	case errors.Is(err, vfs.ErrLocked):
		return nil, fmt.Errorf("the peer is running, or another command on its data, so they cannot be looked at: stop it, or look at a copy or a snapshot: lock is already acquired on file %s", name)
	case err != nil && !errors.Is(err, fs.ErrNotExist): // a copy may have come without it
		return nil, err
	}
	return d, nil
}

func isDir(parts ...string) bool {
	info, err := os.Stat(filepath.Join(parts...))
	return err == nil && info.IsDir()
}

func isLocked(err error) bool {
	return errors.Is(err, syscall.EAGAIN) || errors.Is(err, vfs.ErrLocked)
}

// Close releases the directory.
func (d *Dir) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	for _, o := range d.dbs {
		if o.db != nil {
			errs = append(errs, o.db.Close())
		}
	}
	d.dbs = nil
	if d.lock != nil {
		errs = append(errs, d.lock.Close())
		d.lock = nil
	}
	return errors.Join(errs...)
}

// database opens a database for reading, once.
func (d *Dir) database(name string) (*kv.Database, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	o := d.dbs[name]
	if o == nil {
		o = &opened{}
		o.db, o.err = kv.Open(kv.Config{Dir: filepath.Join(d.root, name), FS: d.fs, ReadOnly: true})
		d.dbs[name] = o
	}
	return o.db, o.err
}

func (d *Dir) indexName() string {
	if d.Kind == Orderer {
		return dbOrdererIndex
	}
	return dbIndex
}

// items is what the index of a channel holds. Block files and index of a peer may
// be looked at without the rest; they lie as an orderer's then.
func (d *Dir) items(channel string) blockfile.IndexItems {
	if v := d.index(channel); d.Kind == Orderer && v != nil {
		if _, err := v.TxAt(0, 0); err != nil {
			return blockfile.IndexNumber
		}
	}
	return blockfile.IndexAll
}

// chainsDir holds a directory of block files per channel.
func (d *Dir) chainsDir() string {
	if d.Kind == Orderer {
		return filepath.Join(d.root, "chains")
	}
	return filepath.Join(d.root, "chains", "chains")
}

func (d *Dir) chainDir(channel string) string { return filepath.Join(d.chainsDir(), channel) }

// files looks at the block files of a channel.
func (d *Dir) files(channel string) *blockfile.Files {
	return blockfile.OpenFiles(d.fs, d.chainDir(channel))
}

// index looks at a channel's index; nil if there is none that can be read.
func (d *Dir) index(channel string) *blockfile.IndexView {
	db, err := d.database(d.indexName())
	if err != nil {
		return nil
	}
	return blockfile.ViewIndex(db, channel)
}

// withFiles lists the channels that have a directory.
func (d *Dir) withFiles() ([]string, error) {
	entries, err := os.ReadDir(d.chainsDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if e.IsDir() {
			out = append(out, e.Name())
		}
	}
	return out, nil
}

// listed reads the peer's list of channels: the genesis blocks, and the channel
// that was being created when the peer stopped, if any (LEDGER §2.3).
func (d *Dir) listed() (genesis map[string][]byte, constructing string, err error) {
	db, err := d.database(dbList)
	if err != nil {
		return nil, "", err
	}
	genesis = map[string][]byte{}
	it := db.Raw().Scan(nil, nil)
	defer it.Close()
	for it.Next() {
		key := string(it.Key())
		if key == "underConstructionLedgerKey" {
			constructing = string(it.Value())
		} else if id, ok := strings.CutPrefix(key, "l"); ok {
			genesis[id] = slices.Clone(it.Value())
		}
	}
	return genesis, constructing, it.Err()
}

// Channels lists the channels that have block files or are in the peer's list.
func (d *Dir) Channels() ([]string, error) {
	out, err := d.withFiles()
	if err != nil {
		return nil, err
	}
	if d.Kind == Peer {
		if genesis, _, err := d.listed(); err == nil {
			for id := range genesis {
				out = append(out, id)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// choose is the channels asked for, all if none are named.
func (d *Dir) choose(wanted []string) ([]string, error) {
	all, err := d.Channels()
	if err != nil || len(wanted) == 0 {
		return all, err
	}
	for _, id := range wanted {
		if !slices.Contains(all, id) {
			return nil, fmt.Errorf("channel [%s] in %s: %w, it has %s", id, d.Path, ErrNoChannel, ListOf(all))
		}
	}
	return wanted, nil
}

// ListOf names channels in a text.
func ListOf(channels []string) string {
	if len(channels) == 0 {
		return "none"
	}
	return strings.Join(channels, ", ")
}

func unmarshal(raw []byte, m proto.Message) error {
	if err := proto.Unmarshal(raw, m); err != nil {
		return fmt.Errorf("error unmarshaling %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	return nil
}

// slot is one metadata slot, nil if the block has none such.
func slot(b *common.Block, i int) []byte {
	slots := b.GetMetadata().GetMetadata()
	if i >= len(slots) {
		return nil
	}
	return slots[i]
}
