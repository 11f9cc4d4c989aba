package ledger

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/failpoint"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/ledger/mvcc"
	"github.com/heddle-ledger/heddle/ledger/pvtstore"
)

// given is what a block of the script is committed with.
func (s *chainScript) given(t testing.TB, st *step) (*protoutil.Block, *PrivateData) {
	b := protoutil.ParseBlock(proto.Clone(s.blocks[*st.Block]).(*common.Block))
	flags := append([]byte(nil), b.Flags()...)
	private := &PrivateData{Sets: map[uint64]*rwset.TxPvtReadWriteSet{}, Missing: map[uint64][]MissingCollection{}}
	for _, tx := range st.Txs {
		flags[tx.Tx] = tx.Preset
		if tx.Private != "" {
			private.Sets[tx.Tx] = privateSet(t, tx.Private)
		}
		for _, m := range tx.Missing {
			private.Missing[tx.Tx] = append(private.Missing[tx.Tx], MissingCollection{Namespace: m.Ns, Collection: m.Coll, Eligible: m.Eligible})
		}
	}
	b.SetFlags(flags)
	b.Proto().Metadata.Metadata[protoutil.CommitHashSlot] = nil
	return b, private
}

// TestErrorsBeforeTheBlockCanBeRepeated fails every block of the recorded chain
// once at every point before it is in the block file, and with private data that
// are not those of its transactions. The error is returned, nothing can be seen
// of the block, and the same block is committed when it is tried again; in the
// end the stores are those of a run without errors (LEDGER §15).
func TestErrorsBeforeTheBlockCanBeRepeated(t *testing.T) {
	script := readScript(t)
	whole := vfs.NewMem()
	runScript(t, script, whole, nil, nil)

	fs, points := vfs.NewMem(), &failpoint.Points{}
	cfg := vectorConfig(t, fs)
	cfg.Points = points
	p := openProvider(t, cfg)
	create(t, p, script.blocks[0])
	l := openLedger(t, p, "vecch")
	var mu sync.Mutex // guards failed and the maps of what was seen; the herald meets points too
	failed := map[string]int{}
	for _, name := range []string{PointBeforeSideEffects, PointBeforePrepare, pvtstore.PointAfterPrepare, pvtstore.PointAfterCover, PointAfterPrepare} {
		failed[name] = 0
		seen := map[uint64]bool{}
		points.Arm(name, func(int) error {
			n := l.blocks.Height()
			mu.Lock()
			defer mu.Unlock()
			if !seen[n] {
				seen[n] = true
				failed[name]++
				return errCrash
			}
			return nil
		})
	}
	for i := range script.steps {
		must(t, l.private.Work(t.Context()))
		st := &script.steps[i]
		switch {
		case st.Block == nil:
			reconcile(t, l, st)
		case *st.Block > 0:
			commitStubbornly(t, l, func() (*protoutil.Block, *PrivateData) { return script.given(t, st) })
		}
	}
	must(t, l.private.Work(t.Context()))
	must(t, p.Close())
	compareDumps(t, dump(t, whole), dump(t, fs))
	for name, n := range failed {
		if n == 0 {
			t.Errorf("%s was not passed", name)
		}
	}
}

// commitStubbornly commits a block again and again until there is no error.
func commitStubbornly(t *testing.T, l *Ledger, given func() (*protoutil.Block, *PrivateData)) {
	t.Helper()
	b, private := given()
	flags := append([]byte(nil), b.Flags()...)
	height := l.Height()
	_, wrong := given()
	for tx, set := range wrong.Sets {
		if flags[tx] == 0 {
			set.NsPvtRwset[0].CollectionPvtRwset[0].Rwset = []byte{}
			var mismatch *mvcc.HashMismatchError
			if err := l.CommitWithPrivateData(b, wrong); !errors.Is(err, errCrash) && !errors.As(err, &mismatch) {
				t.Fatalf("block %d with the wrong private data: %v", b.Number(), err)
			}
			break
		}
	}
	for attempt := 0; ; attempt++ {
		err := l.CommitWithPrivateData(b, private)
		if err == nil {
			break
		}
		var stopped *FailedError
		if !errors.Is(err, errCrash) || errors.As(err, &stopped) || attempt > 10 {
			t.Fatalf("block %d: %v", b.Number(), err)
		}
		if l.Height() != height || l.blocks.Height() != height || l.Info().Height != height {
			t.Fatalf("block %d: height %d after an error", b.Number(), l.Height())
		}
		if diff := cmp.Diff(flags, b.Flags()); diff != "" {
			t.Fatalf("block %d: codes after an error %s", b.Number(), diff)
		}
		if found, err := l.HasTx(b.Tx(0).ID()); err != nil || found && !duplicateOfEarlier(b) {
			t.Fatalf("block %d: its first transaction is known: %v", b.Number(), err)
		}
	}
	if l.Height() != height+1 {
		t.Fatalf("height %d", l.Height())
	}
}

func duplicateOfEarlier(b *protoutil.Block) bool { return b.Flags()[0] == 9 }

// TestNothingAfterAFailure: whatever fails behind the block file stops the
// ledger, and only opening it again brings it level (LEDGER §15).
func TestNothingAfterAFailure(t *testing.T) {
	for _, point := range []string{PointAfterBlock, pvtstore.PointAfterCommit, PointAfterPrivate, PointAfterBookkeeping, PointAfterState, PointAfterPurge, PointAfterHistory} {
		t.Run(point, func(t *testing.T) {
			points := &failpoint.Points{}
			_, l, commit := besideLedger(t, points)
			points.Arm(point, func(int) error { return errCrash })
			var failed *FailedError
			if err := commit(); !errors.As(err, &failed) || failed.Unknown || failed.Block != 3 || !errors.Is(err, errCrash) {
				t.Fatalf("got %v", err)
			}
			points.Disarm(point)
			if err := commit(); !errors.As(err, &failed) {
				t.Errorf("again: %v", err)
			}
			if _, err := l.CommitReconciled(nil); !errors.As(err, &failed) {
				t.Errorf("reconciliation: %v", err)
			}
			if want := fmt.Sprintf("channel [ch]: block [3] is stored, but its changes are not: %v", errCrash); failed.Error() != want {
				t.Errorf("got %v", failed)
			}
			if l.Height() != 3 {
				t.Errorf("height %d", l.Height())
			}
		})
	}
}
