package ledger

import (
	"errors"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"

	"github.com/heddle-ledger/heddle/internal/failpoint"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/vfs"
)

// chainScript is the recorded chain of one channel with its reconciliations, as
// a peer would take it in: every action can be repeated until it succeeds.
type chainScript struct {
	blocks []*common.Block
	steps  []step
	ahead  uint64 // announce so many blocks before they are committed
}

func readScript(t testing.TB) *chainScript {
	s := &chainScript{blocks: allBlocks(t, "ledger_root.tar.gz", "vecch")}
	var steps []step
	readVector(t, "chain_steps.json.gz", &steps)
	for _, st := range steps {
		if st.Block != nil || st.Supplied.Set != "" {
			s.steps = append(s.steps, st)
		}
	}
	return s
}

// run does what is left to do and returns the first error. done counts the
// reconciliations that succeeded.
func (s *chainScript) run(t testing.TB, p *Provider, done map[int]bool) error {
	exists, err := p.Exists("vecch")
	if err != nil {
		return err
	}
	if !exists {
		if _, err := p.Create(s.blocks[0]); err != nil {
			return err
		}
	}
	l, err := p.Open("vecch")
	if err != nil {
		return err
	}
	for i := range s.steps {
		if err := l.private.Work(t.Context()); err != nil { // else a matter of timing
			return err
		}
		st := &s.steps[i]
		if st.Block == nil {
			if done[i] {
				continue
			}
			_, err := l.CommitReconciled([]ReconciledData{{
				Block: st.Supplied.Block,
				Sets:  map[uint64]*rwset.TxPvtReadWriteSet{st.Supplied.Tx: privateSet(t, st.Supplied.Set)},
			}})
			if err != nil {
				return err
			}
			done[i] = true
			continue
		}
		if *st.Block < l.Height() {
			continue
		}
		if err := s.announce(l, *st.Block); err != nil {
			return err
		}
		if err := s.commit(t, l, st); err != nil {
			return err
		}
	}
	return l.private.Work(t.Context())
}

// announce tells the ledger of coming blocks, as far as none names private data,
// and waits for the disk, which a peer does not.
func (s *chainScript) announce(l *Ledger, n uint64) error {
	for k := n; k < min(n+s.ahead, uint64(len(s.blocks))); k++ {
		l.Expect(protoutil.ParseBlock(s.blocks[k]))
		if err := l.herald.await(k); err != nil {
			return err
		}
	}
	return nil
}

func (s *chainScript) commit(t testing.TB, l *Ledger, st *step) error {
	b, private := s.given(t, st)
	return l.CommitWithPrivateData(b, private)
}

var errCrash = errors.New("crash")

// runScript runs the script on a directory. The provider of a run that crashed
// is returned open, as a dead process leaves it.
func runScript(t *testing.T, s *chainScript, fs *vfs.Mem, points *failpoint.Points, done map[int]bool) *Provider {
	t.Helper()
	if done == nil {
		done = map[int]bool{}
	}
	cfg := vectorConfig(t, fs)
	cfg.Points = points
	p, err := OpenProvider(cfg)
	if err == nil {
		err = s.run(t, p, done)
	}
	switch {
	case errors.Is(err, errCrash):
		return p
	case err != nil:
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	return nil
}
