package chainstore

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/deliver"
	"github.com/heddle-ledger/heddle/internal/protoutil"
)

func open(t *testing.T, cfg Config) *Store {
	t.Helper()
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func chain(t *testing.T, s *Store, id string) *Chain {
	t.Helper()
	c, err := s.Chain(id)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func grow(t *testing.T, c *Chain, n int) {
	t.Helper()
	for range n {
		var previous []byte
		if c.Height() > 0 {
			tip, err := c.Tip()
			if err != nil {
				t.Fatal(err)
			}
			previous = protoutil.BlockHash(tip.Header)
		}
		b := protoutil.NewBlock(c.Height(), previous)
		env := protoutil.Marshal(&common.Envelope{Payload: []byte{byte(c.Height())}, Signature: []byte("signature")})
		b.Data.Data = [][]byte{env}
		b.Header.DataHash = protoutil.DataHash(b.Data.Data)
		if err := c.Append(b); err != nil {
			t.Fatal(err)
		}
	}
}

// TestKinds: blocks come back as they went in, also after a restart where there is
// one.
func TestKinds(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{File, JSON, RAM, "anything"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			cfg := Config{Type: kind, Dir: t.TempDir(), HistorySize: 10}
			s := open(t, cfg)
			c := chain(t, s, "ch")
			grow(t, c, 4)
			want, err := c.Block(2)
			if err != nil {
				t.Fatal(err)
			}
			chain(t, s, "empty") // as a crash leaves it
			if ids, err := s.List(); err != nil || !cmp.Equal(ids, []string{"ch"}) {
				t.Errorf("List: %v, %v", ids, err)
			}
			if kind != File && kind != JSON {
				return
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, cfg)
			if ids, err := s.List(); err != nil || !cmp.Equal(ids, []string{"ch"}) {
				t.Errorf("List after restart: %v, %v", ids, err)
			}
			c = chain(t, s, "ch")
			got, err := c.Block(2)
			if err != nil || !proto.Equal(got, want) {
				t.Errorf("block 2 after restart: %v, %v", got, err)
			}
			if _, err := c.Block(4); !errors.Is(err, deliver.ErrNotFound) {
				t.Errorf("block 4: %v", err)
			}
			grow(t, c, 1)
			if c.Height() != 5 {
				t.Errorf("height %d, want 5", c.Height())
			}
		})
	}
}

func TestRAMForgets(t *testing.T) {
	t.Parallel()
	c := chain(t, open(t, Config{Type: RAM, HistorySize: 2}), "ch")
	grow(t, c, 5)
	if c.Oldest() != 3 {
		t.Errorf("oldest is %d, want 3", c.Oldest())
	}
	if _, err := c.Iterator(2); !errors.Is(err, deliver.ErrNotFound) {
		t.Errorf("iterator at a forgotten block: %v", err)
	}
	if _, err := c.Iterator(6); !errors.Is(err, deliver.ErrNotFound) {
		t.Errorf("iterator beyond the height: %v", err)
	}
}

func TestAppendErrors(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{JSON, RAM} {
		c := chain(t, open(t, Config{Type: kind, Dir: t.TempDir(), HistorySize: 2}), "ch")
		grow(t, c, 1)
		if err := c.Append(protoutil.NewBlock(4, nil)); err == nil || err.Error() != "block number should have been 1 but was 4" {
			t.Errorf("%s: wrong number: %v", kind, err)
		}
		if err := c.Append(protoutil.NewBlock(1, []byte{1})); err == nil || !strings.HasPrefix(err.Error(), "block should have had previous hash of ") || !strings.HasSuffix(err.Error(), " but was 01") {
			t.Errorf("%s: wrong hash: %v", kind, err)
		}
	}
}

// TestJSONForm compares our encoding with the protobuf library's, white space
// apart.
func TestJSONForm(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, Config{Type: JSON, Dir: dir})
	grow(t, chain(t, s, "ch"), 2)
	path := filepath.Join(dir, "chain_ch", "block_00000000000000000001.json")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b := &common.Block{}
	if err := protojson.Unmarshal(raw, b); err != nil {
		t.Fatal(err)
	}
	mine, err := decodeBlock(raw)
	if err != nil || !proto.Equal(b, mine) {
		t.Errorf("decoded %v, %v, want %v", mine, err, b)
	}
	if !strings.HasPrefix(string(raw), "{\n  \"header\": {\n    \"number\": \"1\",\n    \"previousHash\": ") {
		t.Errorf("layout:\n%s", raw)
	}
	if err := os.Remove(filepath.Join(dir, "chain_ch", "block_00000000000000000000.json")); err != nil {
		t.Fatal(err)
	}
	again := open(t, Config{Type: JSON, Dir: dir})
	if _, err := again.Chain("ch"); err == nil || !strings.Contains(err.Error(), "Missing block 0 in the chain") {
		t.Errorf("a gap: %v", err)
	}
}

func TestIteratorWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := chain(t, open(t, Config{Type: RAM, HistorySize: 100}), "ch")
		grow(t, c, 1)
		it, err := c.Iterator(0)
		if err != nil {
			t.Fatal(err)
		}
		defer it.Close()
		got := make(chan uint64, 10)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			for {
				b, err := it.Next(ctx)
				if err != nil {
					ended <- err
					return
				}
				got <- b.Number()
			}
		}()
		synctest.Wait()
		grow(t, c, 1)
		synctest.Wait()
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Next: %v", err)
		}
		if len(got) != 2 || <-got != 0 || <-got != 1 {
			t.Error("not blocks 0 and 1")
		}
	})
}

// TestCache: readers of the same block share it, those who come at the same time
// have it read once, and what is kept is bounded for all chains together.
func TestCache(t *testing.T) {
	t.Parallel()
	var reads atomic.Int32
	read := func(c *blockCache, number uint64, bytes int) *deliver.Block {
		b, err := c.get(cacheKey{number: number}, func() (sized, error) {
			reads.Add(1)
			return sized{deliver.NewBlock(protoutil.NewBlock(number, nil)), bytes}, nil
		})
		if err != nil || b.Number() != number {
			t.Errorf("block %d: %v, %v", number, b, err)
		}
		return b
	}
	c := newBlockCache(200)
	var readers sync.WaitGroup
	for range 10 {
		readers.Go(func() { read(c, 1, 60) })
		readers.Go(func() { read(c, 2, 60) })
	}
	readers.Wait()
	if n := reads.Load(); n != 2 || c.bytes != 120 {
		t.Errorf("%d reads, %d bytes kept", n, c.bytes)
	}
	for n := range uint64(50) {
		read(c, 10+n, int(n))
	}
	if c.bytes > 200 || c.bytes < 150 || c.order.Len() != len(c.byKey) {
		t.Errorf("%d bytes, %d entries in order, %d by key", c.bytes, c.order.Len(), len(c.byKey))
	}
	first, again := read(c, 99, 1000), read(c, 99, 1000)
	if first != again || c.order.Len() != 1 {
		t.Error("the last block is not kept")
	}
	fail := errors.New("disk")
	if _, err := c.get(cacheKey{number: 7}, func() (sized, error) { return sized{}, fail }); !errors.Is(err, fail) {
		t.Errorf("error is %v", err)
	}
	read(c, 7, 1) // an error is not kept
}

// TestReadersShare: readers that catch up have the encoded blocks in common.
func TestReadersShare(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{File, JSON, RAM} {
		cfg := Config{Type: kind, Dir: t.TempDir(), HistorySize: 10}
		s := open(t, cfg)
		grow(t, chain(t, s, "ch"), 3)
		if kind != RAM {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, cfg)
		}
		var first []byte
		for range 2 {
			it, err := chain(t, s, "ch").Iterator(1)
			if err != nil {
				t.Fatal(err)
			}
			b, err := it.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got := b.EncodedResponse(); first == nil {
				first = got
			} else if &got[0] != &first[0] {
				t.Errorf("%s: two copies", kind)
			}
		}
	}
}

func TestDirectoryError(t *testing.T) {
	t.Parallel()
	_, err := Open(Config{Type: File, Dir: "/proc/x"})
	if want := "Error creating dir if missing: error creating dir [/proc/x/index/]: mkdir /proc/x: no such file or directory"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func FuzzDecodeBlock(f *testing.F) {
	f.Add([]byte(`{"header":{"number":"1"},"data":{"data":[""]}}`))
	f.Add([]byte(`{"header":{"number":"x"}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := decodeBlock(raw)
		if err != nil {
			return
		}
		again, err := encodeBlock(b)
		if err != nil {
			t.Fatal(err)
		}
		if c, err := decodeBlock(again); err != nil || !proto.Equal(b, c) {
			t.Errorf("%v became %v, %v", b, c, err)
		}
	})
}
