package leveldb

import (
	"bytes"
	"fmt"

	"github.com/heddle-ledger/heddle/ledger/kv"
	"github.com/heddle-ledger/heddle/ledger/state"
)

// View looks at the state of one channel in a database that is open already,
// perhaps for reading only.
type View struct {
	reader
	store *kv.Store
}

// OpenView looks at a channel's part of a database.
func OpenView(db *kv.Database, channelID string) *View {
	s := db.Store(channelID)
	return &View{reader: reader{src: storeSource{s}}, store: s}
}

// Savepoint is the last block that the state has; nil if there is none.
func (v *View) Savepoint() (*state.Version, error) {
	raw, err := v.store.Get(savepointKey)
	if err != nil || raw == nil {
		return nil, err
	}
	h, rest, err := kv.ReadHeight(raw)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%d bytes too many", len(rest))
	}
	if err != nil {
		return nil, fmt.Errorf("state savepoint: %w", err)
	}
	sp := state.Version(h)
	return &sp, nil
}

// Walk goes through all keys in byte order of namespace, 00, key.
type Walk struct{ it *kv.Iterator }

// Walk begins before the first key. It must be closed.
func (v *View) Walk() *Walk { return &Walk{it: v.store.Scan(nil, nil)} }

// Stored is a key as the database holds it. Its slices are valid until the next
// step.
type Stored struct {
	Full  []byte // namespace, 00, key
	Value []byte // not decoded
}

// Split takes the full key apart; ok is false if it names no namespace.
func (s Stored) Split() (ns, key string, ok bool) {
	a, b, ok := bytes.Cut(s.Full, []byte{0})
	return string(a), string(b), ok
}

// Decode decodes the value, which the result shares no memory with.
func (s Stored) Decode() (state.Value, error) { return decodeValue(bytes.Clone(s.Value)) }

// Version decodes the version only.
func (s Stored) Version() (state.Version, error) { return decodeVersion(s.Value) }

// Next moves to the next key but the savepoint; ok is false at the end.
func (w *Walk) Next() (s Stored, ok bool, err error) {
	for w.it.Next() {
		if !bytes.Equal(w.it.Key(), savepointKey) {
			return Stored{Full: w.it.Key(), Value: w.it.Value()}, true, nil
		}
	}
	return Stored{}, false, w.it.Err()
}

// Close ends the walk.
func (w *Walk) Close() { w.it.Close() }
