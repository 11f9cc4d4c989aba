package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"

	"github.com/heddle-ledger/heddle/ledger/blockfile"
)

// Names of the checks, which are also the kinds of findings.
const (
	checkFiles      = "block files"
	checkChain      = "hash chain"
	checkData       = "data hashes"
	checkMetadata   = "block metadata"
	checkSignatures = "block signatures"
	checkConfig     = "configuration"
	checkCommit     = "commit hashes"
	checkIndex      = "index"
	checkState      = "state"
	checkHistory    = "history"
	checkPrivate    = "private data"
	checkBooks      = "bookkeeping"
	checkList       = "channel list"
)

const (
	remedyCopy        = "take the block files of the channel from a backup or from another peer's directory that verifies, or, if the damage is near the end, run `peer node rollback` to a block before it and let the peer fetch the rest again"
	remedyCopyOrderer = "take the block files of the channel from a backup or from another orderer's directory that verifies"
	remedyDBs         = "run `peer node rebuild-dbs` while the peer is down: the next start builds state, history and index anew from the block files"
)

// record is one block as it was found.
type record struct {
	at    blockfile.Place
	path  string
	body  []byte
	block *common.Block
	prev  *common.Block // the block before it, nil if there is none or it could not be read
	gap   bool          // blocks before it are missing or could not be read
}

func (r *record) number() uint64 { return r.block.GetHeader().GetNumber() }

// finding begins a finding about the record.
func (r *record) finding(s Severity, kind, format string, args ...any) Finding {
	return Finding{Severity: s, Kind: kind, Problem: fmt.Sprintf(format, args...)}.at(r.path, r.at.Offset).atBlock(r.number())
}

// walker goes through the block files of a channel from the first block to the
// last, past damage as far as it can.
type walker struct {
	dir       string
	files     *blockfile.Files
	index     *blockfile.IndexView // nil if there is none
	committed uint64               // blocks that the index says were there
	report    func(Finding)

	list []blockfile.FileInfo // in the order of the chain
	next uint64               // the block expected
	prev *common.Block
	gap  bool
	// start is where to begin in the first file walked; then it is 0.
	start int64
	end   blockfile.Place // of the last record that counts; File -1 if there is none
}

func newWalker(d *Dir, channel string, report func(Finding)) (*walker, error) {
	w := &walker{
		dir: d.chainDir(channel), files: d.files(channel), index: d.index(channel), report: report,
		end: blockfile.Place{File: -1},
	}
	var err error
	if w.list, err = w.files.List(); err != nil {
		w.files.Close()
		return nil, err
	}
	return w, nil
}

// count estimates the number of records, for the progress display.
func (w *walker) count() uint64 {
	var n uint64
	for _, info := range w.list {
		for off := int64(0); off < info.Size; n++ {
			end, err := w.files.End(info.Number, off, info.Size)
			if err != nil || end <= off {
				break
			}
			off = end
		}
	}
	return n
}

// emitFunc takes the blocks in order.
type emitFunc func(*record) error

func (w *walker) run(ctx context.Context, emit emitFunc) error {
	if err := w.sortFiles(); err != nil {
		return err
	}
	for i := range w.list {
		if err := w.file(ctx, i, emit); err != nil {
			return err
		}
	}
	if w.next < w.committed && !w.gap {
		f := Finding{
			Severity: Damage, Kind: checkFiles, File: w.dir,
			Problem:     fmt.Sprintf("the index knows %s, the block files end before them", blocks(w.next, w.committed)),
			Consequence: "committed blocks are lost; the node does not start",
			Remedy:      remedyCopy,
		}
		if name, ok := w.missingFile(); ok {
			f = f.at(name, 0)
			f.Problem = fmt.Sprintf("the file is missing, and with it %s, which the index knows", blocks(w.next, w.committed))
		} else if n := len(w.list); n > 0 {
			f = f.at(w.list[n-1].Path, w.list[n-1].Size)
		}
		w.report(f.atBlock(w.next))
	}
	return nil
}

// missingFile is the file that should hold the block expected, if it is not there.
func (w *walker) missingFile() (string, bool) {
	if w.index == nil {
		return "", false
	}
	loc, err := w.index.Block(w.next)
	if err != nil || slices.ContainsFunc(w.list, func(f blockfile.FileInfo) bool { return f.Number == loc.File }) {
		return "", false
	}
	return w.files.Path(loc.File), true
}

// blocks names the blocks [from, to).
func blocks(from, to uint64) string {
	if to == from+1 {
		return fmt.Sprintf("block [%d]", from)
	}
	return fmt.Sprintf("blocks [%d] to [%d]", from, to-1)
}

// start is a block file and the block it begins with.
type start struct {
	info  blockfile.FileInfo
	first uint64
}

// starts tells with which blocks the files begin; ok is false if that cannot be
// told of all.
func (w *walker) starts() (out []start, ok bool, err error) {
	for _, info := range w.list {
		if info.Size == 0 {
			continue
		}
		first, ok, err := w.files.FirstNumber(info.Number)
		if err != nil || !ok {
			return nil, false, err
		}
		out = append(out, start{info, first})
	}
	return out, true, nil
}

// sortFiles puts the files into the order of their first blocks, if somebody has
// mixed up their names. It lets them be if the numbers are not plausible: the walk
// says what is wrong.
func (w *walker) sortFiles() error {
	starts, ok, err := w.starts()
	if err != nil || !ok {
		return err
	}
	byFirst := slices.Clone(starts)
	slices.SortStableFunc(byFirst, func(a, b start) int { return cmp.Compare(a.first, b.first) })
	if slices.Equal(starts, byFirst) || byFirst[0].first != 0 {
		return nil
	}
	for i := range byFirst {
		if i > 0 && byFirst[i].first == byFirst[i-1].first || byFirst[i].first > w.committed+uint64(len(starts)) {
			return nil
		}
	}
	w.list = w.list[:0]
	for i, s := range byFirst {
		w.list = append(w.list, s.info)
		if s.info != starts[i].info {
			w.report(Finding{
				Severity: Damage, Kind: checkFiles,
				Problem:     fmt.Sprintf("the file begins with block [%d]; by that it belongs in the place of %s: the names of block files are mixed up", s.first, starts[i].info.Path),
				Consequence: "the node does not start, or serves wrong blocks",
				Remedy:      "give the files their right names while the node is down, then verify again",
			}.at(s.info.Path, 0).atBlock(s.first))
		}
	}
	return nil
}

// file walks one file.
func (w *walker) file(ctx context.Context, i int, emit emitFunc) error {
	info := w.list[i]
	off := w.start
	w.start = 0
	for off < info.Size {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		rec, end, err := w.read(info, off)
		if err != nil {
			next, ok, rerr := w.pass(i, off, err)
			if rerr != nil || !ok {
				return rerr
			}
			off = next
			continue
		}
		off = end
		take, err := w.judge(i, rec)
		if err != nil {
			return err
		}
		if !take {
			continue
		}
		rec.prev, rec.gap = w.prev, w.gap
		w.prev, w.gap, w.end = rec.block, false, rec.at
		w.next = rec.number() + 1
		if err := emit(rec); err != nil {
			return err
		}
	}
	return nil
}

// read reads the record at an offset. An error that is not about its content is
// one of the disk.
func (w *walker) read(info blockfile.FileInfo, off int64) (*record, int64, error) {
	body, end, err := w.files.Body(info.Number, off, info.Size)
	if err != nil {
		return nil, 0, err
	}
	block, err := blockfile.ParseBody(body)
	if err != nil {
		return nil, end, err
	}
	return &record{at: blockfile.Place{File: info.Number, Offset: off, End: end}, path: info.Path, body: body, block: block}, end, nil
}

// judge tells whether a record is the one to come next.
func (w *walker) judge(i int, rec *record) (take bool, err error) {
	n := rec.number()
	if n == w.next {
		return true, nil
	}
	follower, hasFollower := w.follower(i, rec)
	switch {
	case hasFollower && follower == w.next+1 && follower != n+1:
		w.report(Finding{
			Severity: Damage, Kind: checkFiles,
			Problem:     fmt.Sprintf("the record says that it is block [%d], but lies in the place of block [%d]", n, w.next),
			Consequence: "the block cannot be read",
			Remedy:      remedyCopy,
		}.at(rec.path, rec.at.Offset).atBlock(w.next))
		w.lose(w.next + 1)
		w.end = rec.at
		return false, nil
	case n > w.next && n-w.next < 1<<32:
		w.reportMissing(i, rec)
		w.lose(n)
		return true, nil
	}
	w.report(Finding{
		Severity: Damage, Kind: checkFiles,
		Problem:     fmt.Sprintf("block [%d] lies where block [%d] is expected", n, w.next),
		Consequence: "the node does not start",
		Remedy:      remedyCopy,
	}.at(rec.path, rec.at.Offset).atBlock(w.next))
	w.gap, w.prev = true, nil
	return false, nil
}

func (w *walker) lose(next uint64) { w.next, w.prev, w.gap = next, nil, true }

// reportMissing says that the blocks before a record are not there, and if their
// file is gone, so.
func (w *walker) reportMissing(i int, rec *record) {
	f := Finding{
		Severity: Damage, Kind: checkFiles,
		Problem:     fmt.Sprintf("%s expected, block [%d] found: blocks between are missing", blocks(w.next, rec.number()), rec.number()),
		Consequence: "committed blocks are lost; the node does not start",
		Remedy:      remedyCopy,
	}.at(rec.path, rec.at.Offset).atBlock(w.next)
	before := w.list[i].Number - 1
	if rec.at.Offset == 0 && before >= 0 && !slices.ContainsFunc(w.list, func(f blockfile.FileInfo) bool { return f.Number == before }) {
		f = f.at(w.files.Path(before), 0)
		f.Problem = fmt.Sprintf("the file is missing, and with it %s", blocks(w.next, rec.number()))
	}
	w.report(f)
}

// follower is the number of the record behind one.
func (w *walker) follower(i int, rec *record) (uint64, bool) {
	info, off := w.list[i], rec.at.End
	if off >= info.Size {
		if i+1 >= len(w.list) {
			return 0, false
		}
		info, off = w.list[i+1], 0
	}
	next, _, err := w.read(info, off)
	if err != nil {
		return 0, false
	}
	return next.number(), true
}

// pass deals with a place where no record can be read: it says what is lost and
// finds the next record in the file, if there is one.
func (w *walker) pass(i int, off int64, cause error) (next int64, ok bool, err error) {
	info := w.list[i]
	if !errors.Is(cause, blockfile.ErrPartial) && !errors.Is(cause, blockfile.ErrMalformed) {
		return 0, false, cause // the disk's
	}
	at, number, found, err := w.resume(info, off)
	if err != nil {
		return 0, false, err
	}
	if found {
		w.report(Finding{
			Severity: Damage, Kind: checkFiles,
			Problem:     fmt.Sprintf("%s expected, but no block can be read here (%s); the file goes on with block [%d] at offset %d", blocks(w.next, max(number, w.next+1)), reason(cause), number, at),
			Consequence: "committed blocks are unreadable; the node does not start, or fails when it reads them",
			Remedy:      remedyCopy,
		}.at(info.Path, off).atBlock(w.next))
		w.lose(number)
		return at, true, nil
	}
	w.tail(i, off, cause)
	return 0, false, nil
}

func reason(cause error) string {
	if errors.Is(cause, blockfile.ErrPartial) {
		return "the record is longer than the rest of the file"
	}
	return "the record does not decode"
}

// tail judges what lies behind the last record of a file.
func (w *walker) tail(i int, off int64, cause error) {
	info := w.list[i]
	f := Finding{Kind: checkFiles}.at(info.Path, off).atBlock(w.next)
	last := !slices.ContainsFunc(w.list[i+1:], func(f blockfile.FileInfo) bool { return f.Size > 0 })
	switch {
	case !last:
		f.Severity, f.Remedy = Damage, remedyCopy
		f.Problem = fmt.Sprintf("the last %d bytes of the file are no block (%s), and a later file exists", info.Size-off, reason(cause))
		f.Consequence = "the node does not start"
		w.gap, w.prev = true, nil
		if first, ok := w.firstAfter(i); ok && first > w.next && first-w.next < 1<<32 {
			f.Problem += fmt.Sprintf(", which begins with block [%d]", first)
			f.Consequence = fmt.Sprintf("%s cannot be read; the node does not start", blocks(w.next, first))
			w.lose(first)
		}
	case w.next < w.committed:
		f.Severity, f.Remedy = Damage, remedyCopy
		f.Problem = fmt.Sprintf("%s cannot be read (%s): the last %d bytes of the file are no block, but the index knows %s",
			blocks(w.next, w.next+1), reason(cause), info.Size-off, blocks(w.next, w.committed))
		f.Consequence = "committed blocks are lost; the node does not start"
		w.lose(w.next)
	default:
		f.Severity = Repair
		f.Problem = fmt.Sprintf("%d bytes behind the last block are left over from a write that was cut short (%s)", info.Size-off, reason(cause))
		f.Consequence = "none: the next start of Heddle cuts them off"
		if !errors.Is(cause, blockfile.ErrPartial) {
			f.Consequence += "; Fabric 1.4 would stop at every start, so start Heddle first"
		}
	}
	w.report(f)
}

// firstAfter is the first block in the files after one.
func (w *walker) firstAfter(i int) (uint64, bool) {
	for _, info := range w.list[i+1:] {
		if info.Size > 0 {
			first, ok, err := w.files.FirstNumber(info.Number)
			return first, ok && err == nil
		}
	}
	return 0, false
}

// resume searches the next record behind a place that cannot be read.
func (w *walker) resume(info blockfile.FileInfo, off int64) (at int64, number uint64, found bool, err error) {
	usable := func(at int64) (uint64, bool) {
		rec, _, err := w.read(info, at)
		if err != nil || rec.number() < w.next || rec.number()-w.next >= 1<<32 || len(rec.block.GetHeader().GetDataHash()) == 0 {
			return 0, false
		}
		return rec.number(), true
	}
	if _, end, err := w.read(info, off); err != nil && end > off {
		if n, ok := usable(end); ok && n == w.next+1 {
			return end, n, true, nil
		}
	}
	if w.index != nil {
		if loc, err := w.index.Block(w.next + 1); err == nil && loc.File == info.Number && loc.Offset > off {
			if n, ok := usable(loc.Offset); ok && n == w.next+1 {
				return loc.Offset, n, true, nil
			}
		}
	}
	at, found, err = w.files.Resync(info.Number, off, info.Size, w.next)
	if err != nil || !found {
		return 0, 0, false, err
	}
	number, found = usable(at)
	return at, number, found, nil
}
