package history

import (
	"bytes"
	"fmt"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/ledger/kv"
)

// Entries visits the entries that a block has in the history, judged by its
// codes: what was written, and the entry's key, which is valid during the call
// only. A key that one transaction writes twice comes twice.
func Entries(b *protoutil.Block, codes []byte, visit func(tx uint64, ns, key string, entry []byte)) error {
	var buf []byte
	return publicWrites(b, codes, func(tx uint64, ns, key string) {
		buf = appendEntry(buf[:0], ns, key, kv.Height{Block: b.Number(), Tx: tx})
		visit(tx, ns, key, buf)
	})
}

// Savepoint is the last block in the history and the number of its transactions;
// nil if there is none.
func (s *Store) Savepoint() (*kv.Height, error) {
	raw, err := s.store.Get(savepointKey())
	if err != nil || raw == nil {
		return nil, err
	}
	sp, rest, err := kv.ReadHeight(raw)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%d bytes too many", len(rest))
	}
	if err != nil {
		return nil, fmt.Errorf("history savepoint: %w", err)
	}
	return &sp, nil
}

// Scan visits the keys of all entries, which are valid during the call only.
func (s *Store) Scan(visit func(entry []byte) error) error {
	it := s.store.Scan(nil, nil)
	defer it.Close()
	for it.Next() {
		if k := it.Key(); len(k) == 1 && k[0] == 0 {
			continue
		}
		if err := visit(it.Key()); err != nil {
			return err
		}
	}
	return it.Err()
}

// Has tells whether there is an entry with a key.
func (s *Store) Has(entry []byte) (bool, error) { return s.store.Has(entry) }

// Namespaces lists the namespaces that blocks wrote to, sorted. It takes a seek for
// each.
func (s *Store) Namespaces() ([]string, error) {
	var out []string
	start := []byte{1} // behind the savepoint
	for {
		ns, err := s.firstNamespace(start)
		if err != nil || ns == nil {
			return out, err
		}
		out = append(out, string(ns))
		start = append(ns, 1)
	}
}

// firstNamespace is that of the first entry from a key on; nil if there is none.
func (s *Store) firstNamespace(start []byte) ([]byte, error) {
	it := s.store.Scan(start, nil)
	defer it.Close()
	if !it.Next() {
		return nil, it.Err()
	}
	ns, _, _ := bytes.Cut(it.Key(), []byte{0})
	return bytes.Clone(ns), nil
}
