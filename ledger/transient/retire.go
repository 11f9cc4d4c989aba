package transient

import "errors"

// DefaultRetention is peer.gossip.pvtData.transientstoreMaxBlockRetention where it
// is not set.
const DefaultRetention = 1000

// Committed is a block that is committed in all stores.
type Committed struct {
	Block uint64
	// TxIDs are those of all its endorser transactions, valid or not, if the block
	// had any private data and was not committed before (LEDGER §15.1); else none.
	TxIDs []string
	// Retention is the number of blocks for which write sets are kept that no block
	// came for; 0 means DefaultRetention.
	Retention uint64
}

// Retire removes what nobody needs any more after a block (LEDGER §10.3): the
// write sets of its transactions, and, at multiples of the retention, those that
// are older than it.
func (s *Store) Retire(c Committed) error {
	if c.Retention == 0 {
		c.Retention = DefaultRetention
	}
	var errs []error
	if len(c.TxIDs) > 0 {
		errs = append(errs, s.PurgeByTxIDs(c.TxIDs))
	}
	if c.Block%c.Retention == 0 && c.Block > c.Retention {
		errs = append(errs, s.PurgeBelow(c.Block-c.Retention))
	}
	return errors.Join(errs...)
}
