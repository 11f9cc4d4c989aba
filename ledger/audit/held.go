package audit

import (
	"bytes"
	"context"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/progress"
	"github.com/heddle-ledger/heddle/ledger/mvcc"
	"github.com/heddle-ledger/heddle/ledger/state/couchdb"
	"github.com/heddle-ledger/heddle/ledger/state/leveldb"
)

// held is a state as it is compared with one in CouchDB, namespace by namespace.
// The keys of one in CouchDB need not come in the order of others, so keys are
// looked up, page by page.
type held interface {
	// count is the number of keys of a namespace.
	count(ctx context.Context, ns string) (uint64, error)
	// pages visits the keys of a namespace, until visit wants no more.
	pages(ctx context.Context, ns string, visit func([]couchdb.Stored) (more bool, err error)) error
	// at looks up keys; nil where they are absent.
	at(ctx context.Context, ns string, keys []string) ([]*couchdb.Stored, error)
}

// heldInCouch is a state in CouchDB. It has what is counted, before that nothing.
type heldInCouch struct {
	view   *couchdb.View
	counts map[string]uint64 // by database
}

// add counts the keys of a namespace.
func (h *heldInCouch) add(ctx context.Context, ns string) (found bool, err error) {
	s := h.view.Space(ns)
	if s == nil {
		return false, nil
	}
	n, found, err := h.view.Count(ctx, s.Database)
	if err != nil || !found {
		return false, err
	}
	if h.counts == nil {
		h.counts = map[string]uint64{}
	}
	h.counts[s.Database] = n
	return true, nil
}

// space is a namespace that has been counted; nil if it has no database.
func (h *heldInCouch) space(ns string) *couchdb.Space {
	s := h.view.Space(ns)
	if s == nil {
		return nil
	}
	if _, found := h.counts[s.Database]; !found {
		return nil
	}
	return s
}

func (h *heldInCouch) count(_ context.Context, ns string) (uint64, error) {
	if s := h.space(ns); s != nil {
		return h.counts[s.Database], nil
	}
	return 0, nil
}

func (h *heldInCouch) pages(ctx context.Context, ns string, visit func([]couchdb.Stored) (bool, error)) error {
	s := h.space(ns)
	if s == nil {
		return nil
	}
	for walk := s.Walk(); ; {
		page, err := walk.Next(ctx)
		if err != nil || page == nil {
			return err
		}
		if more, err := visit(page); err != nil || !more {
			return err
		}
	}
}

func (h *heldInCouch) at(ctx context.Context, ns string, keys []string) ([]*couchdb.Stored, error) {
	if s := h.space(ns); s != nil {
		return s.Values(ctx, keys)
	}
	return make([]*couchdb.Stored, len(keys)), nil
}

// heldInFiles is a state in goleveldb.
type heldInFiles struct {
	view   *leveldb.View
	counts map[string]uint64 // by namespace
}

// newHeldInFiles counts the keys of all namespaces.
func newHeldInFiles(ctx context.Context, view *leveldb.View) (*heldInFiles, error) {
	h := &heldInFiles{view: view, counts: map[string]uint64{}}
	walk := view.Walk()
	defer walk.Close()
	for ctx.Err() == nil {
		s, ok, err := walk.Next()
		if err != nil || !ok {
			return h, err
		}
		ns, _, _ := bytes.Cut(s.Full, []byte{0})
		h.counts[string(ns)]++
	}
	return nil, context.Cause(ctx)
}

func (h *heldInFiles) count(_ context.Context, ns string) (uint64, error) { return h.counts[ns], nil }

// Bounds of a page, in keys and in bytes of values.
const (
	pageKeys  = 500
	pageBytes = 8 << 20
)

func (h *heldInFiles) pages(ctx context.Context, ns string, visit func([]couchdb.Stored) (bool, error)) error {
	it, err := h.view.Range(ns, "", "", 0)
	if err != nil {
		return err
	}
	defer it.Close()
	var page []couchdb.Stored
	for size := 0; ; {
		kv, err := it.Next()
		if err != nil {
			return err
		}
		if kv != nil && ns == "" && kv.Key == "" {
			continue // the savepoint lies there
		}
		if kv != nil {
			page = append(page, couchdb.Stored{Key: kv.Key, Value: kv.Value})
			size += len(kv.Key) + len(kv.Value.Value)
			if len(page) < pageKeys && size < pageBytes {
				continue
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if len(page) > 0 {
			if more, err := visit(page); err != nil || !more {
				return err
			}
		}
		if kv == nil {
			return nil
		}
		page, size = page[:0], 0
	}
}

func (h *heldInFiles) at(_ context.Context, ns string, keys []string) ([]*couchdb.Stored, error) {
	out := make([]*couchdb.Stored, len(keys))
	values, err := h.view.GetMany(ns, keys)
	for i, v := range values {
		if v != nil {
			out[i] = &couchdb.Stored{Key: keys[i], Value: *v}
		}
	}
	return out, err
}

// heldMerge compares two states of which at least one is in CouchDB.
type heldMerge struct {
	a, b held
	// differ is told of the differences, and says whether it wants more.
	differ func(stateDifference) bool
	// damageKnown tells that documents of a that do not decode were reported.
	damageKnown bool
	show        *progress.Progress
	keys        uint64 // looked at
	stopped     bool
}

// namespace compares one namespace: first what a has, then what b has beside it.
func (m *heldMerge) namespace(ctx context.Context, ns string) error {
	var both uint64
	err := m.a.pages(ctx, ns, func(page []couchdb.Stored) (bool, error) {
		others, err := m.b.at(ctx, ns, keysOf(page))
		if err != nil {
			return false, err
		}
		for i := range page {
			if others[i] != nil {
				both++
			}
			m.keys++
			m.pair(ns, &page[i], others[i])
			if m.stopped {
				return false, nil
			}
		}
		m.show.Add(uint64(len(page)))
		return true, nil
	})
	if err != nil || m.stopped {
		return err
	}
	if n, err := m.b.count(ctx, ns); err != nil || n <= both {
		return err
	}
	return m.b.pages(ctx, ns, func(page []couchdb.Stored) (bool, error) {
		others, err := m.a.at(ctx, ns, keysOf(page))
		if err != nil {
			return false, err
		}
		for i := range page {
			if others[i] == nil {
				m.keys++
				m.pair(ns, nil, &page[i])
			}
			if m.stopped {
				return false, nil
			}
		}
		return true, nil
	})
}

func keysOf(page []couchdb.Stored) []string {
	out := make([]string, len(page))
	for i := range page {
		out[i] = page[i].Key
	}
	return out
}

// pair compares a key; one of the two may be nil.
func (m *heldMerge) pair(ns string, a, b *couchdb.Stored) {
	if a != nil && b != nil && a.Err == nil && b.Err == nil && sameStored(ns, a, b) {
		return
	}
	if a != nil && a.Err != nil && m.damageKnown {
		return
	}
	d := stateDifference{ns: ns}
	if b != nil {
		d.key, d.b, d.broken[1] = b.Key, &b.Value, b.Err
	}
	if a != nil {
		d.key, d.a, d.broken[0] = a.Key, &a.Value, a.Err
	}
	m.stopped = !m.differ(d)
}

// sameStored allows for the form in which CouchDB gives JSON back.
func sameStored(ns string, a, b *couchdb.Stored) bool {
	x, y := &a.Value, &b.Value
	if x.Version != y.Version || !bytes.Equal(x.Metadata, y.Metadata) {
		return false
	}
	return couchdb.SameValue(x.Value, y.Value) || ns == "" && a.Key == mvcc.ConfigKey && sameConfig(x.Value, y.Value)
}

// sameConfig compares configurations, in which the order of entries is not defined
// (LEDGER §4.3).
func sameConfig(a, b []byte) bool {
	c, d := &common.Config{}, &common.Config{}
	return unmarshal(a, c) == nil && unmarshal(b, d) == nil && proto.Equal(c, d)
}
