package couchdb

import "github.com/heddle-ledger/heddle/ledger/state"

// revision is what is known of a document without its value. One that is absent
// has no revision: a new document needs none, also over a deleted one.
type revision struct {
	found   bool
	version state.Version
	rev     string
}

// written is what is known of a document that was just written.
func written(w *state.Write, rev string) revision {
	if w.Delete {
		return revision{}
	}
	return revision{found: true, version: w.Version, rev: rev}
}

// Bounds of what is cached per channel, in bytes: revisions of documents that
// were looked up or written lately, and values of the lifecycle namespace, which
// every proposal reads. Many channels share what some have room for.
const (
	maxRevisions    = 32 << 20
	maxAllRevisions = 256 << 20
	maxLifecycle    = 1 << 20
)

// entryOverhead is what an entry takes besides its content, about.
const entryOverhead = 120

func newRevisions(room int) *cache[revision] {
	return newCache(room, func(r revision) int { return len(r.rev) })
}

func newValues(room int) *cache[*state.Value] {
	return newCache(room, func(v *state.Value) int {
		if v == nil {
			return 0
		}
		return len(v.Value) + len(v.Metadata)
	})
}
