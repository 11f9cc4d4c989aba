// Package ledger is the peer's ledger: per channel a chain of blocks, the world
// state they lead to, its history and the private data beside it (LEDGER).
//
// A Provider owns the directory tree with all its databases; a Ledger owns one
// channel's part. Simulators and query executors read a snapshot and hold up
// nothing; Commit takes a validated block through version checks, block file,
// private data, state and history in the order of LEDGER §15, and opening a
// ledger brings stores level that a crash left behind (LEDGER §17). Two kinds of
// goroutines outlive a call: the private store's background work (sides.go) and,
// while blocks are announced, one per channel that covers them (expect.go); those
// of the stores come on top. All end with Provider.Close. docs/architecture.md has
// a map of the rooms. The package may be imported by peer/**; consumers that must
// not import it use its unnamed iterator types.
package ledger

import (
	"context"
	"errors"
	"fmt"
	"path"
	"sync"
	"syscall"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"

	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/ledger/blockfile"
	"github.com/heddle-ledger/heddle/ledger/kv"
	"github.com/heddle-ledger/heddle/ledger/state"
	"github.com/heddle-ledger/heddle/ledger/state/leveldb"
)

// Provider opens the ledgers of a peer.
type Provider struct {
	cfg     Config
	metrics *providerMetrics

	lock, ids *kv.Database
	list      *kv.Store
	blocks    *blockfile.Provider
	state     state.Provider
	sides     *sideStores
	indexes   *indexes

	mu     sync.Mutex // guards what follows, and the creation of ledgers
	open   map[string]*Ledger
	closed bool
}

// OpenProvider opens the databases and finishes the creation of a channel that
// was cut short. No channel is opened yet.
func OpenProvider(cfg Config) (*Provider, error) {
	return OpenProviderContext(context.Background(), cfg)
}

// OpenProviderContext is OpenProvider, which waits for a state database that is out
// of reach, if a channel's creation was cut short, until ctx ends.
func OpenProviderContext(ctx context.Context, cfg Config) (*Provider, error) {
	cfg.fill()
	p := &Provider{cfg: cfg, metrics: newProviderMetrics(cfg.Metrics), open: map[string]*Ledger{}}
	p.indexes = newIndexes(cfg.Artifacts, cfg.Log)
	if err := p.openStores(); err != nil {
		return nil, errors.Join(err, p.closeStores())
	}
	if err := p.finishConstruction(ctx); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	p.warnOfUnlisted()
	return p, nil
}

// warnOfUnlisted tells which channels have blocks and are not opened, as the list
// does not know them. It may have been lost, or come from an old backup.
func (p *Provider) warnOfUnlisted() {
	ids, err := p.blocks.List()
	if err != nil {
		return // whoever needs the directory finds out
	}
	for _, id := range ids {
		if listed, err := p.Exists(id); listed || err != nil {
			continue
		}
		if p.blocks.HasBlocks(id) { // else nothing is left of one that was never created
			p.cfg.Log.Warningf("Channel [%s] has block files, but is not in the list of channels %s, so it is not opened", id, path.Join(p.cfg.Dir, dirProvider))
		}
	}
}

// Lock takes the lock that keeps a peer and the offline commands on one
// directory apart (LEDGER §2.4). A taken lock gives the reference's text.
func Lock(dir string, fs vfs.FS) (*kv.Database, error) {
	name := path.Join(dir, dirLock)
	db, err := kv.Open(kv.Config{Dir: name, FS: fs})
	if errors.Is(err, syscall.EAGAIN) || errors.Is(err, vfs.ErrLocked) {
		return nil, fmt.Errorf("as another peer node command is executing, wait for that command to complete its execution or terminate it before retrying: lock is already acquired on file %s", name)
	}
	return db, err
}

func (p *Provider) openStores() error {
	var err error
	if p.lock, err = Lock(p.cfg.Dir, p.cfg.FS); err != nil {
		return err
	}
	finishDrops(&p.cfg)
	if p.ids, err = kv.Open(kv.Config{Dir: path.Join(p.cfg.Dir, dirProvider), FS: p.cfg.FS, Points: p.cfg.Points}); err != nil {
		return err
	}
	p.list = p.ids.Raw()
	if err := checkListFormat(p.ids); err != nil {
		return err
	}
	p.blocks, err = blockfile.OpenProvider(blockfile.Config{
		Dir: path.Join(p.cfg.Dir, dirChains), FS: p.cfg.FS, Index: blockfile.IndexAll,
		Log: p.cfg.Log.Named("fsblkstorage"), Metrics: p.cfg.Metrics, Points: p.cfg.Points, MaxFileSize: p.cfg.maxFileSize, HoldLast: true,
		Progress: p.cfg.Progress,
	})
	if err != nil {
		return err
	}
	p.warnOfLostSides()
	if p.state, err = openState(&p.cfg); err != nil {
		return fmt.Errorf("open state database: %w", err)
	}
	p.sides, err = openSideStores(&p.cfg)
	return err
}

// warnOfLostSides tells of databases that are made anew, but filled again only if
// the state is dropped as well (LEDGER §17.5).
func (p *Provider) warnOfLostSides() {
	there := func(name string) bool {
		_, err := p.cfg.FS.Stat(path.Join(p.cfg.Dir, name))
		return err == nil
	}
	for _, name := range []string{dirBookkeeper, dirConfHistory} {
		if there(dirState) && !there(name) {
			p.cfg.Log.Warningf("Database [%s] is missing, and the state [%s] is not: what it held is not made good. Unless the peer's data are from before Fabric 1.2, run peer node rebuild-dbs", name, dirState)
		}
	}
}

// checkListFormat refuses the list of channels of a later version.
func checkListFormat(db *kv.Database) error {
	format, err := db.Raw().Get([]byte(keyLaterFormat))
	if err != nil || format == nil {
		return err
	}
	return &kv.FormatError{Dir: db.Dir(), Format: string(format)}
}

// openState returns a nil interface with an error, not one of a nil pointer.
func openState(cfg *Config) (state.Provider, error) {
	if cfg.OpenState != nil {
		p, err := cfg.OpenState()
		if err != nil {
			return nil, err
		}
		return p, nil
	}
	p, err := leveldb.OpenProvider(leveldb.Config{Dir: path.Join(cfg.Dir, dirState), FS: cfg.FS, Points: cfg.Points})
	if err != nil {
		return nil, err
	}
	return p, nil
}

func (p *Provider) closeStores() error {
	var errs []error
	if p.blocks != nil {
		errs = append(errs, p.blocks.Close())
	}
	if p.sides != nil {
		errs = append(errs, p.sides.close())
	}
	if p.state != nil {
		errs = append(errs, p.state.Close())
	}
	if p.ids != nil {
		errs = append(errs, p.ids.Close())
	}
	if p.lock != nil {
		errs = append(errs, p.lock.Close())
	}
	return errors.Join(errs...)
}

// Close ends all ledgers, waits for commits under way and closes the stores.
// Executors must have been ended before.
func (p *Provider) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	for _, l := range p.open {
		l.close()
	}
	return p.closeStores()
}

// List returns the channels, sorted.
func (p *Provider) List() ([]string, error) {
	it := p.list.Scan([]byte(keyLedgerPrefix), []byte{keyLedgerPrefix[0] + 1})
	defer it.Close()
	var out []string
	for it.Next() {
		out = append(out, string(it.Key()[len(keyLedgerPrefix):]))
	}
	return out, it.Err()
}

// Exists tells whether a channel was created here.
func (p *Provider) Exists(id string) (bool, error) {
	return p.list.Has([]byte(keyLedgerPrefix + id))
}

// exists is Exists while the provider is open. It needs p.mu.
func (p *Provider) exists(id string) (bool, error) {
	if p.closed {
		return false, ErrClosed
	}
	return p.Exists(id)
}

// Genesis returns the block that a channel was created with.
func (p *Provider) Genesis(id string) (*common.Block, error) {
	raw, err := p.list.Get([]byte(keyLedgerPrefix + id))
	if err != nil {
		return nil, err
	}
	if raw == nil {
		return nil, ErrLedgerUnknown
	}
	b := &common.Block{}
	if err := unmarshal(raw, b); err != nil {
		return nil, p.list.EntryError([]byte(keyLedgerPrefix+id), err)
	}
	return b, nil
}

// Open opens a channel's ledger and brings its stores level. A ledger that is
// open already is returned as it is. See IsFatal about errors.
func (p *Provider) Open(id string) (*Ledger, error) {
	return p.OpenContext(context.Background(), id)
}

// OpenContext is Open, whose work on many blocks ends with its cause when ctx
// does; the next call goes on where it ended.
func (p *Provider) OpenContext(ctx context.Context, id string) (*Ledger, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	exists, err := p.exists(id)
	if err != nil {
		return nil, err
	}
	if !exists {
		return nil, ErrLedgerUnknown
	}
	return p.openLedger(ctx, id)
}

// openLedger needs p.mu.
func (p *Provider) openLedger(ctx context.Context, id string) (*Ledger, error) {
	if l := p.open[id]; l != nil {
		return l, nil
	}
	l, err := p.newLedger(ctx, id)
	if err != nil {
		if l != nil {
			p.discard(l)
		}
		return nil, err
	}
	p.open[id] = l
	return l, nil
}

// discard lets go of a ledger that is of no use: it could not be opened, or failed
// before its channel counted as created. The next attempt opens its stores anew,
// and repairs them. It needs p.mu.
func (p *Provider) discard(l *Ledger) {
	delete(p.open, l.id)
	p.indexes.forget(l.id)
	l.close()
	if l.private != nil {
		p.sides.private.Forget(l.private)
	}
	if err := p.blocks.CloseStore(l.id); err != nil {
		p.cfg.Log.Warnf("Channel [%s]: close block store: %s", l.id, err)
	}
}
