package blockfile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-protos-go-apiv2/common"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/vfs"
)

// storeOf writes a chain of so many blocks with one transaction of a size each,
// into small files unless the transactions are large.
func storeOf(t *testing.T, fsys vfs.FS, blocks, txSize int) *Store {
	t.Helper()
	p := get[*Provider](t)(OpenProvider(Config{Dir: "/d", FS: fsys, MaxFileSize: max(smallFiles, int64(4*txSize))}))
	t.Cleanup(func() { p.Close() })
	s := get[*Store](t)(p.Open("bf"))
	maker := newChainMaker(1, txSize)
	for range blocks {
		must(t, s.Append(maker.block()))
	}
	return s
}

// visited reads ahead and returns the numbers of the blocks.
func visited(ctx context.Context, s *Store, from, to uint64) (out []uint64, err error) {
	err = ReadAhead(ctx, s, from, to, (*protoutil.Block).Number, func(b *protoutil.Block, prepared uint64) error {
		if prepared != b.Number() {
			return fmt.Errorf("prepared %d", prepared)
		}
		out = append(out, b.Number())
		return nil
	})
	return out, err
}

func numbers(from, to uint64) (out []uint64) {
	for n := from; n < to; n++ {
		out = append(out, n)
	}
	return out
}

func TestReadAhead(t *testing.T) {
	s := storeOf(t, vfs.NewMem(), 40, 300)
	if s.currentTip().file < 3 {
		t.Fatal("all in one file")
	}
	for _, r := range [][2]uint64{{0, 40}, {0, 1}, {7, 40}, {12, 13}, {39, 40}, {5, 5}} {
		got, err := visited(t.Context(), s, r[0], r[1])
		if diff := cmp.Diff(numbers(r[0], r[1]), got); err != nil || diff != "" {
			t.Errorf("%v: %v\n%s", r, err, diff)
		}
	}
}

// TestReadAheadOfDamage: whatever is wrong with a record is told with file and
// offset, after the blocks before it.
func TestReadAheadOfDamage(t *testing.T) {
	const bad = 21
	for name, change := range map[string]func(raw []byte, begin, end int64) []byte{
		"transaction": func(raw []byte, begin, _ int64) []byte { raw[begin+150] ^= 1; return raw },
		"number":      func(raw []byte, begin, _ int64) []byte { raw[begin+2] ^= 1; return raw },
		"data hash":   func(raw []byte, begin, _ int64) []byte { raw[begin+10] ^= 1; return raw },
		"chain":       func(raw []byte, begin, _ int64) []byte { raw[begin+50] ^= 1; return raw },
		"length":      func(raw []byte, begin, _ int64) []byte { raw[begin] ^= 1; return raw },
		"end of file": func(raw []byte, begin, _ int64) []byte { return raw[:begin+5] },
		"zeros": func(raw []byte, begin, end int64) []byte {
			clear(raw[begin:end])
			return raw
		},
	} {
		t.Run(name, func(t *testing.T) {
			fsys := vfs.NewMem()
			s := storeOf(t, fsys, 40, 300)
			_, loc, err := s.locateNumber(bad)
			must(t, err)
			_, end, err := s.bodyAt(loc)
			must(t, err)
			file := s.files.path(loc.file)
			raw := get[[]byte](t)(vfs.ReadFile(fsys, file))
			must(t, vfs.WriteFile(fsys, file, change(raw, loc.offset, end), 0o660))
			got, err := visited(t.Context(), s, 3, 40)
			var damage *DamageError
			if !errors.As(err, &damage) || damage.File != file || damage.Offset != loc.offset || damage.Channel != "bf" {
				t.Errorf("%s, offset %d expected, got %v", file, loc.offset, err)
			}
			if diff := cmp.Diff(numbers(3, bad), got); diff != "" {
				t.Error(diff)
			}
			t.Log(err)
		})
	}
	t.Run("missing file", func(t *testing.T) {
		fsys := vfs.NewMem()
		s := storeOf(t, fsys, 40, 300)
		must(t, fsys.Remove(s.files.path(2)))
		var damage *DamageError
		if _, err := visited(t.Context(), s, 0, 40); !errors.As(err, &damage) || !strings.HasPrefix(damage.File, bfDir) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("last block", func(t *testing.T) {
		fsys := vfs.NewMem()
		s := storeOf(t, fsys, 40, 300)
		s.tip.hash = []byte("other")
		var damage *DamageError
		if _, err := visited(t.Context(), s, 0, 40); !errors.As(err, &damage) || damage.Offset != s.tip.size {
			t.Errorf("got %v", err)
		}
	})
}

// TestReadAheadEnds: an error of a visit, and the end of the context, end the
// walk with all its goroutines.
func TestReadAheadEnds(t *testing.T) {
	s := storeOf(t, vfs.NewMem(), 700, 100)
	failed := errors.New("no more")
	for name, tc := range map[string]struct {
		visit func(cancel context.CancelCauseFunc) error
		want  string
	}{
		"error":  {func(context.CancelCauseFunc) error { return failed }, "block [100] in /d/chains/bf/blockfile_"},
		"cancel": {func(cancel context.CancelCauseFunc) error { cancel(failed); return nil }, "no more"},
	} {
		synctest.Test(t, func(t *testing.T) { // which waits for all goroutines
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			var last uint64
			err := ReadAhead(ctx, s, 0, 700, (*protoutil.Block).Number, func(_ *protoutil.Block, n uint64) error {
				if last = n; n == 100 {
					return tc.visit(cancel)
				}
				return nil
			})
			if !errors.Is(err, failed) || !strings.HasPrefix(err.Error(), tc.want) || last != 100 {
				t.Errorf("%s: after block %d: %v", name, last, err)
			}
		})
	}
}

// TestReadAheadIsBounded: so many bytes, and so many blocks, are ahead of the
// visit and no more.
func TestReadAheadIsBounded(t *testing.T) {
	for name, tc := range map[string]struct{ blocks, txSize, most int }{
		"blocks": {700, 100, aheadBlocks + 2},
		"bytes":  {48, 1 << 20, aheadBytes >> 20},
	} {
		t.Run(name, func(t *testing.T) {
			s := storeOf(t, vfs.NewMem(), tc.blocks, tc.txSize)
			synctest.Test(t, func(t *testing.T) {
				var prepared atomic.Int64
				count := func(*protoutil.Block) int { return int(prepared.Add(1)) }
				err := ReadAhead(t.Context(), s, 0, uint64(tc.blocks), count, func(b *protoutil.Block, _ int) error {
					synctest.Wait()
					if ahead := int(prepared.Load()) - int(b.Number()); ahead > tc.most || b.Number() == 0 && ahead < tc.most/2 {
						return fmt.Errorf("%d blocks ahead, %d expected", ahead, tc.most)
					}
					return nil
				})
				must(t, err)
			})
		})
	}
}

// TestIndexIsRebuilt: a long chain with transaction ids that come again, near and
// far, gives the index that it had, also if the rebuilding is interrupted.
func TestIndexIsRebuilt(t *testing.T) {
	fsys := vfs.NewMem()
	p := get[*Provider](t)(OpenProvider(Config{Dir: "/d", FS: fsys, MaxFileSize: 100 << 10}))
	s := get[*Store](t)(p.Open("bf"))
	var prev []byte
	const blocks = 1100
	for n := range uint64(blocks) {
		b := protoutil.NewBlock(n, prev)
		for _, id := range []string{fmt.Sprint("tx", n), fmt.Sprint("tx", n/2), fmt.Sprint("tx", n), fmt.Sprint("tx", n%50)} {
			b.Data.Data = append(b.Data.Data, protoutil.Marshal(&common.Envelope{Payload: protoutil.Marshal(&common.Payload{
				Header: &common.Header{ChannelHeader: protoutil.Marshal(&common.ChannelHeader{TxId: id})},
			})}))
		}
		b.Header.DataHash = protoutil.DataHash(b.Data.Data)
		prev = protoutil.BlockHash(b.Header)
		v := protoutil.ParseBlock(b)
		v.SetFlags([]byte{byte(n), 1, 2, 3})
		must(t, s.Append(v))
	}
	want := dumpIndex(t, p)
	must(t, p.Close())
	for _, stop := range []int{0, 3} {
		t.Run(fmt.Sprint("stop ", stop), func(t *testing.T) {
			must(t, fsys.RemoveAll("/d/index"))
			if stop > 0 {
				interrupt(t, fsys, uint64(stop)*20)
			}
			watched := &watch{}
			p := get[*Provider](t)(OpenProvider(Config{Dir: "/d", FS: fsys, Progress: watched.begin}))
			get[*Store](t)(p.Open("bf"))
			if diff := cmp.Diff(want, dumpIndex(t, p)); diff != "" {
				t.Error(diff)
			}
			must(t, p.Close())
			if watched.Total != blocks || watched.last != watched.Total || watched.Work != WorkIndex || !watched.done || (watched.From == 0) != (stop == 0) {
				t.Errorf("progress %+v", watched)
			}
		})
	}
}

// watch remembers a walk.
type watch struct {
	Walk
	last   uint64
	done   bool
	during func(n uint64)
}

func (w *watch) begin(walk Walk) Watch { w.Walk = walk; return w }

func (w *watch) Set(n uint64) {
	w.last = n
	if w.during != nil {
		w.during(n)
	}
}

func (w *watch) Done() { w.done = true }

// interrupt begins to rebuild the index and is told to stop at a block.
func interrupt(t *testing.T, fsys vfs.FS, at uint64) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	w := &watch{during: func(n uint64) {
		if n == at {
			cancel(os.ErrDeadlineExceeded)
		}
	}}
	p := get[*Provider](t)(OpenProvider(Config{Dir: "/d", FS: fsys, Progress: w.begin}))
	defer p.Close()
	if _, err := p.OpenContext(ctx, "bf"); !errors.Is(err, os.ErrDeadlineExceeded) || !w.done {
		t.Fatalf("got %v", err)
	}
}
