package audit

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"runtime"
	"slices"
	"sync"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/ledger/blockfile"
	"github.com/heddle-ledger/heddle/ledger/state/couchdb"
)

// Options of Verify.
type Options struct {
	Channels []string // none: all
	// State compares the state with one rebuilt from the blocks.
	State bool
	// CouchDB says that the state of the peer is not in the directory; Server is
	// where it is then, nil if it is not to be looked at.
	CouchDB bool
	Server  *couchdb.Viewer
	// History says whether the peer keeps a history; nil: not known.
	History *bool
	TempDir string // where what has to be computed is kept; empty: the system's
	// Workers is how many blocks are looked at at a time; 0: one per core.
	Workers int
	// Memory bounds the bytes of blocks in flight; 0: 64 MiB.
	Memory int64
	// Progress is where to show how far it is, per channel; nil: nowhere.
	Progress io.Writer
}

const defaultMemory = 64 << 20

// Verify checks the channels of a directory. An error means that it could not
// look; what it found, however bad, is in the report.
func Verify(ctx context.Context, d *Dir, o Options) (*Report, error) {
	o.Workers = cmp.Or(o.Workers, runtime.GOMAXPROCS(0))
	o.Memory = cmp.Or(o.Memory, defaultMemory)
	o.CouchDB = o.CouchDB || o.Server != nil
	ids, err := d.choose(o.Channels)
	if err != nil {
		return nil, err
	}
	if err := d.unusable(o); err != nil {
		return nil, err
	}
	r := &Report{Path: d.Path, Kind: d.Kind, Channels: []*Channel{}}
	whole := &findings{}
	if err := d.checkDatabases(ctx, o, ids, whole); err != nil {
		return nil, err
	}
	for _, id := range ids {
		c, err := d.verifyChannel(ctx, id, o)
		if err != nil {
			return nil, fmt.Errorf("channel [%s]: %w", id, err)
		}
		r.Channels = append(r.Channels, c)
	}
	r.Findings = whole.sorted()
	r.Sound = !whole.has(Damage)
	for _, c := range r.Channels {
		r.Sound = r.Sound && c.Sound
	}
	return r, nil
}

// verifier checks one channel.
type verifier struct {
	d        *Dir
	id       string
	o        Options
	items    blockfile.IndexItems
	findings findings
	report   *Channel

	index       *blockfile.IndexView // nil if it cannot be read
	checkpoint  *blockfile.Checkpoint
	indexed     uint64 // blocks in the index
	committed   uint64 // blocks that checkpoint or index say were there
	historyNext uint64 // blocks in the history
	stateNext   uint64 // blocks in the state

	couch *couchState // nil if the state is not in CouchDB, or is not looked at

	seeds  *[2]maphash.Seed
	values *values // nil if no values are followed
	// hashOnly is set for the second walk, for the commit hashes of the blocks in
	// only.
	hashOnly bool
	only     map[uint64]bool

	signing *signing
	private *privateWalk         // nil if there is nothing to walk
	files   []blockfile.FileInfo // as walked
	end     blockfile.Place
	// last and prior are the last block read and the one before it.
	last, prior *common.Block
	// genesis and configBlock are block 0 and the last one with a configuration.
	genesis, configBlock *common.Block

	mu         sync.Mutex // guards what follows
	signatures signatures
	torn       []tornFinding // of blocks that nothing says were committed
	reported   map[uint64]bool
	unhashed   []uint64 // blocks whose commit hash needs values that were not followed
	total      totals
}

// totals are the sums of all examiners.
type totals struct {
	counts
	index, history setSum
	spaces         spaceSet
}

// tornFinding is about a block that may be the remains of a write cut short.
type tornFinding struct {
	f     Finding
	tears bool // the next start does not take such a block in
}

// add reports a finding. Those about blocks that nothing says were committed wait
// until it is known whether the next start cuts the block off.
func (v *verifier) add(f Finding) { v.take(f, false) }

// addTorn reports what a write cut short may have left: if the block is the last
// one, and was never committed, the next start cuts it off.
func (v *verifier) addTorn(f Finding) { v.take(f, true) }

func (v *verifier) take(f Finding, tears bool) {
	if v.hashOnly && f.Kind != checkCommit {
		return
	}
	if f.Block == nil || *f.Block < v.committed || f.File == "" || f.Kind == checkFiles {
		v.findings.add(f)
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.torn) < maxTorn {
		v.torn = append(v.torn, tornFinding{f, tears && f.Severity == Damage})
	}
}

// maxTorn bounds the findings that wait: without an index, all do.
const maxTorn = 1000

// once runs a function at most once per block.
func (v *verifier) once(block uint64, f func()) {
	v.mu.Lock()
	done := v.reported[block]
	if v.reported == nil {
		v.reported = map[uint64]bool{}
	}
	if len(v.reported) < 1000 {
		v.reported[block] = true
	}
	v.mu.Unlock()
	if !done {
		f()
	}
}

// conclude ends a check that was made.
func (v *verifier) conclude(name, detail string) {
	r := OK
	switch {
	case v.findings.has(Damage, name):
		r = Failed
	case v.findings.has(Note, name):
		r = Noted
	}
	v.report.check(name, r, "%s", detail)
}

func (v *verifier) skip(name, why string) {
	if v.findings.has(Damage, name) {
		v.report.check(name, Failed, "%s", why)
		return
	}
	v.report.check(name, Skipped, "%s", why)
}

func (d *Dir) verifyChannel(ctx context.Context, id string, o Options) (*Channel, error) {
	v := &verifier{
		d: d, id: id, o: o, items: d.items(id), index: d.index(id), seeds: newSeeds(),
		report: &Channel{ID: id}, signing: &signing{known: true},
	}
	v.total.spaces = spaceSet{}
	if err := v.openCouch(ctx); err != nil {
		return nil, err
	}
	v.readHeads()
	if err := v.openValues(); err != nil {
		return nil, err
	}
	defer v.closeValues()
	v.openPrivate()
	defer v.closePrivate()
	actual := v.scanDatabases(ctx)
	err := v.walk(ctx)
	scanned := actual.wait()
	if err != nil {
		return nil, err
	}
	if err := v.finish(ctx, scanned); err != nil {
		return nil, err
	}
	c := v.report
	c.Findings = v.findings.sorted()
	if d.Kind == Orderer {
		for i := range c.Findings {
			if c.Findings[i].Remedy == remedyCopy {
				c.Findings[i].Remedy = remedyCopyOrderer
			}
		}
	}
	c.Sound = !v.findings.has(Damage)
	return c, nil
}

// readHeads reads how far index, state and history are.
func (v *verifier) readHeads() {
	if v.index != nil {
		var err error
		if v.checkpoint, err = v.index.Checkpoint(); err != nil {
			v.databaseDamage(v.d.indexName(), checkIndex, err)
		}
		if v.indexed, err = v.index.Height(); err != nil {
			v.databaseDamage(v.d.indexName(), checkIndex, err)
		}
		v.committed = v.indexed
		if v.checkpoint != nil {
			v.committed = max(v.committed, v.believable(v.checkpoint.Height))
		}
	}
	v.readPeerHeads()
}

// believable is a height from a checkpoint. A 1.4 peer that met garbage has
// counted it before it stopped (LEDGER §3.8), so a height that the index does not
// bear out counts only if the index is behind by few blocks.
func (v *verifier) believable(height uint64) uint64 {
	if height > v.indexed {
		if _, err := v.index.Block(height - 1); err != nil {
			return v.indexed
		}
	}
	return height
}

// finish judges what only the whole chain tells.
func (v *verifier) finish(ctx context.Context, scanned scans) error {
	v.judgeTorn()
	c := v.report
	c.Blocks, c.Transactions = v.total.blocks, v.total.txs
	if v.last != nil {
		c.LastHash = hex.EncodeToString(protoutil.BlockHash(v.last.GetHeader()))
		if h, err := commitHash(v.last); err == nil {
			c.CommitHash = hex.EncodeToString(h)
		}
	}
	v.judgeCheckpoint()
	if err := v.hashAgain(ctx); err != nil {
		return err
	}
	v.conclude(checkFiles, fmt.Sprintf("%d blocks, %d bytes", c.Blocks, c.Bytes))
	v.conclude(checkChain, "")
	v.conclude(checkData, fmt.Sprintf("%d transactions", c.Transactions))
	v.concludeSignatures()
	v.conclude(checkConfig, fmt.Sprintf("last in block [%d]", v.signing.number))
	if v.d.Kind == Peer {
		v.conclude(checkMetadata, fmt.Sprintf("%d validation codes", c.Transactions))
		v.concludeHashes()
	}
	v.concludeIndex(ctx, scanned)
	if v.d.Kind == Peer {
		return v.finishPeer(ctx, scanned)
	}
	return nil
}

func (v *verifier) concludeHashes() {
	if v.total.hashes == 0 && !v.findings.has(Damage, checkCommit) {
		v.skip(checkCommit, "the blocks have none")
		return
	}
	detail := fmt.Sprintf("%d blocks", v.total.hashes)
	if v.total.unhashed > 0 {
		detail += fmt.Sprintf("; %d not computed, because blocks before them are missing", v.total.unhashed)
	}
	if v.total.unknown > 0 {
		detail += fmt.Sprintf("; %d not computed, because the numbers that CouchDB gave back are not known", v.total.unknown)
	}
	v.conclude(checkCommit, detail)
}

// judgeTorn judges what is wrong with blocks that nothing says were committed: the
// last one may be half written, and then it does not count, nor what else is wrong
// with it.
func (v *verifier) judgeTorn() {
	isLast := func(t tornFinding) bool {
		return v.last != nil && *t.f.Block == v.last.GetHeader().GetNumber() && *t.f.Offset >= v.end.Offset
	}
	cut := slices.ContainsFunc(v.torn, func(t tornFinding) bool { return t.tears && isLast(t) })
	for _, t := range v.torn {
		if cut && isLast(t) {
			if !t.tears {
				continue
			}
			t.f.Severity = Repair
			t.f.Consequence, t.f.Remedy = "the block is the last one and was not committed: the next start of Heddle cuts it off", ""
		}
		v.findings.add(t.f)
	}
	if cut && v.prior != nil {
		v.report.Height, v.last = v.prior.GetHeader().GetNumber()+1, v.prior
		v.end.End = v.end.Offset
	}
}

// shortFile tells whether the file of the checkpoint has lost what the checkpoint
// says is in it.
func (v *verifier) shortFile() (finding Finding, short bool) {
	c := v.checkpoint
	f := Finding{
		Severity: Damage, Kind: checkFiles, Remedy: remedyCopy, File: v.d.chainDir(v.id),
		Consequence: "committed blocks are lost; the node does not start",
	}
	for _, info := range v.files {
		if info.Number == c.File {
			f.Problem = fmt.Sprintf("the file has %d bytes, the checkpoint says that it has %d and ends with block [%d]", info.Size, c.Size, int64(c.Height)-1)
			return f.at(info.Path, info.Size), info.Size < c.Size
		}
	}
	f.Problem = fmt.Sprintf("block file %d is missing, the checkpoint says that it has %d bytes and ends with block [%d]", c.File, c.Size, int64(c.Height)-1)
	return f, c.Size > 0
}

// judgeCheckpoint compares what is recorded of the block files with what they
// are (LEDGER §3.7, §3.8).
func (v *verifier) judgeCheckpoint() {
	height := v.report.Height
	if v.index == nil {
		return // said already
	}
	f := Finding{Severity: Repair, Kind: checkIndex, Database: v.d.indexName(), Key: "blkMgrInfo"}
	c := v.checkpoint
	if c != nil && height >= v.committed {
		if lost, short := v.shortFile(); short {
			v.add(lost)
			return
		}
	}
	switch {
	case c == nil && height > 0:
		f.Problem, f.Consequence = "there is no checkpoint of the block files", "the next start scans the last file and writes it anew"
	case c == nil:
		return
	case c.Height < height:
		f.Problem = fmt.Sprintf("the checkpoint ends before %s, which is in the files", blocks(c.Height, height))
		f.Consequence = "the next start takes the blocks in"
	case c.Height > height && c.Height > v.committed:
		f.Problem = fmt.Sprintf("the checkpoint counts %d blocks, the files hold %d: it was written by a 1.4 peer that counted what is no block", c.Height, height)
		f.Consequence = "the next start of Heddle scans the last file and writes it anew"
	case c.Height > height:
		return // lost blocks; the walk has said so
	case c.Size == v.end.End && c.File == v.end.File, height == 0, c.Size == 0 && c.File > v.end.File:
		return
	default:
		f.Problem = fmt.Sprintf("the checkpoint says that the blocks end in file %d at %d, but they end in file %d at %d", c.File, c.Size, v.end.File, v.end.End)
		f.Consequence = "the next start of Heddle scans the last file and writes it anew; a 1.4 peer may cut the file at the wrong place"
	}
	v.add(f)
}

// databaseDamage reports a database that cannot be read.
func (v *verifier) databaseDamage(name, kind string, err error) {
	var at *fs.PathError
	if errors.As(err, &at) && at.Path == v.d.chainDir(v.id) && errors.Is(err, fs.ErrNotExist) {
		return // it is the blocks that are missing, which is said
	}
	v.add(databaseFinding(name, kind, err))
}
