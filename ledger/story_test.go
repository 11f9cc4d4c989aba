package ledger

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/transientstore"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/ledger/transient"
)

const transientDir = "/root/transientStore"

// story is what happens to a peer's ledgers, step by step, always the same, with
// what the directory holds after each step. It is told while a peer lives
// through it; afterwards any step can be taken again on any directory that is at
// its beginning, or somewhere in its middle.
type story struct {
	steps []storyStep
	// starts are the directory as a process that is killed before a step leaves
	// it.
	starts []*vfs.Mem
	// wants are the contents after each step, heights the channels' heights.
	wants   []vault
	heights []map[string]uint64

	maxFileSize int64 // of a block file
	toTheEnd    bool  // only what is there after the last step counts
}

type storyStep struct {
	name string
	// do takes the step, or what is left of it if a crash interrupted it. It can
	// be repeated until it succeeds.
	do func(r *peerRun) error
	// shortens is set for a step that takes blocks away.
	shortens bool
	// block is what the step commits, nil if it commits none.
	block *storyBlock
}

// storyBlock is a block as it comes from earlier validation.
type storyBlock struct {
	channel string
	block   *common.Block
	private *PrivateData
}

func (b *storyBlock) number() uint64 { return b.block.Header.Number }

// commit takes the block in, if it is not there yet. The ledger gets a copy, as it
// fills in codes and commit hash.
func (b *storyBlock) commit(r *peerRun) error {
	l, err := r.p.Open(b.channel)
	if err != nil {
		return err
	}
	if l.Height() <= b.number() {
		if err := l.CommitWithPrivateData(protoutil.ParseBlock(proto.Clone(b.block).(*common.Block)), b.private); err != nil {
			return err
		}
	}
	return l.private.Work(r.t.Context()) // else a matter of timing
}

// peerRun is the life of one process.
type peerRun struct {
	t         testing.TB
	cfg       Config
	p         *Provider
	transient *transient.Provider
}

func (st *story) newRun(t testing.TB, fs vfs.FS) *peerRun {
	cfg := vectorConfig(t, fs)
	cfg.PurgeInterval, cfg.maxFileSize, cfg.maxLateBlocks, cfg.Log = 3, st.maxFileSize, 3, flog.Nop()
	return &peerRun{t: t, cfg: cfg}
}

// start opens everything.
func (r *peerRun) start() error {
	var err error
	if r.transient, err = transient.OpenProvider(transientDir, r.cfg.FS); err != nil {
		return err
	}
	if r.p, err = OpenProvider(r.cfg); err != nil {
		return err
	}
	ids, err := r.p.List()
	if err != nil {
		return err
	}
	for _, id := range ids {
		l, err := r.p.Open(id)
		if err != nil {
			return err
		}
		if err := l.private.Work(r.t.Context()); err != nil {
			return err
		}
	}
	return nil
}

// stop closes what is open.
func (r *peerRun) stop() (err error) {
	if r.p != nil {
		err = r.p.Close()
	}
	if r.transient != nil {
		if terr := r.transient.Close(); err == nil {
			err = terr
		}
	}
	r.p, r.transient = nil, nil
	return err
}

func (r *peerRun) heights() map[string]uint64 {
	out := map[string]uint64{}
	ids, err := r.p.List()
	must(r.t, err)
	for _, id := range ids {
		l, err := r.p.Open(id)
		must(r.t, err)
		out[id] = l.Height()
	}
	return out
}

// storyTeller lives through a story while it is told.
type storyTeller struct {
	*peerRun
	story *story
	fs    *vfs.Mem
	// chains are the blocks of channels, by number.
	chains map[string][]*storyBlock
	txs    int
}

// smallDisk makes stores keep small buffers.
func smallDisk() *vfs.Mem {
	fs := vfs.NewMem()
	fs.SetMaxBuffer(64 << 10)
	return fs
}

func newTeller(t testing.TB, maxFileSize int64) *storyTeller {
	fs := smallDisk()
	s := &storyTeller{fs: fs, story: &story{maxFileSize: maxFileSize}, chains: map[string][]*storyBlock{}}
	s.peerRun = s.story.newRun(t, fs)
	s.step(storyStep{name: "start", do: func(r *peerRun) error {
		if r.p != nil {
			return nil
		}
		return r.start()
	}})
	return s
}

// step takes a step and notes what comes of it.
func (s *storyTeller) step(st storyStep) {
	s.t.Helper()
	s.story.starts = append(s.story.starts, s.fs.Crash(vfs.KeepUnsynced, 0))
	if err := st.do(s.peerRun); err != nil {
		s.t.Fatalf("%s: %v", st.name, err)
	}
	s.story.steps = append(s.story.steps, st)
	s.story.wants = append(s.story.wants, readVault(s.t, s.fs))
	s.story.heights = append(s.story.heights, s.heights())
}

func (s *storyTeller) create(id string, genesis *common.Block) {
	s.chains[id] = []*storyBlock{{channel: id, block: genesis}}
	s.step(storyStep{name: "create " + id, do: func(r *peerRun) error {
		exists, err := r.p.Exists(id)
		if err == nil && !exists {
			_, err = r.p.Create(genesis)
		}
		return err
	}})
}

// block makes the next block of a channel out of transactions and commits it.
func (s *storyTeller) block(id string, txs ...*storyTx) {
	s.t.Helper()
	b := s.make(id, txs)
	s.step(storyStep{name: fmt.Sprintf("block %s %d", id, b.number()), do: b.commit, block: b})
}

// make puts a block together; the chain has it from then on.
func (s *storyTeller) make(id string, txs []*storyTx) *storyBlock {
	chain := s.chains[id]
	b := protoutil.NewBlock(uint64(len(chain)), protoutil.BlockHash(chain[len(chain)-1].block.Header))
	private := &PrivateData{Sets: map[uint64]*rwset.TxPvtReadWriteSet{}, Missing: map[uint64][]MissingCollection{}}
	flags := make([]byte, len(txs))
	for i, tx := range txs {
		b.Data.Data = append(b.Data.Data, tx.envelope)
		flags[i] = tx.preset
		if tx.private != nil {
			private.Sets[uint64(i)] = tx.private
		}
		if len(tx.missing) > 0 {
			private.Missing[uint64(i)] = tx.missing
		}
	}
	b.Header.DataHash = protoutil.DataHash(b.Data.Data)
	protoutil.PadMetadata(b)
	setFlags(b, flags)
	out := &storyBlock{channel: id, block: b, private: private}
	s.chains[id] = append(chain, out)
	return out
}

// expected commits blocks that were announced before.
func (s *storyTeller) expected(id string, blocks ...[]*storyTx) {
	s.t.Helper()
	var made []*storyBlock
	for _, txs := range blocks {
		made = append(made, s.make(id, txs))
	}
	s.step(storyStep{name: fmt.Sprintf("%d expected blocks %s", len(made), id), block: made[len(made)-1], do: func(r *peerRun) error {
		l, err := r.p.Open(id)
		if err != nil {
			return err
		}
		for _, b := range made {
			if l.Height() <= b.number() {
				l.Expect(protoutil.ParseBlock(b.block))
			}
		}
		for _, b := range made {
			if err := l.herald.await(b.number()); err != nil {
				return err
			}
		}
		for _, b := range made {
			if err := b.commit(r); err != nil {
				return err
			}
		}
		return nil
	}})
}

// again commits the blocks of a channel from a number on once more.
func (s *storyTeller) again(id string, from, to int) {
	s.t.Helper()
	for _, b := range s.chains[id][from:to] {
		s.step(storyStep{name: fmt.Sprintf("block %s %d again", id, b.number()), do: b.commit, block: b})
	}
}

// reconcile brings in private data of an old block; mismatches are how many of
// them must be refused.
func (s *storyTeller) reconcile(name, id string, mismatches int, data ...ReconciledData) {
	s.t.Helper()
	s.step(storyStep{name: "reconcile " + name, do: func(r *peerRun) error {
		l, err := r.p.Open(id)
		if err != nil {
			return err
		}
		bad, err := l.CommitReconciled(data)
		if err == nil && len(bad) != mismatches {
			err = fmt.Errorf("%d mismatches, want %d", len(bad), mismatches)
		}
		return err
	}})
}

func (s *storyTeller) reopen() {
	s.t.Helper()
	s.step(storyStep{name: "reopen", do: func(r *peerRun) error {
		if err := r.stop(); err != nil {
			return err
		}
		return r.start()
	}})
}

// offline stops the process, does something to the directory and starts again.
func (s *storyTeller) offline(name string, do func(Config) error) {
	s.t.Helper()
	s.step(storyStep{name: name, shortens: true, do: func(r *peerRun) error {
		if err := r.stop(); err != nil {
			return err
		}
		if err := do(r.cfg); err != nil {
			return err
		}
		return r.start()
	}})
}

func (s *storyTeller) rollback(id string, target uint64) {
	s.t.Helper()
	done := fmt.Sprintf("target block number [%d] should be less than the biggest block number [%d]", target, target)
	s.offline(fmt.Sprintf("rollback %s to %d", id, target), func(cfg Config) error {
		err := Rollback(cfg, id, target)
		if err != nil && strings.HasPrefix(err.Error(), done) {
			return nil
		}
		return err
	})
}

func (s *storyTeller) reset() {
	s.t.Helper()
	s.offline("reset", func(cfg Config) error { return Reset(cfg) })
}

// clearHeights forgets the heights before a reset, as a peer does that has caught
// up.
func (s *storyTeller) clearHeights() {
	s.t.Helper()
	s.step(storyStep{name: "clear pre-reset heights", do: func(r *peerRun) error {
		if _, err := r.p.PreResetHeights(); err != nil {
			return err
		}
		return r.p.ClearPreResetHeights(map[string]uint64{"alpha": 0, "beta": 0}) // also if an attempt before has got halfway
	}})
}

func (s *storyTeller) persist(id, txid string, height uint64, set *transientstore.TxPvtReadWriteSetWithConfigInfo) {
	s.t.Helper()
	s.step(storyStep{name: "transient data of " + txid, do: func(r *peerRun) error {
		st := r.transient.Open(id)
		if sets, err := st.Read(txid, nil); err != nil || len(sets) > 0 {
			return err
		}
		return st.Persist(txid, height, set)
	}})
}

func (s *storyTeller) purge(name, id string, do func(*transient.Store) error) {
	s.t.Helper()
	s.step(storyStep{name: "purge transient data " + name, do: func(r *peerRun) error { return do(r.transient.Open(id)) }})
}
