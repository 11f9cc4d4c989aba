package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/ledger/blockfile"
)

const remedyIndex = "remove the directory of the index while the node is down: the next start builds it anew from the block files"

// concludeIndex compares what the index holds with what the blocks say it should
// (LEDGER §3.5).
func (v *verifier) concludeIndex(ctx context.Context, scanned scans) {
	if v.index == nil {
		v.skip(checkIndex, "there is none that can be read")
		return
	}
	if scanned.indexErr != nil && ctx.Err() == nil {
		v.databaseDamage(v.d.indexName(), checkIndex, scanned.indexErr)
	}
	height := v.report.Height
	if v.indexed < height {
		v.add(Finding{
			Severity: Repair, Kind: checkIndex, Database: v.d.indexName(), Key: "indexCheckpointKey",
			Problem: fmt.Sprintf("%s are not indexed", blocks(v.indexed, height)), Consequence: "the next start indexes them",
		})
	}
	if scanned.indexErr == nil && scanned.index != v.total.index {
		x := &indexExplainer{v: v}
		if err := x.run(ctx); err != nil && ctx.Err() == nil {
			v.databaseDamage(v.d.indexName(), checkIndex, err)
		}
	}
	v.conclude(checkIndex, fmt.Sprintf("%d entries", scanned.index.N))
}

// indexExplainer finds out, entry by entry, where index and blocks differ. What
// blocks that cannot be read should have in the index is not known.
type indexExplainer struct {
	v     *verifier
	files *blockfile.Files
	have  map[byte]uint64 // entries found right, by kind

	// The block read last for an entry.
	block *common.Block
	at    blockfile.Location
}

func (x *indexExplainer) run(ctx context.Context) error {
	x.have = map[byte]uint64{}
	w, err := newWalker(x.v.d, x.v.id, func(Finding) {})
	if err != nil {
		return err
	}
	defer w.files.Close()
	w.committed, x.files = x.v.committed, w.files
	if err := w.run(ctx, x.forward); err != nil {
		return err
	}
	if x.v.findings.has(Damage, checkFiles) {
		return nil // entries of lost blocks are to be expected
	}
	counts := map[byte]uint64{}
	err = x.v.index.Scan(func(key, _ []byte) error {
		if len(key) > 0 {
			counts[key[0]]++
		}
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	surplus := false
	for kind, n := range counts {
		surplus = surplus || n > x.have[kind]
	}
	if !surplus {
		return nil
	}
	return x.v.index.Scan(func(key, value []byte) error {
		x.backward(key, value)
		return ctx.Err()
	})
}

func (x *indexExplainer) report(severity Severity, key []byte, format string, args ...any) Finding {
	f := Finding{
		Severity: severity, Kind: checkIndex, Database: x.v.d.indexName(), Key: fmt.Sprintf("%q", key),
		Problem: fmt.Sprintf(format, args...), Consequence: "queries by number, hash or transaction id, and the search for duplicate ids, answer wrongly or fail", Remedy: remedyIndex,
	}
	return f
}

// forward looks up the entries that a block should have.
func (x *indexExplainer) forward(rec *record) error {
	if rec.number() >= x.v.indexed {
		return nil
	}
	parsed := protoutil.ParseBlock(rec.block)
	locations := blockfile.TxLocations(rec.body, rec.at, parsed.Len())
	var failed error
	spec := blockfile.IndexSpec{
		Block: parsed, Body: rec.body, At: rec.at, Items: x.v.items,
		First: func(tx int, id string) bool {
			first, err := x.isFirst(parsed, locations[tx], tx, id)
			failed = errors.Join(failed, err)
			return first
		},
	}
	blockfile.IndexEntries(spec, func(key, want []byte) {
		got, err := x.v.index.Get(key)
		if err != nil {
			failed = errors.Join(failed, err)
			return
		}
		if bytes.Equal(got, want) {
			x.have[key[0]]++
			return
		}
		var f Finding
		if got == nil {
			f = x.report(Damage, key, "the entry is missing")
		} else {
			x.have[key[0]]++
			f = x.report(Damage, key, "the entry is %s, it should be %s", entryText(key, got), entryText(key, want))
		}
		x.v.add(x.place(f, rec, parsed, key))
	})
	return failed
}

// place says of which block and transaction an entry is.
func (x *indexExplainer) place(f Finding, rec *record, parsed *protoutil.Block, key []byte) Finding {
	f = f.atBlock(rec.number())
	e, _ := blockfile.ParseEntry(key, nil) // the value is another matter
	switch e.Kind {
	case 'a':
		return f.atTx(int(e.Tx), parsed.Tx(int(e.Tx)).ID())
	case 't', 'b', 'v':
		for i := range parsed.Len() {
			if parsed.Tx(i).ID() == e.TxID {
				return f.atTx(i, e.TxID)
			}
		}
	}
	return f
}

func entryText(key, value []byte) string {
	e, err := blockfile.ParseEntry(key, value)
	switch {
	case err != nil:
		return fmt.Sprintf("%x, which is malformed", value)
	case e.Kind == 'v':
		return e.Code.String()
	default:
		return fmt.Sprintf("file %d, offset %d, length %d", e.At.File, e.At.Offset, e.At.Length)
	}
}

// isFirst tells whether a transaction is the first of its id, by looking at what
// the index takes for the first.
func (x *indexExplainer) isFirst(b *protoutil.Block, own blockfile.Location, tx int, id string) (bool, error) {
	at, err := x.v.index.Tx(id)
	switch {
	case errors.Is(err, blockfile.ErrNotFound):
		// Before 1.4.2 configurations were indexed under the empty id.
		h, herr := b.Tx(tx).ChannelHeader()
		_, eerr := x.v.index.Tx("")
		return herr != nil || h.GetType() != int32(common.HeaderType_CONFIG) || eerr != nil, nil
	case errors.Is(err, blockfile.ErrEntry):
		return true, nil // it is reported when it is compared
	case err != nil:
		return true, err
	case at == own || at.File > own.File || at.File == own.File && at.Offset > own.Offset:
		return true, nil
	}
	raw, err := x.files.Tx(at)
	if err != nil {
		return true, nil //nolint:nilerr // it is nobody's place, so the entry is wrong
	}
	return protoutil.ParseTx(raw).ID() != id, nil
}

// backward looks whether a block stands behind an entry.
func (x *indexExplainer) backward(key, value []byte) {
	e, err := blockfile.ParseEntry(key, value)
	if err != nil {
		if e.Kind == 0 {
			x.v.add(x.report(Warning, key, "the entry is of no known kind"))
		}
		return
	}
	stands := true
	switch e.Kind {
	case 'n':
		stands = e.Block < x.v.indexed
	case 'a':
		b := x.blockAt(func() (blockfile.Location, error) { return x.v.index.Block(e.Block) })
		stands = e.Block < x.v.indexed && (b == nil || e.Tx < uint64(len(b.GetData().GetData())))
	case 'h':
		b := x.blockAt(func() (blockfile.Location, error) { return e.At, nil })
		stands = b != nil && bytes.Equal(protoutil.BlockHash(b.GetHeader()), e.Hash)
	case 't':
		raw, err := x.files.Tx(e.At)
		stands = err == nil && (e.TxID == "" || protoutil.ParseTx(raw).ID() == e.TxID)
	default:
		_, err := x.v.index.Tx(e.TxID)
		stands = !errors.Is(err, blockfile.ErrNotFound)
	}
	if !stands {
		f := x.report(Damage, key, "there is nothing in the blocks that the entry (%s) could be of", entryText(key, value))
		f.TxID = e.TxID
		x.v.add(f)
	}
}

// blockAt reads a block, remembering the last.
func (x *indexExplainer) blockAt(locate func() (blockfile.Location, error)) *common.Block {
	at, err := locate()
	if err != nil {
		return nil
	}
	if x.block != nil && x.at == at {
		return x.block
	}
	b, err := readBlock(x.files, at)
	if err != nil {
		return nil
	}
	x.block, x.at = b, at
	return b
}

// readBlock reads the record at a location.
func readBlock(files *blockfile.Files, at blockfile.Location) (*common.Block, error) {
	list, err := files.List()
	if err != nil {
		return nil, err
	}
	for _, info := range list {
		if info.Number != at.File {
			continue
		}
		body, _, err := files.Body(at.File, at.Offset, info.Size)
		if err != nil {
			return nil, err
		}
		return blockfile.ParseBody(body)
	}
	return nil, fmt.Errorf("block file %d: %w", at.File, ErrNotFound)
}
