package ledger

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"

	"github.com/heddle-ledger/heddle/internal/failpoint"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/vfs"
	sets "github.com/heddle-ledger/heddle/ledger/rwset"
)

// stampBlock writes the block's number under ten keys.
func stampBlock(t testing.TB, prev *common.Block) *protoutil.Block {
	t.Helper()
	n := prev.Header.Number + 1
	b := protoutil.NewBlock(n, protoutil.BlockHash(prev.Header))
	for i := range 10 {
		set := sets.NewBuilder()
		set.Write("cc", fmt.Sprintf("k%d", i), []byte(strconv.FormatUint(n, 10)))
		public, err := set.Public()
		if err != nil {
			t.Fatal(err)
		}
		b.Data.Data = append(b.Data.Data, benchEnvelope(fmt.Sprintf("tx-%d-%d", n, i), protoutil.Marshal(public)))
	}
	v := protoutil.ParseBlock(b)
	v.SetFlags(make([]byte, 10))
	return v
}

// TestReadersBesideCommits checks that every snapshot is that of one block, and
// that whoever sees a block sees its state.
func TestReadersBesideCommits(t *testing.T) {
	const blocks = 30
	p := openProvider(t, Config{Dir: testDir, FS: vfs.NewMem(), History: true})
	l, err := p.Create(genesisOf("ch"))
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() { readWhole(t, ctx, l) })
	}
	wg.Go(func() { follow(t, ctx, l, blocks) })
	wg.Go(func() { poll(t, ctx, l) })
	prev, err := l.BlockByNumber(0)
	must(t, err)
	for range blocks {
		b := stampBlock(t, prev)
		must(t, l.Commit(b))
		prev = b.Proto()
	}
	must(t, l.WaitHeight(ctx, blocks+1))
	cancel()
	wg.Wait()
}

// readWhole reads all keys of snapshots: they must agree.
func readWhole(t *testing.T, ctx context.Context, l *Ledger) {
	for ctx.Err() == nil {
		s, err := l.NewSimulator("tx")
		if err != nil {
			t.Error(err)
			return
		}
		first, err := s.GetState("cc", "k0")
		for i := range 10 {
			v, gerr := s.GetState("cc", fmt.Sprintf("k%d", i))
			if err != nil || gerr != nil || string(v) != string(first) {
				t.Errorf("k%d is %s beside %s: %v, %v", i, v, first, err, gerr)
			}
		}
		s.Done()
	}
}

func atLeast(t *testing.T, l *Ledger, n uint64) {
	q, err := l.NewQueryExecutor()
	if err != nil {
		t.Error(err)
		return
	}
	defer q.Done()
	v, err := q.GetState("cc", "k5")
	if got, perr := strconv.ParseUint(string(v), 10, 64); err != nil || perr != nil || got < n {
		t.Errorf("after block %d the state is that of %q", n, v)
	}
}

// follow takes blocks from an iterator: their state must be there.
func follow(t *testing.T, ctx context.Context, l *Ledger, blocks uint64) {
	it := l.Iterator(1)
	defer it.Close()
	for n := uint64(1); n <= blocks; n++ {
		b, err := it.Next(ctx)
		if err != nil {
			if ctx.Err() == nil {
				t.Error(err)
			}
			return
		}
		if b.Header.Number != n {
			t.Errorf("block %d in place of %d", b.Header.Number, n)
		}
		atLeast(t, l, n)
	}
}

// poll asks for the end of the chain: its state must be there.
func poll(t *testing.T, ctx context.Context, l *Ledger) {
	for ctx.Err() == nil {
		if h := l.Info().Height; h > 1 {
			atLeast(t, l, h-1)
		}
		if h := l.Height(); h > 2 {
			if _, err := l.TransactionByID(fmt.Sprintf("tx-%d-3", h-1)); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestCommitRefusesWrongBlocks(t *testing.T) {
	p := openProvider(t, Config{Dir: testDir, FS: vfs.NewMem()})
	l, err := p.Create(genesisOf("ch"))
	must(t, err)
	genesis, err := l.BlockByNumber(0)
	must(t, err)
	b := stampBlock(t, genesis)
	b.Proto().Header.Number = 5
	if err := l.Commit(b); err == nil || err.Error() != "block number should have been 1 but was 5" {
		t.Error(err)
	}
	b = stampBlock(t, genesis)
	b.Proto().Header.PreviousHash = []byte("x")
	if err := l.Commit(b); err == nil || l.Height() != 1 {
		t.Error(err)
	}
	must(t, l.Commit(stampBlock(t, genesis)))
}

// TestFailureAfterTheBlock leaves the state behind: the ledger refuses to go on
// and is whole again once opened anew.
func TestFailureAfterTheBlock(t *testing.T) {
	points := &failpoint.Points{}
	fs := vfs.NewMem()
	p := openProvider(t, Config{Dir: testDir, FS: fs, Points: points})
	l, err := p.Create(genesisOf("ch"))
	must(t, err)
	it := l.Iterator(1)
	genesis, err := l.BlockByNumber(0)
	must(t, err)
	points.Arm(PointAfterBookkeeping, func(int) error { return errCrash })
	b := stampBlock(t, genesis)
	var failed *FailedError
	if err := l.Commit(b); !errors.As(err, &failed) || !errors.Is(err, errCrash) || failed.Block != 1 {
		t.Errorf("got %v", err)
	}
	if l.Height() != 1 {
		t.Errorf("height %d", l.Height())
	}
	if err := l.Commit(stampBlock(t, b.Proto())); !errors.As(err, &failed) {
		t.Errorf("got %v", err)
	}
	if err := l.WaitHeight(context.Background(), 2); !errors.Is(err, errCrash) {
		t.Errorf("got %v", err)
	}
	it.Close()
	if _, err := it.Next(context.Background()); !errors.Is(err, io.EOF) {
		t.Errorf("got %v", err)
	}
	must(t, p.Close())
	l = openLedger(t, openProvider(t, Config{Dir: testDir, FS: fs}), "ch")
	if l.Height() != 2 {
		t.Errorf("height %d", l.Height())
	}
	atLeast(t, l, 1)
}

func TestInterruptedCreation(t *testing.T) {
	for _, point := range []string{PointAfterConstructionFlag, PointAfterGenesisCommit} {
		points := &failpoint.Points{}
		points.Arm(point, func(int) error { return errCrash })
		fs := vfs.NewMem()
		p := openProvider(t, Config{Dir: testDir, FS: fs, Points: points})
		if _, err := p.Create(genesisOf("ch")); !errors.Is(err, errCrash) {
			t.Fatal(err)
		}
		p = openProvider(t, Config{Dir: testDir, FS: fs.Crash(vfs.LoseUnsynced, 1)})
		exists, err := p.Exists("ch")
		if err != nil || exists != (point == PointAfterGenesisCommit) {
			t.Errorf("%s: exists %t, %v", point, exists, err)
		}
		if _, err := p.Create(genesisOf("ch")); errors.Is(err, ErrLedgerExists) != exists {
			t.Errorf("%s: %v", point, err)
		}
	}
}
