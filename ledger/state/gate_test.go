package state

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// after runs f and returns a channel that is closed when it has returned.
func after(f func()) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	return done
}

func waits(t *testing.T, what string, done <-chan struct{}) {
	t.Helper()
	synctest.Wait()
	select {
	case <-done:
		t.Errorf("%s does not wait", what)
	default:
	}
}

func TestGateKeepsSnapshotsAndBatchesApart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var g Gate
		g.Enter()
		g.Enter()
		batch := after(g.Close)
		waits(t, "a batch beside snapshots", batch)
		late := after(g.Enter)
		waits(t, "a snapshot behind a batch", late)
		g.EnterNested() // else who is inside could wait for the batch that waits for it
		for range 3 {
			g.Leave()
		}
		<-batch
		nested := after(g.EnterNested)
		waits(t, "a nested snapshot during a batch", nested)
		waits(t, "a snapshot during a batch", late)
		g.Open()
		<-late
		<-nested
		g.Leave()
		g.Leave()
		g.Close() // nothing is left behind
		g.Open()
	})
}

func TestGateIsPatient(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var g Gate
		g.EnterWithin(time.Second)
		batch := after(g.Close)
		waits(t, "a batch beside a snapshot", batch)
		begun := time.Now()
		g.EnterWithin(time.Second)
		if waited := time.Since(begun); waited != time.Second {
			t.Errorf("waited %s", waited)
		}
		g.Leave()
		g.Leave()
		<-batch
		late := after(func() { g.EnterWithin(time.Second) })
		time.Sleep(2 * time.Second)
		waits(t, "a snapshot during a batch", late)
		g.Open()
		<-late
	})
}

// TestGatesInACircle: two transactions that each hold one channel and call into
// the other, while blocks wait for both.
func TestGatesInACircle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var one, two Gate
		one.Enter()
		two.Enter()
		blockOne, blockTwo := after(one.Close), after(two.Close)
		waits(t, "block one", blockOne)
		waits(t, "block two", blockTwo)
		one.EnterNested()
		two.EnterNested()
		for range 2 {
			one.Leave()
			two.Leave()
		}
		<-blockOne
		<-blockTwo
	})
}

func TestGateUnderLoad(t *testing.T) {
	t.Parallel()
	var g Gate
	var value int
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 500 {
				g.Enter()
				g.EnterNested()
				_ = value
				g.Leave()
				g.Leave()
			}
		})
	}
	wg.Go(func() {
		for range 500 {
			g.Close()
			value++
			g.Open()
		}
	})
	wg.Wait()
}
