package couchdb

import (
	"context"
	"fmt"
	"testing"

	"github.com/heddle-ledger/heddle/ledger/state"
	"github.com/heddle-ledger/heddle/ledger/state/couchdb/couchtest"
)

const benchKeys = 500

// openBench opens a channel over a fake server, over the loopback interface; what
// is measured includes the server's work.
func openBench(b *testing.B) *DB {
	p, err := OpenProvider(context.Background(), Config{Address: couchtest.Server(b), MaxBatchUpdateSize: 1000})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { p.Close() })
	db, err := p.Open("ch")
	if err != nil {
		b.Fatal(err)
	}
	return db.(*DB)
}

func benchBatch(block uint64, value func(i int) []byte) *state.Batch {
	batch := state.NewBatch()
	for i := range benchKeys {
		batch.Put("cc", state.Write{Key: fmt.Sprintf("key%06d", i), Value: value(i), Version: state.Version{Block: block, Tx: uint64(i)}})
	}
	return batch
}

func benchLookups() []state.Lookup {
	lookups := make([]state.Lookup, benchKeys)
	for i := range lookups {
		lookups[i] = state.Lookup{Namespace: "cc", Key: fmt.Sprintf("key%06d", i)}
	}
	return lookups
}

func fillBench(b *testing.B, db *DB, block uint64, value func(i int) []byte) {
	batch := benchBatch(block, value)
	if err := db.Apply(batch, &state.Version{Block: block}, false); err != nil {
		b.Fatal(err)
	}
}

func bytesValue(i int) []byte { return fmt.Appendf(nil, "a value of some length, number %d", i) }

func jsonValue(i int) []byte {
	return fmt.Appendf(nil, `{"docType":"marble","name":"marble%d","color":"blue","size":%d,"owner":"tom"}`, i, i)
}

func BenchmarkApply500(b *testing.B) {
	for name, value := range map[string]func(int) []byte{"bytes": bytesValue, "JSON": jsonValue} {
		for _, watched := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/snapshot=%v", name, watched), func(b *testing.B) {
				db := openBench(b)
				fillBench(b, db, 0, value)
				b.ReportAllocs()
				for n := uint64(1); b.Loop(); n++ {
					if !watched {
						fillBench(b, db, n, value)
						continue
					}
					s, err := db.Snapshot()
					if err != nil {
						b.Fatal(err)
					}
					fillBench(b, db, n, value)
					s.Release()
				}
				b.ReportMetric(float64(benchKeys*b.N)/b.Elapsed().Seconds(), "docs/s")
			})
		}
	}
}

func BenchmarkVersions500(b *testing.B) {
	for _, cached := range []bool{false, true} {
		b.Run(fmt.Sprintf("cached=%v", cached), func(b *testing.B) {
			db := openBench(b)
			fillBench(b, db, 0, jsonValue)
			lookups := benchLookups()
			b.ReportAllocs()
			for b.Loop() {
				if !cached {
					db.revs.clear()
				}
				if err := db.Versions(lookups); err != nil || !lookups[7].Found {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkRange500(b *testing.B) {
	for name, value := range map[string]func(int) []byte{"bytes": bytesValue, "JSON": jsonValue} {
		b.Run(name, func(b *testing.B) {
			db := openBench(b)
			fillBench(b, db, 0, value)
			b.ReportAllocs()
			for b.Loop() {
				it, err := db.Range("cc", "", "", 0)
				if err != nil {
					b.Fatal(err)
				}
				n := 0
				for kv, err := it.Next(); kv != nil || err != nil; kv, err = it.Next() {
					if err != nil {
						b.Fatal(err)
					}
					n++
				}
				if n != benchKeys {
					b.Fatal(n)
				}
			}
		})
	}
}

func BenchmarkGet(b *testing.B) {
	db := openBench(b)
	fillBench(b, db, 0, jsonValue)
	s, err := db.Snapshot()
	if err != nil {
		b.Fatal(err)
	}
	defer s.Release()
	b.ReportAllocs()
	for b.Loop() {
		if v, err := s.Get("cc", "key000007"); v == nil || err != nil {
			b.Fatal(err)
		}
	}
}
