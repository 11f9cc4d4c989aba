package blockfile

import (
	"errors"
	"fmt"
)

// Errors that callers branch on. Texts are the reference's where it has one.
var (
	ErrNotFound   = errors.New("Entry not found in index") //nolint:staticcheck // the reference's text
	ErrNotIndexed = errors.New("attribute not indexed")
	ErrClosed     = errors.New("block store is closed")
)

// DamageError reports committed blocks that are lost or unreadable. Nothing is
// changed when it is returned; the remedy is a rollback (LEDGER §3.8).
type DamageError struct {
	Channel string
	File    string // path
	Offset  int64
	Reason  string
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("channel [%s]: block file %s is damaged at offset %d: %s", e.Channel, e.File, e.Offset, e.Reason)
}
