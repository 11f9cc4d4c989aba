// Package transient keeps the private write sets of endorsed transactions until
// their blocks are committed (LEDGER §10). Its directory is transientStore,
// outside ledgersData.
//
// A Provider owns the database of all channels; a Store is one channel's part
// and safe for concurrent use. There are no goroutines. It may be imported by
// peer/** beside ledger; so far only tests open it, private data not being
// distributed yet.
package transient

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"github.com/hyperledger/fabric-protos-go-apiv2/transientstore"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/ledger/kv"
)

// ErrEmpty is the answer to MinHeight when there is nothing.
var ErrEmpty = errors.New("Transient store is empty") //nolint:staticcheck // the reference's text

// Filter names the collections wanted of each namespace; nil means all of them.
type Filter map[string]map[string]bool

// Set is one write set of a transaction, as some endorser simulated it.
type Set struct {
	// Height is the ledger height at which it was received or endorsed.
	Height uint64
	// Private has no write set if the filter left nothing.
	Private *transientstore.TxPvtReadWriteSetWithConfigInfo
}

// Provider opens the stores of channels.
type Provider struct {
	db *kv.Database
}

// OpenProvider opens the database of a directory; a nil file system is the
// machine's.
func OpenProvider(dir string, fsys vfs.FS) (*Provider, error) {
	db, err := kv.Open(kv.Config{Dir: dir, FS: fsys})
	if err != nil {
		return nil, fmt.Errorf("open transient store: %w", err)
	}
	return &Provider{db: db}, nil
}

// Open returns a channel's store.
func (p *Provider) Open(channel string) *Store { return &Store{db: p.db.Store(channel)} }

// Close closes the database.
func (p *Provider) Close() error { return p.db.Close() }

// Store keeps the write sets of one channel.
type Store struct {
	db *kv.Store
}

// Persist stores a write set durably. The same transaction may have several.
func (s *Store) Persist(txid string, height uint64, set *transientstore.TxPvtReadWriteSetWithConfigInfo) error {
	if strings.IndexByte(txid, 0) >= 0 {
		return fmt.Errorf("transaction id [%q] holds a zero byte", txid)
	}
	e := entry{txid: txid, uuid: newUUID(), height: height}
	b := s.db.NewBatch()
	b.Put(e.byTx(prefixSet), append([]byte{newFormat}, protoutil.Marshal(set)...))
	b.Put(e.byHeight(), nil)
	b.Put(e.byTx(prefixTx), nil)
	if err := s.db.Write(b, true); err != nil {
		return fmt.Errorf("persist private data of transaction [%s]: %w", txid, err)
	}
	return nil
}

// newUUID is a random (version 4) UUID.
func newUUID() string {
	var u [16]byte
	rand.Read(u[:]) //nolint:errcheck // never fails
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// Read returns all write sets of a transaction (LEDGER §10.2).
func (s *Store) Read(txid string, filter Filter) ([]Set, error) {
	prefix := txPrefix(prefixSet, txid)
	it := s.db.Scan(prefix, prefixEnd(prefix))
	defer it.Close()
	var out []Set
	for it.Next() {
		e, err := parseByTx(it.Key())
		if err != nil {
			return nil, it.EntryError(err)
		}
		set, err := parseValue(it.Value())
		if err != nil {
			return nil, it.EntryError(err)
		}
		out = append(out, Set{Height: e.height, Private: trim(set, filter)})
	}
	return out, it.Err()
}

func prefixEnd(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	end[len(end)-1] = 1 // the prefix ends in the separator 00
	return end
}

func parseValue(raw []byte) (*transientstore.TxPvtReadWriteSetWithConfigInfo, error) {
	set := &transientstore.TxPvtReadWriteSetWithConfigInfo{}
	if len(raw) > 0 && raw[0] == newFormat {
		return set, proto.Unmarshal(raw[1:], set)
	}
	set.PvtRwset = &rwset.TxPvtReadWriteSet{}
	return set, proto.Unmarshal(raw, set.PvtRwset)
}

func trim(set *transientstore.TxPvtReadWriteSetWithConfigInfo, f Filter) *transientstore.TxPvtReadWriteSetWithConfigInfo {
	if f == nil {
		return set
	}
	out := &transientstore.TxPvtReadWriteSetWithConfigInfo{EndorsedAt: set.EndorsedAt, PvtRwset: trimSet(set.PvtRwset, f)}
	for ns, pkg := range set.CollectionConfigs {
		kept := &peer.CollectionConfigPackage{}
		for _, c := range pkg.GetConfig() {
			if f[ns][c.GetStaticCollectionConfig().GetName()] {
				kept.Config = append(kept.Config, c)
			}
		}
		if len(kept.Config) == 0 {
			continue
		}
		if out.CollectionConfigs == nil {
			out.CollectionConfigs = map[string]*peer.CollectionConfigPackage{}
		}
		out.CollectionConfigs[ns] = kept
	}
	return out
}

func trimSet(set *rwset.TxPvtReadWriteSet, f Filter) *rwset.TxPvtReadWriteSet {
	out := &rwset.TxPvtReadWriteSet{DataModel: set.GetDataModel()}
	for _, ns := range set.GetNsPvtRwset() {
		kept := &rwset.NsPvtReadWriteSet{Namespace: ns.GetNamespace()}
		for _, c := range ns.GetCollectionPvtRwset() {
			if f[ns.GetNamespace()][c.GetCollectionName()] {
				kept.CollectionPvtRwset = append(kept.CollectionPvtRwset, c)
			}
		}
		if len(kept.CollectionPvtRwset) > 0 {
			out.NsPvtRwset = append(out.NsPvtRwset, kept)
		}
	}
	if len(out.NsPvtRwset) == 0 {
		return nil
	}
	return out
}

func dropEntry(b *kv.Batch, e entry) {
	b.Delete(e.byTx(prefixSet))
	b.Delete(e.byHeight())
	b.Delete(e.byTx(prefixTx))
}

// PurgeByTxIDs removes the write sets of transactions whose block is durable
// (LEDGER §10.3, §15.3 e). What a crash brings back goes with its height later.
func (s *Store) PurgeByTxIDs(txids []string) error {
	b := s.db.NewBatch()
	for _, txid := range txids {
		prefix := txPrefix(prefixTx, txid)
		if err := s.drop(b, prefix, prefixEnd(prefix), parseByTx); err != nil {
			return err
		}
	}
	return s.db.Write(b, false)
}

// PurgeBelow removes the write sets received below a height.
func (s *Store) PurgeBelow(height uint64) error {
	b := s.db.NewBatch()
	if err := s.drop(b, []byte{prefixHeight, 0}, kv.AppendOPV([]byte{prefixHeight, 0}, height), parseByHeight); err != nil {
		return err
	}
	return s.db.Write(b, false)
}

// maxPurgeBatch bounds the bytes of a batch of deletes: whoever may propose
// transactions can leave any number of write sets behind.
const maxPurgeBatch = 1 << 20

// drop adds the deletes of entries to a batch, which it writes when it is full.
func (s *Store) drop(b *kv.Batch, start, end []byte, parse func([]byte) (entry, error)) error {
	it := s.db.Scan(start, end)
	defer it.Close()
	for it.Next() {
		e, err := parse(it.Key())
		if err != nil {
			return it.EntryError(err)
		}
		if dropEntry(b, e); b.Size() < maxPurgeBatch {
			continue
		}
		if err := s.db.Write(b, false); err != nil {
			return err
		}
		b.Reset()
	}
	return it.Err()
}

// MinHeight is the lowest height of any write set, or ErrEmpty.
func (s *Store) MinHeight() (uint64, error) {
	it := s.db.Scan([]byte{prefixHeight, 0}, []byte{prefixHeight, 1})
	defer it.Close()
	if !it.Next() {
		if err := it.Err(); err != nil {
			return 0, err
		}
		return 0, ErrEmpty
	}
	e, err := parseByHeight(it.Key())
	if err != nil {
		return 0, it.EntryError(err)
	}
	return e.height, nil
}
