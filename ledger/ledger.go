package ledger

import (
	"context"
	"fmt"
	"sync"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/failpoint"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/ledger/blockfile"
	"github.com/heddle-ledger/heddle/ledger/bookkeeper"
	"github.com/heddle-ledger/heddle/ledger/confhistory"
	"github.com/heddle-ledger/heddle/ledger/history"
	"github.com/heddle-ledger/heddle/ledger/mvcc"
	"github.com/heddle-ledger/heddle/ledger/pvtstore"
	"github.com/heddle-ledger/heddle/ledger/state"
)

// Ledger is one channel's ledger. Its methods are safe for concurrent use;
// commits are made one at a time.
type Ledger struct {
	id         string
	log        *flog.Logger
	points     *failpoint.Points
	metrics    *ledgerMetrics
	membership Membership
	progress   Progress
	lateBlocks int              // most that a replay holds back
	differs    *CommitHashError // set while the ledger is opened
	rebuilt    bool             // the state was empty when the ledger was opened

	blocks  *blockfile.Store
	state   state.DB
	latest  state.Reader // the state for a commit, in a replay with what is on the way to it
	books   *bookkeeper.Store
	conf    *confhistory.Store
	history *history.Store // nil if not enabled
	private *pvtstore.Store
	herald  *herald
	indexes *indexes

	btlMu sync.Mutex // guards btl
	btl   map[mvcc.Collection]uint64

	packages packageMemo

	// commitMu serialises commits; it guards the fields of this group.
	commitMu   sync.Mutex
	validator  mvcc.Validator
	commitHash []byte // of the last block, nil if it had none
	nextHash   []byte // of the block being committed
	prepared   bool   // the private store holds a batch that is not committed

	halted chan struct{} // closed when the ledger stops

	mu      sync.Mutex    // guards what follows
	height  uint64        // blocks committed in all stores
	wake    chan struct{} // closed when height or heldUp moves or the ledger stops
	stopped error         // why nothing will be committed any more
	work    *work         // what is done to the state; nil if it is nothing that waits
	heldUp  int           // calls that wait for the state database
}

// publish shows a committed block to everybody who waits.
func (l *Ledger) publish(height uint64) {
	l.mu.Lock()
	l.height = height
	close(l.wake)
	l.wake = make(chan struct{})
	l.mu.Unlock()
	l.blocks.Publish()
}

// stop ends all commits; the first reason stays.
func (l *Ledger) stop(reason error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped == nil {
		l.stopped = reason
		close(l.halted)
		close(l.wake)
		l.wake = make(chan struct{})
	}
}

func (l *Ledger) stopReason() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stopped
}

// close ends commits and waits for one that is under way. The stores belong to
// the Provider.
func (l *Ledger) close() {
	l.stop(ErrClosed)
	l.commitMu.Lock()
	defer l.commitMu.Unlock()
	if l.herald != nil { // it is being closed because it could not be opened
		l.herald.stop()
	}
}

// NewQueryExecutor returns an executor over the last committed state. It must
// be ended with Done.
func (l *Ledger) NewQueryExecutor() (*QueryExecutor, error) {
	snap, err := l.state.Snapshot()
	if err != nil {
		return nil, err
	}
	return newQueryExecutor(snap, l.metadataUsed), nil
}

// validatorOn judges transactions on a state.
func (l *Ledger) validatorOn(st state.Reader) mvcc.Validator {
	v := mvcc.Validator{State: st, MetadataUsed: l.metadataUsed, CheckWrite: l.state.CheckWrite}
	if c, ok := l.state.(state.KeyChecker); ok {
		v.CheckKey = c.CheckKey
	}
	return v
}

func (l *Ledger) metadataUsed(ns string) bool { return l.books.MetadataUsed(ns) }

// ChannelConfig returns the channel's current configuration as the state has it
// (LEDGER §4.3), nil if the state has none. It belongs to the opening of a channel:
// if the state database is out of reach it waits, until ctx ends.
func (l *Ledger) ChannelConfig(ctx context.Context) (*common.Config, error) {
	var v *state.Value
	get := func() (err error) {
		v, err = l.state.Get("", mvcc.ConfigKey)
		return err
	}
	err := get()
	if l.passing(err) {
		err = l.await(&work{ctx: ctx, doing: openingChannel, brief: true}, err, get)
	}
	if err != nil || len(valueOf(v)) == 0 {
		return nil, err
	}
	cfg := &common.Config{}
	if err := unmarshal(v.Value, cfg); err != nil {
		return nil, err
	}
	return cfg, nil
}

// lastCommitHash is the commit hash in a block's metadata, nil if it has none
// (LEDGER §13.4).
func lastCommitHash(b *common.Block) ([]byte, error) {
	slots := b.GetMetadata().GetMetadata()
	if len(slots) <= protoutil.CommitHashSlot {
		return nil, nil
	}
	m := &common.Metadata{}
	if err := proto.Unmarshal(slots[protoutil.CommitHashSlot], m); err != nil {
		return nil, fmt.Errorf("commit hash of block [%d]: %w", b.GetHeader().GetNumber(), err)
	}
	if len(m.Value) == 0 {
		return nil, nil
	}
	return m.Value, nil
}
