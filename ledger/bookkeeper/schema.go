package bookkeeper

import (
	"fmt"

	"github.com/heddle-ledger/heddle/ledger/kv"
)

// Database names and keys of a channel's bookkeeping (LEDGER §9):
//
//	<channel>/0: "1" OPV(expiring block) OPV(committing block) -> PvtdataKeys
//	<channel>/1: <namespace> -> empty
const (
	categorySchedule = "/0"
	categoryHints    = "/1"
	prefixSchedule   = '1'
)

// Key names one entry of the expiry schedule: private state that was committed
// in one block and expires in another.
type Key struct{ Expiring, Committing uint64 }

func (k Key) append(dst []byte) []byte {
	return kv.AppendOPV(kv.AppendOPV(append(dst, prefixSchedule), k.Expiring), k.Committing)
}

// expiringAt begins the keys of all entries that expire in a block.
func expiringAt(block uint64) []byte { return kv.AppendOPV([]byte{prefixSchedule}, block) }

// after is the first possible key behind those that begin with a prefix.
func after(prefix []byte) []byte { return append(prefix[:len(prefix):len(prefix)], 0xff) }

func committingOf(key, prefix []byte) (uint64, error) {
	committing, _, err := kv.ReadOPV(key[len(prefix):])
	if err != nil {
		return 0, fmt.Errorf("schedule entry: %w", err)
	}
	return committing, nil
}
