package audit

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/internal/progress"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/ledger/state/couchdb"
)

// CompareOptions of Compare.
type CompareOptions struct {
	Channels []string // none: all
	// State compares the states of two peers key by key.
	State bool
	// Servers are where the states of the two are in CouchDB; nil: in the directory.
	Servers [2]*couchdb.Viewer
	// Common compares only what both directories have: other heights and channels
	// of one alone are no difference.
	Common   bool
	Progress io.Writer // where to show how far it is; nil: nowhere
	Memory   int64     // bounds the bytes of blocks in flight; 0: 64 MiB
}

// Comparison is how two directories differ.
type Comparison struct {
	Paths    [2]string            `json:"paths"`
	Kinds    [2]Kind              `json:"kinds"`
	Channels []*ChannelComparison `json:"channels"`
	Same     bool                 `json:"same"`
}

// ChannelComparison is how two ledgers of a channel differ.
type ChannelComparison struct {
	ID      string    `json:"channel"`
	Heights [2]uint64 `json:"heights"`
	Blocks  uint64    `json:"compared_blocks"` // that are the same
	Same    bool      `json:"same"`
	// Difference is the first one; nil if what both have is the same.
	Difference *Difference `json:"difference,omitempty"`
	// OnlyIn is 1 or 2 if only one of the directories has the channel.
	OnlyIn int      `json:"only_in,omitempty"`
	Notes  []string `json:"notes,omitempty"`

	// StateKeys are the keys compared; StateDifference is the first difference.
	StateKeys       uint64      `json:"state_keys,omitempty"`
	StateDifference *Difference `json:"state_difference,omitempty"`
}

// Difference is a place where two ledgers are not the same.
type Difference struct {
	Block *uint64 `json:"block,omitempty"`
	Tx    *int    `json:"tx,omitempty"`
	TxID  string  `json:"txid,omitempty"`
	// Field is what differs: a part of the block, or a key of the state.
	Field string `json:"field"`
	A     string `json:"first"`
	B     string `json:"second"`
}

func (d *Difference) String() string {
	var parts []string
	if d.Block != nil {
		parts = append(parts, fmt.Sprintf("block %d", *d.Block))
	}
	if d.Tx != nil {
		parts = append(parts, fmt.Sprintf("transaction %d", *d.Tx))
	}
	if d.TxID != "" {
		parts = append(parts, "id "+d.TxID)
	}
	return strings.Join(append(parts, d.Field), ", ")
}

// Compare compares the ledgers of two directories.
func Compare(ctx context.Context, a, b *Dir, o CompareOptions) (*Comparison, error) {
	if o.Memory == 0 {
		o.Memory = defaultMemory
	}
	c := &Comparison{Paths: [2]string{a.Path, b.Path}, Kinds: [2]Kind{a.Kind, b.Kind}, Channels: []*ChannelComparison{}, Same: true}
	ids, err := chooseBoth(a, b, o.Channels)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		x := &comparer{a: a, b: b, o: o, r: &ChannelComparison{ID: id, Same: true}}
		if err := x.run(ctx); err != nil {
			return nil, fmt.Errorf("channel [%s]: %w", id, err)
		}
		c.Channels = append(c.Channels, x.r)
		c.Same = c.Same && x.r.Same
	}
	if both := func(x *ChannelComparison) bool { return x.OnlyIn == 0 }; len(ids) > 0 && !slices.ContainsFunc(c.Channels, both) {
		c.Same = false // nothing was compared
	}
	return c, nil
}

func chooseBoth(a, b *Dir, wanted []string) ([]string, error) {
	x, err := a.Channels()
	if err != nil {
		return nil, err
	}
	y, err := b.Channels()
	if err != nil {
		return nil, err
	}
	all := append(x, y...)
	slices.Sort(all)
	all = slices.Compact(all)
	for _, id := range wanted {
		if !slices.Contains(all, id) {
			return nil, fmt.Errorf("channel [%s] in %s and %s: %w", id, a.Path, b.Path, ErrNoChannel)
		}
	}
	if len(wanted) > 0 {
		return wanted, nil
	}
	return all, nil
}

// comparer compares one channel.
type comparer struct {
	a, b *Dir
	o    CompareOptions
	r    *ChannelComparison

	signatures  uint64  // blocks signed by others
	commitFrom  *uint64 // the first block with a commit hash in one ledger only
	commitWhere int
	spaces      spaceSet // named by blocks; nil if nobody wants to know
}

func (x *comparer) differ(d *Difference) {
	x.r.Difference, x.r.Same = d, false
}

func (x *comparer) run(ctx context.Context) error {
	has := [2]bool{}
	for i, d := range []*Dir{x.a, x.b} {
		c, err := d.inspectChannel(ctx, x.r.ID)
		if err != nil {
			return err
		}
		x.r.Heights[i] = c.Height
		has[i] = c.Files > 0
	}
	if has[0] != has[1] {
		x.r.OnlyIn = 1
		if has[1] {
			x.r.OnlyIn = 2
		}
		// A peer has not all channels of its orderer.
		owner, other := x.a.Kind, x.b.Kind
		if has[1] {
			owner, other = other, owner
		}
		x.r.Same = x.o.Common || owner == Orderer && other == Peer
		return nil
	}
	if x.o.State && (x.o.Servers[0] != nil || x.o.Servers[1] != nil) {
		x.spaces = spaceSet{}
	}
	if err := x.blocks(ctx); err != nil {
		return err
	}
	x.notes()
	if x.r.Heights[0] != x.r.Heights[1] && !x.o.Common {
		x.r.Same = false
	}
	if x.o.State && x.r.Difference == nil {
		return x.state(ctx)
	}
	return nil
}

// weighed is a block with the memory it takes.
type weighed struct {
	*record
	weight int64
}

// feed reads the blocks of one directory.
func (x *comparer) feed(ctx context.Context, d *Dir, to chan<- weighed, room *semaphore.Weighted, limit int64) error {
	defer close(to)
	return d.each(ctx, x.r.ID, 0, func(r *record) error {
		w := weighed{r, min(limit, perBlock+perByte*int64(len(r.body)))}
		if err := room.Acquire(ctx, w.weight); err != nil {
			return err
		}
		select {
		case to <- w:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
}

func (x *comparer) blocks(ctx context.Context) error {
	show := progress.New(x.o.Progress, x.r.ID, 0, min(x.r.Heights[0], x.r.Heights[1]))
	defer show.Done()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	g, gctx := errgroup.WithContext(ctx)
	limit := x.o.Memory / 2
	var feeds [2]chan weighed
	var rooms [2]*semaphore.Weighted
	for i, d := range []*Dir{x.a, x.b} {
		feeds[i], rooms[i] = make(chan weighed, 16), semaphore.NewWeighted(limit)
		g.Go(func() error { return x.feed(gctx, d, feeds[i], rooms[i], limit) })
	}
	g.Go(func() error {
		for {
			p, pok := <-feeds[0]
			q, qok := <-feeds[1]
			if !pok || !qok {
				x.ended(p, q)
				return errDone
			}
			x.r.Heights[0], x.r.Heights[1] = max(x.r.Heights[0], p.number()+1), max(x.r.Heights[1], q.number()+1)
			if d := x.block(p.record, q.record); d != nil {
				x.differ(d)
				return errDone
			}
			x.r.Blocks++
			if x.spaces != nil {
				b := protoutil.ParseBlock(p.block)
				x.spaces.add(b, b.Flags())
			}
			show.Set(p.number() + 1)
			rooms[0].Release(p.weight)
			rooms[1].Release(q.weight)
		}
	})
	if err := g.Wait(); err != nil && !errors.Is(err, errDone) {
		return err
	}
	return context.Cause(ctx)
}

// errDone ends the feeds once the answer is known.
var errDone = errors.New("done")

// ended judges the end of one ledger: is it where its blocks end?
func (x *comparer) ended(p, q weighed) {
	unreadable := func(rest weighed, height uint64) bool { return rest.record != nil && rest.number() < height }
	switch {
	case unreadable(q, x.r.Heights[0]):
		x.missing(q.number(), 0)
	case unreadable(p, x.r.Heights[1]):
		x.missing(p.number(), 1)
	}
}

// missing reports a block that only one ledger has, though the other should.
func (x *comparer) missing(n uint64, where int) {
	d := &Difference{Block: &n, Field: "block", A: "present", B: "present"}
	text := "cannot be read; see `peer ledger verify`"
	if where == 0 {
		d.A = text
	} else {
		d.B = text
	}
	x.differ(d)
}

// block compares one block and names the first difference.
func (x *comparer) block(p, q *record) *Difference {
	if p.number() != q.number() {
		where := 0
		if q.number() > p.number() {
			where = 1
		}
		x.missing(min(p.number(), q.number()), where)
		return x.r.Difference
	}
	n := p.number()
	a, b := p.block.GetHeader(), q.block.GetHeader()
	at := func(field, first, second string) *Difference {
		return &Difference{Block: &n, Field: field, A: first, B: second}
	}
	switch {
	case !bytes.Equal(a.GetPreviousHash(), b.GetPreviousHash()):
		return at("previous hash", hexText(a.GetPreviousHash()), hexText(b.GetPreviousHash()))
	case !equalData(p.block, q.block):
		return x.data(n, p.block, q.block)
	case !bytes.Equal(a.GetDataHash(), b.GetDataHash()):
		return at("data hash", hexText(a.GetDataHash()), hexText(b.GetDataHash()))
	}
	return x.metadata(n, p.block, q.block)
}

func hexText(b []byte) string {
	if len(b) == 0 {
		return "none"
	}
	return hex.EncodeToString(b)
}

// metadata compares what lies beside the data. What each node writes for itself
// may differ: who signed, and what peers add to an orderer's block.
func (x *comparer) metadata(n uint64, p, q *common.Block) *Difference {
	if x.a.Kind == Peer && x.b.Kind == Peer {
		if d := x.codes(n, p, q); d != nil {
			return d
		}
		if d := x.commitHashes(n, p, q); d != nil {
			return d
		}
	}
	for _, s := range []common.BlockMetadataIndex{
		common.BlockMetadataIndex_SIGNATURES, common.BlockMetadataIndex_LAST_CONFIG, common.BlockMetadataIndex_ORDERER,
	} {
		a, aerr := protoutil.Metadata(p, s)
		b, berr := protoutil.Metadata(q, s)
		if aerr != nil || berr != nil {
			if bytes.Equal(slot(p, int(s)), slot(q, int(s))) {
				continue
			}
			return &Difference{Block: &n, Field: "metadata slot " + s.String(), A: partText(slot(p, int(s)), aerr), B: partText(slot(q, int(s)), berr)}
		}
		if !bytes.Equal(a.GetValue(), b.GetValue()) {
			return &Difference{Block: &n, Field: "metadata slot " + s.String(), A: bytesText(a.GetValue()), B: bytesText(b.GetValue())}
		}
	}
	if !bytes.Equal(slot(p, int(common.BlockMetadataIndex_SIGNATURES)), slot(q, int(common.BlockMetadataIndex_SIGNATURES))) {
		x.signatures++
	}
	return nil
}

func (x *comparer) codes(n uint64, p, q *common.Block) *Difference {
	a, b := protoutil.ParseBlock(p).Flags(), protoutil.ParseBlock(q).Flags()
	if len(a) != len(b) {
		return &Difference{Block: &n, Field: "number of validation codes", A: fmt.Sprint(len(a)), B: fmt.Sprint(len(b))}
	}
	for i := range a {
		if a[i] == b[i] {
			continue
		}
		d := &Difference{Block: &n, Tx: &i, Field: "validation code"}
		if data := p.GetData().GetData(); i < len(data) {
			d.TxID = protoutil.ParseTx(data[i]).ID()
		}
		d.A, d.B = peer.TxValidationCode(a[i]).String(), peer.TxValidationCode(b[i]).String()
		return d
	}
	return nil
}

// commitHashes compares commit hashes where both ledgers have them: one that was
// written by older code has none.
func (x *comparer) commitHashes(n uint64, p, q *common.Block) *Difference {
	a, aerr := commitHash(p)
	b, berr := commitHash(q)
	switch {
	case aerr != nil || berr != nil:
		return &Difference{Block: &n, Field: "commit hash", A: partText(a, aerr), B: partText(b, berr)}
	case (len(a) == 0) != (len(b) == 0):
		if x.commitFrom == nil {
			x.commitFrom, x.commitWhere = &n, 1
			if len(a) == 0 {
				x.commitWhere = 2
			}
		}
		return nil
	case !bytes.Equal(a, b):
		return &Difference{Block: &n, Field: "commit hash", A: hexText(a), B: hexText(b)}
	}
	return nil
}

// notes says what was found different that may be.
func (x *comparer) notes() {
	if x.signatures > 0 {
		x.r.Notes = append(x.r.Notes, fmt.Sprintf("the signatures of %d blocks differ: each orderer signs for itself", x.signatures))
	}
	if x.commitFrom != nil {
		x.r.Notes = append(x.r.Notes, fmt.Sprintf("from block %d on only the %s ledger has commit hashes", *x.commitFrom, ordinal(x.commitWhere)))
	}
	if x.a.Kind != x.b.Kind {
		x.r.Notes = append(x.r.Notes, "validation codes and commit hashes were not compared: an orderer has none")
	}
}

func ordinal(n int) string {
	if n == 1 {
		return "first"
	}
	return "second"
}
