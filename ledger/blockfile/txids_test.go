package blockfile

import (
	"fmt"
	"testing"

	"github.com/heddle-ledger/heddle/internal/vfs"
)

// TestIDFilters: an id that was admitted is never new, one that was not nearly
// always is, also when several filters are needed.
func TestIDFilters(t *testing.T) {
	ids := newTxIDs()
	ids.completed()
	const n = firstFilter * 3
	for i := range uint64(n) {
		ids.admit(benchTxID(0, i))
	}
	if got := len(ids.filters); got != 2 {
		t.Errorf("%d filters for %d ids, want 2", got, n)
	}
	wrong := 0
	for i := range uint64(n) {
		if ids.isNew(benchTxID(0, i)) {
			t.Fatalf("id %d is in the chain and counts as new", i)
		}
		if !ids.isNew(benchTxID(1, i)) {
			wrong++
		}
	}
	if wrong > n/100 {
		t.Errorf("%d of %d new ids are not known to be new", wrong, n)
	}
}

// TestIDFiltersAreBounded: when the last filter is full it takes ids all the same.
func TestIDFiltersAreBounded(t *testing.T) {
	ids := newTxIDs()
	ids.completed()
	for len(ids.filters) < maxFilters {
		ids.filters = append(ids.filters, newIDFilter(firstFilter))
	}
	ids.room = 0
	for i := range 1000 {
		ids.admit(fmt.Sprint(i))
	}
	if len(ids.filters) != maxFilters || ids.isNew("7") {
		t.Errorf("%d filters, id counts as new: %v", len(ids.filters), ids.isNew("7"))
	}
}

// TestIDsOfAnExistingIndex: until the ids of an index that was there have all
// been read, none counts as new without a look at the index; afterwards new ones
// do and the old ones do not.
func TestIDsOfAnExistingIndex(t *testing.T) {
	fs := vfs.NewMem()
	p, err := OpenProvider(Config{Dir: "/chains", FS: fs})
	must(t, err)
	s, err := p.Open("ch")
	must(t, err)
	if !s.ids.complete {
		t.Error("all ids of an empty index are known")
	}
	maker := newChainMaker(3, 100)
	must(t, s.Append(maker.block()))
	must(t, s.Append(maker.block()))
	must(t, p.Close())

	ids := newTxIDs()
	p, err = OpenProvider(Config{Dir: "/chains", FS: fs})
	must(t, err)
	defer p.Close()
	index := p.index.Store("ch")
	must(t, ids.begin(index))
	if ids.complete || ids.isNew(benchTxID(9, 9)) {
		t.Error("an id counts as new although not all are known")
	}
	must(t, ids.collectAll(t.Context(), index))
	if !ids.isNew(benchTxID(9, 9)) {
		t.Error("a new id does not count as new")
	}
	for block := range uint64(2) {
		for tx := range uint64(3) {
			if ids.isNew(benchTxID(block, tx)) {
				t.Errorf("id of block %d, transaction %d counts as new", block, tx)
			}
		}
	}
	s, err = p.Open("ch")
	must(t, err)
	for block := range uint64(3) {
		if got := get[bool](t)(s.HasTx(benchTxID(block, 2))); got != (block < 2) {
			t.Errorf("HasTx of block %d: %v", block, got)
		}
	}
}
