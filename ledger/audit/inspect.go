package audit

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"

	"github.com/heddle-ledger/heddle/internal/progress"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/ledger/blockfile"
	"github.com/heddle-ledger/heddle/ledger/history"
	"github.com/heddle-ledger/heddle/ledger/pvtstore"
	"github.com/heddle-ledger/heddle/ledger/state"
	"github.com/heddle-ledger/heddle/ledger/state/leveldb"
)

// Overview is what a directory holds.
type Overview struct {
	Path     string            `json:"path"`
	Kind     Kind              `json:"kind"`
	Channels []ChannelOverview `json:"channels"`
}

// ChannelOverview is what a directory holds of one channel. Heights are numbers
// of blocks; nil where there is no such store.
type ChannelOverview struct {
	ID           string  `json:"channel"`
	Height       uint64  `json:"height"`
	LastHash     string  `json:"last_block_hash,omitempty"`
	PreviousHash string  `json:"previous_block_hash,omitempty"`
	CommitHash   string  `json:"last_commit_hash,omitempty"`
	LastTime     string  `json:"last_transaction_time,omitempty"`
	LastConfig   uint64  `json:"last_config"`
	Files        int     `json:"files"`
	Bytes        int64   `json:"bytes"`
	Index        *uint64 `json:"index_height,omitempty"`
	State        *uint64 `json:"state_height,omitempty"`
	History      *uint64 `json:"history_height,omitempty"`
	Private      *uint64 `json:"private_height,omitempty"`
	Remark       string  `json:"remark,omitempty"`
}

// Inspect tells what is in a directory, without checking it.
func Inspect(ctx context.Context, d *Dir, channels []string) (*Overview, error) {
	ids, err := d.choose(channels)
	if err != nil {
		return nil, err
	}
	o := &Overview{Path: d.Path, Kind: d.Kind, Channels: []ChannelOverview{}}
	for _, id := range ids {
		c, err := d.inspectChannel(ctx, id)
		if err != nil {
			return nil, fmt.Errorf("channel [%s]: %w", id, err)
		}
		o.Channels = append(o.Channels, *c)
	}
	return o, nil
}

func (d *Dir) inspectChannel(ctx context.Context, id string) (*ChannelOverview, error) {
	c := &ChannelOverview{ID: id}
	files := d.files(id)
	defer files.Close()
	list, err := files.List()
	if err != nil {
		c.Remark = err.Error()
		return c, nil //nolint:nilerr // it is part of the answer
	}
	for _, info := range list {
		c.Files++
		c.Bytes += info.Size
	}
	last, err := d.lastRecord(ctx, id)
	switch {
	case errors.Is(err, ErrNotFound):
	case err != nil:
		return nil, err
	default:
		h := last.block.GetHeader()
		c.Height = h.GetNumber() + 1
		c.LastHash, c.PreviousHash = hex.EncodeToString(protoutil.BlockHash(h)), hex.EncodeToString(h.GetPreviousHash())
		c.LastConfig, _ = protoutil.LastConfigIndex(last.block) // 0 if it does not decode
		if hash, err := commitHash(last.block); err == nil {
			c.CommitHash = hex.EncodeToString(hash)
		}
		if b := protoutil.ParseBlock(last.block); b.Len() > 0 {
			c.LastTime = describeTx(b.Tx(b.Len()-1), 0, nil).Time
		}
	}
	d.heights(id, c)
	return c, nil
}

// heights reads how far the stores beside the block files are.
func (d *Dir) heights(id string, c *ChannelOverview) {
	var remarks []string
	set := func(to **uint64, read func() (uint64, error)) {
		n, err := read()
		if err != nil {
			remarks = append(remarks, err.Error())
			return
		}
		*to = &n
	}
	if v := d.index(id); v != nil {
		set(&c.Index, v.Height)
	}
	if d.Kind == Peer {
		if db, err := d.database(dbState); err == nil {
			set(&c.State, func() (uint64, error) { return next(leveldb.OpenView(db, id).Savepoint()) })
		}
		if db, err := d.database(dbHistory); err == nil {
			set(&c.History, history.Open(db, id).Next)
		}
		if db, err := d.database(dbPrivate); err == nil {
			set(&c.Private, func() (uint64, error) {
				h, err := pvtstore.OpenView(db, id).Heads()
				return h.Next, err
			})
		}
		genesis, constructing, err := d.listed()
		switch {
		case err != nil:
			remarks = append(remarks, err.Error())
		case constructing == id:
			remarks = append(remarks, "was being created when the peer stopped")
		case genesis[id] == nil:
			remarks = append(remarks, "not in the peer's list of channels")
		}
		if raw, err := os.ReadFile(filepath.Join(d.chainDir(id), "__preResetHeight")); err == nil {
			remarks = append(remarks, fmt.Sprintf("rolled back or reset from height %.20s", strings.TrimSpace(string(raw))))
		}
	}
	c.Remark = strings.Join(remarks, "; ")
}

func next(sp *state.Version, err error) (uint64, error) {
	if err != nil || sp == nil {
		return 0, err
	}
	return sp.Block + 1, nil
}

// lastRecord finds the last block: by the index, and then onward through what
// follows it.
func (d *Dir) lastRecord(ctx context.Context, id string) (*record, error) {
	var from uint64
	if v := d.index(id); v != nil {
		if h, err := v.Height(); err == nil && h > 0 {
			from = h - 1
		}
	}
	var last *record
	keep := func(r *record) error {
		last = r
		return nil
	}
	err := d.each(ctx, id, from, keep)
	if err == nil && last == nil && from > 0 { // what the index knows is not there
		err = d.each(ctx, id, 0, keep)
	}
	if err == nil && last == nil {
		err = fmt.Errorf("block [%d]: %w", from, ErrNotFound)
	}
	return last, err
}

// each visits the blocks from a number on, past damage. Where the index knows the
// first, the files before are not read.
func (d *Dir) each(ctx context.Context, id string, from uint64, visit emitFunc) error {
	w, err := newWalker(d, id, func(Finding) {})
	if err != nil {
		return err
	}
	defer w.files.Close()
	begin := 0
	if w.index != nil && from > 0 {
		if loc, err := w.index.Block(from); err == nil {
			for i, info := range w.list {
				if info.Number != loc.File {
					continue
				}
				if rec, _, err := w.read(info, loc.Offset); err == nil && rec.number() == from {
					begin, w.next, w.start = i, from, loc.Offset
				}
			}
		}
	}
	for i := begin; i < len(w.list); i++ {
		err := w.file(ctx, i, func(r *record) error {
			if r.number() < from {
				return nil
			}
			return visit(r)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

var errFound = errors.New("found")

// Block shows one block.
func Block(ctx context.Context, d *Dir, channel string, number uint64) (*BlockView, error) {
	if _, err := d.choose([]string{channel}); err != nil {
		return nil, err
	}
	rec, err := d.record(ctx, channel, number)
	if err != nil {
		return nil, err
	}
	return describeBlock(channel, rec), nil
}

// NewestBlock shows the last block.
func NewestBlock(ctx context.Context, d *Dir, channel string) (*BlockView, error) {
	if _, err := d.choose([]string{channel}); err != nil {
		return nil, err
	}
	rec, err := d.lastRecord(ctx, channel)
	if err != nil {
		return nil, err
	}
	return describeBlock(channel, rec), nil
}

func (d *Dir) record(ctx context.Context, channel string, number uint64) (*record, error) {
	var found *record
	err := d.each(ctx, channel, number, func(r *record) error {
		if r.number() != number {
			return d.noBlock(ctx, channel, number)
		}
		found = r
		return errFound
	})
	if found != nil {
		return found, nil
	}
	if err == nil {
		err = d.noBlock(ctx, channel, number)
	}
	return nil, err
}

// noBlock says which blocks there are.
func (d *Dir) noBlock(ctx context.Context, channel string, number uint64) error {
	have := ""
	if c, err := d.inspectChannel(ctx, channel); err == nil && c.Height > 0 && number >= c.Height {
		have = fmt.Sprintf(", the last is [%d]", c.Height-1)
	}
	return fmt.Errorf("block [%d] of channel [%s]: %w%s", number, channel, ErrNotFound, have)
}

// Transaction shows the first transaction of an id. Without an index of ids, as
// on an orderer, all blocks are searched, which show tells of.
func Transaction(ctx context.Context, d *Dir, channel, txid string, show io.Writer) (*TransactionView, error) {
	if _, err := d.choose([]string{channel}); err != nil {
		return nil, err
	}
	if v := d.index(channel); v != nil && d.Kind == Peer {
		if found, err := d.indexedTx(channel, txid, v); found != nil || err != nil {
			return found, err
		}
	}
	overview, err := d.inspectChannel(ctx, channel)
	if err != nil {
		return nil, err
	}
	p := progress.New(show, "searching "+channel, 0, overview.Height)
	defer p.Done()
	var found *TransactionView
	err = d.each(ctx, channel, 0, func(r *record) error {
		p.Set(r.number() + 1)
		b := protoutil.ParseBlock(r.block)
		for i := range b.Len() {
			if b.Tx(i).ID() == txid {
				found = describeTransaction(channel, r.block, i)
				return errFound
			}
		}
		return nil
	})
	if found != nil {
		return found, nil
	}
	if err == nil {
		err = fmt.Errorf("transaction [%s] in channel [%s]: %w", txid, channel, ErrNotFound)
	}
	return nil, err
}

// indexedTx finds a transaction by the index; nil if the index does not know it,
// or not truly.
func (d *Dir) indexedTx(channel, txid string, v *blockfile.IndexView) (*TransactionView, error) {
	at, err := v.BlockOfTx(txid)
	if errors.Is(err, blockfile.ErrNotFound) || errors.Is(err, blockfile.ErrEntry) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	files := d.files(channel)
	defer files.Close()
	block, err := readBlock(files, at)
	if err != nil {
		return nil, nil //nolint:nilerr // then it is searched for
	}
	b := protoutil.ParseBlock(block)
	for i := range b.Len() {
		if b.Tx(i).ID() == txid {
			return describeTransaction(channel, block, i), nil
		}
	}
	return nil, nil
}

func describeTransaction(channel string, block *common.Block, i int) *TransactionView {
	b := protoutil.ParseBlock(block)
	v := &TransactionView{Channel: channel, Block: b.Number(), TxView: describeTx(b.Tx(i), i, b.Flags())}
	env, err := b.Tx(i).Envelope()
	if err != nil {
		v.EnvelopeError, v.EnvelopeBytes = err.Error(), b.Tx(i).Bytes()
		return v
	}
	v.Envelope, v.EnvelopeError, v.EnvelopeBytes = jsonOf(env)
	return v
}
