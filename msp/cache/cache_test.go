package cache_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/heddle-ledger/heddle/msp/cache"
)

func TestGetPut(t *testing.T) {
	t.Parallel()
	c := cache.New[int](1 << 20)
	if _, ok := c.Get([]byte("a")); ok {
		t.Error("found in an empty cache")
	}
	c.Put([]byte("a"), 1, 10)
	c.Put([]byte("b"), 2, 10)
	c.Put([]byte("a"), 3, 20)
	if v, ok := c.Get([]byte("a")); !ok || v != 3 {
		t.Errorf("a = %d, %v", v, ok)
	}
	if c.Len() != 2 {
		t.Errorf("%d entries", c.Len())
	}
	if got, want := c.Bytes(), 20+10+2*(1+128); got != want {
		t.Errorf("%d bytes, want %d", got, want)
	}
}

func TestBound(t *testing.T) {
	t.Parallel()
	const limit = 16 * 4000
	c := cache.New[int](limit)
	hot := []byte("hot")
	c.Put(hot, 1, 100)
	for i := range 10000 {
		c.Put(fmt.Appendf(nil, "%d", i), i, 100+i%300)
		if _, ok := c.Get(hot); !ok {
			t.Fatalf("evicted at %d though it is asked for all the time", i)
		}
		if b := c.Bytes(); b > limit {
			t.Fatalf("%d bytes", b)
		}
	}
	if c.Len() < 20 {
		t.Errorf("only %d entries are left", c.Len())
	}
	c.Put([]byte("huge"), 1, limit)
	if _, ok := c.Get([]byte("huge")); ok {
		t.Error("kept what does not fit")
	}
}

func TestConcurrent(t *testing.T) {
	t.Parallel()
	c := cache.New[int](16 * 2000)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 5000 {
				n := (i * (g + 1)) % 300
				key := fmt.Appendf(nil, "%d", n)
				if v, ok := c.Get(key); ok && v != n {
					t.Errorf("%s = %d", key, v)
				}
				c.Put(key, n, 100)
			}
		})
	}
	wg.Wait()
}

func BenchmarkGetHit(b *testing.B) {
	c := cache.New[int](1 << 20)
	key := make([]byte, 900)
	c.Put(key, 1, 1)
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := c.Get(key); !ok {
			b.Fatal("missed")
		}
	}
}
