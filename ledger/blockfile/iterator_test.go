package blockfile

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/vfs"
)

func get2(t testing.TB, s *Store, n uint64) *common.Block {
	t.Helper()
	b, err := s.BlockByNumber(n)
	must(t, err)
	return b
}

// store without cleanup or index goroutines outliving a bubble would be hard to
// have: the store is opened outside and only waiting happens inside.
func TestIteratorWaits(t *testing.T) {
	blocks := vectorBlocks(t)
	_, s := openBF(t, testConfig(t, vfs.NewMem()))
	appendAll(t, s, blocks[:2])
	got := make(chan *common.Block, 10)
	var wg sync.WaitGroup
	it := s.Iterator(1)
	wg.Go(func() {
		for {
			b, err := it.Next(context.Background())
			if err != nil {
				if !errors.Is(err, io.EOF) {
					t.Error(err)
				}
				close(got)
				return
			}
			got <- b
		}
	})
	same(t, blocks[1], <-got)
	for _, b := range blocks[2:] {
		must(t, s.Append(protoutil.ParseBlock(b)))
		same(t, b, <-got)
	}
	it.Close()
	it.Close()
	wg.Wait()
	if b, open := <-got; open {
		t.Errorf("block %v after close", b.Header)
	}
}

func TestIteratorEnds(t *testing.T) {
	t.Parallel()
	blocks := vectorBlocks(t)
	p, s := openBF(t, testConfig(t, vfs.NewMem()))
	appendAll(t, s, blocks[:2])
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	it := s.Iterator(5) // beyond the tip
	if _, err := it.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	it.Close()
	if _, err := it.Next(t.Context()); !errors.Is(err, io.EOF) {
		t.Errorf("closed: %v", err)
	}
	waiting := s.Iterator(2)
	done := make(chan error, 1)
	go func() {
		_, err := waiting.Next(context.Background())
		done <- err
	}()
	must(t, p.Close())
	if err := <-done; !errors.Is(err, ErrClosed) {
		t.Errorf("store closed: %v", err)
	}
	if _, err := s.Iterator(0).Next(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("store closed: %v", err)
	}
}

// Blocks that are written and not published are there for queries, not for
// iterators.
func TestWriteWithoutPublish(t *testing.T) {
	t.Parallel()
	blocks := vectorBlocks(t)
	_, s := openBF(t, testConfig(t, vfs.NewMem()))
	appendAll(t, s, blocks[:1])
	must(t, s.Write(protoutil.ParseBlock(blocks[1])))
	same(t, blocks[1], get2(t, s, 1))
	it := s.Iterator(1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := it.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("unpublished block: %v", err)
	}
	s.Publish()
	b, err := it.Next(t.Context())
	must(t, err)
	same(t, blocks[1], b)
}

// Iterators, queries and appends run side by side.
func TestConcurrentReaders(t *testing.T) {
	t.Parallel()
	blocks := crashChain()
	_, s := openBF(t, crashConfig(vfs.NewMem(), nil))
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			it := s.Iterator(uint64(i))
			defer it.Close()
			for n := i; n < len(blocks); n++ {
				b, err := it.Next(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				same(t, blocks[n].Proto(), b)
				if raw, err := s.RawBlock(uint64(n)); err != nil || !bytes.Equal(raw, protoutil.Marshal(blocks[n].Proto())) {
					t.Errorf("raw block %d: %v", n, err)
				}
				if has, err := s.HasTx(blocks[n].Tx(0).ID()); !has || err != nil {
					t.Errorf("tx of block %d: %v, %v", n, has, err)
				}
			}
		})
	}
	for _, b := range blocks {
		must(t, s.Append(b))
	}
	wg.Wait()
}

// More files than handles may be open.
func TestManyFiles(t *testing.T) {
	t.Parallel()
	maker := newChainMaker(1, 100)
	cfg := crashConfig(vfs.NewMem(), nil)
	cfg.MaxFileSize = 1 // a file per block, and an empty first one
	p, s := openBF(t, cfg)
	var blocks []*protoutil.Block
	for range 3 * maxOpenFiles {
		blocks = append(blocks, maker.block())
	}
	must(t, commitFrom(s, blocks))
	check := func(s *Store) {
		t.Helper()
		for n, b := range blocks {
			same(t, b.Proto(), get2(t, s, uint64(n)))
		}
		if len(s.files.open) > maxOpenFiles {
			t.Errorf("%d files open", len(s.files.open))
		}
	}
	check(s)
	must(t, p.Close())
	p, s = openBF(t, cfg)
	check(s)
	must(t, p.Close())
	must(t, cfg.FS.RemoveAll("/d/index"))
	_, s = openBF(t, cfg)
	check(s)
}

// The wait itself holds nothing but the waiting goroutine.
func TestWaitersShareOneChannel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Store{}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if err := s.Iterator(0).wait(ctx); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		s.mu.Lock()
		wake := s.wake
		s.mu.Unlock()
		if wake == nil {
			t.Fatal("nobody waits")
		}
		s.tip.last = 0
		s.Publish() // height 1
		wg.Wait()
		select {
		case <-wake:
		default:
			t.Error("not woken")
		}
	})
}
