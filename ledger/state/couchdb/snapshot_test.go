package couchdb

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddle-ledger/heddle/ledger/state"
	"github.com/heddle-ledger/heddle/ledger/state/couchdb/couchtest"
)

// writes applies a block that sets keys of namespace cc; an empty value deletes.
func writes(t testing.TB, db *DB, block uint64, pairs ...string) error {
	t.Helper()
	b := state.NewBatch()
	for i := 0; i < len(pairs); i += 2 {
		b.Put("cc", state.Write{Key: pairs[i], Value: []byte(pairs[i+1]), Delete: pairs[i+1] == "", Version: state.Version{Block: block}})
	}
	return db.Apply(b, &state.Version{Block: block}, false)
}

func mustWrite(t testing.TB, db *DB, block uint64, pairs ...string) {
	t.Helper()
	if err := writes(t, db, block, pairs...); err != nil {
		t.Fatal(err)
	}
}

func mustSnapshot(t testing.TB, db *DB) state.Snapshot {
	t.Helper()
	s, err := db.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func expect(t testing.TB, r state.Reader, key, want string) {
	t.Helper()
	v, err := r.Get("cc", key)
	got := ""
	if v != nil {
		got = string(v.Value)
	}
	if err != nil || got != want {
		t.Errorf("[%s]: %q, %v; want %q", key, got, err, want)
	}
}

func results(t testing.TB, it state.Iterator, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for {
		kv, err := it.Next()
		if err != nil {
			t.Fatal(err)
		}
		if kv == nil {
			return strings.Join(out, " ")
		}
		out = append(out, kv.Key+"="+string(kv.Value.Value))
	}
}

// holding is a server whose bulk updates can be held up.
func holding(f *couchtest.Fake) (hold func() (let func())) {
	var mu sync.Mutex
	var wait chan struct{}
	f.Intercept = func(_ http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		w := wait
		mu.Unlock()
		if w != nil && strings.HasSuffix(r.URL.Path, "/_bulk_docs") {
			<-w
		}
		return false
	}
	return func() func() {
		ch := make(chan struct{})
		mu.Lock()
		wait = ch
		mu.Unlock()
		return func() {
			mu.Lock()
			wait = nil
			mu.Unlock()
			close(ch)
		}
	}
}

func TestSnapshotsDoNotWaitForABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := couchtest.New()
		hold := holding(f)
		db := openFake(t, f)
		mustWrite(t, db, 1, "a", "1", "b", `{"n":1}`)
		first := mustSnapshot(t, db)
		let := hold()
		applied := make(chan struct{})
		go func() {
			defer close(applied)
			mustWrite(t, db, 2, "a", "2", "b", "", "c", "2")
		}()
		synctest.Wait() // the batch is being written now
		second := mustSnapshot(t, db)
		for _, s := range []state.Snapshot{first, second} {
			expect(t, s, "a", "1")
			expect(t, s, "b", `{"n":1}`)
			expect(t, s, "c", "")
		}
		let()
		<-applied
		for _, s := range []state.Snapshot{first, second} {
			expect(t, s, "a", "1")
			if got := scanned(t, s, "", ""); got != `a=1 b={"n":1}` {
				t.Error(got)
			}
			s.Release()
		}
		third := mustSnapshot(t, db)
		expect(t, third, "a", "2")
		third.Release()
		if len(db.views.layers) != 0 || db.views.size != 0 {
			t.Errorf("%d layers of %d bytes are left", len(db.views.layers), db.views.size)
		}
		db.p.Close()
	})
}

func scanned(t testing.TB, r state.Reader, start, end string) string {
	t.Helper()
	it, err := r.Range("cc", start, end, 0)
	return results(t, it, err)
}

// TestSnapshotOfAnIdlePeer waits for the writing of a batch for which nothing
// was kept aside, as nobody was there.
func TestSnapshotOfAnIdlePeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := couchtest.New()
		hold := holding(f)
		db := openFake(t, f)
		mustWrite(t, db, 1, "a", "1")
		let := hold()
		go func() {
			if err := writes(t, db, 2, "a", "2"); err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
		taken := make(chan state.Snapshot)
		go func() { taken <- mustSnapshot(t, db) }()
		synctest.Wait()
		select {
		case <-taken:
			t.Error("there is a snapshot of half a batch")
		default:
		}
		let()
		s := <-taken
		expect(t, s, "a", "2")
		s.Release()
		db.p.Close()
	})
}

// TestSnapshotDuringPreparation comes when the batch was believed to have nobody
// to look back.
func TestSnapshotDuringPreparation(t *testing.T) {
	f := couchtest.New()
	var db *DB
	var late state.Snapshot
	var armed atomic.Bool // requests come side by side
	f.Intercept = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/ch_cc/_all_docs" && armed.CompareAndSwap(true, false) {
			late = mustSnapshot(t, db)
		}
		return false
	}
	db = openFake(t, f, func(c *Config) { c.AutoWarmIndexes = false })
	mustWrite(t, db, 1, "a", "1", "b", "1")
	db.revs.clear()
	armed.Store(true)
	mustWrite(t, db, 2, "a", "2", "b", "", "c", "2")
	if got := scanned(t, late, "", ""); got != "a=1 b=1" {
		t.Error(got)
	}
	late.Release()
	if got := scanned(t, db, "", ""); got != "a=2 c=2" {
		t.Error(got)
	}
}

const anyDocument = `{"selector":{"_id":{"$gt":null}}}`

func ask(t testing.TB, s state.Snapshot) (string, error) {
	t.Helper()
	it, err := s.Query("cc", state.Query{Text: anyDocument})
	if err != nil {
		return "", err
	}
	return results(t, it, nil), nil
}

// TestQueryMovesTheSnapshot: what was not read before the first query may have
// changed.
func TestQueryMovesTheSnapshot(t *testing.T) {
	f := couchtest.New()
	db := openFake(t, f)
	mustWrite(t, db, 1, "a", "1", "b", "1", "c", "1", "x", "1")
	for name, c := range map[string]struct {
		read   func(s state.Snapshot)
		change string
		moved  bool
	}{
		"nothing was read":        {func(state.Snapshot) {}, "a", false},
		"another key":             {func(s state.Snapshot) { expect(t, s, "x", "1") }, "a", false},
		"the key":                 {func(s state.Snapshot) { expect(t, s, "a", "1") }, "a", true},
		"an absent key":           {func(s state.Snapshot) { expect(t, s, "new", "") }, "new", true},
		"a range with the key":    {func(s state.Snapshot) { scanned(t, s, "", "c") }, "b", true},
		"a range up to the key":   {func(s state.Snapshot) { scanned(t, s, "", "b") }, "b", false},
		"a range without its end": {func(s state.Snapshot) { scanned(t, s, "x", "") }, "z", true},
		"many keys":               {func(s state.Snapshot) { s.GetMany("cc", []string{"a", "x"}) }, "a", true},
		"versions":                {func(s state.Snapshot) { s.Versions([]state.Lookup{{Namespace: "cc", Key: "a"}}) }, "a", true},
		"the key elsewhere":       {func(s state.Snapshot) { s.Get("other", "a") }, "a", false},
		"more than is kept": {func(s state.Snapshot) {
			for i := range maxTracked + 2 {
				s.(*snapshot).note("cc", []string{fmt.Sprint(i)})
			}
		}, "a", true},
	} {
		mustWrite(t, db, 2, "a", "1", "b", "1", "new", "", "z", "")
		s := mustSnapshot(t, db)
		c.read(s)
		mustWrite(t, db, 3, c.change, "3")
		got, err := ask(t, s)
		if c.moved != errors.Is(err, errMoved) || !c.moved && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !c.moved {
			if !strings.Contains(got, c.change+"=3") {
				t.Errorf("%s: %s", name, got)
			}
			expect(t, s, c.change, "3") // the snapshot has moved
		} else {
			expect(t, s, c.change, map[string]string{"a": "1", "b": "1"}[c.change]) // it has not
		}
		s.Release()
	}
}

func TestQueryKeepsBatchesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := openFake(t, couchtest.New())
		mustWrite(t, db, 1, "a", "1")
		s := mustSnapshot(t, db)
		if got, err := ask(t, s); got != "a=1" || err != nil {
			t.Error(got, err)
		}
		applied := make(chan struct{})
		go func() {
			defer close(applied)
			mustWrite(t, db, 2, "a", "2")
		}()
		synctest.Wait()
		select {
		case <-applied:
			t.Error("a batch was written beside a query")
		default:
		}
		// Neither who says that it holds a snapshot nor who does not say so is
		// locked out, and who does not query does not wait at all.
		plain := mustSnapshot(t, db)
		expect(t, plain, "a", "1")
		nested, err := db.NestedSnapshot()
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		if got, err := ask(t, nested); got != "a=1" || err != nil || time.Since(begun) != 0 {
			t.Error(got, err, time.Since(begun))
		}
		if got, err := ask(t, plain); got != "a=1" || err != nil || time.Since(begun) != patience {
			t.Error(got, err, time.Since(begun))
		}
		nested.Release()
		plain.Release()
		s.Release()
		<-applied
		expect(t, db, "a", "2")
		db.p.Close()
	})
}

func TestSnapshotsExpire(t *testing.T) {
	db := openFake(t, couchtest.New())
	db.views.maxSize = 3000
	mustWrite(t, db, 1, "a", strings.Repeat("1", 1000))
	old := mustSnapshot(t, db)
	for block := uint64(2); block < 6; block++ {
		mustWrite(t, db, block, "a", strings.Repeat(strconv.Itoa(int(block)), 1000))
	}
	if _, err := old.Get("cc", "a"); !errors.Is(err, errExpired) {
		t.Error(err)
	}
	if _, err := old.Range("cc", "", "", 0); !errors.Is(err, errExpired) {
		t.Error(err)
	}
	if _, err := old.GetMany("cc", []string{"a", "b"}); !errors.Is(err, errExpired) {
		t.Error(err)
	}
	if err := old.Versions([]state.Lookup{{Namespace: "cc", Key: "a"}}); !errors.Is(err, errExpired) {
		t.Error(err)
	}
	if _, err := ask(t, old); !errors.Is(err, errExpired) {
		t.Error(err)
	}
	old.Release()
	recent := mustSnapshot(t, db)
	expect(t, recent, "a", strings.Repeat("5", 1000))
	recent.Release()
	if db.views.size != 0 {
		t.Errorf("%d bytes are left", db.views.size)
	}
}

func TestHalfABatch(t *testing.T) {
	f := couchtest.New()
	var broken atomic.Bool // the warming of indexes reads it, too
	f.Intercept = func(w http.ResponseWriter, r *http.Request) bool {
		if broken.Load() && strings.HasSuffix(r.URL.Path, "/_bulk_docs") && strings.Contains(r.URL.Path, "other") {
			w.WriteHeader(http.StatusBadGateway)
			return true
		}
		return false
	}
	db := openFake(t, f, func(c *Config) { c.MaxRetries = 0 })
	batch := func(block uint64) error {
		b := state.NewBatch()
		for _, ns := range []string{"cc", "other"} {
			b.Put(ns, state.Write{Key: "a", Value: fmt.Append(nil, block), Version: state.Version{Block: block}})
		}
		return db.Apply(b, &state.Version{Block: block}, false)
	}
	if err := batch(1); err != nil {
		t.Fatal(err)
	}
	old := mustSnapshot(t, db)
	broken.Store(true)
	if err := batch(2); err == nil || !strings.Contains(err.Error(), "Status Code:502") {
		t.Errorf("error %v", err)
	}
	expect(t, db, "a", "2")
	expect(t, old, "a", "1")
	if s, err := db.Snapshot(); err == nil {
		t.Error("there is a snapshot of half a batch")
		s.Release()
	}
	if sp, err := db.Savepoint(); err != nil || sp.Block != 1 {
		t.Errorf("savepoint %v, %v", sp, err)
	}
	broken.Store(false)
	if err := batch(2); err != nil {
		t.Fatal(err)
	}
	expect(t, old, "a", "1")
	v, err := old.Get("other", "a")
	if err != nil || string(v.Value) != "1" {
		t.Errorf("%+v, %v", v, err)
	}
	s := mustSnapshot(t, db)
	expect(t, s, "a", "2")
	s.Release()
	old.Release()
}

// TestSnapshotsUnderLoad: blocks move amounts between accounts; whoever adds them
// up gets the same.
func TestSnapshotsUnderLoad(t *testing.T) {
	const accounts, blocks, total = 10, 60, 1000
	db := openFake(t, couchtest.New())
	keys := make([]string, accounts)
	held := make([]int, accounts)
	b := state.NewBatch()
	for i := range keys {
		keys[i], held[i] = fmt.Sprintf("acct%02d", i), total/accounts
		b.Put("cc", state.Write{Key: keys[i], Value: fmt.Appendf(nil, `{"holds":%d}`, held[i])})
	}
	if err := db.Apply(b, &state.Version{}, false); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	for reader := range 4 {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				default:
				}
				checkSum(t, db, keys, reader+n, total)
			}
		})
	}
	for block := 1; block <= blocks; block++ {
		b := state.NewBatch()
		from, to := block%accounts, (block*7+3)%accounts
		amount := min(held[from], block)
		held[from] -= amount
		held[to] += amount
		for _, i := range []int{from, to} {
			b.Put("cc", state.Write{
				Key: keys[i], Value: fmt.Appendf(nil, `{"holds":%d}`, held[i]), Delete: held[i] == 0, Version: state.Version{Block: uint64(block)},
			})
		}
		if err := db.Apply(b, &state.Version{Block: uint64(block)}, false); err != nil {
			t.Fatal(err)
		}
	}
	close(done)
	wg.Wait()
}

func checkSum(t *testing.T, db *DB, keys []string, way, want int) {
	s, err := db.Snapshot()
	if err != nil {
		t.Error(err)
		return
	}
	defer s.Release()
	sum := 0
	add := func(value []byte) {
		n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(string(value), `{"holds":`), "}"))
		if err != nil {
			t.Error(err)
		}
		sum += n
	}
	switch way % 4 {
	case 0:
		for _, k := range keys {
			v, err := s.Get("cc", k)
			if err != nil {
				t.Error(err)
			} else if v != nil {
				add(v.Value)
			}
		}
	case 1:
		values, err := s.GetMany("cc", keys)
		if err != nil {
			t.Error(err)
		}
		for _, v := range values {
			if v != nil {
				add(v.Value)
			}
		}
	case 2, 3:
		var it state.Iterator
		var err error
		if way%4 == 2 {
			it, err = s.Range("cc", "", "", 0)
		} else {
			it, err = s.Query("cc", state.Query{Text: anyDocument})
		}
		if err != nil {
			t.Error(err)
			return
		}
		for {
			kv, err := it.Next()
			if err != nil {
				t.Error(err)
			}
			if kv == nil {
				break
			}
			add(kv.Value.Value)
		}
	}
	if sum != want {
		t.Errorf("way %d: sum %d", way%4, sum)
	}
}
