package bookkeeper

import (
	"fmt"
	"maps"
	"slices"

	"github.com/heddle-ledger/heddle/ledger/kv"
	"github.com/heddle-ledger/heddle/protos/ledgerstore"
)

// Hints are the namespaces that ever had metadata, sorted.
func (s *Store) Hints() []string { return slices.Sorted(maps.Keys(*s.known.Load())) }

// Schedule visits all entries of the expiry schedule.
func (s *Store) Schedule(visit func(Key, *ledgerstore.PvtdataKeys) error) error {
	it := s.schedule.Scan(nil, nil)
	defer it.Close()
	for it.Next() {
		key := it.Key()
		if len(key) == 0 || key[0] != prefixSchedule {
			return fmt.Errorf("schedule entry %x: unknown kind", key)
		}
		h, rest, err := kv.ReadHeight(key[1:])
		if err != nil || len(rest) > 0 {
			return fmt.Errorf("schedule entry %x: malformed key", key)
		}
		keys, err := decode(it.Value())
		if err != nil {
			return fmt.Errorf("schedule entry %x: %w", key, err)
		}
		if err := visit(Key{Expiring: h.Block, Committing: h.Tx}, keys); err != nil {
			return err
		}
	}
	return it.Err()
}
