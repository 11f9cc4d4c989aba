// Package state defines what the ledger needs of a world state database, and
// the values that pass between it, mvcc and the simulator (LEDGER §4).
//
// A database holds, per channel, versioned values under (namespace, key) and a
// savepoint. Implementations are sub-packages (leveldb, couchdb) and pass the
// conformance suite in statetest. This package owns no state and starts no
// goroutine. It may be imported by the ledger room, and by
// peer/node, which chooses the implementation.
package state

import (
	"errors"
	"fmt"

	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset/kvrwset"
)

// Version is the height, (block, transaction), at which a key was written.
type Version struct {
	Block, Tx uint64
}

// String prints a version as the reference's messages do (LEDGER §11.5).
func (v Version) String() string {
	return fmt.Sprintf("{BlockNum: %d, TxNum: %d}", v.Block, v.Tx)
}

// Proto is the version as read-write sets carry it.
func (v Version) Proto() *kvrwset.Version {
	return &kvrwset.Version{BlockNum: v.Block, TxNum: v.Tx}
}

// Value is one committed value.
type Value struct {
	Value    []byte
	Metadata []byte // marshalled KVMetadataWrite, LEDGER §4.4; nil if none
	Version  Version
}

// KV is one result of a range scan or a query.
type KV struct {
	Key string
	Value
}

// Lookup is one element of a bulk version look-up: Version and Found are filled
// in by Reader.Versions.
type Lookup struct {
	Namespace, Key string
	Version        Version
	Found          bool
}

// Same tells whether the key's committed version is v, nil meaning absent
// (LEDGER §1.4). A version message that is present but 0:0 is not absent.
func (l *Lookup) Same(v *kvrwset.Version) bool {
	if v == nil {
		return !l.Found
	}
	return l.Found && l.Version.Block == v.BlockNum && l.Version.Tx == v.TxNum
}

// Reader reads one consistent state of one channel.
type Reader interface {
	// Get returns nil for an absent key.
	Get(ns, key string) (*Value, error)
	// GetMany returns one element per key, nil where absent.
	GetMany(ns string, keys []string) ([]*Value, error)
	// Versions fills in a batch of version look-ups.
	Versions(lookups []Lookup) error
	// Range scans [start, end) in byte order; an empty start or end is open
	// (LEDGER §4.5). Limit 0 means none; with a limit the iterator's Bookmark
	// tells where the next page begins.
	Range(ns, start, end string, limit int32) (Iterator, error)
	// Query runs a rich query. A limit or bookmark asks for one page.
	Query(ns string, q Query) (Iterator, error)
}

// VersionScanner is what a Reader may have beside Range for those who want no
// values.
type VersionScanner interface {
	// VersionScan walks over a namespace; it is to be closed before the state
	// changes.
	VersionScan(ns string) VersionScan
}

// VersionScan walks over the keys of a namespace and their versions, in byte
// order, again and again.
type VersionScan interface {
	// Seek goes before the first key from start on.
	Seek(start string)
	// Next goes to the next key; ok is false at the end. The key is valid until
	// the scan moves on.
	Next() (key string, v Version, ok bool, err error)
	Close()
}

// Query is a rich query; Paged tells it apart from one without limits.
type Query struct {
	Text     string
	Paged    bool
	Limit    int32
	Bookmark string
}

// Iterator walks over results.
type Iterator interface {
	// Next returns nil, nil at the end.
	Next() (*KV, error)
	// Bookmark ends the iteration and tells where a paged scan or query goes
	// on after the results read so far; empty at the end of the range (some
	// databases return the end key).
	Bookmark() string
	Close()
}

// Snapshot is a Reader that does not change while blocks are committed.
type Snapshot interface {
	Reader
	Release()
}

// DB is the state of one channel. The Reader methods see the last applied
// batch. Apply is called by one goroutine at a time; everything else may run
// beside it.
type DB interface {
	Reader
	// Snapshot fixes the state as it is now.
	Snapshot() (Snapshot, error)
	// Apply writes a batch, with the savepoint if one is given, atomically or
	// at least so that repeating it repairs an interruption. With sync it
	// returns only when the batch is durable.
	Apply(b *Batch, savepoint *Version, sync bool) error
	// Savepoint is the last one applied, nil if there is none.
	Savepoint() (*Version, error)
	// CheckWrite applies the database's own rules to a key and value
	// (LEDGER §5.4).
	CheckWrite(key string, value []byte) error
}

// KeyChecker is a DB that cannot hold every key of every namespace. Where it cannot
// hold one, reads find nothing.
type KeyChecker interface {
	CheckKey(ns, key string) error
}

// Reshaper is a DB that gives some values back in another form than they were
// written in, as LEDGER §5.3 has it for JSON.
type Reshaper interface {
	// Reshapes tells whether it may do so with a value.
	Reshapes(value []byte) bool
}

// Holder is a DB whose snapshots may be overtaken (ErrStale).
type Holder interface {
	// HeldSnapshot fixes the state for longer: batches wait for its release, and
	// nothing ends it before. nested is set by who holds a snapshot already, of
	// this database or of another.
	HeldSnapshot(nested bool) (Snapshot, error)
}

// Leftovers is a DB that may have lost its savepoint, but not its values. Blocks
// can be written over their own values, but not beside those of later blocks.
type Leftovers interface {
	// WrittenFrom names a value that a block from height on has written; empty if
	// there is none.
	WrittenFrom(height uint64) (string, error)
}

// Spaces is a DB with a database of its own for each namespace, one of which may be
// lost while the savepoint is not.
type Spaces interface {
	// MissingSpace names the database of a namespace if it is not there; empty if
	// it is.
	MissingSpace(ns string) (string, error)
}

// Remote is a DB on a server. Its calls may fail with an *UnreachableError.
type Remote interface {
	// Address is that of the server, for messages.
	Address() string
}

// Provider opens the states of channels.
type Provider interface {
	Open(channelID string) (DB, error)
	Close() error
}

// ErrStale is in the errors of a snapshot that cannot go on showing its state,
// since too much, or what was read from it, has been changed by later batches.
var ErrStale = errors.New("the state has been changed since the transaction began to read from it")

// UnreachableError says that a database could not be reached, or failed: the same
// call may succeed later, and may be repeated whatever became of it.
type UnreachableError struct {
	// Answered is set if it was the database itself that answered with an error.
	Answered bool
	Err      error
}

func (e *UnreachableError) Error() string { return e.Err.Error() }

func (e *UnreachableError) Unwrap() error { return e.Err }

// Errors with the reference's texts.
var (
	ErrQuery      = errors.New("ExecuteQuery not supported for leveldb")
	ErrQueryPaged = errors.New("ExecuteQueryWithMetadata not supported for leveldb")
)
